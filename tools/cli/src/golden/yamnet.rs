//! YAMNet against its golden.

use std::path::Path;

use anyhow::{Result, ensure};
use bubo::encoders::yamnet::{Config, Yamnet};
use bubo::media::Waveform;
use bubo::tensor::{Device, Tensor};
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
    let heard = block_on(network.listen(&sound, &CommandLine::default()))?.logits;
    let once = block_on(logits.to_f32())?;
    let surer = |least: f32| once.iter().zip(&heard).filter(|(once, heard)| *heard - *once > least).count();
    ensure!(surer(-0.01) == once.len() && surer(0.1) > 0, "what is heard is not the surer of two hearings");
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
