//! What `bubo train` made: joiners as parts of their own, a low-rank addition within the language part, and Q-Formers
//! of the paper's system, of which the projector alone may have learnt.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bubo::bundle::Scheme;
use bubo::encoders::joiner::Config;
use bubo::encoders::projector;
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value as Json;

use super::quantize::{Fit, Target, quantized_part};
use super::{Licence, Part, PartTensor, StoredTensor};

/// The joiners that are in `folder`: `image_joiner.safetensors` and `audio_joiner.safetensors`, each with its sizes in
/// a file of the same name that ends in `.json`. Their matrices are stored in 8 bits.
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

/// Tensors by their full names.
pub type Tensors = BTreeMap<String, StoredTensor>;

/// What was learnt of a Q-Former with its projector.
pub struct QFormer {
    /// `image_qformer` or `audio_qformer`.
    pub part: &'static str,
    /// Its sizes.
    pub config: Json,
    /// Those tensors that learnt, by their full names: matrices in 16 bits, all else in 32, as converters store them.
    pub tensors: Tensors,
}

/// The Q-Formers that are in `folder`: `image_qformer.safetensors` and `audio_qformer.safetensors`, each with its sizes
/// in a file of the same name that ends in `.json`.
///
/// # Errors
/// If there is none, or a file is not what it should be.
pub fn qformers(folder: &Path) -> Result<Vec<QFormer>> {
    let mut found = Vec::new();
    for part in ["image_qformer", "audio_qformer"] {
        let weights = folder.join(format!("{part}.safetensors"));
        if !weights.exists() {
            continue;
        }
        let config = folder.join(format!("{part}.json"));
        let text = std::fs::read(&config).with_context(|| format!("could not read {}", config.display()))?;
        let parsed: projector::Config = serde_json::from_slice(&text).with_context(|| config.display().to_string())?;
        let mut tensors = Tensors::new();
        for (name, dims, numbers) in numbers(&weights)? {
            let stored = if dims.len() == 2 {
                StoredTensor::F16 { dims, data: numbers.into_iter().map(f16::from_f32).collect() }
            } else {
                StoredTensor::F32 { dims, data: numbers }
            };
            tensors.insert(format!("{part}.{name}"), stored);
        }
        found.push(QFormer { part, config: serde_json::to_value(&parsed)?, tensors });
    }
    ensure!(
        !found.is_empty(),
        "{} has neither image_qformer.safetensors nor audio_qformer.safetensors",
        folder.display()
    );
    Ok(found)
}

/// The licence of what was trained here.
pub fn licence() -> Licence {
    Licence { spdx: "MIT OR Apache-2.0".into(), source: "trained by `bubo train`; see docs/training.md".into() }
}

/// Name, shape and numbers of a tensor.
type Numbers = (String, Vec<usize>, Vec<f32>);

/// All tensors of a file, in the order of their names.
fn numbers(path: &Path) -> Result<Vec<Numbers>> {
    let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
    let mut names: Vec<&str> = file.names();
    names.sort_unstable();
    let read = |name: &str| {
        let tensor = file.tensor(name)?;
        let data = tensor.data();
        let numbers = match tensor.dtype() {
            Dtype::F16 => data.as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect(),
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
            other => anyhow::bail!("{name} holds {other:?}, where F16 or F32 is expected"),
        };
        ensure!(!tensor.shape().contains(&0), "{name} is empty");
        Ok((name.to_owned(), tensor.shape().to_vec(), numbers))
    };
    names.into_iter().map(read).collect()
}

/// All tensors of a file, in 16 bits.
fn tensors(path: &Path, part: &str) -> Result<Vec<PartTensor>> {
    let stored = |(name, dims, numbers): Numbers| {
        let data = numbers.into_iter().map(f16::from_f32).collect();
        PartTensor::ready(format!("{part}.{name}"), StoredTensor::F16 { dims, data })
    };
    Ok(numbers(path)?.into_iter().map(stored).collect())
}
