//! What the detectors with a head of generalised focal loss (Li et al. 2020) share: the picture as their input, and boxes
//! out of what they say of each cell.
//!
//! Every cell of every level has a confidence for each class and, for each side of a box, a distribution over distances.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::grounding::Detection;
use crate::media::{BoxPx, CropPx, Filter, RgbImage};
use crate::nn::Weights;
use crate::tensor::{Device, Tensor, Unary};

/// Input, classes, and what counts as found.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Side of the square input in pixels; the picture is squeezed into it.
    pub input_size: usize,
    /// Subtracted from blue, green, red (0..255).
    pub mean_bgr: [f32; 3],
    /// Divisor after that.
    pub deviation_bgr: [f32; 3],
    /// Number of classes.
    pub classes: usize,
    /// Bins of a distance.
    pub bins: usize,
    /// Where in a cell its distances start, in strides from its left upper corner: 0.5 is its centre.
    #[serde(default = "centre_of_cell")]
    pub cell_centre: f32,
    /// Confidence that a detection must reach.
    pub score_threshold: f32,
    /// Overlap at which the less confident of two boxes of one class goes.
    pub nms_iou: f32,
}

fn centre_of_cell() -> f32 {
    0.5
}

/// The head without its weights.
#[derive(Debug)]
pub struct FocalHead {
    config: Config,
    labels: Vec<String>,
    device: Device,
}

/// What one level of the pyramid says.
#[derive(Debug)]
pub struct Level {
    /// Pixels of the input from cell to cell.
    pub stride: usize,
    /// Confidences `[cells, classes]`, cells in rows from the top.
    pub scores: Tensor,
    /// Logits `[cells, 4 · bins]` of the distances to the left, upper, right and lower side, in units of the stride.
    pub distances: Tensor,
}

/// A box that reached the threshold, in pixels of the network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Index of the class.
    pub class: usize,
    /// Confidence, 0..1.
    pub score: f32,
    /// Where.
    pub box_px: BoxPx,
}

impl FocalHead {
    /// - `labels`: names of the classes in order
    /// - `weights`: of the network, for the error's name
    ///
    /// # Errors
    /// [`Error::Weights`] if there are more or fewer labels than classes, or an input without pixels.
    pub fn new(config: &Config, labels: &[String], device: Device, weights: &Weights) -> Result<Self> {
        if labels.len() != config.classes || config.input_size == 0 || config.bins == 0 {
            return Err(Error::Weights {
                name: weights.full_name("labels"),
                expected: format!("{} labels, an input and bins", config.classes),
                found: format!("{} labels, {} pixels, {} bins", labels.len(), config.input_size, config.bins),
            });
        }
        Ok(Self { config: config.clone(), labels: labels.to_vec(), device })
    }

    /// Channels that the network must have for a level: classes, then four times the bins.
    pub fn channels(&self) -> usize {
        self.config.classes + 4 * self.config.bins
    }

    /// A picture as the network's input: `[1, 3, input_size, input_size]`, blue first. The picture is squeezed or
    /// stretched to the square, as in training.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn input(&self, image: &RgbImage) -> Result<Tensor> {
        let side = self.config.input_size;
        let squeezed = image.resized(CropPx::whole(image), side, side, Filter::Bilinear)?;
        let planes = squeezed.planes([2, 1, 0], self.config.mean_bgr, self.config.deviation_bgr);
        Tensor::from_f32(&planes, &[1, 3, side, side], &self.device)
    }

    /// Takes apart what the network says of a level: `[1, channels, rows, columns]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn level(&self, raw: &Tensor, stride: usize) -> Result<Level> {
        let [_, channels, rows, columns] = raw.dims_of("detector head")?;
        let cells = raw.reshape(&[channels, rows * columns])?.transpose(0, 1)?; // [cells, classes + 4 · bins]
        let classes = self.config.classes;
        Ok(Level {
            stride,
            scores: cells.narrow(1, 0, classes)?.unary(Unary::Sigmoid)?,
            distances: cells.narrow(1, classes, channels - classes)?,
        })
    }

    /// Boxes that reach the threshold, most confident first, overlapping ones of a class suppressed. Waits for the
    /// network once.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn decode(&self, levels: &[Level], score_threshold: f32) -> Result<Vec<Candidate>> {
        let rows = levels.iter().map(|level| Tensor::concat(&[&level.scores, &level.distances], 1));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let numbers = Tensor::concat(&rows.iter().collect::<Vec<_>>(), 0)?.to_f32().await?; // [all cells, ..]
        let mut cells = numbers.chunks_exact(self.channels());
        let mut candidates = Vec::new();
        for level in levels {
            let columns = self.config.input_size.div_ceil(level.stride).max(1);
            let [count, _] = level.scores.dims_of("detector scores")?;
            for (at, cell) in cells.by_ref().take(count).enumerate() {
                let (scores, distances) = cell.split_at(self.config.classes);
                let centre = [at % columns, at / columns].map(|cell| cell as f32 + self.config.cell_centre);
                let above = scores.iter().enumerate().filter(|(_, score)| **score > score_threshold);
                candidates.extend(above.map(|(class, score)| Candidate {
                    class,
                    score: *score,
                    box_px: cell_box(centre, level.stride, distances),
                }));
            }
        }
        Ok(suppressed(candidates, self.config.nms_iou))
    }

    /// What a network sees in a picture, in its pixels, most confident first.
    ///
    /// - `network`: what comes before the head
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn detect(
        &self,
        image: &RgbImage,
        network: impl FnOnce(&Tensor) -> Result<Vec<Level>>,
    ) -> Result<Vec<Detection>> {
        let levels = network(&self.input(image)?)?;
        let side = self.config.input_size as f32;
        let (x, y) = (image.width() as f32 / side, image.height() as f32 / side);
        let found = self.decode(&levels, self.config.score_threshold).await?.into_iter().map(|candidate| {
            let BoxPx { x0, y0, x1, y1 } = candidate.box_px;
            let box_px = BoxPx { x0: x0 * x, y0: y0 * y, x1: x1 * x, y1: y1 * y };
            Detection {
                label: self.labels[candidate.class].clone(),
                score: candidate.score,
                box_px: box_px.clamped(image.width(), image.height()),
            }
        });
        Ok(found.filter(|detection| detection.box_px.area() > 0.0).collect())
    }
}

/// The box of one cell: where its distances start, in strides, and the expected distances to the four sides.
fn cell_box([x, y]: [f32; 2], stride: usize, distances: &[f32]) -> BoxPx {
    let stride = stride as f32;
    let bins = (distances.len() / 4).max(1);
    let mut sides = distances.chunks_exact(bins).map(|logits| stride * expected_bin(logits));
    let mut side = || sides.next().unwrap_or(0.0);
    let (x, y) = (x * stride, y * stride);
    BoxPx { x0: x - side(), y0: y - side(), x1: x + side(), y1: y + side() }
}

/// Mean of the bins' numbers under the softmax of their logits.
fn expected_bin(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (sum, weighted) = logits.iter().enumerate().fold((0.0, 0.0), |(sum, weighted), (bin, logit)| {
        let weight = (logit - top).exp();
        (sum + weight, weighted + weight * bin as f32)
    });
    weighted / sum
}

/// Keeps the most confident of boxes that overlap within a class.
fn suppressed(mut candidates: Vec<Candidate>, iou: f32) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let covered = |other: &Candidate| other.class == candidate.class && other.box_px.iou(&candidate.box_px) > iou;
        if !kept.iter().any(covered) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_expected_bins() {
        assert_eq!(expected_bin(&[0.0; 11]), 5.0);
        assert!((expected_bin(&[-100.0, 0.0, -100.0]) - 1.0).abs() < 1e-6);
        let sides = [[0.0, 50.0], [50.0, 0.0], [0.0, 50.0], [0.0, 50.0]].concat();
        assert_eq!(cell_box([2.5, 1.5], 8, &sides), BoxPx { x0: 12.0, y0: 12.0, x1: 28.0, y1: 20.0 });
    }

    #[test]
    fn suppression_is_within_a_class() {
        let candidate =
            |class, score, x0: f32| Candidate { class, score, box_px: BoxPx::from([x0, 0.0, x0 + 10.0, 10.0]) };
        let all = vec![candidate(0, 0.5, 1.0), candidate(0, 0.9, 0.0), candidate(1, 0.4, 0.0), candidate(0, 0.3, 8.0)];
        let kept = suppressed(all, 0.5);
        assert_eq!(kept.iter().map(|c| c.score).collect::<Vec<_>>(), [0.9, 0.4, 0.3]);
    }
}
