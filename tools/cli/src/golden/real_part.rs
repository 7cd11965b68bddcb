//! A part of `bubo-mini` with its real weights, for goldens that were computed on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::{Device, Tensor};
use serde::de::DeserializeOwned;

use crate::convert::{MINI, StoredTensor};

/// Configuration, weights and files of one part.
pub struct RealPart {
    config: serde_json::Value,
    /// All weights, without the part's prefix.
    pub weights: Weights,
    files: BTreeMap<String, Vec<u8>>,
}

impl RealPart {
    /// Takes the part from a bundle or, without one, from the packages that it is made of.
    ///
    /// # Errors
    /// If neither is there, or it is damaged.
    pub fn open(name: &str, device: &Device, _bundle: Option<&Path>) -> Result<Self> {
        Self::convert(name, device)
    }

    /// Converts the part's packages, fetched before, in memory.
    ///
    /// # Errors
    /// If the packages are not there or the recipe fails.
    pub fn convert(name: &str, device: &Device) -> Result<Self> {
        let recipe = MINI.iter().find(|recipe| recipe.part == name).with_context(|| format!("no recipe for {name}"))?;
        let package = recipe.inputs.first().context("the recipe reads no package")?;
        let folder = parts_folder().join(package);
        let part = (recipe.convert)(&folder)
            .with_context(|| format!("part {name}; `cargo xtask bundle` fetches what it is made of"))?;
        let mut map = WeightMap::default();
        for tensor in part.tensors {
            let stripped = tensor.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            let stripped =
                stripped.with_context(|| format!("{} lacks the prefix of its part", tensor.name))?.to_owned();
            match (tensor.load)()? {
                StoredTensor::F32 { dims, data } => {
                    map.insert_tensor(stripped, Tensor::from_f32(&data, &dims, device)?)?;
                }
                StoredTensor::F16 { dims, data } => {
                    let data: Vec<f32> = data.iter().map(|x| x.to_f32()).collect();
                    map.insert_tensor(stripped, Tensor::from_f32(&data, &dims, device)?)?;
                }
                StoredTensor::Quantized(blocks) => map.insert_quantized(stripped, blocks, device)?,
            }
        }
        let files = part.files.into_iter().collect();
        Ok(Self { config: part.config, weights: Weights::new(map), files })
    }

    /// Its configuration.
    ///
    /// # Errors
    /// If it does not have the form of `T`.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_value(self.config.clone())?)
    }

    /// One of its files.
    ///
    /// # Errors
    /// If it has none of that name.
    pub fn file(&self, name: &str) -> Result<&[u8]> {
        Ok(self.files.get(name).with_context(|| format!("the part lacks the file {name}"))?)
    }
}

/// Where the packages' files lie, unless `BUBO_PARTS` says otherwise.
pub fn parts_folder() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/bubo/parts");
    std::env::var_os("BUBO_PARTS").map_or_else(home, |folder| Path::new(&folder).to_owned())
}
