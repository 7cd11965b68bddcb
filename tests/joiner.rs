//! A joiner of random weights on both engines.

#![allow(clippy::unwrap_used, reason = "what a test cannot do, it fails at")]

use std::collections::BTreeMap;

use bubo::encoders::joiner::{Config, HINT_NUMBERS, HINT_TOKENS, Joiner};
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::gpu::Gpu;
use bubo::tensor::{Device, Tensor};

/// A linear congruential generator: the same numbers everywhere, within −1 .. 1.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn config() -> Config {
    let qformer = serde_json::json!({"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 12, "num_query_token": 3, "encoder_width": 8, "cross_attention_freq": 1});
    Config {
        places: 4,
        encoder_width: 6,
        hints: 2,
        qformer: serde_json::from_value(qformer).unwrap(),
        output_width: 10,
    }
}

fn shapes() -> BTreeMap<String, Vec<usize>> {
    let mut shapes: BTreeMap<String, Vec<usize>> = [
        ("places", vec![4 + 2 * HINT_TOKENS, 8]),
        ("overall", vec![1, 8]),
        ("query_tokens", vec![1, 3, 8]),
        ("features.weight", vec![8, 6]),
        ("features.bias", vec![8]),
        ("words.weight", vec![8, 10]),
        ("words.bias", vec![8]),
        ("numbers.weight", vec![8, HINT_NUMBERS]),
        ("numbers.bias", vec![8]),
        ("llama_proj.weight", vec![10, 8]),
        ("llama_proj.bias", vec![10]),
    ]
    .map(|(name, dims)| (name.to_owned(), dims))
    .into();
    let layer = "Qformer.bert.encoder.layer.0";
    let square = ["self.query", "self.key", "self.value", "output.dense"];
    let mut norms = vec!["norm".to_owned(), "Qformer.bert.embeddings.LayerNorm".into()];
    for attention in ["attention", "crossattention"] {
        for part in square {
            shapes.insert(format!("{layer}.{attention}.{part}.weight"), vec![8, 8]);
            shapes.insert(format!("{layer}.{attention}.{part}.bias"), vec![8]);
        }
        norms.push(format!("{layer}.{attention}.output.LayerNorm"));
    }
    for (part, dims) in [("intermediate_query", [12, 8]), ("output_query", [8, 12])] {
        shapes.insert(format!("{layer}.{part}.dense.weight"), dims.to_vec());
        shapes.insert(format!("{layer}.{part}.dense.bias"), vec![dims[0]]);
    }
    norms.push(format!("{layer}.output_query.LayerNorm"));
    for norm in norms {
        shapes.insert(format!("{norm}.weight"), vec![8]);
        shapes.insert(format!("{norm}.bias"), vec![8]);
    }
    shapes
}

fn joiner(device: &Device) -> Joiner {
    let mut map = WeightMap::default();
    for (seed, (name, dims)) in shapes().into_iter().enumerate() {
        let numbers = numbers(seed as u64, dims.iter().product());
        map.insert_tensor(name, Tensor::from_f32(&numbers, &dims, device).unwrap()).unwrap();
    }
    let weights = Weights::new(map);
    let joiner = Joiner::load(&config(), &weights).unwrap();
    weights.finish().unwrap();
    joiner
}

fn tensor(seed: u64, dims: &[usize], device: &Device) -> Tensor {
    Tensor::from_f32(&numbers(seed, dims.iter().product()), dims, device).unwrap()
}

fn embeddings(device: &Device) -> Vec<f32> {
    let (features, words) = (tensor(99, &[2, 4, 6], device), tensor(98, &[2, 2 * HINT_TOKENS, 10], device));
    let joined = joiner(device).forward(&features, &words, &tensor(97, &[2, 2, HINT_NUMBERS], device)).unwrap();
    assert_eq!(joined.dims(), [2, 3, 10]);
    pollster::block_on(joined.to_f32()).unwrap()
}

#[test]
fn engines_agree() {
    let cpu = embeddings(&Device::Cpu);
    assert!(cpu.iter().all(|x| x.is_finite()) && cpu[..30] != cpu[30..]);
    if std::env::var_os("BUBO_SKIP_GPU").is_some_and(|value| value == "1") {
        eprintln!("\n*** BUBO_SKIP_GPU=1: THE JOINER WAS NOT TESTED ON THE GPU ***\n");
        return;
    }
    let gpu = pollster::block_on(Gpu::open()).expect("an adapter; BUBO_SKIP_GPU=1 goes without");
    let gpu = embeddings(&Device::Gpu(gpu));
    let furthest = cpu.iter().zip(&gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Sums of a few dozen products of numbers below 4.
    assert!(furthest < 1e-4, "{furthest}");
}

#[test]
fn wrong_inputs_are_refused() {
    let joiner = joiner(&Device::Cpu);
    let dims: [[usize; 3]; 3] = [[1, 4, 6], [1, 2 * HINT_TOKENS, 10], [1, 2, HINT_NUMBERS]];
    let forward = |dims: [[usize; 3]; 3]| {
        let [features, words, numbers] = dims.map(|dims| tensor(1, &dims, &Device::Cpu));
        joiner.forward(&features, &words, &numbers)
    };
    assert_eq!(forward(dims).unwrap().dims(), [1, 3, 10]);
    // One place, hint or number too many or too few in each of the inputs, and another batch.
    for input in 0..3 {
        for (axis, change) in [(0, 1), (1, 1), (1, -1), (2, 1)] {
            let mut wrong = dims;
            wrong[input][axis] = wrong[input][axis].checked_add_signed(change).unwrap();
            if input == 0 && axis == 0 {
                wrong[1][0] = 3;
            }
            assert!(forward(wrong).is_err(), "{wrong:?}");
        }
    }
}
