//! Clip art and stamps as pictures of a scene: drawn somewhere on a plain or shaded ground.

use anyhow::{Context, Result};
use bubo::media::{BoxPx, RgbImage};
use bubo::session::facts;
use image::imageops::FilterType;

use crate::random::Random;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;

/// A picture and where the thing lies in it, as answers say it.
#[derive(Debug)]
pub struct Drawn {
    /// The picture.
    pub image: RgbImage,
    /// `on the left`, `in the middle`, `on the right`
    pub place: &'static str,
}

/// Draws the thing of a PNG file (transparent around it, or filling the file) at a random place and size.
///
/// # Errors
/// If the file is no PNG.
pub fn draw(png: &[u8], random: &mut Random) -> Result<Drawn> {
    let thing = image::load_from_memory_with_format(png, image::ImageFormat::Png)?.into_rgba8();
    let fit = (WIDTH as f32 / thing.width() as f32).min(HEIGHT as f32 / thing.height() as f32);
    let scale = fit * random.between(0.5, 0.95);
    let size = |side: u32| ((side as f32 * scale) as u32).max(1);
    let thing = image::imageops::resize(&thing, size(thing.width()), size(thing.height()), FilterType::Triangle);
    let thing = if random.happens(0.5) { image::imageops::flip_horizontal(&thing) } else { thing };
    let left = random.below((WIDTH - thing.width().min(WIDTH)) as usize + 1) as u32;
    let top = random.below((HEIGHT - thing.height().min(HEIGHT)) as usize + 1) as u32;
    let mut pixels = ground(random);
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

/// A ground that fades from one colour above to another below, with a little noise.
fn ground(random: &mut Random) -> Vec<u8> {
    let color = |random: &mut Random| [0; 3].map(|_: u8| random.between(60.0, 255.0));
    let above = color(random);
    let below = if random.happens(0.4) { above } else { color(random) };
    let noise = random.between(0.0, 12.0);
    let mut pixels = Vec::with_capacity((3 * WIDTH * HEIGHT) as usize);
    for y in 0..HEIGHT {
        let down = y as f32 / HEIGHT as f32;
        for _ in 0..WIDTH {
            let grain = noise * (random.unit() - 0.5);
            pixels.extend((0..3).map(|c| (above[c] * (1.0 - down) + below[c] * down + grain).clamp(0.0, 255.0) as u8));
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_drawn_where_it_is_said() {
        let mut png = std::io::Cursor::new(Vec::new());
        let red = image::RgbaImage::from_pixel(20, 40, image::Rgba([255, 0, 0, 255]));
        red.write_to(&mut png, image::ImageFormat::Png).unwrap();
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
