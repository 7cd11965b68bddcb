//! LLaMA from a Hugging Face folder: names, configuration, tokeniser, and how BuboGPT talks to its Vicuna.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

use super::names::{Target, numbered};
use super::sentencepiece;

/// Keys of `config.json` that the model reads.
const SIZES: [&str; 8] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
];

/// Hugging Face's names, which are the model's own; the tables of rotary frequencies follow from the configuration.
pub fn hugging_face(name: &str) -> Option<Target> {
    if ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"].contains(&name) {
        return Target::whole(name);
    }
    let (_, rest) = numbered(name, "model.layers.")?;
    match rest {
        "self_attn.q_proj.weight"
        | "self_attn.k_proj.weight"
        | "self_attn.v_proj.weight"
        | "self_attn.o_proj.weight"
        | "mlp.gate_proj.weight"
        | "mlp.up_proj.weight"
        | "mlp.down_proj.weight"
        | "input_layernorm.weight"
        | "post_attention_layernorm.weight" => Target::whole(name),
        "self_attn.rotary_emb.inv_freq" => Some(Target::Unused),
        _ => None,
    }
}

/// The configuration of a folder's `config.json` with BuboGPT's manners, over what the shapes told.
///
/// # Errors
/// If there is none, or it is of another architecture.
pub fn config(folder: &Path, from_shapes: Json) -> Result<Json> {
    let path = folder.join("config.json");
    let text =
        std::fs::read(&path).with_context(|| format!("could not read {}, which tells the sizes", path.display()))?;
    let theirs: Json = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let architecture = theirs["architectures"][0].as_str().unwrap_or_default();
    ensure!(
        matches!(architecture, "LlamaForCausalLM" | "LLaMAForCausalLM"),
        "{} describes a {architecture:?}; this converts LlamaForCausalLM",
        path.display()
    );
    ensure!(theirs["rope_scaling"].is_null(), "stretched rotary positions (`rope_scaling`) are not supported");
    let mut config = from_shapes;
    // Configurations from before shared key heads do not name them.
    config["num_key_value_heads"] = theirs["num_attention_heads"].clone();
    // The row count is the file's: v0 merges have one more than their configuration or one less than their tokeniser.
    for key in SIZES.into_iter().chain(["rope_theta", "tie_word_embeddings"]).filter(|key| *key != "vocab_size") {
        if !theirs[key].is_null() {
            config[key] = theirs[key].clone();
        }
    }
    Ok(with_vicuna_chat(config))
}

/// Adds how BuboGPT talks to Vicuna.
///
/// Source: magic-research/bubogpt @ 17c72b5, eval_scripts/conversation.py: `###` in both tokenisations ends an answer,
/// sampling with top-p 0.9 at temperature 1, at most 300 tokens, 2000 positions.
pub fn with_vicuna_chat(mut config: Json) -> Json {
    config["bos_token_id"] = json!(1);
    config["eos_token_id"] = json!(2);
    config["chat"] = json!({
        "format": "bubogpt",
        "add_bos": true,
        // As a text, too: it is held back while an answer streams.
        "stop": { "ids": [2], "sequences": [[835], [2277, 29937]], "strings": ["###"] },
        "generation": { "temperature": 1.0, "top_p": 0.9, "top_k": 50, "max_new_tokens": 300, "max_context": 2000 },
    });
    config
}

/// The folder's tokeniser: `tokenizer.json`, or SentencePiece's `tokenizer.model` in that form.
///
/// # Errors
/// If there is neither, or it is damaged.
pub fn tokenizer(folder: &Path) -> Result<Vec<u8>> {
    let json = folder.join("tokenizer.json");
    if json.exists() {
        return std::fs::read(&json).with_context(|| format!("could not read {}", json.display()));
    }
    let model = folder.join("tokenizer.model");
    let bytes = std::fs::read(&model).with_context(|| {
        format!("{} holds neither tokenizer.json nor tokenizer.model; copy one there", folder.display())
    })?;
    let pieces = sentencepiece::pieces(&bytes).with_context(|| format!("{} is damaged", model.display()))?;
    Ok(serde_json::to_vec(&sentencepiece::tokenizer_json(&pieces)?)?)
}
