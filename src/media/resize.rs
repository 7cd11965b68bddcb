//! Pictures in another size, as Pillow makes them.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::RgbImage;
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

    /// The square in the middle whose side is `fraction` of the shorter side, both rounded down as Pillow's users do.
    pub fn centre_square(image: &RgbImage, fraction: f64) -> Self {
        let side = ((image.width().min(image.height()) as f64 * fraction) as usize).max(1);
        Self { left: (image.width() - side) / 2, top: (image.height() - side) / 2, width: side, height: side }
    }
}

impl RgbImage {
    /// Cuts a part out and brings it to `width` × `height`; pixels outside the part do not count. Within 1 of Pillow's
    /// `crop` and then `resize` in each channel.
    ///
    /// # Errors
    /// [`Error::Shape`] if the part is empty or not inside, or a side is 0 or beyond 65,535.
    pub fn resized(&self, part: CropPx, width: usize, height: usize, filter: Filter) -> Result<Self> {
        let inside = part.width > 0
            && part.height > 0
            && part.left.checked_add(part.width).is_some_and(|right| right <= self.width())
            && part.top.checked_add(part.height).is_some_and(|bottom| bottom <= self.height());
        let sides = [self.width(), self.height(), width, height];
        if !inside || sides.iter().any(|side| *side == 0 || *side > 65_535) {
            let reason = format!("{part:?} of {} × {} to {width} × {height}", self.width(), self.height());
            return Err(Error::shape("resize", reason));
        }
        let failed = |error: &dyn std::fmt::Display| Error::shape("resize", error.to_string());
        // Resizing with a crop box, as Pillow and this library offer it, lets pixels beside the part bleed into its rim;
        // the original cuts first.
        let rows = self.pixels().chunks_exact(3 * self.width()).skip(part.top).take(part.height);
        let cut: Vec<u8> = rows.flat_map(|row| &row[3 * part.left..3 * (part.left + part.width)]).copied().collect();
        let source = ImageRef::new(part.width as u32, part.height as u32, &cut, PixelType::U8x3)
            .map_err(|error| failed(&error))?;
        let algorithm = ResizeAlg::Convolution(match filter {
            Filter::Bilinear => FilterType::Bilinear,
            Filter::Bicubic => FilterType::CatmullRom,
        });
        let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
        // One axis at a time and the rows first, since Pillow cuts what overshoots to 0..255 between the two: with both
        // at once, which begins with the columns, a photograph is off by up to 4.
        let mut narrow = Image::new(width as u32, part.height as u32, PixelType::U8x3);
        let mut target = Image::new(width as u32, height as u32, PixelType::U8x3);
        let mut resizer = Resizer::new();
        resizer.resize(&source, &mut narrow, &options).map_err(|error| failed(&error))?;
        resizer.resize(&narrow, &mut target, &options).map_err(|error| failed(&error))?;
        Self::new(width, height, target.into_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn centre_square_rounds_down() -> Result<()> {
        let image = RgbImage::new(451, 300, vec![0; 451 * 300 * 3])?;
        let part = CropPx::centre_square(&image, 0.875);
        assert_eq!(part, CropPx { left: 94, top: 19, width: 262, height: 262 });
        let dot = RgbImage::new(1, 1, vec![0; 3])?;
        assert_eq!(CropPx::centre_square(&dot, 0.875), CropPx::whole(&dot));
        Ok(())
    }
}
