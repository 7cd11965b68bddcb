//! Pictures and sounds to features. One file a model; the bundle's manifest names which one it holds.

pub mod efficientnet;
pub mod eva_vit;
pub mod imagebind;
pub mod qformer;
pub mod yamnet;

use crate::error::Result;
use crate::media::{RgbImage, Waveform};
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
