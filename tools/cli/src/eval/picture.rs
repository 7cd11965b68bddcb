//! Pictures that are drawn of others: the same on every machine, and the pixels of every thing are known.

use std::path::Path;

use anyhow::{Context, ensure};
use bubo::media::{Mask, RgbImage};
use bubo_train::canvas;
use bubo_train::random::Random;
use image::RgbaImage;
use image::imageops::{self, FilterType};

use super::set::{Composite, Cutout};

/// Least opacity of a pixel that belongs to its thing.
const OPAQUE: u8 = 128;

/// A drawn picture, and what can be seen of each thing in it.
#[derive(Debug)]
pub struct Drawn {
    /// The picture.
    pub image: RgbImage,
    /// Pixels of each thing, without those behind nearer ones.
    pub masks: Vec<Mask>,
}

/// Draws a picture of a set; files are relative to `root`.
///
/// # Errors
/// If a file is no picture, or a thing lies outside.
pub fn draw(picture: &Composite, root: &Path) -> anyhow::Result<Drawn> {
    let [width, height] = picture.size_px;
    let mut canvas = match &picture.background {
        Some(path) => imageops::resize(&cut(open(root, path)?, width, height), width, height, FilterType::Triangle),
        None => {
            let seed = picture.ground.context("neither background nor ground")?;
            let pixels = canvas::ground(width, height, &mut Random::new(seed, 0));
            let opaque = pixels.chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], u8::MAX]).collect();
            RgbaImage::from_raw(width, height, opaque).context("four bytes a pixel")?
        }
    };
    let mut insides: Vec<Vec<bool>> = Vec::new();
    for Cutout { file, centre_unit, height_unit } in &picture.things {
        let thing = open(root, file)?;
        let scaled_height = (height_unit * height as f32).round().max(1.0);
        let scaled_width = (scaled_height * thing.width() as f32 / thing.height().max(1) as f32).round().max(1.0);
        ensure!(scaled_width <= 4.0 * width as f32, "{} is too wide for the picture", file.display());
        let thing = imageops::resize(&thing, scaled_width as u32, scaled_height as u32, FilterType::Triangle);
        let left = (centre_unit[0] * width as f32 - scaled_width / 2.0).round() as i64;
        let top = (centre_unit[1] * height as f32 - scaled_height / 2.0).round() as i64;
        imageops::overlay(&mut canvas, &thing, left, top);
        let mut inside = vec![false; (width * height) as usize];
        for (x, y, _) in thing.enumerate_pixels().filter(|(.., color)| color[3] >= OPAQUE) {
            let (x, y) = (i64::from(x) + left, i64::from(y) + top);
            if (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y) {
                let at = (y * i64::from(width) + x) as usize;
                inside[at] = true;
                insides.iter_mut().for_each(|behind| behind[at] = false);
            }
        }
        ensure!(inside.contains(&true), "{} has no pixel within the picture", file.display());
        insides.push(inside);
    }
    let pixels = canvas.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let (width, height) = (width as usize, height as usize);
    let masks = insides.into_iter().map(|inside| Mask::new(width, height, inside)).collect();
    Ok(Drawn { image: RgbImage::new(width, height, pixels)?, masks })
}

fn open(root: &Path, path: &Path) -> anyhow::Result<RgbaImage> {
    let file = std::fs::read(root.join(path)).with_context(|| format!("could not read {}", path.display()))?;
    let picture = image::load_from_memory(&file).with_context(|| path.display().to_string())?.into_rgba8();
    ensure!(picture.width() > 0 && picture.height() > 0, "{} has no pixels", path.display());
    Ok(picture)
}

/// The largest middle part of a picture that has the sides' ratio.
fn cut(picture: RgbaImage, width: u32, height: u32) -> RgbaImage {
    let (wide, high) = (u64::from(picture.width()), u64::from(picture.height()));
    let (width, height) = (u64::from(width), u64::from(height));
    let (cut_width, cut_height) = (wide.min((high * width / height).max(1)), high.min((wide * height / width).max(1)));
    let (left, top) = ((wide - cut_width) / 2, (high - cut_height) / 2);
    imageops::crop_imm(&picture, left as u32, top as u32, cut_width as u32, cut_height as u32).to_image()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn composite(folder: &Path, centres: &[[f32; 2]]) -> Composite {
        let mut file = RgbaImage::from_pixel(10, 20, image::Rgba([255, 0, 0, 255]));
        // The right half is transparent.
        for (x, _, pixel) in file.enumerate_pixels_mut() {
            pixel[3] = if x < 5 { 255 } else { 0 };
        }
        file.save_with_format(folder.join("red.png"), image::ImageFormat::Png).unwrap();
        let thing = |centre_unit: &[f32; 2]| Cutout {
            file: PathBuf::from("red.png"),
            centre_unit: *centre_unit,
            height_unit: 0.5,
        };
        Composite { size_px: [80, 40], background: None, ground: Some(3), things: centres.iter().map(thing).collect() }
    }

    #[test]
    fn masks_are_what_can_be_seen() {
        let folder = tempfile::tempdir().unwrap();
        let picture = composite(folder.path(), &[[0.5, 0.5], [0.475, 0.5]]);
        let drawn = draw(&picture, folder.path()).unwrap();
        assert_eq!((drawn.image.width(), drawn.image.height()), (80, 40));
        // Each is 10 wide and 20 high, its left half visible; the second, nearer, covers columns 33 to 38.
        assert_eq!(drawn.masks[1].area_px(), 100);
        assert_eq!(drawn.masks[0].area_px(), 40);
        assert_eq!(drawn.image.pixel(34, 20), [255, 0, 0]);
        assert!(drawn.image.pixel(70, 20) != [255, 0, 0]);
        let again = draw(&picture, folder.path()).unwrap();
        assert_eq!(again.image.pixels(), drawn.image.pixels());
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut picture = composite(folder.path(), &[[0.5, 0.5]]);
        std::fs::write(folder.path().join("no.png"), "no picture").unwrap();
        picture.things[0].file = "no.png".into();
        assert!(format!("{:#}", draw(&picture, folder.path()).unwrap_err()).contains("no.png"));
        picture.things[0].file = "missing.png".into();
        assert!(draw(&picture, folder.path()).is_err());
    }

    #[test]
    fn backgrounds_are_cut_to_fill() {
        let wide = RgbaImage::new(100, 20);
        assert_eq!(cut(wide.clone(), 40, 40).dimensions(), (20, 20));
        assert_eq!(cut(wide, 400, 40).dimensions(), (100, 10));
    }
}
