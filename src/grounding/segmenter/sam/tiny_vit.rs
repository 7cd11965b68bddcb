//! MobileSAM's image encoder: a TinyViT that gives SAM's embedding at a hundredth of the work.
//!
//! Papers: Zhang et al. 2023, Faster Segment Anything (arXiv 2306.14289), Wu et al. 2022, TinyViT (arXiv 2207.10666);
//! ChaoningZhang/MobileSAM, modeling/tiny_vit_sam.py @ 34bbbfd. Weight names are the original's; the batch norms behind
//! convolutions keep their tensors in the bundle and are folded when they are loaded.

use serde::Deserialize;

use super::image_encoder::{ImageEncoder, Neck, Step};
use crate::error::{Error, Result};
use crate::nn::vit::{FusedAttention, FusedOrder, Mlp, maps_of, windows_of};
use crate::nn::{Conv, LayerNorm, Weights};
use crate::tensor::{Conv2d, Padding, Tensor, Unary};

/// Added to the variance in the blocks' norms.
const EPS: f32 = 1e-5;

/// How much wider a block is inside.
const EXPANSION: usize = 4;

/// Side of a window at most: no model has more than 14, and tables grow with its fourth power.
const MOST_PLACES: usize = 32;

/// Sizes of the four stages; the keys are those of the original's constructor.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Channels of each stage.
    pub embed_dims: [usize; 4],
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Heads of each attention; the first stage has none.
    pub num_heads: [usize; 4],
    /// Side of a window in places; the first stage has none.
    pub window_sizes: [usize; 4],
    /// Channels of the embedding.
    pub prompt_dim: usize,
}

/// Loads `image_encoder.…`.
///
/// # Errors
/// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go together.
pub fn load(config: &Config, weights: &Weights) -> Result<ImageEncoder> {
    let weights = weights.pp("image_encoder");
    let dims = config.embed_dims;
    let mut steps: ImageEncoder =
        vec![("patch_embed".to_owned(), Box::new(Stem::load(&weights.pp("patch_embed").pp("seq"), dims[0])?))];
    for (stage, dim) in dims.into_iter().enumerate() {
        let layer = weights.pp("layers").pp(stage);
        for at in 0..config.depths[stage] {
            let weights = layer.pp("blocks").pp(at);
            let (heads, window) = (config.num_heads[stage], config.window_sizes[stage]);
            let block: Box<dyn Step> = match stage {
                0 => Box::new(ConvBlock::load(&weights, dim)?),
                _ => Box::new(Block::load(&weights, dim, heads, window)?),
            };
            steps.push((format!("layer{stage}.block{at}"), block));
        }
        if let Some(next) = dims.get(stage + 1) {
            // The last stage keeps the size of the one before it: SAM's decoder wants a sixteenth of the picture.
            let stride = if stage == 2 { 1 } else { 2 };
            let downsample = Downsample::load(&layer.pp("downsample"), dim, *next, stride)?;
            steps.push((format!("layer{stage}.downsample"), Box::new(downsample)));
        }
    }
    steps.push(("neck".to_owned(), Box::new(Neck::load(&weights.pp("neck"), dims[3], config.prompt_dim)?)));
    Ok(steps)
}

/// A convolution with its batch norm folded in: `c` and `bn` of `Conv2d_BN`.
fn conv(weights: &Weights, input: usize, output: usize, form: Form, activation: Option<Unary>) -> Result<Conv> {
    let (size, stride, groups) = match form {
        Form::Point => (1, 1, 1),
        Form::Full { stride } => (3, stride, 1),
        Form::Depthwise { stride } => (3, stride, output.max(1)),
    };
    let options =
        Conv2d { stride: [stride; 2], padding: Padding::all(size / 2), groups, activation, ..Conv2d::default() };
    Conv::load_normalised(&weights.pp("c"), &weights.pp("bn"), input, output, size, options)
}

/// The convolutions of a TinyViT.
#[derive(Clone, Copy)]
enum Form {
    /// One pixel.
    Point,
    /// 3 × 3.
    Full { stride: usize },
    /// 3 × 3, every channel alone.
    Depthwise { stride: usize },
}

/// The picture at a quarter of its size.
#[derive(Debug)]
struct Stem {
    first: Conv,
    second: Conv,
}

impl Stem {
    fn load(weights: &Weights, dim: usize) -> Result<Self> {
        let half = Form::Full { stride: 2 };
        Ok(Self {
            first: conv(&weights.pp(0), 3, dim / 2, half, Some(Unary::Gelu))?,
            second: conv(&weights.pp(2), dim / 2, dim, half, None)?,
        })
    }
}

impl Step for Stem {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?)?.permute(&[0, 2, 3, 1]) // [1, rows, columns, dim]
    }
}

/// Widens, blends each channel with its neighbours, narrows (`MBConv`), with a residual.
#[derive(Debug)]
struct ConvBlock {
    widening: Conv,
    blending: Conv,
    narrowing: Conv,
}

impl ConvBlock {
    fn load(weights: &Weights, dim: usize) -> Result<Self> {
        let inner = EXPANSION * dim;
        Ok(Self {
            widening: conv(&weights.pp("conv1"), dim, inner, Form::Point, Some(Unary::Gelu))?,
            blending: conv(&weights.pp("conv2"), inner, inner, Form::Depthwise { stride: 1 }, Some(Unary::Gelu))?,
            narrowing: conv(&weights.pp("conv3"), inner, dim, Form::Point, None)?,
        })
    }
}

impl Step for ConvBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = self.blending.forward(&self.widening.forward(&x.permute(&[0, 3, 1, 2])?)?)?;
        let narrowed = self.narrowing.forward(&inner)?.permute(&[0, 2, 3, 1])?; // [1, rows, columns, dim]
        narrowed.add(x)?.unary(Unary::Gelu)
    }
}

/// To the next stage's channels and, but for the last, half the size (`PatchMerging`).
#[derive(Debug)]
struct Downsample {
    first: Conv,
    halving: Conv,
    last: Conv,
}

impl Downsample {
    fn load(weights: &Weights, input: usize, output: usize, stride: usize) -> Result<Self> {
        Ok(Self {
            first: conv(&weights.pp("conv1"), input, output, Form::Point, Some(Unary::Gelu))?,
            halving: conv(&weights.pp("conv2"), output, output, Form::Depthwise { stride }, Some(Unary::Gelu))?,
            last: conv(&weights.pp("conv3"), output, output, Form::Point, None)?,
        })
    }
}

impl Step for Downsample {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let halved = self.halving.forward(&self.first.forward(&x.permute(&[0, 3, 1, 2])?)?)?;
        self.last.forward(&halved)?.permute(&[0, 2, 3, 1]) // [1, rows, columns, output]
    }
}

/// Attention within windows, a blend of each channel with its neighbours, a feed-forward network.
#[derive(Debug)]
struct Block {
    window: usize,
    attention_norm: LayerNorm,
    attention: FusedAttention,
    /// Added to the scores for how far query and key are apart, `[1, heads, window², window²]`.
    biases: Tensor,
    blending: Conv,
    mlp_norm: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn load(weights: &Weights, dim: usize, heads: usize, window: usize) -> Result<Self> {
        let attention = weights.pp("attn");
        let mlp = weights.pp("mlp");
        Ok(Self {
            window,
            attention_norm: LayerNorm::load(&attention.pp("norm"), dim, EPS)?,
            attention: FusedAttention::load(&attention, dim, heads, FusedOrder::HeadFirst)?,
            biases: load_biases(&attention, heads, window)?,
            blending: conv(&weights.pp("local_conv"), dim, dim, Form::Depthwise { stride: 1 }, None)?,
            mlp_norm: LayerNorm::load(&mlp.pp("norm"), dim, EPS)?,
            mlp: Mlp::load(&mlp, ["fc1", "fc2"], dim, EXPANSION * dim)?,
        })
    }
}

/// The table has a number a head for each distance down and across, `[heads, window²]`, the distance across fastest:
/// the order in which the original first meets them.
fn load_biases(weights: &Weights, heads: usize, window: usize) -> Result<Tensor> {
    if window == 0 || window > MOST_PLACES {
        return Err(Error::shape("tiny_vit", format!("windows of {window} places; 1 to {MOST_PLACES} can be")));
    }
    let places = window * window;
    let table = weights.tensor("attention_biases", &[heads, places])?;
    let apart = |pair: usize| {
        let (query, key) = (pair / places, pair % places);
        let (down, across) = ((query / window).abs_diff(key / window), (query % window).abs_diff(key % window));
        (down * window + across) as u32
    };
    let apart: Vec<u32> = (0..places * places).map(apart).collect();
    let apart = Tensor::from_u32(&apart, &[places * places], &table.device())?;
    table.index_select(1, &apart)?.reshape(&[1, heads, places, places]) // [1, heads, queries, keys]
}

impl Step for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, rows, columns, dim] = x.dims_of("tiny_vit block")?;
        let places = self.window * self.window;
        // Zeros are added before the norm, which turns them into its bias; they are keys like any other.
        let windows = windows_of(x, self.window)?;
        let count = windows.dims()[0];
        let normed = self.attention_norm.forward(&windows.reshape(&[count, places, dim])?)?;
        let attended = self.attention.forward(&normed, Some(&self.biases))?;
        let attended = attended.reshape(&[count, self.window, self.window, dim])?;
        let x = x.add(&maps_of(&attended, [batch, rows, columns])?)?;
        let x = self.blending.forward(&x.permute(&[0, 3, 1, 2])?)?.permute(&[0, 2, 3, 1])?;
        x.add(&self.mlp.forward(&self.mlp_norm.forward(&x)?)?)
    }
}
