//! What training writes becomes parts of a bundle.

#![allow(clippy::unwrap_used, reason = "what a test cannot do, it fails at")]

use std::path::Path;

use bubo::encoders::joiner::{Config, HINT_NUMBERS, HINT_TOKENS, Joiner};
use bubo::tensor::{Device, Precision, Tensor};
use bubo_cli::convert::trained;
use bubo_cli::part;
use bubo_train::random::Random;
use bubo_train::variables::Variables;
use candle_core::DType;

const WIDTH: usize = 64;

fn config() -> Config {
    let qformer = serde_json::json!({"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "num_query_token": 3, "encoder_width": 32, "cross_attention_freq": 1});
    let qformer = serde_json::from_value(qformer).unwrap();
    Config { places: 4, encoder_width: 32, hints: 2, qformer, output_width: WIDTH }
}

/// Files as `bubo train` leaves them.
fn write(folder: &Path, variables: &Variables) {
    variables.save_as(&folder.join("image_joiner.safetensors"), DType::F16).unwrap();
    std::fs::write(folder.join("image_joiner.json"), serde_json::to_vec(&config()).unwrap()).unwrap();
}

fn joined(joiner: &Joiner) -> Vec<f32> {
    let mut random = Random::new(9, 0);
    let [features, words, numbers] =
        [[1, 4, 32], [1, 2 * HINT_TOKENS, WIDTH], [1, 2, HINT_NUMBERS]].map(|dims: [usize; 3]| {
            let numbers: Vec<f32> = (0..dims.iter().product()).map(|_| random.normal()).collect();
            Tensor::from_f32(&numbers, &dims, &Device::Cpu).unwrap()
        });
    pollster::block_on(joiner.forward(&features, &words, &numbers).unwrap().to_f32()).unwrap()
}

#[test]
fn joiners_become_parts_that_compute_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let variables = Variables::joiner(&config(), &[0.1; WIDTH], 0.5, &mut Random::new(1, 0)).unwrap();
    write(folder.path(), &variables);
    let mut parts = trained::joiners(folder.path()).unwrap();
    assert_eq!(parts.len(), 1, "there is none of sounds");
    let part = parts.remove(0);
    assert_eq!((part.name, part.model), ("image_joiner", "hinted_qformer"));
    let weights = part::weights(part, &Device::Cpu, Precision::Full).unwrap();
    let stored = Joiner::load(&config(), &weights).unwrap();
    weights.finish().unwrap();
    let learnt = Joiner::load(&config(), &variables.weights().unwrap()).unwrap();
    let (stored, learnt) = (joined(&stored), joined(&learnt));
    let size = learnt.iter().map(|x| x * x).sum::<f32>().sqrt();
    let error = stored.iter().zip(&learnt).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
    // Blocks of 8 bits are off by a few thousandths.
    assert!(error < 0.02 * size, "{error} of {size}");
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(trained::joiners(folder.path()).unwrap().is_empty());
    let variables = Variables::joiner(&config(), &[0.0; WIDTH], 0.5, &mut Random::new(1, 0)).unwrap();
    write(folder.path(), &variables);
    let message = || format!("{:#}", trained::joiners(folder.path()).err().expect("an error"));
    std::fs::write(folder.path().join("image_joiner.json"), "{\"places\": 4}").unwrap();
    assert!(message().contains("image_joiner"), "{}", message());
    std::fs::remove_file(folder.path().join("image_joiner.json")).unwrap();
    assert!(message().contains("image_joiner.json"), "{}", message());
    write(folder.path(), &variables);
    std::fs::write(folder.path().join("image_joiner.safetensors"), [7; 40]).unwrap();
    assert!(message().contains("image_joiner.safetensors"), "{}", message());
}
