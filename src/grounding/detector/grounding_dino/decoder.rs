//! Layers in which queries become boxes.

use super::Config;
use super::attention::{EPS, FeedForward, FusedAttention, Mlp};
use super::deformable::{DeformableAttention, Reference};
use super::picture::Features;
use super::positions;
use crate::error::Result;
use crate::nn::{LayerNorm, Tap, Weights};
use crate::tensor::{Tensor, Unary};

/// A box's numbers are kept this far from 0 and 1 where their logit is taken.
const EDGE: f32 = 1e-3;

/// All layers and their heads.
#[derive(Debug)]
pub(super) struct Decoder {
    dim: usize,
    /// `[queries, dim]`: queries are learned; only their boxes come from the picture.
    tgt_embed: Tensor,
    ref_point_head: Mlp,
    layers: Vec<Layer>,
    norm: LayerNorm,
    bbox_embed: Mlp,
}

impl Decoder {
    pub(super) fn load(config: &Config, transformer: &Weights, bbox_embed: &Weights) -> Result<Self> {
        let (dim, decoder) = (config.hidden_dim, transformer.pp("decoder"));
        let layer = |index: usize| Layer::load(config, &decoder.pp("layers").pp(index));
        Ok(Self {
            dim,
            tgt_embed: transformer.pp("tgt_embed").tensor("weight", &[config.num_queries, dim])?,
            ref_point_head: Mlp::load(&[2 * dim, dim, dim], &decoder.pp("ref_point_head"))?,
            layers: (0..config.dec_layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&decoder.pp("norm"), dim, EPS)?,
            bbox_embed: Mlp::load(&[dim, dim, dim, 4], bbox_embed)?,
        })
    }

    /// Refines `boxes` `[queries, 4]` layer by layer. Returns the queries `[queries, dim]` and their boxes.
    pub(super) fn forward(
        &self,
        features: &Features,
        memory: &Tensor,
        caption: &Tensor,
        boxes: &Tensor,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let mut x = self.tgt_embed.clone();
        let (mut boxes, mut entered) = (boxes.clone(), boxes.clone());
        tap("decoder_refs0", &boxes);
        for (index, layer) in self.layers.iter().enumerate() {
            let positions = self.ref_point_head.forward(&positions::of_boxes(&boxes, self.dim)?)?;
            tap(&format!("query_pos{index}"), &positions);
            x = layer.forward(&x, &positions, &boxes, features, memory, caption)?;
            tap(&format!("dec{index}"), &x);
            entered = boxes;
            boxes = self.refined(&x, &entered)?;
            tap(&format!("decoder_refs{}", index + 1), &boxes);
        }
        // On the way boxes are refined from the queries as they are; the last word is from the normalised ones.
        let queries = self.norm.forward(&x)?;
        tap("hs_last", &queries);
        let boxes = self.refined(&queries, &entered)?;
        Ok((queries, boxes))
    }

    fn refined(&self, queries: &Tensor, boxes: &Tensor) -> Result<Tensor> {
        self.bbox_embed.forward(queries)?.add(&logit(boxes)?)?.unary(Unary::Sigmoid)
    }
}

/// The inverse of the sigmoid, cut where it would grow without bound.
fn logit(x: &Tensor) -> Result<Tensor> {
    let kept = |x: &Tensor| x.unary(Unary::Clamp(EDGE, 1.0));
    kept(x)?.div(&kept(&x.affine(-1.0, 1.0)?)?)?.unary(Unary::Ln)
}

/// Queries look at each other, at the caption and at the picture around their boxes; each with residual and norm.
#[derive(Debug)]
struct Layer {
    self_attn: FusedAttention,
    norm2: LayerNorm,
    ca_text: FusedAttention,
    catext_norm: LayerNorm,
    cross_attn: DeformableAttention,
    norm1: LayerNorm,
    feed_forward: FeedForward,
}

impl Layer {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, heads) = (config.hidden_dim, config.nheads);
        let (levels, points) = (config.num_feature_levels, config.dec_n_points);
        let norm = |name: &str| LayerNorm::load(&weights.pp(name), dim, EPS);
        Ok(Self {
            self_attn: FusedAttention::load(dim, heads, &weights.pp("self_attn"))?,
            norm2: norm("norm2")?,
            ca_text: FusedAttention::load(dim, heads, &weights.pp("ca_text"))?,
            catext_norm: norm("catext_norm")?,
            cross_attn: DeformableAttention::load(dim, heads, levels, points, &weights.pp("cross_attn"))?,
            norm1: norm("norm1")?,
            feed_forward: FeedForward::load(dim, config.dim_feedforward, "norm3", weights)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        positions: &Tensor,
        boxes: &Tensor,
        features: &Features,
        memory: &Tensor,
        caption: &Tensor,
    ) -> Result<Tensor> {
        let placed = x.add(positions)?;
        let x = self.norm2.forward(&x.add(&self.self_attn.forward(&placed, &placed, x, None)?)?)?;
        let words = self.ca_text.forward(&x.add(positions)?, caption, caption, None)?;
        let x = self.catext_norm.forward(&x.add(&words)?)?;
        let reference = Reference::Boxes(boxes);
        let seen = self.cross_attn.forward(&x.add(positions)?, reference, memory, &features.sizes)?;
        self.feed_forward.forward(&self.norm1.forward(&x.add(&seen)?)?)
    }
}
