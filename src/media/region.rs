//! Boxes and masks in the pixels of a picture.

/// A box in pixels of the upright picture: left, top, right, bottom; right and bottom lie just outside.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "[f32; 4]", into = "[f32; 4]")]
pub struct BoxPx {
    /// Left edge.
    pub x0: f32,
    /// Top edge.
    pub y0: f32,
    /// Right edge.
    pub x1: f32,
    /// Bottom edge.
    pub y1: f32,
}

impl From<[f32; 4]> for BoxPx {
    fn from([x0, y0, x1, y1]: [f32; 4]) -> Self {
        Self { x0, y0, x1, y1 }
    }
}

impl From<BoxPx> for [f32; 4] {
    fn from(b: BoxPx) -> Self {
        [b.x0, b.y0, b.x1, b.y1]
    }
}

impl BoxPx {
    /// Area in square pixels; 0 for a box turned inside out.
    pub fn area(&self) -> f32 {
        (self.x1 - self.x0).max(0.0) * (self.y1 - self.y0).max(0.0)
    }

    /// Area of overlap over area of union, 0..1.
    pub fn iou(&self, other: &Self) -> f32 {
        let common = Self {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        };
        let union = self.area() + other.area() - common.area();
        if union > 0.0 { common.area() / union } else { 0.0 }
    }

    /// The part inside a picture of that size.
    pub fn clamped(&self, width: usize, height: usize) -> Self {
        let (w, h) = (width as f32, height as f32);
        Self {
            x0: self.x0.clamp(0.0, w),
            y0: self.y0.clamp(0.0, h),
            x1: self.x1.clamp(0.0, w),
            y1: self.y1.clamp(0.0, h),
        }
    }
}

/// Which pixels of a picture belong to a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    inside: Vec<bool>,
}

impl Mask {
    /// Takes one truth value a pixel, rows from the top; missing ones are outside, extra ones are dropped.
    pub fn new(width: usize, height: usize, mut inside: Vec<bool>) -> Self {
        inside.resize(width * height, false);
        Self { width, height, inside }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// One truth value a pixel, rows from the top.
    pub fn inside(&self) -> &[bool] {
        &self.inside
    }

    /// Number of pixels inside.
    pub fn area_px(&self) -> usize {
        self.inside.iter().filter(|inside| **inside).count()
    }
}
