//! The Q-Former: a few learned queries that read an encoder's features through cross-attention.
//!
//! BLIP-2's (Li et al. 2023, arXiv 2301.12597) for pictures, BuboGPT's own for sounds. Layers are BERT's, post-norm; only
//! the query stream is built, since no text enters here.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::{AttentionBlock, FeedForwardBlock, LayerNorm, Weights};
use crate::tensor::Tensor;

/// Sizes of a Q-Former; the keys are those of a BERT configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Config {
    /// Width of a query.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of each attention.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Number of learned queries: embeddings per picture or sound.
    pub num_query_token: usize,
    /// Width of the encoder's features.
    pub encoder_width: usize,
    /// Every how many layers the features are looked at, from layer 0 on.
    #[serde(default = "every_second")]
    pub cross_attention_freq: usize,
    /// Added to the variance in every layer norm.
    #[serde(default = "tiny")]
    pub layer_norm_eps: f32,
}

fn every_second() -> usize {
    2
}

fn tiny() -> f32 {
    1e-12
}

/// Learned queries and the layers that fill them.
#[derive(Debug)]
pub struct QFormer {
    queries: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

/// What happens within a layer, for comparison with the original.
#[derive(Debug)]
pub struct LayerStates {
    /// After the self-attention's norm, `[batch, queries, dim]`.
    pub self_attention: Tensor,
    /// After the cross-attention's norm, in layers that have one.
    pub cross_attention: Option<Tensor>,
    /// After the feed-forward network's norm.
    pub output: Tensor,
}

impl QFormer {
    /// Loads `query_tokens` and `Qformer.bert.…`; the text stream's tensors are not asked for.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go
    /// together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        if config.cross_attention_freq == 0 {
            return Err(Error::shape("qformer", "cross_attention_freq is 0; it counts layers from 1"));
        }
        let bert = weights.pp("Qformer").pp("bert");
        let layers = bert.pp("encoder").pp("layer");
        Ok(Self {
            queries: weights.tensor("query_tokens", &[1, config.num_query_token, config.hidden_size])?,
            // Queries have neither position nor token type, but the embeddings' norm does apply to them.
            norm: LayerNorm::load(&bert.pp("embeddings").pp("LayerNorm"), config.hidden_size, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(config, index, &layers.pp(index)))
                .collect::<Result<_>>()?,
        })
    }

    /// Reads features `[batch, tokens, encoder_width]` into `[batch, queries, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the features have another form.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let mut x = self.embed(features)?;
        for layer in &self.layers {
            x = layer.forward(&x, features)?.output;
        }
        Ok(x)
    }

    /// As [`forward`](Self::forward), with the embedded queries and what happened in every layer.
    ///
    /// # Errors
    /// [`Error::Shape`] if the features have another form.
    pub fn states(&self, features: &Tensor) -> Result<(Tensor, Vec<LayerStates>)> {
        let embedded = self.embed(features)?;
        let mut states: Vec<LayerStates> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let x = states.last().map_or(&embedded, |state| &state.output);
            states.push(layer.forward(x, features)?);
        }
        Ok((embedded, states))
    }

    fn embed(&self, features: &Tensor) -> Result<Tensor> {
        let [batch, _, _] = features.dims_of("qformer features")?;
        let [_, queries, dim] = self.queries.dims_of("qformer queries")?;
        self.norm.forward(&self.queries.broadcast_to(&[batch, queries, dim])?)
    }
}

/// Self-attention, cross-attention in some layers, the queries' own feed-forward network.
#[derive(Debug)]
struct Layer {
    attention: AttentionBlock,
    cross_attention: Option<AttentionBlock>,
    feed_forward: FeedForwardBlock,
}

impl Layer {
    fn load(config: &Config, index: usize, weights: &Weights) -> Result<Self> {
        let (dim, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let load = |name: &str, context_dim: usize| {
            AttentionBlock::load(&weights.pp(name), dim, context_dim, config.num_attention_heads, eps)
        };
        let crosses = index.is_multiple_of(config.cross_attention_freq);
        let cross = || load("crossattention", config.encoder_width);
        let (intermediate, output) = (weights.pp("intermediate_query"), weights.pp("output_query"));
        Ok(Self {
            attention: load("attention", dim)?,
            cross_attention: crosses.then(cross).transpose()?,
            feed_forward: FeedForwardBlock::load(&intermediate, &output, dim, inner, eps)?,
        })
    }

    fn forward(&self, x: &Tensor, features: &Tensor) -> Result<LayerStates> {
        let self_attention = self.attention.forward(x, x, None)?;
        let cross = self.cross_attention.as_ref();
        let cross_attention = cross.map(|cross| cross.forward(&self_attention, features, None)).transpose()?;
        let output = self.feed_forward.forward(cross_attention.as_ref().unwrap_or(&self_attention))?;
        Ok(LayerStates { self_attention, cross_attention, output })
    }
}
