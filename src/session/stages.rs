//! One stage at a time, whatever comes of it: for checks of speed, memory and engines, also on weights that know nothing.
//!
//! A question runs a stage only where the one before it found something. Here each network is given a picture, a sound or
//! a prompt, and what it says is measured, not read. A Q-Former reads what its encoder made of the same picture or sound;
//! the language model reads the embeddings of the Q-Formers that ran before it.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::models::Models;
use super::{Session, not_loaded};
use crate::encoders::Features;
use crate::encoders::projector::ProjectedQFormer;
use crate::error::{Context as _, Error, Result};
use crate::grounding::RawOutputs;
use crate::host::Host;
use crate::language::{Chat, Context, LanguageModel, ModalityKind};
use crate::media::{BoxPx, RgbImage, Waveform};
use crate::tensor::gpu::{Counters, KernelFailure};
use crate::tensor::{Device, Tensor};

/// All stages, by the names of their parts, in the order in which they run.
pub const STAGES: [&str; 8] =
    ["tagger", "detector", "segmenter", "image_encoder", "image_qformer", "audio_encoder", "audio_qformer", "language"];

/// Numbers of each output that are given.
const SAMPLE: usize = 64;

/// What is run, and on what beside picture and sound.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageOptions {
    /// Names out of [`STAGES`]; if there are none, all that are loaded and whose input is given.
    pub stages: Vec<String>,
    /// What the detector looks for.
    pub phrases: Vec<String>,
    /// What the segmenter outlines, x0, y0, x1, y1 in pixels; the middle of the picture if not given.
    pub box_px: Option<[f32; 4]>,
    /// What the language model is asked.
    pub question: String,
    /// What it is told before; its own system text if not given.
    pub system: Option<String>,
    /// How many tokens it answers.
    pub tokens: usize,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            stages: Vec::new(),
            phrases: vec!["cat".into(), "dog".into()],
            box_px: None,
            question: "What is it?".into(),
            system: None,
            tokens: 4,
        }
    }
}

/// An output of a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageOutput {
    /// What it is.
    pub name: &'static str,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Whether every number is finite.
    pub finite: bool,
    /// The root of the mean square.
    pub rms: f32,
    /// Up to 64 of its numbers, evenly spread from the first to the last.
    pub sample: Vec<f32>,
}

/// What the language model read and said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spoken {
    /// Positions of the prompt, embeddings included.
    pub prompt_tokens: usize,
    /// How long reading them took.
    pub read_ms: f64,
    /// The likeliest tokens.
    pub token_ids: Vec<u32>,
    /// How long it took to read them in turn.
    pub decode_ms: f64,
}

/// How a stage went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Which one.
    pub stage: &'static str,
    /// From its input in main memory to its outputs in main memory.
    pub elapsed_ms: f64,
    /// What it gave.
    pub outputs: Vec<StageOutput>,
    /// Of the language model only.
    pub spoken: Option<Spoken>,
    /// What the GPU did for it, if one works.
    pub gpu: Option<Counters>,
}

/// What the stages work on, and what they hand on to each other.
struct Bench<'a> {
    models: Models,
    options: &'a StageOptions,
    image: Option<&'a RgbImage>,
    sound: Option<&'a Waveform>,
    seen: Option<Features>,
    heard: Option<Features>,
    embeddings: Vec<(ModalityKind, Tensor)>,
}

impl Session {
    /// Runs the stages that `options` names, one after the other, and tells `report` of each. The conversation is not
    /// touched.
    ///
    /// # Errors
    /// [`Error::Input`] for unknown stages, those that are not loaded, and those whose input is missing;
    /// [`Error::Unsupported`] for models whose network cannot be run alone; [`Error::Cancelled`]; those of the engine.
    pub async fn run_stages(
        &self,
        options: &StageOptions,
        image: Option<&RgbImage>,
        sound: Option<&Waveform>,
        host: &dyn Host,
        report: &dyn Fn(&StageReport),
    ) -> Result<()> {
        let known = STAGES.join(", ");
        if let Some(unknown) = options.stages.iter().find(|stage| !STAGES.contains(&stage.as_str())) {
            return Err(Error::Input(format!("there is no stage {unknown:?}; known are {known}")));
        }
        let models = self.models.borrow().clone();
        let (seen, heard, embeddings) = (None, None, Vec::new());
        let mut bench = Bench { models, options, image, sound, seen, heard, embeddings };
        for stage in STAGES {
            if !bench.is_wanted(stage) {
                continue;
            }
            host.breathe().await?;
            let before = self.counters();
            let started_ms = host.now_ms();
            let (raw, spoken) = bench.run(stage, host).await.context(stage)?;
            let mut outputs = Vec::with_capacity(raw.len());
            for (name, tensor) in &raw {
                outputs.push(measured(name, tensor).await.context(stage)?);
            }
            let elapsed_ms = host.now_ms() - started_ms;
            let gpu = self.counters().zip(before).map(|(after, before)| after.since(&before));
            report(&StageReport { stage, elapsed_ms, outputs, spoken, gpu });
        }
        Ok(())
    }

    /// What the GPU did so far; none on the CPU.
    pub fn counters(&self) -> Option<Counters> {
        match &self.device {
            Device::Gpu(gpu) => Some(gpu.counters()),
            Device::Cpu => None,
        }
    }

    /// Holds every kernel on small inputs against the CPU engine; what is returned failed. None on the CPU.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device fails meanwhile.
    pub async fn self_test(&self) -> Result<Option<Vec<KernelFailure>>> {
        match &self.device {
            Device::Gpu(gpu) => Ok(Some(gpu.self_test().await?)),
            Device::Cpu => Ok(None),
        }
    }
}

impl Bench<'_> {
    fn is_wanted(&self, stage: &str) -> bool {
        if !self.options.stages.is_empty() {
            return self.options.stages.iter().any(|wanted| wanted == stage);
        }
        let (image, sound, models) = (self.image.is_some(), self.sound.is_some(), &self.models);
        match stage {
            "tagger" => image && models.tagger.is_some(),
            "detector" => image && models.detector.is_some(),
            "segmenter" => image && models.segmenter.is_some(),
            "image_encoder" => image && models.image_encoder.is_some(),
            "image_qformer" => image && models.image_encoder.is_some() && models.image_qformer.is_some(),
            "audio_encoder" => sound && models.audio_encoder.is_some(),
            "audio_qformer" => sound && models.audio_qformer.is_some(),
            _ => models.language.is_some(),
        }
    }

    async fn run(&mut self, stage: &str, host: &dyn Host) -> Result<(RawOutputs, Option<Spoken>)> {
        let outputs = match stage {
            "tagger" => loaded(&self.models.tagger)?.raw_outputs(self.image()?).await?,
            "detector" => loaded(&self.models.detector)?.raw_outputs(self.image()?, &self.options.phrases).await?,
            "segmenter" => {
                let image = self.image()?;
                let box_px = box_in(image, self.options.box_px)?;
                loaded(&self.models.segmenter)?.raw_outputs(image, box_px, host).await?
            }
            "image_encoder" => {
                let features = loaded(&self.models.image_encoder)?.encode(self.image()?)?;
                vec![("features", self.seen.insert(features).tokens.clone())]
            }
            "audio_encoder" => {
                let sound = self.sound.ok_or_else(|| missing("a sound"))?;
                let features = loaded(&self.models.audio_encoder)?.encode(sound)?;
                vec![("features", self.heard.insert(features).tokens.clone())]
            }
            "image_qformer" => self.embed(ModalityKind::Image)?,
            "audio_qformer" => self.embed(ModalityKind::Audio)?,
            _ => {
                let language = loaded(&self.models.language)?;
                let (outputs, spoken) = speak(language, &self.embeddings, self.options, host).await?;
                return Ok((outputs, Some(spoken)));
            }
        };
        Ok((outputs, None))
    }

    fn image(&self) -> Result<&RgbImage> {
        self.image.ok_or_else(|| missing("a picture"))
    }

    /// Lets a Q-Former read what its encoder made.
    fn embed(&mut self, kind: ModalityKind) -> Result<RawOutputs> {
        let (qformer, features): (&Option<Rc<ProjectedQFormer>>, _) = match kind {
            ModalityKind::Image => (&self.models.image_qformer, &self.seen),
            ModalityKind::Audio => (&self.models.audio_qformer, &self.heard),
        };
        let features = features.as_ref().ok_or_else(|| missing("what its encoder makes: let that run too"))?;
        let embeddings = loaded(qformer)?.forward(features)?;
        self.embeddings.push((kind, embeddings.clone()));
        Ok(vec![("embeddings", embeddings)])
    }
}

fn loaded<T>(model: &Option<T>) -> Result<&T> {
    model.as_ref().ok_or_else(|| not_loaded("this stage"))
}

fn missing(what: &str) -> Error {
    Error::Input(format!("this stage needs {what}"))
}

/// The box that was given as far as it lies in the picture; if none was, half the width and height in the middle.
fn box_in(image: &RgbImage, given: Option<[f32; 4]>) -> Result<BoxPx> {
    let [width, height] = [image.width(), image.height()].map(|side| side as f32);
    let sides = given.unwrap_or([width / 4.0, height / 4.0, width * 3.0 / 4.0, height * 3.0 / 4.0]);
    let box_px = BoxPx::from(sides).clamped(image.width(), image.height());
    if box_px.area() > 0.0 {
        return Ok(box_px);
    }
    Err(Error::Input(format!("the box {sides:?} has no part in the picture of {width} × {height} pixels")))
}

/// Lets the language model read a prompt and go on by its likeliest tokens, whether or not one of them ends the answer.
async fn speak(
    language: &Rc<LanguageModel>,
    shown: &[(ModalityKind, Tensor)],
    options: &StageOptions,
    host: &dyn Host,
) -> Result<(RawOutputs, Spoken)> {
    let mut chat = Chat::new(Rc::clone(language));
    if let Some(system) = &options.system {
        chat.set_system(system.as_str());
    }
    for (kind, embeddings) in shown {
        chat.attach(*kind, embeddings)?;
    }
    chat.ask(options.question.as_str());
    let prompt = language.read_prompt(chat.messages())?;
    let (llama, prompt_tokens) = (&language.llama, prompt.items.len());
    let chunk = language.settings.chat.generation.prefill_chunk;
    let started_ms = host.now_ms();
    let mut context = Context::new(llama, prompt_tokens.saturating_add(options.tokens));
    let read = context.read(llama, &prompt, chunk, host, &mut async |_, _| Ok(())).await?;
    let first = llama.logits(&read.last)?;
    let mut next = likeliest(&first).await?;
    let read_ms = host.now_ms() - started_ms;
    let mut token_ids = Vec::new();
    let mut last = first.clone();
    for _ in 0..options.tokens {
        host.breathe().await?;
        token_ids.push(next);
        last = llama.logits(&context.push(llama, &[next])?)?;
        next = likeliest(&last).await?;
    }
    let decode_ms = host.now_ms() - started_ms - read_ms;
    let outputs = vec![("first_logits", first), ("last_logits", last)];
    Ok((outputs, Spoken { prompt_tokens, read_ms, token_ids, decode_ms }))
}

async fn likeliest(logits: &Tensor) -> Result<u32> {
    let logits = logits.to_f32().await?;
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    Ok(best.map_or(0, |(id, _)| id as u32))
}

async fn measured(name: &'static str, tensor: &Tensor) -> Result<StageOutput> {
    let numbers = tensor.to_f32().await?;
    let squares: f64 = numbers.iter().map(|number| f64::from(*number).powi(2)).sum();
    let last = numbers.len().saturating_sub(1);
    let count = numbers.len().min(SAMPLE);
    let places = (0..count).map(|at| at * last / count.saturating_sub(1).max(1));
    Ok(StageOutput {
        name,
        dims: tensor.dims().to_vec(),
        finite: numbers.iter().all(|number| number.is_finite()),
        rms: (squares / numbers.len().max(1) as f64).sqrt() as f32,
        sample: places.filter_map(|place| numbers.get(place).copied()).collect(),
    })
}
