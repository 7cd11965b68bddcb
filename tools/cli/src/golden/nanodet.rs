//! NanoDet-g and NanoDet-Plus against their goldens.

use std::path::Path;

use anyhow::{Result, ensure};
use bubo::grounding::detector::focal_head::{FocalHead, Level};
use bubo::grounding::detector::nanodet::NanoDet;
use bubo::grounding::detector::nanodet_plus::NanoDetPlus;
use bubo::media::RgbImage;
use bubo::tensor::{Device, Tensor};

use super::real_part::RealPart;
use super::{Difference, Golden, tolerance};

/// Confidence at which the golden's boxes were cut.
const SCORE_THRESHOLD: f32 = 0.3;
/// Pixels that a side of a box may be off.
const BOX_TOLERANCE_PX: f64 = 0.1;

/// Runs NanoDet-g on the golden's picture; its weights come from its package, since no bundle has it.
///
/// # Errors
/// If the package or an array is missing, or other things are found.
pub fn run(golden: &Golden, device: &Device, _: Option<&Path>) -> Result<Vec<Difference>> {
    let part = RealPart::of_package("nanodet", device)?;
    let labels: Vec<String> = serde_json::from_slice(part.file("coco_labels.json")?)?;
    let network = NanoDet::load(&part.config()?, &part.weights, &labels)?;
    part.weights.finish()?;
    compared(golden, device, &network.head, |input| network.forward(input))
}

/// Runs NanoDet-Plus on the golden's picture.
///
/// # Errors
/// If the part or an array is missing, or other things are found.
pub fn run_plus(golden: &Golden, device: &Device, bundle: Option<&Path>) -> Result<Vec<Difference>> {
    let part = RealPart::open("detector", device, bundle)?;
    let labels: Vec<String> = serde_json::from_slice(part.file("coco_labels.json")?)?;
    let network = NanoDetPlus::load(&part.config()?, &part.weights, &labels)?;
    part.weights.finish()?;
    compared(golden, device, &network.head, |input| network.forward(input))
}

fn compared(
    golden: &Golden,
    device: &Device,
    head: &FocalHead,
    forward: impl Fn(&Tensor) -> bubo::Result<Vec<Level>>,
) -> Result<Vec<Difference>> {
    let pixels = golden.u8("in.image_u8")?;
    let side = (pixels.len() / 3).isqrt();
    let image = RgbImage::new(side, side, pixels.to_vec())?;
    let levels = forward(&head.input(&image)?)?;
    let allowed = tolerance(golden.component(), device);
    let mut differences = Vec::new();
    for level in &levels {
        let name = |what: &str| format!("out.{what}_s{}", level.stride);
        differences.push(golden.compare(&name("scores"), &level.scores, allowed)?);
        differences.push(golden.compare(&name("distances"), &level.distances, allowed)?);
    }
    let found = pollster::block_on(head.decode(&levels, SCORE_THRESHOLD))?;
    let classes: Vec<i64> = found.iter().map(|candidate| candidate.class as i64).collect();
    let expected = golden.i64("out.box_classes")?;
    ensure!(classes == expected, "expected things of the classes {expected:?}, found {classes:?}");
    let boxes: Vec<f32> = found.iter().flat_map(|candidate| <[f32; 4]>::from(candidate.box_px)).collect();
    let scores: Vec<f32> = found.iter().map(|candidate| candidate.score).collect();
    differences.push(golden.compare_f32("out.boxes", &boxes, BOX_TOLERANCE_PX)?);
    differences.push(golden.compare_f32("out.box_scores", &scores, allowed)?);
    Ok(differences)
}
