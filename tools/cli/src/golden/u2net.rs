//! U²-NetP against its golden, on the whole picture.

use std::path::Path;

use anyhow::Result;
use bubo::grounding::segmenter::u2net::{Config, U2Net};
use bubo::media::{CropPx, RgbImage};
use bubo::nn::Conv;
use bubo::tensor::{Conv2d, Device, Padding, Unary};

use super::real_part::RealPart;
use super::{Difference, Golden, sampled, tolerance};

/// Runs it on the golden's picture.
///
/// # Errors
/// If the part or an array is missing.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> Result<Vec<Difference>> {
    let part = RealPart::open("segmenter", device, bundle)?;
    let config: Config = part.config()?;
    let network = U2Net::load(&config, &part.weights)?;
    part.weights.finish()?;
    let side = config.input_size;
    let image = RgbImage::new(side, side, golden.u8("in.image_u8")?.to_vec())?;
    let input = network.input(&image, CropPx::whole(&image), side)?;
    let first = part.weights.pp("stage1").pp("rebnconvin").pp("conv_s1");
    let first = Conv::load(&first, 3, config.channels, 3, first_options())?.forward(&input)?;
    let output = network.forward(&input)?;
    let allowed = tolerance(golden.component(), device);
    Ok(vec![
        golden.compare_f32("mid.input_sample", &sampled(&input, 16)?, allowed)?,
        golden.compare_f32("mid.tap0", &sampled(&first, 16)?, allowed)?,
        golden.compare_f32("mid.tap1", &sampled(&output.stages[0], 16)?, allowed)?,
        golden.compare("mid.tap2", &output.stages[5], allowed)?,
        golden.compare("out.d0", &output.fused, allowed)?,
        golden.compare_f32("out.d1_sample", &sampled(&output.sides[0].unary(Unary::Sigmoid)?, 4)?, allowed)?,
        golden.compare_f32("out.d6_sample", &sampled(&output.sides[5].unary(Unary::Sigmoid)?, 4)?, allowed)?,
    ])
}

fn first_options() -> Conv2d {
    Conv2d { padding: Padding::all(1), activation: Some(Unary::Relu), ..Conv2d::default() }
}
