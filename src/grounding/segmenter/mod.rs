//! Outliners of things. One file a model.

pub mod sam;
pub mod u2net;

use std::rc::Rc;

use super::Segmenter;
use crate::bundle::LoadedPart;
use crate::error::{Error, Result};
use crate::nn::Weights;

/// Loads the segmenter that a bundle's part names.
///
/// # Errors
/// [`Error::Unsupported`] for a model that is not known here; those of the model.
pub fn load(part: &LoadedPart<Weights>) -> Result<Rc<dyn Segmenter>> {
    Ok(match part.model.as_str() {
        "u2netp" => Rc::new(u2net::U2Net::load(&part.config()?, &part.weights)?),
        "sam" => {
            let encoder = sam::image_encoder::load(&part.config()?, &part.weights)?;
            Rc::new(sam::Sam::load(&part.config()?, encoder, &part.weights)?)
        }
        "mobile_sam" => {
            let encoder = sam::tiny_vit::load(&part.config()?, &part.weights)?;
            Rc::new(sam::Sam::load(&part.config()?, encoder, &part.weights)?)
        }
        other => {
            let known = "u2netp, sam, mobile_sam";
            return Err(Error::Unsupported(format!("a segmenter {other:?}; known are {known}")));
        }
    })
}
