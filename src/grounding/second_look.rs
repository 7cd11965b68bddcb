//! A second look at what the detector found and the tagger does not see in the picture as a whole.
//!
//! A detector of few classes calls what it has no class for by the most similar one that it has: a bison is a cow, a
//! hedgehog a bear, a drum a suitcase, pliers are a bird. So the tagger, which knows more, looks at such a box by itself.
//! Where it is surer of something else, the detection takes that name, unless that is what is in it, as the espresso in a
//! cup; where it knows what the detector found and sees nothing of it, an unsure detection is dropped.

use super::matcher::is_kind_of;
use super::scene::{is_seen, seen_by_both, shared, support};
use super::{Detection, Tag, Tagger};
use crate::error::Result;
use crate::media::{CropPx, RgbImage};

/// Boxes that are looked at again, at the most.
const MOST_PARTS: usize = 6;
/// What is looked at beyond a box on each side, as a part of its width and height.
const MARGIN: f32 = 0.1;
/// The tagger must be this sure of another name for an animal, where that is an animal, too, and for a thing a thing.
const SURE: f32 = 0.5;
/// It must be this sure where one is an animal and the other is not, or where it does not know what the detector found.
const SURE_OF_OTHER_SORT: f32 = 0.75;
/// It must be this sure of an animal that the detector takes for a person.
const SURE_OF_NO_PERSON: f32 = 0.6;
/// An animal that the tagger is this sure of in the whole picture names others that the tagger cannot tell by themselves.
const SURE_OF_PICTURE: f32 = 0.7;
/// From here on the tagger sees in the picture what the detector found.
const SEEN_IN_PICTURE: f32 = 0.3;
/// Looking at the box alone, it must be so many times surer of another name than of the detector's.
const SURER: f32 = 3.0;
/// Things other than animals that the detector is this sure of are not looked at again: a picture holds many of them.
const SURE_DETECTION: f32 = 0.8;
/// The same of persons, who are in many pictures.
const SURE_PERSON: f32 = 0.65;
/// Things that are seen less than this in a box of their own are not there, if the detector is unsure of them, too.
const UNSEEN: f32 = 0.02;
/// Below this the detector is unsure.
const UNSURE_DETECTION: f32 = 0.62;
/// Boxes that take less of the picture are too coarse, looked at by themselves, for the tagger to know better, animals
/// taken for other animals excepted: in a room or a street it calls a cup a petri dish, and a far horse nothing at all.
const LEAST_PART: f32 = 0.2;
/// Part of the smaller box by which two names of the detector for one thing overlap.
const SAME_THING: f32 = 0.3;
/// What is to eat or drink in one of these is in it: an espresso is in a cup. Bowls are not looked at again.
const VESSELS: [&str; 4] = ["bottle", "cup", "vase", "wine glass"];
/// In and on these are other things, which the tagger would name.
const PLACES: [&str; 8] = ["dining table", "bed", "couch", "bench", "bowl", "tv", "sink", "potted plant"];

/// Whether a name is of an animal.
fn is_animal(name: &str) -> bool {
    name != "person" && is_kind_of(name, "animal")
}

/// Whether the box is worth a second look.
///
/// - `part`: of the picture's area that the box takes, 0..1
fn is_doubtful(detection: &Detection, part: f32, tags: &[Tag]) -> bool {
    let support = support(&detection.label, tags);
    if is_animal(&detection.label) {
        return support < SEEN_IN_PICTURE;
    }
    let sure = if detection.label == "person" { SURE_PERSON } else { SURE_DETECTION };
    let is_open = part >= LEAST_PART && !PLACES.contains(&&*detection.label);
    is_open && support == 0.0 && detection.score < sure
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

/// What the tagger says of a detection's box by itself.
struct SecondLook {
    tags: Vec<Tag>,
    /// Part of the picture's area that the box takes, 0..1.
    part: f32,
    /// Whether the tagger knows what the detector found; of persons it knows only three sorts.
    is_known: bool,
}

impl SecondLook {
    /// Whether a name, of which the tagger is so sure, is better than the detector's.
    fn is_better(&self, name: &str, score: f32, detection: &Detection) -> bool {
        let support = support(&detection.label, &self.tags);
        let is_broader = is_kind_of(&detection.label, name);
        if score <= detection.score || score <= SURER * support || is_broader {
            return false;
        }
        let is_big = self.part >= LEAST_PART;
        match (is_animal(&detection.label), is_animal(name)) {
            // Whoever holds a tool hardly looks like one; of clothes and places that cannot be said.
            _ if detection.label == "person" => {
                let is_animal = is_animal(name) && score >= SURE_OF_NO_PERSON;
                is_big && (is_animal || is_kind_of(name, "tool") && score >= SURE_OF_OTHER_SORT)
            }
            (true, true) => score >= SURE,
            (false, false) => is_big && score >= if self.is_known { SURE } else { SURE_OF_OTHER_SORT },
            _ => is_big && score >= SURE_OF_OTHER_SORT && support < UNSEEN,
        }
    }

    /// How sure the tagger is of something to eat or drink in what the detector is sure is a vessel: what it is unsure of
    /// may be the food itself.
    fn content(&self, detection: &Detection) -> Option<f32> {
        let is_vessel = VESSELS.contains(&&*detection.label) && detection.score >= UNSURE_DETECTION;
        let (name, score) = best_name(&self.tags).filter(|_| is_vessel)?;
        (score >= SURE && is_kind_of(&name, "food")).then_some(score)
    }

    /// Whether what the detector is unsure of is not there.
    fn refutes(&self, detection: &Detection) -> bool {
        let is_unsure = detection.score < UNSURE_DETECTION && self.part >= LEAST_PART;
        is_unsure && self.is_known && support(&detection.label, &self.tags) < UNSEEN
    }
}

/// Gives doubtful detections the names that the tagger is surer of, and drops those that neither is sure of.
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
    let tags: Vec<Tag> = tags.iter().filter(|tag| is_seen(tag)).cloned().collect();
    let picture_px = (image.width() * image.height()) as f32;
    let part = |detection: &Detection| detection.box_px.area() / picture_px;
    let is_doubtful = |at: &usize| is_doubtful(&detections[*at], part(&detections[*at]), &tags);
    let doubtful: Vec<usize> = (0..detections.len()).filter(is_doubtful).take(MOST_PARTS).collect();
    if doubtful.is_empty() {
        return Ok(detections);
    }
    let parts: Vec<CropPx> = doubtful.iter().map(|at| CropPx::around(image, &detections[*at].box_px, MARGIN)).collect();
    let Some(seen) = tagger.tag_parts(image, &parts).await? else { return Ok(detections) };
    let mut looks: Vec<Option<SecondLook>> = detections.iter().map(|_| None).collect();
    for (at, tags) in doubtful.into_iter().zip(seen) {
        let label = &detections[at].label;
        let is_known = label != "person" && tagger.knows(label);
        looks[at] = Some(SecondLook { tags, part: part(&detections[at]), is_known });
    }
    Ok(renamed(detections, looks, &tags))
}

/// - `looks`: at each detection, if it was looked at again
/// - `tags`: of the whole picture
fn renamed(detections: Vec<Detection>, looks: Vec<Option<SecondLook>>, tags: &[Tag]) -> Vec<Detection> {
    let of_picture = best_name(tags).filter(|(name, score)| *score >= SURE_OF_PICTURE && is_animal(name));
    let mut kept: Vec<Detection> = Vec::new();
    let mut others: Vec<(Detection, String)> = Vec::new();
    for (detection, look) in detections.into_iter().zip(looks) {
        let Some(look) = look else {
            kept.push(detection);
            continue;
        };
        if let Some(content) = look.content(&detection) {
            // Both see it: the one the cup, the other the espresso.
            kept.push(Detection { score: seen_by_both(detection.score, content), ..detection });
            continue;
        }
        let names = [best_name(&look.tags), of_picture.clone().filter(|_| is_animal(&detection.label))];
        let better = names.into_iter().flatten().filter(|(name, score)| look.is_better(name, *score, &detection));
        match better.max_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((name, score)) if name != detection.label => {
                others.push((Detection { label: name, score, ..detection.clone() }, detection.label));
            }
            _ if look.refutes(&detection) => {}
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

    /// Half of the picture, of which the tagger knows what the detector found.
    fn look(tags: Vec<Tag>) -> Option<SecondLook> {
        Some(SecondLook { tags, part: 0.5, is_known: true })
    }

    #[test]
    fn what_the_detector_has_no_class_for_gets_the_taggers_name() {
        let crabs = vec![tag("rock crab", None, 0.46), tag("fiddler crab", None, 0.2)];
        let found = renamed(vec![detection("horse", 0.56, LEFT)], vec![look(crabs)], &[]);
        assert_eq!(labels(&found), ["crab"]);
        let ox = vec![tag("bison", None, 0.65), tag("ox", Some("cow"), 0.3)];
        let found = renamed(vec![detection("cow", 0.6, LEFT)], vec![look(ox)], &[]);
        assert_eq!(labels(&found), ["cow"], "the tagger half sees one, too");
        let unsure = vec![tag("gazelle", None, 0.3)];
        let found = renamed(vec![detection("giraffe", 0.85, LEFT)], vec![look(unsure)], &[]);
        assert_eq!(labels(&found), ["giraffe"]);
        let drum = || vec![tag("drum", None, 0.9)];
        assert_eq!(labels(&renamed(vec![detection("suitcase", 0.4, LEFT)], vec![look(drum())], &[])), ["drum"]);
        assert_eq!(labels(&renamed(vec![detection("bird", 0.5, LEFT)], vec![look(drum())], &[])), ["drum"]);
        let behind = [drum(), vec![tag("beagle", Some("dog"), 0.03)]].concat();
        let found = renamed(vec![detection("dog", 0.6, LEFT)], vec![look(behind)], &[]);
        assert_eq!(labels(&found), ["dog"], "a dog behind a drum is no drum");
    }

    #[test]
    fn the_herd_is_what_its_nearest_is() {
        let picture = [tag("bison", None, 0.9)];
        let detections = vec![detection("cow", 0.8, LEFT), detection("sheep", 0.6, RIGHT)];
        let seen = vec![look(vec![tag("bison", None, 0.95)]), look(vec![tag("miniature poodle", Some("dog"), 0.2)])];
        assert_eq!(labels(&renamed(detections, seen, &picture)), ["bison", "bison"]);
    }

    #[test]
    fn one_animal_that_the_detector_takes_for_several_is_one() {
        let panda = || look(vec![tag("lesser panda", None, 0.8)]);
        let detections = vec![detection("bear", 0.5, [30.0, 0.0, 100.0, 100.0]), detection("bird", 0.6, LEFT)];
        assert_eq!(labels(&renamed(detections, vec![panda(), panda()], &[])), ["lesser panda"]);
        let two = vec![detection("bear", 0.5, LEFT), detection("bear", 0.6, RIGHT)];
        assert_eq!(labels(&renamed(two, vec![panda(), panda()], &[])), ["lesser panda", "lesser panda"]);
    }

    #[test]
    fn what_neither_is_sure_of_is_not_there() {
        let look = |part, is_known| vec![Some(SecondLook { tags: vec![], part, is_known })];
        let left = |label: &str, score, look| labels(&renamed(vec![detection(label, score, LEFT)], look, &[])).len();
        assert_eq!((left("bird", 0.48, look(0.5, true)), left("cup", 0.4, look(0.5, true))), (0, 0));
        assert_eq!(left("bird", 0.7, look(0.5, true)), 1, "the detector is sure");
        assert_eq!(left("scissors", 0.5, look(0.5, false)), 1, "the tagger does not know them");
        assert_eq!(left("cup", 0.5, look(0.01, true)), 1, "too small to be refuted");
    }

    #[test]
    fn small_things_keep_the_detectors_name_and_small_animals_do_not() {
        let named = |label: &str, name: &str| {
            let look = Some(SecondLook { tags: vec![tag(name, None, 0.9)], part: 0.1, is_known: true });
            labels(&renamed(vec![detection(label, 0.5, LEFT)], vec![look], &[])).join(" ")
        };
        assert_eq!((&*named("cup", "petri dish"), &*named("teddy bear", "beagle")), ("cup", "teddy bear"));
        assert_eq!(named("sheep", "ring-tailed lemur"), "ring-tailed lemur");
    }

    #[test]
    fn a_cup_keeps_its_name_whatever_is_in_it() {
        let named = |label: &str, name: &str| {
            labels(&renamed(vec![detection(label, 0.7, LEFT)], vec![look(vec![tag(name, None, 0.95)])], &[])).join(" ")
        };
        assert_eq!((&*named("cup", "espresso"), &*named("wine glass", "red wine")), ("cup", "wine glass"));
        assert_eq!((&*named("cup", "bucket"), &*named("kite", "espresso")), ("bucket", "espresso"));
        let espresso = look(vec![tag("espresso", None, 0.9)]);
        let cup = renamed(vec![detection("cup", 0.7, LEFT)], vec![espresso], &[]);
        assert!((cup[0].score - 0.97).abs() < 1e-6, "both are witnesses: {}", cup[0].score);
        let ice_cream = look(vec![tag("ice cream", None, 0.9)]);
        let found = renamed(vec![detection("cup", 0.45, LEFT)], vec![ice_cream], &[]);
        assert_eq!(labels(&found), ["ice cream"], "the detector is unsure of the cup");
    }

    #[test]
    fn persons_are_no_animals_and_no_tools() {
        let named = |score, part, name: &str, sure| {
            let look = Some(SecondLook { tags: vec![tag(name, None, sure)], part, is_known: true });
            labels(&renamed(vec![detection("person", score, LEFT)], vec![look], &[])).join(" ")
        };
        assert_eq!((&*named(0.58, 0.4, "macaque", 0.77), &*named(0.59, 0.4, "hammer", 0.88)), ("macaque", "hammer"));
        assert_eq!(named(0.65, 0.4, "suit", 0.9), "person", "who wears a suit is somebody");
        assert_eq!(named(0.65, 0.01, "macaque", 0.77), "person", "too small to tell");
    }

    #[test]
    fn only_what_the_picture_does_not_support_is_looked_at_again() {
        let cat = [tag("tabby cat", Some("cat"), 0.6)];
        let doubtful = |label: &str, score, part| is_doubtful(&detection(label, score, LEFT), part, &cat);
        assert!(!doubtful("cat", 0.5, 0.5) && doubtful("dog", 0.9, 0.5));
        assert!(!doubtful("bowl", 0.4, 0.5) && !doubtful("cup", 0.8, 0.5) && doubtful("cup", 0.7, 0.5));
        assert!(doubtful("person", 0.6, 0.5) && !doubtful("person", 0.7, 0.5));
        assert!(!doubtful("cup", 0.7, 0.1) && doubtful("giraffe", 0.9, 0.01), "small things keep their names");
    }
}
