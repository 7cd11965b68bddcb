//! Outliners of things. One file a model.

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
        other => return Err(Error::Unsupported(format!("a segmenter {other:?}; known is u2netp"))),
    })
}
