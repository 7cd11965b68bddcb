//! The Q-Former: BLIP-2's for pictures in the original's and in Hugging Face's naming, BuboGPT's for sounds.

use std::path::Path;

use bubo::encoders::qformer::{Config, QFormer};
use bubo::nn::Linear;
use bubo::tensor::Device;

use super::{Difference, Golden, named_weights, tolerance};
use crate::convert::names::Target;
use crate::convert::qformer;

/// Runs a `qformer_*` golden.
///
/// # Errors
/// If the golden's weights do not make a Q-Former.
pub fn run(golden: &Golden, device: &Device, _bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let tolerance = tolerance(golden.component(), device);
    let weights = named_weights(golden, device, original_name)?;
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

/// Both namings, and the projector, which stands beside the Q-Former as in a bundle's part.
fn original_name(name: &str) -> Option<Target> {
    let projector = || name.starts_with("projector.").then(|| Target::Whole(name.to_owned()));
    qformer::original(name).or_else(|| qformer::hugging_face(name)).or_else(projector)
}
