//! The 1000 classes of ImageNet as tags, each with the place that spoke for it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;

use super::groups::Groups;
use crate::encoders::efficientnet::{Config, EfficientNet};
use crate::error::{Error, Result};
use crate::grounding::{Tag, Tagger, TaggerView};
use crate::media::{BoxPx, CropPx, RgbImage};
use crate::nn::Weights;
use crate::tensor::Tensor;

/// Tags below this confidence are not given.
const LEAST_SCORE: f32 = 0.03;
/// More tags than this are not given.
const MOST_TAGS: usize = 12;
/// What a joiner reads: so many, however unsure.
const MOST_VIEW_TAGS: usize = 5;
/// Steps between two places of the network's map, for smooth boxes.
const FINER: usize = 8;
/// A place counts as the thing's when it reaches this part of the strongest place.
const ACTIVE: f32 = 0.4;

/// The file of labels: names of the classes, and which broader kind some of them belong to.
#[derive(Debug, Clone, Deserialize)]
pub struct Labels {
    /// One name a class.
    pub labels: Vec<String>,
    /// Classes by kind, for example `cat`: all breeds.
    pub kinds: BTreeMap<String, Vec<usize>>,
}

/// A classifier that names what is in a picture.
#[derive(Debug)]
pub struct ImagenetTagger {
    network: EfficientNet,
    labels: Vec<String>,
    kinds: BTreeMap<usize, String>,
    /// Found with the first picture: the word lists that they need would lie between the weights while these load.
    groups: OnceCell<Groups>,
}

impl ImagenetTagger {
    /// Takes the weights and the bytes of the label file.
    ///
    /// # Errors
    /// [`Error::Weights`] if a weight is missing, [`Error::Corrupt`] if the labels do not fit.
    pub fn load(config: &Config, weights: &Weights, labels: &[u8]) -> Result<Self> {
        let Labels { labels, kinds } = serde_json::from_slice(labels)
            .map_err(|error| Error::corrupt("imagenet_labels.json", error.to_string()))?;
        if labels.len() != config.classes {
            let reason = format!("{} labels for {} classes", labels.len(), config.classes);
            return Err(Error::corrupt("imagenet_labels.json", reason));
        }
        let kinds = kinds.into_iter().flat_map(|(kind, classes)| {
            classes.into_iter().map(move |class| (class, kind.clone())).collect::<Vec<_>>()
        });
        let (network, kinds, groups) = (EfficientNet::load(config, weights)?, kinds.collect(), OnceCell::new());
        Ok(Self { network, labels, kinds, groups })
    }

    /// The network, which is also the picture encoder of the language model.
    pub fn network(&self) -> &EfficientNet {
        &self.network
    }

    /// The tags of a picture from the activations of its centre (the view that the network was trained on) and of the
    /// whole of it (which misses nothing): `[2, places, classes]`, both with the same number of places.
    fn tags(&self, activations: &[f32], image: &RgbImage) -> Vec<Tag> {
        let classes = self.labels.len();
        let (centre, whole) = activations.split_at(activations.len() / 2);
        let both = probabilities(centre, classes).into_iter().zip(probabilities(whole, classes));
        let scores: Vec<f32> = both.map(|(a, b)| (a + b) / 2.0).collect();
        let mut tags = self.best_tags(&scores, MOST_TAGS, |class| self.place(class, whole, image));
        self.add_group(&mut tags, &scores);
        tags.retain(|tag| tag.score >= LEAST_SCORE);
        tags
    }

    /// Puts what the tags have in common before them, where none of them is sure; at the place of the first of them.
    fn add_group(&self, tags: &mut Vec<Tag>, scores: &[f32]) {
        let groups = self.groups.get_or_init(|| Groups::new(&self.labels, &self.kinds));
        let Some((name, classes, score)) = groups.surest(scores) else { return };
        let is_member = |tag: &&Tag| classes.iter().any(|class| self.labels[*class] == tag.label);
        let box_px = tags.iter().find(is_member).and_then(|tag| tag.box_px);
        tags.insert(0, Tag { label: name.to_owned(), score, box_px, kind: None });
    }

    /// The likeliest classes, each with its place in the picture where `place` knows one.
    fn best_tags(&self, scores: &[f32], most: usize, place: impl Fn(usize) -> Option<BoxPx>) -> Vec<Tag> {
        let mut tags: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
        tags.sort_by(|a, b| b.1.total_cmp(&a.1));
        let tag = |(class, score): (usize, f32)| {
            let kind = self.kinds.get(&class).cloned();
            Tag { label: self.labels[class].clone(), score, box_px: place(class), kind }
        };
        tags.into_iter().take(most).map(tag).collect()
    }

    /// The place that speaks for a class in the activations of the whole picture, `[places, classes]`.
    fn place(&self, class: usize, whole: &[f32], image: &RgbImage) -> Option<BoxPx> {
        let classes = self.labels.len();
        let side = (whole.len() / classes).isqrt();
        let map: Vec<f32> = whole.iter().skip(class).step_by(classes).copied().collect();
        let [x0, y0, x1, y1] = active_box(&map, side)?;
        let (x, y) = (image.width() as f32, image.height() as f32);
        Some(BoxPx::from([x0 * x, y0 * y, x1 * x, y1 * y]))
    }
}

#[async_trait(?Send)]
impl Tagger for ImagenetTagger {
    async fn tag(&self, image: &RgbImage) -> Result<Vec<Tag>> {
        let views = [CropPx::centre_square(image, self.network.config().crop_fraction), CropPx::whole(image)];
        let views = views.map(|part| self.network.input(image, part));
        let [centre, whole] = views;
        let input = Tensor::concat(&[&centre?, &whole?], 0)?; // [2, 3, side, side]
        let activations = self.network.class_activations(&self.network.feature_map(&input)?)?;
        Ok(self.tags(&activations.to_f32().await?, image))
    }

    async fn tag_parts(&self, image: &RgbImage, parts: &[CropPx]) -> Result<Option<Vec<Vec<Tag>>>> {
        if parts.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let inputs = parts.iter().map(|part| self.network.input(image, *part)).collect::<Result<Vec<_>>>()?;
        let input = Tensor::concat(&inputs.iter().collect::<Vec<_>>(), 0)?; // [parts, 3, side, side]
        let activations = self.network.class_activations(&self.network.feature_map(&input)?)?.to_f32().await?;
        let of_part = |activations: &[f32]| {
            let scores = probabilities(activations, self.labels.len());
            // Places would be of the part, not of the picture.
            let mut tags = self.best_tags(&scores, MOST_TAGS, |_| None);
            self.add_group(&mut tags, &scores);
            tags
        };
        Ok(Some(activations.chunks(activations.len() / parts.len()).map(of_part).collect()))
    }

    fn knows(&self, name: &str) -> bool {
        self.labels.iter().any(|label| label == name) || self.kinds.values().any(|kind| kind == name)
    }

    fn features(&self, image: &RgbImage, part: CropPx) -> Result<Option<Tensor>> {
        let map = self.network.feature_map(&self.network.input(image, part)?)?;
        let [_, channels, rows, columns] = map.dims_of("feature map")?;
        map.reshape(&[channels, rows * columns])?.transpose(0, 1).map(Some) // [rows · columns, channels]
    }

    async fn view(&self, image: &RgbImage) -> Result<Option<TaggerView>> {
        let map = self.network.feature_map(&self.network.input(image, CropPx::whole(image))?)?;
        let [_, channels, rows, columns] = map.dims_of("feature map")?;
        let features = map.reshape(&[1, channels, rows * columns])?.transpose(1, 2)?; // [1, rows · columns, channels]
        let whole = self.network.class_activations(&map)?.to_f32().await?;
        let scores = probabilities(&whole, self.labels.len());
        let tags = self.best_tags(&scores, MOST_VIEW_TAGS, |class| self.place(class, &whole, image));
        Ok(Some(TaggerView { features, tags }))
    }
}

/// Softmax of the mean over the places of `[places, classes]`.
fn probabilities(activations: &[f32], classes: usize) -> Vec<f32> {
    let places = (activations.len() / classes).max(1) as f32;
    let mut logits = vec![0.0; classes];
    for place in activations.chunks_exact(classes) {
        logits.iter_mut().zip(place).for_each(|(sum, x)| *sum += x / places);
    }
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|x| *x = (*x - top).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
    logits
}

/// The box, 0..1 in both directions, around the places that are active together with the strongest one. The map is
/// refined by bilinear interpolation first. `None` if the map is flat.
pub(in crate::grounding) fn active_box(map: &[f32], side: usize) -> Option<[f32; 4]> {
    let fine = side * FINER;
    let place = |at: usize| {
        let x = ((at as f32 + 0.5) / FINER as f32 - 0.5).clamp(0.0, (side - 1) as f32);
        (x as usize, (x as usize + 1).min(side - 1), x.fract())
    };
    let value = |at: usize| {
        let ((top, bottom, down), (left, right, across)) = (place(at / fine), place(at % fine));
        let row = |row: usize| map[row * side + left] * (1.0 - across) + map[row * side + right] * across;
        row(top) * (1.0 - down) + row(bottom) * down
    };
    let refined: Vec<f32> = (0..fine * fine).map(value).collect();
    let (strongest, top) = refined.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let low = refined.iter().copied().fold(f32::INFINITY, f32::min).max(0.0);
    if top - low < 1e-3 {
        return None;
    }
    let active = |at: usize| refined[at] >= low + ACTIVE * (top - low);
    let mut seen = vec![false; refined.len()];
    let (mut open, mut b) = (vec![strongest], [fine, fine, 0, 0]);
    seen[strongest] = true;
    while let Some(at) = open.pop() {
        let (x, y) = (at % fine, at / fine);
        b = [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)];
        let neighbours = [
            (x > 0, at.wrapping_sub(1)),
            (x + 1 < fine, at + 1),
            (y > 0, at.wrapping_sub(fine)),
            (y + 1 < fine, at + fine),
        ];
        for (exists, next) in neighbours {
            if exists && !seen[next] && active(next) {
                seen[next] = true;
                open.push(next);
            }
        }
    }
    Some(b.map(|edge| edge as f32 / fine as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_hold_the_strongest_place() {
        let mut map = vec![0.0; 49];
        map[3 * 7 + 1] = 10.0;
        map[3 * 7 + 2] = 9.0;
        map[6 * 7 + 6] = 8.0;
        let [x0, y0, x1, y1] = active_box(&map, 7).expect("the map is not flat");
        assert!(x0 <= 1.5 / 7.0 && (2.5 / 7.0..4.0 / 7.0).contains(&x1), "{x0} {x1}");
        assert!(y0 <= 3.5 / 7.0 && y0 > 2.0 / 7.0 && y1 < 5.0 / 7.0, "{y0} {y1}");
        assert_eq!(active_box(&[1.0; 49], 7), None);
    }

    #[test]
    fn probabilities_are_of_the_mean() {
        let found = probabilities(&[0.0, 2.0, 4.0, 2.0], 2);
        assert!((found[0] - 0.5).abs() < 1e-6 && (found[1] - 0.5).abs() < 1e-6);
    }
}
