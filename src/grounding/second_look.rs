//! A second look at what the detector found and the tagger does not see in the picture as a whole.
//!
//! A detector of few classes calls what it has no class for by the most similar one that it has: a bison is a cow, a
//! hedgehog a bear, a drum a suitcase. So the tagger, which knows more, looks at such a box by itself; where it is surer of
//! something else, the detection takes that name.

use super::matcher::is_kind_of;
use super::scene::{ANIMALS, LEAST_ANIMAL_SCORE, shared, support};
use super::{Detection, Tag, Tagger};
use crate::error::Result;
use crate::media::{CropPx, RgbImage};

/// Boxes that are looked at again, at the most.
const MOST_PARTS: usize = 6;
/// What is looked at beyond a box on each side, as a part of its width and height.
const MARGIN: f32 = 0.1;
/// The tagger must be this sure of another name.
const SURE: f32 = 0.5;
/// An animal that the tagger is this sure of in the whole picture names others that the tagger cannot tell by themselves.
const SURE_OF_PICTURE: f32 = 0.8;
/// From here on the tagger sees in the picture what the detector found.
const SEEN_IN_PICTURE: f32 = 0.3;
/// Looking at the box alone, it must be so many times surer of another name than of the detector's.
const SURER: f32 = 3.0;
/// Things other than animals that the detector is this sure of are not looked at again: a picture holds many of them.
const SURE_DETECTION: f32 = 0.6;
/// Part of the smaller box by which two names of the detector for one thing overlap.
const SAME_THING: f32 = 0.3;
/// In and on these are other things, which the tagger would name.
const PLACES: [&str; 9] = ["person", "dining table", "bed", "couch", "bench", "bowl", "tv", "sink", "potted plant"];

/// Whether a name is of an animal.
fn is_animal(name: &str) -> bool {
    name != "person" && is_kind_of(name, "animal")
}

/// Whether the box is worth a second look.
fn is_doubtful(detection: &Detection, tags: &[Tag]) -> bool {
    let support = support(&detection.label, tags);
    if is_animal(&detection.label) {
        return support < SEEN_IN_PICTURE;
    }
    support == 0.0 && detection.score < SURE_DETECTION && !PLACES.contains(&&*detection.label)
}

/// What the tags name, and how surely: a kind where the best tag has one, else the tag itself, or what several have in
/// common: `rock crab` and `fiddler crab` are crabs.
fn best_name(tags: &[Tag]) -> Option<(String, f32)> {
    let best = tags.first()?;
    if let Some(kind) = &best.kind {
        return Some((kind.clone(), support(kind, tags)));
    }
    let last = best.label.rsplit(' ').next().unwrap_or(&best.label);
    let alike = |tag: &&Tag| tag.label == last || is_kind_of(&tag.label, last);
    let sum = if is_kind_of(&best.label, last) { tags.iter().filter(alike).map(|tag| tag.score).sum() } else { 0.0 };
    let name = if best.score >= SURE || sum < SURE { &best.label } else { last };
    Some((name.to_owned(), best.score.max(sum)))
}

/// Gives doubtful detections the names that the tagger is surer of, and drops animals that neither is sure of.
///
/// - `tags`: what the tagger sees in the whole picture
///
/// # Errors
/// Those of the tagger.
pub async fn named_by_both(
    tagger: &dyn Tagger,
    image: &RgbImage,
    detections: Vec<Detection>,
    tags: &[Tag],
) -> Result<Vec<Detection>> {
    let doubtful: Vec<usize> =
        (0..detections.len()).filter(|at| is_doubtful(&detections[*at], tags)).take(MOST_PARTS).collect();
    if doubtful.is_empty() {
        return Ok(detections);
    }
    let parts: Vec<CropPx> = doubtful.iter().map(|at| CropPx::around(image, &detections[*at].box_px, MARGIN)).collect();
    let Some(seen) = tagger.tag_parts(image, &parts).await? else { return Ok(detections) };
    let mut seen_in: Vec<Option<Vec<Tag>>> = detections.iter().map(|_| None).collect();
    doubtful.into_iter().zip(seen).for_each(|(at, seen)| seen_in[at] = Some(seen));
    Ok(renamed(detections, &seen_in, tags))
}

/// - `seen_in`: of each detection, the tags of its box, if it was looked at again
/// - `tags`: of the whole picture
fn renamed(detections: Vec<Detection>, seen_in: &[Option<Vec<Tag>>], tags: &[Tag]) -> Vec<Detection> {
    let of_picture = best_name(tags).filter(|(name, score)| *score >= SURE_OF_PICTURE && is_animal(name));
    let mut kept: Vec<Detection> = Vec::new();
    let mut others: Vec<(Detection, String)> = Vec::new();
    for (detection, seen) in detections.into_iter().zip(seen_in) {
        let Some(seen) = seen else {
            kept.push(detection);
            continue;
        };
        let support = support(&detection.label, seen);
        let is_fitting = |(name, score): &(String, f32)| {
            let is_surer = *score >= SURE && *score > detection.score && *score > SURER * support;
            is_surer && is_animal(name) == is_animal(&detection.label)
        };
        let in_part = best_name(seen).filter(is_fitting);
        match in_part.or_else(|| of_picture.clone().filter(is_fitting)) {
            Some((name, score)) if name != detection.label => {
                others.push((Detection { label: name, score, ..detection.clone() }, detection.label));
            }
            _ if ANIMALS.contains(&&*detection.label) && detection.score < LEAST_ANIMAL_SCORE && support == 0.0 => {}
            _ => kept.push(detection),
        }
    }
    others.sort_by(|a, b| b.0.score.total_cmp(&a.0.score));
    let mut chosen: Vec<(Detection, String)> = Vec::new();
    for (detection, before) in others {
        // What the detector was in two minds about is one thing.
        let is_same = |(other, other_before): &(Detection, String)| {
            other.label == detection.label
                && *other_before != before
                && shared(&other.box_px, &detection.box_px) >= SAME_THING
        };
        if !chosen.iter().any(is_same) {
            chosen.push((detection, before));
        }
    }
    kept.extend(chosen.into_iter().map(|(detection, _)| detection));
    kept.sort_by(|a, b| b.score.total_cmp(&a.score));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(label: &str, score: f32, b: [f32; 4]) -> Detection {
        Detection { label: label.into(), score, box_px: b.into() }
    }

    fn tag(label: &str, kind: Option<&str>, score: f32) -> Tag {
        Tag { label: label.into(), score, box_px: None, kind: kind.map(Into::into) }
    }

    const LEFT: [f32; 4] = [0.0, 0.0, 50.0, 100.0];
    const RIGHT: [f32; 4] = [50.0, 0.0, 100.0, 100.0];

    fn labels(detections: &[Detection]) -> Vec<&str> {
        detections.iter().map(|detection| &*detection.label).collect()
    }

    #[test]
    fn what_the_detector_has_no_class_for_gets_the_taggers_name() {
        let crabs = vec![tag("rock crab", None, 0.46), tag("fiddler crab", None, 0.2)];
        let found = renamed(vec![detection("horse", 0.56, LEFT)], &[Some(crabs)], &[]);
        assert_eq!(labels(&found), ["crab"]);
        let ox = vec![tag("bison", None, 0.65), tag("ox", Some("cow"), 0.3)];
        let found = renamed(vec![detection("cow", 0.6, LEFT)], &[Some(ox)], &[]);
        assert_eq!(labels(&found), ["cow"], "the tagger half sees one, too");
        let unsure = vec![tag("gazelle", None, 0.3)];
        let found = renamed(vec![detection("giraffe", 0.85, LEFT)], &[Some(unsure)], &[]);
        assert_eq!(labels(&found), ["giraffe"]);
        let drum = || vec![Some(vec![tag("drum", None, 0.9)])];
        assert_eq!(labels(&renamed(vec![detection("suitcase", 0.4, LEFT)], &drum(), &[])), ["drum"]);
        let found = renamed(vec![detection("dog", 0.6, LEFT)], &drum(), &[]);
        assert_eq!(labels(&found), ["dog"], "a dog behind a drum is no drum");
    }

    #[test]
    fn the_herd_is_what_its_nearest_is() {
        let picture = [tag("bison", None, 0.9)];
        let detections = vec![detection("cow", 0.8, LEFT), detection("sheep", 0.6, RIGHT)];
        let seen = [Some(vec![tag("bison", None, 0.95)]), Some(vec![tag("miniature poodle", Some("dog"), 0.2)])];
        assert_eq!(labels(&renamed(detections, &seen, &picture)), ["bison", "bison"]);
    }

    #[test]
    fn one_animal_that_the_detector_takes_for_several_is_one() {
        let panda = || Some(vec![tag("lesser panda", None, 0.8)]);
        let detections = vec![detection("bear", 0.5, [30.0, 0.0, 100.0, 100.0]), detection("bird", 0.6, LEFT)];
        assert_eq!(labels(&renamed(detections, &[panda(), panda()], &[])), ["lesser panda"]);
        let two = vec![detection("bear", 0.5, LEFT), detection("bear", 0.6, RIGHT)];
        assert_eq!(labels(&renamed(two, &[panda(), panda()], &[])), ["lesser panda", "lesser panda"]);
    }

    #[test]
    fn animals_that_neither_is_sure_of_are_none() {
        let nothing = || [Some(vec![])];
        assert!(renamed(vec![detection("bird", 0.48, LEFT)], &nothing(), &[]).is_empty());
        assert_eq!(labels(&renamed(vec![detection("bird", 0.6, LEFT)], &nothing(), &[])), ["bird"]);
        assert_eq!(labels(&renamed(vec![detection("cup", 0.4, LEFT)], &nothing(), &[])), ["cup"]);
    }

    #[test]
    fn only_what_the_picture_does_not_support_is_looked_at_again() {
        let cat = [tag("tabby cat", Some("cat"), 0.6)];
        assert!(!is_doubtful(&detection("cat", 0.5, LEFT), &cat) && is_doubtful(&detection("dog", 0.9, LEFT), &cat));
        assert!(!is_doubtful(&detection("bowl", 0.4, LEFT), &cat) && !is_doubtful(&detection("cup", 0.7, LEFT), &cat));
        assert!(is_doubtful(&detection("giraffe", 0.9, LEFT), &[]));
    }
}
