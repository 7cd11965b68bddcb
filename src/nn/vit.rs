//! Pieces of vision transformers that several models share: patches, fused attention, windows, feed-forward network.
//!
//! Source: Dosovitskiy et al. 2020 (arXiv 2010.11929); windows as in Li et al. 2022 (arXiv 2203.16527), ViTDet.

use super::{Conv, Linear, Weights};
use crate::error::{Error, Result};
use crate::tensor::{Attention, Conv2d, Tensor, Unary};

/// Cuts a picture into square patches and projects each.
#[derive(Debug)]
pub struct PatchEmbedding {
    projection: Conv,
}

impl PatchEmbedding {
    /// Loads `weight` `[dim, 3, side, side]` and `bias` `[dim]`; the convolution steps by its own size.
    ///
    /// # Errors
    /// [`Error::Weights`] if one is missing or has another shape; [`Error::Shape`] for patches without pixels.
    pub fn load(weights: &Weights, dim: usize, side_px: usize) -> Result<Self> {
        if side_px == 0 {
            return Err(Error::shape("patch embedding", "patches of 0 pixels"));
        }
        let options = Conv2d { stride: [side_px; 2], ..Conv2d::default() };
        Ok(Self { projection: Conv::load_with_bias(weights, 3, dim, side_px, options)? })
    }

    /// `[batch, 3, height, width]` to `[batch, rows, columns, dim]`; pixels beyond the last whole patch do not count.
    ///
    /// # Errors
    /// [`Error::Shape`] if the picture is smaller than a patch.
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        self.projection.forward(image)?.permute(&[0, 2, 3, 1]) // [batch, rows, columns, dim]
    }
}

/// In which order the rows of a fused query, key and value matrix stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusedOrder {
    /// Queries of all heads, then keys of all heads, then values: timm, SAM, EVA.
    KindFirst,
    /// Query, key and value of the first head, then those of the next: TinyViT.
    HeadFirst,
}

/// Self-attention whose projections to queries, keys and values are one matrix.
#[derive(Debug)]
pub struct FusedAttention {
    heads: usize,
    order: FusedOrder,
    qkv: Linear,
    projection: Linear,
}

/// Queries, keys and values, each `[batch, heads, seq, head_dim]`.
#[derive(Debug)]
pub struct Projected {
    /// What each place asks for, not yet scaled.
    pub query: Tensor,
    /// What each place is found by.
    pub key: Tensor,
    /// What each place tells.
    pub value: Tensor,
}

impl FusedAttention {
    /// Takes layers at hand: `qkv` from `dim` to `3 · dim`, `projection` from `dim` to `dim`.
    pub fn new(qkv: Linear, projection: Linear, heads: usize, order: FusedOrder) -> Self {
        Self { heads, order, qkv, projection }
    }

    /// Loads `qkv` and `proj`, each with weight and bias.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; those of [`head_dim`].
    pub fn load(weights: &Weights, dim: usize, heads: usize, order: FusedOrder) -> Result<Self> {
        head_dim(dim, heads)?;
        let qkv = Linear::load(&weights.pp("qkv"), dim, 3 * dim)?;
        Ok(Self::new(qkv, Linear::load(&weights.pp("proj"), dim, dim)?, heads, order))
    }

    /// `[batch, seq, dim]` to queries, keys and values by head.
    ///
    /// # Errors
    /// [`Error::Shape`] if the input has another width.
    pub fn project(&self, x: &Tensor) -> Result<Projected> {
        let [batch, seq, dim] = x.dims_of("attention input")?;
        let (heads, head_dim) = (self.heads, head_dim(dim, self.heads)?);
        let fused = self.qkv.forward(x)?;
        let fused = match self.order {
            FusedOrder::KindFirst => fused.reshape(&[batch, seq, 3, heads, head_dim])?.permute(&[2, 0, 3, 1, 4])?,
            FusedOrder::HeadFirst => fused.reshape(&[batch, seq, heads, 3, head_dim])?.permute(&[3, 0, 2, 1, 4])?,
        }; // [3, batch, heads, seq, head_dim]
        let part = |at| fused.narrow(0, at, 1)?.reshape(&[batch, heads, seq, head_dim]);
        Ok(Projected { query: part(0)?, key: part(1)?, value: part(2)? })
    }

    /// Puts what the heads found `[batch, heads, seq, head_dim]` side by side and projects it: `[batch, seq, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the heads have another form.
    pub fn join(&self, attended: &Tensor) -> Result<Tensor> {
        let [batch, heads, seq, head_dim] = attended.dims_of("attention heads")?;
        let joined = attended.transpose(1, 2)?.reshape(&[batch, seq, heads * head_dim])?; // [batch, seq, dim]
        self.projection.forward(&joined)
    }

    /// Lets all places of `x` `[batch, seq, dim]` see each other: `[batch, seq, dim]`.
    ///
    /// - `mask`: added to the scaled dot products, see [`Attention::mask`]
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not go together.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let Projected { query, key, value } = self.project(x)?;
        let [_, _, seq, head_dim] = query.dims_of("attention query")?;
        let options = Attention { scale: (head_dim as f32).powf(-0.5), key_count: seq, causal_start: None, mask };
        self.join(&query.attention(&key, &value, &options)?)
    }
}

/// Numbers a head.
///
/// # Errors
/// [`Error::Shape`] if the heads do not divide the width.
pub fn head_dim(dim: usize, heads: usize) -> Result<usize> {
    if heads == 0 || !dim.is_multiple_of(heads) {
        return Err(Error::shape("attention", format!("{heads} heads do not divide the width {dim}")));
    }
    Ok(dim / heads)
}

/// Two linear layers with GELU (by the error function) between them.
#[derive(Debug)]
pub struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    /// Loads the layers of these names, `[hidden, dim]` and `[dim, hidden]`, with their biases.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape.
    pub fn load(weights: &Weights, names: [&str; 2], dim: usize, hidden: usize) -> Result<Self> {
        Ok(Self {
            first: Linear::load(&weights.pp(names[0]), dim, hidden)?,
            second: Linear::load(&weights.pp(names[1]), hidden, dim)?,
        })
    }

    /// `[.., dim]` to the same.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis is not `dim`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward_with(x, Unary::Gelu)?)
    }
}

/// Cuts maps `[batch, height, width, dim]` into squares of `side` places, with zeros to the right and below where they
/// do not come out even: `[batch · windows, side, side, dim]`, windows row by row.
///
/// # Errors
/// [`Error::Shape`] for a side of 0.
pub fn windows_of(maps: &Tensor, side: usize) -> Result<Tensor> {
    let [batch, height, width, dim] = maps.dims_of("windows")?;
    if side == 0 {
        return Err(Error::shape("windows", "windows of 0 places"));
    }
    let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
    let padded = maps.pad(1, 0, rows * side - height)?.pad(2, 0, columns * side - width)?;
    let cut = padded.reshape(&[batch, rows, side, columns, side, dim])?.permute(&[0, 1, 3, 2, 4, 5])?;
    cut.reshape(&[batch * rows * columns, side, side, dim]) // [batch · windows, side, side, dim]
}

/// Puts windows of [`windows_of`] together again and cuts off what was added: `[batch, height, width, dim]`.
///
/// # Errors
/// [`Error::Shape`] if the windows are not those of such maps.
pub fn maps_of(windows: &Tensor, [batch, height, width]: [usize; 3]) -> Result<Tensor> {
    let [_, side, _, dim] = windows.dims_of("windows")?;
    if side == 0 {
        return Err(Error::shape("windows", "windows of 0 places"));
    }
    let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
    let laid = windows.reshape(&[batch, rows, columns, side, side, dim])?.permute(&[0, 1, 3, 2, 4, 5])?;
    let padded = laid.reshape(&[batch, rows * side, columns * side, dim])?;
    padded.narrow(1, 0, height)?.narrow(2, 0, width) // [batch, height, width, dim]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    #[test]
    fn windows_go_together_again() -> Result<()> {
        for (batch, height, width, side) in [(1, 1, 1, 3), (2, 7, 5, 3), (1, 6, 4, 2), (2, 3, 3, 3)] {
            let count = batch * height * width * 2;
            let numbers: Vec<f32> = (1..=count).map(|number| number as f32).collect();
            let maps = Tensor::from_f32(&numbers, &[batch, height, width, 2], &Device::Cpu)?;
            let windows = windows_of(&maps, side)?;
            let expected = batch * height.div_ceil(side) * width.div_ceil(side);
            assert_eq!(windows.dims(), [expected, side, side, 2]);
            let again = maps_of(&windows, [batch, height, width])?;
            assert_eq!(pollster::block_on(again.to_f32())?, numbers);
        }
        Ok(())
    }

    #[test]
    fn windows_lie_row_by_row_and_end_in_zeros() -> Result<()> {
        let numbers: Vec<f32> = (1..=6).map(|number| number as f32).collect();
        let windows = windows_of(&Tensor::from_f32(&numbers, &[1, 2, 3, 1], &Device::Cpu)?, 2)?;
        assert_eq!(pollster::block_on(windows.to_f32())?, [1.0, 2.0, 4.0, 5.0, 3.0, 0.0, 6.0, 0.0]);
        assert!(windows_of(&windows, 0).is_err() && maps_of(&windows, [1, 5, 5]).is_err());
        Ok(())
    }
}
