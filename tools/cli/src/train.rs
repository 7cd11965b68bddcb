//! `bubo train`: one stage of training by its configuration.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use bubo::tensor::{Device, Precision};
use bubo_train::accelerator::Accelerator;
use bubo_train::examples::{Example, Split, Splits};
use bubo_train::vocabulary::Vocabulary;
use bubo_train::{paper, prepare};
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

/// Where training computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum TrainingDevice {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA card, in programs built with the feature `cuda`; for the paper's system.
    Cuda,
    /// A Mac's card, in programs built with the feature `metal`; for the paper's system.
    Metal,
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Whether a file configures a stage of the paper's system.
fn is_of_paper(path: &Path) -> anyhow::Result<bool> {
    let config: serde_json::Value = read(path)?;
    Ok(config.get("system").is_some())
}

/// Runs a stage.
///
/// - `config`: file of the stage's configuration; one with the key `system` is of the paper's system
///   ([`paper::Config`])
/// - `folder`: bundle with the frozen parts
/// - `data`: where packages and features are kept; for the paper's system, the folder that its data sets' paths start
///   in
/// - `out`: gets weights, checkpoints and curves
///
/// # Errors
/// If a file cannot be read or written, packages cannot be fetched, the device is not there, or the run cannot go on.
pub fn run(
    stage: Stage,
    config: &Path,
    folder: &Path,
    device: TrainingDevice,
    data: &Path,
    out: &Path,
) -> anyhow::Result<()> {
    let mut loader = bundle::open(folder, &Device::Cpu, Precision::default())?;
    let both = |image: bool, audio: bool| -> anyhow::Result<()> {
        ensure!(
            (image && audio) == (stage == Stage::Stage2),
            "stage 1 teaches one of `image` and `audio`, stage 2 both"
        );
        Ok(())
    };
    if is_of_paper(config)? {
        ensure!(stage != Stage::Stage0, "the paper's system has stages 1 and 2 only");
        let config: paper::Config = read(config)?;
        both(config.image.is_some(), config.audio.is_some())?;
        let device = match device {
            TrainingDevice::Cpu => Accelerator::Cpu,
            TrainingDevice::Cuda => Accelerator::Cuda,
            TrainingDevice::Metal => Accelerator::Metal,
        };
        return paper::run(&config, loader, device, data, out);
    }
    ensure!(device == TrainingDevice::Cpu, "bubo-mini is taught on the processor; leave out --device");
    match stage {
        Stage::Stage0 => bubo_train::stage0(&read(config)?, &mut loader, data, out),
        Stage::Stage1 | Stage::Stage2 => {
            let config: bubo_train::Answers = read(config)?;
            both(config.image.is_some(), config.audio.is_some())?;
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
