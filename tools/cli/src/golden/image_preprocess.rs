//! Pictures as BuboGPT, RAM, Grounding DINO and SAM see them, against the originals' transforms.

use std::path::Path;

use anyhow::{Result, ensure};
use bubo::media::{BoxPx, ChannelScale, Filter, Fit, RgbImage};
use bubo::tensor::Device;
use serde::Deserialize;

use super::{Difference, Golden};

/// One step of 255, in pixels' own numbers.
const STEP: f64 = 1.0 + 1e-4;

#[derive(Deserialize)]
struct Config {
    gdino_small: [usize; 2],
    gdino_sample_step: usize,
    sam_small: usize,
}

/// Runs an `image_preprocess_*` golden.
///
/// # Errors
/// If an array is missing, or a size is another than the original's.
pub fn run(golden: &Golden, _device: &Device, _bundle: Option<&Path>) -> Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let &[height, width, 3] = golden.dims("in.image")? else { anyhow::bail!("in.image is no RGB picture") };
    let image = RgbImage::new(width, height, golden.u8("in.image")?.to_vec())?;
    let (clip, imagenet) = (ChannelScale::CLIP, ChannelScale::IMAGENET);

    let mut found =
        vec![bytes(golden, "out.bubogpt", clip, &clip.planes(&image.squared(224, Fit::Original, Filter::Bicubic)?))?];
    let tagged = image.squared(384, Fit::Squash, Filter::Bilinear)?;
    found.push(golden.compare_f32("mid.ram_resized", &as_f32(&tagged), STEP)?);
    found.push(bytes(golden, "out.ram_sample", imagenet, &every(&imagenet.planes(&tagged), 384, 8))?);

    let [shorter, longest] = config.gdino_small;
    let small = image.with_shorter_side(shorter, longest)?;
    found.push(bytes(golden, "out.gdino_small", imagenet, &imagenet.planes(&small))?);
    let full = image.with_shorter_side(800, 1333)?;
    let planes = imagenet.planes(&full);
    let sample = sampled(&planes, full.width(), full.height(), config.gdino_sample_step);
    found.push(bytes(golden, "out.gdino_800_sample", imagenet, &sample)?);
    found.push(bytes(golden, "out.gdino_800_mean", imagenet, &means(&planes))?);

    let boxes = golden.f32("in.boxes")?;
    for (side, boxed, step, sample) in [
        (config.sam_small, "out.sam_small_boxes", 1, "out.sam_small"),
        (1024, "out.sam_1024_boxes", 16, "out.sam_1024_sample"),
    ] {
        let view = image.with_longest_side(side)?;
        let planes = view.planes(imagenet);
        found.push(bytes(golden, sample, imagenet, &every(&planes, side, step))?);
        let moved =
            boxes.as_chunks::<4>().0.iter().flat_map(|edges| <[f32; 4]>::from(view.box_to_view(BoxPx::from(*edges))));
        found.push(golden.compare_f32(boxed, &moved.collect::<Vec<_>>(), 1e-3)?);
        if side == 1024 {
            found.push(bytes(golden, "out.sam_1024_mean", imagenet, &means(&planes))?);
        } else {
            found.push(golden.compare_f32("mid.sam_small_u8", &as_f32(&view.image), STEP)?);
        }
    }
    Ok(found)
}

/// Compares normalised planes in steps of 255.
fn bytes(golden: &Golden, name: &str, scale: ChannelScale, found: &[f32]) -> Result<Difference> {
    let expected = golden.f32(name)?;
    ensure!(expected.len() == found.len(), "{name}: expected {} numbers, found {}", expected.len(), found.len());
    let plane = (found.len() / 3).max(1);
    let steps = expected.iter().zip(found).enumerate();
    let steps = steps.map(|(at, (a, b))| f64::from((a - b).abs()) * f64::from(scale.deviation[(at / plane).min(2)]));
    Ok(Difference { name: name.to_owned(), max_abs: steps.fold(0.0, f64::max), tolerance: STEP })
}

fn as_f32(image: &RgbImage) -> Vec<f32> {
    image.pixels().iter().map(|byte| f32::from(*byte)).collect()
}

/// Every `step`-th row and column of three square planes.
fn every(planes: &[f32], side: usize, step: usize) -> Vec<f32> {
    sampled(planes, side, side, step)
}

fn sampled(planes: &[f32], width: usize, height: usize, step: usize) -> Vec<f32> {
    let rows = planes.chunks_exact(width).enumerate().filter(|(row, _)| (row % height).is_multiple_of(step));
    rows.flat_map(|(_, row)| row.iter().copied().step_by(step)).collect()
}

fn means(planes: &[f32]) -> Vec<f32> {
    let count = (planes.len() / 3).max(1);
    let mean = |plane: &[f32]| (plane.iter().map(|x| f64::from(*x)).sum::<f64>() / count as f64) as f32;
    planes.chunks_exact(count).map(mean).collect()
}
