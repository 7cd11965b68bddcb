//! The Q-Former: BLIP-2's for pictures in the original's and in Hugging Face's naming, BuboGPT's for sounds.

use std::path::Path;

use bubo::encoders::qformer::{Config, QFormer};
use bubo::nn::Linear;
use bubo::tensor::Device;

use super::{Difference, Golden, tolerance};

/// Runs a `qformer_*` golden.
///
/// # Errors
/// If the golden's weights do not make a Q-Former.
pub fn run(golden: &Golden, device: &Device, _bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let tolerance = tolerance(golden.component(), device);
    let weights = golden.weights_as(device, original_name)?;
    let qformer = QFormer::load(&config, &weights)?;
    let (embedded, states) = qformer.states(&golden.tensor("in.tokens", device)?)?;
    let mut found = vec![("mid.embeddings".to_owned(), embedded.clone()), ("mid.hidden0".to_owned(), embedded)];
    for (index, state) in states.into_iter().enumerate() {
        found.push((format!("mid.layer{index}.self_attention"), state.self_attention));
        found.extend(state.cross_attention.map(|cross| (format!("mid.layer{index}.cross_attention"), cross)));
        found.push((format!("mid.layer{index}"), state.output.clone()));
        found.push((format!("mid.hidden{}", index + 1), state.output));
    }
    let queries = qformer.forward(&golden.tensor("in.tokens", device)?)?;
    if let Ok([.., out_dim]) = golden.dims("out.projected") {
        let projector = Linear::load(&weights.pp("projector").pp("fc"), config.hidden_size, *out_dim)?;
        found.push(("out.projected".to_owned(), projector.forward(&queries)?));
    }
    found.push(("out.queries".to_owned(), queries));
    found.retain(|(name, _)| golden.contains(name));
    found.iter().map(|(name, tensor)| golden.compare(name, tensor, tolerance)).collect()
}

/// Hugging Face's name of a tensor as the original's.
fn original_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("qformer.") else { return name.to_owned() };
    let rest = rest.replace("layernorm.", "embeddings.LayerNorm.").replace(".attention.attention.", ".attention.self.");
    format!("Qformer.bert.{}", rest.replace(".crossattention.attention.", ".crossattention.self."))
}
