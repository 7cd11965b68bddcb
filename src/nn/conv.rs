//! Convolutions.

use super::Weights;
use crate::error::Result;
use crate::tensor::{Conv2d, ConvKernel, Tensor, Unary};

/// Added to the variance in batch norms: PyTorch's default, which the models here keep.
const BATCH_NORM_EPS: f32 = 1e-5;

/// A convolution with its bias and activation.
#[derive(Debug)]
pub struct Conv {
    kernel: ConvKernel,
}

impl Conv {
    /// Loads `weight` `[output, input / groups, size, size]` and, if it exists, `bias` `[output]`.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if the weight is missing or one has another shape.
    pub fn load(weights: &Weights, input: usize, output: usize, size: usize, options: Conv2d) -> Result<Self> {
        let weight = weights.tensor("weight", &[output, input / options.groups.max(1), size, size])?;
        let bias = if weights.contains("bias") { Some(weights.tensor("bias", &[output])?) } else { None };
        Ok(Self { kernel: ConvKernel::new(&weight, bias.as_ref(), options)? })
    }

    /// As [`load`](Self::load), for models whose convolution always has a bias.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if one is missing or has another shape.
    pub fn load_with_bias(
        weights: &Weights,
        input: usize,
        output: usize,
        size: usize,
        options: Conv2d,
    ) -> Result<Self> {
        weights.tensor("bias", &[output])?;
        Self::load(weights, input, output, size, options)
    }

    /// Loads `convolution` as [`load`](Self::load) does, and folds into it the batch norm behind it, which has learnt its
    /// statistics: `norm` holds `weight`, `bias`, `running_mean` and `running_var`, each `[output]`.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if a tensor is missing or has another shape.
    pub fn load_normalised(
        convolution: &Weights,
        norm: &Weights,
        input: usize,
        output: usize,
        size: usize,
        options: Conv2d,
    ) -> Result<Self> {
        let weight = convolution.tensor("weight", &[output, input / options.groups.max(1), size, size])?;
        let of = |name| norm.tensor(name, &[output]);
        let deviation = of("running_var")?.affine(1.0, BATCH_NORM_EPS)?.unary(Unary::Sqrt)?;
        let scale = of("weight")?.div(&deviation)?;
        let bias = of("bias")?.sub(&of("running_mean")?.mul(&scale)?)?;
        let weight = weight.mul(&scale.reshape(&[output, 1, 1, 1])?)?;
        Ok(Self { kernel: ConvKernel::new(&weight, Some(&bias), options)? })
    }

    /// `[batch, input, height, width]` to `[batch, output, rows, columns]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the channels differ or the padded picture is smaller than the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.kernel)
    }
}
