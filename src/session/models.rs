//! The networks of a session, as far as they are loaded.

use std::rc::Rc;

use super::not_loaded;
use crate::bundle::LoadedPart;
use crate::encoders::imagebind::ImageBindAudio;
use crate::encoders::joiner::Joiner;
use crate::encoders::projector::ProjectedQFormer;
use crate::encoders::yamnet::Yamnet;
use crate::encoders::{AudioEncoder, ImageEncoder, load_image_encoder};
use crate::error::{Error, Result};
use crate::grounding::matcher::Embedder;
use crate::grounding::scene::Eyes;
use crate::grounding::{Detector, Segmenter, Tagger, detector, segmenter, tagger};
use crate::language::LanguageModel;
use crate::nn::Weights;

/// The networks, as far as they are loaded.
#[derive(Clone, Default)]
pub(super) struct Models {
    pub tagger: Option<Rc<dyn Tagger>>,
    pub detector: Option<Rc<dyn Detector>>,
    pub segmenter: Option<Rc<dyn Segmenter>>,
    /// Makes features of pictures for [`image_qformer`](Self::image_qformer).
    pub image_encoder: Option<Rc<dyn ImageEncoder>>,
    pub image_qformer: Option<Rc<ProjectedQFormer>>,
    pub audio_qformer: Option<Rc<ProjectedQFormer>>,
    /// Makes features of sounds.
    pub audio_encoder: Option<Rc<dyn AudioEncoder>>,
    /// The same network, where it also knows what a sound is.
    pub ears: Option<Rc<Yamnet>>,
    pub image_joiner: Option<Rc<Joiner>>,
    pub audio_joiner: Option<Rc<Joiner>>,
    pub embedder: Option<Rc<Embedder>>,
    pub language: Option<Rc<LanguageModel>>,
}

impl Models {
    /// Makes the network of a part that was loaded.
    pub fn install(&mut self, name: &str, part: &LoadedPart<Weights>) -> Result<()> {
        match name {
            "tagger" => self.tagger = Some(tagger::load(part)?),
            "detector" => self.detector = Some(detector::load(part)?),
            "segmenter" => self.segmenter = Some(segmenter::load(part)?),
            "image_encoder" => self.image_encoder = Some(load_image_encoder(part)?),
            "image_qformer" => self.image_qformer = Some(Rc::new(load_qformer(part)?)),
            "audio_qformer" => self.audio_qformer = Some(Rc::new(load_qformer(part)?)),
            "audio_encoder" => self.install_audio_encoder(part)?,
            "image_joiner" => self.image_joiner = Some(Rc::new(load_joiner(part)?)),
            "audio_joiner" => self.audio_joiner = Some(Rc::new(load_joiner(part)?)),
            "text_embedder" => self.embedder = Some(Rc::new(load_embedder(part)?)),
            "language" => self.language = Some(Rc::new(load_language(part)?)),
            other => return Err(Error::Unsupported(format!("a bundle with a part named {other:?}"))),
        }
        Ok(())
    }

    /// What looks at pictures.
    ///
    /// # Errors
    /// [`Error::Input`] while not all of it is loaded.
    pub fn eyes(&self) -> Result<Eyes> {
        match (&self.tagger, &self.detector, &self.segmenter) {
            (Some(tagger), Some(detector), Some(segmenter)) => {
                Ok(Eyes { tagger: Rc::clone(tagger), detector: Rc::clone(detector), segmenter: Rc::clone(segmenter) })
            }
            _ => Err(not_loaded("pictures")),
        }
    }

    /// Whether the language model was taught to read pictures and sounds as BuboGPT's was, so that it needs nothing in words.
    pub fn reads_embeddings(&self) -> bool {
        self.image_qformer.is_some() || self.audio_qformer.is_some()
    }

    fn install_audio_encoder(&mut self, part: &LoadedPart<Weights>) -> Result<()> {
        match part.model.as_str() {
            "yamnet" => {
                let labels = part.json_file::<Vec<String>>("audioset_labels.json")?;
                let ears = Rc::new(Yamnet::load(&part.config()?, &part.weights, &labels)?);
                self.ears = Some(Rc::clone(&ears));
                self.audio_encoder = Some(ears);
            }
            "imagebind" => {
                self.ears = None;
                self.audio_encoder = Some(Rc::new(ImageBindAudio::load(&part.config()?, &part.weights)?));
            }
            other => {
                return Err(Error::Unsupported(format!("a model {other:?} here; known are yamnet and imagebind")));
            }
        }
        Ok(())
    }
}

fn load_qformer(part: &LoadedPart<Weights>) -> Result<ProjectedQFormer> {
    check_model(part, "qformer")?;
    ProjectedQFormer::load(&part.config()?, &part.weights)
}

fn load_joiner(part: &LoadedPart<Weights>) -> Result<Joiner> {
    check_model(part, "hinted_qformer")?;
    Joiner::load(&part.config()?, &part.weights)
}

fn load_embedder(part: &LoadedPart<Weights>) -> Result<Embedder> {
    check_model(part, "minilm")?;
    Embedder::load(&part.config()?, &part.weights, part.file("minilm_tokenizer.json")?)
}

fn load_language(part: &LoadedPart<Weights>) -> Result<LanguageModel> {
    check_model(part, "llama")?;
    LanguageModel::load(&part.config, &part.weights, part.file("tokenizer.json")?)
}

fn check_model(part: &LoadedPart<Weights>, known: &str) -> Result<()> {
    if part.model == known {
        return Ok(());
    }
    Err(Error::Unsupported(format!("a model {:?} here; known is {known}", part.model)))
}
