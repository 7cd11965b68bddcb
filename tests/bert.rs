//! The BERT trunk against the outputs of the original implementation.
use bubo::nn::bert::{Bert, Config, Visible};
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::{Device, Tensor};

#[test]
fn smoke() {
    let bytes = std::fs::read("tests/golden/bert.safetensors").unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let f32s = |n: &str| -> Vec<f32> {
        file.tensor(n).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let u32s = |n: &str| -> Vec<u32> {
        file.tensor(n)
            .unwrap()
            .data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32)
            .collect()
    };
    let mut map = WeightMap::default();
    for (n, v) in file.tensors() {
        if let Some(short) = n.strip_prefix("weights.") {
            map.insert_tensor(short.into(), Tensor::from_f32(&f32s(&n), v.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    let w = Weights::new(map);
    let config: Config = serde_json::from_value(serde_json::json!({"vocab_size":61,"hidden_size":48,"num_hidden_layers":3,"num_attention_heads":4,"intermediate_size":104,"max_position_embeddings":40})).unwrap();
    let bert = Bert::load(&config, &w).unwrap();
    w.finish().unwrap();
    let pairs: Vec<bool> = f32s("in.mask3d").iter().map(|x| *x > 0.5).collect();
    let ids = u32s("in.ids");
    let h = bert.hidden_states(&ids, 1, Some(&u32s("in.position_ids")), Visible::Pairs(&pairs)).unwrap();
    let diff = |t: &Tensor, n: &str| {
        let a = pollster::block_on(t.to_f32()).unwrap();
        let d = a.iter().zip(f32s(n)).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!("{n} {d}");
        assert!(d < 1e-4);
    };
    for i in 0..4 {
        diff(&h[i], &format!("mid.hidden{i}"));
    }
    diff(&h[3], "out.last_hidden_state");
    diff(&bert.pool(&h[3]).unwrap().unwrap(), "out.pooler");
    diff(&bert.forward(&ids, 1, None, Visible::All).unwrap(), "out.plain_last_hidden_state");
}
