//! Checkpoints of the wide world to parts of a bundle: one recipe a model.

pub mod checkpoint;
pub mod convolution;
pub mod efficientnet;
pub mod eva_vit;
pub mod ggml;
pub mod gguf;
pub mod gguf_llama;
pub mod grounding_dino;
pub mod imagebind;
pub mod llama;
pub mod mapping;
pub mod minilm;
pub mod mobile_sam;
pub mod models;
pub mod names;
pub mod nanodet;
pub mod nanodet_plus;
pub mod onnx;
pub mod original;
pub mod pattern;
pub mod pickle;
pub mod public;
pub mod qformer;
pub mod quantize;
pub mod ram;
pub mod safetensors;
pub mod sam;
pub mod sentencepiece;
pub mod shape_list;
pub mod smollm2;
pub mod source;
pub mod tfjs;
pub mod trained;
pub mod u2netp;
pub mod yamnet;

use std::path::{Path, PathBuf};

use bubo::bundle::QuantizedBlocks;
use half::f16;

/// A tensor in the form in which a bundle stores it, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredTensor {
    /// 32-bit floats: norms, biases, convolutions, tables.
    F32 {
        /// Sizes of the axes.
        dims: Vec<usize>,
        /// The product of `dims` many numbers.
        data: Vec<f32>,
    },
    /// 16-bit floats; f32 once loaded.
    F16 {
        /// Sizes of the axes.
        dims: Vec<usize>,
        /// The product of `dims` many numbers.
        data: Vec<f16>,
    },
    /// A matrix in blocks of 32.
    Quantized(QuantizedBlocks),
}

impl StoredTensor {
    /// Sizes of its axes.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::F32 { dims, .. } | Self::F16 { dims, .. } => dims.clone(),
            Self::Quantized(blocks) => vec![blocks.rows(), blocks.cols()],
        }
    }

    /// Place of the first number that is NaN or infinite; of quantised blocks, of the first such scale or minimum.
    pub fn first_not_finite(&self) -> Option<usize> {
        let infinite = |numbers: &[f16]| numbers.iter().position(|number| !number.is_finite());
        match self {
            Self::F32 { data, .. } => data.iter().position(|number| !number.is_finite()),
            Self::F16 { data, .. } => infinite(data),
            Self::Quantized(blocks) => infinite(blocks.scales()).or(infinite(blocks.mins())),
        }
    }
}

/// A tensor of a part that is read when it is written, so that a 13 GB checkpoint streams through little memory.
pub struct PartTensor {
    /// Full name: the part's prefix and the checkpoint's own name.
    pub name: String,
    /// Reads and converts it.
    pub load: Box<dyn FnOnce() -> anyhow::Result<StoredTensor>>,
}

impl PartTensor {
    /// A tensor that is at hand.
    pub fn ready(name: impl Into<String>, tensor: StoredTensor) -> Self {
        Self { name: name.into(), load: Box::new(move || Ok(tensor)) }
    }
}

/// Under which licence a part's weights may be used, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence {
    /// SPDX expression, for example `Apache-2.0`.
    pub spdx: String,
    /// Package, version and origin, for people.
    pub source: String,
}

/// One stage of a bundle, ready to be written. The prefix of its tensors is its name and a dot.
pub struct Part {
    /// The stage: `tagger`, `detector`, `segmenter`, `audio_encoder`, `text_embedder`, `language`.
    pub name: &'static str,
    /// The model that reads it: `nanodet_g`, `llama`, …
    pub model: &'static str,
    /// What the model's `Config` is deserialised from.
    pub config: serde_json::Value,
    /// In the order in which they shall be stored.
    pub tensors: Vec<PartTensor>,
    /// Labels, tokeniser: name and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// Licence and origin.
    pub licence: Licence,
}

/// How the checkpoint of one model becomes a part.
pub struct Recipe {
    /// The stage that it makes, as [`Part::name`].
    pub part: &'static str,
    /// Package folders that it reads; the first is handed to `convert`, the others lie beside it.
    pub inputs: &'static [&'static str],
    /// Makes the part from the first input's folder, or from the checkpoint file itself.
    pub convert: fn(&Path) -> anyhow::Result<Part>,
}

/// All recipes of `bubo-mini`, in the order in which the parts are loaded. A new model is one new file and one line.
pub const MINI: &[Recipe] = &[
    Recipe { part: "tagger", inputs: &["efficientnet-lite0"], convert: efficientnet::convert },
    Recipe { part: "detector", inputs: &["nanodet-plus"], convert: nanodet_plus::convert },
    Recipe { part: "segmenter", inputs: &["u2netp"], convert: u2netp::convert },
    Recipe { part: "audio_encoder", inputs: &["yamnet"], convert: yamnet::convert },
    Recipe { part: "text_embedder", inputs: &["minilm", "minilm-tokenizer"], convert: minilm::convert },
    Recipe { part: "language", inputs: &["smollm2"], convert: smollm2::convert },
];

/// Recipes of parts that the runtime reads and goldens test, but `bubo-mini` has a better one of.
pub const OTHERS: &[Recipe] = &[Recipe { part: "detector", inputs: &["nanodet"], convert: nanodet::convert }];

/// The file `name` of a source folder; a source that is itself a file stands for it.
pub fn input_file(source: &Path, name: &str) -> PathBuf {
    if source.is_dir() { source.join(name) } else { source.to_path_buf() }
}

/// A file of another package, whose folder lies beside the source's folder.
pub fn sibling_file(source: &Path, package: &str, name: &str) -> PathBuf {
    let folder = if source.is_dir() { source } else { source.parent().unwrap_or(Path::new(".")) };
    folder.parent().unwrap_or(Path::new(".")).join(package).join(name)
}
