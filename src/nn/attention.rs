//! Multi-head attention as BERT and its relatives write it.

use super::{Linear, Weights};
use crate::error::{Error, Result};
use crate::tensor::{Attention, Tensor};

/// Projections to queries, keys and values, and the attention of all heads; the output's projection is the caller's.
///
/// Tensor names: `query`, `key`, `value`, each with weight and bias.
#[derive(Debug)]
pub struct MultiHeadAttention {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
}

impl MultiHeadAttention {
    /// Loads an attention of `heads` heads over `dim` channels whose keys and values come from `context_dim` channels.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] if the heads do not divide the
    /// width.
    pub fn load(weights: &Weights, dim: usize, context_dim: usize, heads: usize) -> Result<Self> {
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(Error::shape("attention", format!("{heads} heads do not divide the width {dim}")));
        }
        Ok(Self {
            heads,
            query: Linear::load(&weights.pp("query"), dim, dim)?,
            key: Linear::load(&weights.pp("key"), context_dim, dim)?,
            value: Linear::load(&weights.pp("value"), context_dim, dim)?,
        })
    }

    /// Lets `x` `[batch, seq, dim]` look at `context` `[batch, context_seq, context_dim]`: `[batch, seq, dim]`.
    ///
    /// - `mask`: added to the scaled dot products, see [`Attention::mask`]
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not go together.
    pub fn forward(&self, x: &Tensor, context: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let [batch, seq, dim] = x.dims_of("attention input")?;
        let [_, context_seq, _] = context.dims_of("attention context")?;
        let head_dim = dim / self.heads;
        let split = |projected: Tensor, seq: usize| -> Result<Tensor> {
            projected.reshape(&[batch, seq, self.heads, head_dim])?.transpose(1, 2) // [batch, heads, seq, head_dim]
        };
        let options =
            Attention { scale: (head_dim as f32).powf(-0.5), key_count: context_seq, causal_start: None, mask };
        let query = split(self.query.forward(x)?, seq)?;
        let key = split(self.key.forward(context)?, context_seq)?;
        let value = split(self.value.forward(context)?, context_seq)?;
        query.attention(&key, &value, &options)?.transpose(1, 2)?.reshape(&[batch, seq, dim]) // [batch, seq, dim]
    }
}
