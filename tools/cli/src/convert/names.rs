//! From the names of a checkpoint to the names that the models load: one table a model, one row a checkpoint here.
//!
//! At run time a tensor bears the name that the *original* checkpoint gives it, without wrapping keys and `module.`;
//! Hugging Face's conversions are translated when they are read. A naming table is a plain function
//! `fn(&str) -> Option<Target>` in the model's own file beside this one. `original` reads the original's names and
//! `hugging_face` those of the conversion; both answer
//!
//! - `Some(Target::Whole(..))`, `Some(Target::Rows { .. })` or `Some(Target::Split(..))` for what the model loads,
//! - `Some(Target::Unused)` for what is known and not needed: index buffers, text streams, heads of other tasks,
//! - `None` for a name that this checkpoint should not hold.
//!
//! Where several models share a checkpoint each table also knows what the others take, as unused: a name is unknown if
//! any of them does not know it.
//!
//! Two names may lead to the same target where a checkpoint stores one tensor under two names; either alone will do.

use super::models::{self, Model};
use super::{eva_vit, grounding_dino, imagebind, llama, mobile_sam, qformer, ram, sam};

/// What one tensor of a checkpoint becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The tensor of that name.
    Whole(String),
    /// Number `part` of `parts` equal groups of rows (places of the first axis) of a tensor that the original keeps
    /// fused: query, key and value in one matrix.
    Rows {
        /// The fused tensor's name.
        of: String,
        /// Which group, from 0.
        part: usize,
        /// How many groups there are.
        parts: usize,
    },
    /// The reverse: its equal groups of rows are tensors of these names. Where there is no name the numbers must be 0
    /// and are left out (EVA's keys have no bias; Hugging Face stores zeros).
    Split(Vec<Option<String>>),
    /// Known, and not needed by the model.
    Unused,
}

impl Target {
    /// The tensor `name`, whole.
    pub fn whole(name: impl Into<String>) -> Option<Self> {
        Some(Self::Whole(name.into()))
    }

    /// Group `part` of `parts` of the rows of `of`.
    pub fn rows(of: impl Into<String>, part: usize, parts: usize) -> Option<Self> {
        Some(Self::Rows { of: of.into(), part, parts })
    }
}

/// A naming table, see the module's description.
pub type Naming = fn(&str) -> Option<Target>;

/// One model's share of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The model.
    pub model: &'static Model,
    /// Which tensors it takes, and under which names.
    pub naming: Naming,
    /// Which of the model's tensors this checkpoint brings, where it takes two to make a part.
    pub brings: fn(&str) -> bool,
}

/// A public checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    /// Its name on the command line.
    pub kind: &'static str,
    /// File or folder as published, for people.
    pub published: &'static str,
    /// What may stand before its names: keys of dictionaries around the tensors, and the `module.` of parallel training.
    /// Each is taken off once, in this order, if it is there.
    pub wrapping: &'static [&'static str],
    /// Names that are all in this checkpoint and not all in another one of the table, wrapping taken off.
    pub marks: &'static [&'static str],
    /// The models that take their tensors from it.
    pub shares: &'static [Share],
}

impl Checkpoint {
    /// A name without what is wrapped around it.
    pub fn unwrapped<'a>(&self, name: &'a str) -> &'a str {
        self.wrapping.iter().fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name))
    }
}

/// The first number in a dotted name behind `prefix`, and what follows its dot: `blocks.7.norm1.weight` behind
/// `blocks.` is 7 and `norm1.weight`.
pub fn numbered<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    // Only digits as they are written: neither a sign nor zeros in front.
    let plain = number.bytes().all(|digit| digit.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    Some((number.parse().ok().filter(|_| plain)?, rest))
}

fn all(_: &str) -> bool {
    true
}

/// The checkpoints that `bubo convert` knows.
pub const CHECKPOINTS: &[Checkpoint] = &[
    Checkpoint {
        kind: "blip2_pretrained_flant5xxl",
        published: "blip2_pretrained_flant5xxl.pth of LAVIS",
        wrapping: &["model."],
        marks: &["t5_proj.weight", "ln_vision.weight"],
        shares: &[
            Share { model: &models::EVA_VIT, naming: eva_vit::blip2, brings: eva_vit::only_norm },
            Share { model: &models::IMAGE_QFORMER, naming: qformer::original, brings: qformer::but_projector },
        ],
    },
    Checkpoint {
        kind: "hf_blip2_flan_t5_xxl",
        published: "the folder Salesforce/blip2-flan-t5-xxl, or its shards without the language model",
        wrapping: &[],
        marks: &["vision_model.embeddings.class_embedding", "qformer.layernorm.weight"],
        shares: &[
            Share { model: &models::EVA_VIT, naming: eva_vit::hugging_face, brings: all },
            Share { model: &models::IMAGE_QFORMER, naming: qformer::hugging_face, brings: qformer::but_projector },
        ],
    },
    Checkpoint {
        kind: "eva_vit_g",
        published: "eva_vit_g.pth of LAVIS",
        wrapping: &[],
        marks: &["cls_token", "blocks.0.attn.q_bias"],
        shares: &[Share { model: &models::EVA_VIT, naming: eva_vit::original, brings: eva_vit::but_norm }],
    },
    Checkpoint {
        kind: "imagebind_huge",
        published: "imagebind_huge.pth of Meta",
        wrapping: &[],
        marks: &["modality_preprocessors.audio.cls_token"],
        shares: &[Share { model: &models::IMAGEBIND_AUDIO, naming: imagebind::original, brings: all }],
    },
    Checkpoint {
        kind: "ram_swin_large_14m",
        published: "ram_swin_large_14m.pth of Recognize Anything",
        wrapping: &["model."],
        marks: &["label_embed", "wordvec_proj.weight"],
        shares: &[Share { model: &models::RAM, naming: ram::original, brings: all }],
    },
    Checkpoint {
        kind: "groundingdino_swint_ogc",
        published: "groundingdino_swint_ogc.pth of Grounding DINO",
        wrapping: &["model.", "module."],
        marks: &["backbone.0.patch_embed.proj.weight", "feat_map.weight"],
        shares: &[Share { model: &models::GROUNDING_DINO, naming: grounding_dino::original, brings: all }],
    },
    Checkpoint {
        kind: "hf_grounding_dino_tiny",
        published: "the folder IDEA-Research/grounding-dino-tiny",
        wrapping: &[],
        marks: &["model.backbone.conv_encoder.model.embeddings.patch_embeddings.projection.weight"],
        shares: &[Share { model: &models::GROUNDING_DINO, naming: grounding_dino::hugging_face, brings: all }],
    },
    Checkpoint {
        kind: "sam_vit",
        published: "sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth of Segment Anything",
        wrapping: &[],
        marks: &["image_encoder.blocks.0.attn.rel_pos_h"],
        shares: &[Share { model: &models::SAM, naming: sam::original, brings: all }],
    },
    Checkpoint {
        kind: "hf_sam_vit",
        published: "the folders facebook/sam-vit-base, -large or -huge",
        wrapping: &[],
        marks: &["vision_encoder.layers.0.attn.rel_pos_h"],
        shares: &[Share { model: &models::SAM, naming: sam::hugging_face, brings: all }],
    },
    Checkpoint {
        kind: "mobile_sam",
        published: "mobile_sam.pt",
        wrapping: &[],
        marks: &["image_encoder.patch_embed.seq.0.c.weight"],
        shares: &[Share { model: &models::MOBILE_SAM, naming: mobile_sam::original, brings: all }],
    },
    Checkpoint {
        kind: "bubogpt_7b",
        published: "bubogpt_7b.pth",
        wrapping: &["model."],
        marks: &["multimodal_joiner.modality_post_projectors.vision.fc.weight"],
        shares: &[
            Share { model: &models::IMAGE_QFORMER, naming: qformer::bubogpt_image, brings: qformer::only_projector },
            Share { model: &models::AUDIO_QFORMER, naming: qformer::bubogpt_audio, brings: all },
        ],
    },
    Checkpoint {
        kind: "llama",
        published: "a Vicuna or other LLaMA folder of Hugging Face, config.json and tokenizer beside the shards",
        wrapping: &[],
        marks: &["model.embed_tokens.weight"],
        shares: &[Share { model: &models::LLAMA, naming: llama::hugging_face, brings: all }],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_where_they_are_expected() {
        assert_eq!(numbered("blocks.17.norm1.weight", "blocks."), Some((17, "norm1.weight")));
        assert_eq!(numbered("blocks.0.attn", "blocks."), Some((0, "attn")));
        for name in ["blocks.x.attn", "blocks.01.attn", "blocks.+1.attn", "blocks.1", "block.1.attn", "blocks..attn"] {
            assert_eq!(numbered(name, "blocks."), None, "{name}");
        }
    }

    #[test]
    fn wrapping_comes_off_once() {
        let checkpoint =
            Checkpoint { kind: "", published: "", wrapping: &["model.", "module."], marks: &[], shares: &[] };
        assert_eq!(checkpoint.unwrapped("model.module.a"), "a");
        assert_eq!(checkpoint.unwrapped("module.a"), "a");
        assert_eq!(checkpoint.unwrapped("model.model.a"), "model.a");
        assert_eq!(checkpoint.unwrapped("a.model."), "a.model.");
    }
}
