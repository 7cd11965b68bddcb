//! The joiner of `bubo-mini`: what a small encoder saw or heard, as embeddings of the language model.
//!
//! BuboGPT's Q-Former and projector, in small, with one addition: beside the encoder's features, the queries read
//! *hints*, the classes that the encoder and a detector recognised. From random weights and few samples a Q-Former
//! hardly learns to tell a thousand classes apart; the encoder's own classifier and the detector already do.
//! Tensor names: `features`, `places`, `overall`, `hint_classes`, `hint_numbers`, `norm` are its own; `query_tokens`,
//! `Qformer.bert.…` and `llama_proj` as in BuboGPT.

use serde::{Deserialize, Serialize};

use super::qformer::{self, QFormer};
use crate::error::{Error, Result};
use crate::media::BoxPx;
use crate::nn::{Embedding, LayerNorm, Linear, Weights};
use crate::tensor::{Device, Reduce, Tensor};

/// Numbers that come with a hint: confidence, centre, size.
pub const HINT_NUMBERS: usize = 5;
/// Classes of the encoder that are given as hints.
pub const MOST_TAGS: usize = 5;
/// Detections that are given as hints.
pub const MOST_DETECTIONS: usize = 6;

/// Sizes of a joiner.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Config {
    /// Feature vectors per picture or sound: places of the map, or patches.
    pub places: usize,
    /// Width of a feature vector.
    pub encoder_width: usize,
    /// Classes of the encoder: the first rows of the table of hints.
    pub tag_classes: usize,
    /// Names of the detector's classes, the rows after those; none for sounds.
    #[serde(default)]
    pub detector_labels: Vec<String>,
    /// The Q-Former, which reads tokens of its own width.
    pub qformer: qformer::Config,
    /// Width of the language model.
    pub output_width: usize,
}

impl Config {
    /// Hints per picture or sound; unused ones say "nothing".
    pub fn hint_count(&self) -> usize {
        MOST_TAGS + if self.detector_labels.is_empty() { 0 } else { MOST_DETECTIONS }
    }

    /// Rows of the table of hints; the last one says "nothing".
    pub fn hint_classes(&self) -> usize {
        self.tag_classes + self.detector_labels.len() + 1
    }
}

/// Something that was recognised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hint {
    /// Row of the table of hints.
    pub class: usize,
    /// Confidence, 0..1.
    pub score: f32,
    /// Centre across and down, 0..1; of a sound's tag, its time in place of the first.
    pub centre: [f32; 2],
    /// Width and height, 0..1; 0 where only a place is known.
    pub size: [f32; 2],
}

impl Hint {
    /// The hint as the network reads it.
    pub fn numbers(&self) -> [f32; HINT_NUMBERS] {
        [self.score, self.centre[0], self.centre[1], self.size[0], self.size[1]]
    }
}

/// Q-Former, hints and projector.
#[derive(Debug)]
pub struct Joiner {
    config: Config,
    device: Device,
    features: Linear,
    places: Tensor,
    overall: Tensor,
    hint_classes: Embedding,
    hint_numbers: Linear,
    norm: LayerNorm,
    qformer: QFormer,
    projector: Linear,
}

impl Joiner {
    /// Takes the weights.
    ///
    /// # Errors
    /// [`Error::Weights`] if one is missing or has another shape; [`Error::Shape`] for sizes that do not go together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let dim = config.qformer.hidden_size;
        if config.qformer.encoder_width != dim {
            let reason = format!("the queries are {dim} wide and read {} wide tokens", config.qformer.encoder_width);
            return Err(Error::shape("joiner", reason));
        }
        if config.tag_classes == 0 || config.places == 0 {
            return Err(Error::shape("joiner", "there must be at least one place and one class"));
        }
        let places = weights.tensor("places", &[config.places + config.hint_count(), dim])?;
        Ok(Self {
            device: places.device(),
            features: Linear::load(&weights.pp("features"), config.encoder_width, dim)?,
            places,
            overall: weights.tensor("overall", &[1, dim])?,
            hint_classes: Embedding::load(&weights.pp("hint_classes"), config.hint_classes(), dim)?,
            hint_numbers: Linear::load(&weights.pp("hint_numbers"), HINT_NUMBERS, dim)?,
            norm: LayerNorm::load(&weights.pp("norm"), dim, config.qformer.layer_norm_eps)?,
            qformer: QFormer::load(&config.qformer, weights)?,
            projector: Linear::load(&weights.pp("llama_proj"), dim, config.output_width)?,
            config: config.clone(),
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Embeddings for the language model, `[batch, queries, output_width]`.
    ///
    /// - `features`: `[batch, places, encoder_width]`
    /// - `hints`: for each of the batch what was recognised, at most [`Config::hint_count`]; the rest says "nothing"
    ///
    /// # Errors
    /// [`Error::Shape`] for features of another form, or too many or unknown hints.
    pub fn forward(&self, features: &Tensor, hints: &[Vec<Hint>]) -> Result<Tensor> {
        let [batch, places, _] = features.dims_of("joiner features")?;
        if places != self.config.places || hints.len() != batch {
            let reason =
                format!("{:?} and {} lists of hints for {} places", features.dims(), hints.len(), self.config.places);
            return Err(Error::shape("joiner", reason));
        }
        let dim = self.config.qformer.hidden_size;
        let projected = self.features.forward(features)?; // [batch, places, dim]
        let overall = projected.reduce(Reduce::Mean, 1)?.reshape(&[batch, 1, dim])?.add(&self.overall)?; // [batch, 1, dim]
        // The surest hints come first, so their places are ranks.
        let hints = self.hint_tokens(hints)?.add(&self.places.narrow(0, places, self.config.hint_count())?)?;
        let projected = projected.add(&self.places.narrow(0, 0, places)?)?;
        let tokens = [&projected, &overall, &hints];
        let tokens = self.norm.forward(&Tensor::concat(&tokens, 1)?)?; // [batch, places + 1 + hints, dim]
        self.projector.forward(&self.qformer.forward(&tokens)?)
    }

    fn hint_tokens(&self, hints: &[Vec<Hint>]) -> Result<Tensor> {
        let (count, nothing) = (self.config.hint_count(), self.config.hint_classes() - 1);
        let empty = Hint { class: nothing, score: 0.0, centre: [0.0; 2], size: [0.0; 2] };
        let (mut classes, mut numbers) = (Vec::new(), Vec::new());
        for list in hints {
            if list.len() > count || list.iter().any(|hint| hint.class > nothing) {
                return Err(Error::shape("joiner", format!("hints {list:?}, where {count} of {nothing} classes fit")));
            }
            for hint in list.iter().chain(std::iter::repeat_n(&empty, count - list.len())) {
                classes.push(u32::try_from(hint.class).unwrap_or(u32::MAX));
                numbers.extend(hint.numbers());
            }
        }
        let dims = [hints.len(), count, self.config.qformer.hidden_size];
        let classes = self.hint_classes.forward(&Tensor::from_u32(&classes, &[classes.len()], &self.device)?)?;
        let numbers = Tensor::from_f32(&numbers, &[hints.len(), count, HINT_NUMBERS], &self.device)?;
        classes.reshape(&dims)?.add(&self.hint_numbers.forward(&numbers)?) // [batch, hints, dim]
    }
}

/// Hints of a picture: the likeliest classes of the encoder, each with the centre of the places that speak for it, and
/// the surest detections.
///
/// - `activations`: `[rows · columns, classes]`, the classifier at every place of a square map
/// - `detections`: row among the detector's classes, and confidence, centre and size, the surest first
pub fn picture_hints(activations: &[f32], config: &Config, detections: &[Hint]) -> Vec<Hint> {
    let (classes, places) = (config.tag_classes, config.places);
    let mut logits = vec![0.0; classes];
    for place in activations.chunks_exact(classes) {
        logits.iter_mut().zip(place).for_each(|(sum, x)| *sum += x / places as f32);
    }
    hints_from(&logits, |place, class| activations[place * classes + class], config, detections)
}

/// As [`picture_hints`], from the classes' logits and a way to get the activations that are needed.
///
/// - `activation`: of a place and a class
pub fn hints_from(
    logits: &[f32],
    activation: impl Fn(usize, usize) -> f32,
    config: &Config,
    detections: &[Hint],
) -> Vec<Hint> {
    let places = config.places;
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - top).exp()).sum();
    let side = places.isqrt().max(1);
    let tag = |class: usize| {
        let excess: Vec<f32> = (0..places).map(|place| (activation(place, class) - logits[class]).max(0.0)).collect();
        let total = excess.iter().sum::<f32>().max(1e-6);
        let centre = |at: &dyn Fn(usize) -> usize| {
            let sum: f32 = excess.iter().enumerate().map(|(place, x)| x * (at(place) as f32 + 0.5)).sum();
            sum / total / side as f32
        };
        let centre = [centre(&|place| place % side), centre(&|place| place / side)];
        Hint { class, score: (logits[class] - top).exp() / sum, centre, size: [0.0; 2] }
    };
    let mut hints: Vec<Hint> = best(logits, MOST_TAGS).into_iter().map(tag).collect();
    let first = config.tag_classes;
    hints.extend(detections.iter().take(MOST_DETECTIONS).map(|hint| Hint { class: first + hint.class, ..*hint }));
    hints
}

/// Detections as hints for [`picture_hints`], the surest first; labels that the joiner does not know are left out.
///
/// - `size`: width and height of the picture in pixels
pub fn detection_hints(detections: &[(&str, f32, BoxPx)], config: &Config, size: [usize; 2]) -> Vec<Hint> {
    let [width, height] = size.map(|side| side.max(1) as f32);
    let hint = |(label, score, b): &(&str, f32, BoxPx)| {
        let class = config.detector_labels.iter().position(|known| known == label)?;
        let centre = [(b.x0 + b.x1) / 2.0 / width, (b.y0 + b.y1) / 2.0 / height];
        Some(Hint { class, score: *score, centre, size: [(b.x1 - b.x0) / width, (b.y1 - b.y0) / height] })
    };
    detections.iter().filter_map(hint).collect()
}

/// Hints of a sound: the classes that some patch is surest of, each with the mean time of the patches that heard it.
///
/// - `logits`: `[patches, classes]`
pub fn sound_hints(logits: &[f32], classes: usize) -> Vec<Hint> {
    let patches = (logits.len() / classes.max(1)).max(1);
    let score = |patch: usize, class: usize| 1.0 / (1.0 + (-logits[patch * classes + class]).exp());
    let highest: Vec<f32> =
        (0..classes).map(|class| (0..patches).map(|patch| score(patch, class)).fold(0.0, f32::max)).collect();
    let tag = |class: usize| {
        let total: f32 = (0..patches).map(|patch| score(patch, class)).sum::<f32>().max(1e-6);
        let time: f32 = (0..patches).map(|patch| score(patch, class) * (patch as f32 + 0.5)).sum();
        Hint { class, score: highest[class], centre: [time / total / patches as f32, 0.0], size: [0.0; 2] }
    };
    best(&highest, MOST_TAGS).into_iter().map(tag).collect()
}

/// Which `count` of a sound's patches the joiner hears: all, or as many evenly spread; sounds that have fewer are
/// repeated from the start, as a loop would be heard.
pub fn spread(patches: usize, count: usize) -> Vec<u32> {
    let patches = patches.max(1);
    let at = |index: usize| if patches > count { index * patches / count } else { index % patches };
    (0..count).map(|index| at(index) as u32).collect()
}

/// Indices of the `count` largest numbers, largest first.
fn best(numbers: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*b].total_cmp(&numbers[*a]));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_say_what_is_where() {
        let qformer = serde_json::from_value(serde_json::json!({
            "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
            "num_query_token": 2, "encoder_width": 8,
        }));
        let config = Config {
            places: 4,
            encoder_width: 3,
            tag_classes: 6,
            detector_labels: vec!["dog".into(), "cat".into()],
            qformer: qformer.expect("all sizes are given"),
            output_width: 5,
        };
        let mut activations = vec![0.0; 4 * 6];
        activations[6 + 2] = 8.0; // class 2 in the upper right quarter
        activations[2 * 6 + 4] = 4.0; // class 4 in the lower left one
        let cat = Hint { class: 1, score: 0.7, centre: [0.5, 0.5], size: [0.2, 0.4] };
        let hints = picture_hints(&activations, &config, &[cat]);
        assert_eq!(hints.iter().map(|hint| hint.class).collect::<Vec<_>>()[..2], [2, 4]);
        assert_eq!((hints[0].centre, hints[1].centre), ([0.75, 0.25], [0.25, 0.75]));
        assert!(hints[0].score > hints[1].score && hints.iter().all(|hint| hint.score <= 1.0));
        assert_eq!(hints[5], Hint { class: 7, ..cat });
    }

    #[test]
    fn sounds_are_heard_in_time() {
        let mut logits = vec![-9.0; 3 * 4];
        logits[2 * 4 + 1] = 4.0; // class 1 at the end
        let hints = sound_hints(&logits, 4);
        assert_eq!(hints[0].class, 1);
        assert!(hints[0].centre[0] > 0.8 && hints[0].score > 0.98, "{:?}", hints[0]);
        assert_eq!(spread(3, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(spread(8, 4), [0, 2, 4, 6]);
    }
}
