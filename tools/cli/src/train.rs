//! `bubo train`: one stage of training by its configuration.

use std::path::Path;

use anyhow::{Context, ensure};
use bubo::tensor::{Device, Precision};
use serde::de::DeserializeOwned;

use crate::bundle;

/// The stages of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// The queries of one modality learn to be tokens, without the language model.
    Stage0,
    /// One modality through the frozen language model.
    Stage1,
    /// Questions about pictures, sounds and both, with pairs that do not belong together.
    Stage2,
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Runs a stage.
///
/// - `config`: file of the stage's configuration
/// - `folder`: bundle with the frozen parts
/// - `data`: where packages and features are kept
/// - `out`: gets weights, checkpoints and curves
///
/// # Errors
/// If a file cannot be read or written, packages cannot be fetched, or the run cannot go on.
pub fn run(stage: Stage, config: &Path, folder: &Path, data: &Path, out: &Path) -> anyhow::Result<()> {
    let mut loader = bundle::open(folder, &Device::Cpu, Precision::default())?;
    match stage {
        Stage::Stage0 => bubo_train::stage0(&read(config)?, &mut loader, data, out),
        Stage::Stage1 | Stage::Stage2 => {
            let config: bubo_train::Answers = read(config)?;
            let both = config.image.is_some() && config.audio.is_some();
            ensure!(both == (stage == Stage::Stage2), "stage 1 teaches one of `image` and `audio`, stage 2 both");
            bubo_train::answers(&config, &mut loader, data, out)
        }
    }
}
