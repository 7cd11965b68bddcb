//! What an engine must be able to do. [`Tensor`](super::Tensor) checks shapes once, for both engines, and then calls
//! these; so implementations may rely on the stated shapes and only fail for lack of memory or a lost device.
//!
//! Every tensor is dense and row-major towards its callers; an engine may keep views inside.

use super::{Attention, Binary, Conv2d, DType, Pool, Precision, Reduce, Resize, Unary};
use crate::bundle::QuantizedBlocks;
use crate::error::Result;

/// Operations on the tensors of one engine. See [`Tensor`](super::Tensor) for the meaning of each.
pub(crate) trait EngineTensor: Clone {
    /// Handle of the device on which tensors are made.
    type Device;
    /// A weight matrix, `[rows, cols]`, kept as the engine multiplies it fastest.
    type Matrix;
    /// A convolution's weights, kept as the engine applies them fastest.
    type Kernel;

    fn from_f32(data: &[f32], dims: &[usize], device: &Self::Device) -> Result<Self>;
    fn from_u32(data: &[u32], dims: &[usize], device: &Self::Device) -> Result<Self>;
    fn zeros(dims: &[usize], device: &Self::Device) -> Result<Self>;
    fn dims(&self) -> &[usize];
    fn dtype(&self) -> DType;
    async fn to_f32(&self) -> Result<Vec<f32>>;
    async fn to_u32(&self) -> Result<Vec<u32>>;

    fn reshape(&self, dims: &[usize]) -> Result<Self>;
    fn permute(&self, axes: &[usize]) -> Result<Self>;
    fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Self>;
    fn concat(tensors: &[&Self], axis: usize) -> Result<Self>;
    fn pad(&self, axis: usize, before: usize, after: usize) -> Result<Self>;
    fn broadcast_to(&self, dims: &[usize]) -> Result<Self>;
    /// `ids` is one-dimensional u32 and within range.
    fn index_select(&self, axis: usize, ids: &Self) -> Result<Self>;
    fn write_at(&self, source: &Self, axis: usize, start: usize) -> Result<()>;

    /// Operands are broadcast to `dims`, the common shape.
    fn binary(&self, other: &Self, op: Binary, dims: &[usize]) -> Result<Self>;
    fn affine(&self, scale: f32, shift: f32) -> Result<Self>;
    fn unary(&self, op: Unary) -> Result<Self>;
    /// Removes `axis`.
    fn reduce(&self, op: Reduce, axis: usize) -> Result<Self>;
    /// Of the last axis, which is removed; u32; the first of equals.
    fn argmax(&self) -> Result<Self>;
    /// Of the last axis, which becomes `count`; u32; largest first, the first of equals first.
    fn top_k(&self, count: usize) -> Result<Self>;
    fn softmax(&self) -> Result<Self>;
    fn layer_norm(&self, weight: &Self, bias: &Self, eps: f32) -> Result<Self>;
    fn rms_norm(&self, weight: &Self, eps: f32) -> Result<Self>;
    fn group_norm(&self, groups: usize, weight: &Self, bias: &Self, eps: f32) -> Result<Self>;

    /// `self` `[batch, m, k]`, `other` `[batch, k, n]` or, transposed, `[batch, n, k]`.
    fn matmul(&self, other: &Self, transposed: bool) -> Result<Self>;
    /// `key` and `value` may be [`kept`](Self::kept).
    fn attention(&self, key: &Self, value: &Self, options: &Attention<'_>, mask: Option<&Self>) -> Result<Self>;
    /// f32 in the form in which the engine keeps keys and values; in u32 words where that is another.
    fn kept(&self) -> Result<Self>;
    /// `self` `[seq, heads, dim]`, `locations` `[queries, heads, levels, points, 2]`, `shares` the same without the 2;
    /// the result is `[queries, heads, dim]`.
    fn deformable_attention(&self, levels: &[[usize; 2]], locations: &Self, shares: &Self) -> Result<Self>;
    fn rope(&self, cos: &Self, sin: &Self, start: usize) -> Result<Self>;

    fn dense_matrix(&self) -> Result<Self::Matrix>;
    fn quantized_matrix(blocks: QuantizedBlocks, device: &Self::Device) -> Result<Self::Matrix>;
    /// Changes how a quantised matrix meets activations, on engines that have a choice.
    fn set_precision(_matrix: &mut Self::Matrix, _precision: Precision) {}
    /// `self` `[.., cols]` times the matrix's transpose: `[.., rows]`.
    fn linear(&self, matrix: &Self::Matrix, bias: Option<&Self>, activation: Option<Unary>) -> Result<Self>;
    /// Rows of the matrix: `ids` `[n]` gives `[n, cols]`.
    fn embedding(matrix: &Self::Matrix, ids: &Self) -> Result<Self>;

    /// `weight` `[out, in / groups, kernel_height, kernel_width]`.
    fn kernel(weight: &Self, bias: Option<&Self>, options: &Conv2d) -> Result<Self::Kernel>;
    fn conv2d(&self, kernel: &Self::Kernel) -> Result<Self>;
    /// `weight` `[in, out, kernel_height, kernel_width]`; no padding, stride equal to the kernel.
    fn conv_transpose2d(&self, weight: &Self, bias: Option<&Self>, stride: usize) -> Result<Self>;
    fn pool2d(&self, options: &Pool) -> Result<Self>;
    /// `[batch, channels, height, width]` to the given height and width.
    fn resize(&self, height: usize, width: usize, mode: Resize) -> Result<Self>;
}
