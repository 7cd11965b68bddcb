//! The grounded answer as one JSON object: what the command line prints and the page saves.

use serde::{Deserialize, Serialize};

use super::Rle;
use crate::grounding::Thing;
use crate::grounding::matcher::Entity;
use crate::media::BoxPx;

/// An answer with all that it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// The answer's text.
    pub answer: String,
    /// Its phrases and the things that they mean; offsets in Unicode characters.
    pub entities: Vec<Entity>,
    /// What is in the picture.
    pub things: Vec<ExportedThing>,
    /// What is in the sound.
    pub sounds: Vec<ExportedSound>,
    /// Times and counts; keys end in their unit.
    pub stats: serde_json::Map<String, serde_json::Value>,
}

/// A thing of the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedThing {
    /// Lower-case English, or the name that a person taught.
    pub tag: String,
    /// Confidence, 0..1.
    pub score: f32,
    /// Left, top, right, bottom.
    pub box_px: BoxPx,
    /// Its pixels.
    pub mask: Rle,
    /// Whether a person taught its name; left out where not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taught: bool,
}

impl From<&Thing> for ExportedThing {
    fn from(thing: &Thing) -> Self {
        let Thing { tag, score, box_px, mask, taught, .. } = thing;
        Self { tag: tag.clone(), score: *score, box_px: *box_px, mask: Rle::encode(mask), taught: *taught }
    }
}

/// A tag of the sound over a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedSound {
    /// AudioSet's name of the class, or the name that a person taught.
    pub tag: String,
    /// Confidence, 0..1.
    pub score: f32,
    /// Start of the span.
    pub start_s: f32,
    /// End of the span.
    pub end_s: f32,
    /// Whether a person taught it; left out where not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taught: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Mask;

    #[test]
    fn the_object_has_the_agreed_keys() {
        let thing = Thing {
            tag: "cat".into(),
            aliases: vec![],
            score: 0.5,
            box_px: BoxPx::from([0.0, 1.0, 2.0, 3.0]),
            mask: Mask::new(2, 2, vec![false, true, false, true]),
            taught: false,
        };
        let export = Export {
            answer: "A cat.".into(),
            entities: vec![Entity { phrase: "cat".into(), start: 2, end: 5, things: vec![0] }],
            things: vec![ExportedThing::from(&thing)],
            sounds: vec![ExportedSound { tag: "Meow".into(), score: 0.25, start_s: 0.0, end_s: 0.5, taught: false }],
            stats: serde_json::Map::new(),
        };
        let json = serde_json::to_string(&export).expect("plain data");
        assert_eq!(
            json,
            concat!(
                r#"{"answer":"A cat.","entities":[{"phrase":"cat","start":2,"end":5,"things":[0]}],"#,
                r#""things":[{"tag":"cat","score":0.5,"box_px":[0.0,1.0,2.0,3.0],"#,
                r#""mask":{"size":[2,2],"counts":"22"}}],"#,
                r#""sounds":[{"tag":"Meow","score":0.25,"start_s":0.0,"end_s":0.5}],"stats":{}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Export>(&json).expect("its own output"), export);
        let taught = ExportedThing { taught: true, ..export.things[0].clone() };
        assert!(serde_json::to_string(&taught).expect("plain data").ends_with(r#","taught":true}"#));
    }
}
