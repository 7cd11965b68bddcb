//! ImageBind's audio half against BuboGPT's own module.

use std::path::Path;

use bubo::encoders::imagebind::{Config, ImageBindAudio};
use bubo::tensor::Device;

use super::{Difference, Golden, tolerance};

/// Runs an `imagebind_audio` golden.
///
/// # Errors
/// If the golden's weights do not make the network.
pub fn run(golden: &Golden, device: &Device, _bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let weights = golden.weights(device)?;
    let network = ImageBindAudio::load(&config, &weights)?;
    weights.finish()?;
    let &[_, clips, channels, bands, frames] = golden.dims("in.mel")? else {
        anyhow::bail!("in.mel has not five axes")
    };
    let mel = golden.tensor("in.mel", device)?.reshape(&[clips, channels, bands, frames])?;
    let states = network.states(&mel)?;
    let mut found = vec![
        ("mid.stem_norm".to_owned(), states.stem),
        ("mid.tokens".to_owned(), states.tokens),
        ("mid.trunk".to_owned(), states.blocks[states.blocks.len() - 1].clone()),
        ("mid.postprocessed".to_owned(), states.scaled),
        ("out.tokens".to_owned(), network.forward(&mel)?),
    ];
    found.extend(states.blocks.into_iter().enumerate().map(|(at, block)| (format!("mid.block{at}"), block)));
    let allowed = tolerance(golden.component(), device);
    found.iter().map(|(name, tensor)| golden.compare(name, tensor, allowed)).collect()
}
