//! A LLaMA in a GGUF file: tensors, sizes, and Vicuna's tokeniser.
//!
//! Blocks that bundles have too are copied bit by bit. GGUF stores the rows of the query and key projections in the order
//! of its own rotary layout (pairs side by side); bundles hold Hugging Face's (halves side by side), so whole rows change
//! places, which blocks along the columns do not notice.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use bubo::bundle::QuantizedBlocks;
use serde_json::{Value as Json, json};

use super::gguf::{Gguf, Value};
use super::mapping::{self, Checked};
use super::models::{LLAMA, Shapes};
use super::sentencepiece::{Kind, Piece, tokenizer_json};
use super::{Licence, Part, PartTensor, StoredTensor, llama};

/// The table of embeddings.
const TABLE: &str = "token_embd.weight";
/// Layers beyond which a header is not believed.
const MOST_LAYERS: usize = 1 << 10;

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

/// Reads a GGUF file of Vicuna or another LLaMA with SentencePiece's tokeniser, to talk to it as BuboGPT does.
///
/// # Errors
/// If the file is damaged, of another architecture, or has tensors that are not LLaMA's.
pub fn convert(source: &Path) -> anyhow::Result<Part> {
    let gguf = Rc::new(Gguf::open(source)?);
    let tokenizer = serde_json::to_vec(&tokenizer_json(&pieces(&gguf)?)?)?;
    let tensors = tensors(&gguf)?;
    Ok(Part {
        name: LLAMA.part,
        model: LLAMA.model,
        config: llama::with_vicuna_chat(sizes(&gguf)?),
        tensors,
        files: vec![("tokenizer.json".into(), tokenizer)],
        licence: Licence { spdx: LLAMA.spdx.into(), source: LLAMA.origin.into() },
    })
}

/// The vocabulary of SentencePiece's kind.
fn pieces(gguf: &Gguf) -> anyhow::Result<Vec<Piece>> {
    let model = gguf.text("tokenizer.ggml.model")?;
    ensure!(model == "llama", "the tokeniser is `{model}`; Vicuna's is `llama`");
    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    let list = |key: &str| match gguf.value(key)? {
        Value::Array(values) if values.len() == tokens.len() => Ok(values),
        _ => bail!("`{key}` should be a list of {}", tokens.len()),
    };
    let (scores, kinds) = (list("tokenizer.ggml.scores")?, list("tokenizer.ggml.token_type")?);
    let entries = tokens.iter().zip(scores.iter().zip(kinds));
    entries
        .map(|(token, (score, kind))| match (score, kind) {
            (Value::Float(score), Value::Integer(kind)) => {
                let kind = i64::try_from(*kind).ok().and_then(Kind::from_number);
                let kind = kind.with_context(|| format!("token {token:?} is of an unknown type"))?;
                Ok(Piece { text: (*token).to_owned(), score: *score as f32, kind })
            }
            _ => bail!("token {token:?} has the score {score:?} and the type {kind:?}"),
        })
        .collect()
}

/// Sizes by Hugging Face's names.
///
/// # Errors
/// If the file lacks one, or holds another architecture.
pub fn sizes(gguf: &Gguf) -> anyhow::Result<Json> {
    let architecture = gguf.text("general.architecture")?;
    ensure!(architecture == "llama", "the GGUF file holds a `{architecture}`, this reads `llama`");
    let heads = gguf.count("llama.attention.head_count")?;
    // The row count is the table's: v0 merges have one more or less than their tokeniser.
    let rows = gguf.tensors.get(TABLE).and_then(|table| table.dims.first().copied());
    Ok(json!({
        "vocab_size": rows.unwrap_or(gguf.texts("tokenizer.ggml.tokens")?.len()),
        "hidden_size": gguf.count("llama.embedding_length")?,
        "intermediate_size": gguf.count("llama.feed_forward_length")?,
        "num_hidden_layers": gguf.count("llama.block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": gguf.count("llama.attention.head_count_kv").unwrap_or(heads),
        "max_position_embeddings": gguf.count("llama.context_length")?,
        "rms_norm_eps": gguf.float("llama.attention.layer_norm_rms_epsilon")?,
        "rope_theta": gguf.float("llama.rope.freq_base").unwrap_or(10_000.0),
        "tie_word_embeddings": !gguf.tensors.contains_key("output.weight"),
    }))
}

/// A GGUF file held against the model, by its header alone.
#[derive(Debug)]
pub struct CheckedGguf {
    checked: Checked,
    /// Tensors that are not a LLaMA's, and why others cannot be read.
    problems: Vec<String>,
    tensor_count: usize,
}

impl CheckedGguf {
    /// Whether the model finds all that it needs in the right shape, and nothing else.
    pub fn passes(&self) -> bool {
        self.problems.is_empty() && self.checked.passes()
    }

    /// What is used and what is wrong, in words; every tensor that gives cause for concern by name and shape.
    pub fn report(&self) -> String {
        let (part, model) = (self.checked.model.part, self.checked.model.model);
        let mut text = format!("gguf: {} tensors\n  {part} ({model}):\n{}", self.tensor_count, self.checked.report());
        self.problems.iter().for_each(|problem| text += &format!("    wrong: {problem}\n"));
        text
    }
}

/// Holds the file against the model and its tokeniser: what [`convert`] would refuse, by the header alone.
///
/// # Errors
/// If the file lacks sizes, or holds another architecture.
pub fn check(gguf: &Gguf) -> anyhow::Result<CheckedGguf> {
    let mut checked = check_tensors(gguf)?;
    checked.problems.extend(pieces(gguf).err().map(|error| format!("{error:#}")));
    Ok(checked)
}

/// Holds names, shapes and types of the tensors against the model in the sizes that the file states.
fn check_tensors(gguf: &Gguf) -> anyhow::Result<CheckedGguf> {
    let names = names(gguf)?;
    let mut present = Shapes::new();
    let mut problems = Vec::new();
    for (from, info) in &gguf.tensors {
        match names.iter().find(|name| name.from == *from) {
            Some(name) => drop(present.insert(name.to.clone(), info.dims.clone())),
            None => problems.push(format!("{from} {:?} is no tensor of a LLaMA", info.dims)),
        }
        problems.extend(gguf.problem(from).map(|problem| format!("{from} {:?}: {problem}", info.dims)));
    }
    let checked = mapping::check(&LLAMA, Some(sizes(gguf)?), &present, |_| true)?;
    Ok(CheckedGguf { checked, problems, tensor_count: gguf.tensors.len() })
}

/// A tensor under both names.
struct Named {
    /// GGUF's.
    from: String,
    /// The model's.
    to: String,
    /// Heads of a projection whose rows change places.
    rotary_heads: Option<usize>,
}

impl Named {
    fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), rotary_heads: None }
    }
}

/// All tensors that the file should hold.
fn names(gguf: &Gguf) -> anyhow::Result<Vec<Named>> {
    let layers = gguf.count("llama.block_count")?;
    let heads = gguf.count("llama.attention.head_count")?;
    let key_heads = gguf.count("llama.attention.head_count_kv").unwrap_or(heads);
    ensure!(layers <= MOST_LAYERS, "`llama.block_count` is {layers}; the largest known models have 126");
    let mut names = vec![Named::new(TABLE, "model.embed_tokens.weight")];
    for layer in 0..layers {
        for (from, to) in LAYER_NAMES {
            let rotary_heads = match from {
                "attn_q" => Some(heads),
                "attn_k" => Some(key_heads),
                _ => None,
            };
            let (from, to) = (format!("blk.{layer}.{from}.weight"), format!("model.layers.{layer}.{to}.weight"));
            names.push(Named { rotary_heads, ..Named::new(from, to) });
        }
    }
    names.push(Named::new("output_norm.weight", "model.norm.weight"));
    if gguf.tensors.contains_key("output.weight") {
        names.push(Named::new("output.weight", "lm_head.weight"));
    }
    Ok(names)
}

/// All tensors under the names of the `language` part.
///
/// # Errors
/// If some are missing, left over, of another shape or cut short; the message lists them.
pub fn tensors(gguf: &Rc<Gguf>) -> anyhow::Result<Vec<PartTensor>> {
    let checked = check_tensors(gguf)?;
    ensure!(checked.passes(), "the GGUF file does not hold a whole LLaMA and nothing else\n{}", checked.report());
    Ok(names(gguf)?
        .into_iter()
        .map(|Named { from, to, rotary_heads }| {
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
