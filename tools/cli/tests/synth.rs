//! Bundles of random numbers, and plans for bundles.

use std::path::Path;

use bubo::bundle::{Manifest, Scheme};
use bubo::media::{RgbImage, Waveform};
use bubo::session::AskOptions;
use bubo::session::joining::Embedded;
use bubo::tensor::gpu::Gpu;
use bubo::tensor::{Device, Precision};
use bubo_cli::bundle;
use bubo_cli::convert::models::MODELS;
use bubo_cli::convert::original;
use bubo_cli::host::CommandLine;
use bubo_cli::plan::{self, Adapter};
use bubo_cli::run::open_session;
use bubo_cli::synth::{Request, synth, synth_like};

fn request(segmenter: &str, seed: u64) -> Request {
    let segmenter = segmenter.to_owned();
    Request { segmenter, parts: Vec::new(), layers: None, tiny: true, scheme: Some(Scheme::Q4_0), seed }
}

fn write(request: &Request, folder: &Path) -> Manifest {
    synth(request, folder, &mut |_| {}).expect("it asks for what exists")
}

fn shards(manifest: &Manifest) -> Vec<&str> {
    manifest.shards.iter().map(|shard| shard.sha256.as_str()).collect()
}

#[test]
fn every_model_loads_what_was_written_for_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for segmenter in ["mobile_sam", "sam_vit_b"] {
        let manifest = write(&request(segmenter, 1), folder.path());
        assert_eq!(manifest.parts.len(), 8, "all parts of the paper's system");
        let mut loader = bundle::open(folder.path(), &Device::Cpu, Precision::Exact).expect("a bundle");
        for entry in &manifest.parts {
            let model = MODELS.iter().find(|model| (model.part, model.model) == (&*entry.name, &*entry.model));
            let part = pollster::block_on(loader.load_part(&entry.name, &mut |_| {})).expect("it streams");
            let loaded = (model.expect("a model of the system").load)(&part.config, &part.weights);
            loaded.unwrap_or_else(|error| panic!("{}: {error:#}", entry.name));
            part.weights.finish().unwrap_or_else(|error| panic!("{}: {error:#}", entry.name));
        }
    }
}

/// Eight parts of the paper's system at work together: tags to boxes to masks, and both embeddings in one prompt.
#[test]
fn the_papers_system_answers_about_a_picture_and_a_sound() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&request("mobile_sam", 1), folder.path());
    let session = pollster::block_on(open_session(folder.path(), Device::Cpu)).expect("it loads");
    let host = CommandLine::default();
    let pixels: Vec<u8> = (0..97 * 61 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let image = RgbImage::new(97, 61, pixels).expect("the sizes fit");
    let samples: Vec<f32> = (0..16_000 * 6).map(|at| (at as f32 * 0.2).sin() * 0.3).collect();
    let sound = Waveform::new(samples, 16_000).expect("six seconds");
    let options = AskOptions { max_tokens: 4, ..AskOptions::default() };
    let asked = |question: &str| {
        let export = pollster::block_on(session.ask(question, &options, &host, &|_| {})).expect("an answer");
        assert!(!export.stats.contains_key("evidence"), "the language model itself answers");
        export.stats["prefill_tokens"].as_u64().expect("a count")
    };
    let alone = asked("What is it?");
    let scene = pollster::block_on(session.add_image(&image, &host, &|_| {})).expect("it is looked at");
    let Some(Embedded::Ready(embeddings)) = &scene.embeddings else { panic!("a Q-Former made embeddings") };
    let queries = embeddings.dims()[1] as u64;
    assert!(scene.things.iter().all(|thing| (thing.mask.width(), thing.mask.height()) == (97, 61)));
    pollster::block_on(session.add_audio(&sound, &host, &|_| {})).expect("it is listened to");
    let both = asked("What is it?");
    assert!(both > alone + 2 * queries, "{both} tokens with embeddings, {alone} without");
    let again = asked("Why?");
    assert!(again < both, "what was read is remembered: {again} of {both}");
}

/// The same system as `bubo convert --original` leaves it, asked as the original asks, by several beams.
#[test]
fn the_originals_settings_work_as_a_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&request("mobile_sam", 1), folder.path());
    let path = folder.path().join("bundle.json");
    let text = std::fs::read(&path).expect("a bundle");
    let mut manifest: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    for part in manifest["parts"].as_object_mut().expect("parts").values_mut() {
        let model = part["model"].as_str().expect("a name").to_owned();
        original::apply(&model, &mut part["config"]);
    }
    // So that the random detector finds something.
    manifest["parts"]["detector"]["config"]["box_threshold"] = serde_json::json!(0.0);
    std::fs::write(&path, manifest.to_string()).expect("there is room");

    let session = pollster::block_on(open_session(folder.path(), Device::Cpu)).expect("it loads");
    let host = CommandLine::default();
    let pixels: Vec<u8> = (0..97 * 61 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let image = RgbImage::new(97, 61, pixels).expect("the sizes fit");
    let scene = pollster::block_on(session.add_image(&image, &host, &|_| {})).expect("it is looked at");
    let asked_for = usize::from(!scene.things.is_empty());
    assert_eq!(scene.things.len(), 20 * asked_for, "every query is a thing, if any tag was seen");
    let samples: Vec<f32> = (0..16_000 * 6).map(|at| (at as f32 * 0.2).sin() * 0.3).collect();
    let sound = Waveform::new(samples, 16_000).expect("six seconds");
    pollster::block_on(session.add_audio(&sound, &host, &|_| {})).expect("it is listened to");
    let options = AskOptions { max_tokens: 6, num_beams: 3, seed: 5, ..AskOptions::original() };
    let ask = || pollster::block_on(session.ask("What is it?", &options, &host, &|_| {})).expect("an answer");
    let export = ask();
    assert_eq!(export.stats["cancelled"], false);
    let characters: Vec<char> = export.answer.chars().collect();
    for entity in &export.entities {
        assert_eq!(entity.phrase, characters[entity.start..entity.end].iter().collect::<String>());
    }
    let wrong = AskOptions { num_beams: 40, ..options.clone() };
    let refused = pollster::block_on(session.ask("What is it?", &wrong, &host, &|_| {}));
    assert_eq!(refused.expect_err("too many beams").code(), "input");
    ask();
}

#[test]
fn the_seed_decides() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [first, again, other] = ["first", "again", "other"].map(|name| folder.path().join(name));
    let whole = write(&request("mobile_sam", 7), &first);
    assert_eq!(shards(&whole), shards(&write(&request("mobile_sam", 7), &again)));
    assert_ne!(shards(&whole), shards(&write(&request("mobile_sam", 8), &other)));
    let like = synth_like(&first, &again, 7).expect("that bundle is there");
    assert_eq!(like.tensors.len(), whole.tensors.len());
    assert_eq!(shards(&like), shards(&whole), "the same names, shapes, formats and seed");
}

/// Fewer blocks at full width, in every trunk that has some, and of SAM's still one that sees the whole picture.
#[test]
fn trunks_are_cut() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cut = request("sam_vit_h", 0);
    (cut.tiny, cut.layers) = (false, Some(2));
    cut.parts = vec!["segmenter".into(), "audio_qformer".into()];
    let manifest = write(&cut, folder.path());
    let config = |part: &str| {
        let entry = manifest.parts.iter().find(|entry| entry.name == part).expect("it was asked for");
        entry.config.clone()
    };
    let segmenter = config("segmenter");
    assert_eq!(segmenter["depth"], 2);
    assert_eq!(segmenter["embed_dim"], 1280);
    assert_eq!(segmenter["global_attn_indexes"], serde_json::json!([1]));
    assert_eq!(config("audio_qformer")["num_hidden_layers"], 2);
    (cut.segmenter, cut.layers, cut.parts) = ("mobile_sam".into(), Some(1), vec!["segmenter".into(), "tagger".into()]);
    let manifest = write(&cut, folder.path());
    for part in &manifest.parts {
        assert_eq!(part.config["depths"], serde_json::json!([1, 1, 1, 1]), "{}", part.name);
    }
}

#[test]
fn only_what_exists_can_be_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut wrong = request("mobile_sam", 0);
    wrong.parts = vec!["nose".into()];
    let error = synth(&wrong, folder.path(), &mut |_| {}).expect_err("no such part").to_string();
    assert!(error.contains("nose") && error.contains("segmenter"), "{error}");
    assert!(synth(&request("sam_vit_x", 0), folder.path(), &mut |_| {}).is_err());
    let mut some = request("mobile_sam", 0);
    some.parts = vec!["language".into()];
    assert_eq!(write(&some, folder.path()).parts.len(), 1);
}

/// Parts at full width, from their shapes alone: parameters are those that are published.
#[test]
fn a_plan_tells_parameters_and_what_does_not_fit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut full = request("mobile_sam", 0);
    (full.tiny, full.parts) = (false, vec!["segmenter".into(), "audio_encoder".into()]);
    full.layers = Some(2);
    write(&full, folder.path());
    let minimum = Adapter::preset("minimum").expect("a preset");
    let planned = plan::plan(folder.path(), minimum.clone(), None).expect("a bundle");
    assert!(planned.obstacles.is_empty(), "{:?}", planned.obstacles);
    // A trunk of 12 blocks has 85,447,680 parameters and a scale; ten blocks of 7,089,408 are left out.
    let heard = planned.parts.iter().find(|part| part.part == "audio_encoder").expect("it was asked for");
    assert_eq!(heard.parameters, 85_447_681 - 10 * 7_089_408);
    let small = Adapter { name: "small".into(), binding_bytes: 1 << 20, buffer_bytes: 1 << 18 };
    let refused = plan::plan(folder.path(), small, None).expect("a bundle");
    assert!(!refused.obstacles.is_empty() && refused.to_text().contains("do not suffice"));
    assert!(Adapter::preset("none").is_err());
}

#[test]
fn a_gpu_takes_what_was_planned() {
    let Ok(gpu) = pollster::block_on(Gpu::open()) else {
        eprintln!("SKIPPED: there is no graphics adapter");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for segmenter in ["mobile_sam", "sam_vit_b"] {
        write(&request(segmenter, 3), folder.path());
        let planned = plan::plan(folder.path(), gpu.info().into(), None).expect("a bundle").weight_bytes;
        let measured = plan::measure(folder.path(), &gpu).expect("it loads");
        let off = planned as f64 / measured as f64 - 1.0;
        println!("{segmenter}: planned {planned}, measured {measured}, off by {:.2} %", off * 100.0);
        assert!(off.abs() < 0.05, "{segmenter}: planned {planned}, measured {measured}");
    }
}
