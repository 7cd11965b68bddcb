//! The paper's two stages on the paper's system: frozen EVA ViT-g, ImageBind and Vicuna, a Q-Former and a projector for
//! each modality, of which a stage teaches some, and the data that the original was taught with.
//!
//! - `entries` and a file for each form of annotations: what is shown and what is answered
//! - `prompts`: the original's wording; pairs that do not belong together
//! - `data`: sets by their weights, split by file and by class
//! - `features`, `augment`: the frozen encoders, kept on disk
//! - `side`: what learns
//! - `task`: from a batch to its loss
//!
//! Source: BuboGPT, arXiv 2307.08581; bubogpt-spec 7.
//!
//! Where this differs from the original: sequences are padded on the right as a whole (there, each piece of a prompt
//! is, so that positions within shift by chance); there is no dropout; each step draws its entries anew, so that a run
//! that is taken up again draws what it would have drawn (there, entries come in shuffled passes).

pub mod augment;
pub mod captioned;
pub mod clotho;
pub mod data;
pub mod entries;
pub mod features;
pub mod llava;
pub mod minigpt4;
pub mod prompts;
pub mod side;
pub mod task;
pub mod vggss;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use bubo::language::ModalityKind;
use bubo::nn::WeightLoader;
use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::cache::Cache;
use crate::language_on;
use crate::random::Random;
use crate::run::{self, Plan};
use crate::variables::Variables;
use data::{DataSet, Named};
use entries::SplitBy;
use side::{Side, SideConfig};
use task::{Form, PaperTask};

/// What `system` says in a configuration of this kind.
pub const SYSTEM: &str = "bubogpt";

/// Configuration of a stage on the paper's system.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// [`SYSTEM`]: tells this configuration from those of `bubo-mini`.
    pub system: String,
    /// How pictures are taught; without it they are not shown.
    #[serde(default)]
    pub image: Option<SideConfig>,
    /// How sounds are taught; without it they are not played.
    #[serde(default)]
    pub audio: Option<SideConfig>,
    /// Around a question, with `{}` in its place; without it, a caption follows what is shown at once.
    #[serde(default)]
    pub prompt_template: Option<String>,
    /// What ends an answer.
    pub end_sym: String,
    /// Tokens of an answer, its end among them.
    pub max_txt_len: usize,
    /// Samples of a batch.
    pub batch: usize,
    /// What is learnt from.
    pub data: Vec<Named>,
    /// Who may see what.
    pub split: SplitBy,
    /// Samples of each data set that are watched after every epoch.
    pub validation_samples: usize,
    /// How long and how fast.
    pub plan: Plan,
}

impl Config {
    fn check(&self) -> Result<()> {
        ensure!(self.system == SYSTEM, "`system` is {:?}, where {SYSTEM:?} is due", self.system);
        ensure!(self.image.is_some() || self.audio.is_some(), "give `image`, `audio` or both to learn");
        ensure!(self.batch > 0 && self.max_txt_len > 0, "`batch` and `max_txt_len` are above 0");
        ensure!(!self.data.is_empty(), "give at least one data set in `data`");
        Ok(())
    }
}

/// Runs a stage on `device`. `data` holds the data sets, whose paths the configuration gives, and gets the features of
/// the frozen encoders in `features`; `out` gets checkpoints and curves, and what was learnt in the folder `trained`,
/// for `bubo join --trained`.
///
/// # Errors
/// If the configuration or the data are not what they should be, the bundle lacks a part, or the run cannot go on.
pub fn run(config: &Config, loader: WeightLoader, device: Accelerator, data: &Path, out: &Path) -> Result<()> {
    config.check()?;
    let device = device.open()?;
    // First what costs nothing: a wrong path shall not show after minutes of loading.
    let sets: Vec<DataSet> =
        config.data.iter().map(|named| DataSet::read(named, data, &config.split)).collect::<Result<_>>()?;
    for set in &sets {
        let [training, validation, test] = set.counts;
        eprintln!("{}: {training} to learn from, {validation} to validate with, {test} kept for the test", set.name);
        for kind in set.prompts.shown() {
            let taught = if *kind == ModalityKind::Image { &config.image } else { &config.audio };
            ensure!(taught.is_some(), "{} has a {kind:?}, which the configuration does not teach", set.name);
        }
    }
    let loader = Rc::new(RefCell::new(loader));
    let model = language_on(&mut loader.borrow_mut(), &device)?;
    let start = model.settings.bos_token_id.context("the language model's configuration names no `bos_token_id`")?;
    let hidden_size = model.llama.config().hidden_size;
    let cache = Rc::new(Cache::new(&data.join("features"))?);
    let mut random = Random::new(config.plan.seed, u64::MAX);
    let (mut variables, mut sides) = (Variables::default(), Vec::new());
    for (kind, taught) in [(ModalityKind::Audio, &config.audio), (ModalityKind::Image, &config.image)] {
        let Some(taught) = taught else { continue };
        let (side, own) = Side::new(kind, taught, &loader, &cache, hidden_size, &device, &mut random)?;
        variables.by_name.extend(own.by_name);
        sides.push(side);
    }
    let form = Form {
        template: config.prompt_template.clone(),
        end: config.end_sym.clone(),
        max_target_tokens: config.max_txt_len,
    };
    let (llama, tokenizer) = (model.llama, model.tokenizer);
    let (batch, validation) = (config.batch, config.validation_samples);
    let task = PaperTask { variables, llama, tokenizer, start, form, sides, sets, batch, validation };
    run::run(&task, &config.plan, out)?;
    let folder = out.join("trained");
    task.sides.iter().try_for_each(|side| side.write(&task.variables, &folder))
}
