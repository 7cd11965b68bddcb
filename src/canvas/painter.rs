//! Paints an overlay on the processor, for the command line; the page draws with its own canvas.

use font8x8::UnicodeFonts;

use super::{Layer, Look, Overlay};
use crate::error::{Error, Result};
use crate::grounding::Thing;
use crate::media::{Mask, RgbImage};

/// The picture with the overlay on it. Where masks overlap, the later layer wins.
///
/// # Errors
/// [`Error::Shape`] if a layer's thing is missing or its mask has another size than the picture.
pub fn paint(image: &RgbImage, things: &[Thing], overlay: &Overlay) -> Result<RgbImage> {
    let (width, height) = (image.width(), image.height());
    let mut canvas = Canvas { width, height, pixels: image.pixels().to_vec() };
    let mut masks = Vec::new();
    for layer in &overlay.layers {
        let mask = things.get(layer.thing).map(|thing| &thing.mask);
        let mask = mask.filter(|mask| (mask.width(), mask.height()) == (width, height));
        masks.push(mask.ok_or_else(|| Error::shape("paint", "a layer without a mask of the picture's size"))?);
    }
    canvas.fill(overlay, &masks);
    for (layer, mask) in overlay.layers.iter().zip(&masks) {
        match overlay.look {
            Look::Modern => canvas.outline(mask, overlay.outline_width_px, layer.color.dark),
            Look::Original => canvas.frame(layer, overlay.outline_width_px),
        }
    }
    for layer in &overlay.layers {
        canvas.label(layer, overlay.text_height_px);
    }
    RgbImage::new(width, height, canvas.pixels)
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width && y < self.height {
            self.pixels[3 * (y * self.width + x)..][..3].copy_from_slice(&color);
        }
    }

    /// Tints the masks and dims the rest.
    fn fill(&mut self, overlay: &Overlay, masks: &[&Mask]) {
        for (at, pixel) in self.pixels.chunks_exact_mut(3).enumerate() {
            let top = (0..masks.len()).rev().find(|layer| masks[*layer].inside()[at]);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let own = f32::from(*value);
                let mixed = match top {
                    None => own * overlay.rest,
                    Some(layer) => {
                        let color = overlay.layers[layer].color;
                        let shade = if overlay.look == Look::Modern { color.dark } else { color.light };
                        own * (1.0 - overlay.fill) + f32::from(shade[channel]) * overlay.fill
                    }
                };
                *value = mixed.round() as u8;
            }
        }
    }

    /// Colours the pixels inside the mask that lie within `width_px` of one outside.
    fn outline(&mut self, mask: &Mask, width_px: usize, color: [u8; 3]) {
        let (width, inside) = (self.width, mask.inside());
        // Distance to the nearest pixel outside, in steps along rows or columns: two sweeps.
        let far = u32::MAX / 2;
        let mut steps: Vec<u32> = inside.iter().map(|inside| if *inside { far } else { 0 }).collect();
        let relax = |steps: &mut Vec<u32>, at: usize, from: Option<usize>| {
            let near = from.map_or(0, |from| steps[from]) + 1;
            steps[at] = steps[at].min(near);
        };
        for at in (0..steps.len()).filter(|at| inside[*at]) {
            relax(&mut steps, at, (at % width > 0).then(|| at - 1));
            relax(&mut steps, at, at.checked_sub(width));
        }
        for at in (0..steps.len()).rev().filter(|at| inside[*at]) {
            relax(&mut steps, at, (at % width + 1 < width).then_some(at + 1));
            relax(&mut steps, at, Some(at + width).filter(|below| *below < inside.len()));
            if steps[at] as usize <= width_px {
                self.set(at % width, at / width, color);
            }
        }
    }

    /// The box, drawn inwards.
    fn frame(&mut self, layer: &Layer, width_px: usize) {
        let b = layer.box_px.clamped(self.width, self.height);
        let (x0, y0, x1, y1) = (b.x0 as usize, b.y0 as usize, b.x1 as usize, b.y1 as usize);
        for y in y0..y1 {
            for x in x0..x1 {
                let edge = (x - x0).min(y - y0).min(x1 - 1 - x).min(y1 - 1 - y);
                if edge < width_px {
                    self.set(x, y, layer.color.dark);
                }
            }
        }
    }

    /// White letters on a filled box at the top left of the thing's box, moved inside the picture.
    fn label(&mut self, layer: &Layer, text_height_px: usize) {
        let scale = (text_height_px / 8).max(1);
        let room = (self.width / (8 * scale)).saturating_sub(1);
        let letters: Vec<[u8; 8]> = layer.label.chars().take(room).map(glyph).collect();
        let (w, h) = ((letters.len() * 8 + 4) * scale, 12 * scale);
        let b = layer.box_px.clamped(self.width, self.height);
        let x0 = (b.x0 as usize).min(self.width.saturating_sub(w));
        let y0 = (b.y0 as usize).min(self.height.saturating_sub(h));
        for y in 0..h {
            for x in 0..w {
                let (column, row) = ((x / scale).checked_sub(2), (y / scale).checked_sub(2));
                let lit = column.zip(row).is_some_and(|(column, row)| {
                    row < 8 && letters.get(column / 8).is_some_and(|letter| letter[row] >> (column % 8) & 1 == 1)
                });
                self.set(x0 + x, y0 + y, if lit { [255; 3] } else { layer.color.dark });
            }
        }
    }
}

/// Eight rows of eight pixels, the lowest bit leftmost; a filled square for a letter that the font lacks.
fn glyph(letter: char) -> [u8; 8] {
    font8x8::BASIC_FONTS
        .get(letter)
        .or_else(|| font8x8::LATIN_FONTS.get(letter))
        .unwrap_or([0, 0, 60, 60, 60, 60, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::BoxPx;

    fn scene() -> (RgbImage, Vec<Thing>) {
        let image = RgbImage::new(64, 64, vec![100; 64 * 64 * 3]).expect("a valid size");
        let inside = (0..64 * 64).map(|at| (16..48).contains(&(at % 64)) && (24..56).contains(&(at / 64))).collect();
        let thing = Thing {
            tag: "dog".into(),
            aliases: vec![],
            score: 1.0,
            box_px: BoxPx::from([16.0, 24.0, 48.0, 56.0]),
            mask: Mask::new(64, 64, inside),
            taught: false,
        };
        (image, vec![thing])
    }

    #[test]
    fn the_modern_look_tints_outlines_and_dims() {
        let (image, things) = scene();
        let entity = crate::grounding::matcher::Entity { phrase: "dog".into(), start: 0, end: 3, things: vec![0] };
        let overlay = Overlay::answer(&things, &[entity], Some(0), [64, 64], Look::Modern);
        let painted = paint(&image, &things, &overlay).expect("the sizes fit");
        assert_eq!(painted.pixel(0, 63), [55; 3]); // 100 · 0.55
        assert_eq!(painted.pixel(32, 50), [146, 76, 76]); // 100 · 0.62 + red · 0.38
        assert_eq!((painted.pixel(47, 40), painted.pixel(46, 40)), ([220, 38, 38], [220, 38, 38]));
        assert_ne!(painted.pixel(45, 40), [220, 38, 38]);
        assert!((16..48).any(|x| (24..36).any(|y| painted.pixel(x, y) == [255; 3])), "the label has letters");
    }

    #[test]
    fn the_original_preview_is_darkened_and_framed() {
        let (image, things) = scene();
        let overlay = Overlay::preview(&things, [64, 64], Look::Original);
        let painted = paint(&image, &things, &overlay).expect("the sizes fit");
        assert_eq!(painted.pixel(0, 63), [50; 3]);
        assert_eq!(painted.pixel(17, 50), [220, 38, 38]);
        assert_eq!(painted.pixel(32, 44), [177, 163, 163]); // (100 + light red) / 2
    }

    #[test]
    fn a_mask_of_another_size_is_refused_and_tiny_pictures_are_painted() {
        let (image, things) = scene();
        let overlay = Overlay::preview(&things, [64, 64], Look::Modern);
        let small = RgbImage::new(1, 1, vec![0; 3]).expect("a valid size");
        assert_eq!(paint(&small, &things, &overlay).expect_err("another size").code(), "shape");
        let dot = vec![Thing { mask: Mask::new(1, 1, vec![true]), ..things[0].clone() }];
        for look in [Look::Modern, Look::Original] {
            assert!(paint(&small, &dot, &Overlay::preview(&dot, [1, 1], look)).is_ok());
        }
        assert!(paint(&image, &[], &overlay).is_err());
    }
}
