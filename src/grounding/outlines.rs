//! What outlines say of boxes.
//!
//! A network that outlines what stands out around a box may outline something else: the person on the couch, one window of
//! the train. Then its outline does not fill the box. Either the box is a second one around another thing, whose outline
//! it is, or the box is all that is known of the thing.

use super::Thing;
use crate::media::Mask;

/// Overlap (IoU) of a box with that around the outline below which the outline is of something else. On 300 things of
/// COCO's training pictures, with boxes off by a twenty-fifth, U²-NetP's outlines that fill their boxes have a mean IoU of
/// .66 with the things' masks; the others .12, and their boxes .51.
const LEAST_FIT: f32 = 0.5;
/// Overlap (IoU) of two outlines from which on they are of one thing.
const SAME_OUTLINE: f32 = 0.7;

/// Things whose outlines do not fill their boxes get their boxes as outlines, and go if their outline is that of another
/// thing of their name.
pub fn settled(things: Vec<Thing>) -> Vec<Thing> {
    let is_filled =
        |thing: &Thing| thing.mask.bounding_box_px().is_some_and(|outline| outline.iou(&thing.box_px) >= LEAST_FIT);
    let (filled, others): (Vec<_>, Vec<_>) = (0..things.len()).partition(|at| is_filled(&things[*at]));
    let is_one = |a: &Thing, b: &Thing| a.tag == b.tag && a.mask.iou(&b.mask) >= SAME_OUTLINE;
    let is_double = |at: &usize| filled.iter().any(|other| is_one(&things[*at], &things[*other]));
    let (doubles, boxes): (Vec<_>, Vec<_>) = others.into_iter().partition(is_double);
    let kept = things.into_iter().enumerate().filter(|(at, _)| !doubles.contains(at));
    let settled = kept.map(|(at, thing)| match boxes.contains(&at) {
        true => Thing { mask: Mask::of_box(thing.mask.width(), thing.mask.height(), &thing.box_px), ..thing },
        false => thing,
    });
    settled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::BoxPx;

    const PICTURE: [usize; 2] = [100, 80];
    const LEFT: [f32; 4] = [0.0, 10.0, 40.0, 70.0];
    const WIDE: [f32; 4] = [0.0, 10.0, 90.0, 70.0];

    fn mask(b: [f32; 4]) -> Mask {
        Mask::of_box(PICTURE[0], PICTURE[1], &BoxPx::from(b))
    }

    fn thing(tag: &str, box_px: [f32; 4], outline: [f32; 4]) -> Thing {
        let (tag, box_px, mask) = (tag.to_owned(), BoxPx::from(box_px), mask(outline));
        Thing { tag, aliases: vec![], score: 0.8, box_px, mask, taught: false }
    }

    #[test]
    fn outlines_that_fill_their_boxes_stay() {
        let things = vec![thing("cat", LEFT, [2.0, 12.0, 38.0, 68.0]), thing("dog", WIDE, [0.0, 10.0, 60.0, 70.0])];
        assert_eq!(settled(things.clone()), things);
    }

    #[test]
    fn a_box_that_is_not_filled_is_its_own_outline() {
        let couch = || vec![thing("person", LEFT, LEFT), thing("couch", WIDE, LEFT)];
        let found = settled(couch());
        assert_eq!((found.len(), &found[0].mask, &found[1].mask), (2, &mask(LEFT), &mask(WIDE)));
        let nothing = settled(vec![thing("kite", LEFT, [0.0; 4])]);
        assert_eq!(nothing[0].mask, mask(LEFT), "nothing was outlined");
    }

    #[test]
    fn a_box_around_what_another_outlines_is_no_second_thing() {
        let owls = [thing("bird", LEFT, LEFT), thing("bird", WIDE, LEFT)];
        for order in [[0, 1], [1, 0]] {
            let found = settled(order.map(|at| owls[at].clone()).to_vec());
            assert_eq!(found, [owls[0].clone()]);
        }
        let far = vec![thing("bird", LEFT, LEFT), thing("bird", WIDE, [60.0, 10.0, 90.0, 70.0])];
        assert_eq!(settled(far).len(), 2, "something else was outlined");
    }
}
