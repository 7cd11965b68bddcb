//! Pictures as the large networks want them: in another size, normalised, channels apart.
//!
//! One function a way of resizing; [`ChannelScale`] then gives the numbers. All resizing is Pillow's (see
//! [`RgbImage::resized`]).

use serde::{Deserialize, Serialize};

use super::{BoxPx, CropPx, Filter, RgbImage};
use crate::error::{Error, Result};

/// How an oblong picture becomes the square that a network wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Both sides are brought to the square's: everything is seen, out of proportion. BLIP-2's and MiniGPT-4's way.
    #[default]
    Squash,
    /// The shorter side is brought to the square's and the middle kept: what lies outside is not seen. BuboGPT's way.
    Original,
}

/// Mean and standard deviation of each channel over a training set, on 0..255: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChannelScale {
    /// Taken off.
    pub mean: [f32; 3],
    /// Divided by.
    pub deviation: [f32; 3],
}

impl ChannelScale {
    /// CLIP's, for EVA ViT and BLIP-2.
    pub const CLIP: Self =
        Self::from_unit([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
    /// ImageNet's, for RAM, Grounding DINO and SAM (which writes it as 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375).
    pub const IMAGENET: Self = Self::from_unit([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

    /// From figures on 0..1, as papers give them.
    pub const fn from_unit(mean: [f32; 3], deviation: [f32; 3]) -> Self {
        let [r, g, b] = mean;
        let [dr, dg, db] = deviation;
        Self { mean: [255.0 * r, 255.0 * g, 255.0 * b], deviation: [255.0 * dr, 255.0 * dg, 255.0 * db] }
    }

    /// The picture normalised: `[3, height, width]`, red, green, blue.
    pub fn planes(&self, image: &RgbImage) -> Vec<f32> {
        image.planes([0, 1, 2], self.mean, self.deviation)
    }

    /// The picture normalised in the upper left corner of a square of zeros: `[3, side, side]`. What is outside the
    /// square is left out.
    pub fn padded_planes(&self, image: &RgbImage, side: usize) -> Vec<f32> {
        let (width, height) = (image.width(), image.height());
        let mut square = vec![0.0; 3 * side * side];
        for (plane, from) in
            square.chunks_exact_mut((side * side).max(1)).zip(self.planes(image).chunks_exact(width * height))
        {
            for (row, from) in plane.chunks_exact_mut(side).zip(from.chunks_exact(width)) {
                row.iter_mut().zip(from).for_each(|(x, from)| *x = *from);
            }
        }
        square
    }
}

/// A picture in the upper left corner of a square, for SAM.
#[derive(Debug, Clone)]
pub struct PaddedView {
    /// The resized picture, not yet padded.
    pub image: RgbImage,
    /// Side of the square.
    pub side: usize,
    /// Columns of the picture as it was.
    pub original_width: usize,
    /// Rows of the picture as it was.
    pub original_height: usize,
}

impl PaddedView {
    /// Normalised and padded: `[3, side, side]`.
    pub fn planes(&self, scale: ChannelScale) -> Vec<f32> {
        scale.padded_planes(&self.image, self.side)
    }

    /// A box of the picture as it was, in pixels of the square. Each axis has a factor of its own, since both sides were
    /// rounded.
    pub fn box_to_view(&self, region: BoxPx) -> BoxPx {
        let [x, y] = self.point_to_view([region.x0, region.y0]);
        let [x1, y1] = self.point_to_view([region.x1, region.y1]);
        BoxPx { x0: x, y0: y, x1, y1 }
    }

    /// A point (column, row) of the picture as it was, in pixels of the square.
    pub fn point_to_view(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let factor = |new: usize, old: usize| (new as f64 / old as f64) as f32;
        [x * factor(self.image.width(), self.original_width), y * factor(self.image.height(), self.original_height)]
    }
}

impl RgbImage {
    /// A square of `side` pixels, for EVA ViT (`Filter::Bicubic`, 224) and RAM (`Fit::Squash`, `Filter::Bilinear`, 384).
    ///
    /// # Errors
    /// [`Error::Shape`] if the side is 0 or beyond 65,535.
    ///
    /// Source: bubogpt @ 17c72b5, imagebind/…/processor (torchvision 0.15.2, `Resize` and `CenterCrop`): the longer side
    /// is rounded down, the rim halved to the nearest even number.
    pub fn squared(&self, side: usize, fit: Fit, filter: Filter) -> Result<Self> {
        let (shorter, longer) = (self.width().min(self.height()), self.width().max(self.height()));
        if fit == Fit::Squash || shorter == longer {
            return self.resized(CropPx::whole(self), side, side, filter);
        }
        let too_large = || Error::shape("resize", format!("{longer} × {shorter} with a shorter side of {side}"));
        let longer = side.checked_mul(longer).ok_or_else(too_large)? / shorter;
        let rim = ((longer - side) as f64 / 2.0).round_ties_even() as usize;
        let middle = CropPx { left: 0, top: 0, width: side, height: side };
        if self.width() > self.height() {
            self.resized_then_cut(longer, side, filter, CropPx { left: rim, ..middle })
        } else {
            self.resized_then_cut(side, longer, filter, CropPx { top: rim, ..middle })
        }
    }

    /// The picture with a shorter side of `shorter` pixels, or less where the longer one would pass `longest`: for
    /// Grounding DINO (800, 1333). The longer side may still pass `longest` by a few pixels, as the original's does.
    ///
    /// # Errors
    /// [`Error::Shape`] if a side of the result would be 0 or beyond 65,535: strips thousands of times as long as wide.
    ///
    /// Source: IDEA-Research/GroundingDINO, datasets/transforms.py (`get_size_with_aspect_ratio`) @ 856dde2.
    pub fn with_shorter_side(&self, shorter: usize, longest: usize) -> Result<Self> {
        let (least, most) = (self.width().min(self.height()), self.width().max(self.height()));
        let fits = most as f64 / least as f64 * shorter as f64 <= longest as f64;
        let shorter =
            if fits { shorter } else { (longest as f64 * least as f64 / most as f64).round_ties_even() as usize };
        if shorter == least {
            return Ok(self.clone());
        }
        let longer = (shorter as f64 * most as f64 / least as f64) as usize;
        let (width, height) = if self.width() < self.height() { (shorter, longer) } else { (longer, shorter) };
        self.resized(CropPx::whole(self), width, height, Filter::Bilinear)
    }

    /// The picture with a longer side of `side` pixels, to be padded below and to the right: for SAM (1024).
    ///
    /// # Errors
    /// [`Error::Shape`] if the side is beyond 65,535.
    ///
    /// Source: facebookresearch/segment-anything, utils/transforms.py (`ResizeLongestSide`) @ dca509f.
    pub fn with_longest_side(&self, side: usize) -> Result<PaddedView> {
        let scale = side as f64 / self.width().max(self.height()) as f64;
        // A strip thousands of times as long as wide keeps a pixel, where the original would fail.
        let scaled = |old: usize| ((old as f64 * scale + 0.5) as usize).max(1);
        let image = self.resized(CropPx::whole(self), scaled(self.width()), scaled(self.height()), Filter::Bilinear)?;
        Ok(PaddedView { image, side, original_width: self.width(), original_height: self.height() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn striped(width: usize, height: usize) -> Result<RgbImage> {
        let pixels = (0..width * height).flat_map(|at| [(at % width * 3) as u8, (at / width) as u8, 7]);
        RgbImage::new(width, height, pixels.collect())
    }

    #[test]
    fn sizes_follow_the_originals() -> Result<()> {
        for (width, height, dino, sam) in [(300, 200, (1200, 800), (1024, 683)), (33, 480, (92, 1338), (70, 1024))] {
            let image = striped(width, height)?;
            let view = image.with_shorter_side(800, 1333)?;
            assert_eq!((view.width(), view.height()), dino);
            let view = image.with_longest_side(1024)?.image;
            assert_eq!((view.width(), view.height()), sam);
        }
        let exact = striped(80, 100)?;
        assert_eq!(exact.with_shorter_side(80, 133)?, exact);
        Ok(())
    }

    #[test]
    fn a_square_is_the_middle_or_everything() -> Result<()> {
        let wide = striped(40, 10)?;
        let middle = wide.squared(10, Fit::Original, Filter::Bicubic)?;
        assert_eq!((middle.pixel(0, 3), middle.pixel(9, 3)), ([45, 3, 7], [72, 3, 7]));
        let all = wide.squared(10, Fit::Squash, Filter::Bilinear)?;
        assert!(all.pixel(0, 0)[0] < 10 && all.pixel(9, 0)[0] > 107);
        // A strip of a pixel's width would be 14 million pixels long as a whole.
        let strip = RgbImage::new(1, 65_535, vec![9; 3 * 65_535])?;
        assert_eq!(strip.squared(224, Fit::Original, Filter::Bicubic)?.pixels(), [9; 3 * 224 * 224]);
        assert!(wide.squared(0, Fit::Original, Filter::Bicubic).is_err());
        assert!(strip.with_shorter_side(800, 1333).is_err() && strip.with_longest_side(70_000).is_err());
        let view = strip.with_longest_side(1024)?;
        assert_eq!((view.image.width(), view.image.height()), (1, 1024));
        Ok(())
    }

    #[test]
    fn padding_is_zero_and_boxes_follow_each_axis() -> Result<()> {
        let view = striped(30, 7)?.with_longest_side(16)?;
        assert_eq!((view.image.width(), view.image.height()), (16, 4));
        let planes = view.planes(ChannelScale::IMAGENET);
        assert!(planes[4 * 16..256].iter().all(|x| *x == 0.0) && planes[..64].iter().all(|x| *x != 0.0));
        let found = view.box_to_view(BoxPx { x0: 15.0, y0: 3.5, x1: 30.0, y1: 7.0 });
        assert_eq!(found, BoxPx { x0: 8.0, y0: 2.0, x1: 16.0, y1: 4.0 });
        Ok(())
    }
}
