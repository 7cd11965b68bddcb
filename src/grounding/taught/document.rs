//! What was taught, as one JSON document: exported, imported, and kept by the browser.
//!
//! ```text
//! {"format": "bubo-taught", "version": 1,
//!  "encoders": {"picture": {"model": "imagenet_efficientnet_lite0", "fingerprint": "9f…", "features": 1280}},
//!  "classes": [{"name": "Rex", "kind": "dog", "sense": "picture", "examples": ["AAA8…"], "counterexamples": []}]}
//! ```
//!
//! An example is the encoder's feature vector, not the picture or the sound: 16-bit floats, little-endian, in base64. The
//! document comes from anywhere, so everything in it is checked before anything is taken.

use base64::{decode, encode};
use half::f16;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::name::{checked_kind, checked_name};
use super::{Encoders, MAX_EXAMPLES, Sense, Taught, TaughtClass, same_name};
use crate::error::{Error, Result};

/// Longest document that is read.
pub const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// What a document says it is.
const FORMAT: &str = "bubo-taught";
/// The version that this program reads and writes.
const VERSION: u64 = 1;
/// Widest feature vectors that are read.
const MAX_FEATURES: usize = 1 << 14;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u64,
    encoders: Encoders,
    classes: Vec<Class>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    sense: Sense,
    examples: Vec<String>,
    #[serde(default)]
    counterexamples: Vec<String>,
}

fn damaged(reason: impl Into<String>) -> Error {
    Error::corrupt("the document of taught classes", reason)
}

impl Taught {
    /// The document, which [`from_json`](Self::from_json) reads back; of one sense, or of both.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it cannot be written as JSON, which nothing that was checked can cause.
    pub fn to_json(&self, sense: Option<Sense>) -> Result<String> {
        let wanted = |of: Sense| sense.is_none_or(|sense| sense == of);
        let vectors = |vectors: &[Vec<f32>]| vectors.iter().map(|vector| encoded(vector)).collect();
        let used = |of: Sense| self.encoders.of_sense(of).filter(|_| wanted(of) && !self.is_empty(of)).cloned();
        let document = Document {
            format: FORMAT.into(),
            version: VERSION,
            encoders: Encoders { picture: used(Sense::Picture), sound: used(Sense::Sound) },
            classes: self
                .classes
                .iter()
                .filter(|class| wanted(class.sense))
                .map(|class| Class {
                    name: class.name.clone(),
                    kind: class.kind.clone(),
                    sense: class.sense,
                    examples: vectors(&class.examples),
                    counterexamples: vectors(&class.counterexamples),
                })
                .collect(),
        };
        serde_json::to_string(&document).map_err(|error| damaged(error.to_string()))
    }

    /// Reads a document and checks all of it; whether its encoders are those of a bundle, [`merge`](Self::merge) checks.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for what is no such document, says something twice, or holds vectors of a wrong length or of
    /// numbers that are not finite; [`Error::Unsupported`] for another version; [`Error::Input`] for names that cannot be
    /// used and for more than [`MAX_CLASSES`](super::MAX_CLASSES), [`MAX_EXAMPLES`] or [`MAX_DOCUMENT_BYTES`].
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > MAX_DOCUMENT_BYTES {
            let limit = MAX_DOCUMENT_BYTES >> 20;
            return Err(Error::Input(format!("the document has {} bytes; {limit} MiB is the limit", json.len())));
        }
        let value: Value = serde_json::from_slice(json).map_err(|error| damaged(format!("no JSON: {error}")))?;
        if value.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(damaged(format!("`format` is not {FORMAT:?}; choose a file that was exported here")));
        }
        if value.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(Error::Unsupported(format!(
                "a document of taught classes of another version than {VERSION}; use a newer version of this program"
            )));
        }
        let document: Document = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        let mut taught = Taught::new(document.encoders);
        check_encoders(&taught.encoders)?;
        for class in document.classes {
            taught.check_room(class.sense, 1)?;
            let class = taught.checked(class)?;
            if taught.classes.iter().any(|other| other.sense == class.sense && same_name(&other.name, &class.name)) {
                return Err(damaged(format!("{:?} is there twice", class.name)));
            }
            taught.classes.push(class);
        }
        Ok(taught)
    }

    /// One class of a document; `self` holds the encoders that its vectors must fit.
    fn checked(&self, class: Class) -> Result<TaughtClass> {
        let Class { name, kind, sense, examples, counterexamples } = class;
        let name = checked_name("name", &name)?;
        let kind = kind.as_deref().map(checked_kind).transpose()?.flatten();
        if examples.is_empty() {
            return Err(damaged(format!("{name:?} has no examples")));
        }
        let vectors = |what: &str, list: Vec<String>| {
            if list.len() > MAX_EXAMPLES {
                let count = list.len();
                return Err(Error::Input(format!("{name:?} has {count} {what}; {MAX_EXAMPLES} is the limit")));
            }
            let vector = |(at, text): (usize, &String)| {
                self.decoded(sense, text).map_err(|reason| damaged(format!("{name:?}, {what} {at}: {reason}")))
            };
            list.iter().enumerate().map(vector).collect::<Result<Vec<_>>>()
        };
        let examples = vectors("examples", examples)?;
        let counterexamples = vectors("counterexamples", counterexamples)?;
        Ok(TaughtClass { name, kind, sense, examples, counterexamples })
    }

    fn decoded(&self, sense: Sense, text: &str) -> Result<Vec<f32>, String> {
        let Some(id) = self.encoders.of_sense(sense) else { return Err("`encoders` names none for it".into()) };
        // Before decoding: a text of another length cannot be right, however long it is.
        if text.len() != (2 * id.features).div_ceil(3) * 4 {
            return Err(format!("{} characters, where {} numbers take others", text.len(), id.features));
        }
        let bytes = decode(text).map_err(|error| error.to_string())?;
        let (pairs, _) = bytes.as_chunks::<2>();
        let vector: Vec<f32> = pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect();
        self.encoders.check(sense, &vector).map_err(|error| error.to_string())?;
        Ok(vector)
    }
}

/// The vector as it is kept. Reading it back gives numbers that are equal after the first time.
fn encoded(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
    encode(bytes)
}

/// A vector as it comes back from a document, so that what is learnt now is equal to what is read later.
pub fn rounded(vector: &[f32]) -> Vec<f32> {
    vector.iter().map(|x| f16::from_f32(*x).to_f32()).collect()
}

fn check_encoders(encoders: &Encoders) -> Result<()> {
    for id in [&encoders.picture, &encoders.sound].into_iter().flatten() {
        let digits =
            id.fingerprint.len() == 64 && id.fingerprint.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits || id.features == 0 || id.features > MAX_FEATURES || id.model.len() > 100 {
            return Err(damaged(
                "`encoders` holds no model, fingerprint of 64 hexadecimal digits and number of features",
            ));
        }
    }
    Ok(())
}
