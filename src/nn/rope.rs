//! Rotary positions.

use crate::error::{Error, Result};
use crate::tensor::{Device, Tensor};

/// Cosines and sines of every position, for [`Tensor::rope`].
#[derive(Debug)]
pub struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
}

impl RotaryTable {
    /// Tables for heads of `dim` (even) numbers and `positions` places; `theta` is the base of the frequencies.
    ///
    /// Frequencies and angles are rounded to f32 as Hugging Face's do, since at position 8000 the rounding is seen.
    ///
    /// # Errors
    /// [`Error::Shape`] if `dim` is odd or 0.
    ///
    /// Source: transformers 4.46.3, models/llama/modeling_llama.py, `LlamaRotaryEmbedding`.
    pub fn new(dim: usize, positions: usize, theta: f32, device: &Device) -> Result<Self> {
        if dim == 0 || !dim.is_multiple_of(2) {
            return Err(Error::shape("rotary table", format!("heads of {dim} numbers cannot be halved")));
        }
        let half = dim / 2;
        let frequencies: Vec<f32> = (0..half).map(|i| 1.0 / theta.powf((2 * i) as f32 / dim as f32)).collect();
        let angles = || (0..positions).flat_map(|at| frequencies.iter().map(move |f| f64::from(at as f32 * f)));
        let cos: Vec<f32> = angles().map(|angle| angle.cos() as f32).collect();
        let sin: Vec<f32> = angles().map(|angle| angle.sin() as f32).collect();
        let dims = [positions, half];
        Ok(Self { cos: Tensor::from_f32(&cos, &dims, device)?, sin: Tensor::from_f32(&sin, &dims, device)? })
    }

    /// Turns `x` `[batch, heads, seq, dim]`, whose first place stands at position `start`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the table ends before the sequence or has another width.
    pub fn apply(&self, x: &Tensor, start: usize) -> Result<Tensor> {
        x.rope(&self.cos, &self.sin, start)
    }
}
