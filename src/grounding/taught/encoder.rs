//! Which encoders can be taught, and how one is told from another.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Sense;
use super::rule::is_measured;
use crate::bundle::{Manifest, PartEntry};
use crate::error::{Error, Result};

/// An encoder whose features are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderId {
    /// Its model, as in the bundle's manifest.
    pub model: String,
    /// Hash of its configuration and its tensors, 64 hexadecimal digits.
    pub fingerprint: String,
    /// Length of its feature vectors.
    pub features: usize,
}

/// The encoders of a bundle, as far as they can be taught.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoders {
    /// What sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<EncoderId>,
    /// What hears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<EncoderId>,
}

impl Encoders {
    /// Those of a bundle: its part `tagger` for pictures, `audio_encoder` for sounds.
    pub fn of(manifest: &Manifest) -> Self {
        let id = |part| manifest.part(part).and_then(|entry| EncoderId::of(manifest, entry));
        Self { picture: id("tagger"), sound: id("audio_encoder") }
    }

    /// That of a sense.
    pub fn of_sense(&self, sense: Sense) -> Option<&EncoderId> {
        match sense {
            Sense::Picture => self.picture.as_ref(),
            Sense::Sound => self.sound.as_ref(),
        }
    }

    /// That of a sense, which must be there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the bundle cannot be taught in it.
    pub fn required(&self, sense: Sense) -> Result<&EncoderId> {
        self.of_sense(sense).ok_or_else(|| {
            let things = match sense {
                Sense::Picture => "things in pictures",
                Sense::Sound => "sounds",
            };
            Error::Unsupported(format!(
                "teaching {things} to this bundle: nobody has measured how its encoder's features compare. bubo-mini can be taught"
            ))
        })
    }

    /// Checks that a vector could be features of the sense's encoder.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is no encoder; [`Error::Shape`] if the vector has another length, is all zero, or
    /// holds what is no finite number.
    pub fn check(&self, sense: Sense, vector: &[f32]) -> Result<()> {
        let expected = self.required(sense)?.features;
        if vector.len() != expected {
            return Err(Error::shape("taught features", format!("{} numbers, not {expected}", vector.len())));
        }
        if !vector.iter().all(|x| x.is_finite()) || vector.iter().all(|x| *x == 0.0) {
            return Err(Error::shape("taught features", "numbers that are not finite, or nothing but zeros"));
        }
        Ok(())
    }

    /// Checks that features of `others` can be compared with these.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names both encoders.
    pub fn check_same(&self, sense: Sense, others: &Encoders) -> Result<()> {
        let own = self.required(sense)?;
        let other = others.of_sense(sense);
        if other == Some(own) {
            return Ok(());
        }
        let named = |id: &EncoderId| format!("{} {}", id.model, id.fingerprint.get(..12).unwrap_or_default());
        Err(Error::Unsupported(format!(
            "what was taught to another encoder ({}); this bundle has {}. Teach the examples again here",
            other.map_or_else(|| "none".into(), named),
            named(own)
        )))
    }
}

impl EncoderId {
    /// The identity of a part; none for a model that gives no features to compare.
    fn of(manifest: &Manifest, entry: &PartEntry) -> Option<Self> {
        let features = feature_width(entry)?;
        Some(Self { model: entry.model.clone(), fingerprint: fingerprint(manifest, entry), features })
    }
}

/// Length of a model's feature vectors, from its configuration; none for a model on whose features the rule of
/// recognition was not measured: RAM and ImageBind have features too, but nobody knows yet from which cosine on theirs
/// mean the same thing.
fn feature_width(entry: &PartEntry) -> Option<usize> {
    if !is_measured(&entry.model) {
        return None;
    }
    let width = match entry.model.as_str() {
        "yamnet" => entry.config.get("layers")?.as_array()?.last()?.get(1)?.as_u64(),
        _ => entry.config.get("head")?.as_u64(),
    };
    width.and_then(|width| usize::try_from(width).ok()).filter(|width| *width > 0)
}

/// Hash of all that an encoder's features depend on: model, configuration, and every tensor's name, shape, place and
/// shard, whose own hash stands for its bytes. A bundle whose parts were packed anew counts as another one.
fn fingerprint(manifest: &Manifest, entry: &PartEntry) -> String {
    let mut hash = Sha256::new();
    let mut add = |piece: &[u8]| {
        hash.update((piece.len() as u64).to_le_bytes());
        hash.update(piece);
    };
    add(entry.model.as_bytes());
    add(entry.config.to_string().as_bytes());
    let mut tensors: Vec<_> =
        manifest.tensors.iter().filter(|tensor| manifest.parts[tensor.part].name == entry.name).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    for tensor in tensors {
        add(tensor.name.as_bytes());
        add(format!("{} {:?}", tensor.format.name(), tensor.shape).as_bytes());
        for piece in &tensor.pieces {
            add(format!("{:?} {:?} {}", piece.rows, piece.at, manifest.shards[piece.shard].sha256).as_bytes());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
