//! Whether a phrase's outline lies on the thing that it means.

use anyhow::ensure;
use bubo::canvas::Export;
use bubo::media::{BoxPx, Mask};

use super::set::KnownThing;
use super::words::names;

/// Least overlap over union that counts.
pub const LEAST_IOU: f32 = 0.5;

/// How well an answer's phrase for a thing is outlined: area of overlap over area of union, 0..1; none if no coloured
/// phrase names the thing.
///
/// Where the thing's pixels are known, the masks of the phrase's things together are compared with them; where only
/// boxes are, the boxes around the masks are compared with those, so that a good mask of a thin thing is not a miss.
///
/// - `drawn`: masks of all things of a drawn picture
/// - `size`: columns and rows of the picture
///
/// # Errors
/// If a box lies outside of the picture; those of the masks.
pub fn overlap(
    answer: &Export,
    thing: &KnownThing,
    drawn: &[Mask],
    [width, height]: [usize; 2],
) -> anyhow::Result<Option<f32>> {
    for box_px in &thing.boxes_px {
        let [.., right, bottom] = <[f32; 4]>::from(*box_px);
        // A pixel of rounding is no mistake.
        ensure!(
            right <= width as f32 + 1.0 && bottom <= height as f32 + 1.0,
            "box {:?} reaches out of its picture of {width} × {height} pixels",
            <[f32; 4]>::from(*box_px)
        );
    }
    let meaning = answer.entities.iter().filter(|entity| names(&entity.phrase, &thing.accept));
    let mut indices: Vec<usize> = meaning.flat_map(|entity| entity.things.iter().copied()).collect();
    indices.sort_unstable();
    indices.dedup();
    let outlined = indices.iter().filter_map(|index| answer.things.get(*index));
    let masks = outlined.map(|outlined| outlined.mask.decode()).collect::<bubo::Result<Vec<Mask>>>()?;
    if masks.is_empty() {
        return Ok(None);
    }
    let (found, truth): (Vec<Mask>, Vec<Mask>) = if thing.boxes_px.is_empty() {
        (masks, thing.drawn.iter().filter_map(|index| drawn.get(*index)).cloned().collect())
    } else {
        let of_box = |box_px: BoxPx| Mask::of_box(width, height, &box_px);
        let around = masks.iter().filter_map(Mask::bounding_box_px).map(of_box);
        (around.collect(), thing.boxes_px.iter().copied().map(of_box).collect())
    };
    Ok(Some(joined(&found, width, height).iou(&joined(&truth, width, height))))
}

/// All that is inside one of the masks.
fn joined(masks: &[Mask], width: usize, height: usize) -> Mask {
    let mut inside = vec![false; width * height];
    for mask in masks {
        inside.iter_mut().zip(mask.inside()).for_each(|(all, one)| *all |= one);
    }
    Mask::new(width, height, inside)
}

#[cfg(test)]
mod tests {
    use bubo::canvas::{ExportedThing, Rle};
    use bubo::grounding::matcher::Entity;

    use super::*;

    fn mask(columns: std::ops::Range<usize>) -> Mask {
        Mask::new(10, 4, (0..40).map(|at| columns.contains(&(at % 10))).collect())
    }

    fn answer(masks: &[Mask], entities: &[(&str, &[usize])]) -> Export {
        let thing = |mask: &Mask| ExportedThing {
            tag: "dog".into(),
            score: 0.5,
            box_px: BoxPx::from([0.0, 0.0, 10.0, 4.0]),
            mask: Rle::encode(mask),
            taught: false,
        };
        let entity = |(phrase, things): &(&str, &[usize])| Entity {
            phrase: (*phrase).into(),
            start: 0,
            end: phrase.len(),
            things: things.to_vec(),
        };
        Export {
            answer: String::new(),
            entities: entities.iter().map(entity).collect(),
            things: masks.iter().map(thing).collect(),
            sounds: vec![],
            stats: serde_json::Map::new(),
        }
    }

    #[test]
    fn outlines_are_compared_with_pixels_or_boxes() {
        let dog = |boxes_px: Vec<BoxPx>, drawn: Vec<usize>| KnownThing { accept: vec!["dog".into()], boxes_px, drawn };
        let found = answer(&[mask(0..4), mask(6..8)], &[("a cat", &[1]), ("two dogs", &[0])]);
        let drawn = [mask(2..6)];
        let of_mask = overlap(&found, &dog(vec![], vec![0]), &drawn, [10, 4]).unwrap();
        assert_eq!(of_mask, Some(2.0 / 6.0));
        let of_box = overlap(&found, &dog(vec![BoxPx::from([0.0, 0.0, 4.0, 2.0])], vec![]), &[], [10, 4]).unwrap();
        assert_eq!(of_box, Some(0.5));
        let unnamed = overlap(&answer(&[mask(0..4)], &[("a cat", &[0])]), &dog(vec![], vec![0]), &drawn, [10, 4]);
        assert_eq!(unnamed.unwrap(), None);
        let outside = overlap(&found, &dog(vec![BoxPx::from([0.0, 0.0, 14.0, 2.0])], vec![]), &[], [10, 4]);
        assert!(outside.unwrap_err().to_string().contains("reaches out of its picture of 10 × 4 pixels"));
    }

    #[test]
    fn things_of_one_phrase_count_together() {
        let found = answer(&[mask(0..2), mask(8..10)], &[("dogs", &[0, 1])]);
        let boxes_px = vec![BoxPx::from([0.0, 0.0, 2.0, 4.0]), BoxPx::from([8.0, 0.0, 10.0, 4.0])];
        let thing = KnownThing { accept: vec!["dog".into()], boxes_px, drawn: vec![] };
        assert_eq!(overlap(&found, &thing, &[], [10, 4]).unwrap(), Some(1.0));
    }
}
