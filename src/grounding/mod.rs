//! What is in the picture and where: tags, boxes, masks, and which words of an answer mean which of them.

pub mod caption;
pub mod detector;
pub mod matcher;
pub mod outlines;
pub mod scene;
pub mod second_look;
pub mod segmenter;
pub mod tagger;
pub mod taught;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::media::{BoxPx, CropPx, Mask, RgbImage};
use crate::tensor::Tensor;

/// A word for something in the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// Lower-case English, for example `golden retriever`.
    pub label: String,
    /// Confidence, 0..1.
    pub score: f32,
    /// Where the tagger looked, if it can tell.
    pub box_px: Option<BoxPx>,
    /// The broader kind that it is one of, if that has a name of its own: `dog` for a golden retriever.
    pub kind: Option<String>,
}

/// A thing with its box.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Lower-case English.
    pub label: String,
    /// Confidence, 0..1.
    pub score: f32,
    /// Where it is.
    pub box_px: BoxPx,
}

/// A thing in the picture with its box, before it is outlined.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Lower-case English, or the name that a person taught.
    pub tag: String,
    /// Other names of the same thing, finer or broader.
    pub aliases: Vec<String>,
    /// Confidence, 0..1.
    pub score: f32,
    /// Where it is.
    pub box_px: BoxPx,
    /// Whether a person taught its name.
    pub taught: bool,
}

impl Found {
    /// The thing with its pixels.
    pub fn with_mask(self, mask: Mask) -> Thing {
        let Self { tag, aliases, score, box_px, taught } = self;
        Thing { tag, aliases, score, box_px, mask, taught }
    }
}

/// A thing in the picture, outlined.
#[derive(Debug, Clone, PartialEq)]
pub struct Thing {
    /// Lower-case English, or the name that a person taught.
    pub tag: String,
    /// Other names of the same thing, finer or broader.
    pub aliases: Vec<String>,
    /// Confidence, 0..1.
    pub score: f32,
    /// Where it is.
    pub box_px: BoxPx,
    /// Its pixels, in the size of the picture.
    pub mask: Mask,
    /// Whether a person taught its name.
    pub taught: bool,
}

impl Thing {
    /// The thing without its pixels.
    pub fn found(&self) -> Found {
        let Self { tag, aliases, score, box_px, mask: _, taught } = self;
        Found { tag: tag.clone(), aliases: aliases.clone(), score: *score, box_px: *box_px, taught: *taught }
    }
}

/// What a network says before anything is read off it, each with its name: for diagnostics.
pub type RawOutputs = Vec<(&'static str, Tensor)>;

/// What a tagger's network made of a whole picture: what a joiner reads.
#[derive(Debug, Clone)]
pub struct TaggerView {
    /// `[1, rows · columns, dim]`: the last feature map, rows from the top.
    pub features: Tensor,
    /// The likeliest tags of the whole picture, however unsure.
    pub tags: Vec<Tag>,
}

/// Names what is in a picture.
#[async_trait(?Send)]
pub trait Tagger {
    /// Tags, most confident first where the model ranks them.
    ///
    /// # Errors
    /// Those of the engine.
    async fn tag(&self, image: &RgbImage) -> Result<Vec<Tag>>;

    /// What the network makes of the whole picture; none if the tagger has nothing of the kind.
    ///
    /// # Errors
    /// Those of the engine.
    async fn view(&self, _image: &RgbImage) -> Result<Option<TaggerView>> {
        Ok(None)
    }

    /// The likeliest tags of parts of a picture, each looked at by itself, without places and however unsure; none if the tagger is not made for that.
    ///
    /// # Errors
    /// Those of the engine.
    async fn tag_parts(&self, _image: &RgbImage, _parts: &[CropPx]) -> Result<Option<Vec<Vec<Tag>>>> {
        Ok(None)
    }

    /// Whether some class of the tagger is called so, or is of that kind: what it knows and does not see is hardly there.
    fn knows(&self, _name: &str) -> bool {
        false
    }

    /// What the network says of a picture, whatever comes of it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the model has no such thing; those of the engine.
    async fn raw_outputs(&self, _image: &RgbImage) -> Result<RawOutputs> {
        Err(no_raw_outputs("tagger"))
    }

    /// Features of a part of a picture, which taught things are compared by: `[rows · columns, dim]` of a square map,
    /// rows from the top. None if the tagger has nothing of the kind.
    ///
    /// # Errors
    /// Those of the engine.
    fn features(&self, _image: &RgbImage, _part: CropPx) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Finds things in a picture.
#[async_trait(?Send)]
pub trait Detector {
    /// Detections, most confident first, duplicates suppressed. An open-vocabulary detector looks for `phrases`; a
    /// closed one ignores them.
    ///
    /// # Errors
    /// Those of the engine.
    async fn detect(&self, image: &RgbImage, phrases: &[String]) -> Result<Vec<Detection>>;

    /// What the network says of a picture and phrases, whatever comes of it.
    ///
    /// # Errors
    /// As for [`Tagger::raw_outputs`].
    async fn raw_outputs(&self, _image: &RgbImage, _phrases: &[String]) -> Result<RawOutputs> {
        Err(no_raw_outputs("detector"))
    }

    /// Whether every detection is to be a thing of its own, in the order in which they come: as in BuboGPT, which puts
    /// nothing together.
    fn keeps_all(&self) -> bool {
        false
    }
}

/// Outlines things in a picture.
#[async_trait(?Send)]
pub trait Segmenter {
    /// One mask a box, in the size of the picture. Lets others run between boxes.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `host` says so, and those of the engine.
    async fn segment(&self, image: &RgbImage, boxes_px: &[BoxPx], host: &dyn Host) -> Result<Vec<Mask>>;

    /// What the network says of a picture and a box, whatever comes of it.
    ///
    /// # Errors
    /// As for [`Tagger::raw_outputs`].
    async fn raw_outputs(&self, _image: &RgbImage, _box_px: BoxPx, _host: &dyn Host) -> Result<RawOutputs> {
        Err(no_raw_outputs("segmenter"))
    }
}

fn no_raw_outputs(part: &str) -> Error {
    Error::Unsupported(format!("running the network of this {part} alone; those of the paper's system can be"))
}
