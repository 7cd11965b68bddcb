//! Clip art, stamps and emoji as pictures of a scene: drawn somewhere on a plain or shaded ground. Photographs are
//! pictures already.

use anyhow::{Context, Result, ensure};
use bubo::media::{BoxPx, RgbImage};
use bubo::session::facts;
use image::imageops::FilterType;
use image::{ImageFormat, RgbaImage};

use crate::random::Random;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;
/// Longest side of a photograph: more than any encoder reads.
const PHOTOGRAPH_SIDE: u32 = 640;

/// A picture and where the thing lies in it, as answers say it.
#[derive(Debug)]
pub struct Drawn {
    /// The picture.
    pub image: RgbImage,
    /// `on the left`, `in the middle`, `on the right`
    pub place: &'static str,
}

/// Draws the thing of a PNG or WebP file (transparent around it, or filling the file) at a random place and size. A
/// WebP file without transparent pixels is a photograph, whose thing is taken to be in the middle.
///
/// # Errors
/// If the file is neither.
pub fn draw(file: &[u8], random: &mut Random) -> Result<Drawn> {
    let format = image::guess_format(file)?;
    ensure!(matches!(format, ImageFormat::Png | ImageFormat::WebP), "neither PNG nor WebP");
    let thing = image::load_from_memory_with_format(file, format)?.into_rgba8();
    if format == ImageFormat::WebP && thing.pixels().all(|pixel| pixel[3] == u8::MAX) {
        return photograph(&thing);
    }
    let fit = (WIDTH as f32 / thing.width() as f32).min(HEIGHT as f32 / thing.height() as f32);
    let scale = fit * random.between(0.5, 0.95);
    let size = |side: u32| ((side as f32 * scale) as u32).max(1);
    let thing = image::imageops::resize(&thing, size(thing.width()), size(thing.height()), FilterType::Triangle);
    let thing = if random.happens(0.5) { image::imageops::flip_horizontal(&thing) } else { thing };
    let left = random.below((WIDTH - thing.width().min(WIDTH)) as usize + 1) as u32;
    let top = random.below((HEIGHT - thing.height().min(HEIGHT)) as usize + 1) as u32;
    let mut pixels = ground(WIDTH, HEIGHT, random);
    for (x, y, color) in thing.enumerate_pixels() {
        let (x, y) = (x + left, y + top);
        if x < WIDTH && y < HEIGHT {
            let at = 3 * (y * WIDTH + x) as usize;
            let opacity = f32::from(color[3]) / 255.0;
            for (pixel, color) in pixels[at..at + 3].iter_mut().zip(color.0) {
                *pixel = (f32::from(*pixel) * (1.0 - opacity) + f32::from(color) * opacity).round() as u8;
            }
        }
    }
    let (x0, y0) = (left as f32, top as f32);
    let box_px = BoxPx { x0, y0, x1: x0 + thing.width() as f32, y1: y0 + thing.height() as f32 };
    let place = facts::place(&[box_px], WIDTH as usize).context("one box has a place")?;
    Ok(Drawn { image: RgbImage::new(WIDTH as usize, HEIGHT as usize, pixels)?, place })
}

fn photograph(picture: &RgbaImage) -> Result<Drawn> {
    let side = picture.width().max(picture.height()).max(1);
    let size = |of: u32| (of * PHOTOGRAPH_SIDE.min(side) / side).max(1);
    let small = image::imageops::resize(picture, size(picture.width()), size(picture.height()), FilterType::Triangle);
    let (width, height) = (small.width() as usize, small.height() as usize);
    let pixels = small.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let everything = BoxPx { x0: 0.0, y0: 0.0, x1: width as f32, y1: height as f32 };
    let place = facts::place(&[everything], width).context("one box has a place")?;
    Ok(Drawn { image: RgbImage::new(width, height, pixels)?, place })
}

/// A ground that fades from one colour above to another below, with a little noise: RGB, rows from the top.
pub fn ground(width: u32, height: u32, random: &mut Random) -> Vec<u8> {
    let color = |random: &mut Random| [0; 3].map(|_: u8| random.between(60.0, 255.0));
    let above = color(random);
    let below = if random.happens(0.4) { above } else { color(random) };
    let noise = random.between(0.0, 12.0);
    let mut pixels = Vec::with_capacity((3 * width * height) as usize);
    for y in 0..height {
        let down = y as f32 / height as f32;
        for _ in 0..width {
            let grain = noise * (random.unit() - 0.5);
            pixels.extend((0..3).map(|c| (above[c] * (1.0 - down) + below[c] * down + grain).clamp(0.0, 255.0) as u8));
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webp(pixel: [u8; 4]) -> Vec<u8> {
        let mut file = std::io::Cursor::new(Vec::new());
        RgbaImage::from_pixel(1280, 320, image::Rgba(pixel)).write_to(&mut file, ImageFormat::WebP).unwrap();
        file.into_inner()
    }

    #[test]
    fn photographs_fill_the_picture_and_cut_outs_do_not() {
        let Drawn { image, place } = draw(&webp([200, 0, 0, 255]), &mut Random::new(1, 0)).unwrap();
        assert_eq!((image.width(), image.height(), place), (640, 160, "in the middle"));
        let Drawn { image, .. } = draw(&webp([200, 0, 0, 254]), &mut Random::new(1, 0)).unwrap();
        assert_eq!((image.width(), image.height()), (320, 240));
        assert!(draw(b"GIF89a", &mut Random::new(1, 0)).is_err());
    }

    #[test]
    fn things_are_drawn_where_it_is_said() {
        let mut png = std::io::Cursor::new(Vec::new());
        let red = RgbaImage::from_pixel(20, 40, image::Rgba([255, 0, 0, 255]));
        red.write_to(&mut png, ImageFormat::Png).unwrap();
        for seed in 0..12 {
            let Drawn { image, place } = draw(png.get_ref(), &mut Random::new(seed, 0)).unwrap();
            let red = |x: &usize| (0..image.height()).any(|y| image.pixel(*x, y) == [255, 0, 0]);
            let columns: Vec<usize> = (0..image.width()).filter(red).collect();
            let centre = (columns[0] + columns[columns.len() - 1]) as f32 / 2.0 / image.width() as f32;
            let expected = match centre {
                x if x < 0.35 => "on the left",
                x if x > 0.65 => "on the right",
                x if (0.37..0.63).contains(&x) => "in the middle",
                _ => continue,
            };
            assert_eq!(place, expected, "centre {centre}");
        }
    }
}
