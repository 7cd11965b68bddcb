//! Grounding DINO with Swin-T: `groundingdino_swint_ogc.pth`, or Hugging Face's `grounding-dino-tiny`.

use serde_json::{Value, json};

use super::names::Target;
use super::pattern::{is_any, renamed};
use super::ram::trunk_name;

/// The original's pattern, Hugging Face's pattern; `in_proj.*` stands for `in_proj_weight` and `in_proj_bias`.
const NAMES: &[(&str, &str)] = &[
    ("input_proj.N.N.*", "input_proj_vision.N.N.*"),
    ("feat_map.*", "text_projection.*"),
    ("transformer.level_embed", "level_embed"),
    ("transformer.tgt_embed.weight", "query_position_embeddings.weight"),
    ("transformer.enc_output.*", "enc_output.*"),
    ("transformer.enc_output_norm.*", "enc_output_norm.*"),
    ("transformer.enc_out_bbox_embed.layers.N.*", "encoder_output_bbox_embed.layers.N.*"),
    ("transformer.encoder.fusion_layers.N.gamma_v", "encoder.layers.N.fusion_layer.vision_param"),
    ("transformer.encoder.fusion_layers.N.gamma_l", "encoder.layers.N.fusion_layer.text_param"),
    ("transformer.encoder.fusion_layers.N.layer_norm_v.*", "encoder.layers.N.fusion_layer.layer_norm_vision.*"),
    ("transformer.encoder.fusion_layers.N.layer_norm_l.*", "encoder.layers.N.fusion_layer.layer_norm_text.*"),
    ("transformer.encoder.fusion_layers.N.attn.v_proj.*", "encoder.layers.N.fusion_layer.attn.vision_proj.*"),
    ("transformer.encoder.fusion_layers.N.attn.l_proj.*", "encoder.layers.N.fusion_layer.attn.text_proj.*"),
    (
        "transformer.encoder.fusion_layers.N.attn.values_v_proj.*",
        "encoder.layers.N.fusion_layer.attn.values_vision_proj.*",
    ),
    (
        "transformer.encoder.fusion_layers.N.attn.values_l_proj.*",
        "encoder.layers.N.fusion_layer.attn.values_text_proj.*",
    ),
    ("transformer.encoder.fusion_layers.N.attn.out_v_proj.*", "encoder.layers.N.fusion_layer.attn.out_vision_proj.*"),
    ("transformer.encoder.fusion_layers.N.attn.out_l_proj.*", "encoder.layers.N.fusion_layer.attn.out_text_proj.*"),
    (
        "transformer.encoder.text_layers.N.self_attn.out_proj.*",
        "encoder.layers.N.text_enhancer_layer.self_attn.out_proj.*",
    ),
    ("transformer.encoder.text_layers.N.linear1.*", "encoder.layers.N.text_enhancer_layer.fc1.*"),
    ("transformer.encoder.text_layers.N.linear2.*", "encoder.layers.N.text_enhancer_layer.fc2.*"),
    ("transformer.encoder.text_layers.N.norm1.*", "encoder.layers.N.text_enhancer_layer.layer_norm_before.*"),
    ("transformer.encoder.text_layers.N.norm2.*", "encoder.layers.N.text_enhancer_layer.layer_norm_after.*"),
    (
        "transformer.encoder.layers.N.self_attn.sampling_offsets.*",
        "encoder.layers.N.deformable_layer.self_attn.sampling_offsets.*",
    ),
    (
        "transformer.encoder.layers.N.self_attn.attention_weights.*",
        "encoder.layers.N.deformable_layer.self_attn.attention_weights.*",
    ),
    ("transformer.encoder.layers.N.self_attn.value_proj.*", "encoder.layers.N.deformable_layer.self_attn.value_proj.*"),
    (
        "transformer.encoder.layers.N.self_attn.output_proj.*",
        "encoder.layers.N.deformable_layer.self_attn.output_proj.*",
    ),
    ("transformer.encoder.layers.N.norm1.*", "encoder.layers.N.deformable_layer.self_attn_layer_norm.*"),
    ("transformer.encoder.layers.N.linear1.*", "encoder.layers.N.deformable_layer.fc1.*"),
    ("transformer.encoder.layers.N.linear2.*", "encoder.layers.N.deformable_layer.fc2.*"),
    ("transformer.encoder.layers.N.norm2.*", "encoder.layers.N.deformable_layer.final_layer_norm.*"),
    ("transformer.decoder.norm.*", "decoder.layer_norm.*"),
    ("transformer.decoder.ref_point_head.layers.N.*", "decoder.reference_points_head.layers.N.*"),
    ("transformer.decoder.layers.N.self_attn.out_proj.*", "decoder.layers.N.self_attn.out_proj.*"),
    ("transformer.decoder.layers.N.norm2.*", "decoder.layers.N.self_attn_layer_norm.*"),
    ("transformer.decoder.layers.N.ca_text.out_proj.*", "decoder.layers.N.encoder_attn_text.out_proj.*"),
    ("transformer.decoder.layers.N.catext_norm.*", "decoder.layers.N.encoder_attn_text_layer_norm.*"),
    ("transformer.decoder.layers.N.cross_attn.sampling_offsets.*", "decoder.layers.N.encoder_attn.sampling_offsets.*"),
    (
        "transformer.decoder.layers.N.cross_attn.attention_weights.*",
        "decoder.layers.N.encoder_attn.attention_weights.*",
    ),
    ("transformer.decoder.layers.N.cross_attn.value_proj.*", "decoder.layers.N.encoder_attn.value_proj.*"),
    ("transformer.decoder.layers.N.cross_attn.output_proj.*", "decoder.layers.N.encoder_attn.output_proj.*"),
    ("transformer.decoder.layers.N.norm1.*", "decoder.layers.N.encoder_attn_layer_norm.*"),
    ("transformer.decoder.layers.N.linear1.*", "decoder.layers.N.fc1.*"),
    ("transformer.decoder.layers.N.linear2.*", "decoder.layers.N.fc2.*"),
    ("transformer.decoder.layers.N.norm3.*", "decoder.layers.N.final_layer_norm.*"),
];

/// Attentions whose projections the original keeps as one matrix: its name, and Hugging Face's in front of `query`,
/// `key` and `value`.
const FUSED: &[(&str, &str)] = &[
    ("transformer.encoder.text_layers.N.self_attn.in_proj.*", "encoder.layers.N.text_enhancer_layer.self_attn"),
    ("transformer.decoder.layers.N.self_attn.in_proj.*", "decoder.layers.N.self_attn"),
    ("transformer.decoder.layers.N.ca_text.in_proj.*", "decoder.layers.N.encoder_attn_text"),
];

/// What the text side holds, under the same names everywhere.
const BERT: &[&str] = &[
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
    "embeddings.LayerNorm.*",
    "encoder.layer.N.attention.self.query.*",
    "encoder.layer.N.attention.self.key.*",
    "encoder.layer.N.attention.self.value.*",
    "encoder.layer.N.attention.output.dense.*",
    "encoder.layer.N.attention.output.LayerNorm.*",
    "encoder.layer.N.intermediate.dense.*",
    "encoder.layer.N.output.dense.*",
    "encoder.layer.N.output.LayerNorm.*",
];

/// Of the text side, but of no use here.
const BERT_OTHERS: &[&str] = &["pooler.dense.*", "embeddings.position_ids"];

/// The heads of all layers are one, stored under as many names as there are layers, twice; or once.
const BOX_HEADS: &[&str] = &[
    "bbox_embed.N.layers.N.*",
    "transformer.decoder.bbox_embed.N.layers.N.*",
    "model.decoder.bbox_embed.N.layers.N.*",
];

/// Names of `groundingdino_swint_ogc.pth`, without `module.`.
pub fn original(name: &str) -> Option<Target> {
    if let Some(trunk) = name.strip_prefix("backbone.0.") {
        return trunk_name(trunk, &["norm1.*", "norm2.*", "norm3.*"], name);
    }
    if let Some(text) = name.strip_prefix("bert.") {
        return text_name(text);
    }
    let dotted = name.replace(".in_proj_", ".in_proj.");
    let known = |(pattern, _): &(&str, &str)| renamed(&dotted, pattern, pattern).is_some();
    if NAMES.iter().chain(FUSED).any(known) {
        return Target::whole(name);
    }
    // Embeddings of labels for the denoising that trains it.
    box_head(name).or_else(|| (name == "label_enc.weight").then_some(Target::Unused))
}

/// Names of Hugging Face's conversion.
pub fn hugging_face(name: &str) -> Option<Target> {
    if let Some(head) = box_head(name) {
        return Some(head);
    }
    let name = name.strip_prefix("model.")?;
    if let Some(trunk) = name.strip_prefix("backbone.conv_encoder.model.") {
        return hugging_face_trunk(trunk);
    }
    if let Some(text) = name.strip_prefix("text_backbone.") {
        return text_name(text);
    }
    let whole = NAMES.iter().find_map(|(original, other)| renamed(name, other, original));
    whole.map(Target::Whole).or_else(|| FUSED.iter().find_map(|(original, other)| third(name, other, original)))
}

/// A third of what the original keeps as one.
fn third(name: &str, other: &str, original: &str) -> Option<Target> {
    let part = |part: usize, kind: &str| {
        let fused = renamed(name, &format!("{other}.{kind}.*"), original)?;
        Target::rows(fused.replace(".in_proj.", ".in_proj_"), part, 3)
    };
    part(0, "query").or_else(|| part(1, "key")).or_else(|| part(2, "value"))
}

fn box_head(name: &str) -> Option<Target> {
    let head = BOX_HEADS.iter().find_map(|pattern| renamed(name, pattern, "N.N.*"))?;
    let (_, rest) = head.split_once('.')?;
    Target::whole(format!("bbox_embed.0.layers.{rest}"))
}

fn text_name(name: &str) -> Option<Target> {
    if is_any(name, BERT) {
        return Target::whole(format!("bert.{name}"));
    }
    is_any(name, BERT_OTHERS).then_some(Target::Unused)
}

/// The trunk's pattern in the original, and in Hugging Face's conversion.
const TRUNK: &[(&str, &str)] = &[
    ("patch_embed.proj.*", "embeddings.patch_embeddings.projection.*"),
    ("patch_embed.norm.*", "embeddings.norm.*"),
    ("layers.N.blocks.N.norm1.*", "encoder.layers.N.blocks.N.layernorm_before.*"),
    (
        "layers.N.blocks.N.attn.relative_position_bias_table",
        "encoder.layers.N.blocks.N.attention.self.relative_position_bias_table",
    ),
    ("layers.N.blocks.N.attn.proj.*", "encoder.layers.N.blocks.N.attention.output.dense.*"),
    ("layers.N.blocks.N.norm2.*", "encoder.layers.N.blocks.N.layernorm_after.*"),
    ("layers.N.blocks.N.mlp.fc1.*", "encoder.layers.N.blocks.N.intermediate.dense.*"),
    ("layers.N.blocks.N.mlp.fc2.*", "encoder.layers.N.blocks.N.output.dense.*"),
    ("layers.N.downsample.norm.*", "encoder.layers.N.downsample.norm.*"),
    ("layers.N.downsample.reduction.weight", "encoder.layers.N.downsample.reduction.weight"),
    // Counted from the patches on, which are the first.
    ("norm1.*", "hidden_states_norms.stage2.*"),
    ("norm2.*", "hidden_states_norms.stage3.*"),
    ("norm3.*", "hidden_states_norms.stage4.*"),
];

fn hugging_face_trunk(name: &str) -> Option<Target> {
    let fused = ("backbone.0.layers.N.blocks.N.attn.qkv.*", "encoder.layers.N.blocks.N.attention.self");
    let index = "encoder.layers.N.blocks.N.attention.self.relative_position_index";
    let whole = TRUNK.iter().find_map(|(original, other)| renamed(name, other, original));
    whole
        .map(|name| Target::Whole(format!("backbone.0.{name}")))
        .or_else(|| third(name, fused.1, fused.0))
        .or_else(|| is_any(name, &[index]).then_some(Target::Unused))
}

/// The published configuration.
pub fn config() -> Value {
    json!({
        "hidden_dim": 256, "nheads": 8, "enc_layers": 6, "dec_layers": 6, "dim_feedforward": 2048,
        "num_queries": 900, "num_feature_levels": 4, "enc_n_points": 4, "dec_n_points": 4,
        "swin_embed": 96, "swin_depths": [2, 2, 6, 2], "swin_heads": [3, 6, 12, 24], "swin_window": 7,
        "bert_hidden": 768, "bert_layers": 12, "bert_heads": 12, "bert_ffn": 3072,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_projections_become_thirds_of_one() {
        let rows = |of: &str, part| Target::rows(of, part, 3);
        let fused = "transformer.decoder.layers.5.ca_text.in_proj_bias";
        assert_eq!(hugging_face("model.decoder.layers.5.encoder_attn_text.key.bias"), rows(fused, 1));
        let fused = "backbone.0.layers.2.blocks.5.attn.qkv.weight";
        let value = "model.backbone.conv_encoder.model.encoder.layers.2.blocks.5.attention.self.value.weight";
        assert_eq!(hugging_face(value), rows(fused, 2));
        assert_eq!(original(fused), Target::whole(fused));
        assert_eq!(original("transformer.decoder.layers.5.ca_text.in_proj_weight"), {
            Target::whole("transformer.decoder.layers.5.ca_text.in_proj_weight")
        });
    }

    #[test]
    fn every_box_head_is_the_first() {
        let head = Target::whole("bbox_embed.0.layers.2.bias");
        for name in ["bbox_embed.0.layers.2.bias", "bbox_embed.5.layers.2.bias"] {
            assert_eq!((original(name), hugging_face(name)), (head.clone(), head.clone()), "{name}");
        }
        assert_eq!(original("transformer.decoder.bbox_embed.3.layers.2.bias"), head);
        assert_eq!(hugging_face("model.decoder.bbox_embed.0.layers.2.bias"), head);
    }

    #[test]
    fn what_is_not_of_this_checkpoint_is_unknown() {
        for name in ["transformer.decoder.layers.0.norm4.bias", "label_enc.bias", "backbone.1.norm1.weight", "norm"] {
            assert_eq!((original(name), hugging_face(name)), (None, None), "{name}");
        }
        assert_eq!(original("label_enc.weight"), Some(Target::Unused));
        assert_eq!(original("bert.pooler.dense.bias"), Some(Target::Unused));
    }
}
