//! What `bubo train` made: joiners as parts of their own, and a low-rank addition within the language part.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bubo::bundle::Scheme;
use bubo::encoders::joiner::Config;
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors};

use super::quantize::{Fit, Target, quantized_part};
use super::{Licence, Part, PartTensor, StoredTensor};

/// The joiners that are in `folder`: `image_joiner.safetensors` and `audio_joiner.safetensors`, each with its sizes in a
/// file of the same name that ends in `.json`. Their matrices are stored in 8 bits.
///
/// # Errors
/// If a file is not what it should be.
pub fn joiners(folder: &Path) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for name in ["image_joiner", "audio_joiner"] {
        let weights = folder.join(format!("{name}.safetensors"));
        if !weights.exists() {
            continue;
        }
        let config = folder.join(format!("{name}.json"));
        let config = std::fs::read(&config).with_context(|| format!("could not read {}", config.display()))?;
        let config: Config = serde_json::from_slice(&config).with_context(|| name.to_owned())?;
        let part = Part {
            name,
            model: "hinted_qformer",
            config: serde_json::to_value(&config)?,
            tensors: tensors(&weights, name)?,
            files: Vec::new(),
            licence: licence(),
        };
        parts.push(quantized_part(part, Target { scheme: Scheme::Q8_0, fit: Fit::LeastSquares }));
    }
    Ok(parts)
}

/// Adds `language.safetensors` of `folder`, if it is there, to the language part.
///
/// # Errors
/// If the file is not what it should be.
pub fn add_low_rank(language: &mut Part, folder: &Path) -> Result<()> {
    let weights = folder.join("language.safetensors");
    if weights.exists() {
        language.tensors.extend(tensors(&weights, language.name)?);
    }
    Ok(())
}

fn licence() -> Licence {
    Licence { spdx: "MIT OR Apache-2.0".into(), source: "trained by `bubo train`; see docs/training.md".into() }
}

/// All tensors of a file, in 16 bits.
fn tensors(path: &Path, part: &str) -> Result<Vec<PartTensor>> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
    let mut names: Vec<&str> = file.names();
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let tensor = file.tensor(name)?;
            let data = match tensor.dtype() {
                Dtype::F16 => tensor.data().as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two)).collect(),
                Dtype::F32 => {
                    let numbers = tensor.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
                    numbers.map(f16::from_f32).collect()
                }
                other => anyhow::bail!("{name} holds {other:?}, where F16 or F32 is expected"),
            };
            let dims = tensor.shape().to_vec();
            ensure!(!dims.contains(&0), "{name} is empty");
            Ok(PartTensor::ready(format!("{part}.{name}"), StoredTensor::F16 { dims, data }))
        })
        .collect()
}
