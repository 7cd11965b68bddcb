//! RAM with Swin-L: `ram_swin_large_14m.pth`, whose captioning half is not used.

use serde_json::{Value, json};

use super::names::Target;
use super::pattern::is_any;

/// What a Swin trunk of the original's naming holds.
const SWIN: &[&str] = &[
    "patch_embed.proj.*",
    "patch_embed.norm.*",
    "layers.N.blocks.N.norm1.*",
    "layers.N.blocks.N.attn.relative_position_bias_table",
    "layers.N.blocks.N.attn.qkv.*",
    "layers.N.blocks.N.attn.proj.*",
    "layers.N.blocks.N.norm2.*",
    "layers.N.blocks.N.mlp.fc1.*",
    "layers.N.blocks.N.mlp.fc2.*",
    "layers.N.downsample.norm.*",
    "layers.N.downsample.reduction.weight",
];

/// What follows from its sizes.
const SWIN_BUFFERS: &[&str] = &["layers.N.blocks.N.attn.relative_position_index", "layers.N.blocks.N.attn_mask"];

/// The head, of which every name is used but those of what a BERT has beside cross-attention.
const HEAD: &[&str] = &[
    "image_proj.*",
    "label_embed",
    "wordvec_proj.*",
    "tagging_head.encoder.layer.N.crossattention.self.query.*",
    "tagging_head.encoder.layer.N.crossattention.self.key.*",
    "tagging_head.encoder.layer.N.crossattention.self.value.*",
    "tagging_head.encoder.layer.N.crossattention.output.dense.*",
    "tagging_head.encoder.layer.N.crossattention.output.LayerNorm.*",
    "tagging_head.encoder.layer.N.intermediate.dense.*",
    "tagging_head.encoder.layer.N.output.dense.*",
    "tagging_head.encoder.layer.N.output.LayerNorm.*",
    "fc.*",
];

/// Captioning and training.
const OTHERS: &[&str] = &["tag_encoder.", "text_decoder.", "vision_proj.", "text_proj."];

/// Names of `ram_swin_large_14m.pth`; its head is called `tagging_head` or, in older files, `vision_multi`.
pub fn original(name: &str) -> Option<Target> {
    if let Some(trunk) = name.strip_prefix("visual_encoder.") {
        return trunk_name(trunk, &["norm.*"], name);
    }
    let name = match name.strip_prefix("vision_multi.") {
        Some(head) => format!("tagging_head.{head}"),
        None => name.to_owned(),
    };
    if is_any(&name, HEAD) {
        return Target::whole(name);
    }
    OTHERS.iter().any(|other| name.starts_with(other)).then_some(Target::Unused)
}

/// A name of a Swin trunk, `full` with what stands before it; `norms` are those of its outputs.
pub fn trunk_name(name: &str, norms: &[&str], full: &str) -> Option<Target> {
    if is_any(name, SWIN) || is_any(name, norms) {
        return Target::whole(full);
    }
    is_any(name, SWIN_BUFFERS).then_some(Target::Unused)
}

/// The published configuration.
pub fn config() -> Value {
    json!({
        "image_res": 384,
        "embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12,
        "proj_dim": 512,
        "hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 3072,
        "num_class": 4585,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_head_are_those_of_either_file() {
        let whole = |name: &str| Some(Target::Whole(name.to_owned()));
        let key = "tagging_head.encoder.layer.1.crossattention.self.key.bias";
        assert_eq!(original(key), whole(key));
        assert_eq!(original("vision_multi.encoder.layer.1.crossattention.self.key.bias"), whole(key));
        assert_eq!(original("visual_encoder.norm.weight"), whole("visual_encoder.norm.weight"));
        assert_eq!(original("visual_encoder.layers.2.blocks.17.attn_mask"), Some(Target::Unused));
        assert_eq!(original("text_decoder.cls.predictions.bias"), Some(Target::Unused));
        for name in ["visual_encoder.layers.x.blocks.0.norm1.bias", "visual_encoder.norm3.weight", "fc", "bert.x"] {
            assert_eq!(original(name), None, "{name}");
        }
    }
}
