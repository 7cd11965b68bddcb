//! Pictures and sounds as embeddings of the language model: from Q-Formers at once, or from the joiners of `bubo-mini` when
//! a question comes, since their hints are words that only the language model can embed.

use std::rc::Rc;

use super::facts;
use crate::encoders::joiner::{self, HINT_TOKENS, Hint, Joiner, KIND_TOKENS, NAME_TOKENS, hint_numbers, spread};
use crate::encoders::yamnet;
use crate::error::{Error, Result};
use crate::grounding::matcher::is_kind_of;
use crate::grounding::{Found, Tag, Tagger};
use crate::language::{LanguageModel, Tokenizer};
use crate::media::{BoxPx, RgbImage};
use crate::tensor::{Tensor, Unary};

/// Things of a picture that are given as hints.
pub const MOST_FOUND: usize = 4;
/// Tags of a picture that are given as hints, however unsure; labels of a sound.
pub const MOST_TAGS: usize = 5;
/// Hints of a picture.
pub const PICTURE_HINTS: usize = MOST_FOUND + MOST_TAGS;
/// Labels that say little count for less among the hints of a sound: something narrower tells more.
const GENERAL_SHARE: f32 = 0.25;

/// A picture or a sound for the language model.
#[derive(Debug, Clone)]
pub enum Embedded {
    /// `[1, queries, hidden_size]`
    Ready(Tensor),
    /// What a joiner makes embeddings of.
    View {
        /// Which one.
        joiner: Rc<Joiner>,
        /// `[1, places, encoder_width]`
        features: Tensor,
        /// What was recognised.
        hints: Vec<Hint>,
    },
}

impl Embedded {
    /// The same picture with other names for the things that were found in it.
    ///
    /// - `found`: most confident first
    /// - `before`: how many there were
    /// - `size`: width and height of the picture in pixels
    pub fn with_things(&self, found: &[Found], before: usize, size: [usize; 2]) -> Self {
        match self {
            Self::Ready(tensor) => Self::Ready(tensor.clone()),
            Self::View { joiner, features, hints } => {
                let tags = hints.iter().skip(before.min(MOST_FOUND)).cloned();
                let hints = picture_hints(found, &[], size).into_iter().chain(tags).collect();
                Self::View { joiner: Rc::clone(joiner), features: features.clone(), hints }
            }
        }
    }

    /// The embeddings, `[1, queries, hidden_size]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the joiner was made for another language model; those of the engine.
    pub fn tensor(&self, language: &LanguageModel) -> Result<Tensor> {
        match self {
            Self::Ready(tensor) => Ok(tensor.clone()),
            Self::View { joiner, features, hints } => {
                let joiner::Config { hints: count, .. } = *joiner.config();
                let words = language.llama.embed(&hint_tokens(&language.tokenizer, hints, count)?)?;
                let numbers = hint_numbers(hints, count)?;
                let numbers = Tensor::from_f32(&numbers, &[1, count, joiner::HINT_NUMBERS], &features.device())?;
                joiner.forward(features, &words, &numbers)
            }
        }
    }
}

/// What the joiner reads of a picture; none with a tagger that has no features to give.
///
/// - `found`: what is in it, most confident first
///
/// # Errors
/// [`Error::Shape`] if the joiner was made for another tagger; those of the engine.
pub(super) async fn picture(
    joiner: Rc<Joiner>,
    tagger: &dyn Tagger,
    image: &RgbImage,
    found: &[Found],
) -> Result<Option<Embedded>> {
    let Some(view) = tagger.view(image).await? else { return Ok(None) };
    let hints = picture_hints(found, &view.tags, [image.width(), image.height()]);
    Ok(Some(Embedded::View { joiner, features: view.features, hints }))
}

/// What the joiner reads of a sound.
///
/// # Errors
/// [`Error::Shape`] if the joiner was made for another audio encoder; those of the engine.
pub(super) fn sound(joiner: Rc<Joiner>, heard: &yamnet::Heard, labels: &[String]) -> Result<Embedded> {
    let chosen = spread(heard.starts_s.len(), joiner.config().places);
    let tokens = &heard.features.tokens;
    let chosen = Tensor::from_u32(&chosen, &[chosen.len()], &tokens.device())?;
    let features = tokens.index_select(1, &chosen)?;
    Ok(Embedded::View { joiner, features, hints: sound_hints(&heard.logits, labels) })
}

/// Hints of a picture: what was found in it, then what the tagger thinks of the whole, sure or not.
///
/// - `found`, `tags`: most confident first
/// - `size`: width and height of the picture in pixels
pub fn picture_hints(found: &[Found], tags: &[Tag], size: [usize; 2]) -> Vec<Hint> {
    let [width, height] = size.map(|side| side.max(1) as f32);
    let place = |b: &BoxPx| {
        let centre = [(b.x0 + b.x1) / 2.0 / width, (b.y0 + b.y1) / 2.0 / height];
        (centre, [(b.x1 - b.x0) / width, (b.y1 - b.y0) / height])
    };
    let things = found.iter().take(MOST_FOUND).map(|thing| {
        let (kind, name) = kind_and_name(thing);
        let (centre, size) = place(&thing.box_px);
        Hint { kind: kind.to_owned(), name: name.to_owned(), score: thing.score, centre, size }
    });
    let tags = tags.iter().take(MOST_TAGS).map(|Tag { label, score, box_px, kind }| {
        let (centre, size) = box_px.as_ref().map_or(([0.5; 2], [0.0; 2]), place);
        Hint { kind: kind.as_ref().unwrap_or(label).clone(), name: label.clone(), score: *score, centre, size }
    });
    things.chain(tags).collect()
}

/// The broadest and the finest of what a thing is called.
fn kind_and_name(thing: &Found) -> (&str, &str) {
    let tag = thing.tag.as_str();
    if let Some(finer) = thing.aliases.iter().find(|alias| is_kind_of(alias, tag)) {
        return (tag, finer);
    }
    let broader = thing.aliases.iter().find(|alias| is_kind_of(tag, alias));
    (broader.map_or(tag, String::as_str), tag)
}

/// Hints of a sound: the labels with the highest mean confidence, each with its time.
///
/// - `logits`: `[patches, labels]`
pub fn sound_hints(logits: &[f32], labels: &[String]) -> Vec<Hint> {
    let classes = labels.len().max(1);
    let patches = (logits.len() / classes).max(1);
    let score = |patch: usize, class: usize| {
        logits.get(patch * classes + class).map_or(0.0, |logit| Unary::Sigmoid.apply(*logit))
    };
    let mut ranked: Vec<(usize, f32)> = (0..labels.len())
        .map(|class| (class, (0..patches).map(|patch| score(patch, class)).sum::<f32>() / patches as f32))
        .collect();
    let weight = |(class, mean): (usize, f32)| {
        if facts::is_general_sound(&labels[class]) { mean * GENERAL_SHARE } else { mean }
    };
    ranked.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)));
    let hint = |&(class, mean): &(usize, f32)| {
        let time: f32 = (0..patches).map(|patch| score(patch, class) * (patch as f32 + 0.5)).sum();
        let highest = (0..patches).map(|patch| score(patch, class)).fold(0.0, f32::max);
        let time = time / (mean * patches as f32).max(1e-6) / patches as f32;
        let (kind, name) = (facts::sound_source(&labels[class]), facts::sound_phrase(&labels[class]));
        Hint { kind, name, score: mean, centre: [time, highest], size: [0.0; 2] }
    };
    ranked.iter().take(MOST_TAGS).map(hint).collect()
}

/// Tokens of a list of hints as a joiner reads them, `count` times [`HINT_TOKENS`]; unused ones are full stops.
///
/// # Errors
/// [`Error::Shape`] if there are more hints than that; those of the tokeniser.
pub fn hint_tokens(tokenizer: &Tokenizer, hints: &[Hint], count: usize) -> Result<Vec<u32>> {
    if hints.len() > count {
        return Err(Error::shape("joiner", format!("{} hints, where {count} fit", hints.len())));
    }
    let nothing = nothing(tokenizer)?;
    let mut ids = Vec::with_capacity(count * HINT_TOKENS);
    for Hint { kind, name, .. } in hints {
        ids.extend(word_tokens(tokenizer, kind, KIND_TOKENS, nothing)?);
        ids.extend(word_tokens(tokenizer, name, NAME_TOKENS, nothing)?);
    }
    ids.resize(count * HINT_TOKENS, nothing);
    Ok(ids)
}

/// The first `count` tokens of words within a sentence, filled up with `nothing`.
///
/// # Errors
/// Those of the tokeniser.
pub fn word_tokens(tokenizer: &Tokenizer, words: &str, count: usize, nothing: u32) -> Result<Vec<u32>> {
    // With a space in front, as within a sentence.
    let mut ids = if words.is_empty() { Vec::new() } else { tokenizer.encode(&format!(" {words}"))? };
    ids.resize(count, nothing);
    Ok(ids)
}

/// The token that stands for nothing: a full stop.
///
/// # Errors
/// [`Error::Corrupt`] if the tokeniser has none.
pub fn nothing(tokenizer: &Tokenizer) -> Result<u32> {
    let stop = tokenizer.encode(".")?.first().copied();
    stop.ok_or_else(|| Error::corrupt("tokenizer.json", "it has no token for a full stop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_before_tags() {
        let box_px = BoxPx { x0: 0.0, y0: 0.0, x1: 50.0, y1: 100.0 };
        let found = |tag: &str, aliases: &[&str]| Found {
            tag: tag.into(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            score: 0.7,
            box_px,
            taught: false,
        };
        let tag = Tag { label: "pug".into(), score: 0.05, box_px: None, kind: Some("dog".into()) };
        let things = [found("cat", &["tabby cat"]), found("poodle", &["dog"]), found("frisbee", &["ball of wool"])];
        let hints = picture_hints(&things, &[tag], [100, 200]);
        let words: Vec<(&str, &str)> = hints.iter().map(|hint| (&*hint.kind, &*hint.name)).collect();
        assert_eq!(words, [("cat", "tabby cat"), ("dog", "poodle"), ("frisbee", "frisbee"), ("dog", "pug")]);
        assert_eq!((hints[0].centre, hints[0].size), ([0.25, 0.25], [0.5, 0.5]));
    }

    #[test]
    fn sounds_are_heard_in_time_and_narrow_labels_first() {
        let labels = ["Animal", "Moo", "Silence", "Bark"].map(str::to_owned);
        let mut logits = vec![-9.0; 3 * 4];
        logits[2 * 4 + 1] = 4.0;
        logits[2 * 4] = 4.0;
        let hints = sound_hints(&logits, &labels);
        assert_eq!(hints[0].name, facts::sound_phrase("Moo"));
        assert!(hints[0].centre[0] > 0.8 && hints[0].centre[1] > 0.98, "{:?}", hints[0]);
        assert!((hints[0].score - 0.327).abs() < 0.01, "{:?}", hints[0]);
    }
}
