//! The joiner of `bubo-mini`: what a small encoder saw or heard, as embeddings of the language model.
//!
//! BuboGPT's Q-Former and projector, in small, with one addition: beside the encoder's features, the queries read
//! *hints*, what the encoder's own classifier and a detector recognised. A hint is words: it comes as the language model's
//! own embeddings of them, squeezed to the queries' width. So there is one way to read all words to learn, rather than a
//! thousand classes, and it serves words that training never saw.
//! Tensor names: `features`, `places`, `overall`, `words`, `numbers`, `norm` are its own; `query_tokens`,
//! `Qformer.bert.…` and `llama_proj` as in BuboGPT.

use serde::{Deserialize, Serialize};

use super::qformer::{self, QFormer};
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, Linear, Weights};
use crate::tensor::{Reduce, Tensor};

/// Numbers that come with a hint: confidence, centre, size.
pub const HINT_NUMBERS: usize = 5;
/// Tokens of a hint's kind, and of its name after it.
pub const KIND_TOKENS: usize = 2;
/// See [`KIND_TOKENS`].
pub const NAME_TOKENS: usize = 4;
/// Tokens of a hint.
pub const HINT_TOKENS: usize = KIND_TOKENS + NAME_TOKENS;

/// Sizes of a joiner.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Feature vectors per picture or sound: places of the map, or patches.
    pub places: usize,
    /// Width of a feature vector.
    pub encoder_width: usize,
    /// Hints per picture or sound; unused ones say "nothing".
    pub hints: usize,
    /// The Q-Former, which reads tokens of its own width.
    pub qformer: qformer::Config,
    /// Width of the language model.
    pub output_width: usize,
}

/// Something that was recognised.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Hint {
    /// The broader kind: `dog`; or what makes a sound.
    pub kind: String,
    /// The name: `golden retriever`; or how a sound is said: `a dog barking`.
    pub name: String,
    /// Confidence, 0..1.
    pub score: f32,
    /// Centre across and down, 0..1; of a sound, its time in place of the first, its highest confidence in place of the
    /// second.
    pub centre: [f32; 2],
    /// Width and height, 0..1; 0 where only a place is known.
    pub size: [f32; 2],
}

impl Hint {
    /// What the network reads beside the words.
    pub fn numbers(&self) -> [f32; HINT_NUMBERS] {
        [self.score, self.centre[0], self.centre[1], self.size[0], self.size[1]]
    }
}

/// Numbers of a list of hints as a joiner reads them, `count` times [`HINT_NUMBERS`]; those of unused ones are 0.
///
/// # Errors
/// [`Error::Shape`] if there are more hints than that.
pub fn hint_numbers(hints: &[Hint], count: usize) -> Result<Vec<f32>> {
    if hints.len() > count {
        return Err(Error::shape("joiner", format!("{} hints, where {count} fit", hints.len())));
    }
    let mut numbers: Vec<f32> = hints.iter().flat_map(Hint::numbers).collect();
    numbers.resize(count * HINT_NUMBERS, 0.0);
    Ok(numbers)
}

/// Q-Former, hints and projector.
#[derive(Debug)]
pub struct Joiner {
    config: Config,
    features: Linear,
    places: Tensor,
    overall: Tensor,
    words: Linear,
    numbers: Linear,
    norm: LayerNorm,
    qformer: QFormer,
    projector: Linear,
}

impl Joiner {
    /// Takes the weights.
    ///
    /// # Errors
    /// [`Error::Weights`] if one is missing or has another shape; [`Error::Shape`] for sizes that do not go together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let dim = config.qformer.hidden_size;
        if config.qformer.encoder_width != dim {
            let reason = format!("the queries are {dim} wide and read {} wide tokens", config.qformer.encoder_width);
            return Err(Error::shape("joiner", reason));
        }
        if config.places == 0 || config.hints == 0 {
            return Err(Error::shape("joiner", "there must be at least one place and one hint"));
        }
        Ok(Self {
            features: Linear::load(&weights.pp("features"), config.encoder_width, dim)?,
            places: weights.tensor("places", &[config.places + config.hints * HINT_TOKENS, dim])?,
            overall: weights.tensor("overall", &[1, dim])?,
            words: Linear::load(&weights.pp("words"), config.output_width, dim)?,
            numbers: Linear::load(&weights.pp("numbers"), HINT_NUMBERS, dim)?,
            norm: LayerNorm::load(&weights.pp("norm"), dim, config.qformer.layer_norm_eps)?,
            qformer: QFormer::load(&config.qformer, weights)?,
            projector: Linear::load(&weights.pp("llama_proj"), dim, config.output_width)?,
            config: config.clone(),
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Embeddings for the language model, `[batch, queries, output_width]`.
    ///
    /// - `features`: `[batch, places, encoder_width]`
    /// - `words`: `[batch, hints · HINT_TOKENS, output_width]`, the language model's embeddings of each hint's kind and name
    /// - `numbers`: `[batch, hints, HINT_NUMBERS]`, see [`hint_numbers`]
    ///
    /// # Errors
    /// [`Error::Shape`] for inputs of another form.
    pub fn forward(&self, features: &Tensor, words: &Tensor, numbers: &Tensor) -> Result<Tensor> {
        let Config { places, encoder_width, hints, output_width, .. } = self.config;
        let dim = self.config.qformer.hidden_size;
        let batch = features.dims().first().copied().unwrap_or(0);
        let inputs = [
            ("features", features, [batch, places, encoder_width]),
            ("words", words, [batch, hints * HINT_TOKENS, output_width]),
            ("numbers", numbers, [batch, hints, HINT_NUMBERS]),
        ];
        for (name, tensor, expected) in inputs {
            if tensor.dims() != expected {
                return Err(Error::shape("joiner", format!("{name} of {:?}, not {expected:?}", tensor.dims())));
            }
        }
        let seen = self.features.forward(features)?; // [batch, places, dim]
        let overall = seen.reduce(Reduce::Mean, 1)?.reshape(&[batch, 1, dim])?.add(&self.overall)?; // [batch, 1, dim]
        let seen = seen.add(&self.places.narrow(0, 0, places)?)?;
        let numbers = self.numbers.forward(numbers)?.reshape(&[batch, hints, 1, dim])?;
        let numbers = numbers.broadcast_to(&[batch, hints, HINT_TOKENS, dim])?;
        // The surest hints come first, so their places are ranks.
        let hinted = self.words.forward(words)?.add(&numbers.reshape(&[batch, hints * HINT_TOKENS, dim])?)?;
        let hinted = hinted.add(&self.places.narrow(0, places, hints * HINT_TOKENS)?)?;
        let tokens = self.norm.forward(&Tensor::concat(&[&seen, &overall, &hinted], 1)?)?; // [batch, tokens, dim]
        self.projector.forward(&self.qformer.forward(&tokens)?)
    }
}

/// Which `count` of a sound's patches the joiner hears: all, or as many evenly spread; sounds that have fewer are
/// repeated from the start, as a loop would be heard.
pub fn spread(patches: usize, count: usize) -> Vec<u32> {
    let patches = patches.max(1);
    let at = |index: usize| if patches > count { index * patches / count } else { index % patches };
    (0..count).map(|index| at(index) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_become_numbers() {
        let hint =
            Hint { kind: "dog".into(), name: "pug".into(), score: 0.5, centre: [0.25, 0.75], size: [0.125, 0.0] };
        let numbers = hint_numbers(std::slice::from_ref(&hint), 2).expect("one hint fits");
        assert_eq!(numbers, [0.5, 0.25, 0.75, 0.125, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(hint_numbers(&[hint.clone(), hint], 1).is_err());
    }

    #[test]
    fn long_sounds_are_spread_and_short_ones_repeated() {
        assert_eq!(spread(3, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(spread(8, 4), [0, 2, 4, 6]);
    }
}
