//! Where a picture lies in SAM's square input, and the way back.
//!
//! Source: facebookresearch/segment-anything, utils/transforms.py and modeling/sam.py (`postprocess_masks`) @ dca509f.

use crate::error::Result;
use crate::media::BoxPx;
use crate::tensor::{Device, Resize, Tensor};

/// A picture's place in the input: scaled so that its longer side fills the square, at the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    picture_px: [usize; 2],
    scaled_px: [usize; 2],
    side_px: usize,
}

impl Frame {
    /// The place of a picture of `picture_px` (height, width; each at least 1) in a square of `side_px`.
    pub fn new(picture_px: [usize; 2], side_px: usize) -> Self {
        let longer = picture_px[0].max(picture_px[1]).max(1);
        let scale = side_px as f64 / longer as f64;
        // The original's rounding; a line of one pixel must not vanish.
        let scaled_px = picture_px.map(|side| ((side as f64 * scale + 0.5) as usize).clamp(1, side_px.max(1)));
        Self { picture_px, scaled_px, side_px }
    }

    /// Height and width of the picture.
    pub fn picture_px(&self) -> [usize; 2] {
        self.picture_px
    }

    /// Height and width of the picture within the input.
    pub fn scaled_px(&self) -> [usize; 2] {
        self.scaled_px
    }

    /// A place of the picture (column, row) in pixels of the input.
    pub fn place_from_picture(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let ratio = |axis: usize| self.scaled_px[axis] as f64 / self.picture_px[axis].max(1) as f64;
        [(f64::from(x) * ratio(1)) as f32, (f64::from(y) * ratio(0)) as f32]
    }

    /// A box of the picture in pixels of the input.
    pub fn input_from_picture(&self, box_px: &BoxPx) -> BoxPx {
        let [x0, y0] = self.place_from_picture([box_px.x0, box_px.y0]);
        let [x1, y1] = self.place_from_picture([box_px.x1, box_px.y1]);
        BoxPx { x0, y0, x1, y1 }
    }

    /// Brings a mask's logits `size` (height, width), which cover the whole input, to the size of the picture:
    /// `[1, 1, height, width]` on the CPU. In two steps, as in training, which is not the same as one.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the count does not follow from the size.
    pub fn logits(&self, logits: &[f32], size: [usize; 2]) -> Result<Tensor> {
        let [height, width] = self.scaled_px;
        let coarse = Tensor::from_f32(logits, &[1, 1, size[0], size[1]], &Device::Cpu)?;
        let input = coarse.resize(self.side_px, self.side_px, Resize::Bilinear)?;
        let picture = input.narrow(2, 0, height)?.narrow(3, 0, width)?;
        picture.resize(self.picture_px[0], self.picture_px[1], Resize::Bilinear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_sides_fill_the_square() {
        for (picture, scaled) in [
            ([480, 640], [768, 1024]),
            ([640, 480], [1024, 768]),
            ([70, 97], [739, 1024]),
            ([1, 5000], [1, 1024]),
            ([1, 1], [1024, 1024]),
            ([3000, 4000], [768, 1024]),
        ] {
            assert_eq!(Frame::new(picture, 1024).scaled_px(), scaled, "{picture:?}");
        }
    }

    #[test]
    fn boxes_are_scaled_by_the_rounded_ratios() {
        let frame = Frame::new([70, 97], 112);
        assert_eq!(frame.scaled_px(), [81, 112]);
        let found = frame.input_from_picture(&[97.0, 70.0, 0.0, 35.0].into());
        assert_eq!(found, [112.0, 81.0, 0.0, 40.5].into());
    }

    #[test]
    fn masks_come_back_in_the_size_of_any_picture() -> Result<()> {
        for picture in [[1, 1], [1, 300], [300, 1], [37, 53]] {
            let frame = Frame::new(picture, 64);
            // The upper half is inside.
            let logits: Vec<f32> = (0..16 * 16).map(|at| if at < 128 { 1.0 } else { -1.0 }).collect();
            let found = frame.logits(&logits, [16, 16])?;
            assert_eq!(found.dims(), [1, 1, picture[0], picture[1]]);
            assert!(pollster::block_on(found.to_f32())?.iter().all(|logit| logit.is_finite()));
        }
        Ok(())
    }
}
