//! Vision models refuse weights and configurations that do not fit, and say which.

use std::cell::Cell;

use async_trait::async_trait;
use bubo::bundle::LoadedPart;
use bubo::encoders;
use bubo::grounding::segmenter;
use bubo::host::Host;
use bubo::media::{BoxPx, RgbImage};
use bubo::nn::Weights;
use bubo::tensor::Device;
use bubo_cli::convert::names::{Naming, Target};
use bubo_cli::convert::{eva_vit, mobile_sam, sam};
use bubo_cli::golden::{Golden, named_weights};
use serde_json::{Value, json};

/// The golden as a part of a bundle, without the tensor `left_out`.
fn part(golden: &Golden, model: &str, naming: Naming, left_out: &str, change: &Value) -> LoadedPart<Weights> {
    let named = |name: &str| if name == left_out { Some(Target::Unused) } else { naming(name) };
    let weights = named_weights(golden, &Device::Cpu, named).expect("the table knows all names");
    let mut config = golden.json()["config"].clone();
    for (key, value) in change.as_object().expect("changes are an object") {
        config[key] = value.clone();
    }
    LoadedPart { model: model.into(), config, weights, files: Default::default() }
}

/// Loads as a session does; the error's message, or nothing.
fn refusal(part: &LoadedPart<Weights>) -> String {
    let error = match part.model.as_str() {
        "sam" | "mobile_sam" => segmenter::load(part).err(),
        _ => encoders::load_image_encoder(part).err(),
    };
    error.map_or_else(String::new, |error| error.to_string())
}

/// Golden, model's name in a manifest, naming table.
const MODELS: [(&str, &str, Naming); 3] = [
    ("eva_vit", "eva_vit", eva_vit::original),
    ("sam", "sam", sam::original),
    ("mobile_sam", "mobile_sam", mobile_sam::original),
];

#[test]
fn every_tensor_that_is_missing_is_named() {
    for (name, model, naming) in MODELS {
        let golden = Golden::open(name).expect("the golden is part of the repository");
        assert_eq!(refusal(&part(&golden, model, naming, "", &json!({}))), "", "{name}");
        let weights: Vec<&str> = golden.names("weights.").map(|stored| &stored["weights.".len()..]).collect();
        for left_out in weights.iter().filter(|weight| naming(weight) != Some(Target::Unused)) {
            let message = refusal(&part(&golden, model, naming, left_out, &json!({})));
            assert!(message.contains(left_out), "{name} without {left_out}: {message:?}");
        }
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let huge = json!(1u64 << 40);
    for (name, model, naming) in MODELS {
        let golden = Golden::open(name).expect("the golden is part of the repository");
        let keys = ["img_size", "patch_size", "embed_dim", "num_heads", "window_size", "prompt_dim", "decoder_heads"];
        for key in keys.into_iter().filter(|key| golden.json()["config"].get(key).is_some()) {
            for value in [json!(0), huge.clone(), json!(-1), json!("many"), json!([0, 0]), json!([1 << 30, 1 << 30])] {
                let message = refusal(&part(&golden, model, naming, "", &json!({ key: value })));
                assert!(!message.is_empty(), "{name} with {key} {value}");
            }
        }
    }
    let golden = Golden::open("mobile_sam").expect("the golden is part of the repository");
    for (key, value) in [
        ("embed_dims", json!([0, 0, 0, 0])),
        ("embed_dims", json!([8, 16, 20])),
        ("num_heads", json!([0, 0, 0, 0])),
        ("window_sizes", json!([3, 0, 4, 3])),
        ("window_sizes", json!([3, 1u64 << 33, 4, 3])),
        ("depths", json!([1, 2, 3, 2])),
    ] {
        let message = refusal(&part(&golden, "mobile_sam", mobile_sam::original, "", &json!({ key: value })));
        assert!(!message.is_empty(), "{key} {value}");
    }
}

/// Lets so many moments pass, then stops.
struct Impatient(Cell<usize>);

#[async_trait(?Send)]
impl Host for Impatient {
    async fn breathe(&self) -> bubo::Result<()> {
        let left = self.0.get().checked_sub(1).ok_or(bubo::Error::Cancelled)?;
        self.0.set(left);
        Ok(())
    }

    async fn sleep_ms(&self, _: u32) -> bubo::Result<()> {
        Ok(())
    }

    fn now_ms(&self) -> f64 {
        0.0
    }
}

#[test]
fn a_stop_is_heard_between_any_two_steps() {
    let golden = Golden::open("sam").expect("the golden is part of the repository");
    let sam = segmenter::load(&part(&golden, "sam", sam::original, "", &json!({}))).expect("it loads");
    let image = RgbImage::new(9, 5, vec![7; 135]).expect("a picture");
    let boxes = [BoxPx::from([1.0, 1.0, 8.0, 4.0]); 9];
    let segment = |moments: usize| pollster::block_on(sam.segment(&image, &boxes, &Impatient(Cell::new(moments))));
    // Patches, positions, three blocks, neck; then boxes eight at a time.
    for moments in 0..8 {
        assert!(matches!(segment(moments), Err(bubo::Error::Cancelled)), "{moments}");
    }
    let masks = segment(8).expect("nobody stops it");
    assert!(masks.len() == 9 && masks.iter().all(|mask| (mask.width(), mask.height()) == (9, 5)));
    assert!(pollster::block_on(sam.segment(&image, &[], &Impatient(Cell::new(0)))).is_ok_and(|masks| masks.is_empty()));
}

#[test]
fn unknown_models_are_named_with_those_that_are_known() {
    let golden = Golden::open("eva_vit").expect("the golden is part of the repository");
    let unknown = part(&golden, "resnet", eva_vit::original, "", &json!({}));
    let message = refusal(&unknown);
    assert!(message.contains("resnet") && message.contains("eva_vit"), "{message}");
    let message = segmenter::load(&unknown).err().map_or_else(String::new, |error| error.to_string());
    assert!(message.contains("resnet") && message.contains("mobile_sam"), "{message}");
}
