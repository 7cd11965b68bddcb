//! SAM's prompts: points, boxes and earlier masks as tokens and as a map.
//!
//! Source: facebookresearch/segment-anything, modeling/prompt_encoder.py @ dca509f, whose weight names are kept.

use std::cell::OnceCell;
use std::f64::consts::TAU;

use super::Config;
use crate::error::{Error, Result};
use crate::media::BoxPx;
use crate::nn::{Conv, LayerNorm, Weights};
use crate::tensor::{Conv2d, Device, Tensor, Unary};

/// Added to the variance in the norms between the mask's convolutions.
const EPS: f32 = 1e-6;

/// Kinds of a token, as rows of the table of their embeddings.
const NO_POINT: u32 = 0;
const OUTSIDE: u32 = 1;
const INSIDE: u32 = 2;
const TOP_LEFT: u32 = 3;
const BOTTOM_RIGHT: u32 = 4;

/// A place that a person pointed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Column in the network's square input, in pixels.
    pub x: f32,
    /// Row in the network's square input, in pixels.
    pub y: f32,
    /// Whether the thing is there, or is not.
    pub inside: bool,
}

/// What is asked for: a box, points, or both, in pixels of the network's square input.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prompt<'a> {
    /// Places on and beside the thing.
    pub points: &'a [Point],
    /// The box around the thing.
    pub box_input_px: Option<BoxPx>,
}

impl Prompt<'_> {
    /// The tokens' places and kinds: points first, then corners. Without a box a place that is none follows the points,
    /// as in training.
    fn tokens(&self) -> Vec<(Option<[f32; 2]>, u32)> {
        let kind = |point: &Point| if point.inside { INSIDE } else { OUTSIDE };
        let mut tokens: Vec<_> = self.points.iter().map(|point| (Some([point.x, point.y]), kind(point))).collect();
        match self.box_input_px {
            Some(b) => tokens.extend([(Some([b.x0, b.y0]), TOP_LEFT), (Some([b.x1, b.y1]), BOTTOM_RIGHT)]),
            None if self.points.is_empty() => {}
            None => tokens.push((None, NO_POINT)),
        }
        tokens
    }
}

/// Prompts as the mask decoder takes them.
#[derive(Debug)]
pub struct Encoded {
    /// `[prompts, tokens, dim]`.
    pub sparse: Tensor,
    /// Added to the picture's embedding: `[1 or prompts, dim, 1 or grid, 1 or grid]`.
    pub dense: Tensor,
}

/// Turns prompts into tokens and maps.
#[derive(Debug)]
pub struct PromptEncoder {
    dim: usize,
    img_size: usize,
    grid: usize,
    /// Random directions of the positions' waves, `[2, dim / 2]`.
    gaussian: Tensor,
    /// The same in main memory, once somebody asked.
    waves: OnceCell<Vec<f32>>,
    /// Positions of the embedding's cells, `[1, dim, grid, grid]`, once somebody asked.
    cells: OnceCell<Tensor>,
    /// A row a kind of token, `[5, dim]`.
    kinds: Tensor,
    no_mask: Tensor,
    mask: MaskConvolutions,
}

impl PromptEncoder {
    /// Loads `prompt_encoder.…`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let weights = weights.pp("prompt_encoder");
        let dim = config.prompt_dim;
        let points = weights.pp("point_embeddings");
        let kinds = [
            weights.tensor("not_a_point_embed.weight", &[1, dim])?,
            points.tensor("0.weight", &[1, dim])?,
            points.tensor("1.weight", &[1, dim])?,
            points.tensor("2.weight", &[1, dim])?,
            points.tensor("3.weight", &[1, dim])?,
        ];
        let gaussian = weights.tensor("pe_layer.positional_encoding_gaussian_matrix", &[2, dim / 2])?;
        Ok(Self {
            dim,
            img_size: config.img_size,
            grid: config.grid(),
            gaussian,
            waves: OnceCell::new(),
            cells: OnceCell::new(),
            kinds: Tensor::concat(&kinds.each_ref(), 0)?,
            no_mask: weights.tensor("no_mask_embed.weight", &[1, dim])?,
            mask: MaskConvolutions::load(&weights.pp("mask_downscaling"), config.mask_in_chans, dim)?,
        })
    }

    /// Encodes prompts, all with the same number of points and all with or all without a box.
    ///
    /// - `mask`: logits of an earlier mask of each prompt, `[prompts, 1, 4 · grid, 4 · grid]`
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no prompt, the prompts differ in form, or the mask has another; those of the engine.
    pub async fn encode(&self, prompts: &[Prompt<'_>], mask: Option<&Tensor>) -> Result<Encoded> {
        let count = prompts.first().map_or(0, |prompt| prompt.tokens().len());
        let tokens: Vec<_> = prompts.iter().flat_map(Prompt::tokens).collect();
        let same = |prompt: &Prompt<'_>| {
            (prompt.points.len(), prompt.box_input_px.is_some())
                == (prompts[0].points.len(), prompts[0].box_input_px.is_some())
        };
        if prompts.is_empty() || !prompts.iter().all(same) {
            return Err(Error::shape("sam prompts", format!("{} prompts, not all of one form", prompts.len())));
        }
        let dense = match mask {
            Some(mask) => self.dense_of(mask, prompts.len())?,
            None => self.no_mask.reshape(&[1, self.dim, 1, 1])?,
        };
        if count == 0 {
            let sparse = Tensor::zeros(&[prompts.len(), 0, self.dim], &self.device())?;
            return Ok(Encoded { sparse, dense });
        }
        let waves = self.waves().await?;
        let side = self.img_size as f64;
        let unit = |at: f32| (f64::from(at) + 0.5) / side;
        let mut positions = Vec::with_capacity(tokens.len() * self.dim);
        for (place, _) in &tokens {
            match place {
                Some([x, y]) => positions.extend(position(waves, unit(*x), unit(*y))),
                None => positions.resize(positions.len() + self.dim, 0.0),
            }
        }
        let kinds: Vec<u32> = tokens.iter().map(|(_, kind)| *kind).collect();
        let positions = Tensor::from_f32(&positions, &[tokens.len(), self.dim], &self.device())?;
        let kinds = self.kinds.index_select(0, &Tensor::from_u32(&kinds, &[tokens.len()], &self.device())?)?;
        let sparse = positions.add(&kinds)?.reshape(&[prompts.len(), count, self.dim])?; // [prompts, tokens, dim]
        Ok(Encoded { sparse, dense })
    }

    /// Positions of the embedding's cells, `[1, dim, grid, grid]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn cells(&self) -> Result<&Tensor> {
        if let Some(cells) = self.cells.get() {
            return Ok(cells);
        }
        let waves = self.waves().await?;
        let centre = |at: usize| (at as f64 + 0.5) / self.grid as f64;
        let places = (0..self.grid * self.grid).map(|cell| (centre(cell % self.grid), centre(cell / self.grid)));
        let positions: Vec<f32> = places.flat_map(|(x, y)| position(waves, x, y)).collect();
        let positions = Tensor::from_f32(&positions, &[1, self.grid, self.grid, self.dim], &self.device())?;
        let found = positions.permute(&[0, 3, 1, 2])?; // [1, dim, grid, grid]
        Ok(self.cells.get_or_init(|| found))
    }

    /// The waves' directions in main memory, where sines are exact: WGSL promises no more than 2⁻¹¹, and only for
    /// angles within a turn.
    async fn waves(&self) -> Result<&[f32]> {
        if let Some(waves) = self.waves.get() {
            return Ok(waves);
        }
        let read = self.gaussian.to_f32().await?;
        Ok(self.waves.get_or_init(|| read))
    }

    fn dense_of(&self, mask: &Tensor, prompts: usize) -> Result<Tensor> {
        if mask.dims() != [prompts, 1, 4 * self.grid, 4 * self.grid] {
            let reason = format!("a mask {:?} for {prompts} prompts, grid {}", mask.dims(), self.grid);
            return Err(Error::shape("sam prompts", reason));
        }
        self.mask.forward(mask)
    }

    fn device(&self) -> Device {
        self.gaussian.device()
    }
}

/// Sines, then cosines, of a place (0..1 within the input) along each wave.
fn position(waves: &[f32], x: f64, y: f64) -> Vec<f32> {
    let (across, down) = waves.split_at(waves.len() / 2);
    let angle = |(a, d): (&f32, &f32)| TAU * ((2.0 * x - 1.0) * f64::from(*a) + (2.0 * y - 1.0) * f64::from(*d));
    let angles: Vec<f64> = across.iter().zip(down).map(angle).collect();
    let sines = angles.iter().map(|angle| angle.sin() as f32);
    sines.chain(angles.iter().map(|angle| angle.cos() as f32)).collect()
}

/// Brings an earlier mask to the size and width of the embedding.
#[derive(Debug)]
struct MaskConvolutions {
    first: Conv,
    first_norm: LayerNorm,
    second: Conv,
    second_norm: LayerNorm,
    last: Conv,
}

impl MaskConvolutions {
    fn load(weights: &Weights, inner: usize, dim: usize) -> Result<Self> {
        let halving = Conv2d { stride: [2, 2], ..Conv2d::default() };
        Ok(Self {
            first: Conv::load_with_bias(&weights.pp(0), 1, inner / 4, 2, halving)?,
            first_norm: LayerNorm::load(&weights.pp(1), inner / 4, EPS)?,
            second: Conv::load_with_bias(&weights.pp(3), inner / 4, inner, 2, halving)?,
            second_norm: LayerNorm::load(&weights.pp(4), inner, EPS)?,
            last: Conv::load_with_bias(&weights.pp(6), inner, dim, 1, Conv2d::default())?,
        })
    }

    /// `[prompts, 1, 4 · grid, 4 · grid]` to `[prompts, dim, grid, grid]`.
    fn forward(&self, mask: &Tensor) -> Result<Tensor> {
        let x = self.first_norm.forward_maps(&self.first.forward(mask)?)?.unary(Unary::Gelu)?;
        let x = self.second_norm.forward_maps(&self.second.forward(&x)?)?.unary(Unary::Gelu)?;
        self.last.forward(&x)
    }
}
