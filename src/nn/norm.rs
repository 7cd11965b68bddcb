//! Normalisation along the last axis.

use super::Weights;
use crate::error::Result;
use crate::tensor::Tensor;

/// Layer norm with weight and bias.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, `[dim]`.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if one is missing or has another shape.
    pub fn load(weights: &Weights, dim: usize, eps: f32) -> Result<Self> {
        Ok(Self { weight: weights.tensor("weight", &[dim])?, bias: weights.tensor("bias", &[dim])?, eps })
    }

    /// `[.., dim]` to the same.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the last axis is not `dim`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.layer_norm(&self.weight, &self.bias, self.eps)
    }

    /// The same over the channels of each pixel, `[batch, dim, height, width]`: what SAM calls `LayerNorm2d`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if there are not `dim` channels.
    pub fn forward_maps(&self, x: &Tensor) -> Result<Tensor> {
        x.dims_of::<4>("layer norm of maps")?;
        self.forward(&x.permute(&[0, 2, 3, 1])?)?.permute(&[0, 3, 1, 2]) // [batch, dim, height, width]
    }
}

/// Root-mean-square norm with weight.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// Loads `weight`, `[dim]`.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if it is missing or has another shape.
    pub fn load(weights: &Weights, dim: usize, eps: f32) -> Result<Self> {
        Ok(Self { weight: weights.tensor("weight", &[dim])?, eps })
    }

    /// `[.., dim]` to the same.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the last axis is not `dim`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.rms_norm(&self.weight, self.eps)
    }
}
