//! Public checkpoints: the naming tables against the published lists of names, and conversion of small files in the same
//! forms.

mod checkpoint_files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bubo::bundle::{LoadedPart, Manifest, Scheme};
use bubo::language::{
    BUBOGPT_SYSTEM, ContextCut, GenerationOptions, Item, LanguageModel, Message, Modality, ModalityKind, Part, Role,
    StopRules,
};
use bubo::nn::Weights;
use bubo::tensor::{Device, Precision, Tensor};
use bubo_cli::bundle;
use bubo_cli::convert::gguf::Gguf;
use bubo_cli::convert::mapping::{self, Checked, Mapping, Origin};
use bubo_cli::convert::models::Shapes;
use bubo_cli::convert::names::{CHECKPOINTS, Naming, Target};
use bubo_cli::convert::quantize::{Fit, Target as Quantization};
use bubo_cli::convert::{eva_vit, gguf_llama, grounding_dino, qformer, sam, shape_list};
use checkpoint_files::{Numbers, State, gguf_file, legacy_file, safetensors_file, sentencepiece_file, zip_file};
use serde_json::Value as Json;

// ---- the lists ----

fn lists() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/shapes")
}

fn json(name: &str) -> Json {
    let text = std::fs::read(lists().join(name)).expect("the list is part of the repository");
    serde_json::from_slice(&text).expect("it is JSON")
}

fn shapes(name: &str) -> Shapes {
    shape_list::read(&lists().join(name)).expect("it is a list of tensors")
}

fn check(shapes: &Shapes) -> (Mapping, Vec<Checked>) {
    let mapping = mapping::map(mapping::recognise(shapes).expect("it is a known checkpoint"), shapes);
    let checked = mapping.check().expect("the models know their configurations");
    (mapping, checked)
}

fn passes(shapes: &Shapes) -> bool {
    let (mapping, checked) = check(shapes);
    mapping.passes() && checked.iter().all(Checked::passes)
}

const LISTS: [&str; 18] = [
    "blip2_pretrained_flant5xxl.json",
    "bubogpt_7b.json",
    "eva_vit_g.json",
    "groundingdino_swint_ogc.json",
    "hf_blip2_flan_t5_xxl.json",
    "hf_grounding_dino_tiny.json",
    "hf_sam_vit_base.json",
    "hf_sam_vit_huge.json",
    "hf_sam_vit_large.json",
    "imagebind_huge.json",
    "mobile_sam.json",
    "ram_swin_large_14m.json",
    "sam_vit_b.json",
    "sam_vit_h.json",
    "sam_vit_l.json",
    "smollm2_135m.json",
    "vicuna_7b_32000.json",
    "vicuna_7b_v0.json",
];

/// Entries of a list under another key, expanded.
fn extra(list: &Json, key: &str) -> Shapes {
    let mut found = Shapes::new();
    for entry in list[key].as_array().into_iter().flatten() {
        let (pattern, dims) = match entry.as_str() {
            Some(name) => (name.to_owned(), Vec::new()),
            None => serde_json::from_value::<(String, Vec<usize>, String)>(entry.clone())
                .map(|(name, dims, _)| (name, dims))
                .expect("name, shape, type"),
        };
        found.extend(shape_list::expand(&pattern).expect("ranges").into_iter().map(|name| (name, dims.clone())));
    }
    found
}

#[test]
fn every_published_list_passes_with_and_without_what_is_optional() {
    for name in LISTS {
        let mut shapes = shapes(name);
        let (mapping, checked) = check(&shapes);
        let all = mapping.passes() && checked.iter().all(Checked::passes);
        assert!(all, "{}", mapping.report(&checked));
        let list = json(name);
        shapes.extend(extra(&list, "optional_tensors"));
        shapes.extend(extra(&list, "not_needed_language_model_tensors"));
        assert!(passes(&shapes), "{name} with its optional tensors");
    }
}

#[test]
fn what_is_used_is_what_the_lists_say_is_needed() {
    for name in ["bubogpt_7b.json", "ram_swin_large_14m.json"] {
        let shapes = shapes(name);
        let needed = extra(&json(name), "needed_at_inference");
        let (mapping, _) = check(&shapes);
        let mut used: Vec<&String> = Vec::new();
        for found in mapping.shares.iter().flat_map(|share| share.found.values()) {
            let Origin::Whole(from) = &found.origin else { panic!("{name} holds nothing in pieces") };
            used.push(from);
        }
        used.sort();
        assert_eq!(used, needed.keys().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn wrapped_names_pass_too() {
    let wrapped = |name: &str, prefix: &str| -> Shapes {
        let mut shapes: Shapes =
            shapes(name).into_iter().map(|(name, dims)| (format!("{prefix}{name}"), dims)).collect();
        shapes.insert("optimizer.state.0.exp_avg".into(), vec![3]);
        shapes
    };
    for name in ["blip2_pretrained_flant5xxl.json", "bubogpt_7b.json", "ram_swin_large_14m.json"] {
        let shapes = wrapped(name, "model.");
        let (mapping, checked) = check(&shapes);
        assert!(mapping.passes() && checked.iter().all(Checked::passes), "{}", mapping.report(&checked));
        assert_eq!(mapping.outside, 1, "{name}");
    }
    // With and without `module.`, within and without `model.`.
    let bare: Shapes = shapes("groundingdino_swint_ogc.json")
        .into_iter()
        .map(|(name, dims)| (name.trim_start_matches("module.").to_owned(), dims))
        .collect();
    assert!(passes(&bare));
    let both: Shapes = bare.into_iter().map(|(name, dims)| (format!("model.module.{name}"), dims)).collect();
    assert!(passes(&both));
    // RAM's head has another name in older files.
    let older: Shapes = shapes("ram_swin_large_14m.json")
        .into_iter()
        .map(|(name, dims)| (name.replace("tagging_head.", "vision_multi."), dims))
        .collect();
    assert!(passes(&older));
}

#[test]
fn one_tensor_less_more_or_of_another_shape_does_not_pass() {
    let damaged = [
        ("eva_vit_g.json", "blocks.38.mlp.fc2.bias", "blocks.0.attn.k_bias"),
        ("bubogpt_7b.json", "multimodal_joiner.modality_post_projectors.audio.fc.bias", "multimodal_joiner.more"),
        ("hf_grounding_dino_tiny.json", "model.decoder.layers.5.self_attn.key.bias", "model.decoder.layers.5.more"),
        ("sam_vit_b.json", "image_encoder.blocks.11.attn.rel_pos_w", "image_encoder.blocks.3.attn.more"),
        ("mobile_sam.json", "image_encoder.layers.2.downsample.conv2.bn.running_var", "image_encoder.layers.2.more"),
        ("imagebind_huge.json", "modality_trunks.audio.blocks.11.attn.bias_k", "modality_trunks.audio.more"),
        ("ram_swin_large_14m.json", "visual_encoder.layers.2.blocks.17.attn.qkv.bias", "visual_encoder.more"),
        ("vicuna_7b_v0.json", "model.layers.31.mlp.down_proj.weight", "model.layers.31.self_attn.q_proj.bias"),
        ("vicuna_7b_v0.json", "lm_head.weight", "lm_head.bias"),
    ];
    for (name, lost, added) in damaged {
        let whole = shapes(name);
        let mut less = whole.clone();
        assert!(less.remove(lost).is_some(), "{name} holds {lost}");
        let (mapping, checked) = check(&less);
        let told = !mapping.problems.is_empty() || checked.iter().any(|checked| !checked.missing.is_empty());
        assert!(told, "{name} without {lost}");
        let mut more = whole.clone();
        more.insert(added.into(), vec![1]);
        assert_eq!(check(&more).0.unknown.len(), 1, "{name} with {added}");
        let mut other = whole;
        other.get_mut(lost).expect("it is there").push(2);
        assert!(!passes(&other), "{name} with {lost} in another shape");
    }
    // Whole blocks at the end are missed as well, since the widths are those of a published model.
    for (name, last) in [("sam_vit_h.json", "image_encoder.blocks.31."), ("vicuna_7b_v0.json", "model.layers.31.")] {
        let cut: Shapes = shapes(name).into_iter().filter(|(name, _)| !name.starts_with(last)).collect();
        assert!(!passes(&cut), "{name} without {last}");
    }
    let nothing: Shapes = [("w".to_owned(), vec![1])].into();
    assert!(mapping::recognise(&nothing).is_err());
}

// ---- the published renames ----

/// `[converted name, original name, rows]` for every tensor, ranges expanded on both sides together.
fn renames(name: &str) -> Vec<(String, String, Option<[usize; 2]>)> {
    let mut all = Vec::new();
    for entry in json(name)["map"].as_array().expect("a map") {
        let (from, to, rows): (String, String, Option<[usize; 2]>) =
            serde_json::from_value(entry.clone()).expect("names and rows");
        let (from, to) = (shape_list::expand(&from).expect("ranges"), shape_list::expand(&to).expect("ranges"));
        assert_eq!(from.len(), to.len(), "{entry}");
        all.extend(from.into_iter().zip(to).map(|(from, to)| (from, to, rows)));
    }
    all
}

/// What the published rule says of a tensor, in the terms of a naming table.
fn published(from: &str, to: &str, rows: Option<[usize; 2]>) -> Target {
    let to = to.strip_prefix("visual_encoder.").unwrap_or(to);
    if let Some(biases) = to.strip_prefix("concat(").and_then(|to| to.strip_suffix(')')) {
        let names = biases.split(", ").map(|name| {
            let name = name.strip_prefix("visual_encoder.").unwrap_or(name);
            (!name.starts_with("zeros[")).then(|| name.to_owned())
        });
        return Target::Split(names.collect());
    }
    match rows {
        None if to.starts_with("t5_proj.") || to.ends_with("relative_position_index") => Target::Unused,
        None => Target::Whole(to.to_owned()),
        Some([first, end]) => {
            assert_eq!(first % (end - first), 0, "{from}");
            Target::Rows { of: to.to_owned(), part: first / (end - first), parts: 3 }
        }
    }
}

fn check_renames(list: &str, namings: &[Naming]) {
    let mut wrong = Vec::new();
    let all = renames(list);
    for (from, to, rows) in &all {
        let mut expected = published(from, to, *rows);
        // The heads of all layers are one; the model keeps it under one name.
        if let Target::Whole(name) = &mut expected
            && let Some((_, head)) = name.rsplit_once("bbox_embed.")
            && !name.contains("enc_out")
        {
            let (_, rest) = head.split_once('.').expect("a layer's number");
            *name = format!("bbox_embed.0.{rest}");
        }
        let found: Vec<Target> =
            namings.iter().filter_map(|naming| naming(from)).filter(|target| *target != Target::Unused).collect();
        let expected: Vec<Target> = if expected == Target::Unused { Vec::new() } else { vec![expected] };
        if found != expected {
            wrong.push(format!("{from}: {found:?}, published is {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{list}: {} of {} wrong: {:#?}", wrong.len(), all.len(), &wrong[..wrong.len().min(5)]);
}

#[test]
fn renames_are_the_published_ones() {
    check_renames("renames_blip2.json", &[eva_vit::hugging_face, qformer::hugging_face]);
    check_renames("renames_grounding_dino.json", &[grounding_dino::hugging_face]);
    for size in ["b", "l", "h"] {
        check_renames(&format!("renames_sam_vit_{size}.json"), &[sam::hugging_face]);
    }
}

#[test]
fn kinds_are_told_apart() {
    for row in CHECKPOINTS {
        assert_eq!(CHECKPOINTS.iter().filter(|other| other.kind == row.kind).count(), 1, "{}", row.kind);
    }
    for name in LISTS {
        let shapes = shapes(name);
        let fitting = CHECKPOINTS
            .iter()
            .filter(|row| row.marks.iter().all(|mark| shapes.keys().any(|name| row.unwrapped(name) == *mark)));
        assert_eq!(fitting.count(), 1, "{name}");
    }
}

// ---- small files ----

/// Numbers that f16 holds exactly, different from tensor to tensor.
fn state(shapes: &Shapes) -> State {
    let numbers = shapes.iter().enumerate().map(|(at, (name, dims))| {
        let count: usize = dims.iter().product();
        let data = (0..count).map(|i| ((i * 7 + at * 13) % 127) as f32 / 64.0 - 1.0).collect();
        (name.clone(), (dims.clone(), Numbers::F32(data)))
    });
    numbers.collect()
}

fn dims(entries: &[(&str, &[usize])]) -> Shapes {
    let mut shapes = Shapes::new();
    for (pattern, dims) in entries {
        let names = shape_list::expand(pattern).expect("ranges");
        shapes.extend(names.into_iter().map(|name| (name, dims.to_vec())));
    }
    shapes
}

/// An EVA of two blocks, 64 wide, with what the real file has beside.
fn small_eva() -> Shapes {
    dims(&[
        ("cls_token", &[1, 1, 64]),
        ("pos_embed", &[1, 5, 64]),
        ("patch_embed.proj.weight", &[64, 3, 14, 14]),
        ("patch_embed.proj.bias", &[64]),
        ("blocks.{0-1}.norm{1-2}.weight", &[64]),
        ("blocks.{0-1}.norm{1-2}.bias", &[64]),
        ("blocks.{0-1}.attn.q_bias", &[64]),
        ("blocks.{0-1}.attn.v_bias", &[64]),
        ("blocks.{0-1}.attn.qkv.weight", &[192, 64]),
        ("blocks.{0-1}.attn.proj.weight", &[64, 64]),
        ("blocks.{0-1}.attn.proj.bias", &[64]),
        ("blocks.{0-1}.mlp.fc1.weight", &[96, 64]),
        ("blocks.{0-1}.mlp.fc1.bias", &[96]),
        ("blocks.{0-1}.mlp.fc2.weight", &[64, 96]),
        ("blocks.{0-1}.mlp.fc2.bias", &[64]),
        ("norm.weight", &[64]),
        ("norm.bias", &[64]),
        ("head.weight", &[32, 64]),
        ("head.bias", &[32]),
    ])
}

/// A Q-Former below `prefix`, 64 wide.
fn small_qformer(prefix: &str) -> Shapes {
    let mut shapes = dims(&[
        ("query_tokens", &[1, 4, 64]),
        ("Qformer.bert.embeddings.LayerNorm.weight", &[64]),
        ("Qformer.bert.embeddings.LayerNorm.bias", &[64]),
    ]);
    for layer in 0..12 {
        let blocks: &[&str] = if layer % 2 == 0 { &["attention", "crossattention"] } else { &["attention"] };
        let at = format!("Qformer.bert.encoder.layer.{layer}");
        for block in blocks {
            for name in ["self.query", "self.key", "self.value", "output.dense"] {
                shapes.insert(format!("{at}.{block}.{name}.weight"), vec![64, 64]);
                shapes.insert(format!("{at}.{block}.{name}.bias"), vec![64]);
            }
            shapes.insert(format!("{at}.{block}.output.LayerNorm.weight"), vec![64]);
            shapes.insert(format!("{at}.{block}.output.LayerNorm.bias"), vec![64]);
        }
        for (name, rows, cols) in [("intermediate_query", 96, 64), ("output_query", 64, 96)] {
            shapes.insert(format!("{at}.{name}.dense.weight"), vec![rows, cols]);
            shapes.insert(format!("{at}.{name}.dense.bias"), vec![rows]);
        }
        shapes.insert(format!("{at}.output_query.LayerNorm.weight"), vec![64]);
        shapes.insert(format!("{at}.output_query.LayerNorm.bias"), vec![64]);
    }
    shapes.into_iter().map(|(name, dims)| (format!("{prefix}{name}"), dims)).collect()
}

fn small_blip2() -> Shapes {
    let mut shapes = small_qformer("");
    shapes.extend(dims(&[
        ("ln_vision.weight", &[64]),
        ("ln_vision.bias", &[64]),
        ("t5_proj.weight", &[32, 64]),
        ("t5_proj.bias", &[32]),
    ]));
    shapes
}

fn small_bubogpt() -> Shapes {
    let mut shapes = small_qformer("multimodal_joiner.modality_qformers.audio.");
    for modality in ["vision", "audio"] {
        let fc = format!("multimodal_joiner.modality_post_projectors.{modality}.fc");
        shapes.insert(format!("{fc}.weight"), vec![128, 64]);
        shapes.insert(format!("{fc}.bias"), vec![128]);
    }
    shapes
}

/// The three checkpoints in the containers of the real ones: a legacy stream of f16, and two archives with their
/// tensors below `model`.
fn write_originals(folder: &Path) -> Vec<PathBuf> {
    let halves = |state: State| -> State {
        state.into_iter().map(|(name, (dims, numbers))| (name, (dims, numbers.into_f16()))).collect()
    };
    let paths = ["eva_vit_g.pth", "blip2.pth", "bubogpt_7b.pth"].map(|name| folder.join(name));
    legacy_file(&paths[0], None, &halves(state(&small_eva())));
    zip_file(&paths[1], Some("model"), &state(&small_blip2()));
    zip_file(&paths[2], Some("model"), &state(&small_bubogpt()));
    paths.to_vec()
}

fn convert(sources: &[PathBuf], out: &Path, target: Option<Quantization>) -> anyhow::Result<Manifest> {
    bundle::convert_public(sources, out, "test", target, false, &mut |_| {})
}

fn load(folder: &Path, part: &str) -> LoadedPart<Weights> {
    let mut loader = bundle::open(folder, &Device::Cpu, Precision::Exact).expect("a bundle");
    pollster::block_on(loader.load_part(part, &mut |_| {})).expect("the part is there")
}

fn numbers(part: &LoadedPart<Weights>, name: &str, dims: &[usize]) -> Vec<f32> {
    let tensor = part.weights.tensor(name, dims).expect("it is there");
    pollster::block_on(tensor.to_f32()).expect("on the CPU")
}

#[test]
fn three_checkpoints_become_three_parts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sources = write_originals(folder.path());
    let out = folder.path().join("bundle");
    let manifest = convert(&sources, &out, None).expect("they belong together");
    let parts: Vec<&str> = manifest.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(parts, ["image_encoder", "image_qformer", "audio_qformer"]);
    let encoder = load(&out, "image_encoder");
    for (name, source) in [("blocks.1.attn.qkv.weight", small_eva()), ("ln_vision.bias", small_blip2())] {
        let (dims, expected) = &state(&source)[name];
        assert_eq!(numbers(&encoder, name, dims), expected.to_f32(), "{name}");
    }
    let heard = load(&out, "audio_qformer");
    let original = "multimodal_joiner.modality_post_projectors.audio.fc.weight";
    assert_eq!(numbers(&heard, "projector.fc.weight", &[128, 64]), state(&small_bubogpt())[original].1.to_f32());

    let quantized = folder.path().join("quantized");
    let target = Quantization { scheme: Scheme::Q4_0, fit: Fit::LeastSquares };
    let manifest = convert(&sources, &quantized, Some(target)).expect("they belong together");
    let dtype =
        |name: &str| manifest.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.format.name());
    assert_eq!(dtype("image_encoder.blocks.0.mlp.fc1.weight"), Some("q4_0"));
    assert_eq!(dtype("image_encoder.patch_embed.proj.weight"), Some("f16"), "as stored");
    assert_eq!(dtype("image_qformer.query_tokens"), Some("f32"));
}

#[test]
fn hugging_faces_folder_gives_the_same_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sources = write_originals(folder.path());
    let originals = folder.path().join("originals");
    convert(&sources, &originals, None).expect("they belong together");

    // The same numbers under the conversion's names, in two shards.
    let (eva, blip2) = (state(&small_eva()), state(&small_blip2()));
    let mut shards = [State::new(), State::new()];
    for (original, (dims, numbers)) in eva.iter().chain(&blip2) {
        let renamed = hugging_face_name(original);
        let fused = original.strip_suffix(".q_bias").map(|_| {
            let value = eva[&original.replace("q_bias", "v_bias")].1.to_f32();
            [numbers.to_f32(), vec![0.0; 64], value].concat()
        });
        let Some(name) = renamed else { continue };
        let tensor = match fused {
            Some(biases) => (vec![192], Numbers::F32(biases)),
            None => (dims.clone(), numbers.clone()),
        };
        shards[name.len() % 2].insert(name, tensor);
    }
    let converted = folder.path().join("blip2-flan-t5-xxl");
    std::fs::create_dir(&converted).expect("there is room");
    for (at, shard) in shards.iter().enumerate() {
        safetensors_file(&converted.join(format!("model-0000{at}-of-00002.safetensors")), shard);
    }
    let out = folder.path().join("hugging_face");
    convert(&[converted.clone(), sources[2].clone()], &out, None).expect("they belong together");
    for (part, name, dims) in [
        ("image_encoder", "blocks.1.attn.v_bias", &[64][..]),
        ("image_encoder", "blocks.0.attn.q_bias", &[64]),
        ("image_encoder", "ln_vision.weight", &[64]),
        ("image_qformer", "Qformer.bert.encoder.layer.2.crossattention.self.key.weight", &[64, 64]),
        ("image_qformer", "Qformer.bert.embeddings.LayerNorm.bias", &[64]),
    ] {
        assert_eq!(numbers(&load(&out, part), name, dims), numbers(&load(&originals, part), name, dims), "{name}");
    }

    // A bias of the keys is not 0: the model has no place for it.
    let name = "vision_model.encoder.layers.1.self_attn.qkv.bias".to_owned();
    let shard = &mut shards[name.len() % 2];
    let (_, Numbers::F32(biases)) = shard.get_mut(&name).expect("it is there") else { panic!("made as f32") };
    biases[100] = 0.5;
    safetensors_file(&converted.join(format!("model-0000{}-of-00002.safetensors", name.len() % 2)), shard);
    let error = convert(&[converted, sources[2].clone()], &out, None).expect_err("a key bias");
    assert!(format!("{error:#}").contains("should be 0"), "{error:#}");
}

/// The conversion's name of one of the original's tensors, written down independently of the tables.
fn hugging_face_name(original: &str) -> Option<String> {
    let skipped = ["norm.", "head.", "t5_proj."];
    if skipped.iter().any(|start| original.starts_with(start)) || original.ends_with(".v_bias") {
        return None;
    }
    if original.starts_with("Qformer.bert.embeddings.") {
        return Some(original.replace("Qformer.bert.embeddings.LayerNorm", "qformer.layernorm"));
    }
    if original.starts_with("Qformer.") {
        let name = original.replace("Qformer.bert.", "qformer.");
        return Some(name.replace("attention.self.", "attention.attention."));
    }
    Some(match original {
        "query_tokens" => "query_tokens".into(),
        "cls_token" => "vision_model.embeddings.class_embedding".into(),
        "pos_embed" => "vision_model.embeddings.position_embedding".into(),
        _ => original
            .replace("ln_vision", "vision_model.post_layernorm")
            .replace("patch_embed.proj", "vision_model.embeddings.patch_embedding")
            .replace("attn.q_bias", "self_attn.qkv.bias")
            .replace("attn.qkv.weight", "self_attn.qkv.weight")
            .replace("attn.proj", "self_attn.projection")
            .replace(".norm", ".layer_norm")
            .replace("blocks.", "vision_model.encoder.layers."),
    })
}

#[test]
fn bad_checkpoints_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sources = write_originals(folder.path());
    let out = folder.path().join("bundle");
    let name = "multimodal_joiner.modality_qformers.audio.Qformer.bert.encoder.layer.5.attention.self.key.weight";
    let good = state(&small_bubogpt());
    let with = |change: &dyn Fn(&mut State)| {
        let mut bad = good.clone();
        change(&mut bad);
        zip_file(&sources[2], Some("model"), &bad);
        let error = convert(&sources, &out, None).expect_err("it is damaged");
        format!("{error:#}")
    };
    let short = "layer.5.attention.self.key.weight";
    let expectations: [(&str, String, &[&str]); 7] = [
        ("missing", with(&|bad| drop(bad.remove(name))), &[short, "[64, 64]", "missing", "bubogpt_7b"]),
        (
            "of another shape",
            with(&|bad| drop(bad.insert(name.into(), (vec![64, 32], Numbers::F32(vec![0.0; 64 * 32]))))),
            &[short, "[64, 32]", "[64, 64]"],
        ),
        (
            "extra",
            with(&|bad| drop(bad.insert("more".into(), (vec![1], Numbers::F32(vec![0.0]))))),
            &["unknown: model.more"],
        ),
        (
            "of 64-bit floats",
            with(&|bad| drop(bad.insert(name.into(), (vec![64, 64], Numbers::F64(vec![0.0; 64 * 64]))))),
            &[short, "F64"],
        ),
        (
            "of integers",
            with(&|bad| drop(bad.insert(name.into(), (vec![64, 64], Numbers::I64(vec![0; 64 * 64]))))),
            &[short, "I64"],
        ),
        (
            "with a NaN",
            with(&|bad| {
                let mut numbers = vec![0.0; 64 * 64];
                numbers[77] = f32::NAN;
                bad.insert(name.into(), (vec![64, 64], Numbers::F32(numbers)));
            }),
            &[short, "number 77", "not finite"],
        ),
        (
            "with an infinity in f16",
            with(&|bad| {
                let mut numbers = vec![half::f16::ZERO; 64 * 64];
                numbers[9] = half::f16::NEG_INFINITY;
                bad.insert(name.into(), (vec![64, 64], Numbers::F16(numbers)));
            }),
            &[short, "number 9", "not finite"],
        ),
    ];
    for (what, error, named) in expectations {
        for text in named {
            assert!(error.contains(text), "{what}: {text:?} is not in {error}");
        }
    }

    zip_file(&sources[2], Some("model"), &good);
    let whole = std::fs::read(&sources[2]).expect("it was just written");
    std::fs::write(&sources[2], &whole[..whole.len() / 2]).expect("there is room");
    let error = format!("{:#}", convert(&sources, &out, None).expect_err("half a file"));
    assert!(error.contains("is no PyTorch checkpoint") && error.contains("bubogpt"), "{error}");
    // EVA's legacy stream, cut anywhere.
    let stream = std::fs::read(&sources[0]).expect("it was just written");
    for cut in [0, 10, 200, stream.len() / 2, stream.len() - 1] {
        std::fs::write(&sources[0], &stream[..cut]).expect("there is room");
        assert!(convert(&sources[..1], &out, None).is_err(), "cut to {cut} bytes");
    }
    // Another model's checkpoint, and a part that lacks its second half.
    let other = folder.path().join("other.pth");
    zip_file(&other, None, &BTreeMap::from([("w".to_owned(), (vec![1], Numbers::F32(vec![0.0])))]));
    let error = convert(&[other], &out, None).expect_err("no known checkpoint");
    assert!(format!("{error:#}").contains("ram_swin_large_14m"), "it lists what is known: {error:#}");
    std::fs::write(&sources[0], &stream).expect("there is room");
    let error = format!("{:#}", convert(&sources[..1], &out, None).expect_err("without its norm"));
    assert!(error.contains("ln_vision.bias") && error.contains("blip2_pretrained_flant5xxl"), "{error}");
}

// ---- the language model ----

/// A LLaMA of two layers, 64 wide, as its folder holds it.
fn small_llama() -> Shapes {
    dims(&[
        ("model.embed_tokens.weight", &[300, 64]),
        ("model.layers.{0-1}.self_attn.q_proj.weight", &[64, 64]),
        ("model.layers.{0-1}.self_attn.k_proj.weight", &[64, 64]),
        ("model.layers.{0-1}.self_attn.v_proj.weight", &[64, 64]),
        ("model.layers.{0-1}.self_attn.o_proj.weight", &[64, 64]),
        ("model.layers.{0-1}.mlp.gate_proj.weight", &[96, 64]),
        ("model.layers.{0-1}.mlp.up_proj.weight", &[96, 64]),
        ("model.layers.{0-1}.mlp.down_proj.weight", &[64, 96]),
        ("model.layers.{0-1}.input_layernorm.weight", &[64]),
        ("model.layers.{0-1}.post_attention_layernorm.weight", &[64]),
        ("model.norm.weight", &[64]),
        ("lm_head.weight", &[300, 64]),
    ])
}

/// Three special pieces, all bytes, and letters up to 300.
fn small_vocabulary() -> Vec<(String, f32, i32)> {
    let mut pieces = vec![("<unk>".to_owned(), 0.0, 2), ("<s>".to_owned(), 0.0, 3), ("</s>".to_owned(), 0.0, 3)];
    pieces.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    pieces.push(("\u{2581}".to_owned(), -1.0, 1));
    pieces.extend((b'A'..).map(|letter| (char::from(letter).to_string(), -2.0, 1)).take(300 - pieces.len()));
    pieces
}

fn llama_folder(folder: &Path) -> PathBuf {
    let folder = folder.join("vicuna");
    std::fs::create_dir(&folder).expect("there is room");
    let mut shards = [State::new(), State::new()];
    for (at, (name, (dims, numbers))) in state(&small_llama()).into_iter().enumerate() {
        shards[at % 2].insert(name, (dims, numbers.into_f16()));
    }
    shards[0].insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), (vec![8], Numbers::F32(vec![1.0; 8])));
    for (at, shard) in shards.iter().enumerate() {
        zip_file(&folder.join(format!("pytorch_model-0000{}-of-00002.bin", at + 1)), None, shard);
    }
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 299, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("there is room");
    std::fs::write(folder.join("tokenizer.model"), sentencepiece_file(&small_vocabulary())).expect("there is room");
    folder
}

fn language_model(folder: &Path) -> (LanguageModel, Vec<f32>) {
    let part = load(folder, "language");
    let tokenizer = part.file("tokenizer.json").expect("it has one");
    let model = LanguageModel::load(&part.config, &part.weights, tokenizer).expect("it fits");
    part.weights.finish().expect("nothing is left over");
    let ids = model.tokenizer.encode("HEY").expect("text");
    let hidden = model.llama.forward(&model.llama.embed(&ids).expect("ids"), None).expect("it runs");
    let logits = model.llama.logits(&hidden).expect("it runs");
    let logits = pollster::block_on(logits.to_f32()).expect("on the CPU");
    (model, logits)
}

/// The original's prompt in tokens: the start token once, every text between embeddings tokenised by itself, so with a
/// space of its own in front, and nothing behind the last colon.
fn check_spliced_prompt(model: &LanguageModel) {
    let width = model.llama.config().hidden_size;
    let shown = |kind: ModalityKind, id: u64, rows: usize| {
        let embeddings = Tensor::zeros(&[rows, width], &Device::Cpu).expect("zeros");
        Message { role: Role::User, parts: vec![Part::Modality(Modality { kind, id, embeddings })] }
    };
    let mut messages = vec![shown(ModalityKind::Image, 0, 3), shown(ModalityKind::Audio, 1, 2)];
    messages[1].parts.push(Part::Text("What is it?".into()));
    let sequence = model.read_prompt(&messages).expect("it can be written");
    let texts = [
        &format!("{BUBOGPT_SYSTEM}###Human: <Vision>"),
        "</Vision>###Human: <Audio>",
        "</Audio> What is it?###Assistant:",
    ];
    let tokens = |text: &str| -> Vec<Item> {
        let ids = model.tokenizer.encode(text).expect("text");
        assert_eq!(ids[0], 259, "a text starts with a space of its own");
        assert_ne!(ids.last(), Some(&259), "and ends without one");
        ids.into_iter().map(Item::Token).collect()
    };
    let rows = |modality: u64, count: usize| (0..count).map(move |row| Item::Embedding { modality, row });
    let mut expected = vec![Item::Token(1)];
    expected.extend(tokens(texts[0]).into_iter().chain(rows(0, 3)).chain(tokens(texts[1])).chain(rows(1, 2)));
    expected.extend(tokens(texts[2]));
    assert_eq!(sequence.items, expected);
}

#[test]
fn a_vicuna_folder_and_its_gguf_become_the_same_language_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vicuna = llama_folder(folder.path());
    let out = folder.path().join("bundle");
    convert(std::slice::from_ref(&vicuna), &out, None).expect("a LLaMA");
    let (model, logits) = language_model(&out);
    assert_eq!(model.llama.config().vocab_size, 300, "the file's rows, not its configuration's");
    assert_eq!(model.tokenizer.encode("HI").expect("text"), [259, 260 + 7, 260 + 8]);
    let chat = &model.settings.chat;
    assert_eq!(chat.stop, StopRules::original());
    assert_eq!(chat.generation, GenerationOptions { cut: ContextCut::Pinned, ..GenerationOptions::original() });
    check_spliced_prompt(&model);
    assert!(logits.iter().all(|logit| logit.is_finite()));

    let gguf = folder.path().join("vicuna.gguf");
    gguf_file(&gguf, &state(&small_llama()), &small_vocabulary(), 4);
    let other = folder.path().join("from_gguf");
    convert(&[gguf], &other, None).expect("a LLaMA");
    let (_, same) = language_model(&other);
    assert_eq!(logits, same);

    let twice =
        convert(&[vicuna.clone(), folder.path().join("vicuna.gguf")], &out, None).expect_err("two language models");
    assert!(format!("{twice:#}").contains("two of the checkpoints make the part language"), "{twice:#}");
    std::fs::write(vicuna.join("config.json"), r#"{"architectures": ["GPT2LMHeadModel"]}"#).expect("there is room");
    let error = convert(&[vicuna], &out, None).expect_err("another architecture");
    assert!(format!("{error:#}").contains("GPT2LMHeadModel"), "{error:#}");
}

/// A GGUF file held against the model by its header, and converted: both refuse the same and name the tensor.
#[test]
fn a_bad_gguf_is_named_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, out) = (folder.path().join("vicuna.gguf"), folder.path().join("bundle"));
    let good = state(&small_llama());
    let written = |state: &State| gguf_file(&path, state, &small_vocabulary(), 4);
    let checked = || gguf_llama::check(&Gguf::open(&path).expect("a header")).expect("a LLaMA");
    written(&good);
    assert!(checked().passes(), "{}", checked().report());
    assert!(checked().report().contains("21 tensors"), "{}", checked().report());
    // A row more than the tokeniser has tokens, as in v0 merges.
    let mut padded = good.clone();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        padded.insert(name.into(), (vec![301, 64], Numbers::F32(vec![0.5; 301 * 64])));
    }
    written(&padded);
    assert!(checked().passes(), "{}", checked().report());

    let down = "model.layers.1.mlp.down_proj.weight";
    let norm = "model.layers.0.input_layernorm.weight";
    type Change<'a> = (&'a str, &'a dyn Fn(&mut State), &'a [&'a str]);
    let changes: [Change<'_>; 3] = [
        ("missing", &|bad| drop(bad.remove(down)), &["missing", down, "[64, 96]"]),
        (
            "of another shape",
            &|bad| drop(bad.insert(down.into(), (vec![64, 64], Numbers::F32(vec![0.0; 64 * 64])))),
            &["of another shape", down, "[64, 64]", "[64, 96]"],
        ),
        (
            "extra",
            &|bad| drop(bad.insert("model.layers.0.more".into(), (vec![3], Numbers::F32(vec![0.0; 3])))),
            &["blk.0.more [3] is no tensor of a LLaMA"],
        ),
    ];
    for (what, change, named) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        written(&bad);
        let report = checked().report();
        assert!(!checked().passes(), "{what}");
        let error = format!("{:#}", convert(std::slice::from_ref(&path), &out, None).expect_err(what));
        for text in named {
            assert!(report.contains(text) && error.contains(text), "{what}: {text:?} is not in {report}\n{error}");
        }
        assert!(!out.join("bundle.json").exists(), "{what}");
    }
    // Only its numbers tell, so only converting finds it.
    let mut infinite = good.clone();
    let (_, Numbers::F32(numbers)) = infinite.get_mut(norm).expect("it is there") else { panic!("made as f32") };
    numbers[5] = f32::INFINITY;
    written(&infinite);
    let error = format!("{:#}", convert(std::slice::from_ref(&path), &out, None).expect_err("infinite"));
    assert!(error.contains(norm) && error.contains("number 5"), "{error}");

    written(&good);
    let whole = std::fs::read(&path).expect("it was just written");
    std::fs::write(&path, &whole[..whole.len() - 4096]).expect("there is room");
    assert!(!checked().passes() && checked().report().contains("cut short"), "{}", checked().report());
    // Another tokeniser's vocabulary is told, too.
    let key = b"tokenizer.ggml.model";
    let other = whole.windows(key.len()).position(|bytes| bytes == key).expect("it is there");
    let mut foreign = whole;
    let at = other + key.len() + 12;
    assert_eq!(&foreign[at..at + 5], b"llama");
    foreign[at..at + 5].copy_from_slice(b"gpt-2");
    std::fs::write(&path, foreign).expect("there is room");
    assert!(checked().report().contains("the tokeniser is `gpt-2`"), "{}", checked().report());
}

#[test]
fn joined_bundles_hold_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sources = write_originals(folder.path());
    let (seen, spoken, out) = (folder.path().join("seen"), folder.path().join("spoken"), folder.path().join("all"));
    let target = Some(Quantization { scheme: Scheme::Q4_1, fit: Fit::Range });
    convert(&sources, &seen, target).expect("they belong together");
    convert(&[llama_folder(folder.path())], &spoken, None).expect("a LLaMA");
    let manifest =
        bundle::join(&[spoken.clone(), seen.clone()], None, &out, "bubogpt-7b", "").expect("different parts");
    let parts: Vec<&str> = manifest.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(parts, ["image_encoder", "image_qformer", "audio_qformer", "language"]);
    for (from, part, name, dims) in
        [(&seen, "image_encoder", "pos_embed", &[1, 5, 64][..]), (&spoken, "language", "lm_head.weight", &[300, 64])]
    {
        assert_eq!(numbers(&load(from, part), name, dims), numbers(&load(&out, part), name, dims), "{name}");
    }
    let bytes = |manifest: &Manifest, part: usize| -> u64 {
        let tensors = manifest.tensors.iter().filter(|tensor| tensor.part == part);
        tensors.flat_map(|tensor| &tensor.pieces).map(|piece| piece.at[1] - piece.at[0]).sum()
    };
    let before = Manifest::parse(&std::fs::read(seen.join("bundle.json")).expect("a bundle")).expect("a manifest");
    assert_eq!(bytes(&before, 0), bytes(&manifest, 0));
    assert!(manifest.licences.iter().any(|licence| licence.part == "language" && licence.spdx == "LicenseRef-LLaMA"));
    let error = bundle::join(&[seen.clone(), seen], None, &out, "twice", "").expect_err("the same parts");
    assert!(format!("{error:#}").contains("image_encoder"), "{error:#}");
}
