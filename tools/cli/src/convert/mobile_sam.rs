//! MobileSAM: `mobile_sam.pt`. Batch norms keep their tensors; the model folds them when it is loaded.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::names::Target;
use super::pattern::{count, is_any, original as of_original, size};
use super::sam::{PROMPTS_AND_MASKS, is_attention, prompts_and_masks_config};

/// Places of a convolution with its batch norm in the image encoder.
const CONVOLUTIONS: &[&str] = &[
    "patch_embed.seq.N",
    "layers.N.blocks.N.conv1",
    "layers.N.blocks.N.conv2",
    "layers.N.blocks.N.conv3",
    "layers.N.blocks.N.local_conv",
    "layers.N.downsample.conv1",
    "layers.N.downsample.conv2",
    "layers.N.downsample.conv3",
];

/// What a convolution with its batch norm has, but for the count of batches seen.
const CONVOLUTION: &[&str] = &["c.weight", "bn.*", "bn.running_mean", "bn.running_var"];

/// The rest of the image encoder.
const OTHERS: &[&str] = &[
    "layers.N.blocks.N.attn.attention_biases",
    "layers.N.blocks.N.attn.norm.*",
    "layers.N.blocks.N.attn.qkv.*",
    "layers.N.blocks.N.attn.proj.*",
    "layers.N.blocks.N.mlp.norm.*",
    "layers.N.blocks.N.mlp.fc1.*",
    "layers.N.blocks.N.mlp.fc2.*",
    "neck.0.weight",
    "neck.1.*",
    "neck.2.weight",
    "neck.3.*",
];

/// A classifier that was trained along, and what can be computed.
const UNUSED: &[&str] = &["norm_head.*", "head.*", "layers.N.blocks.N.attn.attention_bias_idxs"];

/// Names of the original's file.
pub fn original(name: &str) -> Option<Target> {
    let Some(encoder) = name.strip_prefix("image_encoder.") else {
        let attention = || is_attention(name).then(|| Target::Whole(name.to_owned()));
        return of_original(name, PROMPTS_AND_MASKS).or_else(attention);
    };
    let of_convolution = |tail: &str| CONVOLUTIONS.iter().any(|place| is_any(encoder, &[&format!("{place}.{tail}")]));
    if is_any(encoder, UNUSED) || of_convolution("bn.num_batches_tracked") {
        return Some(Target::Unused);
    }
    let needed = is_any(encoder, OTHERS) || CONVOLUTION.iter().any(|tail| of_convolution(tail));
    needed.then(|| Target::Whole(name.to_owned()))
}

/// The model's configuration, as far as the shapes of its tensors tell it; the published one for the rest.
pub fn config(shapes: &BTreeMap<String, Vec<usize>>) -> Value {
    const DIMS: [usize; 4] = [64, 128, 160, 320];
    const DEPTHS: [usize; 4] = [2, 2, 6, 2];
    const HEADS: [usize; 4] = [2, 4, 5, 10];
    const WINDOWS: [usize; 4] = [7, 7, 14, 7];
    let block = |stage: usize, rest: &str| format!("image_encoder.layers.{stage}.blocks.0.{rest}");
    let stage_dim = |stage: usize| match stage {
        0 => size(shapes, &block(0, "conv1.c.weight"), 1, DIMS[0]),
        _ => size(shapes, &block(stage, "attn.norm.weight"), 0, DIMS[stage]),
    };
    let depth = |stage: usize| {
        let last = if stage == 0 { "conv1.c.weight" } else { "attn.norm.weight" };
        let found = count(shapes, &format!("image_encoder.layers.{stage}.blocks.N.{last}"));
        if found == 0 { DEPTHS[stage] } else { found }
    };
    let biases = |stage: usize| block(stage, "attn.attention_biases");
    let window = |stage: usize| (size(shapes, &biases(stage), 1, WINDOWS[stage].pow(2)) as f64).sqrt() as usize;
    let stages = [0, 1, 2, 3];
    let mut config = prompts_and_masks_config(shapes, 1024);
    config["embed_dims"] = json!(stages.map(stage_dim));
    config["depths"] = json!(stages.map(depth));
    config["num_heads"] = json!(stages.map(|stage| size(shapes, &biases(stage), 0, HEADS[stage])));
    config["window_sizes"] = json!(stages.map(window));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_needed_or_known() {
        let whole = |name: &str| Some(Target::Whole(name.to_owned()));
        for name in [
            "image_encoder.patch_embed.seq.2.bn.running_var",
            "image_encoder.layers.0.blocks.1.conv3.c.weight",
            "image_encoder.layers.2.blocks.5.local_conv.bn.bias",
            "image_encoder.layers.1.downsample.conv2.bn.running_mean",
            "image_encoder.layers.3.blocks.1.attn.attention_biases",
            "image_encoder.neck.2.weight",
            "prompt_encoder.point_embeddings.3.weight",
            "mask_decoder.transformer.final_attn_token_to_image.q_proj.bias",
        ] {
            assert_eq!(original(name), whole(name), "{name}");
        }
        for name in [
            "image_encoder.layers.0.blocks.1.conv3.bn.num_batches_tracked",
            "image_encoder.norm_head.bias",
            "image_encoder.head.weight",
            "image_encoder.layers.1.blocks.0.attn.attention_bias_idxs",
        ] {
            assert_eq!(original(name), Some(Target::Unused), "{name}");
        }
        for name in ["image_encoder.pos_embed", "image_encoder.layers.0.blocks.0.conv1.weight", "head.weight"] {
            assert_eq!(original(name), None, "{name}");
        }
    }

    #[test]
    fn sizes_follow_from_shapes() {
        let shapes = BTreeMap::from([
            ("image_encoder.layers.2.blocks.0.attn.attention_biases".to_owned(), vec![4, 16]),
            ("image_encoder.layers.2.blocks.0.attn.norm.weight".to_owned(), vec![20]),
        ]);
        let found = config(&shapes);
        assert_eq!((&found["num_heads"], &found["window_sizes"]), (&json!([2, 4, 4, 10]), &json!([7, 7, 4, 7])));
        assert_eq!((&found["embed_dims"], &found["depths"]), (&json!([64, 128, 20, 320]), &json!([2, 2, 1, 2])));
    }
}
