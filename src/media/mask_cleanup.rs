//! Small holes and islands of masks.
//!
//! Source: facebookresearch/segment-anything, utils/amg.py (remove_small_regions, batched_mask_to_box) @ dca509f.

use super::{BoxPx, Mask};

/// What is cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallRegions {
    /// Regions outside that are filled.
    Holes,
    /// Regions inside that are dropped; the largest stays if all are small.
    Islands,
}

/// Holes below this are filled in every mask, as BuboGPT does.
pub const HOLE_PX: usize = 400;

impl Mask {
    /// Removes regions of fewer than `area_px` pixels, joined along edges and corners (8-connected). `None` if there is
    /// none, so that nothing changes. A region at the border counts like any other.
    pub fn without_small(&self, regions: SmallRegions, area_px: usize) -> Option<Mask> {
        let wanted = regions == SmallRegions::Islands;
        let (labels, sizes) = components(self, wanted);
        if sizes.iter().all(|size| *size >= area_px) {
            return None;
        }
        let largest = (0..sizes.len()).rev().max_by_key(|label| sizes[*label]);
        let all_small = sizes.iter().all(|size| *size < area_px);
        let stays_inside = |label: usize| match regions {
            SmallRegions::Holes => sizes[label] < area_px,
            SmallRegions::Islands => sizes[label] >= area_px || (all_small && Some(label) == largest),
        };
        let inside = self.inside().iter().zip(&labels);
        let inside = inside.map(|(inside, label)| label.map_or(*inside, |label| stays_inside(label as usize)));
        Some(Mask::new(self.width(), self.height(), inside.collect()))
    }

    /// The smallest box around all pixels inside; `None` for an empty mask.
    pub fn bounding_box_px(&self) -> Option<BoxPx> {
        let width = self.width();
        let mut found: Option<[usize; 4]> = None;
        for at in (0..self.inside().len()).filter(|at| self.inside()[*at]) {
            let (x, y) = (at % width, at / width);
            let [x0, y0, x1, y1] = found.unwrap_or([x, y, x, y]);
            found = Some([x0.min(x), y0.min(y), x1.max(x), y1.max(y)]);
        }
        found.map(|[x0, y0, x1, y1]| BoxPx::from([x0 as f32, y0 as f32, (x1 + 1) as f32, (y1 + 1) as f32]))
    }
}

/// Labels of the regions whose pixels are `wanted`, in the order of their first pixel, and their areas.
fn components(mask: &Mask, wanted: bool) -> (Vec<Option<u32>>, Vec<usize>) {
    let (width, height, inside) = (mask.width(), mask.height(), mask.inside());
    let mut labels: Vec<Option<u32>> = vec![None; inside.len()];
    let (mut sizes, mut todo) = (Vec::new(), Vec::new());
    for first in 0..inside.len() {
        if inside[first] != wanted || labels[first].is_some() {
            continue;
        }
        let label = sizes.len() as u32;
        labels[first] = Some(label);
        todo.push(first);
        let mut size = 0;
        while let Some(at) = todo.pop() {
            size += 1;
            let (x, y) = (at % width, at / width);
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    let near = near_y * width + near_x;
                    if inside[near] == wanted && labels[near].is_none() {
                        labels[near] = Some(label);
                        todo.push(near);
                    }
                }
            }
        }
        sizes.push(size);
    }
    (labels, sizes)
}
