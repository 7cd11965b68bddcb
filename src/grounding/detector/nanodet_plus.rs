//! NanoDet-Plus: a one-stage detector of the 80 COCO classes with a third of NanoDet-g's weights, and surer.
//!
//! RangiLyu/nanodet, config/nanodet-plus-m_416.yml: ShuffleNetV2 (Ma et al. 2018), a path aggregation network of ghost
//! bottlenecks (Han et al. 2020), a head of generalised focal loss on four levels. Batch norms are folded. Weight names are
//! the original's, but that convolutions in a row are counted without what stands between them: `backbone.stage2.N.branch1.N`,
//! `fpn.top_down_blocks.N.ghost1.primary_conv.0`, `fpn.downsamples.N.depthwise.0`, `head.gfl_cls.N`.

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
/// Kernel of the pyramid's and the head's convolutions by channel.
const KERNEL: usize = 5;
/// Convolutions of each level's head.
const HEAD_DEPTH: usize = 2;

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
    /// Channels and blocks of the trunk's three stages, each of which halves the picture.
    pub stages: [(usize, usize); 3],
    /// Channels of the feature pyramid.
    pub pyramid: usize,
}

/// The network.
#[derive(Debug)]
pub struct NanoDetPlus {
    /// Makes its input, and boxes of its output.
    pub head: FocalHead,
    stem: Conv,
    stages: Vec<Vec<ShuffleBlock>>,
    reduce: Vec<Conv>,
    top_down: Vec<GhostBottleneck>,
    down: Vec<Separable>,
    bottom_up: Vec<GhostBottleneck>,
    extra_in: Separable,
    extra_out: Separable,
    heads: Vec<Head>,
}

/// Loads convolutions that are all alike but for a few numbers.
struct Layers<'a> {
    weights: &'a Weights,
    activation: Unary,
}

impl Layers<'_> {
    fn at(&self, path: &str) -> Weights {
        path.split('.').fold(self.weights.clone(), |weights, name| weights.pp(name))
    }

    /// A convolution of every input channel with every output channel at one place.
    fn pointwise(&self, path: &str, input: usize, output: usize, is_active: bool) -> Result<Conv> {
        let options = Conv2d { activation: is_active.then_some(self.activation), ..Conv2d::default() };
        Conv::load(&self.at(path), input, output, 1, options)
    }

    /// A convolution of each channel by itself.
    fn by_channel(&self, path: &str, channels: usize, kernel: usize, stride: usize, is_active: bool) -> Result<Conv> {
        let options = Conv2d {
            stride: [stride; 2],
            padding: Padding::all(kernel / 2),
            groups: channels,
            activation: is_active.then_some(self.activation),
            ..Conv2d::default()
        };
        Conv::load(&self.at(path), channels, channels, kernel, options)
    }
}

/// A convolution by channel, then one at each place.
#[derive(Debug)]
struct Separable {
    depthwise: Conv,
    pointwise: Conv,
}

impl Separable {
    fn load(layers: &Layers, path: &str, channels: usize, stride: usize) -> Result<Self> {
        Ok(Self {
            depthwise: layers.by_channel(&format!("{path}.depthwise.0"), channels, KERNEL, stride, true)?,
            pointwise: layers.pointwise(&format!("{path}.pointwise.0"), channels, channels, true)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.pointwise.forward(&self.depthwise.forward(x)?)
    }
}

/// Block of the trunk: one half of the channels goes by (or, where the picture is halved, through a convolution), the
/// other through three; then the halves' channels take turns.
#[derive(Debug)]
struct ShuffleBlock {
    shortcut: Option<(Conv, Conv)>,
    branch: [Conv; 3],
}

impl ShuffleBlock {
    /// - `input`: channels that come in, if the block halves the picture
    fn load(layers: &Layers, path: &str, input: Option<usize>, channels: usize) -> Result<Self> {
        let half = channels / 2;
        let (from, stride) = input.map_or((half, 1), |input| (input, 2));
        let shortcut = |input: usize| -> Result<(Conv, Conv)> {
            let depthwise = layers.by_channel(&format!("{path}.branch1.0"), input, 3, 2, false)?;
            Ok((depthwise, layers.pointwise(&format!("{path}.branch1.1"), input, half, true)?))
        };
        Ok(Self {
            shortcut: input.map(shortcut).transpose()?,
            branch: [
                layers.pointwise(&format!("{path}.branch2.0"), from, half, true)?,
                layers.by_channel(&format!("{path}.branch2.1"), half, 3, stride, false)?,
                layers.pointwise(&format!("{path}.branch2.2"), half, half, true)?,
            ],
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [_, channels, ..] = x.dims_of::<4>("shuffle block")?;
        let (beside, mut through) = match &self.shortcut {
            Some((depthwise, pointwise)) => (pointwise.forward(&depthwise.forward(x)?)?, x.clone()),
            None => (x.narrow(1, 0, channels / 2)?, x.narrow(1, channels / 2, channels / 2)?),
        };
        for conv in &self.branch {
            through = conv.forward(&through)?;
        }
        let [_, half, rows, columns] = through.dims_of("shuffle block")?;
        let halves = Tensor::concat(&[&beside, &through], 1)?.reshape(&[2, half, rows * columns])?;
        halves.transpose(0, 1)?.reshape(&[1, 2 * half, rows, columns])
    }
}

/// Half of the channels by a convolution, the other half from these, each by itself.
#[derive(Debug)]
struct Ghost {
    primary: Conv,
    cheap: Conv,
}

impl Ghost {
    fn load(layers: &Layers, path: &str, input: usize, output: usize, is_active: bool) -> Result<Self> {
        Ok(Self {
            primary: layers.pointwise(&format!("{path}.primary_conv.0"), input, output / 2, is_active)?,
            cheap: layers.by_channel(&format!("{path}.cheap_operation.0"), output / 2, 3, 1, is_active)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let primary = self.primary.forward(x)?;
        Tensor::concat(&[&primary, &self.cheap.forward(&primary)?], 1)
    }
}

/// Two ghost modules beside a separable convolution.
#[derive(Debug)]
struct GhostBottleneck {
    wide: Ghost,
    narrow: Ghost,
    shortcut: (Conv, Conv),
}

impl GhostBottleneck {
    fn load(layers: &Layers, path: &str, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            wide: Ghost::load(layers, &format!("{path}.ghost1"), input, output, true)?,
            narrow: Ghost::load(layers, &format!("{path}.ghost2"), output, output, false)?,
            shortcut: (
                layers.by_channel(&format!("{path}.shortcut.0"), input, KERNEL, 1, false)?,
                layers.pointwise(&format!("{path}.shortcut.1"), input, output, false)?,
            ),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let beside = self.shortcut.1.forward(&self.shortcut.0.forward(x)?)?;
        self.narrow.forward(&self.wide.forward(x)?)?.add(&beside)
    }
}

#[derive(Debug)]
struct Head {
    shared: Vec<Separable>,
    predict: Conv,
}

impl NanoDetPlus {
    /// Takes the weights; `labels` names the classes in order.
    ///
    /// # Errors
    /// [`Error::Weights`] if a weight is missing or has another shape, or labels are missing.
    pub fn load(config: &Config, weights: &Weights, labels: &[String]) -> Result<Self> {
        if config.stages.iter().any(|(channels, blocks)| *blocks == 0 || *channels < 2 || channels % 2 != 0) {
            return Err(Error::Weights {
                name: weights.full_name("backbone"),
                expected: "blocks of an even number of channels in each stage".into(),
                found: format!("{:?}", config.stages),
            });
        }
        let layers = Layers { weights, activation: Unary::LeakyRelu(config.slope) };
        let stem = weights.pp("backbone").pp("conv1").pp(0);
        let device = stem.tensor("weight", &[config.stem, 3, 3, 3])?.device();
        let head = FocalHead::new(&config.head, labels, device, weights)?;
        let options = Conv2d {
            stride: [2; 2],
            padding: Padding::all(1),
            activation: Some(layers.activation),
            ..Conv2d::default()
        };
        let mut before = config.stem;
        let mut stages = Vec::new();
        for (stage, (channels, blocks)) in config.stages.into_iter().enumerate() {
            let block = |at: usize| {
                let path = format!("backbone.stage{}.{at}", stage + 2);
                ShuffleBlock::load(&layers, &path, (at == 0).then_some(before), channels)
            };
            stages.push((0..blocks).map(block).collect::<Result<Vec<_>>>()?);
            before = channels;
        }
        let pyramid = config.pyramid;
        let reduce =
            config.stages.iter().enumerate().map(|(at, (channels, _))| {
                layers.pointwise(&format!("fpn.reduce_layers.{at}"), *channels, pyramid, true)
            });
        let bottleneck = |path: String| GhostBottleneck::load(&layers, &path, 2 * pyramid, pyramid);
        let separable = |path: String, stride| Separable::load(&layers, &path, pyramid, stride);
        let heads = (0..config.stages.len() + 1).map(|level| -> Result<Head> {
            let shared = (0..HEAD_DEPTH).map(|at| separable(format!("head.cls_convs.{level}.{at}"), 1));
            let predict = layers.pointwise(&format!("head.gfl_cls.{level}"), pyramid, head.channels(), false)?;
            Ok(Head { shared: shared.collect::<Result<_>>()?, predict })
        });
        Ok(Self {
            stem: Conv::load(&stem, 3, config.stem, 3, options)?,
            stages,
            reduce: reduce.collect::<Result<_>>()?,
            top_down: (0..2).map(|at| bottleneck(format!("fpn.top_down_blocks.{at}"))).collect::<Result<_>>()?,
            down: (0..2).map(|at| separable(format!("fpn.downsamples.{at}"), 2)).collect::<Result<_>>()?,
            bottom_up: (0..2).map(|at| bottleneck(format!("fpn.bottom_up_blocks.{at}"))).collect::<Result<_>>()?,
            extra_in: separable("fpn.extra_lvl_in_conv.0".into(), 2)?,
            extra_out: separable("fpn.extra_lvl_out_conv.0".into(), 2)?,
            heads: heads.collect::<Result<_>>()?,
            head,
        })
    }

    /// Runs the network on `[1, 3, height, width]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn forward(&self, input: &Tensor) -> Result<Vec<Level>> {
        let pool = Pool { kind: PoolKind::Max, kernel: [3; 2], stride: [2; 2], padding: Padding::all(1) };
        let mut x = self.stem.forward(input)?.pool2d(&pool)?;
        let mut trunk = Vec::new();
        for (stage, reduce) in self.stages.iter().zip(&self.reduce) {
            for block in stage {
                x = block.forward(&x)?;
            }
            trunk.push(reduce.forward(&x)?);
        }
        let mut stride = STEM_STRIDE;
        let levels = self.aggregated(&trunk)?;
        let said = levels.iter().zip(&self.heads).map(|(level, head)| {
            stride *= 2;
            let mut x = level.clone();
            for conv in &head.shared {
                x = conv.forward(&x)?;
            }
            self.head.level(&head.predict.forward(&x)?, stride)
        });
        said.collect()
    }

    /// The pyramid: what coarse levels see goes to finer ones, from the top down, then back to coarser ones and to one
    /// level more.
    fn aggregated(&self, trunk: &[Tensor]) -> Result<Vec<Tensor>> {
        let [fine, middle, coarse] = trunk else {
            return Err(Error::shape("pyramid", format!("{} levels where three are expected", trunk.len())));
        };
        let mut inner = vec![coarse.clone()];
        for (block, below) in self.top_down.iter().zip([middle, fine]) {
            let [.., rows, columns] = below.dims_of::<4>("pyramid")?;
            let above = inner[inner.len() - 1].resize(rows, columns, Resize::Bilinear)?;
            inner.push(block.forward(&Tensor::concat(&[&above, below], 1)?)?);
        }
        let mut levels: Vec<Tensor> = inner.pop().into_iter().collect();
        for (block, down) in self.bottom_up.iter().zip(&self.down) {
            let Some(above) = inner.pop() else { break };
            let below = down.forward(&levels[levels.len() - 1])?;
            levels.push(block.forward(&Tensor::concat(&[&below, &above], 1)?)?);
        }
        let last = self.extra_out.forward(&levels[levels.len() - 1])?;
        levels.push(self.extra_in.forward(coarse)?.add(&last)?);
        Ok(levels)
    }
}

#[async_trait(?Send)]
impl Detector for NanoDetPlus {
    /// Boxes of the classes that the network knows; `phrases` changes nothing.
    async fn detect(&self, image: &RgbImage, _phrases: &[String]) -> Result<Vec<Detection>> {
        self.head.detect(image, |input| self.forward(input)).await
    }
}
