//! `bubo plan`: what a bundle needs, told from its manifest without loading anything.

use std::any::Any;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use bubo::bundle::{Format, MANIFEST_FILE, Manifest, PartEntry, TensorEntry};
use bubo::language::llama;
use bubo::tensor::gpu::{Footprint, Gpu, GpuInfo, MOST_KEPT_BYTES};
use bubo::tensor::{Device, Precision};
use serde::Serialize;
use serde_json::Value as Json;

use crate::bundle;
use crate::convert::models::MODELS;
use crate::run::open_session;

/// What an adapter allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// For people.
    pub name: String,
    /// Largest part of a buffer that a kernel can see, in bytes.
    pub binding_bytes: u64,
    /// Largest buffer, in bytes.
    pub buffer_bytes: u64,
}

/// Limits as browsers hand them out: WebGPU's own minimum, then the steps to which Chromium rounds an adapter's down so
/// that it cannot be told apart from others.
///
/// Source: WebGPU, "Limits"; Dawn, src/dawn/native/Limits.cpp, the tiers of both limits.
pub const PRESETS: [(&str, u64, u64); 4] = [
    ("minimum", 128 << 20, 256 << 20),
    ("1gib", 1 << 30, 1 << 30),
    ("2gib", (2 << 30) - 4, 2 << 30),
    ("4gib", (4 << 30) - 4, 4 << 30),
];

impl Adapter {
    /// The limits of that name.
    ///
    /// # Errors
    /// If there are none; the message lists what is known.
    pub fn preset(name: &str) -> Result<Self> {
        let known = PRESETS.map(|(name, ..)| name).join(", ");
        let found = PRESETS.iter().find(|(preset, ..)| *preset == name);
        let (name, binding_bytes, buffer_bytes) =
            *found.with_context(|| format!("there is no adapter preset {name:?}; known are {known}, and `real`"))?;
        Ok(Self { name: name.to_owned(), binding_bytes, buffer_bytes })
    }
}

impl From<GpuInfo> for Adapter {
    fn from(info: GpuInfo) -> Self {
        Self { name: info.name, binding_bytes: info.binding_bytes, buffer_bytes: info.buffer_bytes }
    }
}

/// What one part needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartNeeds {
    /// The part.
    pub part: String,
    /// Its model.
    pub model: String,
    /// Numbers of all its tensors.
    pub parameters: u64,
    /// Bytes of its tensors in the shards.
    pub stored_bytes: u64,
    /// GPU memory once it is loaded.
    pub gpu_bytes: u64,
}

/// A tensor and its size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Largest {
    /// Its name.
    pub tensor: String,
    /// Bytes.
    pub bytes: u64,
}

/// What a bundle needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Name of the bundle.
    pub bundle: String,
    /// What is downloaded, manifest not counted.
    pub download_bytes: u64,
    /// By part.
    pub parts: Vec<PartNeeds>,
    /// GPU memory of all parts together.
    pub weight_bytes: u64,
    /// Positions of a conversation that the cache is planned for.
    pub context: usize,
    /// GPU memory of keys and values at that length.
    pub kv_cache_bytes: u64,
    /// What the engine keeps of unused buffers at most, beside what is in use.
    pub kept_bytes: u64,
    /// The largest buffer.
    pub largest_buffer: Largest,
    /// The most that a kernel sees of a weight at once; quantised matrices are split to fit.
    pub largest_binding: Largest,
    /// The adapter whose limits were held against it.
    pub adapter: Adapter,
    /// What does not fit, in words; empty if all does.
    pub obstacles: Vec<String>,
}

/// Reads the manifest of a bundle's folder, or the manifest itself, and plans for `adapter` and `context` positions.
///
/// # Errors
/// If the manifest cannot be read or is damaged.
pub fn plan(path: &Path, adapter: Adapter, context: Option<usize>) -> Result<Plan> {
    let path = if path.is_dir() { path.join(MANIFEST_FILE) } else { path.to_owned() };
    let text = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
    let manifest = Manifest::parse(&text).with_context(|| path.display().to_string())?;
    Ok(of_manifest(&manifest, adapter, context))
}

/// As [`plan`], for a manifest at hand.
pub fn of_manifest(manifest: &Manifest, adapter: Adapter, context: Option<usize>) -> Plan {
    let parts: Vec<PartNeeds> =
        (0..manifest.parts.len()).map(|part| needs(manifest, part, adapter.binding_bytes)).collect();
    let largest = |of: fn(&Footprint) -> u64| {
        let all = manifest.tensors.iter().map(|tensor| (of(&footprint(tensor, adapter.binding_bytes)), tensor));
        let largest = all.max_by_key(|(bytes, _)| *bytes);
        largest.map(|(bytes, tensor)| Largest { tensor: tensor.name.clone(), bytes }).unwrap_or_default()
    };
    let (largest_buffer, largest_binding) = (largest(|of| of.largest_buffer), largest(|of| of.largest_binding));
    let language = manifest.parts.iter().find_map(|part| language_config(&part.model, &part.config));
    let (context, kv_cache_bytes) = language.map_or((0, 0), |(sizes, own)| {
        let context = context.unwrap_or(own).min(sizes.max_position_embeddings);
        (context, kv_cache(&sizes, context))
    });
    let limits =
        [(&largest_buffer, adapter.buffer_bytes, "buffers"), (&largest_binding, adapter.binding_bytes, "bindings")];
    let too_large = limits.into_iter().filter(|(largest, limit, _)| largest.bytes > *limit);
    let obstacles = too_large.map(|(Largest { tensor, bytes }, limit, what)| {
        format!("{tensor} needs {} KiB at once, this adapter allows {what} of {} KiB", bytes >> 10, limit >> 10)
    });
    Plan {
        bundle: manifest.name.clone(),
        download_bytes: manifest.total_bytes(),
        weight_bytes: parts.iter().map(|part| part.gpu_bytes).sum(),
        parts,
        context,
        kv_cache_bytes,
        kept_bytes: MOST_KEPT_BYTES,
        obstacles: obstacles.collect(),
        largest_buffer,
        largest_binding,
        adapter,
    }
}

/// What the tensors of one part need.
fn needs(manifest: &Manifest, index: usize, binding_limit: u64) -> PartNeeds {
    let part = &manifest.parts[index];
    let mut needs = PartNeeds {
        part: part.name.clone(),
        model: part.model.clone(),
        parameters: 0,
        stored_bytes: 0,
        gpu_bytes: tables(&part.model, &part.config),
    };
    for tensor in manifest.tensors.iter().filter(|tensor| tensor.part == index) {
        needs.parameters += tensor.shape.iter().map(|dim| *dim as u64).product::<u64>();
        needs.stored_bytes += tensor.pieces.iter().map(|piece| piece.at[1] - piece.at[0]).sum::<u64>();
        needs.gpu_bytes += footprint(tensor, binding_limit).bytes;
    }
    needs
}

fn footprint(tensor: &TensorEntry, binding_limit: u64) -> Footprint {
    match (tensor.format, tensor.shape.as_slice()) {
        (Format::Blocks(scheme), &[rows, cols]) => Footprint::of_quantized_matrix(scheme, rows, cols, binding_limit),
        (_, &[rows, cols]) => Footprint::of_dense_matrix(rows, cols, binding_limit),
        // Both float formats are f32 once loaded.
        (_, dims) => Footprint::of_tensor(dims),
    }
}

/// A language model's sizes, and the positions that its own settings allow a conversation.
fn language_config(model: &str, config: &Json) -> Option<(llama::Config, usize)> {
    let sizes: llama::Config = (model == "llama").then(|| serde_json::from_value(config.clone()).ok()).flatten()?;
    let own = config["chat"]["generation"]["max_context"].as_u64().and_then(|own| usize::try_from(own).ok());
    let own = own.unwrap_or(sizes.max_position_embeddings);
    Some((sizes, own))
}

/// What a model makes for itself beside its weights: LLaMA's rotary tables, a cosine and a sine for each two numbers of
/// a head.
fn tables(model: &str, config: &Json) -> u64 {
    let Some((sizes, _)) = language_config(model, config) else { return 0 };
    let half = sizes.hidden_size / sizes.num_attention_heads.max(1) / 2;
    2 * Footprint::of_tensor(&[sizes.max_position_embeddings, half]).bytes
}

/// Keys and values of every layer, numbers of 16 bits two in a word; the cache grows by doubling.
fn kv_cache(sizes: &llama::Config, context: usize) -> u64 {
    let heads = sizes.num_key_value_heads.unwrap_or(sizes.num_attention_heads);
    let dim = sizes.hidden_size / sizes.num_attention_heads.max(1);
    let capacity = context.next_power_of_two().max(256).min(sizes.max_position_embeddings);
    2 * sizes.num_hidden_layers as u64 * Footprint::of_tensor(&[heads, capacity, dim.div_ceil(2)]).bytes
}

impl Plan {
    /// The plan in words.
    pub fn to_text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut text = format!("{}: {:.1} MiB to download\n", self.bundle, mib(self.download_bytes));
        let _ = writeln!(
            text,
            "{:<16} {:<28} {:>14} {:>12} {:>12}",
            "part", "model", "parameters", "stored MiB", "GPU MiB"
        );
        for part in &self.parts {
            let _ = writeln!(
                text,
                "{:<16} {:<28} {:>14} {:>12.1} {:>12.1}",
                part.part,
                part.model,
                part.parameters,
                mib(part.stored_bytes),
                mib(part.gpu_bytes)
            );
        }
        let _ = writeln!(text, "GPU memory of the weights: {:.1} MiB", mib(self.weight_bytes));
        let _ = writeln!(text, "KV cache at {} positions: {:.1} MiB", self.context, mib(self.kv_cache_bytes));
        let _ = writeln!(text, "kept for reuse at most: {:.1} MiB", mib(self.kept_bytes));
        for (what, largest) in [("buffer", &self.largest_buffer), ("binding", &self.largest_binding)] {
            let _ = writeln!(text, "largest {what}: {:.1} MiB ({})", mib(largest.bytes), largest.tensor);
        }
        let _ = writeln!(
            text,
            "adapter {}: buffers of {:.0} MiB, bindings of {:.0} MiB: {}",
            self.adapter.name,
            mib(self.adapter.buffer_bytes),
            mib(self.adapter.binding_bytes),
            if self.obstacles.is_empty() { "its limits suffice" } else { "its limits do not suffice" }
        );
        for obstacle in &self.obstacles {
            let _ = writeln!(text, "  {obstacle}");
        }
        text
    }
}

/// Loads the bundle onto a GPU and counts what it took there, in bytes: as a session, or model by model if it is one of
/// the paper's system.
///
/// # Errors
/// If the bundle cannot be loaded, or its models are unknown.
pub fn measure(folder: &Path, gpu: &Gpu) -> Result<u64> {
    let before = gpu.counters().bytes_in_use;
    let device = Device::Gpu(gpu.clone());
    let text = std::fs::read(folder.join(MANIFEST_FILE))?;
    let manifest = Manifest::parse(&text)?;
    let known = |part: &PartEntry| MODELS.iter().find(|model| (model.part, model.model) == (&*part.name, &*part.model));
    let models: Option<Vec<_>> = manifest.parts.iter().map(known).collect();
    let held: Box<dyn Any> = match models {
        None => Box::new(pollster::block_on(open_session(folder, device))?),
        Some(models) => {
            let mut loader = bundle::open(folder, &device, Precision::default())?;
            let mut held = Vec::new();
            for model in models {
                let part = pollster::block_on(loader.load_part(model.part, &mut |_| {}))?;
                held.push((model.load)(&part.config, &part.weights).with_context(|| model.part)?);
                part.weights.finish()?;
            }
            Box::new(held)
        }
    };
    // Repacked convolutions release what they were made of once that was computed.
    gpu.submit();
    let after = gpu.counters().bytes_in_use;
    drop(held);
    Ok(after - before)
}
