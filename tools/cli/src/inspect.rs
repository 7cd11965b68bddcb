//! What a bundle or a checkpoint holds, as text.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use bubo::bundle::{MANIFEST_FILE, Manifest};
use safetensors::Dtype;
use serde_json::Value;

use crate::convert::gguf::{Gguf, Storage};
use crate::convert::onnx::OnnxModel;
use crate::convert::pickle::TorchCheckpoint;
use crate::convert::tfjs::TfjsModel;

/// Longest safetensors header that is read.
const MAX_HEADER_BYTES: u64 = 100 << 20;

/// Describes the bundle folder or checkpoint file at `path`: a summary, then a line a tensor.
///
/// # Errors
/// If it cannot be read or is of no known kind; the message says which are known.
pub fn inspect(path: &Path) -> anyhow::Result<String> {
    if path.is_dir() {
        if path.join(MANIFEST_FILE).exists() {
            return bundle(&path.join(MANIFEST_FILE));
        }
        return folder(path);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        _ if name == MANIFEST_FILE => bundle(path),
        "safetensors" => safetensors(path),
        "gguf" => gguf(path),
        "pth" | "pt" | "bin" | "ckpt" => torch(path),
        "onnx" => onnx(path),
        "json" => tfjs(path),
        _ => bail!(
            "{} is of no known kind; known are bundle folders, folders of checkpoints, .safetensors, .gguf, .pth, .pt, \
             .bin (PyTorch), .onnx, and .json (TensorFlow.js graph models)",
            path.display()
        ),
    }
}

/// All checkpoints in a folder, one after the other.
fn folder(path: &Path) -> anyhow::Result<String> {
    let mut names: Vec<_> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    names.sort();
    let known = |path: &&std::path::PathBuf| {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        matches!(extension.as_deref(), Some("safetensors" | "gguf" | "pth" | "pt" | "onnx"))
    };
    let texts = names.iter().filter(known).map(|path| Ok(format!("{}\n{}", path.display(), inspect(path)?)));
    let texts = texts.collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!texts.is_empty(), "{} holds neither a {MANIFEST_FILE} nor a checkpoint", path.display());
    Ok(texts.join("\n"))
}

fn line(name: &str, dtype: &str, shape: &[usize]) -> String {
    format!("{name:<72} {dtype:<6} {shape:?}\n")
}

fn bundle(path: &Path) -> anyhow::Result<String> {
    let manifest = Manifest::parse(&fs::read(path)?)?;
    let mut text = format!(
        "bundle {} {}: {} parts, {} tensors, {} bytes\n{}\n",
        manifest.name,
        manifest.version,
        manifest.parts.len(),
        manifest.tensors.len(),
        manifest.total_bytes(),
        manifest.description
    );
    for (index, part) in manifest.parts.iter().enumerate() {
        let tensors = manifest.tensors.iter().filter(|tensor| tensor.part == index);
        let bytes: u64 = tensors.flat_map(|tensor| &tensor.pieces).map(|piece| piece.at[1] - piece.at[0]).sum();
        text += &format!("part {:<16} {:<28} {bytes} bytes, files {:?}\n", part.name, part.model, part.files);
    }
    for licence in &manifest.licences {
        text += &format!("licence of {}: {} ({})\n", licence.part, licence.spdx, licence.source);
    }
    for shard in &manifest.shards {
        text += &format!("shard {:<56} {:>9} bytes, {:?}\n", shard.file, shard.bytes, shard.parts);
    }
    for file in &manifest.files {
        text += &format!("file {:<57} {:>9} bytes\n", file.file, file.bytes);
    }
    for tensor in &manifest.tensors {
        text += &line(&tensor.name, tensor.format.name(), &tensor.shape);
    }
    Ok(text)
}

/// Reads the header alone, whatever the file's size.
fn safetensors(path: &Path) -> anyhow::Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("could not read {}", path.display()))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).context("the file is too short for safetensors")?;
    let length = u64::from_le_bytes(length);
    ensure!(length <= MAX_HEADER_BYTES.min(file.metadata()?.len()), "a header of {length} bytes: no safetensors file");
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&header).context("the header is no JSON")?;
    let mut text = format!("safetensors: {} tensors\n", header.keys().filter(|key| *key != "__metadata__").count());
    for (name, entry) in &header {
        if name == "__metadata__" {
            text += &format!("metadata: {:.400}\n", entry.to_string());
            continue;
        }
        let dtype: Dtype = serde_json::from_value(entry["dtype"].clone()).with_context(|| name.clone())?;
        let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).with_context(|| name.clone())?;
        text += &line(name, &format!("{dtype:?}"), &shape);
    }
    Ok(text)
}

fn gguf(path: &Path) -> anyhow::Result<String> {
    let gguf = Gguf::open(path)?;
    let mut text = format!("GGUF: {} tensors\n", gguf.tensors.len());
    for (key, value) in &gguf.metadata {
        text += &format!("{key} = {:.120}\n", format!("{value:?}"));
    }
    for (name, info) in &gguf.tensors {
        let dtype = match info.storage {
            Storage::Blocks(scheme) => scheme.name().to_owned(),
            other => format!("{other:?}"),
        };
        text += &line(name, &dtype, &info.dims);
    }
    Ok(text)
}

fn torch(path: &Path) -> anyhow::Result<String> {
    let checkpoint = TorchCheckpoint::open(path)?;
    let lines: String = checkpoint.tensors().map(|(name, dims)| line(name, "", dims)).collect();
    Ok(format!("PyTorch checkpoint: {} tensors\n{lines}", checkpoint.tensors().count()))
}

fn onnx(path: &Path) -> anyhow::Result<String> {
    let model = OnnxModel::open(path)?;
    let mut text = format!("ONNX: {} nodes, {} initialisers\n", model.nodes().len(), model.tensor_names().count());
    for name in model.tensor_names() {
        text += &match model.tensor(name) {
            Ok(tensor) => line(name, "", tensor.dims()),
            Err(error) => format!("{name}: {error:#}\n"),
        };
    }
    Ok(text)
}

fn tfjs(path: &Path) -> anyhow::Result<String> {
    let model = TfjsModel::open(path)?;
    let mut text = format!("TensorFlow.js graph model: {} nodes\n", model.nodes().len());
    for node in model.nodes() {
        if let Ok(tensor) = model.tensor(&node.name) {
            text += &line(&node.name, "", tensor.dims());
        }
    }
    Ok(text)
}
