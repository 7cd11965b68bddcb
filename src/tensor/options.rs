//! Options of the operations that have several.

use super::{Tensor, Unary};
use crate::error::{Error, Result};

/// Type of a tensor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// 32-bit floating point: all activations.
    F32,
    /// Unsigned 32-bit integers: token ids and indices.
    U32,
}

/// How activations meet the weights of a quantised matrix on the CPU. The GPU always takes f32 activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Activations as they are, against weights turned into f32 for every product: the oracle, and slow.
    Full,
    /// Activations as 16-bit integers with a scale for every 32: rounding of 2⁻¹⁶ of the block's largest. Moves
    /// log-probabilities of SmolLM2 by about a thousandth.
    #[default]
    Exact,
    /// Activations as 8-bit integers where the weights have 4 bits, as llama.cpp does; otherwise as `Exact`. About 1.4
    /// times as fast at reading a prompt, but it moves SmolLM2's log-probabilities by 0.045 on average.
    Fast,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient.
    Div,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

impl Binary {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Max => "max",
            Binary::Min => "min",
        }
    }
}

/// What becomes of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// Sum of all.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// Largest.
    Max,
    /// Smallest.
    Min,
}

/// Options of [`Tensor::attention`].
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Factor on the dot products, usually `dim^-½`.
    pub scale: f32,
    /// Keys in use, from the first on; the rest of a cache's capacity is not read.
    pub key_count: usize,
    /// Position of the first query: query i then sees the keys up to `causal_start + i`. `None`: all keys.
    pub causal_start: Option<usize>,
    /// Added to the scaled dot products; four axes that stretch to `[batch, heads, query_count, key_count]`;
    /// −∞ hides a key.
    pub mask: Option<&'a Tensor>,
}

/// Zeros (for a maximum: nothing) around a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all sides.
    pub fn all(pixels: usize) -> Self {
        Self { top: pixels, left: pixels, bottom: pixels, right: pixels }
    }

    /// TensorFlow's `SAME` for a picture of that size: `ceil(size / stride)` outputs, the odd pixel below and right.
    pub fn same(size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> Self {
        let total = |i: usize| {
            let outputs = size[i].div_ceil(stride[i].max(1));
            (outputs.saturating_sub(1) * stride[i] + kernel[i]).saturating_sub(size[i])
        };
        let (rows, columns) = (total(0), total(1));
        Self { top: rows / 2, left: columns / 2, bottom: rows.div_ceil(2), right: columns.div_ceil(2) }
    }
}

/// Options of a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2d {
    /// Step, rows and columns.
    pub stride: [usize; 2],
    /// Zeros around the picture.
    pub padding: Padding,
    /// Distance of the kernel's taps, rows and columns.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; equal to the channels for a depthwise convolution.
    pub groups: usize,
    /// Applied to the result.
    pub activation: Option<Unary>,
}

impl Default for Conv2d {
    /// Step 1, no padding, one group, no activation.
    fn default() -> Self {
        Self { stride: [1, 1], padding: Padding::default(), dilation: [1, 1], groups: 1, activation: None }
    }
}

/// Outputs along one axis: windows of `kernel` taps `dilation` apart that fit into the padded size.
pub(crate) fn window_count(
    operation: &'static str,
    size: usize,
    padding: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
) -> Result<usize> {
    let span = dilation * kernel.saturating_sub(1) + 1;
    if kernel == 0 || stride == 0 || dilation == 0 || size + padding < span {
        let reason = format!("kernel {kernel}, dilation {dilation}, stride {stride} on {size} + {padding} of padding");
        return Err(Error::shape(operation, reason));
    }
    Ok((size + padding - span) / stride + 1)
}

/// Which value of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest; padding does not count.
    Max,
    /// The mean of the pixels inside the picture; padding does not count.
    Mean,
}

/// Options of [`Tensor::pool2d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Which value of a window.
    pub kind: PoolKind,
    /// Window, rows and columns.
    pub kernel: [usize; 2],
    /// Step, rows and columns.
    pub stride: [usize; 2],
    /// Around the picture. Its right and bottom may be enlarged by the caller to get `ceil` rounding.
    pub padding: Padding,
}

impl Pool {
    /// Rows and columns of the result.
    ///
    /// # Errors
    /// [`Error::Shape`] if no window fits or a window would lie wholly in the padding.
    pub fn output_size(&self, height: usize, width: usize) -> Result<[usize; 2]> {
        let Padding { top, left, bottom, right } = self.padding;
        if [top, bottom].iter().any(|p| *p >= self.kernel[0]) || [left, right].iter().any(|p| *p >= self.kernel[1]) {
            return Err(Error::shape("pool2d", format!("padding {:?} for kernel {:?}", self.padding, self.kernel)));
        }
        Ok([
            window_count("pool2d", height, top + bottom, self.kernel[0], self.stride[0], 1)?,
            window_count("pool2d", width, left + right, self.kernel[1], self.stride[1], 1)?,
        ])
    }
}

/// How pixels between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// `floor(x · from / to)`.
    Nearest,
    /// Linear between pixel centres at half-integers (PyTorch's `align_corners=False`).
    Bilinear,
    /// Linear with the corner pixels' centres kept in place (PyTorch's `align_corners=True`).
    BilinearAlignCorners,
}
