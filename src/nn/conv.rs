//! Convolutions.

use super::Weights;
use crate::error::Result;
use crate::tensor::{Conv2d, ConvKernel, Tensor};

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

    /// `[batch, input, height, width]` to `[batch, output, rows, columns]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the channels differ or the padded picture is smaller than the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.kernel)
    }
}
