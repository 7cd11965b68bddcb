//! Small holes and islands of masks, boxes around masks, and run lengths.

use std::path::Path;

use bubo::canvas::Rle;
use bubo::media::{Mask, SmallRegions};
use bubo::tensor::Device;
use serde::Deserialize;

use super::{Difference, Golden, count_difference};

#[derive(Deserialize)]
struct Config {
    rle: Vec<Runs>,
    rle_of: Vec<usize>,
}

#[derive(Deserialize)]
struct Runs {
    size: [usize; 2],
    counts: Vec<usize>,
}

/// Runs `mask_cleanup`; every pixel must be equal.
///
/// # Errors
/// If the golden has another form.
pub fn run(golden: &Golden, _: &Device, _: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let &[count, height, width] = golden.dims("in.masks")? else { anyhow::bail!("masks have three axes") };
    let of = |name: &str| -> anyhow::Result<Vec<Mask>> {
        let masks = golden.u8(name)?.chunks_exact((height * width).max(1));
        Ok(masks.map(|mask| Mask::new(width, height, mask.iter().map(|pixel| *pixel != 0).collect())).collect())
    };
    let masks = of("in.masks")?;
    let kinds = [
        ("out.holes100", SmallRegions::Holes, 100),
        ("out.islands100", SmallRegions::Islands, 100),
        ("out.holes400", SmallRegions::Holes, 400),
        ("out.islands400", SmallRegions::Islands, 400),
    ];
    let mut differences = Vec::new();
    for (name, regions, area_px) in kinds {
        let expected = of(name)?;
        let wrong = (0..count).filter(|i| {
            let cleaned = masks[*i].without_small(regions, area_px);
            cleaned.as_ref().unwrap_or(&masks[*i]) != &expected[*i]
        });
        differences.push(count_difference(name, wrong.count()));
    }
    let changed = golden.u8("out.changed_holes400")?;
    let wrong =
        (0..count).filter(|i| masks[*i].without_small(SmallRegions::Holes, 400).is_some() != (changed[*i] != 0));
    differences.push(count_difference("out.changed_holes400", wrong.count()));
    // The original's boxes name the last pixel, ours the one after it; an empty mask has all zeros there.
    let boxes: Vec<f32> = masks
        .iter()
        .flat_map(|mask| mask.bounding_box_px().map_or([0.0; 4], |b| [b.x0, b.y0, b.x1 - 1.0, b.y1 - 1.0]))
        .collect();
    differences.push(golden.compare_f32("out.boxes", &boxes, 0.0)?);
    let config: Config = golden.config()?;
    let mut wrong = 0;
    for (runs, index) in config.rle.iter().zip(&config.rle_of) {
        let rle = Rle::encode(&masks[*index]);
        wrong +=
            usize::from(rle.run_lengths()? != runs.counts || rle.size != runs.size || rle.decode()? != masks[*index]);
    }
    differences.push(count_difference("config.rle", wrong));
    Ok(differences)
}
