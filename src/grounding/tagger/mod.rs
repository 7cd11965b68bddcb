//! Namers of what is in a picture. One file a model.

pub mod groups;
pub mod imagenet;
mod not_things;
pub mod ram;

use std::rc::Rc;

use super::Tagger;
use crate::bundle::LoadedPart;
use crate::error::{Error, Result};
use crate::nn::Weights;

/// Loads the tagger that a bundle's part names.
///
/// # Errors
/// [`Error::Unsupported`] for a model that is not known here; those of the model.
pub fn load(part: &LoadedPart<Weights>) -> Result<Rc<dyn Tagger>> {
    Ok(match part.model.as_str() {
        "imagenet_efficientnet_lite0" => {
            Rc::new(imagenet::ImagenetTagger::load(&part.config()?, &part.weights, part.file("imagenet_labels.json")?)?)
        }
        "ram" => Rc::new(ram::RamTagger::load(
            &part.config()?,
            &part.weights,
            part.file(ram::TAG_LIST_FILE)?,
            part.file(ram::THRESHOLD_FILE)?,
        )?),
        other => {
            let known = "known are imagenet_efficientnet_lite0 and ram";
            return Err(Error::Unsupported(format!("a tagger {other:?}; {known}")));
        }
    })
}
