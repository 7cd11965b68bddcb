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

    /// All pixels of a picture of that size whose centres lie in a box.
    pub fn of_box(width: usize, height: usize, box_px: &BoxPx) -> Self {
        let inside = |at: usize, low: f32, high: f32| (low..high).contains(&(at as f32 + 0.5));
        let row = |y| (0..width).map(move |x| inside(y, box_px.y0, box_px.y1) && inside(x, box_px.x0, box_px.x1));
        Self { width, height, inside: (0..height).flat_map(row).collect() }
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

    /// Pixels inside both over pixels inside either, 0..1, of masks of one size.
    pub fn iou(&self, other: &Self) -> f32 {
        let (mut common, mut union) = (0usize, 0usize);
        for (a, b) in self.inside.iter().zip(&other.inside) {
            common += usize::from(*a && *b);
            union += usize::from(*a || *b);
        }
        if union == 0 { 0.0 } else { common as f32 / union as f32 }
    }

    /// The mask without its connected parts (by sides) smaller than `fraction` of the largest one.
    pub fn without_specks(mut self, fraction: f32) -> Self {
        let mut part_of = vec![0u32; self.inside.len()];
        let mut areas = vec![0usize];
        let mut open = Vec::new();
        for start in 0..self.inside.len() {
            if !self.inside[start] || part_of[start] != 0 {
                continue;
            }
            let part = areas.len();
            areas.push(0);
            part_of[start] = part as u32;
            open.push(start);
            while let Some(at) = open.pop() {
                areas[part] += 1;
                let x = at % self.width;
                let neighbours = [
                    (x > 0, at.wrapping_sub(1)),
                    (x + 1 < self.width, at + 1),
                    (at >= self.width, at.wrapping_sub(self.width)),
                    (at + self.width < self.inside.len(), at + self.width),
                ];
                for (exists, next) in neighbours {
                    if exists && self.inside[next] && part_of[next] == 0 {
                        part_of[next] = part as u32;
                        open.push(next);
                    }
                }
            }
        }
        let least = areas.iter().copied().max().unwrap_or(0) as f32 * fraction;
        for (inside, part) in self.inside.iter_mut().zip(&part_of) {
            *inside &= areas[*part as usize] as f32 >= least;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specks_go_and_parts_stay() {
        let picture = ["###....", "###...#", "###....", "......#", "......#"];
        let inside = picture.concat().bytes().map(|byte| byte == b'#').collect();
        let mask = Mask::new(7, 5, inside);
        assert_eq!(mask.clone().without_specks(0.2).area_px(), 11);
        assert_eq!(mask.clone().without_specks(0.5).area_px(), 9);
        assert_eq!(mask.without_specks(0.0).area_px(), 12);
        assert_eq!(Mask::new(3, 2, vec![]).without_specks(0.5).area_px(), 0);
    }
}
