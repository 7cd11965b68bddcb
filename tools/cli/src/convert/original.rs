//! Settings under which the paper's system behaves as BuboGPT's demo does, faults included; `docs/options.md` lists them.

use serde_json::{Value as Json, json};

/// Puts the original's settings of a model over its configuration.
pub fn apply(model: &str, config: &mut Json) {
    let settings = match model {
        "ram" => json!({ "given_tags": "original" }),
        "grounding_dino" => json!({ "original": true }),
        "eva_vit" => json!({ "fit": "original" }),
        "imagebind" => json!({ "input": { "clip_mean": "original", "last_clip": "original" } }),
        "llama" => json!({ "chat": { "generation": { "cut": "original" } } }),
        _ => return,
    };
    merge(config, settings);
}

fn merge(config: &mut Json, settings: Json) {
    match settings {
        Json::Object(settings) => settings.into_iter().for_each(|(key, value)| merge(&mut config[key], value)),
        value => *config = value,
    }
}

#[cfg(test)]
mod tests {
    use bubo::encoders::{eva_vit, imagebind};
    use bubo::grounding::detector::grounding_dino;
    use bubo::grounding::tagger::ram::{self, GivenTags};
    use bubo::language::{ChatSettings, ContextCut};
    use bubo::media::{ClipMean, Fit, LastClip};
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::convert::llama::with_vicuna_chat;
    use crate::convert::models::{EVA_VIT, GROUNDING_DINO, IMAGEBIND_AUDIO, MODELS, RAM, Shapes};

    fn both<T: DeserializeOwned>(model: &str, config: Json) -> [T; 2] {
        let mut original = config.clone();
        apply(model, &mut original);
        [config, original].map(|config| serde_json::from_value(config).expect("a configuration"))
    }

    /// The models read every setting under the name that it is given here.
    #[test]
    fn every_setting_is_one_that_its_model_knows() {
        let shapes = Shapes::new();
        let tags = both::<ram::Config>("ram", (RAM.config)(&shapes)).map(|config| config.given_tags);
        assert_eq!(tags, [GivenTags::Things, GivenTags::Original]);
        let dino = both::<grounding_dino::Config>("grounding_dino", (GROUNDING_DINO.config)(&shapes));
        assert_eq!(dino.map(|config| config.original), [false, true]);
        let fit = both::<eva_vit::Config>("eva_vit", (EVA_VIT.config)(&shapes)).map(|config| config.fit);
        assert_eq!(fit, [Fit::Squash, Fit::Original]);
        let heard = both::<imagebind::Config>("imagebind", (IMAGEBIND_AUDIO.config)(&shapes));
        let heard = heard.map(|config| (config.input.clip_mean, config.input.last_clip));
        assert_eq!(heard, [(ClipMean::Clean, LastClip::End), (ClipMean::Original, LastClip::Original)]);
        let mut llama = with_vicuna_chat(json!({}));
        let cut = |config: &Json| -> ContextCut {
            serde_json::from_value::<ChatSettings>(config["chat"].clone()).expect("manners").generation.cut
        };
        assert_eq!(cut(&llama), ContextCut::Pinned);
        apply("llama", &mut llama);
        assert_eq!(cut(&llama), ContextCut::Original);
        assert_eq!(llama["chat"]["generation"]["max_context"], 2000, "what is not named stays");
        assert!(MODELS.iter().filter(|model| model.model == "imagebind").count() == 1);
    }
}
