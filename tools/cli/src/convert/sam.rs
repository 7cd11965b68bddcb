//! Segment Anything: `sam_vit_{b,l,h}.pth`, or Hugging Face's conversions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::names::Target;
use super::pattern::{Rows, count, original as of_original, size, translated};

/// The image encoder: the original's names and Hugging Face's.
const IMAGE_ENCODER: Rows = &[
    ("image_encoder.pos_embed", "vision_encoder.pos_embed"),
    ("image_encoder.patch_embed.proj.*", "vision_encoder.patch_embed.projection.*"),
    ("image_encoder.blocks.N.norm1.*", "vision_encoder.layers.N.layer_norm1.*"),
    ("image_encoder.blocks.N.norm2.*", "vision_encoder.layers.N.layer_norm2.*"),
    ("image_encoder.blocks.N.attn.qkv.*", "vision_encoder.layers.N.attn.qkv.*"),
    ("image_encoder.blocks.N.attn.proj.*", "vision_encoder.layers.N.attn.proj.*"),
    ("image_encoder.blocks.N.attn.rel_pos_h", "vision_encoder.layers.N.attn.rel_pos_h"),
    ("image_encoder.blocks.N.attn.rel_pos_w", "vision_encoder.layers.N.attn.rel_pos_w"),
    ("image_encoder.blocks.N.mlp.lin1.*", "vision_encoder.layers.N.mlp.lin1.*"),
    ("image_encoder.blocks.N.mlp.lin2.*", "vision_encoder.layers.N.mlp.lin2.*"),
    ("image_encoder.neck.0.weight", "vision_encoder.neck.conv1.weight"),
    ("image_encoder.neck.1.*", "vision_encoder.neck.layer_norm1.*"),
    ("image_encoder.neck.2.weight", "vision_encoder.neck.conv2.weight"),
    ("image_encoder.neck.3.*", "vision_encoder.neck.layer_norm2.*"),
];

const GAUSSIAN: &str = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";

/// Prompt encoder and mask decoder, which MobileSAM has under the same names.
pub(super) const PROMPTS_AND_MASKS: Rows = &[
    // One matrix under two names, of which a file has either or both.
    (GAUSSIAN, "shared_image_embedding.positional_embedding"),
    (GAUSSIAN, "prompt_encoder.shared_embedding.positional_embedding"),
    ("prompt_encoder.point_embeddings.N.weight", "prompt_encoder.point_embed.N.weight"),
    ("prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
    ("prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
    ("prompt_encoder.mask_downscaling.0.*", "prompt_encoder.mask_embed.conv1.*"),
    ("prompt_encoder.mask_downscaling.1.*", "prompt_encoder.mask_embed.layer_norm1.*"),
    ("prompt_encoder.mask_downscaling.3.*", "prompt_encoder.mask_embed.conv2.*"),
    ("prompt_encoder.mask_downscaling.4.*", "prompt_encoder.mask_embed.layer_norm2.*"),
    ("prompt_encoder.mask_downscaling.6.*", "prompt_encoder.mask_embed.conv3.*"),
    ("mask_decoder.iou_token.weight", "mask_decoder.iou_token.weight"),
    ("mask_decoder.mask_tokens.weight", "mask_decoder.mask_tokens.weight"),
    ("mask_decoder.transformer.layers.N.norm1.*", "mask_decoder.transformer.layers.N.layer_norm1.*"),
    ("mask_decoder.transformer.layers.N.norm2.*", "mask_decoder.transformer.layers.N.layer_norm2.*"),
    ("mask_decoder.transformer.layers.N.norm3.*", "mask_decoder.transformer.layers.N.layer_norm3.*"),
    ("mask_decoder.transformer.layers.N.norm4.*", "mask_decoder.transformer.layers.N.layer_norm4.*"),
    ("mask_decoder.transformer.layers.N.mlp.lin1.*", "mask_decoder.transformer.layers.N.mlp.lin1.*"),
    ("mask_decoder.transformer.layers.N.mlp.lin2.*", "mask_decoder.transformer.layers.N.mlp.lin2.*"),
    ("mask_decoder.transformer.norm_final_attn.*", "mask_decoder.transformer.layer_norm_final_attn.*"),
    ("mask_decoder.output_upscaling.0.*", "mask_decoder.upscale_conv1.*"),
    ("mask_decoder.output_upscaling.1.*", "mask_decoder.upscale_layer_norm.*"),
    ("mask_decoder.output_upscaling.3.*", "mask_decoder.upscale_conv2.*"),
    ("mask_decoder.output_hypernetworks_mlps.N.layers.0.*", "mask_decoder.output_hypernetworks_mlps.N.proj_in.*"),
    ("mask_decoder.output_hypernetworks_mlps.N.layers.1.*", "mask_decoder.output_hypernetworks_mlps.N.layers.0.*"),
    ("mask_decoder.output_hypernetworks_mlps.N.layers.2.*", "mask_decoder.output_hypernetworks_mlps.N.proj_out.*"),
    ("mask_decoder.iou_prediction_head.layers.0.*", "mask_decoder.iou_prediction_head.proj_in.*"),
    ("mask_decoder.iou_prediction_head.layers.1.*", "mask_decoder.iou_prediction_head.layers.0.*"),
    ("mask_decoder.iou_prediction_head.layers.2.*", "mask_decoder.iou_prediction_head.proj_out.*"),
];

/// Attentions of the mask decoder; their names are the same everywhere.
const ATTENTIONS: &[&str] = &[
    "mask_decoder.transformer.layers.N.self_attn.",
    "mask_decoder.transformer.layers.N.cross_attn_token_to_image.",
    "mask_decoder.transformer.layers.N.cross_attn_image_to_token.",
    "mask_decoder.transformer.final_attn_token_to_image.",
];

/// Whether a tensor belongs to an attention of the mask decoder.
pub(super) fn is_attention(name: &str) -> bool {
    let projections = ["q_proj.*", "k_proj.*", "v_proj.*", "out_proj.*"];
    let forms =
        ATTENTIONS.iter().flat_map(|attention| projections.map(|projection| format!("{attention}{projection}")));
    forms.into_iter().any(|form| super::pattern::is_any(name, &[&form]))
}

/// Names of the original's files.
pub fn original(name: &str) -> Option<Target> {
    let attention = || is_attention(name).then(|| Target::Whole(name.to_owned()));
    of_original(name, IMAGE_ENCODER).or_else(|| of_original(name, PROMPTS_AND_MASKS)).or_else(attention)
}

/// Names of `facebook/sam-vit-{base,large,huge}`.
pub fn hugging_face(name: &str) -> Option<Target> {
    let attention = || is_attention(name).then(|| Target::Whole(name.to_owned()));
    translated(name, IMAGE_ENCODER).or_else(|| translated(name, PROMPTS_AND_MASKS)).or_else(attention)
}

/// The model's configuration, as far as the shapes of its tensors under the original's names tell it; ViT-H's for the
/// rest.
pub fn config(shapes: &BTreeMap<String, Vec<usize>>) -> Value {
    let patch = size(shapes, "image_encoder.patch_embed.proj.weight", 2, 16);
    let grid = size(shapes, "image_encoder.pos_embed", 1, 64);
    let dim = size(shapes, "image_encoder.pos_embed", 3, 1280);
    let depth = count(shapes, "image_encoder.blocks.N.norm1.weight");
    let depth = if depth == 0 { 32 } else { depth };
    // A table of relative positions has 2 · side − 1 rows: those of the whole map mark the blocks that see all of it.
    let table = |block: usize| format!("image_encoder.blocks.{block}.attn.rel_pos_h");
    let side = |block: usize| shapes.get(&table(block)).and_then(|dims| dims.first()).map(|rows| rows.div_ceil(2));
    let sees_all = |block: &usize| match side(*block) {
        Some(side) => side == grid,
        None => (block + 1).is_multiple_of((depth / 4).max(1)),
    };
    let window = (0..depth).filter_map(side).find(|side| *side != grid).unwrap_or(14);
    let mut config = prompts_and_masks_config(shapes, grid * patch);
    config["patch_size"] = json!(patch);
    config["embed_dim"] = json!(dim);
    config["depth"] = json!(depth);
    config["num_heads"] = json!(dim / size(shapes, &table(0), 1, 80).max(1));
    config["window_size"] = json!(window);
    config["global_attn_indexes"] = json!((0..depth).filter(sees_all).collect::<Vec<_>>());
    config
}

/// The configuration of prompt encoder and mask decoder.
pub(super) fn prompts_and_masks_config(shapes: &BTreeMap<String, Vec<usize>>, img_size: usize) -> Value {
    let layer = "mask_decoder.transformer.layers.0";
    let dim = size(shapes, "mask_decoder.iou_token.weight", 1, 256);
    let layers = count(shapes, "mask_decoder.transformer.layers.N.norm1.weight");
    let inner = size(shapes, &format!("{layer}.cross_attn_token_to_image.q_proj.weight"), 0, dim / 2);
    json!({
        "img_size": img_size,
        "prompt_dim": dim,
        "mask_in_chans": size(shapes, "prompt_encoder.mask_downscaling.3.weight", 0, 16),
        "decoder_depth": if layers == 0 { 2 } else { layers },
        "decoder_mlp": size(shapes, &format!("{layer}.mlp.lin1.weight"), 0, 2048),
        // Heads cannot be told from shapes.
        "decoder_heads": 8,
        "decoder_attention_downsample_rate": dim / inner.max(1),
        "num_multimask": size(shapes, "mask_decoder.mask_tokens.weight", 0, 4).saturating_sub(1),
        "iou_hidden": size(shapes, "mask_decoder.iou_prediction_head.layers.0.weight", 0, 256),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_lead_to_the_same_names() {
        let whole = |name: &str| Some(Target::Whole(name.to_owned()));
        let rows = IMAGE_ENCODER.iter().chain(PROMPTS_AND_MASKS);
        for (ours, theirs) in rows {
            let filled = |form: &str| form.replace(".N.", ".1.").replace(".*", ".bias");
            let (ours, theirs) = (filled(ours), filled(theirs));
            assert_eq!((original(&ours), hugging_face(&theirs)), (whole(&ours), whole(&ours)), "{theirs}");
        }
        let attention = "mask_decoder.transformer.layers.0.self_attn.out_proj.weight";
        assert_eq!((original(attention), hugging_face(attention)), (whole(attention), whole(attention)));
        for name in ["image_encoder.norm.weight", "image_encoder.neck.0.bias", "pixel_mean", "mask_decoder.x"] {
            assert_eq!((original(name), hugging_face(name)), (None, None), "{name}");
        }
    }

    #[test]
    fn variants_follow_from_shapes() {
        for (dim, depth, heads, global) in
            [(768, 12, 12, [2, 5, 8, 11]), (1024, 24, 16, [5, 11, 17, 23]), (1280, 32, 16, [7, 15, 23, 31])]
        {
            let mut shapes = BTreeMap::from([("image_encoder.pos_embed".to_owned(), vec![1, 64, 64, dim])]);
            for block in 0..depth {
                let rows = if global.contains(&block) { 127 } else { 27 };
                let name = format!("image_encoder.blocks.{block}");
                shapes.insert(format!("{name}.attn.rel_pos_h"), vec![rows, dim / heads]);
                shapes.insert(format!("{name}.norm1.weight"), vec![dim]);
            }
            let config = config(&shapes);
            let found = [&config["depth"], &config["num_heads"], &config["window_size"], &config["img_size"]];
            assert_eq!(found, [&json!(depth), &json!(heads), &json!(14), &json!(1024)]);
            assert_eq!(config["global_attn_indexes"], json!(global));
        }
        assert_eq!(config(&BTreeMap::new())["global_attn_indexes"], json!([7, 15, 23, 31]));
    }
}
