//! Scenes of known content without pictures: what the frozen encoder would have made of them.
//!
//! A row of the classifier is a prototype of the features of its class. Features that speak for it are put into some
//! cells of a map, over sparse noise; hints come from the same classifier as those of a real picture.

use anyhow::Result;
use bubo::encoders::joiner::{self, spread};
use bubo::grounding::scene::combined;
use bubo::grounding::{Detection, Tag};
use bubo::media::BoxPx;
use bubo::session::joining::MOST_TAGS;

use crate::frozen::{View, picture_view, sound_view};
use crate::random::Random;
use crate::vocabulary::Vocabulary;

/// Mean and deviation of the logit of the right class, as in maps of photographs.
const PICTURE_LOGIT: (f32, f32) = (8.3, 2.0);
const SOUND_LOGIT: (f32, f32) = (1.5, 1.5);
/// Mean logit of what is only just heard behind a sound, and part of the sounds behind which something is heard well.
const FAINT_LOGIT: f32 = -2.5;
const SECOND_HEARD: f32 = 0.35;
/// Highest feature: EfficientNet-lite's last activation is ReLU6.
const MOST: f32 = 6.0;
/// Confidence below which the tagger does not name a class among the facts, as in sessions.
const LEAST_TAG: f32 = 0.1;
/// Part of the pictures with more than one or two things, how many small ones there are at most, and part of those that
/// are what the one before is.
const CROWDED: f32 = 0.4;
const MOST_SMALL: usize = 4;
const SAME_AGAIN: f32 = 0.35;
/// Sides of the picture that boxes are laid in, and the part of it that a tag's box has.
const SIDE: usize = 100;
const TAG_SIZE: [f32; 2] = [0.5, 0.6];

/// The classifier of an encoder.
#[derive(Debug, Clone, Copy)]
pub struct Prototypes<'a> {
    /// `[classes, width]` and the biases.
    pub classifier: &'a (Vec<f32>, Vec<f32>),
    /// Width of a feature vector.
    pub width: usize,
}

/// A thing of a simulated picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// Class of the tagger, if it has one for this thing.
    pub tag: Option<usize>,
    /// Class of the detector, if it has one.
    pub detection: Option<usize>,
    /// Left, top, right, bottom, 0..1.
    pub area: [f32; 4],
}

impl Placed {
    fn centre(&self) -> [f32; 2] {
        [(self.area[0] + self.area[2]) / 2.0, (self.area[1] + self.area[3]) / 2.0]
    }
}

impl Prototypes<'_> {
    fn row(&self, class: usize) -> &[f32] {
        &self.classifier.0[class * self.width..][..self.width]
    }

    fn logits(&self, features: &[f32]) -> Vec<f32> {
        let rows = self.classifier.0.chunks_exact(self.width).zip(&self.classifier.1);
        rows.map(|(row, bias)| dot(row, features) + bias).collect()
    }

    /// Features that speak for a class: its most positive weights, each more or less, as strong as they may be.
    fn pattern(&self, class: usize, random: &mut Random) -> Vec<f32> {
        let row = self.row(class);
        let mut sorted = row.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let threshold = sorted[(random.between(0.15, 0.35) * row.len() as f32) as usize].max(0.0);
        row.iter().map(|w| (w - threshold).max(0.0) * (0.6 * random.normal()).exp()).collect()
    }

    /// A picture with these things: the first is the main one.
    ///
    /// # Errors
    /// Never; the signature is that of the facts.
    pub fn picture(
        &self,
        things: &[Placed],
        config: &joiner::Config,
        known: Known,
        random: &mut Random,
    ) -> Result<View> {
        let (places, width) = (config.places, self.width);
        let side = places.isqrt();
        let mut features = noise(places * width, 0.06, 0.5, random);
        for (rank, thing) in things.iter().enumerate() {
            let Some(class) = thing.tag else { continue };
            let pattern = self.pattern(class, random);
            let inside = |place: usize| {
                let at = |index: usize| (index as f32 + 0.5) / side as f32;
                let (x, y) = (at(place % side), at(place / side));
                let [x0, y0, x1, y1] = thing.area;
                (x0..x1).contains(&x) && (y0..y1).contains(&y)
            };
            let mut gains: Vec<f32> = (0..places)
                .map(|place| if inside(place) && random.happens(0.6) { (0.5 * random.normal()).exp() } else { 0.0 })
                .collect();
            if gains.iter().all(|gain| *gain == 0.0) {
                let [x, y] = thing.centre().map(|c| ((c * side as f32) as usize).min(side - 1));
                gains[y * side + x] = 1.0;
            }
            // The class's mean logit is linear in the strength, so the strength follows from the wanted logit.
            let wanted = PICTURE_LOGIT.0 + PICTURE_LOGIT.1 * random.normal() - 1.5 * rank as f32;
            let unit = dot(self.row(class), &pattern) * gains.iter().sum::<f32>() / places as f32;
            let strength = wanted.max(3.0) / unit.max(1e-6);
            for (cell, gain) in features.chunks_exact_mut(width).zip(&gains) {
                cell.iter_mut().zip(&pattern).for_each(|(x, p)| *x = (*x + strength * gain * p).min(MOST));
            }
        }
        let tags = self.tags(&features, places, known.vocabulary);
        let sure = tags.iter().filter(|tag| tag.score >= LEAST_TAG).cloned().collect();
        let found = combined(detections(things, known, random), sure);
        picture_view(features, found, &tags, [SIDE; 2])
    }

    /// What the classifier says of the map: its likeliest classes, each around the centre of the places that speak for it.
    fn tags(&self, features: &[f32], places: usize, vocabulary: &Vocabulary) -> Vec<Tag> {
        let mut pooled = vec![0.0; self.width];
        for cell in features.chunks_exact(self.width) {
            pooled.iter_mut().zip(cell).for_each(|(sum, x)| *sum += x / places as f32);
        }
        let logits = self.logits(&pooled);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let top = order.first().map_or(0.0, |class| logits[*class]);
        let sum: f32 = logits.iter().map(|x| (x - top).exp()).sum();
        let side = places.isqrt().max(1);
        let tag = |class: usize| {
            let activation = |place: usize| {
                dot(self.row(class), &features[place * self.width..][..self.width]) + self.classifier.1[class]
            };
            let excess: Vec<f32> = (0..places).map(|place| (activation(place) - logits[class]).max(0.0)).collect();
            let total = excess.iter().sum::<f32>().max(1e-6);
            let centre = |at: fn(usize, usize) -> usize| {
                let sum: f32 = excess.iter().enumerate().map(|(place, x)| x * (at(place, side) as f32 + 0.5)).sum();
                sum / total / side as f32
            };
            let centre = [centre(|place, side| place % side), centre(|place, side| place / side)];
            let noun = &vocabulary.tagger[class];
            let kind = (noun.kind != noun.name && vocabulary.is_named_kind(class)).then(|| noun.kind.clone());
            let box_px = Some(box_around(centre, TAG_SIZE));
            Tag { label: noun.name.clone(), score: (logits[class] - top).exp() / sum, box_px, kind }
        };
        order.into_iter().take(MOST_TAGS).map(tag).collect()
    }

    /// A sound of this class, with pauses, over something else, which is fainter and often not heard.
    ///
    /// - `labels`: names of the classes
    pub fn sound(&self, class: usize, other: usize, patches: usize, labels: &[String], random: &mut Random) -> View {
        let width = self.width;
        let heard = 1 + random.below(patches);
        let (pattern, faint) = (self.pattern(class, random), self.pattern(other, random));
        let mut features = noise(heard * width, 0.1, 0.1, random);
        let certain = random.below(heard);
        let is_heard = random.happens(SECOND_HEARD);
        for (index, patch) in features.chunks_exact_mut(width).enumerate() {
            let mut add = |class: usize, pattern: &[f32], wanted: f32| {
                let bias = self.classifier.1[class];
                let strength = (wanted - bias).max(0.5) / dot(self.row(class), pattern).max(1e-6);
                patch.iter_mut().zip(pattern).for_each(|(x, p)| *x += strength * p);
            };
            if index == certain || random.happens(0.6) {
                add(class, &pattern, SOUND_LOGIT.0 + SOUND_LOGIT.1 * random.normal());
            }
            if random.happens(0.3) {
                let wanted = if is_heard { SOUND_LOGIT.0 - 1.0 } else { FAINT_LOGIT };
                add(other, &faint, wanted + random.normal());
            }
        }
        let logits: Vec<f32> = features.chunks_exact(width).flat_map(|patch| self.logits(patch)).collect();
        let chosen = spread(heard, patches);
        let features = chosen.iter().flat_map(|at| &features[*at as usize * width..][..width]).copied().collect();
        sound_view(features, &logits, labels)
    }
}

/// A box with that centre and size, both 0..1, within the picture.
fn box_around([x, y]: [f32; 2], [width, height]: [f32; 2]) -> BoxPx {
    let edge = |at: f32| at.clamp(0.0, 1.0) * SIDE as f32;
    let (x0, x1) = (edge(x - width / 2.0), edge(x + width / 2.0));
    BoxPx { x0, y0: edge(y - height / 2.0), x1, y1: edge(y + height / 2.0) }
}

/// What the detector would say: it misses some things, and sees some that are not there.
fn detections(things: &[Placed], known: Known, random: &mut Random) -> Vec<Detection> {
    let label = |class: usize| known.vocabulary.detector[class].name.clone();
    let mut found = Vec::new();
    for thing in things {
        let Some(class) = thing.detection.filter(|_| random.happens(0.8)) else { continue };
        let mut jitter = |x: f32| (x + 0.04 * random.normal()).clamp(0.0, 1.0);
        let (centre, [x0, y0, x1, y1]) = (thing.centre().map(&mut jitter), thing.area);
        let box_px = box_around(centre, [x1 - x0, y1 - y0].map(&mut jitter));
        found.push(Detection { label: label(class), score: random.between(0.36, 0.9), box_px });
    }
    if random.happens(0.2) {
        let centre = [random.unit(), random.unit()];
        let box_px = box_around(centre, [random.between(0.1, 0.6), random.between(0.1, 0.6)]);
        if let Some(class) = random.choose(&known.allowed.detector) {
            found.push(Detection { label: label(*class), score: random.between(0.35, 0.5), box_px });
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

/// Random things of kinds that training may know: one or two side by side, or a main one and smaller ones anywhere.
pub fn random_things(known: Known, random: &mut Random) -> Vec<Placed> {
    let mut things = main_things(known, random);
    if random.happens(CROWDED) {
        things.truncate(1);
        for _ in 0..=random.below(MOST_SMALL) {
            let before = things.last().and_then(|thing| thing.detection).filter(|_| random.happens(SAME_AGAIN));
            let detection = before.or_else(|| random.choose(&known.allowed.detector).copied());
            let [width, height] = [random.between(0.08, 0.5), random.between(0.08, 0.6)];
            let [left, top] = [random.between(0.0, 1.0 - width), random.between(0.0, 1.0 - height)];
            things.push(Placed { tag: None, detection, area: [left, top, left + width, top + height] });
        }
    }
    things
}

/// One or two things side by side.
fn main_things(known: Known, random: &mut Random) -> Vec<Placed> {
    let Known { vocabulary, allowed } = known;
    let count = if random.happens(0.35) { 2 } else { 1 };
    let mut sides = [0.0, 0.5];
    if random.happens(0.5) {
        sides.reverse();
    }
    let mut things = Vec::new();
    for side in sides.into_iter().take(count) {
        let detection = if random.happens(0.4) { random.choose(&allowed.detector).copied() } else { None };
        let kind = detection.map(|class| vocabulary.detector[class].kind.as_str());
        let of_kind = |class: &&usize| kind.is_none_or(|kind| vocabulary.tagger[**class].kind == kind);
        let tags: Vec<usize> = allowed.tagger.iter().filter(of_kind).copied().collect();
        let tag = random.choose(&tags).copied();
        let detection = detection.or_else(|| {
            let kind = &vocabulary.tagger[tag?].kind;
            vocabulary.detector.iter().position(|noun| noun.kind == *kind)
        });
        let width = if count == 2 { random.between(0.25, 0.48) } else { random.between(0.3, 0.95) };
        let room = if count == 2 { 0.5 } else { 1.0 } - width;
        let left = if count == 2 { side } else { 0.0 } + random.between(0.0, room);
        let height = random.between(0.35, 0.95);
        let top = random.between(0.0, 1.0 - height);
        things.push(Placed { tag, detection, area: [left, top, left + width, top + height] });
    }
    things
}

/// Names of things, and which of them training may know.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Names.
    pub vocabulary: &'a Vocabulary,
    /// Classes that training may know.
    pub allowed: &'a Allowed,
}

/// Classes whose kinds are not kept for the test.
#[derive(Debug)]
pub struct Allowed {
    /// Of the tagger.
    pub tagger: Vec<usize>,
    /// Of the detector.
    pub detector: Vec<usize>,
}

/// Sparse noise: `share` of the numbers are exponential with that mean.
fn noise(count: usize, share: f32, mean: f32, random: &mut Random) -> Vec<f32> {
    let mut next = || if random.happens(share) { -mean * (1.0 - random.unit()).ln() } else { 0.0 };
    (0..count).map(|_| next()).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums at once, which the compiler makes a vector of.
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (x, y) in a.0.iter().zip(b.0) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + a.1.iter().zip(b.1).map(|(x, y)| x * y).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_recognised_where_it_was_put() {
        let mut random = Random::new(5, 0);
        let (classes, width) = (1000, 64);
        let classifier: (Vec<f32>, Vec<f32>) =
            ((0..classes * width).map(|_| random.normal() * 0.4).collect(), vec![0.0; classes]);
        let prototypes = Prototypes { classifier: &classifier, width };
        let qformer = serde_json::json!({"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 8, "num_query_token": 2, "encoder_width": 8});
        let config = joiner::Config {
            places: 49,
            encoder_width: width,
            hints: 9,
            qformer: serde_json::from_value(qformer).unwrap(),
            output_width: 4,
        };
        let vocabulary = Vocabulary::new().unwrap();
        let allowed = Allowed { tagger: (0..classes).collect(), detector: vec![] };
        let known = Known { vocabulary: &vocabulary, allowed: &allowed };
        let (mut named, mut left) = (0, 0);
        for class in (0..classes).step_by(50) {
            let thing = Placed { tag: Some(class), detection: None, area: [0.0, 0.2, 0.4, 0.9] };
            let view = prototypes.picture(&[thing], &config, known, &mut random).unwrap();
            assert!(view.features.iter().all(|x| (0.0..=MOST).contains(x)));
            let hint = view.hints.iter().find(|hint| hint.name == vocabulary.tagger[class].name);
            named += usize::from(hint.is_some());
            left += usize::from(hint.is_some_and(|hint| hint.centre[0] < 0.45));
        }
        assert!(named >= 18 && left >= 18, "{named} of 20 recognised, {left} on the left");
    }

    #[test]
    fn what_is_kept_for_the_test_is_not_even_seen_by_mistake() {
        let vocabulary = Vocabulary::new().unwrap();
        let allowed = Allowed { tagger: vec![], detector: vec![3, 5] };
        let known = Known { vocabulary: &vocabulary, allowed: &allowed };
        let mut random = Random::new(2, 0);
        let found: Vec<Detection> = (0..100).flat_map(|_| detections(&[], known, &mut random)).collect();
        assert!(!found.is_empty());
        let names = [3, 5].map(|class: usize| &vocabulary.detector[class].name);
        assert!(found.iter().all(|detection| names.contains(&&detection.label)));
    }

    #[test]
    fn some_pictures_are_crowded() {
        let vocabulary = Vocabulary::new().unwrap();
        let allowed = Allowed { tagger: (0..20).collect(), detector: (0..20).collect() };
        let known = Known { vocabulary: &vocabulary, allowed: &allowed };
        let counts: Vec<usize> = (0..200).map(|seed| random_things(known, &mut Random::new(seed, 0)).len()).collect();
        let share = |from: usize| counts.iter().filter(|count| **count >= from).count() as f32 / 200.0;
        assert!((0.5..0.8).contains(&share(2)) && (0.15..0.45).contains(&share(3)), "{} {}", share(2), share(3));
        assert!(counts.iter().all(|count| (1..=1 + MOST_SMALL).contains(count)));
    }
}
