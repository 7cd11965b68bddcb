//! The picture's side: the trunk's last three stages and one coarser level, brought to one width.

use super::Config;
use super::attention::EPS;
use super::positions;
use crate::error::{Error, Result};
use crate::nn::swin::{FeatureMap, Swin};
use crate::nn::{Conv, LayerNorm, Tap, Weights, swin};
use crate::tensor::{Conv2d, Padding, Tensor};

/// Stages of the trunk that are looked at.
const STAGES: usize = 3;

/// What the network sees of a picture, before it knows what to look for.
#[derive(Debug)]
pub struct Features {
    /// `[tokens, dim]`: all levels behind each other, each row by row.
    pub(super) tokens: Tensor,
    /// `[tokens, dim]`: where each token lies, and in which level.
    pub(super) positions: Tensor,
    /// `[tokens, 2]`: x and y of each token's centre, 0..1.
    pub(super) centres: Tensor,
    /// Rows and columns of each level, the finest first.
    pub(super) sizes: Vec<[usize; 2]>,
}

/// Trunk and input projections.
#[derive(Debug)]
pub(super) struct Eye {
    dim: usize,
    temperature: f32,
    trunk: Swin,
    norms: Vec<LayerNorm>,
    projections: Vec<Projection>,
    /// `[levels, dim]`: tells the levels apart.
    level_embed: Tensor,
}

impl Eye {
    pub(super) fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (trunk, backbone) = (config.trunk(), weights.pp("backbone").pp(0));
        let norm =
            |stage: usize| LayerNorm::load(&backbone.pp(format!("norm{stage}")), trunk.channels(stage), swin::EPS);
        let projection = |level: usize| {
            let stage = (level + 1).min(STAGES);
            let channels = if level > STAGES { config.hidden_dim } else { trunk.channels(stage) };
            Projection::load(config, channels, level >= STAGES, &weights.pp("input_proj").pp(level))
        };
        let (dim, levels) = (config.hidden_dim, config.num_feature_levels);
        Ok(Self {
            dim,
            temperature: config.pe_temperature,
            trunk: Swin::load(&trunk, &backbone)?,
            norms: (1..=STAGES).map(norm).collect::<Result<_>>()?,
            projections: (0..levels).map(projection).collect::<Result<_>>()?,
            level_embed: weights.pp("transformer").tensor("level_embed", &[levels, dim])?,
        })
    }

    /// Looks at a normalised picture `[1, 3, height, width]`.
    pub(super) fn look(&self, image: &Tensor, tap: &mut Tap<'_>) -> Result<Features> {
        let maps = self.trunk.forward(image, tap)?;
        let mut levels = Vec::with_capacity(self.projections.len());
        for (index, (map, norm)) in maps[1..].iter().zip(&self.norms).enumerate() {
            // Each output has a norm of its own; what goes on to the next stage has not.
            let tokens = norm.forward(&map.tokens)?;
            tap(&format!("backbone.norm{}", index + 1), &tokens);
            levels.push(planes(&FeatureMap { tokens, ..*map })?);
        }
        let mut last = levels.last().cloned();
        let mut projected = Vec::with_capacity(self.projections.len());
        for (index, projection) in self.projections.iter().enumerate() {
            let source = levels.get(index).cloned().or_else(|| last.take());
            let source = source.ok_or_else(|| Error::shape("grounding dino", "a trunk without stages"))?;
            let level = projection.forward(&source)?; // [1, dim, rows, columns]
            tap(&format!("input_proj{index}"), &level);
            if index >= STAGES {
                last = Some(level.clone());
            }
            projected.push(level);
        }
        self.gather(&projected)
    }

    fn gather(&self, levels: &[Tensor]) -> Result<Features> {
        let device = self.level_embed.device();
        let (mut tokens, mut positions, mut centres, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, level) in levels.iter().enumerate() {
            let [_, dim, rows, columns] = level.dims_of("input projection")?;
            tokens.push(level.reshape(&[dim, rows * columns])?.transpose(0, 1)?); // [rows · columns, dim]
            let waves = positions::of_level([rows, columns], self.dim, self.temperature, &device)?;
            positions.push(waves.add(&self.level_embed.narrow(0, index, 1)?)?);
            for place in 0..rows * columns {
                centres.push(((place % columns) as f32 + 0.5) / columns as f32);
                centres.push(((place / columns) as f32 + 0.5) / rows as f32);
            }
            sizes.push([rows, columns]);
        }
        Ok(Features {
            tokens: Tensor::concat(&tokens.iter().collect::<Vec<_>>(), 0)?,
            positions: Tensor::concat(&positions.iter().collect::<Vec<_>>(), 0)?,
            centres: Tensor::from_f32(&centres, &[centres.len() / 2, 2], &device)?,
            sizes,
        })
    }
}

/// Tokens as planes, `[1, channels, height, width]`.
fn planes(map: &FeatureMap) -> Result<Tensor> {
    let [_, channels] = map.tokens.dims_of("feature map")?;
    map.tokens.transpose(0, 1)?.reshape(&[1, channels, map.height, map.width])
}

/// A convolution to the transformer's width and its norm over groups of channels.
#[derive(Debug)]
struct Projection {
    conv: Conv,
    groups: usize,
    weight: Tensor,
    bias: Tensor,
}

impl Projection {
    /// `is_coarser`: a step of 2 over 3 × 3 pixels, else pixel by pixel.
    fn load(config: &Config, channels: usize, is_coarser: bool, weights: &Weights) -> Result<Self> {
        let step = Conv2d { stride: [2; 2], padding: Padding::all(1), ..Conv2d::default() };
        let (side, options) = if is_coarser { (3, step) } else { (1, Conv2d::default()) };
        let (dim, norm) = (config.hidden_dim, weights.pp(1));
        Ok(Self {
            conv: Conv::load(&weights.pp(0), channels, dim, side, options)?,
            groups: config.group_norm_groups,
            weight: norm.tensor("weight", &[dim])?,
            bias: norm.tensor("bias", &[dim])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(x)?.group_norm(self.groups, &self.weight, &self.bias, EPS)
    }
}
