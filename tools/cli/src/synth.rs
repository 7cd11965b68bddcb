//! `bubo synth`: bundles of random numbers in the true shapes, so that loading and computing can be tried at full size
//! where the weights are not at hand. What such a bundle says means nothing; how long it takes and what it needs is real.

mod numbers;
mod small_files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bubo::bundle::{Format, MANIFEST_FILE, Manifest, Scheme};
use bubo::nn::Asked;
use serde_json::{Value as Json, json};

use crate::bundle::BundleWriter;
use crate::convert::models::{MODELS, Model, Shapes};
use crate::convert::{Licence, Part, PartTensor, llama, mapping, shape_list};

/// Which bundle to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// Model of the segmenter: `mobile_sam`, `sam_vit_b`, `sam_vit_l` or `sam_vit_h`.
    pub segmenter: String,
    /// Only these parts; all if there are none.
    pub parts: Vec<String>,
    /// Blocks of each trunk at most.
    pub layers: Option<usize>,
    /// A few thousand numbers a part instead of the true widths, for tests.
    pub tiny: bool,
    /// How matrices are stored; none keeps them f16.
    pub scheme: Option<Scheme>,
    /// The same number gives the same bundle.
    pub seed: u64,
}

/// The published lists of names and shapes, by kind of checkpoint.
const LISTS: &[(&str, &str)] = &[
    ("sam_vit_b", include_str!("../../../tests/golden/shapes/sam_vit_b.json")),
    ("sam_vit_l", include_str!("../../../tests/golden/shapes/sam_vit_l.json")),
    ("sam_vit_h", include_str!("../../../tests/golden/shapes/sam_vit_h.json")),
    ("mobile_sam", include_str!("../../../tests/golden/shapes/mobile_sam.json")),
    ("ram", include_str!("../../../tests/golden/shapes/ram_swin_large_14m.json")),
    ("grounding_dino", include_str!("../../../tests/golden/shapes/groundingdino_swint_ogc.json")),
    ("eva_vit_g", include_str!("../../../tests/golden/shapes/eva_vit_g.json")),
    ("blip2", include_str!("../../../tests/golden/shapes/blip2_pretrained_flant5xxl.json")),
    ("bubogpt_7b", include_str!("../../../tests/golden/shapes/bubogpt_7b.json")),
    ("imagebind_huge", include_str!("../../../tests/golden/shapes/imagebind_huge.json")),
    ("vicuna_7b_v0", include_str!("../../../tests/golden/shapes/vicuna_7b_v0.json")),
];

/// Lists of segmenters, of which a bundle has one.
const SEGMENTERS: [&str; 4] = ["mobile_sam", "sam_vit_b", "sam_vit_l", "sam_vit_h"];

/// Sizes of tiny models, over the published ones. Widths go together across parts as they do at full size.
fn tiny(model: &str) -> Json {
    match model {
        "llama" => json!({
            "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 2048,
        }),
        "qformer" => json!({
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
            "num_query_token": 32, "encoder_width": 64, "projector_width": 64,
        }),
        "eva_vit" => json!({
            "img_size": [28, 28], "patch_size": 14, "embed_dim": 64, "depth": 2, "num_heads": 4, "mlp_hidden": 96,
        }),
        "imagebind" => json!({ "embed_dim": 64, "num_blocks": 2, "num_heads": 4 }),
        "sam" => json!({
            "img_size": 112, "embed_dim": 32, "depth": 2, "num_heads": 2, "window_size": 3, "global_attn_indexes": [1],
            "prompt_dim": 32, "decoder_mlp": 64, "decoder_heads": 4, "iou_hidden": 32,
        }),
        "mobile_sam" => json!({
            "img_size": 112, "embed_dims": [8, 16, 32, 32], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 4],
            "window_sizes": [3, 3, 4, 3], "prompt_dim": 32, "decoder_mlp": 64, "decoder_heads": 4, "iou_hidden": 32,
        }),
        "ram" => json!({
            "image_res": 96, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "window_size": 6,
            "proj_dim": 32, "hidden_size": 32, "intermediate_size": 64, "num_class": 23,
        }),
        "grounding_dino" => json!({
            "hidden_dim": 64, "nheads": 4, "enc_layers": 1, "dec_layers": 1, "dim_feedforward": 64, "num_queries": 20,
            "swin_embed": 8, "swin_depths": [1, 1, 1, 1], "swin_heads": [1, 2, 4, 8], "swin_window": 5,
            "bert_hidden": 32, "bert_layers": 1, "bert_heads": 4, "bert_ffn": 64,
        }),
        _ => json!({}),
    }
}

/// Names of sizes that count blocks.
const DEPTHS: [&str; 6] = ["num_hidden_layers", "depth", "num_blocks", "enc_layers", "dec_layers", "bert_layers"];

/// Names of lists of such sizes, one for each stage of a trunk.
const DEPTHS_BY_STAGE: [&str; 2] = ["depths", "swin_depths"];

/// Leaves at most so many blocks of each trunk.
fn cut(config: &mut Json, most: usize) {
    let most = most as u64;
    for key in DEPTHS {
        if let Some(depth) = config[key].as_u64() {
            config[key] = json!(depth.min(most));
        }
    }
    for key in DEPTHS_BY_STAGE {
        if let Some(depths) = config[key].as_array() {
            config[key] = depths.iter().map(|depth| depth.as_u64().unwrap_or(0).min(most)).collect();
        }
    }
    // Of SAM's blocks that are left the last sees the whole picture, unless it is the only one.
    if let (Some(all), Some(depth)) = (config["global_attn_indexes"].as_array(), config["depth"].as_u64()) {
        let mut left: Vec<u64> = all.iter().filter_map(Json::as_u64).filter(|index| *index < depth).collect();
        if left.is_empty() && depth > 1 {
            left.push(depth - 1);
        }
        config["global_attn_indexes"] = json!(left);
    }
}

/// Writes the bundle; `report` hears of every part.
///
/// # Errors
/// If the request names parts or models that do not exist, or the disk is full.
pub fn synth(request: &Request, out: &Path, report: &mut dyn FnMut(&str)) -> Result<Manifest> {
    let known = SEGMENTERS.join(", ");
    ensure!(SEGMENTERS.contains(&request.segmenter.as_str()), "no segmenter {:?}; known: {known}", request.segmenter);
    let present = present(&request.segmenter)?;
    let parts = present.keys().map(|at| MODELS[*at].part).collect::<Vec<_>>();
    if let Some(unknown) = request.parts.iter().find(|part| !parts.contains(&part.as_str())) {
        bail!("there is no part {unknown:?}; known are {}", parts.join(", "));
    }
    let name = if request.tiny { "bubogpt-tiny-random" } else { "bubogpt-7b-random" };
    let description = "Random numbers in the shapes of the paper's system, for tests of loading and computing";
    let mut writer = BundleWriter::new(out, name, env!("CARGO_PKG_VERSION"), description)?;
    for (at, shapes) in present {
        let model = MODELS[at];
        if !request.parts.is_empty() && !request.parts.iter().any(|part| part == model.part) {
            continue;
        }
        let part = part(model, &shapes, request).with_context(|| model.part)?;
        report(&format!("writing {} ({}): {} tensors", model.part, model.model, part.tensors.len()));
        writer.add(part).context(model.part)?;
    }
    writer.finish()
}

/// Shapes of every model of the system, by its place in [`MODELS`].
fn present(segmenter: &str) -> Result<BTreeMap<usize, Shapes>> {
    let mut present: BTreeMap<usize, Shapes> = BTreeMap::new();
    let wanted = LISTS.iter().filter(|(kind, _)| !SEGMENTERS.contains(kind) || *kind == segmenter);
    for (kind, text) in wanted {
        let shapes = shape_list::parse(text.as_bytes()).with_context(|| (*kind).to_owned())?;
        let mapping = mapping::map(mapping::recognise(&shapes)?, &shapes);
        ensure!(mapping.passes(), "the list of {kind} does not pass its own check");
        for share in &mapping.shares {
            let at = MODELS.iter().position(|model| model.is(share.share.model));
            let at = at.with_context(|| format!("the model {} is not of the system", share.share.model.model))?;
            present.entry(at).or_default().extend(share.shapes());
        }
    }
    Ok(present)
}

fn part(model: &'static Model, shapes: &Shapes, request: &Request) -> Result<Part> {
    let mut config = (model.config)(shapes);
    if request.tiny {
        overlay(&mut config, &tiny(model.model));
    }
    if let Some(most) = request.layers {
        cut(&mut config, most);
    }
    if model.model == "llama" {
        config = llama::with_vicuna_chat(config);
    }
    let asked = model.expected(&config, shapes)?;
    let (scheme, seed) = (request.scheme, request.seed);
    let tensors = asked.into_iter().map(|(name, Asked { dims, as_matrix })| {
        let full = format!("{}.{name}", model.part);
        // Few matrices have columns that do not divide; these stay f16, as in a converted bundle.
        let blocks = as_matrix && !name.contains("sampling_offsets") && dims.last().is_some_and(|cols| cols % 32 == 0);
        let format = match scheme.filter(|_| blocks) {
            Some(scheme) => Format::Blocks(scheme),
            None if dims.len() >= 2 => Format::F16,
            None => Format::F32,
        };
        let named = full.clone();
        PartTensor { name: full, load: Box::new(move || numbers::tensor(&named, format, &dims, seed)) }
    });
    Ok(Part {
        name: model.part,
        model: model.model,
        tensors: tensors.collect(),
        files: small_files::of(model.model, &config)?,
        licence: Licence { spdx: "CC0-1.0".into(), source: "random numbers".into() },
        config,
    })
}

fn overlay(config: &mut Json, sizes: &Json) {
    for (key, size) in sizes.as_object().into_iter().flatten() {
        config[key] = size.clone();
    }
}

/// Writes a bundle of the same parts, shapes and formats as the one in `folder`, with its small files and random numbers.
///
/// # Errors
/// If that bundle cannot be read, or the disk is full.
pub fn synth_like(folder: &Path, out: &Path, seed: u64) -> Result<Manifest> {
    let path: PathBuf = folder.join(MANIFEST_FILE);
    let text = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
    let manifest = Manifest::parse(&text).with_context(|| path.display().to_string())?;
    let name = format!("{}-random", manifest.name);
    let mut writer =
        BundleWriter::new(out, &name, &manifest.version, "Random numbers in the shapes of another bundle")?;
    for (index, part) in manifest.parts.iter().enumerate() {
        let mut files = Vec::new();
        for name in &part.files {
            let file = manifest.files.iter().find(|file| file.name == *name).context("the manifest lacks a file")?;
            files.push((name.clone(), std::fs::read(folder.join(&file.file)).with_context(|| file.file.clone())?));
        }
        let own = manifest.tensors.iter().filter(|tensor| tensor.part == index);
        let tensors = own.map(|tensor| {
            let (named, format, dims) = (tensor.name.clone(), tensor.format, tensor.shape.clone());
            PartTensor {
                name: tensor.name.clone(),
                load: Box::new(move || numbers::tensor(&named, format, &dims, seed)),
            }
        });
        let licence =
            bubo::bundle::Licence { part: part.name.clone(), spdx: "CC0-1.0".into(), source: "random numbers".into() };
        let tensors = tensors.collect();
        writer.add_entry(part.clone(), licence, files, tensors)?;
    }
    writer.finish()
}
