//! EVA-CLIP's ViT-g/14: `eva_vit_g.pth` with BLIP-2's norm behind it, or Hugging Face's BLIP-2.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::names::{Target, numbered};
use super::pattern::{Rows, count, is_any, original as of_original, size, translated};

/// Blocks that BLIP-2 and BuboGPT build; the checkpoint has one more, whose output nobody uses.
const DEPTH: usize = 39;

/// The original's names and Hugging Face's.
const NAMES: Rows = &[
    ("cls_token", "vision_model.embeddings.class_embedding"),
    ("pos_embed", "vision_model.embeddings.position_embedding"),
    ("patch_embed.proj.*", "vision_model.embeddings.patch_embedding.*"),
    ("blocks.N.norm1.*", "vision_model.encoder.layers.N.layer_norm1.*"),
    ("blocks.N.norm2.*", "vision_model.encoder.layers.N.layer_norm2.*"),
    ("blocks.N.attn.qkv.weight", "vision_model.encoder.layers.N.self_attn.qkv.weight"),
    ("blocks.N.attn.proj.*", "vision_model.encoder.layers.N.self_attn.projection.*"),
    ("blocks.N.mlp.fc1.*", "vision_model.encoder.layers.N.mlp.fc1.*"),
    ("blocks.N.mlp.fc2.*", "vision_model.encoder.layers.N.mlp.fc2.*"),
    ("ln_vision.*", "vision_model.post_layernorm.*"),
];

/// What BLIP-2's checkpoints hold for others.
const OTHERS: &[&str] = &["query_tokens", "Qformer.", "t5_proj.", "opt_proj.", "llama_proj."];

/// Of Hugging Face's conversion.
const HUGGING_FACE_OTHERS: &[&str] = &["query_tokens", "qformer.", "language_projection.", "language_model."];

/// Names of `eva_vit_g.pth`; also `ln_vision`, for checkpoints that were merged.
pub fn original(name: &str) -> Option<Target> {
    if numbered(name, "blocks.").is_some_and(|(block, _)| block >= DEPTH) || is_any(name, &["norm.*", "head.*"]) {
        return Some(Target::Unused);
    }
    if is_any(name, &["blocks.N.attn.q_bias", "blocks.N.attn.v_bias"]) {
        return Target::whole(name);
    }
    of_original(name, NAMES)
}

/// Names of `blip2_pretrained_flant5xxl.pth`, of which this model takes the norm alone.
pub fn blip2(name: &str) -> Option<Target> {
    match name {
        "ln_vision.weight" | "ln_vision.bias" => Target::whole(name),
        _ => OTHERS.iter().any(|other| name.starts_with(other)).then_some(Target::Unused),
    }
}

/// Names of Hugging Face's BLIP-2. It fuses the biases of queries, keys and values; the keys' are 0.
pub fn hugging_face(name: &str) -> Option<Target> {
    if let Some((block, "self_attn.qkv.bias")) = numbered(name, "vision_model.encoder.layers.") {
        let bias = |kind: &str| Some(format!("blocks.{block}.attn.{kind}_bias"));
        return Some(Target::Split(vec![bias("q"), None, bias("v")]));
    }
    let other = || HUGGING_FACE_OTHERS.iter().any(|other| name.starts_with(other)).then_some(Target::Unused);
    translated(name, NAMES).or_else(other)
}

/// Whether a tensor of the part comes with BLIP-2.
pub fn only_norm(name: &str) -> bool {
    name.starts_with("ln_vision.")
}

/// Whether a tensor of the part comes with EVA.
pub fn but_norm(name: &str) -> bool {
    !only_norm(name)
}

/// The model's configuration, as far as the shapes of its tensors under the original's names tell it; the published one
/// for the rest.
pub fn config(shapes: &BTreeMap<String, Vec<usize>>) -> Value {
    let dim = size(shapes, "pos_embed", 2, 1408);
    let patch = size(shapes, "patch_embed.proj.weight", 2, 14);
    let side = (size(shapes, "pos_embed", 1, 257).saturating_sub(1) as f64).sqrt() as usize * patch;
    let depth = count(shapes, "blocks.N.norm1.weight");
    json!({
        "img_size": [side, side],
        "patch_size": patch,
        "embed_dim": dim,
        "depth": if depth == 0 { DEPTH } else { depth.min(DEPTH) },
        // Heads cannot be told from shapes: 88 wide in ViT-g, 64 in other transformers.
        "num_heads": if dim.is_multiple_of(88) { dim / 88 } else { dim / 64 },
        "mlp_hidden": size(shapes, "blocks.0.mlp.fc1.weight", 0, 6144),
        "fit": "squash",
        "block_eps": 1e-6,
        "ln_vision_eps": 1e-5,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_lead_to_the_same_names() {
        let whole = |name: &str| Some(Target::Whole(name.to_owned()));
        for (name, theirs) in [
            ("cls_token", "vision_model.embeddings.class_embedding"),
            ("patch_embed.proj.bias", "vision_model.embeddings.patch_embedding.bias"),
            ("blocks.38.attn.qkv.weight", "vision_model.encoder.layers.38.self_attn.qkv.weight"),
            ("blocks.0.attn.proj.bias", "vision_model.encoder.layers.0.self_attn.projection.bias"),
            ("ln_vision.weight", "vision_model.post_layernorm.weight"),
        ] {
            assert_eq!((original(name), hugging_face(theirs)), (whole(name), whole(name)), "{name}");
        }
        assert_eq!(original("blocks.7.attn.q_bias"), whole("blocks.7.attn.q_bias"));
        let parts = vec![Some("blocks.7.attn.q_bias".into()), None, Some("blocks.7.attn.v_bias".into())];
        let fused = hugging_face("vision_model.encoder.layers.7.self_attn.qkv.bias");
        assert_eq!(fused, Some(Target::Split(parts)));
        assert_eq!(blip2("ln_vision.bias"), whole("ln_vision.bias"));
        for name in ["blocks.39.norm1.weight", "blocks.39.attn.q_bias", "norm.bias", "head.weight"] {
            assert_eq!(original(name), Some(Target::Unused), "{name}");
        }
        assert_eq!(hugging_face("language_model.shared.weight"), Some(Target::Unused));
        assert_eq!(blip2("Qformer.bert.embeddings.position_ids"), Some(Target::Unused));
    }

    #[test]
    fn the_published_sizes_follow_from_shapes() {
        let shape = |name: &str, dims: &[usize]| (name.to_owned(), dims.to_vec());
        let shapes = BTreeMap::from([
            shape("pos_embed", &[1, 257, 1408]),
            shape("patch_embed.proj.weight", &[1408, 3, 14, 14]),
            shape("blocks.0.mlp.fc1.weight", &[6144, 1408]),
        ]);
        assert_eq!(config(&shapes), config(&BTreeMap::new()));
        assert_eq!((&config(&shapes)["num_heads"], &config(&shapes)["img_size"]), (&json!(16), &json!([224, 224])));
    }

    #[test]
    fn unknown_names_stay_unknown() {
        for name in ["blocks.0.attn.k_bias", "blocks.0.attn.qkv.bias", "fc_norm.weight", "vision_model.x"] {
            assert_eq!((original(name), blip2(name), hugging_face(name)), (None, None, None), "{name}");
        }
    }
}
