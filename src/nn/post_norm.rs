//! What BERT and its relatives are made of: each part is followed by its residual and a norm.

use super::{LayerNorm, Linear, MultiHeadAttention, Weights};
use crate::error::Result;
use crate::tensor::{Tensor, Unary};

/// `norm(dense(attention(x, context)) + x)`.
///
/// Tensor names: `self.{query,key,value}`, `output.dense`, `output.LayerNorm`.
#[derive(Debug)]
pub struct AttentionBlock {
    attention: MultiHeadAttention,
    dense: Linear,
    norm: LayerNorm,
}

impl AttentionBlock {
    /// Loads an attention of `heads` heads over `dim` channels whose keys and values come from `context_dim` channels.
    ///
    /// # Errors
    /// As for [`MultiHeadAttention::load`].
    pub fn load(weights: &Weights, dim: usize, context_dim: usize, heads: usize, eps: f32) -> Result<Self> {
        let output = weights.pp("output");
        Ok(Self {
            attention: MultiHeadAttention::load(&weights.pp("self"), dim, context_dim, heads)?,
            dense: Linear::load(&output.pp("dense"), dim, dim)?,
            norm: LayerNorm::load(&output.pp("LayerNorm"), dim, eps)?,
        })
    }

    /// Lets `x` `[batch, seq, dim]` look at `context` `[batch, context_seq, context_dim]`: `[batch, seq, dim]`.
    ///
    /// # Errors
    /// As for [`MultiHeadAttention::forward`].
    pub fn forward(&self, x: &Tensor, context: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.norm.forward(&self.dense.forward(&self.attention.forward(x, context, mask)?)?.add(x)?)
    }
}

/// `norm(output(gelu(intermediate(x))) + x)`.
///
/// Tensor names: `dense` of one, `dense` and `LayerNorm` of the other.
#[derive(Debug)]
pub struct FeedForwardBlock {
    intermediate: Linear,
    output: Linear,
    norm: LayerNorm,
}

impl FeedForwardBlock {
    /// Loads a network of `dim` channels, and `inner` within it.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if a tensor is missing or has another shape.
    pub fn load(intermediate: &Weights, output: &Weights, dim: usize, inner: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            intermediate: Linear::load(&intermediate.pp("dense"), dim, inner)?,
            output: Linear::load(&output.pp("dense"), inner, dim)?,
            norm: LayerNorm::load(&output.pp("LayerNorm"), dim, eps)?,
        })
    }

    /// Maps `x` `[.., dim]` to the same shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let widened = self.intermediate.forward_with(x, Unary::Gelu)?;
        self.norm.forward(&self.output.forward(&widened)?.add(x)?)
    }
}
