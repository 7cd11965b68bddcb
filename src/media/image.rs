//! A picture in memory.

use crate::error::{Error, Result};

/// An RGB picture, 8 bits a channel, rows from the top, upright (EXIF orientation already applied), sRGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// Takes `3 · width · height` bytes, `r g b r g b …`.
    ///
    /// # Errors
    /// [`Error::Input`] if a side is 0 or the byte count does not follow from the size.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        let expected = width.checked_mul(height).and_then(|count| count.checked_mul(3));
        if width == 0 || height == 0 || expected != Some(pixels.len()) {
            return Err(Error::Input(format!(
                "a picture of {width} × {height} pixels cannot have {} bytes of RGB; give a picture of at least 1 × 1",
                pixels.len()
            )));
        }
        Ok(Self { width, height, pixels })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All bytes, `r g b r g b …`, rows from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Red, green, blue of a pixel inside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * self.width + x);
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}
