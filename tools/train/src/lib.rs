//! Teaches what stands between frozen encoders and a frozen language model: Q-Formers, projectors, and, if asked for, a
//! low-rank addition to the language model.
//!
//! - stage 0: the queries of one modality learn to be tokens of the language model, without the model
//! - stage 1: one modality, through the frozen language model
//! - stage 2: instructions about pictures, sounds and both, with pairs that do not belong together
//!
//! All this for `bubo-mini`; `paper` has stages 1 and 2 of the paper's own system.
//!
//! The models are those that inference runs; candle differentiates them, since their weights are its variables.

pub mod accelerator;
pub mod answers;
pub mod cache;
pub mod canvas;
pub mod curve;
pub mod examples;
pub mod frozen;
pub mod held_out;
pub mod inside;
pub mod instructions;
pub mod naming;
pub mod optimizer;
pub mod packages;
pub mod paper;
pub mod prepare;
pub mod random;
pub mod renaming;
pub mod run;
pub mod scenes;
pub mod sequences;
pub mod slot_task;
pub mod slots;
pub mod variables;
pub mod vocabulary;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bubo::encoders::joiner::Joiner;
use bubo::language::{LanguageModel, Llama, Tokenizer};
use bubo::nn::WeightLoader;
use candle_core::DType;
use serde::Deserialize;

use answers::{AnswerTask, Frozen, Learner, Mix};
use cache::Cache;
use frozen::{Ears, Eyes};
use random::Random;
use run::Plan;
use slot_task::{Share, SlotTask, Source};
use slots::Slots;
use variables::{Variables, is_low_rank};

/// Folder of cached views; another one whenever something else is made of a picture or a sound.
const VIEWS: &str = "views-6";

/// Pictures or sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// Pictures.
    Image,
    /// Sounds.
    Audio,
}

/// Configuration of stage 0.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage0 {
    /// Which joiner learns.
    pub modality: Modality,
    /// Samples of a batch.
    pub batch: usize,
    /// Part of the samples that are simulated, 0..1.
    pub simulated: f32,
    /// Part of the samples whose names are changed to random words, see [`renaming`], 0..1.
    #[serde(default)]
    pub renamed: f32,
    /// How long and how fast.
    pub plan: Plan,
}

/// Where a joiner starts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Folder of a stage that made `joiner.json` and `weights.safetensors`; relative to the working folder.
    pub from: PathBuf,
    /// Part of the samples that are simulated, 0..1.
    pub simulated: f32,
    /// Part of the samples whose names are changed to random words, see [`renaming`], 0..1.
    #[serde(default)]
    pub renamed: f32,
}

/// A low-rank addition to the language model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowRank {
    /// Its rank.
    pub rank: usize,
    /// Factor on the learning rate.
    pub rate: f64,
    /// Weights to start from, out of an earlier stage.
    #[serde(default)]
    pub from: Option<PathBuf>,
}

/// Configuration of stage 1 (one of both joiners) and of stage 2 (both).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// The joiner of pictures.
    #[serde(default)]
    pub image: Option<Start>,
    /// The joiner of sounds.
    #[serde(default)]
    pub audio: Option<Start>,
    /// Samples of a batch.
    pub batch: usize,
    /// What is asked.
    pub mix: Mix,
    /// An addition to the language model; none in the original, whose language model is large enough.
    #[serde(default)]
    pub low_rank: Option<LowRank>,
    /// How long and how fast.
    pub plan: Plan,
}

/// Views of all examples of a modality, from the cache in `data` as far as they are there.
///
/// # Errors
/// If packages cannot be fetched, and those of the encoders.
pub fn source(
    modality: Modality,
    loader: &mut WeightLoader,
    data: &Path,
    share: Share,
    output_width: usize,
) -> Result<Source> {
    let vocabulary = vocabulary::Vocabulary::new()?;
    let (roots, pictures, sounds) = prepare::examples(&data.join("packages"), &vocabulary)?;
    let cache = Cache::new(&data.join(VIEWS))?;
    match modality {
        Modality::Image => {
            let eyes = Eyes::load(loader)?;
            let config = eyes.joiner_config(output_width)?;
            let seen = prepare::pictures(&roots, &pictures, &eyes, &cache)?;
            Source::new(config, eyes.classifier, seen, share, &[])
        }
        Modality::Audio => {
            let ears = Ears::load(loader)?;
            let seen = prepare::sounds(&roots, &sounds, &ears, &vocabulary, &cache)?;
            let config = ears.joiner_config(output_width)?;
            Source::new(config, ears.classifier, seen, share, &ears.labels)
        }
    }
}

/// Loads the frozen language model of a bundle.
///
/// # Errors
/// If the bundle has none.
pub fn language(loader: &mut WeightLoader) -> Result<LanguageModel> {
    language_on(loader, &candle_core::Device::Cpu)
}

/// As [`language`], on one of candle's devices: quantised weights become f32 on any but the processor.
///
/// # Errors
/// If the bundle has none; those of the device.
pub fn language_on(loader: &mut WeightLoader, device: &candle_core::Device) -> Result<LanguageModel> {
    let part = pollster::block_on(loader.load_part("language", &mut |_| {}))?;
    let weights = if device.is_cpu() { part.weights.clone() } else { part.weights.on_candle(device)? };
    Ok(LanguageModel::load(&part.config, &weights, part.file("tokenizer.json")?)?)
}

/// Runs stage 0: `data` holds packages and cached views, `out` gets weights, checkpoints and curves.
///
/// # Errors
/// If the bundle lacks a part, packages cannot be fetched, or the run cannot go on.
pub fn stage0(config: &Stage0, loader: &mut WeightLoader, data: &Path, out: &Path) -> Result<()> {
    let model = language(loader)?;
    let width = model.llama.config().hidden_size;
    let share = Share { simulated: config.simulated, renamed: config.renamed };
    let source = source(config.modality, loader, data, share, width)?;
    let count = |split| source.seen.iter().filter(|seen| seen.split == split).count();
    let [training, validation, test] =
        [examples::Split::Training, examples::Split::Validation, examples::Split::Test].map(count);
    eprintln!("{training} views to learn from, {validation} to validate with, {test} kept for the test");
    std::fs::create_dir_all(out)?;
    let sizes = serde_json::to_vec_pretty(&source.config)?;
    std::fs::write(out.join("joiner.json"), sizes).context("joiner.json")?;
    let task = SlotTask::new(source, model, config.batch, config.plan.seed)?;
    run::run(&task, &config.plan, out)?;
    Ok(())
}

/// Runs stage 1 or 2. `out` gets checkpoints and curves, and in the folder `trained` what `bubo bundle --trained` takes:
/// `image_joiner` and `audio_joiner`, each as weights in 16 bits and sizes, and the addition as `language.safetensors`.
///
/// # Errors
/// If nothing is to learn, the bundle lacks a part, a file cannot be read, or the run cannot go on.
pub fn answers(config: &Answers, loader: &mut WeightLoader, data: &Path, out: &Path) -> Result<()> {
    ensure!(config.image.is_some() || config.audio.is_some(), "give `image`, `audio` or both to learn");
    let plain = language(loader)?;
    let part = pollster::block_on(loader.load_part("language", &mut |_| {}))?;
    let mut variables = Variables::default();
    let mut llama = None;
    if let Some(LowRank { rank, from, .. }) = &config.low_rank {
        let addition =
            Variables::low_rank(plain.llama.config(), *rank, &mut Random::new(config.plan.seed, u64::MAX - 1))?;
        if let Some(from) = from {
            addition.restore(from)?;
        }
        llama = Some(Llama::load(plain.llama.config(), &addition.added_to(&part.weights)?)?);
        variables.by_name.extend(addition.by_name);
    }
    let width = plain.llama.config().hidden_size;
    let mut learner = |start: &Option<Start>, modality, prefix| -> Result<Option<Learner>> {
        let Some(Start { from, simulated, renamed }) = start else { return Ok(None) };
        let share = Share { simulated: *simulated, renamed: *renamed };
        let source = source(modality, loader, data, share, width)?;
        let own = Variables::joiner(&source.config, &vec![0.0; width], 1.0, &mut Random::new(0, 0))?;
        own.restore(&from.join("weights.safetensors"))?;
        let joiner = Joiner::load(&source.config, &own.weights()?)?;
        variables.by_name.extend(own.by_name.into_iter().map(|(name, variable)| (format!("{prefix}{name}"), variable)));
        let slots = Slots::new(&plain, &source.all_targets(&plain.tokenizer)?, source.slots_each())?;
        Ok(Some(Learner { prefix, source, joiner, slots }))
    };
    let image = learner(&config.image, Modality::Image, IMAGE_PREFIX)?;
    let audio = learner(&config.audio, Modality::Audio, AUDIO_PREFIX)?;
    let settings = plain.settings;
    let model = Frozen {
        llama: llama.unwrap_or(plain.llama),
        tokenizer: Tokenizer::from_bytes(part.file("tokenizer.json")?)?,
        start: settings.bos_token_id.filter(|_| settings.chat.add_bos),
        end: *settings
            .chat
            .stop
            .ids
            .first()
            .context("the language model's configuration names no token that ends an answer")?,
        chat: settings.chat,
    };
    let low_rank_rate = config.low_rank.as_ref().map_or(1.0, |low_rank| low_rank.rate);
    let (mix, batch) = (config.mix.clone(), config.batch);
    let vocabulary = vocabulary::Vocabulary::new()?;
    let task = AnswerTask { variables, model, image, audio, mix, batch, low_rank_rate, vocabulary };
    run::run(&task, &config.plan, out)?;
    write_parts(&task, out)
}

const IMAGE_PREFIX: &str = "image.";
const AUDIO_PREFIX: &str = "audio.";

/// Each joiner's weights by their own names with its sizes, and the addition's weights, in files of their own.
fn write_parts(task: &AnswerTask, out: &Path) -> Result<()> {
    let folder = out.join("trained");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (name, learner) in [("image_joiner", &task.image), ("audio_joiner", &task.audio)] {
        let Some(Learner { prefix, source, .. }) = learner else { continue };
        task.variables.below(prefix).save_as(&folder.join(format!("{name}.safetensors")), DType::F16)?;
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_vec_pretty(&source.config)?)?;
    }
    let mut addition = task.variables.clone();
    addition.by_name.retain(|name, _| is_low_rank(name));
    if !addition.by_name.is_empty() {
        addition.save_as(&folder.join("language.safetensors"), DType::F16)?;
    }
    Ok(())
}
