//! The gradient path, from an answer's loss through a frozen language model to what learns before it, against finite
//! differences: through a low-rank addition and a joiner of `bubo-mini`, and through the paper's Q-Former and
//! projector.

#![allow(clippy::unwrap_used, reason = "what a test cannot do, it fails at")]

use std::collections::BTreeMap;

use bubo::encoders::Features;
use bubo::encoders::joiner::{self, HINT_NUMBERS, HINT_TOKENS, Joiner};
use bubo::encoders::projector::{self, ProjectedQFormer};
use bubo::language::{Llama, llama};
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::{Device, Tensor};
use bubo_train::random::Random;
use bubo_train::sequences::{Row, answer_logits, answer_loss};
use bubo_train::variables::Variables;

const WIDTH: usize = 16;
const VOCABULARY: usize = 12;

fn joiner_config() -> joiner::Config {
    let qformer = serde_json::json!({"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 12, "num_query_token": 3, "encoder_width": 8, "cross_attention_freq": 1});
    joiner::Config {
        places: 4,
        encoder_width: 6,
        hints: 2,
        qformer: serde_json::from_value(qformer).unwrap(),
        output_width: WIDTH,
    }
}

fn llama_config() -> llama::Config {
    serde_json::from_value(serde_json::json!({"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true}))
    .unwrap()
}

/// Random frozen weights of the language model.
fn frozen(random: &mut Random) -> Weights {
    let mut map = WeightMap::default();
    let mut add = |name: String, dims: &[usize]| {
        let count: usize = dims.iter().product();
        let offset = if dims.len() == 1 { 1.0 } else { 0.0 };
        let numbers: Vec<f32> = (0..count).map(|_| offset + 0.3 * random.normal()).collect();
        map.insert_tensor(name, Tensor::from_f32(&numbers, dims, &Device::Cpu).unwrap()).unwrap();
    };
    add("model.embed_tokens.weight".into(), &[VOCABULARY, WIDTH]);
    add("model.norm.weight".into(), &[WIDTH]);
    for layer in 0..2 {
        let shapes: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[WIDTH]),
            ("post_attention_layernorm", &[WIDTH]),
            ("self_attn.q_proj", &[WIDTH, WIDTH]),
            ("self_attn.k_proj", &[WIDTH / 2, WIDTH]),
            ("self_attn.v_proj", &[WIDTH / 2, WIDTH]),
            ("self_attn.o_proj", &[WIDTH, WIDTH]),
            ("mlp.gate_proj", &[24, WIDTH]),
            ("mlp.up_proj", &[24, WIDTH]),
            ("mlp.down_proj", &[WIDTH, 24]),
        ];
        for (name, dims) in shapes {
            add(format!("model.layers.{layer}.{name}.weight"), dims);
        }
    }
    Weights::new(map)
}

struct Chain {
    joiner: Joiner,
    llama: Llama,
    variables: BTreeMap<String, candle_core::Var>,
    /// Features, words and numbers.
    inputs: [Tensor; 3],
}

impl Chain {
    fn new() -> Self {
        let mut random = Random::new(11, 0);
        let config = joiner_config();
        let own = Variables::joiner(&config, &[0.0; WIDTH], 1.0, &mut random).unwrap();
        let mut addition = Variables::low_rank(&llama_config(), 2, &mut random).unwrap();
        // B starts at zero, where A has no gradient.
        for name in addition.by_name.keys().filter(|name| name.contains("lora_b")).cloned().collect::<Vec<_>>() {
            let dims = addition.by_name[&name].dims().to_vec();
            let numbers = (0..dims[0] * dims[1]).map(|_| 0.2 * random.normal()).collect();
            addition.insert(name, numbers, &dims).unwrap();
        }
        let joiner = Joiner::load(&config, &own.weights().unwrap()).unwrap();
        // As in a bundle that was taught before, whose addition gives way.
        let earlier = Variables::low_rank(&llama_config(), 3, &mut random).unwrap();
        let weights = addition.added_to(&earlier.added_to(&frozen(&mut random)).unwrap()).unwrap();
        let llama = Llama::load(&llama_config(), &weights).unwrap();
        let mut variables = own.by_name;
        variables.extend(addition.by_name);
        let mut input = |dims: &[usize]| {
            let numbers: Vec<f32> = (0..dims.iter().product()).map(|_| random.normal()).collect();
            Tensor::from_f32(&numbers, dims, &Device::Cpu).unwrap()
        };
        let inputs = [input(&[2, 4, 6]), input(&[2, 2 * HINT_TOKENS, WIDTH]), input(&[2, 2, HINT_NUMBERS])];
        Self { joiner, llama, variables, inputs }
    }

    /// Cross-entropy of two tokens after what was joined and one token.
    fn loss(&self) -> candle_core::Tensor {
        let [features, words, numbers] = &self.inputs;
        let joined = self.joiner.forward(features, words, numbers).unwrap();
        let token = self.llama.embed(&[3, 4]).unwrap().reshape(&[2, 1, WIDTH]).unwrap();
        let sequence = Tensor::concat(&[&joined, &token], 1).unwrap();
        let hidden = self.llama.forward(&sequence, None).unwrap().narrow(1, 3, 1).unwrap();
        let logits = self.llama.logits(&hidden.reshape(&[2, WIDTH]).unwrap()).unwrap();
        let wanted = candle_core::Tensor::new(&[1u32, 7], &candle_core::Device::Cpu).unwrap();
        candle_nn::loss::cross_entropy(logits.as_candle().unwrap(), &wanted).unwrap()
    }
}

/// Holds the gradient of every variable but those that `has_none` picks against differences of the loss, and says how
/// many there were.
fn compare(
    variables: &BTreeMap<String, candle_core::Var>,
    has_none: impl Fn(&str) -> bool,
    loss: impl Fn() -> candle_core::Tensor,
) -> usize {
    let gradients = loss().backward().unwrap();
    let mut random = Random::new(5, 0);
    let (mut checked, mut failures) = (0, Vec::new());
    for (name, variable) in variables.iter().filter(|(name, _)| !has_none(name)) {
        let Some(gradient) = gradients.get(variable) else {
            failures.push(format!("{name} has no gradient"));
            continue;
        };
        let numbers = variable.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Along a random direction, so that one difference covers all numbers of the variable.
        let direction: Vec<f32> = numbers.iter().map(|_| random.normal()).collect();
        let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
        let expected: f32 = gradient.iter().zip(&direction).map(|(g, d)| g * d / length).sum();
        let at = |step: f32| {
            let moved: Vec<f32> = numbers.iter().zip(&direction).map(|(x, d)| x + step * d / length).collect();
            variable
                .set(&candle_core::Tensor::from_vec(moved, variable.shape(), &candle_core::Device::Cpu).unwrap())
                .unwrap();
            loss().to_scalar::<f32>().unwrap()
        };
        // Small beside the variable itself, which a norm may follow; two steps, to take the curvature's part out.
        let norm = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
        let step = if norm > 0.0 { (0.02 * norm).min(2e-2) } else { 2e-2 };
        let slope = |step: f32| (at(step) - at(-step)) / (2.0 * step);
        let found = (4.0 * slope(step / 2.0) - slope(step)) / 3.0;
        at(0.0);
        checked += 1;
        // Losses of about 2.5 in f32 are rounded to 2.4e-7, so differences to 1e-5; curvature adds to that.
        if (found - expected).abs() > 2e-3 + 0.03 * expected.abs() {
            failures.push(format!("{name}: gradient {expected}, difference {found}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    checked
}

#[test]
fn gradients_are_differences() {
    let chain = Chain::new();
    // A bias of the keys moves all scores of a query alike, and softmax does not see that.
    let has_none =
        |name: &str| name.ends_with(".key.bias") || name == "Qformer.bert.encoder.layer.0.attention.self.query.bias";
    let checked = compare(&chain.variables, has_none, || chain.loss());
    assert!(checked > 40, "{checked}");
}

/// Cross-attention in the first of two layers, as in BLIP-2; answers of several tokens, in sequences of several
/// lengths.
#[test]
fn gradients_reach_the_papers_qformer_through_answers() {
    let mut random = Random::new(12, 0);
    let config: projector::Config =
        serde_json::from_value(serde_json::json!({"hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 12, "num_query_token": 3, "encoder_width": 6,
        "cross_attention_freq": 2, "projector_width": WIDTH}))
        .unwrap();
    let listing = Weights::listing(BTreeMap::new()).unwrap();
    ProjectedQFormer::load(&config, &listing).unwrap();
    let mut variables = Variables::default();
    for (name, asked) in listing.asked() {
        let offset = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let numbers = (0..asked.dims.iter().product()).map(|_| offset + 0.3 * random.normal()).collect();
        variables.insert(name, numbers, &asked.dims).unwrap();
    }
    let qformer = ProjectedQFormer::load(&config, &variables.weights().unwrap()).unwrap();
    let llama = Llama::load(&llama_config(), &frozen(&mut random)).unwrap();
    let features: Vec<f32> = (0..2 * 5 * 6).map(|_| random.normal()).collect();
    let tokens = Tensor::from_f32(&features, &[2, 5, 6], &Device::Cpu).unwrap();
    let loss = || {
        let joined = qformer.forward(&Features { tokens: tokens.clone() }).unwrap();
        let words = |ids: &[u32]| llama.embed(ids).unwrap().as_candle().unwrap().squeeze(0).unwrap();
        let row = |at: usize, before: &[u32], answer: &[u32]| {
            let shown = joined.as_candle().unwrap().get(at).unwrap();
            let parts = [words(before), shown, words(&[5]), words(&answer[..answer.len() - 1])];
            Row { embedded: candle_core::Tensor::cat(&parts, 0).unwrap(), answer: answer.to_vec() }
        };
        let rows = vec![row(0, &[1], &[2, 7, 3]), row(1, &[1, 4, 6], &[8, 9])];
        let (logits, wanted) = answer_logits(&llama, rows).unwrap();
        assert_eq!(wanted, [2, 7, 3, 8, 9]);
        answer_loss(&logits, &wanted).unwrap()
    };
    let count = variables.by_name.len();
    let keys = variables.by_name.keys().filter(|name| name.ends_with(".key.bias")).count();
    assert_eq!(compare(&variables.by_name, |name| name.ends_with(".key.bias"), loss), count - keys);
    assert!(keys == 3 && count > 40, "{count}");
}
