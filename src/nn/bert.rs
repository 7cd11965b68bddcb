//! BERT's encoder: the trunk of the sentence embedder and of Grounding DINO's text side.
//!
//! Source: Devlin et al. 2019 (arXiv 1810.04805); tensor names as in Hugging Face's `BertModel`.

use serde::Deserialize;

use super::{AttentionBlock, Embedding, FeedForwardBlock, LayerNorm, Linear, Weights};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, Unary};

/// Sizes of a BERT; the keys are those of a Hugging Face `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Rows of the word table.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of each attention.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Rows of the position table: the longest sequence.
    pub max_position_embeddings: usize,
    /// Rows of the table of token types, of which only the first is used here.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to the variance in every layer norm.
    #[serde(default = "tiny")]
    pub layer_norm_eps: f32,
}

fn two() -> usize {
    2
}

fn tiny() -> f32 {
    1e-12
}

/// Which tokens a token may look at.
#[derive(Debug, Clone, Copy)]
pub enum Visible<'a> {
    /// Every token sees every other.
    All,
    /// `[batch, seq]` in row-major order: tokens that all others see; the rest is padding.
    Keys(&'a [bool]),
    /// `[batch, seq, seq]` in row-major order: query, then key. Grounding DINO's blocks of a caption.
    Pairs(&'a [bool]),
}

/// The encoder with its embeddings.
#[derive(Debug)]
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    first_token_type: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Option<Linear>,
    max_position_embeddings: usize,
}

impl Bert {
    /// Loads all layers; the pooler only if it is there.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] if the heads do not divide
    /// the width.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let dim = config.hidden_size;
        let embeddings = weights.pp("embeddings");
        let token_types = embeddings.tensor("token_type_embeddings.weight", &[config.type_vocab_size, dim])?;
        let layers = weights.pp("encoder").pp("layer");
        let pooler = weights.pp("pooler").pp("dense");
        Ok(Self {
            words: Embedding::load(&embeddings.pp("word_embeddings"), config.vocab_size, dim)?,
            positions: Embedding::load(&embeddings.pp("position_embeddings"), config.max_position_embeddings, dim)?,
            first_token_type: token_types.narrow(0, 0, 1)?.reshape(&[dim])?,
            norm: LayerNorm::load(&embeddings.pp("LayerNorm"), dim, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(config, &layers.pp(index)))
                .collect::<Result<_>>()?,
            pooler: if pooler.contains("weight") { Some(Linear::load(&pooler, dim, dim)?) } else { None },
            max_position_embeddings: config.max_position_embeddings,
        })
    }

    /// Encodes token ids.
    ///
    /// - `ids`: `batch · seq` token ids in row-major order
    /// - `position_ids`: the same number of places in the position table; `None` counts from 0 in each row
    ///
    /// Returns `[batch, seq, dim]`.
    ///
    /// # Errors
    /// As for [`hidden_states`](Self::hidden_states).
    pub fn forward(
        &self,
        ids: &[u32],
        batch: usize,
        position_ids: Option<&[u32]>,
        visible: Visible<'_>,
    ) -> Result<Tensor> {
        let mut x = self.embed(ids, batch, position_ids)?;
        let mask = self.mask(visible, batch, ids.len() / batch)?;
        for layer in &self.layers {
            x = layer.forward(&x, mask.as_ref())?;
        }
        Ok(x)
    }

    /// As [`forward`](Self::forward), with every layer's result: the embeddings first, the last layer at the end.
    ///
    /// # Errors
    /// [`Error::Shape`] if the counts do not go together or the sequence is longer than the position table;
    /// on the CPU also for an id outside of the word table.
    pub fn hidden_states(
        &self,
        ids: &[u32],
        batch: usize,
        position_ids: Option<&[u32]>,
        visible: Visible<'_>,
    ) -> Result<Vec<Tensor>> {
        let mut states = vec![self.embed(ids, batch, position_ids)?];
        let mask = self.mask(visible, batch, ids.len() / batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            states.push(layer.forward(&states[index], mask.as_ref())?);
        }
        Ok(states)
    }

    /// The first token through the pooler, `[batch, seq, dim]` to `[batch, dim]`; `None` without a pooler.
    ///
    /// # Errors
    /// [`Error::Shape`] if the input has another form.
    pub fn pool(&self, hidden: &Tensor) -> Result<Option<Tensor>> {
        let [batch, _, dim] = hidden.dims_of("bert pooler")?;
        let Some(pooler) = &self.pooler else { return Ok(None) };
        let first = hidden.narrow(1, 0, 1)?.reshape(&[batch, dim])?; // [batch, dim]
        Ok(Some(pooler.forward_with(&first, Unary::Tanh)?))
    }

    fn embed(&self, ids: &[u32], batch: usize, position_ids: Option<&[u32]>) -> Result<Tensor> {
        let seq = ids.len().checked_div(batch).unwrap_or(0);
        let limit = self.max_position_embeddings;
        if seq == 0 || seq * batch != ids.len() || position_ids.is_some_and(|places| places.len() != ids.len()) {
            let places = position_ids.map(<[u32]>::len);
            return Err(Error::shape("bert", format!("{} ids, batch {batch}, {places:?} positions", ids.len())));
        }
        let counted: Vec<u32>;
        let places = match position_ids {
            Some(places) => places,
            None => {
                counted = (0..batch).flat_map(|_| (0..seq).map(|place| place as u32)).collect();
                &counted
            }
        };
        if let Some(place) = places.iter().find(|place| **place as usize >= limit) {
            return Err(Error::shape("bert", format!("position {place}, where the table ends at {limit}")));
        }
        let device = self.first_token_type.device();
        let words = self.words.forward(&Tensor::from_u32(ids, &[ids.len()], &device)?)?;
        let positions = self.positions.forward(&Tensor::from_u32(places, &[places.len()], &device)?)?;
        let sum = words.add(&positions)?.add(&self.first_token_type)?;
        let dim = self.first_token_type.element_count();
        self.norm.forward(&sum)?.reshape(&[batch, seq, dim]) // [batch, seq, dim]
    }

    /// What is added to the scaled dot products: 0 where a token may look, −∞ elsewhere.
    fn mask(&self, visible: Visible<'_>, batch: usize, seq: usize) -> Result<Option<Tensor>> {
        let (flags, dims) = match visible {
            Visible::All => return Ok(None),
            Visible::Keys(flags) => (flags, [batch, 1, 1, seq]),
            Visible::Pairs(flags) => (flags, [batch, 1, seq, seq]),
        };
        let added: Vec<f32> = flags.iter().map(|visible| if *visible { 0.0 } else { f32::NEG_INFINITY }).collect();
        Tensor::from_f32(&added, &dims, &self.first_token_type.device()).map(Some)
    }
}

/// Self-attention and feed-forward network.
#[derive(Debug)]
struct Layer {
    attention: AttentionBlock,
    feed_forward: FeedForwardBlock,
}

impl Layer {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let heads = config.num_attention_heads;
        let (intermediate, output) = (weights.pp("intermediate"), weights.pp("output"));
        Ok(Self {
            attention: AttentionBlock::load(&weights.pp("attention"), dim, dim, heads, eps)?,
            feed_forward: FeedForwardBlock::load(&intermediate, &output, dim, inner, eps)?,
        })
    }

    fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.feed_forward.forward(&self.attention.forward(x, x, mask)?)
    }
}
