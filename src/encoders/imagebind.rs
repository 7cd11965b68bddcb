//! The audio half of ImageBind (Girdhar et al. 2023, arXiv 2305.05665), as BuboGPT uses it: a ViT over log-mel
//! spectrograms whose tokens are brought to one length each and averaged over the clips of a sound.
//!
//! Source: magic-research/bubogpt @ 17c72b5, imagebind/models; tensor names are those of `imagebind_huge.pth`.

use serde::Deserialize;

use super::{AudioEncoder, Features};
use crate::error::{Error, Result};
use crate::media::{ClipConfig, ClipMel, MelClips, Waveform};
use crate::nn::{Conv, LayerNorm, Linear, Weights};
use crate::tensor::{Attention, Binary, Conv2d, Device, Reduce, Tensor, Unary};

/// Largest factor that tokens are stretched by, whatever was learned.
const LARGEST_SCALE: f32 = 100.0;

/// Sizes of the network and what it hears. The defaults are ImageBind-huge's.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub num_blocks: usize,
    /// Heads of each attention.
    pub num_heads: usize,
    /// Width inside the feed-forward network, in widths of a token.
    pub mlp_ratio: usize,
    /// Bands and frames of a patch.
    pub kernel_size: usize,
    /// Bands and frames from patch to patch; patches overlap.
    pub stride: usize,
    /// Mel bands of a spectrogram.
    pub num_mel_bins: usize,
    /// Frames of a spectrogram.
    pub target_len: usize,
    /// Added to the variance in the norm of the patches.
    pub stem_eps: f32,
    /// Added to the variance in the norms of the blocks.
    pub block_eps: f32,
    /// How a sound becomes spectrograms; its bands and frames give way to the network's.
    pub input: ClipConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embed_dim: 768,
            num_blocks: 12,
            num_heads: 12,
            mlp_ratio: 4,
            kernel_size: 16,
            stride: 10,
            num_mel_bins: 128,
            target_len: 204,
            stem_eps: 1e-5,
            block_eps: 1e-6,
            input: ClipConfig::default(),
        }
    }
}

impl Config {
    /// Patches along the bands and along the frames.
    ///
    /// # Errors
    /// [`Error::Shape`] if not even one fits.
    fn grid(&self) -> Result<[usize; 2]> {
        let count = |size: usize| size.checked_sub(self.kernel_size).map(|rest| rest / self.stride.max(1) + 1);
        match (count(self.num_mel_bins), count(self.target_len)) {
            (Some(rows), Some(columns)) if self.stride > 0 && self.kernel_size > 0 => Ok([rows, columns]),
            _ => Err(Error::shape("imagebind", format!("no patch of {0} × {0} fits", self.kernel_size))),
        }
    }
}

/// The network with its spectrograms.
#[derive(Debug)]
pub struct ImageBindAudio {
    config: Config,
    device: Device,
    mel: ClipMel,
    stem: Conv,
    stem_norm: LayerNorm,
    class_token: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    /// `[embed_dim]`: what tokens of root mean square 1 are multiplied by.
    scale: Tensor,
}

/// What happens on the way, for comparison with the original.
#[derive(Debug)]
pub struct States {
    /// Patches after their norm, `[clips, patches, dim]`, rows of bands first.
    pub stem: Tensor,
    /// With class token and positions, `[clips, 1 + patches, dim]`.
    pub tokens: Tensor,
    /// After each block.
    pub blocks: Vec<Tensor>,
    /// Tokens of one length, `[clips, 1 + patches, dim]`.
    pub scaled: Tensor,
}

impl ImageBindAudio {
    /// Takes the weights `modality_preprocessors.audio.…`, `modality_trunks.audio.…` and
    /// `modality_postprocessors.audio.1.log_logit_scale`; the head is not used.
    ///
    /// # Errors
    /// [`Error::Weights`] if one is missing or has another shape; [`Error::Shape`] for sizes that do not go together;
    /// [`Error::Corrupt`] for input settings without meaning.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let dim = config.embed_dim;
        if dim == 0 || config.num_heads == 0 || !dim.is_multiple_of(config.num_heads) {
            return Err(Error::shape("imagebind", format!("{} heads do not divide the width {dim}", config.num_heads)));
        }
        if !(1..=64).contains(&config.mlp_ratio) {
            return Err(Error::shape("imagebind", format!("mlp_ratio is {}; it is 4 as a rule", config.mlp_ratio)));
        }
        let [rows, columns] = config.grid()?;
        let (before, after) = (weights.pp("modality_preprocessors.audio"), weights.pp("modality_postprocessors.audio"));
        let (stem, blocks) = (before.pp("rgbt_stem"), weights.pp("modality_trunks.audio.blocks"));
        let patches = Conv2d { stride: [config.stride; 2], ..Conv2d::default() };
        let class_token = before.tensor("cls_token", &[1, 1, dim])?;
        // ‖x‖ = √dim · root mean square, so that a norm with this weight gives tokens of the learned length.
        let log_scale = after.tensor("1.log_logit_scale", &[])?.reshape(&[1])?;
        let device = class_token.device();
        let most = Tensor::from_f32(&[LARGEST_SCALE], &[1], &device)?;
        let length = log_scale.unary(Unary::Exp)?.binary(&most, Binary::Min)?;
        let input = ClipConfig { bands: config.num_mel_bins, frames: config.target_len, ..config.input };
        Ok(Self {
            mel: ClipMel::new(input)?,
            stem: Conv::load(&stem.pp("proj"), 1, dim, config.kernel_size, patches)?,
            stem_norm: LayerNorm::load(&stem.pp("norm_layer"), dim, config.stem_eps)?,
            positions: before.tensor("pos_embedding_helper.pos_embed", &[1, 1 + rows * columns, dim])?,
            blocks: (0..config.num_blocks).map(|at| Block::load(config, &blocks.pp(at))).collect::<Result<_>>()?,
            scale: length.affine((dim as f32).powf(-0.5), 0.0)?.broadcast_to(&[dim])?,
            config: config.clone(),
            device,
            class_token,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How a sound becomes spectrograms.
    pub fn input_config(&self) -> &ClipConfig {
        self.mel.config()
    }

    /// Spectrograms of the clips of a sound, `[clips, 1, bands, frames]`.
    ///
    /// # Errors
    /// [`Error::Input`] if the sound's rate is of no use.
    pub fn input(&self, sound: &Waveform) -> Result<Tensor> {
        let MelClips { clips, bands, frames, numbers } = self.mel.compute(sound)?;
        Tensor::from_f32(&numbers, &[clips, 1, bands, frames], &self.device)
    }

    /// Spectrograms `[clips, 1, bands, frames]` of one sound to its tokens `[1, 1 + patches, dim]`: the mean over the
    /// clips, so that it does not say when in the sound something was heard.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn forward(&self, mel: &Tensor) -> Result<Tensor> {
        let mut x = self.with_positions(&self.patches(mel)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let [_, tokens, dim] = x.dims_of("imagebind tokens")?;
        self.scaled(&x)?.reduce(Reduce::Mean, 0)?.reshape(&[1, tokens, dim]) // [1, 1 + patches, dim]
    }

    /// As [`forward`](Self::forward), with everything that happens on the way.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn states(&self, mel: &Tensor) -> Result<States> {
        let stem = self.patches(mel)?;
        let tokens = self.with_positions(&stem)?;
        let mut blocks: Vec<Tensor> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            blocks.push(block.forward(blocks.last().unwrap_or(&tokens))?);
        }
        let scaled = self.scaled(blocks.last().unwrap_or(&tokens))?;
        Ok(States { stem, tokens, blocks, scaled })
    }

    /// `[clips, 1, bands, frames]` to `[clips, patches, dim]`.
    fn patches(&self, mel: &Tensor) -> Result<Tensor> {
        let patches = self.stem.forward(mel)?;
        let [clips, dim, rows, columns] = patches.dims_of("imagebind patches")?;
        let patches = patches.reshape(&[clips, dim, rows * columns])?;
        self.stem_norm.forward(&patches.transpose(1, 2)?) // [clips, patches, dim]
    }

    /// `[clips, patches, dim]` to `[clips, 1 + patches, dim]`.
    fn with_positions(&self, patches: &Tensor) -> Result<Tensor> {
        let [clips, _, dim] = patches.dims_of("imagebind patches")?;
        let class_tokens = self.class_token.broadcast_to(&[clips, 1, dim])?;
        Tensor::concat(&[&class_tokens, patches], 1)?.add(&self.positions)
    }

    /// Brings every token to the learned length.
    fn scaled(&self, tokens: &Tensor) -> Result<Tensor> {
        // The original divides by the norm, but by 10⁻¹² at the least; this keeps a token of zeros zero as well.
        tokens.rms_norm(&self.scale, 1e-24)
    }
}

impl AudioEncoder for ImageBindAudio {
    /// One token a patch of the spectrogram, after the class token.
    fn encode(&self, sound: &Waveform) -> Result<Features> {
        Ok(Features { tokens: self.forward(&self.input(sound)?)? })
    }
}

/// A pre-norm transformer block whose attention has one learned key and value more than there are tokens.
#[derive(Debug)]
struct Block {
    heads: usize,
    norm_1: LayerNorm,
    in_proj: Linear,
    bias_k: Tensor,
    bias_v: Tensor,
    out_proj: Linear,
    norm_2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, inner) = (config.embed_dim, config.embed_dim * config.mlp_ratio);
        let (attention, mlp) = (weights.pp("attn"), weights.pp("mlp"));
        let in_proj = attention.matrix("in_proj_weight", 3 * dim, dim)?;
        Ok(Self {
            heads: config.num_heads,
            norm_1: LayerNorm::load(&weights.pp("norm_1"), dim, config.block_eps)?,
            in_proj: Linear::new(in_proj, Some(attention.tensor("in_proj_bias", &[3 * dim])?)),
            bias_k: attention.tensor("bias_k", &[1, 1, dim])?,
            bias_v: attention.tensor("bias_v", &[1, 1, dim])?,
            out_proj: Linear::load(&attention.pp("out_proj"), dim, dim)?,
            norm_2: LayerNorm::load(&weights.pp("norm_2"), dim, config.block_eps)?,
            fc1: Linear::load(&mlp.pp("fc1"), dim, inner)?,
            fc2: Linear::load(&mlp.pp("fc2"), inner, dim)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.add(&self.attention(&self.norm_1.forward(x)?)?)?;
        let widened = self.fc1.forward_with(&self.norm_2.forward(&x)?, Unary::Gelu)?;
        x.add(&self.fc2.forward(&widened)?)
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, seq, dim] = x.dims_of("imagebind attention")?;
        let head_dim = dim / self.heads;
        let projected = self.in_proj.forward(x)?; // [batch, seq, 3 · dim]
        let third = |at: usize| projected.narrow(2, at * dim, dim);
        let split = |x: &Tensor, seq: usize| -> Result<Tensor> {
            x.reshape(&[batch, seq, self.heads, head_dim])?.transpose(1, 2) // [batch, heads, seq, head_dim]
        };
        let with_bias = |x: &Tensor, bias: &Tensor| -> Result<Tensor> {
            split(&Tensor::concat(&[x, &bias.broadcast_to(&[batch, 1, dim])?], 1)?, seq + 1)
        };
        let scale = (head_dim as f32).powf(-0.5);
        let options = Attention { scale, key_count: seq + 1, causal_start: None, mask: None };
        let (key, value) = (with_bias(&third(1)?, &self.bias_k)?, with_bias(&third(2)?, &self.bias_v)?);
        let mixed = split(&third(0)?, seq)?.attention(&key, &value, &options)?;
        self.out_proj.forward(&mixed.transpose(1, 2)?.reshape(&[batch, seq, dim])?)
    }
}
