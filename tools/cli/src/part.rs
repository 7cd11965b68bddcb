//! Models for the commands: from a bundle, or from a checkpoint that is converted on the way.

use std::path::Path;

use anyhow::Context;
use bubo::bundle::{LoadedPart, MANIFEST_FILE};
use bubo::language::LanguageModel;
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::{Device, Precision, Tensor};

use crate::bundle;
use crate::convert::{Part, StoredTensor, smollm2};

/// Loads the language part of a bundle's folder, or of a checkpoint's file or package folder, as it was published: without
/// a low-rank addition that was trained later.
///
/// # Errors
/// If it cannot be read or does not fit the model.
pub fn load_language(source: &Path, device: &Device, precision: Precision) -> anyhow::Result<LanguageModel> {
    let is_checkpoint = source.is_file() || (source.is_dir() && !source.join(MANIFEST_FILE).exists());
    let LoadedPart { config, weights, files, .. } = if is_checkpoint {
        let part = smollm2::convert(source)?;
        let (model, config) = (part.model.to_owned(), part.config.clone());
        let files = part.files.iter().cloned().collect();
        LoadedPart { model, config, weights: weights(part, device, precision)?, files }
    } else {
        let mut loader = bundle::open(source, device, precision)?;
        pollster::block_on(loader.load_part("language", &mut |_| {}))?
    };
    let weights = weights.without(|name| name.contains(".lora_"));
    let tokenizer = files.get("tokenizer.json").context("the language part has no tokenizer.json")?;
    let model = LanguageModel::load(&config, &weights, tokenizer)?;
    weights.finish()?;
    Ok(model)
}

/// Puts a part's weights on `device`, its prefix stripped from their names, for computing exactly.
///
/// # Errors
/// If a tensor cannot be read or does not fit the device.
pub fn weights(part: Part, device: &Device, precision: Precision) -> anyhow::Result<Weights> {
    let prefix = format!("{}.", part.name);
    let mut map = WeightMap::default();
    map.set_precision(precision);
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
