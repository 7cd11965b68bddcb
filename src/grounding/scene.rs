//! From a picture to the things in it: tags, boxes and masks put together.

use std::rc::Rc;

use super::matcher::{covers, is_kind_of};
use super::outlines::settled;
use super::{Detection, Detector, Found, Segmenter, Tag, Tagger, Thing, second_look};
use crate::error::Result;
use crate::host::Host;
use crate::media::{BoxPx, Mask, RgbImage};

/// More things than this are not outlined.
const MOST_THINGS: usize = 16;
/// Two boxes that overlap more than this are one thing, whatever they are called.
const SAME_PLACE_IOU: f32 = 0.7;
/// A tag that points at a thing with this overlap is another name of it: places of tags are coarse.
const TAG_PLACE_IOU: f32 = 0.5;
/// Tags that are less sure are for those who ask for just that.
const SEEN: f32 = 0.1;
/// A tag without a detection must be this confident to become a thing of its own.
const LEAST_TAG_SCORE: f32 = 0.3;
/// From here on a fine name is trusted before its kind's.
const SURE_TAG_SCORE: f32 = 0.5;
/// Tags of one kind that are together this sure overrule a detection of something else that is less sure than
/// [`UNSURE_DETECTION`] and lies where they point: close up, the detector takes animals for persons.
const OVERRULING: f32 = 0.9;
/// The same for an animal that the tagger knows and does not see: both know it, so less is enough.
const OVERRULING_ANIMAL: f32 = 0.7;
/// Detections below this, of persons excepted, give way to a tag at their place that is as sure as [`SURE_TAG_SCORE`]. Of 19
/// photographs of GCompris whose surest detection and tag are such, the tag is nearer to what they show in 16, the detection
/// in none.
const LEAST_BESIDE_TAG: f32 = 0.5;
/// A kind of the detector's that nobody speaks of who knows which it is.
const VAGUE_KIND: &str = "sports ball";
/// Detections from here on are not renamed.
const UNSURE_DETECTION: f32 = 0.58;
/// Beside the surest detection, something else must be this sure. In 118 pictures of COCO, of what was named beside the
/// surest thing, 24 of 39 with lower scores were there, and 67 of 76 with higher ones.
const LEAST_BESIDE: f32 = 0.55;
/// The same for another one of what is sure itself.
const LEAST_AGAIN: f32 = 0.5;
/// An animal that only the detector sees, less sure than this, is none where the tagger is sure of something else.
const LEAST_ANIMAL_SCORE: f32 = 0.5;
/// The animals that detector and tagger both know.
const ANIMALS: [&str; 9] = ["bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra"];
/// Overlap with the best of these tags that such a detection must have.
const OVERRULING_IOU: f32 = 0.4;
/// Part of the smaller box that must be shared by a detection and a tag of its kind.
const KIND_OVERLAP: f32 = 0.3;

/// The three stages that look at a picture.
pub struct Eyes {
    /// Names what is there.
    pub tagger: Rc<dyn Tagger>,
    /// Finds things.
    pub detector: Rc<dyn Detector>,
    /// Outlines them.
    pub segmenter: Rc<dyn Segmenter>,
}

impl Eyes {
    /// What was found, from what detector and tagger say, most confident first: [`combined`], unless the detector [keeps
    /// all](Detector::keeps_all).
    pub fn put_together(&self, detections: Vec<Detection>, tags: Vec<Tag>) -> Vec<Found> {
        if !self.detector.keeps_all() {
            return combined(detections, tags);
        }
        let found =
            |Detection { label, score, box_px }| Found { tag: label, aliases: vec![], score, box_px, taught: false };
        detections.into_iter().map(found).collect()
    }

    /// What detector and tagger say, before [`combined`] puts it together.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] if `host` says so, and those of the stages.
    pub async fn look(&self, image: &RgbImage, host: &dyn Host) -> Result<(Vec<Detection>, Vec<Tag>)> {
        host.breathe().await?;
        let tags = self.tagger.tag(image).await?;
        host.breathe().await?;
        let phrases: Vec<String> = tags.iter().map(|tag| tag.label.clone()).collect();
        let mut detections = self.detector.detect(image, &phrases).await?;
        if !self.detector.keeps_all() {
            host.breathe().await?;
            detections = second_look::named_by_both(&*self.tagger, image, detections, &tags).await?;
        }
        Ok((detections, tags))
    }

    /// The things with their masks, which the segmenter made: [`settled`], unless the detector [keeps
    /// all](Detector::keeps_all).
    pub fn outlined(&self, found: Vec<Found>, masks: Vec<Mask>) -> Vec<Thing> {
        let things = found.into_iter().zip(masks).map(|(found, mask)| found.with_mask(mask)).collect();
        if self.detector.keeps_all() { things } else { settled(things) }
    }
}

/// Puts detections and tags together.
///
/// 1. Detector and tagger see independently, so what both see is surer, see [`agreed`].
/// 2. Of detections at the same place the most confident stays, and of a tool and a hammer the hammer; tags that are surer
///    of another kind rename it.
/// 3. A tag whose kind was detected where the tag points gives that detection its finer name as an alias; what was detected
///    as no more than a sports ball is called by it, if it is sure.
/// 4. Tags of one kind that was not detected become one thing: named by the tag if that is sure, else by the kind.
/// 5. A tag of no kind that points at a thing becomes its alias, else a thing of its own. Where it shares its place with a
///    thing in part, it must be sure of itself: for what ImageNet has no class, the tagger names something similar. A sure
///    one takes the place of an unsure detection; one that says less than the name of some thing adds nothing.
pub fn combined(detections: Vec<Detection>, mut tags: Vec<Tag>) -> Vec<Found> {
    tags.retain(is_seen);
    let mut found: Vec<Found> = Vec::new();
    for Detection { label, score, box_px } in agreed(detections, &tags) {
        let is_same_place = found.iter().any(|found| found.box_px.iou(&box_px) > SAME_PLACE_IOU);
        let overlaps = |found: &&mut Found| shared(&found.box_px, &box_px) >= KIND_OVERLAP;
        match found.iter_mut().filter(overlaps).find(|found| is_one_of_both(&found.tag, &label)) {
            // That a hammer is a tool, the matcher knows; and a question about another tool does not mean it.
            Some(thing) if is_kind_of(&thing.tag, &label) => {}
            Some(thing) => thing.tag = label,
            None if is_same_place => {}
            None => found.push(Found { tag: label, aliases: vec![], score, box_px, taught: false }),
        }
    }
    overrule(&mut found, &tags);
    for tag in tags {
        let Some(box_px) = tag.box_px else { continue };
        match tag.kind.clone().filter(|kind| *kind != tag.label) {
            Some(kind) => add_of_kind(&mut found, tag, kind, box_px),
            None => add_of_no_kind(&mut found, tag, box_px),
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST_THINGS);
    found
}

/// Whether the tagger sees what a tag names, rather than not being able to rule it out.
pub(super) fn is_seen(tag: &Tag) -> bool {
    tag.score >= SEEN
}

/// Whether one name is a broader one of the other.
fn is_one_of_both(a: &str, b: &str) -> bool {
    is_kind_of(a, b) || is_kind_of(b, a)
}

/// How sure two independent witnesses are together, 0..1 as each of them: 1 − (1 − a)(1 − b).
pub(super) fn seen_by_both(a: f32, b: f32) -> f32 {
    1.0 - (1.0 - a) * (1.0 - b)
}

/// Raises each detection by what the tagger says of its kind, see [`seen_by_both`]. Drops animals that the detector is unsure of and the tagger does not see, where the tagger is sure of something else, and what
/// is unsure beside something surer.
fn agreed(detections: Vec<Detection>, tags: &[Tag]) -> Vec<Detection> {
    let mut agreed: Vec<Detection> = detections
        .into_iter()
        .filter_map(|detection| {
            let support = support(&detection.label, tags);
            let elsewhere = |tag: &Tag| {
                let same_place = tag.box_px.is_some_and(|b| shared(&detection.box_px, &b) >= KIND_OVERLAP);
                tag.score >= SURE_TAG_SCORE && same_place
            };
            let unsure = detection.score < LEAST_ANIMAL_SCORE && ANIMALS.contains(&&*detection.label);
            let refuted = unsure && support == 0.0 && tags.iter().any(elsewhere);
            let score = seen_by_both(detection.score, support);
            (!refuted).then_some(Detection { score, ..detection })
        })
        .collect();
    agreed.sort_by(|a, b| b.score.total_cmp(&a.score));
    for other in agreed.split_off(agreed.len().min(1)) {
        let is_one_more = agreed.iter().any(|surer| surer.label == other.label) && other.score >= LEAST_AGAIN;
        if is_one_more || other.score >= LEAST_BESIDE {
            agreed.push(other);
        }
    }
    agreed
}

/// How sure the tagger is of a kind, 0..1: of all its tags together, or of what they have in common.
pub(super) fn support(kind: &str, tags: &[Tag]) -> f32 {
    let of_kind = tags.iter().filter(|tag| tag.kind.as_deref() == Some(kind));
    let named = tags.iter().filter(|tag| tag.kind.is_none() && tag.label == kind);
    let sum: f32 = of_kind.map(|tag| tag.score).sum();
    named.map(|tag| tag.score).fold(sum, f32::max).min(1.0)
}

fn overrule(found: &mut [Found], tags: &[Tag]) {
    let Some((kind, box_px)) = tags.iter().find_map(|tag| tag.kind.clone().zip(tag.box_px)) else { return };
    let sum = support(&kind, tags);
    if found.iter().any(|found| found.tag == kind) {
        return;
    }
    let overruled = |found: &&mut Found| {
        let unseen = ANIMALS.contains(&&*found.tag) && support(&found.tag, tags) == 0.0;
        let needed = if unseen { OVERRULING_ANIMAL } else { OVERRULING };
        sum >= needed && found.score < UNSURE_DETECTION && found.box_px.iou(&box_px) >= OVERRULING_IOU
    };
    if let Some(thing) = found.iter_mut().find(overruled) {
        (thing.tag, thing.score) = (kind, sum);
    }
}

fn add_of_kind(found: &mut Vec<Found>, tag: Tag, kind: String, box_px: BoxPx) {
    let of_kind = |found: &&mut Found| found.tag == kind || found.aliases.contains(&kind);
    let best = found.iter_mut().filter(of_kind).map(|found| (shared(&found.box_px, &box_px), found));
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((overlap, thing)) if overlap >= KIND_OVERLAP => {
            let is_named = thing.tag == VAGUE_KIND && tag.score >= SURE_TAG_SCORE;
            let alias = if is_named { std::mem::replace(&mut thing.tag, tag.label) } else { tag.label };
            thing.aliases.push(alias);
        }
        _ if tag.score >= SURE_TAG_SCORE => {
            found.push(Found { tag: tag.label, aliases: vec![kind], score: tag.score, box_px, taught: false });
        }
        _ if tag.score >= LEAST_TAG_SCORE => {
            found.push(Found { tag: kind, aliases: vec![tag.label], score: tag.score, box_px, taught: false });
        }
        _ => {}
    }
}

fn add_of_no_kind(found: &mut Vec<Found>, tag: Tag, box_px: BoxPx) {
    let same = |found: &Found| found.tag == tag.label || is_one_of_both(&tag.label, &found.tag);
    let there = found.iter_mut().find(|found| same(found) && shared(&found.box_px, &box_px) >= KIND_OVERLAP);
    if let Some(thing) = there {
        if is_kind_of(&tag.label, &thing.tag) {
            thing.aliases.push(tag.label);
        }
        return;
    }
    // A racket is the tennis racket, wherever the coarse place of the tag is.
    if found.iter().any(|found| covers(&tag.label, &found.tag)) {
        return;
    }
    let crowded = found.iter().any(|found| shared(&found.box_px, &box_px) >= KIND_OVERLAP);
    let least = if crowded { SURE_TAG_SCORE } else { LEAST_TAG_SCORE };
    match found.iter_mut().find(|found| found.box_px.iou(&box_px) > TAG_PLACE_IOU) {
        Some(thing) if thing.score < LEAST_BESIDE_TAG && tag.score >= SURE_TAG_SCORE && thing.tag != "person" => {
            (thing.tag, thing.score) = (tag.label, tag.score);
        }
        Some(thing) if tag.score >= LEAST_TAG_SCORE => thing.aliases.push(tag.label),
        None if tag.score >= least => {
            found.push(Found { tag: tag.label, aliases: vec![], score: tag.score, box_px, taught: false });
        }
        _ => {}
    }
}

/// Area of overlap over the smaller area.
pub(super) fn shared(a: &BoxPx, b: &BoxPx) -> f32 {
    let common = BoxPx { x0: a.x0.max(b.x0), y0: a.y0.max(b.y0), x1: a.x1.min(b.x1), y1: a.y1.min(b.y1) };
    let smaller = a.area().min(b.area());
    if smaller > 0.0 { common.area() / smaller } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(label: &str, score: f32, b: [f32; 4]) -> Detection {
        Detection { label: label.into(), score, box_px: b.into() }
    }

    fn tag(label: &str, kind: Option<&str>, score: f32, b: [f32; 4]) -> Tag {
        Tag { label: label.into(), score, box_px: Some(b.into()), kind: kind.map(Into::into) }
    }

    const LEFT: [f32; 4] = [0.0, 0.0, 50.0, 100.0];
    const RIGHT: [f32; 4] = [50.0, 0.0, 100.0, 100.0];

    fn names(found: &[Found]) -> Vec<(&str, Vec<&str>)> {
        found.iter().map(|found| (&*found.tag, found.aliases.iter().map(|alias| &**alias).collect())).collect()
    }

    #[test]
    fn a_breed_is_the_detected_animal() {
        let found = combined(vec![detection("cat", 0.7, LEFT)], vec![tag("tabby cat", Some("cat"), 0.6, LEFT)]);
        assert_eq!(names(&found), [("cat", vec!["tabby cat"])]);
        let apart = combined(vec![detection("cat", 0.7, LEFT)], vec![tag("tabby cat", Some("cat"), 0.6, RIGHT)]);
        assert_eq!(names(&apart), [("cat", vec![]), ("tabby cat", vec!["cat"])]);
        let ball = |score| vec![tag("baseball", Some("sports ball"), score, LEFT)];
        let named = combined(vec![detection("sports ball", 0.7, LEFT)], ball(0.6));
        assert_eq!(names(&named), [("baseball", vec!["sports ball"])], "as people say");
        let unsure = combined(vec![detection("sports ball", 0.7, LEFT)], ball(0.4));
        assert_eq!(names(&unsure), [("sports ball", vec!["baseball"])]);
    }

    #[test]
    fn guesses_are_left_out_beside_what_is_surer() {
        let kite = || detection("kite", 0.45, LEFT);
        for sure in [0.5, 0.7] {
            assert_eq!(names(&combined(vec![detection("dog", sure, RIGHT), kite()], vec![])), [("dog", vec![])]);
        }
        assert_eq!(names(&combined(vec![kite()], vec![])), [("kite", vec![])]);
        let beside =
            |label: &str| combined(vec![detection("dog", 0.7, RIGHT), detection(label, 0.52, LEFT)], vec![]).len();
        assert_eq!((beside("kite"), beside("dog")), (1, 2), "where there is one, a second is likelier");
        let seen = combined(vec![detection("dog", 0.7, RIGHT), kite()], vec![tag("kite", None, 0.2, LEFT)]);
        assert_eq!(names(&seen), [("dog", vec![]), ("kite", vec![])], "the tagger sees it, too");
    }

    #[test]
    fn undetected_kinds_become_one_thing() {
        let tags = vec![tag("pug", Some("dog"), 0.4, LEFT), tag("boxer dog", Some("dog"), 0.3, LEFT)];
        assert_eq!(names(&combined(vec![], tags)), [("dog", vec!["pug", "boxer dog"])]);
        let sure = vec![tag("pug", Some("dog"), 0.9, LEFT)];
        assert_eq!(names(&combined(vec![], sure)), [("pug", vec!["dog"])]);
        assert!(combined(vec![], vec![tag("pug", Some("dog"), 0.15, LEFT)]).is_empty());
    }

    #[test]
    fn sure_tags_overrule_an_unsure_detection() {
        let tags = || vec![tag("egyptian cat", Some("cat"), 0.6, LEFT), tag("tabby cat", Some("cat"), 0.35, LEFT)];
        let found = combined(vec![detection("person", 0.55, LEFT)], tags());
        assert_eq!(names(&found), [("cat", vec!["egyptian cat", "tabby cat"])]);
        let sure = combined(vec![detection("person", 0.8, LEFT)], tags());
        assert_eq!(names(&sure), [("person", vec![]), ("egyptian cat", vec!["cat", "tabby cat"])]);
    }

    #[test]
    fn what_both_see_is_surer() {
        let kitten = || vec![detection("dog", 0.55, LEFT), detection("cat", 0.46, LEFT)];
        let tags = || vec![tag("egyptian cat", Some("cat"), 0.22, LEFT), tag("tabby cat", Some("cat"), 0.18, LEFT)];
        let found = combined(kitten(), tags());
        assert_eq!(names(&found), [("cat", vec!["egyptian cat", "tabby cat"])]);
        assert!((found[0].score - (1.0 - 0.54 * 0.6)).abs() < 1e-5, "{}", found[0].score);
        assert_eq!(names(&combined(kitten(), vec![])), [("dog", vec![])]);
    }

    #[test]
    fn an_animal_that_only_the_detector_half_sees_is_none() {
        let panda = |place| vec![tag("giant panda", None, 0.96, place)];
        let found = combined(vec![detection("horse", 0.47, LEFT)], panda(LEFT));
        assert_eq!(names(&found), [("giant panda", vec![])]);
        // Elsewhere in the picture there may be one, and of things other than animals a picture holds many.
        let apart = combined(vec![detection("horse", 0.47, LEFT)], panda(RIGHT));
        assert_eq!(names(&apart), [("giant panda", vec![]), ("horse", vec![])]);
        let cup = combined(vec![detection("cup", 0.5, LEFT)], panda(LEFT));
        assert_eq!(names(&cup), [("cup", vec!["giant panda"])]);
        let pig = vec![tag("wild boar", Some("pig"), 0.34, LEFT), tag("hog", Some("pig"), 0.4, LEFT)];
        assert_eq!(names(&combined(vec![detection("dog", 0.55, LEFT)], pig)), [("pig", vec!["wild boar", "hog"])]);
    }

    #[test]
    fn a_tool_that_is_a_hammer_is_one_thing() {
        let detections = || vec![detection("tool", 0.9, LEFT), detection("hammer", 0.6, [5.0, 0.0, 50.0, 90.0])];
        assert_eq!(names(&combined(detections(), vec![])), [("hammer", vec![])]);
        let tags = vec![tag("tool", None, 0.7, [0.0, 0.0, 60.0, 100.0])];
        let hammer = combined(vec![detection("hammer", 0.6, LEFT)], tags);
        assert_eq!(names(&hammer), [("hammer", vec![])]);
        let racket = combined(vec![detection("tennis racket", 0.7, LEFT)], vec![tag("racket", None, 0.9, RIGHT)]);
        assert_eq!(names(&racket), [("tennis racket", vec![])], "places of tags are coarse");
    }

    #[test]
    fn a_sure_tag_stands_before_what_is_hardly_detected_at_its_place() {
        let dish = || vec![tag("solar dish", None, 0.64, LEFT)];
        assert_eq!(names(&combined(vec![detection("bench", 0.47, LEFT)], dish())), [("solar dish", vec![])]);
        assert_eq!(names(&combined(vec![detection("person", 0.47, LEFT)], dish()))[0].0, "person");
    }

    #[test]
    fn other_tags_stand_for_themselves() {
        let detections = vec![detection("person", 0.8, LEFT), detection("dog", 0.5, [1.0, 0.0, 50.0, 100.0])];
        let tags = vec![
            tag("kimono", None, 0.5, [0.0, 0.0, 52.0, 100.0]),
            tag("castle", None, 0.3, RIGHT),
            tag("moat", None, 0.12, [0.0, 90.0, 100.0, 100.0]),
            tag("cheetah", None, 0.4, [0.0, 0.0, 20.0, 40.0]),
        ];
        assert_eq!(names(&combined(detections, tags)), [("person", vec!["kimono"]), ("castle", vec![])]);
    }
}
