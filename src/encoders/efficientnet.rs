//! EfficientNet-lite0: a small classifier of pictures whose last feature map also says where.
//!
//! Paper: Tan and Le 2019, EfficientNet; "lite" leaves out squeeze-and-excitation and takes ReLU6. Weight names are those
//! of efficientnet_lite_pytorch 0.1.0 (PyPI), batch norms folded into the convolutions.

use serde::Deserialize;

use super::{Features, ImageEncoder};
use crate::error::Result;
use crate::media::{CropPx, Filter, RgbImage};
use crate::nn::{Conv, Linear, Weights};
use crate::tensor::{Conv2d, Device, Padding, Reduce, Tensor, Unary};

/// Shape of the network and of its input.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Middle of the grey scale 0..255, subtracted.
    pub mean: f32,
    /// Divisor after that.
    pub deviation: f32,
    /// Side of the centre square that is looked at, as a part of the picture's shorter side.
    pub crop_fraction: f64,
    /// Channels of the first convolution.
    pub stem: usize,
    /// Groups of blocks.
    pub stages: Vec<Stage>,
    /// Channels of the last convolution.
    pub head: usize,
    /// Number of classes.
    pub classes: usize,
}

/// A group of blocks; only the first changes size and channels.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Stage {
    /// Blocks.
    pub repeats: usize,
    /// Side of the depthwise kernels.
    pub kernel: usize,
    /// Step of the first block.
    pub stride: usize,
    /// Factor of the channels within a block.
    pub expand: usize,
    /// Channels of the result.
    pub channels: usize,
}

/// The network.
#[derive(Debug)]
pub struct EfficientNet {
    config: Config,
    device: Device,
    stem: Conv,
    blocks: Vec<Block>,
    head: Conv,
    classifier: Linear,
}

/// An inverted bottleneck: more channels, a depthwise convolution, fewer channels.
#[derive(Debug)]
struct Block {
    expand: Option<Conv>,
    depthwise: Conv,
    project: Conv,
    residual: bool,
}

impl Block {
    fn load(weights: &Weights, input: usize, stage: Stage, stride: usize, size: usize) -> Result<Self> {
        let Stage { kernel, channels, .. } = stage;
        let wide = input * stage.expand;
        let activation = Some(Unary::Relu6);
        let pointwise = Conv2d { activation, ..Conv2d::default() };
        let padding = Padding::same([size; 2], [kernel; 2], [stride; 2]);
        let depthwise = Conv2d { stride: [stride; 2], padding, groups: wide, activation, ..Conv2d::default() };
        Ok(Self {
            expand: match stage.expand {
                1 => None,
                _ => Some(Conv::load(&weights.pp("_expand_conv"), input, wide, 1, pointwise)?),
            },
            depthwise: Conv::load(&weights.pp("_depthwise_conv"), wide, wide, kernel, depthwise)?,
            project: Conv::load(&weights.pp("_project_conv"), wide, channels, 1, Conv2d::default())?,
            residual: stride == 1 && input == channels,
        })
    }

    /// `[batch, input, height, width]` to `[batch, channels, height / stride, width / stride]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = match &self.expand {
            Some(expand) => expand.forward(x)?,
            None => x.clone(),
        };
        let narrow = self.project.forward(&self.depthwise.forward(&wide)?)?;
        if self.residual { narrow.add(x) } else { Ok(narrow) }
    }
}

impl EfficientNet {
    /// Options of the first convolution, without its activation.
    pub fn stem_options(config: &Config) -> Conv2d {
        Conv2d { stride: [2; 2], padding: Padding::same([config.image_size; 2], [3; 2], [2; 2]), ..Conv2d::default() }
    }

    /// Takes the weights of the whole network.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if one is missing or has another shape.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let activation = Some(Unary::Relu6);
        let stem = Conv2d { activation, ..Self::stem_options(config) };
        let stem = Conv::load(&weights.pp("_conv_stem"), 3, config.stem, 3, stem)?;
        let (mut channels, mut size) = (config.stem, config.image_size.div_ceil(2));
        let mut blocks = Vec::new();
        for stage in &config.stages {
            for repeat in 0..stage.repeats {
                let stride = if repeat == 0 { stage.stride.max(1) } else { 1 };
                let weights = weights.pp("_blocks").pp(blocks.len());
                blocks.push(Block::load(&weights, channels, *stage, stride, size)?);
                (channels, size) = (stage.channels, size.div_ceil(stride));
            }
        }
        let head = Conv2d { activation, ..Conv2d::default() };
        Ok(Self {
            config: config.clone(),
            device: weights.pp("_fc").tensor("bias", &[config.classes])?.device(),
            stem,
            blocks,
            head: Conv::load(&weights.pp("_conv_head"), channels, config.head, 1, head)?,
            classifier: Linear::load(&weights.pp("_fc"), config.head, config.classes)?,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// One part of a picture as the network's input: `[1, 3, image_size, image_size]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the part is not inside the picture.
    pub fn input(&self, image: &RgbImage, part: CropPx) -> Result<Tensor> {
        let side = self.config.image_size;
        let resized = image.resized(part, side, side, Filter::Bicubic)?;
        let planes = resized.planes([0, 1, 2], [self.config.mean; 3], [self.config.deviation; 3]);
        Tensor::from_f32(&planes, &[1, 3, side, side], &self.device)
    }

    /// The result of every block, the first of which works on half the input's size.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn block_outputs(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let mut outputs: Vec<Tensor> = Vec::with_capacity(self.blocks.len());
        let mut x = self.stem.forward(input)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    /// The last feature map: `[batch, 3, image_size, image_size]` to `[batch, head, image_size / 32, image_size / 32]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn feature_map(&self, input: &Tensor) -> Result<Tensor> {
        let mut x = self.stem.forward(input)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&x)
    }

    /// Mean of the feature map over all places: `[batch, head, rows, columns]` to `[batch, head]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn pooled(&self, map: &Tensor) -> Result<Tensor> {
        let [batch, channels, rows, columns] = map.dims_of("feature map")?;
        map.reshape(&[batch, channels, rows * columns])?.reduce(Reduce::Mean, 2)
    }

    /// Pooled features `[batch, head]` to logits `[batch, classes]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn logits(&self, pooled: &Tensor) -> Result<Tensor> {
        self.classifier.forward(pooled)
    }

    /// The classifier applied to every place: `[batch, head, rows, columns]` to `[batch, rows · columns, classes]`.
    /// Their mean over the places is the logits; where a class is far above its mean, it was seen.
    ///
    /// Paper: Zhou et al. 2016, Learning deep features for discriminative localization.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn class_activations(&self, map: &Tensor) -> Result<Tensor> {
        self.classifier.forward(&places(map)?)
    }
}

/// `[batch, channels, rows, columns]` to `[batch, rows · columns, channels]`.
fn places(map: &Tensor) -> Result<Tensor> {
    let [batch, channels, rows, columns] = map.dims_of("feature map")?;
    map.reshape(&[batch, channels, rows * columns])?.transpose(1, 2) // [batch, rows · columns, channels]
}

impl ImageEncoder for EfficientNet {
    /// One token for each place of the last feature map, rows from the top.
    fn encode(&self, image: &RgbImage) -> Result<Features> {
        let input = self.input(image, CropPx::whole(image))?;
        Ok(Features { tokens: places(&self.feature_map(&input)?)? })
    }
}
