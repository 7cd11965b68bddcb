//! A part of `bubo-mini` with its real weights, for goldens that were computed on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bubo::nn::Weights;
use bubo::tensor::{Device, Precision};
use serde::de::DeserializeOwned;

use crate::bundle::load_part;
use crate::convert::{MINI, OTHERS, Recipe};
use crate::part;

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
    pub fn open(name: &str, device: &Device, bundle: Option<&Path>) -> Result<Self> {
        if bundle.is_none() {
            let recipe = MINI.iter().find(|recipe| recipe.part == name);
            return Self::convert(recipe.with_context(|| format!("no recipe for {name}"))?, device);
        }
        let loaded = load_part(bundle, name, device)?;
        Ok(Self { config: loaded.config, weights: loaded.weights, files: loaded.files })
    }

    /// Makes the part from the package `name` and those that belong to it.
    ///
    /// # Errors
    /// If no part is made from it, or it was not fetched.
    pub fn of_package(name: &str, device: &Device) -> Result<Self> {
        let recipe = MINI.iter().chain(OTHERS).find(|recipe| recipe.inputs.first() == Some(&name));
        Self::convert(recipe.with_context(|| format!("no recipe reads the package {name}"))?, device)
    }

    /// Converts the part's packages, fetched before, in memory.
    fn convert(recipe: &Recipe, device: &Device) -> Result<Self> {
        let package = recipe.inputs.first().context("the recipe reads no package")?;
        let converted = (recipe.convert)(&parts_folder().join(package))
            .with_context(|| format!("part {}; `cargo xtask parts` fetches what it is made of", recipe.part))?;
        let (config, files) = (converted.config.clone(), converted.files.iter().cloned().collect());
        Ok(Self { config, weights: part::weights(converted, device, Precision::Exact)?, files })
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

/// Where the packages' files lie: `BUBO_PARTS`, else where `cargo xtask` puts them, `parts` in `BUBO_CACHE`,
/// `$XDG_CACHE_HOME/bubo` or `~/.cache/bubo`.
pub fn parts_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        let cache = set("BUBO_CACHE").or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("bubo")));
        cache.or_else(|| set("HOME").map(|home| home.join(".cache/bubo"))).unwrap_or_default()
    };
    set("BUBO_PARTS").unwrap_or_else(|| cache().join("parts"))
}
