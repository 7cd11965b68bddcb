//! Which places of the picture become queries: those that match some word of the caption best.
//!
//! Source: models/GroundingDINO/transformer.py (`two_stage_type = "standard"`), utils.py
//! (`gen_encoder_output_proposals`).

use super::Config;
use super::attention::{EPS, Mlp};
use super::picture::Features;
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, Linear, Tap, Weights};
use crate::tensor::{Device, Reduce, Tensor, Unary};

/// Side of the box that a place of the finest level proposes, as a share of the picture's; twice that for each coarser.
const SIDE: f32 = 0.05;

/// Proposals with a number beyond these do not count.
const VALID: std::ops::Range<f32> = 0.01..0.99;

/// The logit of proposals that do not count: the original has infinity, whose sigmoid is 1 as is that of this.
const NOWHERE: f32 = 1e30;

/// Scores places and makes the first boxes.
#[derive(Debug)]
pub(super) struct Selection {
    count: usize,
    enc_output: Linear,
    norm: LayerNorm,
    enc_out_bbox_embed: Mlp,
}

impl Selection {
    pub(super) fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let dim = config.hidden_dim;
        Ok(Self {
            count: config.num_queries,
            enc_output: Linear::load(&weights.pp("enc_output"), dim, dim)?,
            norm: LayerNorm::load(&weights.pp("enc_output_norm"), dim, EPS)?,
            enc_out_bbox_embed: Mlp::load(&[dim, dim, dim, 4], &weights.pp("enc_out_bbox_embed"))?,
        })
    }

    /// From the memory `[tokens, dim]` and the caption `[words, dim]` to the first boxes `[queries, 4]`, centre x, centre
    /// y, width and height, 0..1, best place first.
    ///
    /// Places whose proposal does not count all have the same score; should they come that far, their boxes are the
    /// same too, so their order does not matter.
    pub(super) fn forward(
        &self,
        features: &Features,
        memory: &Tensor,
        caption: &Tensor,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let Proposals { logits, counts } = proposals(&features.sizes, &memory.device())?;
        tap("proposals_logit", &logits);
        let [tokens, _] = logits.dims_of("proposals")?;
        if tokens < self.count {
            let reason = format!("{tokens} places in the picture for {} boxes: it is too narrow", self.count);
            return Err(Error::Input(format!("{reason}; give one whose sides differ less")));
        }
        let memory = self.norm.forward(&self.enc_output.forward(&memory.mul(&counts)?)?)?;
        let scores = memory.matmul_transposed(caption)?.reduce(Reduce::Max, 1)?; // [tokens]
        let best = scores.top_k(self.count)?;
        tap("topk_indices", &best);
        tap("topk_scores", &scores.index_select(0, &best)?);
        let delta = self.enc_out_bbox_embed.forward(&memory.index_select(0, &best)?)?;
        delta.add(&logits.index_select(0, &best)?)?.unary(Unary::Sigmoid) // [queries, 4]
    }
}

/// The box that every place proposes.
struct Proposals {
    /// `[tokens, 4]`.
    logits: Tensor,
    /// `[tokens, 1]`: 1 for those that count, else 0.
    counts: Tensor,
}

fn proposals(sizes: &[[usize; 2]], device: &Device) -> Result<Proposals> {
    let (mut logits, mut counts) = (Vec::new(), Vec::new());
    for (level, [rows, columns]) in sizes.iter().enumerate() {
        let side = SIDE * (1u32 << level) as f32;
        for place in 0..rows * columns {
            let x = ((place % columns) as f32 + 0.5) / *columns as f32;
            let y = ((place / columns) as f32 + 0.5) / *rows as f32;
            let numbers = [x, y, side, side];
            let valid = numbers.iter().all(|number| *number > VALID.start && *number < VALID.end);
            let logit = |number: f32| if valid { (number / (1.0 - number)).ln() } else { NOWHERE };
            logits.extend(numbers.map(logit));
            counts.push(f32::from(u8::from(valid)));
        }
    }
    Ok(Proposals {
        logits: Tensor::from_f32(&logits, &[counts.len(), 4], device)?,
        counts: Tensor::from_f32(&counts, &[counts.len(), 1], device)?,
    })
}
