//! `bubo train`: one stage of training by its configuration.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use bubo::tensor::{Device, Precision};
use bubo_train::examples::{Example, Split, Splits};
use bubo_train::prepare;
use bubo_train::vocabulary::Vocabulary;
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

/// Fetches the packages with pictures and sounds, and says in words what they hold.
///
/// - `data`: where packages are kept, as for [`run`]
/// - `split`: gets who may see what, as JSON
///
/// # Errors
/// If packages cannot be fetched, or a file cannot be written.
pub fn data(data: &Path, split: Option<&Path>) -> anyhow::Result<String> {
    let vocabulary = Vocabulary::new()?;
    let (_, pictures, sounds) = prepare::examples(&data.join("packages"), &vocabulary)?;
    if let Some(path) = split {
        let splits = Splits::of(pictures.iter().chain(&sounds), &vocabulary)?;
        // One space, as the file has always had.
        let mut json = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b" ");
        serde::Serialize::serialize(&splits, &mut serde_json::Serializer::with_formatter(&mut json, format))?;
        json.push(b'\n');
        std::fs::write(path, json).with_context(|| format!("could not write {}", path.display()))?;
    }
    let mut told = String::new();
    for (what, examples) in [("pictures", &pictures), ("sounds", &sounds)] {
        let mut by_package: BTreeMap<&str, Vec<&Example>> = BTreeMap::new();
        examples.iter().for_each(|example| by_package.entry(&example.package).or_default().push(example));
        for (package, examples) in by_package {
            let count = |split| examples.iter().filter(|example| example.split == split).count();
            let [training, validation, test] = [Split::Training, Split::Validation, Split::Test].map(count);
            told += &format!(
                "{package:24} {what:8} {training:5} to learn from {validation:4} to validate with {test:4} for the test\n"
            );
        }
    }
    Ok(told)
}
