//! Pictures and sounds to features. One file a model; the bundle's manifest names which one it holds.

pub mod efficientnet;
pub mod eva_vit;
pub mod imagebind;
pub mod joiner;
pub mod projector;
pub mod qformer;
pub mod yamnet;

use std::rc::Rc;

use crate::bundle::LoadedPart;
use crate::error::{Error, Result};
use crate::media::{RgbImage, Waveform};
use crate::nn::Weights;
use crate::tensor::Tensor;

/// What an encoder makes of a picture or a sound.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[1, tokens, dim]` f32: what a Q-Former attends to.
    pub tokens: Tensor,
}

/// Turns a picture into features.
pub trait ImageEncoder {
    /// Features of the whole picture.
    ///
    /// # Errors
    /// Those of the engine.
    fn encode(&self, image: &RgbImage) -> Result<Features>;
}

/// Turns a sound into features.
pub trait AudioEncoder {
    /// Features of the whole sound.
    ///
    /// # Errors
    /// Those of the engine.
    fn encode(&self, sound: &Waveform) -> Result<Features>;
}

/// Loads the image encoder that a bundle's part names.
///
/// # Errors
/// [`Error::Unsupported`] for a model that is not known here; those of the model.
pub fn load_image_encoder(part: &LoadedPart<Weights>) -> Result<Rc<dyn ImageEncoder>> {
    match part.model.as_str() {
        "eva_vit" => Ok(Rc::new(eva_vit::EvaVit::load(&part.config()?, &part.weights)?)),
        other => Err(Error::Unsupported(format!("an image encoder {other:?}; known is eva_vit"))),
    }
}
