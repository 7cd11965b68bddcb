//! Sizes of a Grounding DINO, and what counts as found.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::{Weights, bert, swin};

/// Sizes of a Grounding DINO, and what counts as found. Sizes that the original derives from others are derived here.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Width of the transformer.
    pub hidden_dim: usize,
    /// Heads of its attention; fusion and text layers have half of them.
    pub nheads: usize,
    /// Layers in which picture and caption look at each other.
    pub enc_layers: usize,
    /// Layers in which queries become boxes.
    pub dec_layers: usize,
    /// Width inside its feed-forward networks; fusion and text layers have half of it.
    pub dim_feedforward: usize,
    /// Boxes that are proposed.
    pub num_queries: usize,
    /// Levels of features, the trunk's last three and coarser ones.
    pub num_feature_levels: usize,
    /// Places that a head reads in each level, in the encoder.
    pub enc_n_points: usize,
    /// Places that a head reads in each level, in the decoder.
    pub dec_n_points: usize,
    /// Channels of the trunk's first stage.
    pub swin_embed: usize,
    /// Blocks of each stage of the trunk.
    pub swin_depths: Vec<usize>,
    /// Heads of each stage of the trunk.
    pub swin_heads: Vec<usize>,
    /// Side of a window of the trunk, in tokens.
    pub swin_window: usize,
    /// Width of the text side.
    pub bert_hidden: usize,
    /// Layers of the text side.
    pub bert_layers: usize,
    /// Heads of the text side.
    pub bert_heads: usize,
    /// Width inside the text side's feed-forward networks.
    pub bert_ffn: usize,
    /// Wave lengths of picture positions spread up to this.
    #[serde(default = "picture_temperature")]
    pub pe_temperature: f32,
    /// Groups of the input projections' norms.
    #[serde(default = "groups")]
    pub group_norm_groups: usize,
    /// Probability of its best token that a box must exceed.
    #[serde(default = "box_threshold")]
    pub box_threshold: f32,
    /// Probability that a token must exceed to be part of a box's name.
    #[serde(default = "text_threshold")]
    pub text_threshold: f32,
    /// Overlap (intersection over union) beyond which the less confident of two boxes goes; `None` keeps all.
    #[serde(default = "nms_iou")]
    pub nms_iou: Option<f32>,
    /// Behaves as BuboGPT does: one caption of all tags joined by commas and cut at 256 tokens, so that tags run into
    /// each other; names of all tokens that reached the threshold; all boxes, as they are. Otherwise every tag is a
    /// block of its own, as many captions are made as are needed, names stay within a tag, and overlapping boxes go.
    #[serde(default)]
    pub original: bool,
}

fn picture_temperature() -> f32 {
    20.0
}

fn groups() -> usize {
    32
}

fn box_threshold() -> f32 {
    0.25
}

fn text_threshold() -> f32 {
    0.2
}

fn nms_iou() -> Option<f32> {
    Some(0.5)
}

impl Config {
    pub(super) fn check(&self) -> Result<()> {
        let (dim, heads) = (self.hidden_dim, self.nheads);
        let divided = heads > 1 && dim.is_multiple_of(heads) && dim.is_multiple_of(8) && heads.is_multiple_of(2);
        let levels = (3..=8).contains(&self.num_feature_levels) && self.swin_depths.len() == 4;
        // Sizes come from a file; their products must not overflow.
        let sizes = [dim, heads, self.dim_feedforward, self.num_queries, self.bert_hidden, self.bert_ffn];
        let points = self.enc_n_points.max(self.dec_n_points);
        let sane = sizes.iter().all(|size| *size <= 1 << 20) && points <= 1 << 8 && self.swin_embed <= 1 << 16;
        if sane && divided && levels && self.fusion_dim().is_multiple_of(self.fusion_heads()) && self.num_queries > 0 {
            return Ok(());
        }
        Err(Error::shape("grounding dino", format!("sizes that do not go together: {self:?}")))
    }

    /// Width of the attention between picture and caption.
    pub(super) fn fusion_dim(&self) -> usize {
        self.dim_feedforward / 2
    }

    /// Heads of the attention between picture and caption, and of the caption's own.
    pub(super) fn fusion_heads(&self) -> usize {
        self.nheads / 2
    }

    pub(super) fn trunk(&self) -> swin::Config {
        swin::Config {
            embed_dim: self.swin_embed,
            depths: self.swin_depths.clone(),
            heads: self.swin_heads.clone(),
            window: self.swin_window,
            side_px: None,
        }
    }

    /// The text side's sizes; those of its tables are read off the tables.
    pub(super) fn bert(&self, weights: &Weights) -> Result<bert::Config> {
        let tables = weights.pp("bert").pp("embeddings");
        let rows = |name: &str| {
            let rows = tables.dims(&format!("{name}.weight")).and_then(|dims| dims.first().copied());
            rows.ok_or_else(|| Error::Weights {
                name: tables.full_name(&format!("{name}.weight")),
                expected: format!("a tensor [rows, {}]", self.bert_hidden),
                found: "none of that name".into(),
            })
        };
        Ok(bert::Config {
            vocab_size: rows("word_embeddings")?,
            hidden_size: self.bert_hidden,
            num_hidden_layers: self.bert_layers,
            num_attention_heads: self.bert_heads,
            intermediate_size: self.bert_ffn,
            max_position_embeddings: rows("position_embeddings")?,
            type_vocab_size: rows("token_type_embeddings")?,
            layer_norm_eps: 1e-12,
        })
    }
}
