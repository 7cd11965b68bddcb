//! U²-NetP: outlines the salient thing of a picture; here, of the surroundings of each box.
//!
//! Paper: Qin et al. 2020, U²-Net: going deeper with nested U-structure; xuebinqin/U-2-Net, model/u2net.py (`U2NETP`).
//! Weight names are the original's, batch norms folded into `conv_s1`: `stage1.rebnconvin.conv_s1` to `outconv`.

use async_trait::async_trait;
use serde::Deserialize;

use crate::error::Result;
use crate::grounding::Segmenter;
use crate::host::Host;
use crate::media::{BoxPx, CropPx, Filter, Mask, RgbImage};
use crate::nn::{Conv, Weights};
use crate::tensor::{Conv2d, Device, Padding, Pool, PoolKind, Resize, Tensor, Unary};

/// The network halves its input this often; sides are multiples of 2 to that power.
const GRAIN: usize = 32;

/// Shape of the network and how boxes are handed to it.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Side of the square input in pixels, as in training; no crop is looked at more closely.
    pub input_size: usize,
    /// Side below which no crop is looked at, a multiple of 32.
    pub least_size: usize,
    /// Pixels of input that one picture may cost in all; many boxes are looked at less closely each.
    pub pixel_budget: usize,
    /// Surroundings of a box that are shown with it, as a part of its size on each side.
    pub margin: f32,
    /// Subtracted from red, green, blue (0..1).
    pub mean: [f32; 3],
    /// Divisor after that.
    pub deviation: [f32; 3],
    /// Channels between the stages.
    pub channels: usize,
    /// Channels within a stage.
    pub inner: usize,
}

/// The network.
#[derive(Debug)]
pub struct U2Net {
    config: Config,
    device: Device,
    encoder: Vec<Stage>,
    decoder: Vec<Stage>,
    sides: Vec<Conv>,
    fuse: Conv,
}

/// What the network makes of its input.
#[derive(Debug)]
pub struct Output {
    /// Fused map `[1, 1, height, width]`: 1 is the salient thing, 0 is not.
    pub fused: Tensor,
    /// The six maps that were fused, finest first, in the same form.
    pub sides: Vec<Tensor>,
    /// Results of the encoder's stages, finest first.
    pub stages: Vec<Tensor>,
}

/// A residual U-block: an input convolution, a small U-Net over it, and their sum.
#[derive(Debug)]
struct Stage {
    input: Conv,
    down: Vec<Conv>,
    /// Coarsest first.
    up: Vec<Conv>,
    /// Whether the levels differ in size; in the coarsest stages they differ in dilation.
    pooled: bool,
}

impl Stage {
    /// `levels` as in the paper's name RSU-L; `pooled` is false for RSU-4F.
    fn load(weights: &Weights, levels: usize, pooled: bool, input: usize, inner: usize, output: usize) -> Result<Self> {
        let conv = |name: String, input: usize, output: usize, dilation: usize| {
            let options = Conv2d {
                padding: Padding::all(dilation),
                dilation: [dilation; 2],
                activation: Some(Unary::Relu),
                ..Conv2d::default()
            };
            Conv::load(&weights.pp(name).pp("conv_s1"), input, output, 3, options)
        };
        // RSU-L: 1 everywhere, 2 at the bottom. RSU-4F: 1, 2, 4, 8.
        let dilation = |level: usize| match pooled {
            true if level == levels => 2,
            true => 1,
            false => 1 << (level - 1),
        };
        let down = (1..=levels).map(|level| {
            let channels = if level == 1 { output } else { inner };
            conv(format!("rebnconv{level}"), channels, inner, dilation(level))
        });
        let up = (1..levels).rev().map(|level| {
            let channels = if level == 1 { output } else { inner };
            conv(format!("rebnconv{level}d"), 2 * inner, channels, dilation(level))
        });
        Ok(Self {
            input: conv("rebnconvin".into(), input, output, 1)?,
            down: down.collect::<Result<_>>()?,
            up: up.collect::<Result<_>>()?,
            pooled,
        })
    }

    /// `[1, input, height, width]` to `[1, output, height, width]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let input = self.input.forward(x)?;
        let mut levels: Vec<Tensor> = Vec::with_capacity(self.down.len());
        for (at, conv) in self.down.iter().enumerate() {
            let before = levels.last().unwrap_or(&input);
            // The bottom level has the size of the one above it.
            let halved = self.pooled && at > 0 && at + 1 < self.down.len();
            levels.push(if halved { conv.forward(&halve(before)?)? } else { conv.forward(before)? });
        }
        let mut x = levels.pop().unwrap_or_else(|| input.clone());
        for (conv, skip) in self.up.iter().zip(levels.iter().rev()) {
            x = conv.forward(&Tensor::concat(&[&resized_like(&x, skip)?, skip], 1)?)?;
        }
        x.add(&input)
    }
}

fn halve(x: &Tensor) -> Result<Tensor> {
    x.pool2d(&Pool { kind: PoolKind::Max, kernel: [2; 2], stride: [2; 2], padding: Padding::default() })
}

fn resized_like(x: &Tensor, other: &Tensor) -> Result<Tensor> {
    let [_, _, height, width] = other.dims_of("u2net")?;
    if x.dims()[2..] == [height, width] { Ok(x.clone()) } else { x.resize(height, width, Resize::Bilinear) }
}

impl U2Net {
    /// Takes the weights.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if one is missing or has another shape.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (channels, inner) = (config.channels, config.inner);
        // Levels of the stages from fine to coarse; the last two do not pool.
        let shapes = [(7, true), (6, true), (5, true), (4, true), (4, false), (4, false)];
        let stage = |name: String, at: usize, input: usize| {
            let (levels, pooled) = shapes[at];
            Stage::load(&weights.pp(name), levels, pooled, input, inner, channels)
        };
        let encoder = (0..6).map(|at| stage(format!("stage{}", at + 1), at, if at == 0 { 3 } else { channels }));
        let decoder = (0..5).rev().map(|at| stage(format!("stage{}d", at + 1), at, 2 * channels));
        let side = Conv2d { padding: Padding::all(1), ..Conv2d::default() };
        let sides = (1..=6).map(|at| Conv::load(&weights.pp(format!("side{at}")), channels, 1, 3, side));
        let fuse = Conv2d { activation: Some(Unary::Sigmoid), ..Conv2d::default() };
        Ok(Self {
            config: config.clone(),
            device: weights.pp("outconv").tensor("bias", &[1])?.device(),
            encoder: encoder.collect::<Result<_>>()?,
            decoder: decoder.collect::<Result<_>>()?,
            sides: sides.collect::<Result<_>>()?,
            fuse: Conv::load(&weights.pp("outconv"), 6, 1, 1, fuse)?,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A part of a picture as the network's input `[1, 3, side, side]`; `side` is a multiple of 32. The brightest
    /// number of the part is taken for 1.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the part is not inside the picture.
    pub fn input(&self, image: &RgbImage, part: CropPx, side: usize) -> Result<Tensor> {
        let resized = image.resized(part, side, side, Filter::Bilinear)?;
        let brightest = resized.pixels().iter().copied().max().map_or(1.0, |top| f32::from(top.max(1)));
        let Config { mean, deviation, .. } = self.config;
        let planes = resized.planes([0, 1, 2], mean.map(|x| x * brightest), deviation.map(|x| x * brightest));
        Tensor::from_f32(&planes, &[1, 3, side, side], &self.device)
    }

    /// Runs the network on `[1, 3, height, width]`, both multiples of 32.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn forward(&self, input: &Tensor) -> Result<Output> {
        let mut stages: Vec<Tensor> = Vec::with_capacity(6);
        for stage in &self.encoder {
            let x = match stages.last() {
                Some(finer) => halve(finer)?,
                None => input.clone(),
            };
            stages.push(stage.forward(&x)?);
        }
        // Results of the coarsest encoder stage and of the decoder's, coarsest first.
        let mut results = vec![stages[5].clone()];
        for (stage, skip) in self.decoder.iter().zip(stages.iter().rev().skip(1)) {
            let x = resized_like(&results[results.len() - 1], skip)?;
            results.push(stage.forward(&Tensor::concat(&[&x, skip], 1)?)?);
        }
        let maps = self.sides.iter().zip(results.iter().rev());
        let maps = maps.map(|(conv, x)| resized_like(&conv.forward(x)?, input)).collect::<Result<Vec<_>>>()?;
        let fused = self.fuse.forward(&Tensor::concat(&maps.iter().collect::<Vec<_>>(), 1)?)?;
        Ok(Output { fused, sides: maps, stages })
    }

    /// Side of the input for each of `boxes_px`: as many pixels as the crop has, within what each may cost.
    pub fn sides_for(&self, image: &RgbImage, boxes_px: &[BoxPx]) -> Vec<usize> {
        let Config { input_size, least_size, pixel_budget, margin, .. } = self.config;
        let share = ((pixel_budget / boxes_px.len().max(1)) as f64).sqrt() as usize;
        let grain = |side: usize| side / GRAIN * GRAIN;
        let most = grain(share).clamp(least_size, input_size.max(least_size));
        let side = |b: &BoxPx| {
            let part = CropPx::around(image, b, margin);
            grain(part.width.max(part.height) + GRAIN - 1).clamp(least_size, most)
        };
        boxes_px.iter().map(side).collect()
    }

    /// Which pixels of `image` belong to the thing in a box, with the network run on `side` × `side` pixels.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn outline(&self, image: &RgbImage, box_px: &BoxPx, side: usize) -> Result<Mask> {
        let part = CropPx::around(image, box_px, self.config.margin);
        let map = self.forward(&self.input(image, part, side)?)?.fused.to_f32().await?;
        Ok(pasted(&map, side, part, image, box_px, self.config.margin))
    }
}

/// Brings a map of a part back to the picture and cuts it at half its range. What lies beyond the box by more than half
/// the margin belongs to something else; so do specks far smaller than the thing.
fn pasted(map: &[f32], side: usize, part: CropPx, image: &RgbImage, b: &BoxPx, margin: f32) -> Mask {
    let (low, high) = map.iter().fold((f32::INFINITY, 0f32), |(low, high), x| (low.min(*x), high.max(*x)));
    // A map without contrast found nothing: then the box itself is all that is known.
    let flat = high - low < 0.05;
    let threshold = (low + high) / 2.0;
    let (x_slack, y_slack) = (margin / 2.0 * (b.x1 - b.x0), margin / 2.0 * (b.y1 - b.y0));
    let mut inside = vec![false; image.width() * image.height()];
    let (columns, rows) = (bilinear_places(part.width, side), bilinear_places(part.height, side));
    for (y, (above, below, down)) in rows.iter().enumerate() {
        let centre_y = (part.top + y) as f32 + 0.5;
        if centre_y < b.y0 - y_slack || centre_y > b.y1 + y_slack {
            continue;
        }
        let line = &mut inside[(part.top + y) * image.width() + part.left..][..part.width];
        for (x, (left, right, across)) in columns.iter().enumerate() {
            let centre_x = (part.left + x) as f32 + 0.5;
            if centre_x < b.x0 - x_slack || centre_x > b.x1 + x_slack {
                continue;
            }
            let at = |row: &usize, column: &usize| map[row * side + column];
            let upper = at(above, left) * (1.0 - across) + at(above, right) * across;
            let lower = at(below, left) * (1.0 - across) + at(below, right) * across;
            line[x] = flat || upper * (1.0 - down) + lower * down > threshold;
        }
    }
    Mask::new(image.width(), image.height(), inside).without_specks(0.02)
}

/// For each of `to` pixels the two nearest of `from` pixels and the weight of the second.
fn bilinear_places(to: usize, from: usize) -> Vec<(usize, usize, f32)> {
    let place = |at: usize| {
        let x = ((at as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        let first = x as usize;
        (first, (first + 1).min(from - 1), x - first as f32)
    };
    (0..to).map(place).collect()
}

#[async_trait(?Send)]
impl Segmenter for U2Net {
    async fn segment(&self, image: &RgbImage, boxes_px: &[BoxPx], host: &dyn Host) -> Result<Vec<Mask>> {
        let sides = self.sides_for(image, boxes_px);
        let mut masks = Vec::with_capacity(boxes_px.len());
        for (b, side) in boxes_px.iter().zip(sides) {
            host.breathe().await?;
            masks.push(self.outline(image, b, side).await?);
        }
        Ok(masks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_come_back_where_they_were_taken() -> Result<()> {
        let image = RgbImage::new(100, 80, vec![0; 24_000])?;
        let b = BoxPx::from([20.0, 10.0, 60.0, 50.0]);
        let part = CropPx::around(&image, &b, 0.0);
        // The left half of the crop is the thing.
        let map: Vec<f32> = (0..64 * 64).map(|at| if at % 64 < 32 { 1.0 } else { 0.0 }).collect();
        let mask = pasted(&map, 64, part, &image, &b, 0.0);
        assert_eq!(mask.area_px(), 20 * 40);
        assert!(mask.inside()[10 * 100 + 20] && mask.inside()[49 * 100 + 39] && !mask.inside()[30 * 100 + 40]);
        Ok(())
    }
}
