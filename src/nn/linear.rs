//! Linear layers and embeddings.

use std::rc::Rc;

use super::Weights;
use crate::error::Result;
use crate::tensor::{Matrix, Tensor, Unary};

/// `activation(x · weightᵀ + bias)`.
#[derive(Debug)]
pub struct Linear {
    weight: Rc<Matrix>,
    bias: Option<Tensor>,
}

impl Linear {
    /// Loads `weight` `[output, input]` and `bias` `[output]`.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if one is missing or has another shape.
    pub fn load(weights: &Weights, input: usize, output: usize) -> Result<Self> {
        let bias = Some(weights.tensor("bias", &[output])?);
        Ok(Self { weight: weights.matrix("weight", output, input)?, bias })
    }

    /// Loads `weight` `[output, input]` alone.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if it is missing or has another shape.
    pub fn load_without_bias(weights: &Weights, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: weights.matrix("weight", output, input)?, bias: None })
    }

    /// Makes a layer of weights at hand.
    pub fn new(weight: Rc<Matrix>, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `[.., input]` to `[.., output]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the last axis is not `input`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.linear(&self.weight, self.bias.as_ref(), None)
    }

    /// As [`forward`](Self::forward), with a function fused to the end.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the last axis is not `input`.
    pub fn forward_with(&self, x: &Tensor, activation: Unary) -> Result<Tensor> {
        x.linear(&self.weight, self.bias.as_ref(), Some(activation))
    }
}

/// A table of vectors, one a token.
#[derive(Debug)]
pub struct Embedding {
    table: Rc<Matrix>,
}

impl Embedding {
    /// Loads `weight` `[count, dim]`.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if it is missing or has another shape.
    pub fn load(weights: &Weights, count: usize, dim: usize) -> Result<Self> {
        Ok(Self { table: weights.matrix("weight", count, dim)? })
    }

    /// Vectors of `ids` (u32 `[n]`): `[n, dim]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] as for [`Tensor::embedding`].
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Tensor::embedding(&self.table, ids)
    }

    /// The table as a linear layer's weights, for heads that share it.
    pub fn table(&self) -> Rc<Matrix> {
        Rc::clone(&self.table)
    }
}
