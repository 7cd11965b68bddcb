//! What a session tells while it works: plain data, the same for the page, the command line and the tests.

use serde::Serialize;

use super::scene::{ShownSound, ShownThing};
use crate::bundle::Progress;
use crate::canvas::Export;
use crate::grounding::matcher::Entity;

/// A step of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Tags and boxes are being found in the picture.
    Detect,
    /// Its things are being outlined.
    Segment,
    /// The sound is being listened to.
    Listen,
    /// The language model reads the prompt; counted in tokens.
    Read,
    /// The language model answers.
    Answer,
    /// The answer's phrases are being tied to things.
    Match,
}

/// What was computed from boxes, tags and sounds instead of being left to the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// What is there.
    Identity,
    /// What colour something is.
    Color,
    /// Whether something is there.
    Presence,
    /// Where something is.
    Place,
    /// How many there are.
    Count,
    /// Whether picture and sound belong together.
    Relation,
}

/// Something happened. As JSON: one object with its name under `type`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Bytes of the bundle have come.
    Load(LoadProgress),
    /// A part of the bundle is ready to work.
    Part {
        /// The part's name in the manifest.
        part: String,
    },
    /// All parts are.
    Ready,
    /// A stage goes on.
    Stage {
        /// Which.
        stage: Stage,
        /// Steps done.
        done: usize,
        /// Steps in all.
        total: usize,
    },
    /// Things of the picture; all of them, every time.
    Things {
        /// In the order in which colours are given.
        things: Vec<ShownThing>,
        /// Whether their masks are there.
        r#final: bool,
    },
    /// What is heard along time.
    Sounds {
        /// In the order of time.
        sounds: Vec<ShownSound>,
    },
    /// More of the answer.
    Token {
        /// Never half a character.
        text: String,
    },
    /// What comes next in the answer is computed from what was seen and heard.
    Evidence {
        /// What was asked for.
        evidence: Evidence,
    },
    /// A phrase of the answer means things of the picture; offsets in Unicode characters of the answer.
    Entity(Entity),
    /// The answer is complete.
    Done {
        /// With all that it rests on.
        answer: Box<Export>,
    },
}

/// How far a load is, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadProgress {
    /// The part that is being loaded.
    pub part: String,
    /// Of the whole bundle, so far.
    pub loaded: u64,
    /// Of the whole bundle.
    pub total: u64,
    /// Of this part, so far.
    pub part_loaded: u64,
    /// Of this part.
    pub part_total: u64,
    /// Whether the latest bytes came from the cache.
    pub from_cache: bool,
}

impl From<&Progress> for LoadProgress {
    fn from(progress: &Progress) -> Self {
        let Progress { part, loaded, total, part_loaded, part_total, from_cache } = progress.clone();
        Self { part, loaded, total, part_loaded, part_total, from_cache }
    }
}
