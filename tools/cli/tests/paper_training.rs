//! The paper's two stages on a tiny bundle of the paper's system: annotation files, pictures and sounds in, a bundle
//! out that a session runs.

#![allow(clippy::unwrap_used, reason = "what a test cannot do, it fails at")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bubo::bundle::Scheme;
use bubo::media::{RgbImage, Waveform};
use bubo::nn::Weights;
use bubo::session::joining::Embedded;
use bubo::tensor::{Device, Precision, Tensor};
use bubo_cli::bundle;
use bubo_cli::convert::models::MODELS;
use bubo_cli::host::CommandLine;
use bubo_cli::run::open_session;
use bubo_cli::synth::{Request, synth};
use bubo_cli::train::{self, Stage, TrainingDevice};
use serde_json::{Value as Json, json};

const QFORMERS: [&str; 2] = ["image_qformer", "audio_qformer"];

fn synthetic(folder: &Path, parts: &[&str]) {
    let parts = parts.iter().map(|part| (*part).to_owned()).collect();
    let (segmenter, scheme) = ("mobile_sam".to_owned(), Some(Scheme::Q8_0));
    let request = Request { segmenter, parts, layers: None, tiny: true, scheme, seed: 5 };
    synth(&request, folder, &mut |_| {}).unwrap();
}

/// Three pictures and three sounds with the original's annotation files.
fn data(folder: &Path) {
    for name in ["image", "coco", "sound"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    for at in 0..3u8 {
        let picture = image::RgbImage::from_fn(40, 30 + 4 * u32::from(at), |x, y| {
            image::Rgb([(x as u8 * 6) ^ (at * 90), y as u8 * 5, at * 100])
        });
        // Readers ask for the ending; what is inside is told by its first bytes.
        for name in [format!("image/{at}.jpg"), format!("coco/COCO_train2014_{at:0>12}.jpg")] {
            picture.save_with_format(folder.join(name), image::ImageFormat::Png).unwrap();
        }
        let pitch = 0.05 + 0.2 * f32::from(at);
        let samples: Vec<i16> = (0..16_000 * 6).map(|t| ((t as f32 * pitch).sin() * 9000.0) as i16).collect();
        std::fs::write(folder.join(format!("sound/{at}.wav")), wav(&samples)).unwrap();
    }
    let write = |name: &str, value: Json| std::fs::write(folder.join(name), value.to_string()).unwrap();
    let said = |key: &str, what: &str| -> Vec<Json> {
        let words = ["word1 word2 word3", "word7 word8", "word20 word21 word22 word23"];
        (0..3).map(|at| json!({ key: at, "caption": format!("{what} {}.", words[at]) })).collect()
    };
    write("filter_cap.json", json!({ "annotations": said("image_id", "The image") }));
    write("clotho.json", json!({ "annotations": said("audio_id", "The audio") }));
    let turns = json!([{ "from": "human", "value": "word5?\n<image>" }, { "from": "gpt", "value": "word6 word9." }]);
    write("llava.json", json!([{ "id": 2, "conversations": turns }]));
    let pair = json!({ "audio_id": 2, "image_id": 2, "caption": "word30 word31." });
    write("vggss.json", json!({ "annotations": [pair] }));
}

/// 16-bit samples at 16 kHz as a file.
fn wav(samples: &[i16]) -> Vec<u8> {
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + bytes.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(16_000u32.to_le_bytes());
    file.extend(32_000u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((bytes.len() as u32).to_le_bytes());
    file.extend(bytes);
    file
}

fn plan(epochs: usize, steps: usize, rate: f64) -> Json {
    json!({ "epochs": epochs, "steps_per_epoch": steps, "seed": 4, "accumulation": 2, "schedule": {
        "learning_rate": rate, "least_learning_rate": rate / 4.0, "warm_up_learning_rate": rate / 100.0,
        "warm_up_steps": 3, "weight_decay": 0.05, "clip_norm": 1.0,
    } })
}

fn stage1(epochs: usize) -> Json {
    json!({
        "system": "bubogpt",
        "audio": { "learns": "qformer_and_projector", "start": "random", "sizes": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
            "num_query_token": 8, "encoder_width": 64,
        } },
        "end_sym": "\n", "max_txt_len": 12, "batch": 3,
        "data": [{ "name": "clotho", "weight": 1,
            "files": { "format": "clotho_detail", "annotations": "clotho.json", "sounds": "sound" } }],
        "split": { "validation_files_one_in": 0 }, "validation_samples": 2, "plan": plan(epochs, 8, 0.01),
    })
}

fn stage2() -> Json {
    let images = json!({ "format": "minigpt4", "annotations": "filter_cap.json", "images": "image" });
    let sounds = json!({ "format": "clotho_detail", "annotations": "clotho.json", "sounds": "sound" });
    let vggss = json!({ "format": "vggss", "annotations": "vggss.json", "images": "image", "sounds": "sound" });
    let set = |name: &str, weight: f32, files: &Json| json!({ "name": name, "weight": weight, "files": files });
    json!({
        "system": "bubogpt",
        "image": { "learns": "projector", "start": "bundle", "views": 2 },
        "audio": { "learns": "projector", "start": "bundle", "views": 1 },
        "prompt_template": "###Human: {} ###Assistant: ",
        "end_sym": "###", "max_txt_len": 24, "batch": 2,
        "data": [
            set("cc_sbu_align", 3.0, &images),
            set("llava", 2.0, &json!({ "format": "llava", "annotations": ["llava.json"], "images": "coco" })),
            set("clotho", 2.0, &sounds),
            set("vggss", 1.0, &vggss),
            set("aud_img_neg", 2.0, &json!({ "format": "unrelated", "images": images, "sounds": sounds })),
        ],
        "split": { "validation_files_one_in": 5 }, "validation_samples": 2, "plan": plan(2, 10, 0.01),
    })
}

fn teach(stage: Stage, config: &Json, bundle: &Path, data: &Path, out: &Path) -> anyhow::Result<()> {
    let path = out.with_extension("json");
    std::fs::write(&path, config.to_string())?;
    train::run(stage, &path, bundle, TrainingDevice::Cpu, data, out)
}

/// Losses of a run, step by step.
fn losses(out: &Path) -> Vec<f32> {
    let curve = std::fs::read_to_string(out.join("curve.csv")).unwrap();
    let column = curve.lines().next().unwrap().split(',').position(|name| name == "loss").unwrap();
    curve.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect()
}

fn mean(numbers: &[f32]) -> f32 {
    numbers.iter().sum::<f32>() / numbers.len() as f32
}

/// All numbers of a part of a bundle, by name.
fn numbers(folder: &Path, name: &str) -> BTreeMap<String, Vec<f32>> {
    let mut loader = bundle::open(folder, &Device::Cpu, Precision::Exact).unwrap();
    let part = pollster::block_on(loader.load_part(name, &mut |_| {})).unwrap();
    let model = MODELS.iter().find(|model| (model.part, model.model) == (name, &*part.model)).unwrap();
    let stored = loader.manifest().tensors.iter();
    let shapes =
        stored.filter_map(|own| Some((own.name.strip_prefix(&format!("{name}."))?.to_owned(), own.shape.clone())));
    let asked = model.expected(&part.config, &shapes.collect()).unwrap();
    let of = |weights: &Weights, name: &str, dims: &[usize], as_matrix: bool| -> Vec<f32> {
        if let (true, &[rows, cols]) = (as_matrix, dims) {
            let ids: Vec<u32> = (0..rows as u32).collect();
            let ids = Tensor::from_u32(&ids, &[rows], &Device::Cpu).unwrap();
            let table = Tensor::embedding(&weights.matrix(name, rows, cols).unwrap(), &ids).unwrap();
            return pollster::block_on(table.to_f32()).unwrap();
        }
        pollster::block_on(weights.tensor(name, dims).unwrap().to_f32()).unwrap()
    };
    let all = asked.into_iter().map(|(name, asked)| {
        let found = of(&part.weights, &name, &asked.dims, asked.as_matrix);
        (name, found)
    });
    all.collect()
}

#[test]
fn both_stages_learn_what_they_shall_and_make_a_bundle_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    // As after converting the public checkpoints but BuboGPT's own: no Q-Former for sounds yet.
    let without: Vec<&str> = MODELS.iter().map(|model| model.part).filter(|part| *part != "audio_qformer").collect();
    synthetic(&path("bundle"), &without);
    data(&path(""));

    // Stage 1: the sounds' Q-Former and projector from random numbers.
    let refused = teach(Stage::Stage2, &stage1(1), &path("bundle"), &path(""), &path("refused"));
    assert!(refused.unwrap_err().to_string().contains("stage 2 both"));
    let config = stage1(4);
    teach(Stage::Stage1, &config, &path("bundle"), &path(""), &path("run1")).unwrap();
    let whole = losses(&path("run1"));
    let (start, end) = (mean(&whole[..4]), mean(&whole[whole.len() - 4..]));
    println!("stage 1: {start:.3} to {end:.3}");
    assert!(whole.len() == 32 && end < 0.8 * start, "{whole:?}");
    let features = std::fs::read_dir(path("features")).unwrap().count();
    assert_eq!(features, 3, "each sound was heard once");

    // Stopped after the first epoch, since the curve cannot be written; then taken up again.
    let stopped = path("stopped");
    std::fs::create_dir_all(stopped.join("curve.csv")).unwrap();
    assert!(teach(Stage::Stage1, &config, &path("bundle"), &path(""), &stopped).is_err());
    let kept: Json = serde_json::from_slice(&std::fs::read(stopped.join("checkpoint.json")).unwrap()).unwrap();
    assert_eq!(kept["step"], 8);
    std::fs::remove_dir(stopped.join("curve.csv")).unwrap();
    teach(Stage::Stage1, &config, &path("bundle"), &path(""), &stopped).unwrap();
    assert_eq!(losses(&stopped), whole, "as if it had not stopped");
    let weights = |run: &str| std::fs::read(path(run).join("trained/audio_qformer.safetensors")).unwrap();
    assert!(weights("run1") == weights("stopped"));

    // What was learnt becomes a part of its own.
    bundle::join(&[path("bundle")], Some(&path("run1/trained")), &path("bundle1"), "taught", "").unwrap();
    let heard = numbers(&path("bundle1"), "audio_qformer");
    assert!(heard.keys().any(|name| name.contains("crossattention")));

    // Stage 2: both projectors alone.
    teach(Stage::Stage2, &stage2(), &path("bundle1"), &path(""), &path("run2")).unwrap();
    let curve = losses(&path("run2"));
    let (start, end) = (mean(&curve[..5]), mean(&curve[curve.len() - 5..]));
    println!("stage 2: {start:.3} to {end:.3}");
    assert!(end < start, "{curve:?}");
    // Pictures 0 and 1 and sound 0 are kept for validation.
    let table = std::fs::read_to_string(path("run2/curve.csv")).unwrap();
    let header = "step,loss,learning_rate,gradient_norm,cc_sbu_align loss,cc_sbu_align right,clotho loss,clotho right,\
                  aud_img_neg loss,aud_img_neg right";
    assert_eq!(table.lines().next(), Some(header));
    let scored = table.lines().filter(|line| !line.ends_with(",,,,,,")).count();
    assert_eq!(scored, 1 + 2, "after each epoch: {table}");
    bundle::join(&[path("bundle1")], Some(&path("run2/trained")), &path("bundle2"), "taught", "").unwrap();
    for model in MODELS.iter().filter(|model| model.model != "sam") {
        let [before, after] = ["bundle1", "bundle2"].map(|bundle| numbers(&path(bundle), model.part));
        let changed: Vec<&str> =
            before.iter().filter(|(name, numbers)| after[*name] != **numbers).map(|(name, _)| name.as_str()).collect();
        if QFORMERS.contains(&model.part) {
            assert_eq!(changed, ["projector.fc.bias", "projector.fc.weight"], "{}", model.part);
        } else {
            assert!(changed.is_empty() && !before.is_empty(), "{}: {changed:?}", model.part);
        }
    }
    works(&path("bundle2"));
}

/// A session looks, listens and answers with that bundle.
fn works(bundle: &Path) {
    let session = pollster::block_on(open_session(bundle, Device::Cpu)).unwrap();
    let host = CommandLine::default();
    let image = RgbImage::new(32, 32, (0..32 * 32 * 3).map(|at| (at % 251) as u8).collect()).unwrap();
    let scene = pollster::block_on(session.add_image(&image, &host, &|_| {})).unwrap();
    assert!(matches!(scene.embeddings, Some(Embedded::Ready(_))));
    let sound = Waveform::new((0..16_000 * 2).map(|at| (at as f32 * 0.2).sin()).collect(), 16_000).unwrap();
    pollster::block_on(session.add_audio(&sound, &host, &|_| {})).unwrap();
    let options = bubo::session::AskOptions { max_tokens: 4, ..Default::default() };
    pollster::block_on(session.ask("What is it?", &options, &host, &|_| {})).unwrap();
}

#[test]
fn what_is_not_of_the_bundle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    synthetic(&path("bundle"), &["audio_encoder", "language"]);
    data(&path(""));
    let message = |stage, config: &Json| {
        let refused = teach(stage, config, &path("bundle"), &path(""), &path("run"));
        format!("{:#}", refused.expect_err("it cannot be taught"))
    };
    let mut config = stage1(1);
    config["audio"]["start"] = json!("bundle");
    assert!(message(Stage::Stage1, &config).contains("no audio_qformer"));
    config = stage1(1);
    config["data"][0]["files"]["sounds"] = json!("elsewhere");
    assert!(message(Stage::Stage1, &config).contains("elsewhere"));
    config = stage1(1);
    config["data"][0]["files"] = json!({ "format": "minigpt4", "annotations": "filter_cap.json", "images": "image" });
    assert!(message(Stage::Stage1, &config).contains("does not teach"));
    assert!(message(Stage::Stage2, &stage2()).contains("no audio_qformer"));
    config["learning"] = json!(1);
    assert!(message(Stage::Stage1, &config).contains("learning"));
    let refused = bundle::join(&[path("bundle")], Some(&path("image")), &path("out"), "x", "");
    assert!(refused.unwrap_err().to_string().contains("audio_qformer.safetensors"));
}
