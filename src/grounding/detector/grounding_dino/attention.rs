//! Attention as PyTorch keeps it, and small stacks of linear layers.

use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Weights};
use crate::tensor::{Attention, Tensor, Unary};

/// Added to the variance in every layer norm but the text side's.
pub(super) const EPS: f32 = 1e-5;

/// Rows that pass through a feed-forward network at a time: a picture has 22,000 tokens, and 2048 numbers for each
/// would be more than a GPU binds at once.
const ROWS: usize = 8192;

/// Brings `[seq, dim]` to `[1, heads, seq, dim / heads]`.
pub(super) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let [seq, dim] = x.dims_of("attention heads")?;
    x.reshape(&[1, seq, heads, dim / heads])?.transpose(1, 2) // [1, heads, seq, head_dim]
}

/// The way back from `[1, heads, seq, dim / heads]`.
pub(super) fn join_heads(x: &Tensor) -> Result<Tensor> {
    let [_, heads, seq, head_dim] = x.dims_of("attention heads")?;
    x.transpose(1, 2)?.reshape(&[seq, heads * head_dim]) // [seq, dim]
}

/// PyTorch's `MultiheadAttention`, whose three projections are one matrix.
#[derive(Debug)]
pub(super) struct FusedAttention {
    heads: usize,
    dim: usize,
    in_proj: Linear,
    out_proj: Linear,
}

impl FusedAttention {
    pub(super) fn load(dim: usize, heads: usize, weights: &Weights) -> Result<Self> {
        let bias = weights.tensor("in_proj_bias", &[3 * dim])?;
        let in_proj = Linear::new(weights.matrix("in_proj_weight", 3 * dim, dim)?, Some(bias));
        Ok(Self { heads, dim, in_proj, out_proj: Linear::load(&weights.pp("out_proj"), dim, dim)? })
    }

    /// All `[seq, dim]`; the mask is added to the scaled scores. Every input passes through the whole matrix, of which a
    /// part is used: a quantised matrix cannot be cut, and the sequences here are short.
    pub(super) fn forward(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let part = |x: &Tensor, index: usize| -> Result<Tensor> {
            split_heads(&self.in_proj.forward(x)?.narrow(1, index * self.dim, self.dim)?, self.heads)
        };
        let [key_count, _] = key.dims_of("attention keys")?;
        let scale = ((self.dim / self.heads) as f32).powf(-0.5);
        let options = Attention { scale, key_count, causal_start: None, mask };
        let attended = part(query, 0)?.attention(&part(key, 1)?, &part(value, 2)?, &options)?;
        self.out_proj.forward(&join_heads(&attended)?)
    }
}

/// Two linear layers with a rectifier between them, their residual and the norm behind.
#[derive(Debug)]
pub(super) struct FeedForward {
    linear1: Linear,
    linear2: Linear,
    norm: LayerNorm,
}

impl FeedForward {
    pub(super) fn load(dim: usize, inner: usize, norm: &str, weights: &Weights) -> Result<Self> {
        Ok(Self {
            linear1: Linear::load(&weights.pp("linear1"), dim, inner)?,
            linear2: Linear::load(&weights.pp("linear2"), inner, dim)?,
            norm: LayerNorm::load(&weights.pp(norm), dim, EPS)?,
        })
    }

    /// `[seq, dim]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [seq, _] = x.dims_of("feed-forward")?;
        let through = |x: &Tensor| self.linear2.forward(&self.linear1.forward_with(x, Unary::Relu)?);
        let pieces = (0..seq).step_by(ROWS).map(|at| through(&x.narrow(0, at, ROWS.min(seq - at))?));
        let pieces = pieces.collect::<Result<Vec<_>>>()?;
        let delta = Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 0)?;
        self.norm.forward(&x.add(&delta)?)
    }
}

/// Linear layers with rectifiers between them.
#[derive(Debug)]
pub(super) struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Loads layers of these widths, the input's first.
    pub(super) fn load(widths: &[usize], weights: &Weights) -> Result<Self> {
        let layers = weights.pp("layers");
        let layer = |(index, pair): (usize, &[usize])| Linear::load(&layers.pp(index), pair[0], pair[1]);
        Ok(Self { layers: widths.windows(2).enumerate().map(layer).collect::<Result<_>>()? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let is_last = index + 1 == self.layers.len();
            x = if is_last { layer.forward(&x)? } else { layer.forward_with(&x, Unary::Relu)? };
        }
        Ok(x)
    }
}
