//! The models that checkpoints are converted for: what each asks for, found out by asking it.
//!
//! No list of tensors is kept here. A model is loaded from a [listing](bubo::nn::Weights::listing), which knows shapes
//! and hands out zeros without memory, and what it asked for is what it needs. Configurations follow from shapes; where
//! shapes are silent they are the published ones.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use bubo::encoders::eva_vit::EvaVit;
use bubo::encoders::imagebind::ImageBindAudio;
use bubo::encoders::projector::ProjectedQFormer;
use bubo::grounding::detector::grounding_dino::{self as dino, GroundingDino};
use bubo::grounding::segmenter::sam::{self, Sam};
use bubo::grounding::tagger::ram::{self as tagger, Ram};
use bubo::language::Llama;
use bubo::nn::{Asked, Weights};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::names::numbered;
use super::{eva_vit, grounding_dino, llama, mobile_sam, ram};

/// Names and shapes.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Names and bytes of a part's small files.
pub type SmallFiles = Vec<(String, Vec<u8>)>;

/// A model as a part of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The part that it is: `tagger`, `detector`, …
    pub part: &'static str,
    /// Its name in the manifest.
    pub model: &'static str,
    /// Its configuration as far as shapes tell it, the published one for the rest.
    pub config: fn(&Shapes) -> Json,
    /// Loads it; what is given back holds its memory and nothing more.
    pub load: fn(&Json, &Weights) -> Result<Box<dyn Any>>,
    /// What a file beside the checkpoint says about the configuration, over what the shapes tell.
    pub config_beside: fn(&Path, Json) -> Result<Json>,
    /// Small files of the part (labels, tokeniser) from beside the checkpoint.
    pub files: fn(&Path) -> Result<SmallFiles>,
    /// SPDX expression of the weights' licence.
    pub spdx: &'static str,
    /// Where the weights come from, for people.
    pub origin: &'static str,
}

impl Model {
    /// Whether both are the same part of the same model.
    pub fn is(&self, other: &Model) -> bool {
        (self.part, self.model) == (other.part, other.model)
    }

    /// What the model asks for in a configuration, given what is there.
    ///
    /// # Errors
    /// If the configuration makes no sense to the model.
    pub fn expected(&self, config: &Json, present: &Shapes) -> Result<BTreeMap<String, Asked>> {
        let weights = Weights::listing(present.clone())?;
        (self.load)(config, &weights).with_context(|| format!("the model {} of the part {}", self.model, self.part))?;
        Ok(weights.asked())
    }
}

/// All models of the paper's system, in the order in which a bundle loads them: what explores a picture first.
pub const MODELS: &[&Model] =
    &[&RAM, &GROUNDING_DINO, &SAM, &MOBILE_SAM, &EVA_VIT, &IMAGE_QFORMER, &IMAGEBIND_AUDIO, &AUDIO_QFORMER, &LLAMA];

fn shapes_suffice(_: &Path, config: Json) -> Result<Json> {
    Ok(config)
}

fn no_files(_: &Path) -> Result<SmallFiles> {
    Ok(Vec::new())
}

fn parsed<T: DeserializeOwned>(config: &Json) -> Result<T> {
    serde_json::from_value(config.clone()).context("its configuration")
}

/// One size of a tensor's shape, or what is usual.
fn size(shapes: &Shapes, name: &str, axis: usize, usual: usize) -> usize {
    shapes.get(name).and_then(|dims| dims.get(axis)).copied().unwrap_or(usual)
}

/// How many numbered blocks there are behind a prefix.
fn count(shapes: &Shapes, prefix: &str) -> usize {
    shapes.keys().filter_map(|name| numbered(name, prefix)).map(|(number, _)| number + 1).max().unwrap_or(0)
}

/// RAM with Swin-L.
pub const RAM: Model = Model {
    part: "tagger",
    model: "ram",
    config: |_| ram::config(),
    load: |config, weights| Ok(Box::new(Ram::load(&parsed(config)?, weights)?)),
    config_beside: shapes_suffice,
    files: |source| {
        let hint = "from ram/data of xinyu1205/recognize-anything";
        [tagger::TAG_LIST_FILE, tagger::THRESHOLD_FILE]
            .into_iter()
            .map(|name| Ok((name.to_owned(), beside(source, &[name], hint)?)))
            .collect()
    },
    spdx: "Apache-2.0",
    origin: "Recognize Anything by OPPO",
};

/// Grounding DINO with Swin-T.
pub const GROUNDING_DINO: Model = Model {
    part: "detector",
    model: "grounding_dino",
    config: |_| grounding_dino::config(),
    load: |config, weights| Ok(Box::new(GroundingDino::load(&parsed(config)?, weights)?)),
    config_beside: shapes_suffice,
    files: |source| {
        let hint = "the tokenizer.json of bert-base-uncased";
        let tokenizer = beside(source, &[dino::TOKENIZER_FILE, "tokenizer.json"], hint)?;
        Ok(vec![(dino::TOKENIZER_FILE.to_owned(), tokenizer)])
    },
    spdx: "Apache-2.0",
    origin: "Grounding DINO by IDEA Research",
};

/// A small file in a checkpoint's folder, under the first of the names that is there.
fn beside(source: &Path, names: &[&str], hint: &str) -> Result<Vec<u8>> {
    let folder = if source.is_dir() { source } else { source.parent().unwrap_or(Path::new(".")) };
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.exists());
    let missing = || format!("{} holds no {}: put it there, {hint}", folder.display(), names[0]);
    let path = found.with_context(missing)?;
    std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))
}

/// Segment Anything in its three sizes.
pub const SAM: Model = Model {
    part: "segmenter",
    model: "sam",
    config: sam_config,
    load: |config, weights| {
        let encoder = sam::image_encoder::load(&parsed(config)?, weights)?;
        Ok(Box::new(Sam::load(&parsed(config)?, encoder, weights)?))
    },
    config_beside: shapes_suffice,
    files: no_files,
    spdx: "Apache-2.0",
    origin: "Segment Anything by Meta",
};

/// As far as shapes tell it; in the published widths with all the blocks that belong to them, so that a file without its
/// last ones does not pass for a smaller model.
fn sam_config(shapes: &Shapes) -> Json {
    let mut config = super::sam::config(shapes);
    let published = [(768, 12, [2, 5, 8, 11]), (1024, 24, [5, 11, 17, 23]), (1280, 32, [7, 15, 23, 31])];
    if let Some((_, depth, global)) = published.iter().find(|(width, ..)| config["embed_dim"] == *width) {
        config["depth"] = json!(depth);
        config["global_attn_indexes"] = json!(global);
    }
    config
}

/// MobileSAM.
pub const MOBILE_SAM: Model = Model {
    part: "segmenter",
    model: "mobile_sam",
    config: mobile_sam::config,
    load: |config, weights| {
        let encoder = sam::tiny_vit::load(&parsed(config)?, weights)?;
        Ok(Box::new(Sam::load(&parsed(config)?, encoder, weights)?))
    },
    config_beside: shapes_suffice,
    files: no_files,
    spdx: "Apache-2.0",
    origin: "MobileSAM by Kyung Hee University",
};

/// EVA-CLIP's ViT-g with the norm that BLIP-2 puts behind it.
pub const EVA_VIT: Model = Model {
    part: "image_encoder",
    model: "eva_vit",
    config: |shapes| {
        let mut config = eva_vit::config(shapes);
        if config["embed_dim"] == 1408 {
            config["depth"] = json!(39);
        }
        config
    },
    load: |config, weights| Ok(Box::new(EvaVit::load(&parsed(config)?, weights)?)),
    config_beside: shapes_suffice,
    files: no_files,
    spdx: "MIT",
    origin: "EVA-CLIP ViT-g/14 by BAAI; norm of BLIP-2 (Salesforce LAVIS, BSD-3-Clause)",
};

/// ImageBind's trunk for sounds.
pub const IMAGEBIND_AUDIO: Model = Model {
    part: "audio_encoder",
    model: "imagebind",
    config: |_| json!({ "embed_dim": 768, "num_blocks": 12, "num_heads": 12, "mlp_ratio": 4 }),
    load: |config, weights| Ok(Box::new(ImageBindAudio::load(&parsed(config)?, weights)?)),
    config_beside: shapes_suffice,
    files: no_files,
    spdx: "CC-BY-NC-SA-4.0",
    origin: "ImageBind-huge by Meta, for non-commercial use",
};

/// LLaMA as Vicuna, BuboGPT's language model, or any other.
pub const LLAMA: Model = Model {
    part: "language",
    model: "llama",
    config: llama_config,
    load: |config, weights| Ok(Box::new(Llama::load(&parsed(config)?, weights)?)),
    config_beside: llama::config,
    files: |folder| Ok(vec![("tokenizer.json".into(), llama::tokenizer(folder)?)]),
    spdx: "LicenseRef-LLaMA",
    origin: "Vicuna-7B v0 (LLaMA-1 by Meta, for research; fine-tuned by LMSYS)",
};

fn llama_config(shapes: &Shapes) -> Json {
    let (vocab, hidden) = ("model.embed_tokens.weight", size(shapes, "model.embed_tokens.weight", 1, 4096));
    // Heads cannot be told from shapes: 128 wide in LLaMA's own sizes, 64 in small models.
    let head_dim = if hidden >= 2048 { 128 } else { 64 };
    let key_rows = size(shapes, "model.layers.0.self_attn.k_proj.weight", 0, hidden);
    let known = [(576, 30), (4096, 32), (5120, 40)];
    let layers = known.iter().find(|(width, _)| *width == hidden);
    let tied = shapes.contains_key(vocab) && !shapes.contains_key("lm_head.weight");
    json!({
        "vocab_size": size(shapes, vocab, 0, 32000),
        "hidden_size": hidden,
        "intermediate_size": size(shapes, "model.layers.0.mlp.gate_proj.weight", 0, 11008),
        "num_hidden_layers": layers.map_or(count(shapes, "model.layers."), |(_, layers)| *layers),
        "num_attention_heads": hidden / head_dim,
        "num_key_value_heads": key_rows / head_dim,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        // A Vicuna without its head is damaged; only small models share the table.
        "tie_word_embeddings": tied && hidden < 2048,
    })
}

/// BLIP-2's Q-Former and BuboGPT's projector behind it.
pub const IMAGE_QFORMER: Model = Model {
    part: "image_qformer",
    model: "qformer",
    config: |shapes| qformer_config(shapes, 1408),
    load: load_qformer,
    config_beside: shapes_suffice,
    files: no_files,
    spdx: "BSD-3-Clause",
    origin: "BLIP-2 (Salesforce LAVIS), projector of BuboGPT-7B",
};

/// BuboGPT's Q-Former for sounds and its projector.
pub const AUDIO_QFORMER: Model = Model {
    part: "audio_qformer",
    model: "qformer",
    config: |shapes| qformer_config(shapes, 768),
    load: load_qformer,
    config_beside: shapes_suffice,
    files: no_files,
    spdx: "Apache-2.0",
    origin: "BuboGPT-7B (magicr/BuboGPT-ckpt)",
};

fn qformer_config(shapes: &Shapes, encoder_width: usize) -> Json {
    let layer = "Qformer.bert.encoder.layer.0";
    let hidden = size(shapes, "query_tokens", 2, 768);
    json!({
        "hidden_size": hidden,
        "num_hidden_layers": 12,
        "num_attention_heads": hidden / 64,
        "intermediate_size": size(shapes, &format!("{layer}.intermediate_query.dense.weight"), 0, 3072),
        "num_query_token": size(shapes, "query_tokens", 1, 32),
        "encoder_width": size(shapes, &format!("{layer}.crossattention.self.key.weight"), 1, encoder_width),
        "cross_attention_freq": 2,
        "projector_width": size(shapes, "projector.fc.weight", 0, 4096),
    })
}

fn load_qformer(config: &Json, weights: &Weights) -> Result<Box<dyn Any>> {
    Ok(Box::new(ProjectedQFormer::load(&parsed(config)?, weights)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::names::CHECKPOINTS;

    #[test]
    fn every_model_of_a_checkpoint_is_converted_and_every_part_has_one_checkpoint_at_least() {
        for share in CHECKPOINTS.iter().flat_map(|row| row.shares) {
            assert!(MODELS.iter().any(|model| model.is(share.model)), "{}", share.model.model);
        }
        for model in MODELS {
            assert!(
                CHECKPOINTS.iter().any(|row| row.shares.iter().any(|share| share.model.is(model))),
                "{}",
                model.part
            );
        }
    }

    #[test]
    fn published_configurations_load_without_any_shapes_but_those_of_tables() {
        for model in MODELS.iter().filter(|model| model.model != "grounding_dino") {
            let nothing = Shapes::new();
            let asked = model.expected(&(model.config)(&nothing), &nothing);
            let asked = asked.unwrap_or_else(|error| panic!("{}: {error:#}", model.model));
            assert!(asked.len() > 100, "{} asks for {} tensors", model.model, asked.len());
        }
    }
}
