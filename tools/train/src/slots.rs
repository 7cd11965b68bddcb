//! Stage 0: each query of a joiner learns to be a certain token of what is there, without the language model.
//!
//! Slots of a picture: for each of two things its kind (2 tokens), its name (4) and its place (1). Slots of what is heard:
//! for each of two sounds its source (2 tokens) and how it is said (4). What is not used says "nothing": a full stop.

use anyhow::{Context, Result};
use bubo::encoders::joiner::{KIND_TOKENS, NAME_TOKENS};
use bubo::language::{LanguageModel, Tokenizer};
use bubo::session::joining::{nothing, word_tokens};
use candle_core::{D, Device, Tensor};
use pollster::block_on;
use serde::{Deserialize, Serialize};

/// Slots of one thing in a picture.
pub const THING_SLOTS: usize = KIND_TOKENS + NAME_TOKENS + 1;
/// Slots of one sound.
pub const SOUND_SLOTS: usize = KIND_TOKENS + NAME_TOKENS;
/// Things in a picture, or sounds that are heard, that have slots.
pub const MOST_SAID: usize = 2;
/// Kinds count for more than names: who calls a poodle a dog is right.
const KIND_WEIGHT: f32 = 2.0;
/// Part of the squared distance in the loss.
const DISTANCE_SHARE: f64 = 0.5;
/// Divides products of embeddings, in units of their variance, to make logits of a likely range.
const SOFTNESS: f64 = 60.0;

/// What the slots of one thing or sound shall say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Kind or source.
    pub kind: String,
    /// Name or phrase.
    pub name: String,
    /// Of a thing: `on the left`, `in the middle`, `on the right`.
    pub place: Option<String>,
}

/// The tokens that slots can be, with their embeddings.
#[derive(Debug)]
pub struct Slots {
    /// Ids of the tokens in use, sorted.
    tokens: Vec<u32>,
    /// `[tokens, hidden_size]`
    table: Tensor,
    variance: f64,
    nothing: u32,
    /// Slots of one thing or sound.
    each: usize,
}

/// Token ids of the slots of one thing or sound.
///
/// # Errors
/// If the tokeniser refuses a text.
pub fn slot_tokens(tokenizer: &Tokenizer, said: Option<&Said>, with_place: bool, nothing: u32) -> Result<Vec<u32>> {
    let Some(said) = said else { return Ok(vec![nothing; SOUND_SLOTS + usize::from(with_place)]) };
    let mut ids = word_tokens(tokenizer, &said.kind, KIND_TOKENS, nothing)?;
    ids.extend(word_tokens(tokenizer, &said.name, NAME_TOKENS, nothing)?);
    if with_place {
        let place = said.place.as_deref().and_then(|place| place.rsplit(' ').next()).unwrap_or_default();
        ids.extend(word_tokens(tokenizer, place, 1, nothing)?);
    }
    Ok(ids)
}

impl Slots {
    /// All tokens that `targets` use.
    ///
    /// - `each`: slots of one thing or sound
    ///
    /// # Errors
    /// Those of the engine.
    pub fn new(model: &LanguageModel, targets: &[Vec<u32>], each: usize) -> Result<Self> {
        let nothing = nothing(&model.tokenizer)?;
        let mut tokens: Vec<u32> = targets.iter().flatten().copied().chain([nothing]).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let numbers = block_on(model.llama.embed(&tokens)?.to_f32())?;
        let variance = numbers.iter().map(|x| f64::from(x * x)).sum::<f64>() / numbers.len().max(1) as f64;
        let table = Tensor::from_vec(numbers, (tokens.len(), ()), &Device::Cpu)?;
        Ok(Self { tokens, table, variance, nothing, each })
    }

    fn index(&self, id: u32) -> Result<u32> {
        let at = self.tokens.binary_search(&id).ok().context("a target that is not among the slots' tokens")?;
        Ok(u32::try_from(at)?)
    }

    /// Logits over the tokens in use.
    fn logits(&self, embeddings: &Tensor) -> Result<Tensor> {
        let (batch, slots, width) = embeddings.dims3()?;
        let flat = embeddings.reshape((batch * slots, width))?;
        Ok((flat.matmul(&self.table.t()?)? / (SOFTNESS * self.variance))?)
    }

    /// Cross-entropy over the tokens in use plus squared distance.
    ///
    /// - `embeddings`: `[batch, slots, hidden_size]`
    /// - `targets`: token ids of every slot, for each of the batch
    ///
    /// # Errors
    /// If a target is not among the tokens in use.
    pub fn loss(&self, embeddings: &Tensor, targets: &[Vec<u32>]) -> Result<Tensor> {
        let ids = targets.iter().flatten().map(|id| self.index(*id)).collect::<Result<Vec<u32>>>()?;
        let weight = |at: usize| if at % self.each < KIND_TOKENS { KIND_WEIGHT } else { 1.0 };
        let weights: Vec<f32> = (0..ids.len()).map(weight).collect();
        let total: f32 = weights.iter().sum();
        let weights = Tensor::from_vec(weights, ids.len(), &Device::Cpu)?;
        let ids = Tensor::from_vec(ids.clone(), ids.len(), &Device::Cpu)?;
        let chances = candle_nn::ops::log_softmax(&self.logits(embeddings)?, D::Minus1)?;
        let chosen = chances.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?;
        let entropy = (chosen.mul(&weights)?.sum_all()?.neg()? / f64::from(total))?;
        let wanted = self.table.index_select(&ids, 0)?.reshape(embeddings.shape())?;
        let distance = ((embeddings - wanted)?.sqr()?.mean_all()? / self.variance)?;
        Ok((entropy + distance * DISTANCE_SHARE)?)
    }

    /// The likeliest token of every slot, for each of the batch.
    ///
    /// # Errors
    /// Those of the tensors.
    pub fn read_out(&self, embeddings: &Tensor) -> Result<Vec<Vec<u32>>> {
        let (_, slots, _) = embeddings.dims3()?;
        let best = self.logits(embeddings)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        Ok(best.chunks(slots).map(|row| row.iter().map(|at| self.tokens[*at as usize]).collect()).collect())
    }

    /// Deviation of the numbers of the tokens' embeddings from 0.
    pub fn deviation(&self) -> f32 {
        self.variance.sqrt() as f32
    }

    /// The token of an unused slot.
    pub fn nothing(&self) -> u32 {
        self.nothing
    }

    /// Shares of rows whose kind, name and place (of things) are all right, of the first thing or sound.
    pub fn hits(&self, found: &[Vec<u32>], targets: &[Vec<u32>]) -> Vec<(String, f64)> {
        let share = |from: usize, to: usize| {
            let right = found.iter().zip(targets).filter(|(found, target)| found.get(from..to) == target.get(from..to));
            right.count() as f64 / targets.len().max(1) as f64
        };
        let mut shares =
            vec![("kind".to_owned(), share(0, KIND_TOKENS)), ("name".to_owned(), share(KIND_TOKENS, SOUND_SLOTS))];
        if self.each == THING_SLOTS {
            shares.push(("place".to_owned(), share(SOUND_SLOTS, THING_SLOTS)));
        }
        shares
    }
}
