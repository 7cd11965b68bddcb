//! NanoDet-g: a one-stage detector of the 80 COCO classes, small enough for a browser.
//!
//! RangiLyu/nanodet, config/nanodet-g.yml: a CSP trunk, a path aggregation network without convolutions, a head of
//! generalised focal loss (Li et al. 2020) whose box sides are distributions over distances. Weight names are the
//! original's, batch norms folded: `backbone.stages.N…`, `fpn.lateral_convs.N.conv`, `head.cls_convs.N.0.conv`,
//! `head.gfl_cls.N`.

use async_trait::async_trait;
use serde::Deserialize;

use super::focal_head::{self, FocalHead, Level};
use crate::error::{Error, Result};
use crate::grounding::{Detection, Detector};
use crate::media::RgbImage;
use crate::nn::{Conv, Weights};
use crate::tensor::{Conv2d, Padding, Pool, PoolKind, Resize, Tensor, Unary};

/// The trunk's first strides: a convolution and a maximum of 2 each.
const STEM_STRIDE: usize = 4;

/// Shape of the network.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Input, classes, and what counts as found.
    #[serde(flatten)]
    pub head: focal_head::Config,
    /// Slope of the activations below zero.
    pub slope: f32,
    /// Channels of the first convolution.
    pub stem: usize,
    /// Channels, residual blocks and step of each stage of the trunk; the last three stages are looked at.
    pub stages: Vec<(usize, usize, usize)>,
    /// Channels of the feature pyramid.
    pub pyramid: usize,
}

/// The network.
#[derive(Debug)]
pub struct NanoDet {
    /// Makes its input, and boxes of its output.
    pub head: FocalHead,
    config: Config,
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
    /// [`Error::Weights`] if a weight is missing or has another shape, labels are missing, or stages are too few.
    pub fn load(config: &Config, weights: &Weights, labels: &[String]) -> Result<Self> {
        if config.stages.len() < 3 {
            return Err(Error::Weights {
                name: weights.full_name("backbone"),
                expected: "at least 3 stages".into(),
                found: config.stages.len().to_string(),
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
        let device = trunk.pp(0).pp("conv").tensor("bias", &[config.stem])?.device();
        let reader = FocalHead::new(&config.head, labels, device, weights)?;
        let outputs = reader.channels();
        let head = weights.pp("head");
        let heads = (0..3).map(|at| -> Result<Head> {
            let shared = head.pp("cls_convs").pp(at).pp(0).pp("conv");
            Ok(Head {
                shared: Conv::load(&shared, pyramid, pyramid, 3, spatial(1))?,
                predict: Conv::load(&head.pp("gfl_cls").pp(at), pyramid, outputs, 1, Conv2d::default())?,
            })
        });
        Ok(Self {
            head: reader,
            config: config.clone(),
            stem,
            stages: stages.collect::<Result<_>>()?,
            lateral: lateral.collect::<Result<_>>()?,
            heads: heads.collect::<Result<_>>()?,
        })
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
        let predict = |((head, x), (stride, _)): ((&Head, &Tensor), &(usize, Tensor))| {
            self.head.level(&head.predict.forward(&head.shared.forward(x)?)?, *stride)
        };
        levels.map(predict).collect()
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

#[async_trait(?Send)]
impl Detector for NanoDet {
    /// Boxes of the classes that the network knows; `phrases` changes nothing.
    async fn detect(&self, image: &RgbImage, _phrases: &[String]) -> Result<Vec<Detection>> {
        self.head.detect(image, |input| self.forward(input)).await
    }
}
