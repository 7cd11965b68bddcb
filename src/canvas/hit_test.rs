//! Which thing lies under a pixel.

use crate::grounding::Thing;

/// The thing whose mask holds the pixel; of several the one with the smallest mask. Where no mask holds it, the
/// smallest of the boxes around it that have an empty mask.
pub fn thing_at(things: &[Thing], x: usize, y: usize) -> Option<usize> {
    let hit = |thing: &&(usize, &Thing)| {
        let mask = &thing.1.mask;
        x < mask.width() && y < mask.height() && mask.inside()[y * mask.width() + x]
    };
    let listed: Vec<(usize, &Thing)> = things.iter().enumerate().collect();
    let by_mask = listed.iter().filter(hit).min_by_key(|(_, thing)| thing.mask.area_px());
    let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
    by_mask
        .or_else(|| {
            listed
                .iter()
                .filter(|(_, thing)| {
                    let b = thing.box_px;
                    b.x0 <= px && px < b.x1 && b.y0 <= py && py < b.y1 && thing.mask.area_px() == 0
                })
                .min_by(|(_, a), (_, b)| a.box_px.area().total_cmp(&b.box_px.area()))
        })
        .map(|(index, _)| *index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{BoxPx, Mask};

    fn thing(inside: [bool; 4], box_px: [f32; 4]) -> Thing {
        Thing {
            tag: "t".into(),
            aliases: vec![],
            score: 1.0,
            box_px: BoxPx::from(box_px),
            mask: Mask::new(2, 2, inside.to_vec()),
            taught: false,
        }
    }

    #[test]
    fn the_smallest_mask_wins() {
        let things = [
            thing([true, true, true, false], [0.0, 0.0, 2.0, 2.0]),
            thing([true, false, false, false], [0.0, 0.0, 1.0, 1.0]),
            thing([false; 4], [1.0, 1.0, 2.0, 2.0]),
        ];
        let found: Vec<Option<usize>> =
            [(0, 0), (1, 0), (1, 1), (9, 9)].into_iter().map(|(x, y)| thing_at(&things, x, y)).collect();
        assert_eq!(found, [Some(1), Some(0), Some(2), None]);
        assert_eq!(thing_at(&[], 0, 0), None);
    }
}
