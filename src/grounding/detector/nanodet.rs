//! NanoDet-g: a one-stage detector of the 80 COCO classes, small enough for a browser.
//!
//! RangiLyu/nanodet, config/nanodet-g.yml: a CSP trunk, a path aggregation network without convolutions, a head of
//! generalised focal loss (Li et al. 2020) whose box sides are distributions over distances. Weight names are the
//! original's, batch norms folded: `backbone.stages.N…`, `fpn.lateral_convs.N.conv`, `head.cls_convs.N.0.conv`,
//! `head.gfl_cls.N`.

use async_trait::async_trait;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::grounding::{Detection, Detector};
use crate::media::{BoxPx, CropPx, Filter, RgbImage};
use crate::nn::{Conv, Weights};
use crate::tensor::{Conv2d, Device, Padding, Pool, PoolKind, Resize, Tensor, Unary};

/// The trunk's first strides: a convolution and a maximum of 2 each.
const STEM_STRIDE: usize = 4;

/// Shape of the network and what counts as found.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Side of the square input in pixels; the picture is squeezed into it.
    pub input_size: usize,
    /// Subtracted from blue, green, red (0..255).
    pub mean_bgr: [f32; 3],
    /// Divisor after that.
    pub deviation_bgr: [f32; 3],
    /// Slope of the activations below zero.
    pub slope: f32,
    /// Channels of the first convolution.
    pub stem: usize,
    /// Channels, residual blocks and step of each stage of the trunk; the last three stages are looked at.
    pub stages: Vec<(usize, usize, usize)>,
    /// Channels of the feature pyramid.
    pub pyramid: usize,
    /// Number of classes.
    pub classes: usize,
    /// Bins of a distance.
    pub bins: usize,
    /// Confidence that a detection must reach.
    pub score_threshold: f32,
    /// Overlap at which the less confident of two boxes of one class goes.
    pub nms_iou: f32,
}

/// The network.
#[derive(Debug)]
pub struct NanoDet {
    config: Config,
    device: Device,
    labels: Vec<String>,
    stem: Conv,
    stages: Vec<CspStage>,
    lateral: Vec<Conv>,
    heads: Vec<Head>,
}

/// Cross-stage partial block: what the residual blocks make is put before what they were given.
#[derive(Debug)]
struct CspStage {
    input: Conv,
    residual: Vec<(Conv, Conv)>,
    output: Conv,
}

#[derive(Debug)]
struct Head {
    shared: Conv,
    predict: Conv,
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

impl CspStage {
    fn load(weights: &Weights, channels: usize, blocks: usize, stride: usize, activation: Unary) -> Result<Self> {
        let options = |stride: usize| Conv2d {
            stride: [stride; 2],
            padding: Padding::all(1),
            activation: Some(activation),
            ..Conv2d::default()
        };
        let conv = |weights: Weights, input: usize, output: usize, stride: usize| {
            Conv::load(&weights.pp("conv"), input, output, 3, options(stride))
        };
        let half = channels / 2;
        let block = |at: usize| -> Result<(Conv, Conv)> {
            let weights = weights.pp("res_blocks").pp(at);
            Ok((conv(weights.pp("in_conv"), channels, half, 1)?, conv(weights.pp("mid_conv"), half, half, 1)?))
        };
        Ok(Self {
            input: conv(weights.pp("in_conv"), channels, channels, stride)?,
            residual: (0..blocks).map(block).collect::<Result<_>>()?,
            output: conv(weights.pp("res_out_conv"), channels, channels, 1)?,
        })
    }

    /// `[1, channels, height, width]` to `[1, 2 · channels, height / stride, width / stride]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let given = self.input.forward(x)?;
        let mut x = given.clone();
        for (narrow, middle) in &self.residual {
            let half = narrow.forward(&x)?;
            x = Tensor::concat(&[&middle.forward(&half)?, &half], 1)?;
        }
        Tensor::concat(&[&self.output.forward(&x)?, &given], 1)
    }
}

impl NanoDet {
    /// Takes the weights; `labels` names the classes in order.
    ///
    /// # Errors
    /// [`Error::Weights`] if a weight is missing or has another shape, or labels or stages are too few.
    pub fn load(config: &Config, weights: &Weights, labels: &[String]) -> Result<Self> {
        if labels.len() != config.classes || config.stages.len() < 3 {
            return Err(Error::Weights {
                name: weights.full_name("labels"),
                expected: format!("{} labels and at least 3 stages", config.classes),
                found: format!("{} labels and {} stages", labels.len(), config.stages.len()),
            });
        }
        let activation = Unary::LeakyRelu(config.slope);
        let spatial = |stride: usize| Conv2d {
            stride: [stride; 2],
            padding: Padding::all(1),
            activation: Some(activation),
            ..Conv2d::default()
        };
        let trunk = weights.pp("backbone").pp("stages");
        // Stage 0 is the first convolution, stage 1 the maximum.
        let stem = Conv::load(&trunk.pp(0).pp("conv"), 3, config.stem, 3, spatial(2))?;
        let stages = config.stages.iter().enumerate().map(|(at, (channels, blocks, stride))| {
            CspStage::load(&trunk.pp(at + 2), *channels, *blocks, *stride, activation)
        });
        let pyramid = config.pyramid;
        let looked_at = &config.stages[config.stages.len() - 3..];
        let lateral = looked_at.iter().enumerate().map(|(at, (channels, ..))| {
            let weights = weights.pp("fpn").pp("lateral_convs").pp(at).pp("conv");
            Conv::load(&weights, 2 * channels, pyramid, 1, Conv2d::default())
        });
        let head = weights.pp("head");
        let heads = (0..3).map(|at| -> Result<Head> {
            let shared = head.pp("cls_convs").pp(at).pp(0).pp("conv");
            let outputs = config.classes + 4 * config.bins;
            Ok(Head {
                shared: Conv::load(&shared, pyramid, pyramid, 3, spatial(1))?,
                predict: Conv::load(&head.pp("gfl_cls").pp(at), pyramid, outputs, 1, Conv2d::default())?,
            })
        });
        Ok(Self {
            config: config.clone(),
            device: trunk.pp(0).pp("conv").tensor("bias", &[config.stem])?.device(),
            labels: labels.to_vec(),
            stem,
            stages: stages.collect::<Result<_>>()?,
            lateral: lateral.collect::<Result<_>>()?,
            heads: heads.collect::<Result<_>>()?,
        })
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

    /// Runs the network on `[1, 3, height, width]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn forward(&self, input: &Tensor) -> Result<Vec<Level>> {
        let pool = Pool { kind: PoolKind::Max, kernel: [3; 2], stride: [2; 2], padding: Padding::all(1) };
        let mut x = self.stem.forward(input)?.pool2d(&pool)?;
        let (mut trunk, mut stride) = (Vec::new(), STEM_STRIDE);
        for (stage, (.., step)) in self.stages.iter().zip(&self.config.stages) {
            x = stage.forward(&x)?;
            stride *= step;
            trunk.push((stride, x.clone()));
        }
        let looked_at = &trunk[trunk.len() - 3..];
        let lateral = self.lateral.iter().zip(looked_at).map(|(conv, (_, x))| conv.forward(x));
        let pyramid = aggregate(lateral.collect::<Result<_>>()?)?;
        let levels = self.heads.iter().zip(&pyramid).zip(looked_at);
        levels.map(|((head, x), (stride, _))| self.predict(head, x, *stride)).collect()
    }

    fn predict(&self, head: &Head, x: &Tensor, stride: usize) -> Result<Level> {
        let raw = head.predict.forward(&head.shared.forward(x)?)?;
        let [_, channels, rows, columns] = raw.dims_of("nanodet head")?;
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
        let width = self.config.classes + 4 * self.config.bins;
        let mut cells = numbers.chunks_exact(width);
        let mut candidates = Vec::new();
        for level in levels {
            let columns = self.config.input_size.div_ceil(level.stride).max(1);
            let [count, _] = level.scores.dims_of("nanodet scores")?;
            for (at, cell) in cells.by_ref().take(count).enumerate() {
                let (scores, distances) = cell.split_at(self.config.classes);
                let above = scores.iter().enumerate().filter(|(_, score)| **score > score_threshold);
                candidates.extend(above.map(|(class, score)| Candidate {
                    class,
                    score: *score,
                    box_px: cell_box(at % columns, at / columns, level.stride, distances),
                }));
            }
        }
        Ok(suppressed(candidates, self.config.nms_iou))
    }
}

/// The pyramid: coarse levels are added to finer ones, from the top down, then fine ones to coarser ones.
fn aggregate(mut levels: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let add = |levels: &mut Vec<Tensor>, to: usize, from: usize| -> Result<()> {
        let [_, _, rows, columns] = levels[to].dims_of("pyramid")?;
        levels[to] = levels[to].add(&levels[from].resize(rows, columns, Resize::Bilinear)?)?;
        Ok(())
    };
    for fine in (0..levels.len().saturating_sub(1)).rev() {
        add(&mut levels, fine, fine + 1)?;
    }
    for coarse in 1..levels.len() {
        add(&mut levels, coarse, coarse - 1)?;
    }
    Ok(levels)
}

/// The box of one cell: its centre and the expected distances to the four sides.
fn cell_box(column: usize, row: usize, stride: usize, distances: &[f32]) -> BoxPx {
    let stride = stride as f32;
    let bins = (distances.len() / 4).max(1);
    let mut sides = distances.chunks_exact(bins).map(|logits| stride * expected_bin(logits));
    let mut side = || sides.next().unwrap_or(0.0);
    let (x, y) = ((column as f32 + 0.5) * stride, (row as f32 + 0.5) * stride);
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

#[async_trait(?Send)]
impl Detector for NanoDet {
    /// Boxes of the classes that the network knows; `phrases` changes nothing.
    async fn detect(&self, image: &RgbImage, _phrases: &[String]) -> Result<Vec<Detection>> {
        let levels = self.forward(&self.input(image)?)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_expected_bins() {
        assert_eq!(expected_bin(&[0.0; 11]), 5.0);
        assert!((expected_bin(&[-100.0, 0.0, -100.0]) - 1.0).abs() < 1e-6);
        let sides = [[0.0, 50.0], [50.0, 0.0], [0.0, 50.0], [0.0, 50.0]].concat();
        assert_eq!(cell_box(2, 1, 8, &sides), BoxPx { x0: 12.0, y0: 12.0, x1: 28.0, y1: 20.0 });
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
