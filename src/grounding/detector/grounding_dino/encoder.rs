//! Layers in which picture and caption look at each other, and each at itself.

use super::Config;
use super::attention::{EPS, FeedForward, FusedAttention, join_heads, split_heads};
use super::deformable::{DeformableAttention, Reference};
use super::picture::Features;
use super::positions::{TEMPERATURE, waves};
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Tap, Weights};
use crate::tensor::{Attention, Tensor};

/// A caption on its way through the layers.
#[derive(Debug)]
pub(super) struct Text {
    /// `[tokens, dim]`.
    pub(super) tokens: Tensor,
    /// `[tokens, dim]`: where each token stands in its block.
    positions: Tensor,
    /// `[1, 1, tokens, tokens]`: 0 where a token may look, −∞ elsewhere.
    mask: Tensor,
}

impl Text {
    /// `tokens` `[tokens, dim]` with their places within blocks and `visible` `[tokens, tokens]`, row by row.
    pub(super) fn new(tokens: Tensor, places: &[u32], visible: &[bool]) -> Result<Self> {
        let ([count, dim], device) = (tokens.dims_of("caption")?, tokens.device());
        let places: Vec<f32> = places.iter().map(|place| *place as f32).collect();
        let mask: Vec<f32> = visible.iter().map(|sees| if *sees { 0.0 } else { f32::NEG_INFINITY }).collect();
        Ok(Self {
            tokens,
            positions: Tensor::from_f32(&waves(&places, dim, TEMPERATURE), &[count, dim], &device)?,
            mask: Tensor::from_f32(&mask, &[1, 1, count, count], &device)?,
        })
    }
}

/// All layers.
#[derive(Debug)]
pub(super) struct Encoder {
    layers: Vec<(Fusion, TextLayer, PictureLayer)>,
}

impl Encoder {
    pub(super) fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let layer = |index: usize| -> Result<_> {
            Ok((
                Fusion::load(config, &weights.pp("fusion_layers").pp(index))?,
                TextLayer::load(config, &weights.pp("text_layers").pp(index))?,
                PictureLayer::load(config, &weights.pp("layers").pp(index))?,
            ))
        };
        Ok(Self { layers: (0..config.enc_layers).map(layer).collect::<Result<_>>()? })
    }

    /// Changes `text` and returns the picture's memory, `[tokens, dim]`.
    pub(super) fn forward(&self, features: &Features, text: &mut Text, tap: &mut Tap<'_>) -> Result<Tensor> {
        let mut memory = features.tokens.clone();
        for (index, (fusion, text_layer, picture_layer)) in self.layers.iter().enumerate() {
            (memory, text.tokens) = fusion.forward(&memory, &text.tokens)?;
            tap(&format!("enc{index}.fusion_v"), &memory);
            tap(&format!("enc{index}.fusion_l"), &text.tokens);
            text.tokens = text_layer.forward(text)?;
            tap(&format!("enc{index}.text"), &text.tokens);
            memory = picture_layer.forward(&memory, features)?;
            tap(&format!("enc{index}.memory"), &memory);
        }
        Ok(memory)
    }
}

/// Attention between picture and caption in both directions, over the same scores.
///
/// The original subtracts the largest of all scores and cuts what is then below −50000, which changes nothing but where
/// float16 would overflow; here the softmax of each direction does that.
///
/// Source: models/GroundingDINO/fuse_modules.py (`BiAttentionBlock`).
#[derive(Debug)]
struct Fusion {
    heads: usize,
    norm_v: LayerNorm,
    norm_l: LayerNorm,
    v_proj: Linear,
    l_proj: Linear,
    values_v_proj: Linear,
    values_l_proj: Linear,
    out_v_proj: Linear,
    out_l_proj: Linear,
    gamma_v: Tensor,
    gamma_l: Tensor,
}

impl Fusion {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, inner, attention) = (config.hidden_dim, config.fusion_dim(), weights.pp("attn"));
        let inward = |name: &str| Linear::load(&attention.pp(name), dim, inner);
        let outward = |name: &str| Linear::load(&attention.pp(name), inner, dim);
        Ok(Self {
            heads: config.fusion_heads(),
            norm_v: LayerNorm::load(&weights.pp("layer_norm_v"), dim, EPS)?,
            norm_l: LayerNorm::load(&weights.pp("layer_norm_l"), dim, EPS)?,
            v_proj: inward("v_proj")?,
            l_proj: inward("l_proj")?,
            values_v_proj: inward("values_v_proj")?,
            values_l_proj: inward("values_l_proj")?,
            out_v_proj: outward("out_v_proj")?,
            out_l_proj: outward("out_l_proj")?,
            gamma_v: weights.tensor("gamma_v", &[dim])?,
            gamma_l: weights.tensor("gamma_l", &[dim])?,
        })
    }

    /// Picture `[tokens, dim]` and caption `[words, dim]` to the same.
    fn forward(&self, picture: &Tensor, caption: &Tensor) -> Result<(Tensor, Tensor)> {
        // The normalised streams replace the streams, also as residuals.
        let (picture, caption) = (self.norm_v.forward(picture)?, self.norm_l.forward(caption)?);
        let split = |projection: &Linear, x: &Tensor| split_heads(&projection.forward(x)?, self.heads);
        let (v, l) = (split(&self.v_proj, &picture)?, split(&self.l_proj, &caption)?);
        let attend = |query: &Tensor, key: &Tensor, value: &Tensor| -> Result<Tensor> {
            let [_, _, key_count, dim] = key.dims_of("fusion keys")?;
            let scale = (dim as f32).powf(-0.5);
            let options = Attention { scale, key_count, causal_start: None, mask: None };
            join_heads(&query.attention(key, value, &options)?)
        };
        let from_caption = attend(&v, &l, &split(&self.values_l_proj, &caption)?)?;
        let from_picture = attend(&l, &v, &split(&self.values_v_proj, &picture)?)?;
        let delta_v = self.out_v_proj.forward(&from_caption)?.mul(&self.gamma_v)?;
        let delta_l = self.out_l_proj.forward(&from_picture)?.mul(&self.gamma_l)?;
        Ok((picture.add(&delta_v)?, caption.add(&delta_l)?))
    }
}

/// The caption looks at itself, block by block.
#[derive(Debug)]
struct TextLayer {
    attention: FusedAttention,
    norm1: LayerNorm,
    feed_forward: FeedForward,
}

impl TextLayer {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let dim = config.hidden_dim;
        Ok(Self {
            attention: FusedAttention::load(dim, config.fusion_heads(), &weights.pp("self_attn"))?,
            norm1: LayerNorm::load(&weights.pp("norm1"), dim, EPS)?,
            feed_forward: FeedForward::load(dim, config.dim_feedforward / 2, "norm2", weights)?,
        })
    }

    fn forward(&self, text: &Text) -> Result<Tensor> {
        let placed = text.tokens.add(&text.positions)?;
        let attended = self.attention.forward(&placed, &placed, &text.tokens, Some(&text.mask))?;
        self.feed_forward.forward(&self.norm1.forward(&text.tokens.add(&attended)?)?)
    }
}

/// The picture looks at itself, at a few places of every level.
#[derive(Debug)]
struct PictureLayer {
    attention: DeformableAttention,
    norm1: LayerNorm,
    feed_forward: FeedForward,
}

impl PictureLayer {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, levels, points) = (config.hidden_dim, config.num_feature_levels, config.enc_n_points);
        let attention = weights.pp("self_attn");
        Ok(Self {
            attention: DeformableAttention::load(dim, config.nheads, levels, points, &attention)?,
            norm1: LayerNorm::load(&weights.pp("norm1"), dim, EPS)?,
            feed_forward: FeedForward::load(dim, config.dim_feedforward, "norm2", weights)?,
        })
    }

    fn forward(&self, memory: &Tensor, features: &Features) -> Result<Tensor> {
        let query = memory.add(&features.positions)?;
        let reference = Reference::Points(&features.centres);
        let attended = self.attention.forward(&query, reference, memory, &features.sizes)?;
        self.feed_forward.forward(&self.norm1.forward(&memory.add(&attended)?)?)
    }
}
