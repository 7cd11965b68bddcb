//! EVA-CLIP's ViT-g/14: what BLIP-2 and BuboGPT see pictures with.
//!
//! Paper: Fang et al. 2022, EVA (arXiv 2211.07636); magic-research/bubogpt, bubogpt/models/eva_vit.py @ 17c72b5. Weight
//! names are those of `eva_vit_g.pth`; `ln_vision` is BLIP-2's. The checkpoint has a block more than the model, whose
//! output nobody uses; `depth` says how many are built (39 of 40).

use serde::Deserialize;

use super::{Features, ImageEncoder};
use crate::error::{Error, Result};
use crate::media::{ChannelScale, Filter, Fit, RgbImage};
use crate::nn::vit::{FusedAttention, FusedOrder, Mlp, PatchEmbedding, head_dim};
use crate::nn::{LayerNorm, Linear, Weights};
use crate::tensor::Tensor;

/// Sizes of the transformer.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Height and width of the input in pixels.
    pub img_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub num_heads: usize,
    /// Width inside the feed-forward network.
    pub mlp_hidden: usize,
    /// How an oblong picture becomes a square.
    #[serde(default)]
    pub fit: Fit,
    /// Added to the variance in the blocks' norms.
    #[serde(default = "small")]
    pub block_eps: f32,
    /// Added to the variance in the norm behind the blocks; Hugging Face's configuration says 1e-6.
    #[serde(default = "larger")]
    pub ln_vision_eps: f32,
}

fn small() -> f32 {
    1e-6
}

fn larger() -> f32 {
    1e-5
}

/// The transformer and the norm that BLIP-2 puts behind it.
#[derive(Debug)]
pub struct EvaVit {
    config: Config,
    patches: PatchEmbedding,
    class_token: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    ln_vision: LayerNorm,
}

/// What happens within a block, for comparison with the original.
#[derive(Debug)]
pub struct BlockStates {
    /// The attention's output before the residual, `[batch, 1 + patches, dim]`.
    pub attention: Tensor,
    /// The block's output.
    pub output: Tensor,
}

impl EvaVit {
    /// Takes the weights of `depth` blocks; further blocks of the checkpoint are not asked for.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go
    /// together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let Config { img_size, patch_size, embed_dim: dim, .. } = *config;
        head_dim(dim, config.num_heads)?;
        let patches = PatchEmbedding::load(&weights.pp("patch_embed").pp("proj"), dim, patch_size)?;
        let tokens = (img_size[0] / patch_size).saturating_mul(img_size[1] / patch_size).saturating_add(1);
        let blocks = weights.pp("blocks");
        Ok(Self {
            config: config.clone(),
            patches,
            class_token: weights.tensor("cls_token", &[1, 1, dim])?,
            positions: weights.tensor("pos_embed", &[1, tokens, dim])?,
            blocks: (0..config.depth).map(|at| Block::load(config, &blocks.pp(at))).collect::<Result<_>>()?,
            ln_vision: LayerNorm::load(&weights.pp("ln_vision"), dim, config.ln_vision_eps)?,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A picture as the network's input `[1, 3, side, side]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the network does not want a square.
    pub fn input(&self, image: &RgbImage) -> Result<Tensor> {
        let [height, width] = self.config.img_size;
        if height != width {
            return Err(Error::shape("eva_vit input", format!("pictures are squared, not made {height} × {width}")));
        }
        let square = image.squared(width, self.config.fit, Filter::Bicubic)?;
        Tensor::from_f32(&ChannelScale::CLIP.planes(&square), &[1, 3, height, width], &self.class_token.device())
    }

    /// Encodes normalised pictures `[batch, 3, height, width]`: what the Q-Former reads,
    /// `[batch, 1 + patches, dim]`, the class token first, then the patches row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the pictures have another size.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = self.embed(&self.patches(images)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?.output;
        }
        self.normalise(&x)
    }

    /// The norm behind the blocks, `[batch, 1 + patches, dim]` to the same.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tokens have another width.
    pub fn normalise(&self, tokens: &Tensor) -> Result<Tensor> {
        self.ln_vision.forward(tokens)
    }

    /// The projected patches `[batch, patches, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the pictures have another size.
    pub fn patches(&self, images: &Tensor) -> Result<Tensor> {
        let [batch, _, height, width] = images.dims_of("eva_vit input")?;
        if [height, width] != self.config.img_size {
            let reason = format!("{height} × {width} pixels, where {:?} are expected", self.config.img_size);
            return Err(Error::shape("eva_vit", reason));
        }
        let patches = self.patches.forward(images)?;
        let [_, rows, columns, dim] = patches.dims_of("eva_vit patches")?;
        patches.reshape(&[batch, rows * columns, dim]) // [batch, patches, dim]
    }

    /// Puts the class token in front of patches and adds the positions: `[batch, 1 + patches, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the patches have another form.
    pub fn embed(&self, patches: &Tensor) -> Result<Tensor> {
        let [batch, _, dim] = patches.dims_of("eva_vit patches")?;
        let class_token = self.class_token.broadcast_to(&[batch, 1, dim])?;
        Tensor::concat(&[&class_token, patches], 1)?.add(&self.positions) // [batch, 1 + patches, dim]
    }

    /// What happens to embedded tokens in every block.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tokens have another form.
    pub fn states(&self, embedded: &Tensor) -> Result<Vec<BlockStates>> {
        let mut states: Vec<BlockStates> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let x = states.last().map_or(embedded, |state| &state.output);
            states.push(block.forward(x)?);
        }
        Ok(states)
    }
}

impl ImageEncoder for EvaVit {
    fn encode(&self, image: &RgbImage) -> Result<Features> {
        Ok(Features { tokens: self.forward(&self.input(image)?)? })
    }
}

/// Attention and feed-forward network, each behind its norm and beside its residual (pre-norm).
#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    attention: FusedAttention,
    mlp_norm: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, eps) = (config.embed_dim, config.block_eps);
        Ok(Self {
            attention_norm: LayerNorm::load(&weights.pp("norm1"), dim, eps)?,
            attention: load_attention(&weights.pp("attn"), dim, config.num_heads)?,
            mlp_norm: LayerNorm::load(&weights.pp("norm2"), dim, eps)?,
            mlp: Mlp::load(&weights.pp("mlp"), ["fc1", "fc2"], dim, config.mlp_hidden)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<BlockStates> {
        let attention = self.attention.forward(&self.attention_norm.forward(x)?, None)?;
        let x = x.add(&attention)?;
        let output = x.add(&self.mlp.forward(&self.mlp_norm.forward(&x)?)?)?;
        Ok(BlockStates { attention, output })
    }
}

/// Queries and values have a bias, keys have none: theirs would shift all scores of a query alike, which the softmax
/// does not see.
fn load_attention(weights: &Weights, dim: usize, heads: usize) -> Result<FusedAttention> {
    let query_bias = weights.tensor("q_bias", &[dim])?;
    let none = Tensor::zeros(&[dim], &query_bias.device())?;
    let bias = Tensor::concat(&[&query_bias, &none, &weights.tensor("v_bias", &[dim])?], 0)?;
    let qkv = Linear::new(weights.matrix("qkv.weight", 3 * dim, dim)?, Some(bias));
    Ok(FusedAttention::new(qkv, Linear::load(&weights.pp("proj"), dim, dim)?, heads, FusedOrder::KindFirst))
}
