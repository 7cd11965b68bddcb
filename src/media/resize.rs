//! Pictures in another size, as Pillow makes them.
//!
//! Own code, since the order of the two passes matters: what overshoots is cut to 0..255 between them, and a library that
//! goes through the columns first is off by up to 4 of 255 on a photograph.

use std::ops::Range;

use super::{BoxPx, RgbImage};
use crate::error::{Error, Result};

/// How pixels are weighted. Both widen with the factor when a picture shrinks, so that no pixel is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// A triangle; Pillow's `BILINEAR`.
    Bilinear,
    /// Catmull-Rom (a = −½); Pillow's `BICUBIC`.
    Bicubic,
}

/// A part of a picture in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropPx {
    /// Columns to its left.
    pub left: usize,
    /// Rows above it.
    pub top: usize,
    /// Its columns, at least 1.
    pub width: usize,
    /// Its rows, at least 1.
    pub height: usize,
}

impl CropPx {
    /// The whole of a picture.
    pub fn whole(image: &RgbImage) -> Self {
        Self { left: 0, top: 0, width: image.width(), height: image.height() }
    }

    fn is_inside(&self, width: usize, height: usize) -> bool {
        self.width > 0
            && self.height > 0
            && self.left.checked_add(self.width).is_some_and(|right| right <= width)
            && self.top.checked_add(self.height).is_some_and(|bottom| bottom <= height)
    }

    /// The square in the middle whose side is `fraction` of the shorter side, both rounded down as Pillow's users do.
    pub fn centre_square(image: &RgbImage, fraction: f64) -> Self {
        let side = ((image.width().min(image.height()) as f64 * fraction) as usize).max(1);
        Self { left: (image.width() - side) / 2, top: (image.height() - side) / 2, width: side, height: side }
    }

    /// A box and a margin around it, in whole pixels of the picture, at least one; the margin is a part of the box's sides.
    pub fn around(image: &RgbImage, b: &BoxPx, margin: f32) -> Self {
        let (x, y) = (margin * (b.x1 - b.x0).max(0.0), margin * (b.y1 - b.y0).max(0.0));
        let span = |from: f32, to: f32, size: usize| {
            let first = (from.max(0.0) as usize).min(size - 1);
            let last = (to.max(0.0).ceil() as usize).clamp(first + 1, size);
            (first, last - first)
        };
        let (left, width) = span(b.x0 - x, b.x1 + x, image.width());
        let (top, height) = span(b.y0 - y, b.y1 + y, image.height());
        Self { left, top, width, height }
    }
}

impl RgbImage {
    /// Cuts a part out and brings it to `width` × `height`; pixels outside the part do not count. Equal to Pillow's
    /// `crop` and then `resize`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the part is empty or not inside, or a side is 0 or beyond 65,535.
    pub fn resized(&self, part: CropPx, width: usize, height: usize, filter: Filter) -> Result<Self> {
        if !part.is_inside(self.width(), self.height())
            || [width, height].iter().any(|side| !(1..=65_535).contains(side))
        {
            let reason = format!("{part:?} of {} × {} to {width} × {height}", self.width(), self.height());
            return Err(Error::shape("resize", reason));
        }
        // Pillow's users cut first: pixels beside the part must not bleed into its rim.
        let rows = self.pixels().chunks_exact(3 * self.width()).skip(part.top).take(part.height);
        let cut: Vec<u8> = rows.flat_map(|row| &row[3 * part.left..3 * (part.left + part.width)]).copied().collect();
        let narrow = across(&cut, part.width, &windows(part.width, width, 0..width, filter));
        Self::new(width, height, down(&narrow, width, &windows(part.height, height, 0..height, filter)))
    }

    /// Brings the whole picture to `width` × `height` and cuts `kept` out of that; only those pixels are computed, so a
    /// long strip costs no more than what is kept of it. Equal to Pillow's `resize` and then `crop`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the part is empty or not inside the resized picture, or one of its sides is beyond 65,535.
    pub fn resized_then_cut(&self, width: usize, height: usize, filter: Filter, kept: CropPx) -> Result<Self> {
        if !kept.is_inside(width, height) || kept.width.max(kept.height) > 65_535 {
            let reason = format!("{kept:?} of {} × {} at {width} × {height}", self.width(), self.height());
            return Err(Error::shape("resize", reason));
        }
        let columns = windows(self.width(), width, kept.left..kept.left + kept.width, filter);
        let mut rows = windows(self.height(), height, kept.top..kept.top + kept.height, filter);
        let first = rows.iter().map(|row| row.first).min().unwrap_or(0);
        let end = rows.iter().map(|row| row.first + row.weights.len()).max().unwrap_or(0);
        let stride = 3 * self.width();
        let narrow = across(&self.pixels()[first * stride..end * stride], self.width(), &columns);
        rows.iter_mut().for_each(|row| row.first -= first);
        Self::new(kept.width, kept.height, down(&narrow, kept.width, &rows))
    }

    /// Red, green and blue apart, rows from the top, each number `(x − mean) / deviation` of its channel:
    /// `[3, height, width]`, channels in the given order of red 0, green 1, blue 2.
    pub fn planes(&self, order: [usize; 3], mean: [f32; 3], deviation: [f32; 3]) -> Vec<f32> {
        let (pixels, _) = self.pixels().as_chunks::<3>();
        let plane =
            |at: usize| pixels.iter().map(move |pixel| (f32::from(pixel[order[at] % 3]) - mean[at]) / deviation[at]);
        (0..3).flat_map(plane).collect()
    }
}

/// Bits behind the point of the whole numbers that weights are rounded to.
const POINT: u32 = 22;

/// Which pixels make one new pixel: the first of them and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The windows of the pixels `kept` of `to` over `from` pixels.
///
/// Source: python-pillow/Pillow, src/libImaging/Resample.c (`precompute_coeffs`, `normalize_coeffs_8bpc`) @ 11.0.0.
fn windows(from: usize, to: usize, kept: Range<usize>, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.0);
    let reach = widened * filter.reach();
    let window = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let raw: Vec<f64> = (first..end).map(|pixel| filter.weight((pixel as f64 - centre + 0.5) / widened)).collect();
        let sum: f64 = raw.iter().sum();
        let whole = |weight: &f64| (weight / sum * f64::from(1 << POINT)).round() as i32;
        Window { first, weights: raw.iter().map(whole).collect() }
    };
    kept.map(window).collect()
}

impl Filter {
    /// Distance in pixels beyond which weights are 0.
    fn reach(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Filter::Bicubic => 0.0,
        }
    }
}

/// Resizes each row of `width` RGB pixels.
fn across(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(pixels.len() / width * windows.len());
    for row in pixels.chunks_exact(3 * width) {
        let (row, _) = row.as_chunks::<3>();
        for Window { first, weights } in windows {
            let mut sums = [1 << (POINT - 1); 3];
            for (pixel, weight) in row[*first..].iter().zip(weights) {
                sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += i32::from(*x) * weight);
            }
            resized.extend(sums.map(cut));
        }
    }
    resized
}

/// Resizes the columns of rows of `width` RGB pixels.
fn down(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let stride = 3 * width;
    let mut resized = Vec::with_capacity(stride * windows.len());
    let mut sums = vec![0i32; stride];
    for Window { first, weights } in windows {
        sums.fill(1 << (POINT - 1));
        for (row, weight) in pixels[first * stride..].chunks_exact(stride).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += i32::from(*x) * weight);
        }
        resized.extend(sums.iter().map(|sum| cut(*sum)));
    }
    resized
}

fn cut(sum: i32) -> u8 {
    (sum >> POINT).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_stay_inside_any_picture() -> Result<()> {
        for (width, height) in [(1, 1), (7, 300), (640, 480)] {
            let image = RgbImage::new(width, height, vec![0; 3 * width * height])?;
            for b in [
                [0.0, 0.0, 1.0, 1.0],
                [-5.0, -5.0, 1e6, 1e6],
                [width as f32, 0.0, width as f32, 0.0],
                [3.0, 3.0, 2.0, 2.0],
                [0.9, 0.9, 0.95, 0.95],
            ] {
                let part = CropPx::around(&image, &b.into(), 0.2);
                assert!(part.width > 0 && part.left + part.width <= width, "{b:?} {part:?}");
                assert!(part.height > 0 && part.top + part.height <= height, "{b:?} {part:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn keeps_flat_pictures_flat_at_any_size() -> Result<()> {
        for (width, height) in [(1, 1), (1, 7), (13, 5), (64, 64)] {
            let image = RgbImage::new(width, height, [10, 200, 77].repeat(width * height))?;
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let resized = image.resized(CropPx::whole(&image), 11, 3, filter)?;
                assert!(resized.pixels().as_chunks::<3>().0.iter().all(|pixel| *pixel == [10, 200, 77]));
            }
        }
        Ok(())
    }

    #[test]
    fn refuses_parts_that_are_not_there() -> Result<()> {
        let image = RgbImage::new(2, 2, vec![0; 12])?;
        for (left, width) in [(0, 0), (1, 2), (3, 1), (usize::MAX, 2)] {
            let part = CropPx { left, top: 0, width, height: 1 };
            assert!(image.resized(part, 4, 4, Filter::Bilinear).is_err(), "{part:?}");
        }
        assert!(image.resized(CropPx::whole(&image), 0, 4, Filter::Bilinear).is_err());
        Ok(())
    }

    #[test]
    fn pixels_beside_the_part_do_not_count() -> Result<()> {
        let image = RgbImage::new(6, 1, [[0; 6], [90; 6], [255; 6]].concat())?;
        let part = CropPx { left: 2, top: 0, width: 2, height: 1 };
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            assert!(image.resized(part, 9, 3, filter)?.pixels().iter().all(|x| *x == 90), "{filter:?}");
        }
        Ok(())
    }

    #[test]
    fn cutting_afterwards_gives_the_same_pixels() -> Result<()> {
        let image = RgbImage::new(7, 23, (0..7 * 23 * 3).map(|at| (at * 37 % 251) as u8).collect())?;
        for (width, height, filter) in [(13, 5, Filter::Bilinear), (5, 41, Filter::Bicubic), (1, 1, Filter::Bilinear)] {
            let whole = image.resized(CropPx::whole(&image), width, height, filter)?;
            let kept = CropPx { left: width / 2, top: height / 3, width: width.div_ceil(2), height: height / 3 + 1 };
            let found = image.resized_then_cut(width, height, filter, kept)?;
            for (y, x) in (0..kept.height).flat_map(|y| (0..kept.width).map(move |x| (y, x))) {
                assert_eq!(found.pixel(x, y), whole.pixel(x + kept.left, y + kept.top), "{width} × {height}");
            }
        }
        assert!(
            image.resized_then_cut(3, 3, Filter::Bilinear, CropPx { left: 1, top: 0, width: 3, height: 1 }).is_err()
        );
        Ok(())
    }

    #[test]
    fn centre_square_rounds_down() -> Result<()> {
        let image = RgbImage::new(451, 300, vec![0; 451 * 300 * 3])?;
        let part = CropPx::centre_square(&image, 0.875);
        assert_eq!(part, CropPx { left: 94, top: 19, width: 262, height: 262 });
        let dot = RgbImage::new(1, 1, vec![0; 3])?;
        assert_eq!(CropPx::centre_square(&dot, 0.875), CropPx::whole(&dot));
        Ok(())
    }
}
