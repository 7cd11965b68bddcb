//! Finders of things. One file a model, and `focal_head`, which two of them share.

pub mod focal_head;
pub mod grounding_dino;
pub mod nanodet;
pub mod nanodet_plus;

use std::rc::Rc;

use super::Detector;
use crate::bundle::LoadedPart;
use crate::error::{Error, Result};
use crate::nn::Weights;

/// Loads the detector that a bundle's part names.
///
/// # Errors
/// [`Error::Unsupported`] for a model that is not known here; those of the model.
pub fn load(part: &LoadedPart<Weights>) -> Result<Rc<dyn Detector>> {
    Ok(match part.model.as_str() {
        "nanodet_g" => Rc::new(nanodet::NanoDet::load(
            &part.config()?,
            &part.weights,
            &part.json_file::<Vec<String>>("coco_labels.json")?,
        )?),
        "nanodet_plus" => Rc::new(nanodet_plus::NanoDetPlus::load(
            &part.config()?,
            &part.weights,
            &part.json_file::<Vec<String>>("coco_labels.json")?,
        )?),
        "grounding_dino" => Rc::new(grounding_dino::GroundingDinoDetector::load(
            &part.config()?,
            &part.weights,
            part.file(grounding_dino::TOKENIZER_FILE)?,
        )?),
        other => {
            let known = "known are nanodet_g, nanodet_plus and grounding_dino";
            return Err(Error::Unsupported(format!("a detector {other:?}; {known}")));
        }
    })
}
