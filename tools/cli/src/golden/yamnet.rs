//! YAMNet against its golden.

use std::path::Path;

use anyhow::{Result, ensure};
use bubo::encoders::yamnet::{Config, Yamnet};
use bubo::media::Waveform;
use bubo::tensor::{Device, Tensor, Unary};
use pollster::block_on;

use super::real_part::RealPart;
use super::{Difference, Golden, sampled, tolerance};
use crate::host::CommandLine;

/// Runs it on the golden's sound.
///
/// # Errors
/// If the part or an array is missing.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> Result<Vec<Difference>> {
    let part = RealPart::open("audio_encoder", device, bundle)?;
    let config: Config = part.config()?;
    let labels: Vec<String> = serde_json::from_slice(part.file("audioset_labels.json")?)?;
    let network = Yamnet::load(&config, &part.weights, &labels)?;
    part.weights.finish()?;
    let sound = Waveform::new(golden.f32("in.waveform")?, config.mel.sample_rate_hz)?;
    let (patches, _) = network.patches(&sound)?;
    // The golden holds the first patches; a tail filled up with silence, or a last patch, may follow them.
    let count = golden.dims("mid.patches")?[0];
    let [found, _, frames, bands] = patches.dims_of("patches")?;
    ensure!(found >= count, "expected {count} patches, found {found}");
    let patches = patches.narrow(0, 0, count)?;
    let layers = network.layer_outputs(&patches.narrow(0, 0, 1)?)?;
    let features = network.features(&patches)?;
    let logits = network.logits(&features)?;
    let heard = |speeds: &[f32]| -> Result<Vec<f32>> {
        let config = Config { speeds: speeds.to_vec(), ..config.clone() };
        let network = Yamnet::load(&config, &part.weights, &labels)?;
        Ok(block_on(network.listen(&sound, &CommandLine::default()))?.logits)
    };
    check_hearings(&block_on(logits.to_f32())?, &heard(&[])?, &heard(&[1.0])?, &heard(&config.speeds)?)?;
    let allowed = tolerance(golden.component(), device);
    let flat = |x: &Tensor| x.reshape(&[count, frames, bands]);
    Ok(vec![
        golden.compare("mid.patches", &flat(&patches)?, allowed)?,
        golden.compare_f32("mid.tap0", &sampled(&layers[0], 4)?, allowed)?,
        golden.compare_f32("mid.tap1", &sampled(&layers[5], 4)?, allowed)?,
        golden.compare("mid.tap2", &layers[26], allowed)?,
        golden.compare("out.embedding", &features, allowed)?,
        golden.compare("out.logits", &logits, allowed)?,
        golden.compare("out.logits_tfpad", &logits, allowed)?,
    ])
}

/// Checks what is heard against how it was heard: `once` as it is, `surer` at a level as well, `again` twice at its own
/// speed, and `heard` at the speeds that ship.
fn check_hearings(once: &[f32], surer: &[f32], again: &[f32], heard: &[f32]) -> Result<()> {
    let rises = |least: f32| once.iter().zip(surer).filter(|(once, surer)| **surer - **once > least).count();
    ensure!(rises(-0.01) == once.len() && rises(0.1) > 0, "what is heard is not the surer of two hearings");
    // Of confidences, since logits of what is not there at all are cut off.
    let confidence = |logit: &f32| Unary::Sigmoid.apply(*logit);
    let apart = |heard: &[f32]| {
        let distances = surer.iter().zip(heard).map(|(a, b)| (confidence(a) - confidence(b)).abs());
        distances.fold(0.0, f32::max)
    };
    ensure!(surer.len() == again.len() && apart(again) < 1e-4, "the mean of two hearings that are the same is another");
    ensure!(surer.len() == heard.len() && apart(heard) > 0.01, "other speeds make no difference");
    Ok(())
}
