//! BERT's trunk: with the block mask and restarting positions of Grounding DINO, and plain.

use std::path::Path;

use bubo::nn::bert::{Bert, Config, Visible};
use bubo::tensor::Device;

use super::{Difference, Golden, tolerance};

/// Runs `bert`.
///
/// # Errors
/// If the golden has another form, or the model fails.
pub fn run(golden: &Golden, device: &Device, _: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let weights = golden.weights(device)?;
    let bert = Bert::load(&config, &weights)?;
    weights.finish()?;
    let allowed = tolerance(golden.component(), device);
    let (ids, positions) = (golden.u32("in.ids")?, golden.u32("in.position_ids")?);
    let visible: Vec<bool> = golden.f32("in.mask3d")?.into_iter().map(|sees| sees > 0.5).collect();
    let states = bert.hidden_states(&ids, 1, Some(&positions), Visible::Pairs(&visible))?;
    let mut differences = Vec::new();
    for (layer, state) in states.iter().enumerate() {
        differences.push(golden.compare(&format!("mid.hidden{layer}"), state, allowed)?);
    }
    if let Some(last) = states.last() {
        differences.push(golden.compare("out.last_hidden_state", last, allowed)?);
        if let Some(pooled) = bert.pool(last)? {
            differences.push(golden.compare("out.pooler", &pooled, allowed)?);
        }
    }
    let plain = bert.forward(&ids, 1, None, Visible::All)?;
    differences.push(golden.compare("out.plain_last_hidden_state", &plain, allowed)?);
    Ok(differences)
}
