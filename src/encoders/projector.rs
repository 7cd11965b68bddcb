//! What BuboGPT learns: a Q-Former and the linear layer behind it, from an encoder's features to embeddings of the
//! language model.
//!
//! Source: bubogpt @ 17c72b5, `multimodal_joiner`; sizes of the public checkpoint are 32 queries of 768 to 4096.

use serde::{Deserialize, Serialize};

use super::Features;
use super::qformer::{self, QFormer};
use crate::error::Result;
use crate::nn::{Linear, Weights};
use crate::tensor::Tensor;

/// Sizes of a projected Q-Former.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Config {
    /// The Q-Former's.
    #[serde(flatten)]
    pub qformer: qformer::Config,
    /// Width of the language model.
    pub projector_width: usize,
}

/// A Q-Former and its projector.
#[derive(Debug)]
pub struct ProjectedQFormer {
    qformer: QFormer,
    projector: Linear,
}

impl ProjectedQFormer {
    /// Loads the Q-Former's tensors and `projector.fc`.
    ///
    /// # Errors
    /// As for [`QFormer::load`].
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let projector = weights.pp("projector").pp("fc");
        Ok(Self {
            qformer: QFormer::load(&config.qformer, weights)?,
            projector: Linear::load(&projector, config.qformer.hidden_size, config.projector_width)?,
        })
    }

    /// What the queries read, before the projector: `[1, queries, hidden_size]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the features are those of another encoder.
    pub fn queries(&self, features: &Features) -> Result<Tensor> {
        self.qformer.forward(&features.tokens)
    }

    /// Embeddings for the language model, `[1, queries, projector_width]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the features are those of another encoder.
    pub fn forward(&self, features: &Features) -> Result<Tensor> {
        self.projector.forward(&self.queries(features)?)
    }
}
