//! Sentence embeddings: all-MiniLM-L6-v2.
//!
//! A BERT of 6 layers, the mean over its tokens, unit length.
//! Source: sentence-transformers/all-MiniLM-L6-v2 (modules Transformer, Pooling(mean), Normalize).

use tokenizers::{Tokenizer, TruncationParams};

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::nn::bert::{Bert, Config, Visible};
use crate::tensor::{Reduce, Tensor};

/// Tokens that are read of a text; the model was trained on no more.
const TOKENS: usize = 256;

/// Turns texts into vectors whose dot product says how close their meanings are.
pub struct Embedder {
    bert: Bert,
    tokenizer: Tokenizer,
    dim: usize,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("dim", &self.dim).finish_non_exhaustive()
    }
}

impl Embedder {
    /// Loads the model, and the tokenizer from the bytes of its `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Weights`] as for [`Bert::load`]; [`Error::Corrupt`] if the tokenizer cannot be read.
    pub fn load(config: &Config, weights: &Weights, tokenizer_json: &[u8]) -> Result<Self> {
        let bert = Bert::load(config, weights)?;
        weights.finish()?;
        Ok(Self { bert, tokenizer: load_tokenizer(tokenizer_json, Some(TOKENS))?, dim: config.hidden_size })
    }

    /// Length of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Token ids of a text, with `[CLS]` and `[SEP]`, at most 256.
    ///
    /// # Errors
    /// [`Error::Input`] if the tokenizer refuses the text.
    pub fn token_ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, true);
        let encoding = encoding.map_err(|error| Error::Input(format!("the text cannot be tokenised: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Embeds texts in one batch: one vector of unit length each. Cosine similarity is their [`dot`] product.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.token_ids(text)).collect::<Result<_>>()?;
        let (batch, seq) = (tokens.len(), tokens.iter().map(Vec::len).max().unwrap_or(0));
        let mut ids = vec![0; batch * seq];
        let mut real = vec![false; batch * seq];
        // The share of each token in the mean of its text, 0 for padding.
        let mut share = vec![0.0; batch * seq];
        for (row, tokens) in tokens.iter().enumerate() {
            let range = row * seq..row * seq + tokens.len();
            ids[range.clone()].copy_from_slice(tokens);
            real[range.clone()].fill(true);
            share[range].fill(1.0 / tokens.len() as f32);
        }
        let hidden = self.bert.forward(&ids, batch, None, Visible::Keys(&real))?; // [batch, seq, dim]
        let share = Tensor::from_f32(&share, &[batch, seq, 1], &hidden.device())?;
        let means = hidden.mul(&share)?.reduce(Reduce::Sum, 1)?.to_f32().await?; // [batch, dim]
        Ok(means.chunks_exact(self.dim).map(normalized).collect())
    }
}

/// The same direction at length 1.
fn normalized(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    vector.iter().map(|x| x / length).collect()
}

/// Dot product: the cosine similarity of vectors of unit length, −1..1.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Reads a WordPiece `tokenizer.json`. Whatever padding and truncation it names, texts are not padded, and cut to
/// `max_tokens` (special ones included) if that is given.
///
/// # Errors
/// [`Error::Corrupt`] if it is not one.
pub fn load_tokenizer(json: &[u8], max_tokens: Option<usize>) -> Result<Tokenizer> {
    let damaged = |error: tokenizers::Error| Error::corrupt("WordPiece tokenizer", error.to_string());
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(damaged)?;
    tokenizer.with_padding(None);
    let truncation = max_tokens.map(|max_length| TruncationParams { max_length, ..TruncationParams::default() });
    tokenizer.with_truncation(truncation).map_err(damaged)?;
    Ok(tokenizer)
}
