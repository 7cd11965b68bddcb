//! Parts in memory without a bundle: a converted checkpoint straight to a model.

use std::path::Path;

use anyhow::Context;
use bubo::bundle::{LoadedPart, MANIFEST_FILE};
use bubo::language::LanguageModel;
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::{Device, Precision, Tensor};

use crate::bundle::load_part;
use crate::convert::{Part, StoredTensor, smollm2};

/// Loads the language part of a bundle's folder, or of a checkpoint's file or package folder.
///
/// # Errors
/// If it cannot be read or does not fit the model.
pub fn load_language(source: &Path, device: &Device) -> anyhow::Result<LanguageModel> {
    let (config, weights, files) = if source.join(MANIFEST_FILE).exists() {
        let LoadedPart { config, weights, files, .. } = load_part(Some(source), "language", device)?;
        (config, weights, files)
    } else {
        let mut part = smollm2::convert(source)?;
        let (config, files) = (std::mem::take(&mut part.config), std::mem::take(&mut part.files));
        (config, weights(part, device)?, files.into_iter().collect())
    };
    let tokenizer = files.get("tokenizer.json").context("it has no tokenizer.json")?;
    let model = LanguageModel::load(&config, &weights, tokenizer)?;
    weights.finish()?;
    Ok(model)
}

/// Puts a part's weights on `device`, its prefix stripped from their names, for computing exactly.
///
/// # Errors
/// If a tensor cannot be read or does not fit the device.
pub fn weights(part: Part, device: &Device) -> anyhow::Result<Weights> {
    let prefix = format!("{}.", part.name);
    let mut map = WeightMap::default();
    map.set_precision(Precision::Exact);
    for tensor in part.tensors {
        let name = tensor.name.strip_prefix(&prefix).unwrap_or(&tensor.name).to_owned();
        match (tensor.load)()? {
            StoredTensor::F32 { dims, data } => map.insert_tensor(name, Tensor::from_f32(&data, &dims, device)?)?,
            StoredTensor::F16 { dims, data } => {
                let data: Vec<f32> = data.iter().map(|number| number.to_f32()).collect();
                map.insert_tensor(name, Tensor::from_f32(&data, &dims, device)?)?;
            }
            StoredTensor::Quantized(blocks) => map.insert_quantized(name, blocks, device)?,
        }
    }
    Ok(Weights::new(map))
}
