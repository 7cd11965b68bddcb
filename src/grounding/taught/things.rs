//! Taught things in a picture: which of the boxes show one, and where one is that nothing else was found of.

use super::name::is_proper;
use super::rule::{Match, Prototype, Recogniser};
use crate::error::Result;
use crate::grounding::matcher::is_kind_of;
use crate::grounding::tagger::imagenet::active_box;
use crate::grounding::{Found, Tagger};
use crate::host::Host;
use crate::media::{BoxPx, CropPx, RgbImage};

/// What is looked at beyond a box on each side, as a part of its width and height.
const MARGIN: f32 = 0.1;
/// Deviation of the bell curve by which the places of a map count, as a part of its side: a thing fills the middle of its
/// box, and the rim is ground.
const BELL: f32 = 1.0 / 6.0;
/// Boxes that are compared at the most, the surest first: each is a run of the encoder.
const MOST_BOXES: usize = 8;
/// Classes that are searched for outside of boxes at the most, likewise.
const MOST_SEARCHED: usize = 4;
/// Cosine of the strongest place of a picture to a class from which on the class is searched for there.
const SEARCHED_COSINE: f32 = 0.3;
/// A place found by itself and a box that overlap more than this are one thing.
const SAME_PLACE_IOU: f32 = 0.5;

/// Features of a picture and of the boxes in it.
#[derive(Debug, Clone)]
pub struct Described {
    /// Of each of the first boxes.
    boxes: Vec<Vec<f32>>,
    /// Of every place of the whole picture, rows from the top, and the side of their square.
    places: Vec<Vec<f32>>,
    side: usize,
}

/// Features of one part of a picture, its middle counting most; none with a tagger that has none to give.
///
/// # Errors
/// Those of the engine.
pub async fn features_of(tagger: &dyn Tagger, image: &RgbImage, part: BoxPx) -> Result<Option<Vec<f32>>> {
    let places = places_of(tagger, image, CropPx::around(image, &part, MARGIN)).await?;
    Ok(places.map(|places| pooled(&places)))
}

/// The whole of a picture as a box.
pub fn whole(image: &RgbImage) -> BoxPx {
    BoxPx::from([0.0, 0.0, image.width() as f32, image.height() as f32])
}

/// Describes a picture and the boxes in it; none with a tagger that has no features to give.
///
/// # Errors
/// [`crate::Error::Cancelled`] if `host` says so; those of the engine.
pub async fn describe(
    tagger: &dyn Tagger,
    image: &RgbImage,
    found: &[Found],
    host: &dyn Host,
) -> Result<Option<Described>> {
    let mut boxes = Vec::new();
    for found in found.iter().take(MOST_BOXES) {
        host.breathe().await?;
        let Some(features) = features_of(tagger, image, found.box_px).await? else { return Ok(None) };
        boxes.push(features);
    }
    host.breathe().await?;
    let places = places_of(tagger, image, CropPx::whole(image)).await?;
    Ok(places.map(|places| Described { boxes, side: places.len().isqrt(), places }))
}

/// The things of a picture with the names that were taught: what is recognised comes first and keeps its other names; a
/// proper name is given once. A class that no box shows is searched for where the picture's map resembles it most.
///
/// # Errors
/// As [`describe`].
pub async fn named(
    recogniser: &Recogniser,
    described: &Described,
    tagger: &dyn Tagger,
    image: &RgbImage,
    found: &[Found],
    host: &dyn Host,
) -> Result<Vec<Found>> {
    let mut found = found.to_vec();
    let mut given = give(recogniser, described, &mut found);
    let mut searched: Vec<(usize, f32, BoxPx)> = Vec::new();
    for (at, class) in recogniser.classes().iter().enumerate().filter(|(at, _)| !given.contains(at)) {
        searched.extend(described.strongest(class, image).map(|(cosine, box_px)| (at, cosine, box_px)));
    }
    searched.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (class, _, box_px) in searched.into_iter().take(MOST_SEARCHED) {
        for part in [box_px, whole(image)] {
            host.breathe().await?;
            let Some(features) = features_of(tagger, image, part).await? else { continue };
            let Some(best) = recogniser.matches(&features).into_iter().find(|best| best.class == class) else {
                continue;
            };
            add(&mut found, &recogniser.classes()[class], best, box_px);
            given.push(class);
            break;
        }
    }
    found.sort_by_key(|found| !found.taught);
    Ok(found)
}

/// Names boxes, the surest match first, each box once. Returns the classes that were given.
fn give(recogniser: &Recogniser, described: &Described, found: &mut [Found]) -> Vec<usize> {
    let boxes = described.boxes.iter().enumerate();
    let mut matches: Vec<(usize, Match)> =
        boxes.flat_map(|(at, features)| recogniser.matches(features).into_iter().map(move |best| (at, best))).collect();
    matches.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    let mut given: Vec<usize> = Vec::new();
    for (at, best) in matches {
        let class = &recogniser.classes()[best.class];
        let taken = is_proper(&class.name) && given.contains(&best.class);
        if let Some(thing) = found.get_mut(at).filter(|thing| !thing.taught && !taken) {
            rename(thing, class, best.score);
            given.push(best.class);
        }
    }
    given
}

/// A thing that was found by itself: another name of a box at its place, else a thing of its own.
fn add(found: &mut Vec<Found>, class: &Prototype, best: Match, box_px: BoxPx) {
    let there = found.iter_mut().filter(|thing| !thing.taught).find(|thing| thing.box_px.iou(&box_px) > SAME_PLACE_IOU);
    if let Some(thing) = there {
        return rename(thing, class, best.score);
    }
    let (tag, aliases) = (class.name.clone(), class.kind.iter().cloned().collect());
    found.push(Found { tag, aliases, score: best.score, box_px, taught: true });
}

/// Gives a thing its taught name. What it was called stays as another name, unless it contradicts the taught kind.
fn rename(thing: &mut Found, class: &Prototype, score: f32) {
    let known = std::iter::once(std::mem::take(&mut thing.tag)).chain(std::mem::take(&mut thing.aliases));
    let fits = |name: &String| class.kind.as_ref().is_none_or(|kind| name == kind || is_kind_of(name, kind));
    let mut aliases: Vec<String> = class.kind.iter().cloned().collect();
    for name in known.filter(fits) {
        if !aliases.contains(&name) && name != class.name {
            aliases.push(name);
        }
    }
    *thing = Found { tag: class.name.clone(), aliases, score, box_px: thing.box_px, taught: true };
}

impl Described {
    /// Where the picture resembles a class most, and how much; none where it does not.
    fn strongest(&self, class: &Prototype, image: &RgbImage) -> Option<(f32, BoxPx)> {
        let map: Vec<f32> = self.places.iter().map(|place| class.cosine(place)).collect();
        let top = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if top < SEARCHED_COSINE {
            return None;
        }
        let (width, height) = (image.width() as f32, image.height() as f32);
        let part = active_box(&map, self.side).map_or_else(
            || whole(image),
            |[x0, y0, x1, y1]| BoxPx::from([x0 * width, y0 * height, x1 * width, y1 * height]),
        );
        Some((top, part))
    }
}

async fn places_of(tagger: &dyn Tagger, image: &RgbImage, part: CropPx) -> Result<Option<Vec<Vec<f32>>>> {
    let Some(features) = tagger.features(image, part)? else { return Ok(None) };
    let [_, dim] = features.dims_of("features of places")?;
    Ok(Some(features.to_f32().await?.chunks_exact(dim).map(<[f32]>::to_vec).collect()))
}

/// Mean of the places of a square map under a bell curve around its middle.
fn pooled(places: &[Vec<f32>]) -> Vec<f32> {
    let side = places.len().isqrt().max(1);
    let bell = |at: usize| {
        let distance = (at as f32 + 0.5) / side as f32 - 0.5;
        (-0.5 * (distance / BELL).powi(2)).exp()
    };
    let mut sum = vec![0.0; places.first().map_or(0, Vec::len)];
    let mut total = 0.0;
    for (at, place) in places.iter().enumerate() {
        let weight = bell(at / side) * bell(at % side);
        total += weight;
        sum.iter_mut().zip(place).for_each(|(sum, x)| *sum += weight * x);
    }
    sum.iter_mut().for_each(|x| *x /= total);
    sum
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lesson, taught};
    use super::super::{Lesson, Sense};
    use super::*;

    fn found(tag: &str, b: [f32; 4]) -> Found {
        Found { tag: tag.into(), aliases: vec!["pug".into()], score: 0.5, box_px: b.into(), taught: false }
    }

    fn recogniser(name: &str, kind: &str) -> Recogniser {
        let mut taught = taught();
        taught.learn(Lesson { kind: Some(kind.into()), ..lesson(name, [1.0, 0.0, 0.0, 0.0]) }).expect("an example");
        Recogniser::new(&taught, Sense::Picture).expect("one class")
    }

    #[test]
    fn a_proper_name_is_given_to_the_surest_box_and_a_noun_to_all() {
        let boxes = vec![vec![0.9, 0.4, 0.0, 0.0], vec![1.0, 0.1, 0.0, 0.0], vec![0.0, 1.0, 0.0, 0.0]];
        let described = Described { boxes, places: Vec::new(), side: 0 };
        let things = ["dog", "dog", "cat"].map(|tag| found(tag, [0.0, 0.0, 1.0, 1.0]));
        let tags = |name: &str| {
            let mut things = things.to_vec();
            give(&recogniser(name, "dog"), &described, &mut things);
            things.into_iter().map(|thing| thing.tag).collect::<Vec<_>>()
        };
        assert_eq!(tags("Rex"), ["dog", "Rex", "cat"]);
        assert_eq!(tags("husky"), ["husky", "husky", "cat"]);
    }

    #[test]
    fn other_names_stay_where_they_fit_the_kind() {
        let class = &recogniser("Rex", "dog").classes()[0].clone();
        let mut thing = found("dog", [0.0; 4]);
        rename(&mut thing, class, 0.9);
        assert_eq!(
            (thing.tag.as_str(), thing.aliases, thing.taught),
            ("Rex", vec!["dog".to_owned(), "pug".to_owned()], true)
        );
        let mut thing = found("cat", [0.0; 4]);
        rename(&mut thing, class, 0.9);
        assert!(!thing.aliases.contains(&"cat".to_owned()), "{:?}", thing.aliases);
    }

    #[test]
    fn the_middle_counts_most() {
        let mut places = vec![vec![0.0]; 49];
        places[24] = vec![1.0];
        let middle = pooled(&places)[0];
        places[24] = vec![0.0];
        places[0] = vec![1.0];
        assert!(middle > 20.0 * pooled(&places)[0], "{middle}");
        assert!((pooled(&vec![vec![2.0]; 49])[0] - 2.0).abs() < 1e-5);
    }
}
