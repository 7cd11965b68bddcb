//! Names of both Q-Formers and their projectors: in BLIP-2's checkpoint, its Hugging Face folder, and BuboGPT's.
//!
//! A part holds `query_tokens`, `Qformer.bert.…` and the projector to the language model's width as `projector.fc`. The
//! picture's Q-Former is BLIP-2's with a projector that BuboGPT trained; the sound's is BuboGPT's own, whose checkpoint
//! also has the text stream that its training code never removed.

use super::names::Target;

const JOINER: &str = "multimodal_joiner.";
const PROJECTOR: &str = "projector.fc.";

/// Whether a tensor of the part comes with BLIP-2.
pub fn but_projector(name: &str) -> bool {
    !name.starts_with(PROJECTOR)
}

/// Whether a tensor of the part is of the projector.
pub fn only_projector(name: &str) -> bool {
    name.starts_with(PROJECTOR)
}

/// BLIP-2's own names; its projector to T5 and `ln_vision`, which belongs to the image encoder, are not used.
pub fn original(name: &str) -> Option<Target> {
    if name == "query_tokens" {
        return Target::whole(name);
    }
    if let Some(rest) = name.strip_prefix("Qformer.") {
        return text_or_query(rest).map(|needed| rename(needed, name));
    }
    let unused = ["t5_proj.", "ln_vision.", "visual_encoder.", "t5_model.", "opt_proj.", "opt_model."];
    unused.iter().any(|start| name.starts_with(start)).then_some(Target::Unused)
}

/// Names of `Salesforce/blip2-flan-t5-xxl`; the picture's trunk and the language model are others' business.
pub fn hugging_face(name: &str) -> Option<Target> {
    if name == "query_tokens" {
        return Target::whole(name);
    }
    let Some(rest) = name.strip_prefix("qformer.") else {
        let unused = ["language_projection.", "language_model.", "vision_model."];
        return unused.iter().any(|start| name.starts_with(start)).then_some(Target::Unused);
    };
    let rest = match rest.strip_prefix("layernorm.") {
        Some(norm) => format!("bert.embeddings.LayerNorm.{norm}"),
        None => format!("bert.{}", rest.replacen("attention.attention.", "attention.self.", 1)),
    };
    text_or_query(&rest).map(|needed| rename(needed, &format!("Qformer.{rest}")))
}

/// BuboGPT's projector behind BLIP-2's Q-Former; the rest of its checkpoint is for sounds.
pub fn bubogpt_image(name: &str) -> Option<Target> {
    if let Some(rest @ ("weight" | "bias")) = name.strip_prefix("multimodal_joiner.modality_post_projectors.vision.fc.")
    {
        return Target::whole(format!("{PROJECTOR}{rest}"));
    }
    let sounds = ["modality_post_projectors.audio.", "modality_qformers."];
    let joined = name.strip_prefix(JOINER).is_some_and(|rest| sounds.iter().any(|start| rest.starts_with(start)));
    (joined || is_frozen_buffer(name)).then_some(Target::Unused)
}

/// BuboGPT's Q-Former for sounds, its projector, and what the training code saved beside them.
pub fn bubogpt_audio(name: &str) -> Option<Target> {
    if is_frozen_buffer(name) {
        return Some(Target::Unused);
    }
    let name = name.strip_prefix(JOINER)?;
    if let Some(rest @ ("weight" | "bias")) = name.strip_prefix("modality_post_projectors.audio.fc.") {
        return Target::whole(format!("{PROJECTOR}{rest}"));
    }
    match name.strip_prefix("modality_qformers.audio.") {
        Some("query_tokens") => Target::whole("query_tokens"),
        Some(own) => text_or_query(own.strip_prefix("Qformer.")?).map(|needed| rename(needed, own)),
        None => {
            let others =
                ["modality_qformers.vision.Qformer.bert.embeddings.position_ids", "modality_post_projectors.vision."];
            others.iter().any(|start| name.starts_with(start)).then_some(Target::Unused)
        }
    }
}

/// Buffers of frozen networks, which were saved because only parameters were filtered.
fn is_frozen_buffer(name: &str) -> bool {
    name == "multimodal_encoder.modality_postprocessors.audio.1.log_logit_scale"
        || name.starts_with("llama_model.") && name.ends_with(".rotary_emb.inv_freq")
}

fn rename(needed: bool, name: &str) -> Target {
    if needed { Target::Whole(name.to_owned()) } else { Target::Unused }
}

/// Whether a tensor below `Qformer.` serves the queries; `None` if a Q-Former has no such tensor.
fn text_or_query(name: &str) -> Option<bool> {
    const NORM: &[&str] = &["LayerNorm.weight", "LayerNorm.bias"];
    const DENSE: &[&str] = &["dense.weight", "dense.bias"];
    let ends = |rest: &str, among: &[&[&str]]| among.iter().any(|ends| ends.contains(&rest));
    if let Some(rest) = name.strip_prefix("cls.predictions.") {
        let known = ["bias", "decoder.weight", "decoder.bias"].contains(&rest)
            || rest.strip_prefix("transform.").is_some_and(|rest| ends(rest, &[NORM, DENSE]));
        return known.then_some(false);
    }
    let name = name.strip_prefix("bert.")?;
    if let Some(rest) = name.strip_prefix("embeddings.") {
        let text = ["word_embeddings.weight", "position_embeddings.weight", "position_ids"];
        return if ends(rest, &[NORM]) { Some(true) } else { text.contains(&rest).then_some(false) };
    }
    let (layer, rest) = super::names::numbered(name, "encoder.layer.")?;
    let (block, rest) = rest.split_once('.')?;
    match block {
        "attention" | "crossattention" => {
            let projections = ["query.weight", "query.bias", "key.weight", "key.bias", "value.weight", "value.bias"];
            let known = match rest.split_once('.')? {
                ("self", rest) => projections.contains(&rest),
                ("output", rest) => ends(rest, &[NORM, DENSE]),
                _ => false,
            };
            // Every second layer looks at the features.
            (known && (block == "attention" || layer % 2 == 0)).then_some(true)
        }
        "intermediate_query" => ends(rest, &[DENSE]).then_some(true),
        "output_query" => ends(rest, &[NORM, DENSE]).then_some(true),
        "intermediate" => ends(rest, &[DENSE]).then_some(false),
        "output" => ends(rest, &[NORM, DENSE]).then_some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_go_through_their_own_feed_forward_network() {
        let layer = "Qformer.bert.encoder.layer.3.";
        let whole = |name: &str| Some(Target::Whole(name.to_owned()));
        let query = format!("{layer}intermediate_query.dense.weight");
        assert_eq!(original(&query), whole(&query));
        assert_eq!(original(&format!("{layer}intermediate.dense.weight")), Some(Target::Unused));
        assert_eq!(original(&format!("{layer}crossattention.self.key.weight")), None, "an odd layer");
        assert_eq!(
            hugging_face("qformer.encoder.layer.0.crossattention.attention.key.bias"),
            whole("Qformer.bert.encoder.layer.0.crossattention.self.key.bias")
        );
        assert_eq!(hugging_face("qformer.layernorm.bias"), whole("Qformer.bert.embeddings.LayerNorm.bias"));
        assert_eq!(
            bubogpt_image("multimodal_joiner.modality_post_projectors.vision.fc.bias"),
            whole("projector.fc.bias")
        );
        for unknown in ["Qformer.bert.pooler.dense.weight", "optimizer", "Qformer.bert.encoder.layer.1.lora.weight"] {
            assert_eq!(
                (original(unknown), hugging_face(unknown), bubogpt_audio(unknown)),
                (None, None, None),
                "{unknown}"
            );
        }
    }
}
