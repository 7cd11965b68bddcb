//! From a picture and phrases to named boxes.

use async_trait::async_trait;
use tokenizers::Tokenizer;

use super::{Config, GroundingDino, Predictions};
use crate::error::{Error, Result};
use crate::grounding::caption::{Caption, MAX_TOKENS};
use crate::grounding::matcher::load_tokenizer;
use crate::grounding::{Detection, Detector, RawOutputs};
use crate::media::{BoxPx, ChannelScale, RgbImage};
use crate::nn::Weights;
use crate::tensor::Tensor;

/// The text side's tokenizer, a WordPiece `tokenizer.json` of bert-base-uncased.
pub const TOKENIZER_FILE: &str = "bert_tokenizer.json";

/// Pixels of the network's picture along its shorter side.
const SHORTER_PX: usize = 800;
/// And at most along its longer side, for which the shorter gives way.
const LONGEST_PX: usize = 1333;

/// The network with what it needs to read captions.
#[derive(Debug)]
pub struct GroundingDinoDetector {
    network: GroundingDino,
    tokenizer: Tokenizer,
    config: Config,
}

impl GroundingDinoDetector {
    /// Loads the network; `tokenizer_json` holds the bytes of [`TOKENIZER_FILE`].
    ///
    /// # Errors
    /// As [`GroundingDino::load`]; [`Error::Corrupt`] if the tokenizer cannot be read.
    pub fn load(config: &Config, weights: &Weights, tokenizer_json: &[u8]) -> Result<Self> {
        Ok(Self {
            network: GroundingDino::load(config, weights)?,
            tokenizer: load_tokenizer(tokenizer_json, None)?,
            config: config.clone(),
        })
    }

    /// A picture as the network's input `[1, 3, height, width]`: its shorter side 800 pixels, or less where the longer one
    /// would pass 1333.
    ///
    /// # Errors
    /// [`Error::Shape`] for a strip that would have no height; those of the engine.
    pub fn input(&self, image: &RgbImage) -> Result<Tensor> {
        let resized = image.with_shorter_side(SHORTER_PX, LONGEST_PX)?;
        let planes = ChannelScale::IMAGENET.planes(&resized);
        Tensor::from_f32(&planes, &[1, 3, resized.height(), resized.width()], self.network.device())
    }

    fn detection(&self, hit: Hit, image: &RgbImage) -> Detection {
        let [x, y, width, height] = hit.box_unit;
        let (w, h) = (image.width() as f32, image.height() as f32);
        let sides = [(x - width / 2.0) * w, (y - height / 2.0) * h, (x + width / 2.0) * w, (y + height / 2.0) * h];
        let box_px = BoxPx::from(sides);
        if self.config.original {
            return Detection { label: hit.phrase, score: hit.score, box_px };
        }
        let box_px = box_px.clamped(image.width(), image.height());
        Detection { label: hit.phrase.trim().to_owned(), score: hit.score, box_px }
    }
}

#[async_trait(?Send)]
impl Detector for GroundingDinoDetector {
    fn keeps_all(&self) -> bool {
        self.config.original
    }

    /// Boxes of what the phrases name; in the original's setting in the order of the queries. Without phrases nothing is
    /// looked for.
    async fn detect(&self, image: &RgbImage, phrases: &[String]) -> Result<Vec<Detection>> {
        if phrases.iter().all(|phrase| phrase.trim().is_empty()) {
            return Ok(Vec::new());
        }
        let features = self.network.look(&self.input(image)?)?;
        let mut detections = Vec::new();
        for caption in captions(phrases, self.config.original, &self.tokenizer)? {
            let Predictions { logits, boxes } = self.network.find(&features, &caption)?;
            let (logits, boxes) = (logits.to_f32().await?, boxes.to_f32().await?);
            let hits = read_hits(&self.config, &logits, &boxes, &caption, &self.tokenizer);
            detections.extend(hits.into_iter().map(|hit| self.detection(hit, image)));
        }
        if self.config.original {
            return Ok(detections);
        }
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        // A box whose best token is a full stop names nothing.
        detections.retain(|detection| !detection.label.is_empty() && detection.box_px.area() > 0.0);
        Ok(suppressed(detections, self.config.nms_iou))
    }

    /// `logits` and `boxes` of every caption that the phrases make.
    async fn raw_outputs(&self, image: &RgbImage, phrases: &[String]) -> Result<RawOutputs> {
        let features = self.network.look(&self.input(image)?)?;
        let mut outputs = Vec::new();
        for caption in captions(phrases, self.config.original, &self.tokenizer)? {
            let Predictions { logits, boxes } = self.network.find(&features, &caption)?;
            outputs.extend([("logits", logits), ("boxes", boxes)]);
        }
        Ok(outputs)
    }
}

/// A query that matched the caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Which query.
    pub query: usize,
    /// Probability of its best token, 0..1.
    pub score: f32,
    /// The words that it matched.
    pub phrase: String,
    /// Centre x, centre y, width and height, 0..1 of the picture.
    pub box_unit: [f32; 4],
}

/// Reads what matched off `logits` `[queries, tokens]` and `boxes` `[queries, 4]`, in the order of the queries. Thresholds
/// and whether phrases stay within one block are the configuration's.
///
/// Source: util/inference.py (`predict`), util/utils.py (`get_phrases_from_posmap`).
pub fn read_hits(config: &Config, logits: &[f32], boxes: &[f32], caption: &Caption, tokenizer: &Tokenizer) -> Vec<Hit> {
    let (boxes, _) = boxes.as_chunks::<4>();
    let rows = logits.chunks_exact(caption.token_count().max(1)).zip(boxes).enumerate();
    let hit = |(query, (logits, box_unit)): (usize, (&[f32], &[f32; 4]))| {
        let scores: Vec<f32> = logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
        let first = (0, f32::NEG_INFINITY);
        let (best, score) = scores.iter().copied().enumerate().fold(first, |a, b| if b.1 > a.1 { b } else { a });
        let positions: Vec<usize> = (0..scores.len()).filter(|at| scores[*at] > config.text_threshold).collect();
        let phrase = if config.original {
            caption.phrase(&positions, tokenizer)
        } else {
            caption.phrase_of_block(&positions, best, tokenizer)
        };
        (score > config.box_threshold).then_some(Hit { query, score, phrase, box_unit: *box_unit })
    };
    rows.filter_map(hit).collect()
}

/// The captions that ask for all phrases: each phrase between full stops, so that it reads itself alone, in as many
/// captions as the text side's 256 tokens make necessary; or, as the original does it, one with commas between them.
///
/// # Errors
/// [`Error::Input`] if the tokenizer refuses a phrase.
pub fn captions(phrases: &[String], is_original: bool, tokenizer: &Tokenizer) -> Result<Vec<Caption>> {
    if is_original {
        return Ok(vec![Caption::new(&phrases.join(","), tokenizer)?]);
    }
    // A full stop ends each phrase, and `[CLS]` and `[SEP]` stand around them all.
    let cost = |phrase: &String| -> Result<usize> {
        let encoding = tokenizer.encode(phrase.as_str(), false);
        Ok(encoding.map_err(|error| Error::Input(format!("{phrase:?} cannot be tokenised: {error}")))?.len() + 1)
    };
    let costs = phrases.iter().map(cost).collect::<Result<Vec<_>>>()?;
    let texts = in_groups(&costs, MAX_TOKENS - 2).into_iter().map(|group| phrases[group].join(" . "));
    texts.map(|text| Caption::new(&text, tokenizer)).collect()
}

/// Neighbouring items whose costs together stay within the limit; one that is beyond it stands alone.
fn in_groups(costs: &[usize], limit: usize) -> Vec<std::ops::Range<usize>> {
    let (mut groups, mut start, mut sum) = (Vec::new(), 0, 0);
    for (at, cost) in costs.iter().enumerate() {
        if at > start && sum + cost > limit {
            groups.push(start..at);
            (start, sum) = (at, 0);
        }
        sum += cost;
    }
    if start < costs.len() {
        groups.push(start..costs.len());
    }
    groups
}

/// Drops boxes that overlap a more confident one, whatever they are called.
fn suppressed(detections: Vec<Detection>, iou: Option<f32>) -> Vec<Detection> {
    let Some(iou) = iou else { return detections };
    let mut kept: Vec<Detection> = Vec::new();
    for detection in detections {
        if !kept.iter().any(|other| other.box_px.iou(&detection.box_px) > iou) {
            kept.push(detection);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_shared_out_among_captions() {
        assert_eq!(in_groups(&[2, 2, 2, 2], 4), [0..2, 2..4]);
        assert_eq!(in_groups(&[9, 1, 1, 9], 4), [0..1, 1..3, 3..4]);
        assert!(in_groups(&[], 4).is_empty());
        assert_eq!(in_groups(&[3, 1, 1], 4), [0..2, 2..3]);
    }

    #[test]
    fn only_the_most_confident_of_overlapping_boxes_stays() {
        let detection = |score: f32, x0: f32| Detection {
            label: String::new(),
            score,
            box_px: BoxPx::from([x0, 0.0, x0 + 10.0, 10.0]),
        };
        let all = vec![detection(0.9, 0.0), detection(0.8, 2.0), detection(0.7, 6.0)];
        assert_eq!(suppressed(all.clone(), Some(0.5)).iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.7]);
        assert_eq!(suppressed(all.clone(), None).len(), 3);
    }
}
