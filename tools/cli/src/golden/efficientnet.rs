//! EfficientNet-lite0 against its golden.

use std::path::Path;

use anyhow::Result;
use bubo::encoders::efficientnet::{Config, EfficientNet};
use bubo::media::{CropPx, RgbImage};
use bubo::nn::Conv;
use bubo::tensor::Device;

use super::real_part::RealPart;
use super::{Difference, Golden, sampled, tolerance};

/// Runs it on the golden's picture.
///
/// # Errors
/// If the part or an array is missing.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> Result<Vec<Difference>> {
    let part = RealPart::open("tagger", device, bundle)?;
    let config: Config = part.config()?;
    let network = EfficientNet::load(&config, &part.weights)?;
    part.weights.finish()?;
    let side = config.image_size;
    let image = RgbImage::new(side, side, golden.u8("in.image_u8")?.to_vec())?;
    let input = network.input(&image, CropPx::whole(&image))?;
    let stem = Conv::load(&part.weights.pp("_conv_stem"), 3, config.stem, 3, EfficientNet::stem_options(&config))?;
    let blocks = network.block_outputs(&input)?;
    let map = network.feature_map(&input)?;
    let pooled = network.pooled(&map)?;
    let logits = network.logits(&pooled)?;
    let allowed = tolerance(golden.component(), device);
    let mut differences = vec![
        golden.compare_f32("mid.stem_bn", &sampled(&stem.forward(&input)?, 8)?, allowed)?,
        golden.compare_f32("mid.block0", &sampled(&blocks[0], 4)?, allowed)?,
    ];
    for at in [4, 10, 15] {
        differences.push(golden.compare(&format!("mid.block{at}"), &blocks[at], allowed)?);
    }
    differences.push(golden.compare("mid.features_gap", &pooled, allowed)?);
    differences.push(golden.compare("out.logits", &logits, allowed)?);
    // The mean of the class activations over all places is the logits.
    let activations = network.class_activations(&map)?.reduce(bubo::tensor::Reduce::Mean, 1)?;
    differences
        .push(Difference { name: "class activations".into(), ..golden.compare("out.logits", &activations, allowed)? });
    Ok(differences)
}
