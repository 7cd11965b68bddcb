//! `imagebind_huge.pth`: six modalities, of which sounds are needed.

use super::names::{Target, numbered};

/// What stands in front of every tensor of one modality.
const FAMILIES: [&str; 4] =
    ["modality_preprocessors.", "modality_trunks.", "modality_heads.", "modality_postprocessors."];
/// Modalities that BuboGPT does not use; pictures go through EVA ViT.
const OTHERS: [&str; 5] = ["vision.", "text.", "depth.", "thermal.", "imu."];

/// Names of the original's checkpoint. The head for sounds is not needed either: BuboGPT reads the tokens before it.
///
/// Source: facebookresearch/ImageBind, imagebind/models/imagebind_model.py @ 53680b0.
pub fn original(name: &str) -> Option<Target> {
    let (family, rest) = FAMILIES.iter().find_map(|family| Some((*family, name.strip_prefix(family)?)))?;
    if OTHERS.iter().any(|modality| rest.starts_with(modality)) {
        return Some(Target::Unused);
    }
    let rest = rest.strip_prefix("audio.")?;
    let needed = match family {
        "modality_preprocessors." => matches!(
            rest,
            "cls_token"
                | "pos_embedding_helper.pos_embed"
                | "rgbt_stem.proj.weight"
                | "rgbt_stem.norm_layer.weight"
                | "rgbt_stem.norm_layer.bias"
        ),
        "modality_trunks." => numbered(rest, "blocks.").is_some_and(|(_, tensor)| is_in_block(tensor)),
        "modality_postprocessors." => rest == "1.log_logit_scale",
        _ if matches!(rest, "0.weight" | "0.bias" | "2.weight") => return Some(Target::Unused),
        _ => false,
    };
    if needed { Target::whole(name) } else { None }
}

fn is_in_block(tensor: &str) -> bool {
    let (layer, last) = tensor.rsplit_once('.').unwrap_or_default();
    match layer {
        "attn" => matches!(last, "in_proj_weight" | "in_proj_bias" | "bias_k" | "bias_v"),
        "attn.out_proj" | "norm_1" | "norm_2" | "mlp.fc1" | "mlp.fc2" => matches!(last, "weight" | "bias"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_needed_and_the_rest_is_known() {
        for name in [
            "modality_preprocessors.audio.cls_token",
            "modality_preprocessors.audio.pos_embedding_helper.pos_embed",
            "modality_trunks.audio.blocks.11.attn.bias_k",
            "modality_trunks.audio.blocks.0.mlp.fc2.weight",
            "modality_postprocessors.audio.1.log_logit_scale",
        ] {
            assert_eq!(original(name), Target::whole(name));
        }
        for name in [
            "modality_heads.audio.2.weight",
            "modality_preprocessors.text.mask",
            "modality_trunks.vision.blocks.31.attn.in_proj_weight",
            "modality_postprocessors.imu.1.log_logit_scale",
        ] {
            assert_eq!(original(name), Some(Target::Unused), "{name}");
        }
        for name in [
            "modality_trunks.audio.blocks.x.attn.bias_k",
            "modality_trunks.audio.blocks.0.attn.bias_q",
            "modality_trunks.audio.weight",
            "modality_heads.smell.0.weight",
            "modality_heads.audio.1.weight",
            "blocks.0.norm1.weight",
            "",
        ] {
            assert_eq!(original(name), None, "{name}");
        }
    }
}
