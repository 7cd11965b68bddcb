//! Segment Anything and MobileSAM: outline whatever a box or a point stands for.
//!
//! Paper: Kirillov et al. 2023 (arXiv 2304.02643); facebookresearch/segment-anything @ dca509f. The picture is encoded
//! once ([`image_encoder`], or [`tiny_vit`] in MobileSAM); prompts are then cheap ([`prompt_encoder`], [`mask_decoder`]).

pub mod frame;
pub mod image_encoder;
pub mod mask_decoder;
pub mod prompt_encoder;
pub mod tiny_vit;

use async_trait::async_trait;
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::grounding::Segmenter;
use crate::host::Host;
use crate::media::{BoxPx, CropPx, Filter, HOLE_PX, Mask, RgbImage, SmallRegions};
use crate::nn::Weights;
use crate::tensor::{Device, Tensor};
use frame::Frame;
use image_encoder::ImageEncoder;
use mask_decoder::{Answers, MaskDecoder, Output};
use prompt_encoder::{Prompt, PromptEncoder};

/// Pixels of the input a cell of the embedding, along a side.
const CELL_PX: usize = 16;

/// Side of the input in pixels at most; all published models have 1024.
const MOST_PX: usize = 4096;

/// Boxes that are decoded together: at full size each takes 8 MiB for its widest map, and no binding holds more than
/// 128 MiB.
const BOXES_AT_ONCE: usize = 8;

/// Subtracted from red, green, blue (0..255).
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];

/// Divisor after that.
const DEVIATION: [f32; 3] = [58.395, 57.12, 57.375];

/// Sizes of prompt encoder and mask decoder, which do not depend on the image encoder.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Side of the square input in pixels, a multiple of 16.
    pub img_size: usize,
    /// Width of a token and channels of the embedding.
    pub prompt_dim: usize,
    /// Channels within the convolutions of a mask prompt.
    pub mask_in_chans: usize,
    /// Layers of the decoder.
    pub decoder_depth: usize,
    /// Width inside the decoder's feed-forward networks.
    pub decoder_mlp: usize,
    /// Heads of the decoder's attentions.
    pub decoder_heads: usize,
    /// How many times narrower attention between tokens and picture is.
    pub decoder_attention_downsample_rate: usize,
    /// Added to the variance in the decoder's norms; Hugging Face's configuration says 1e-6.
    #[serde(default = "decoder_norm_eps")]
    pub decoder_norm_eps: f32,
    /// Masks that a prompt may get beside the one.
    pub num_multimask: usize,
    /// Width inside the network that foretells the IoU.
    pub iou_hidden: usize,
    /// Holes of fewer pixels are filled.
    #[serde(default = "hole_px")]
    pub hole_threshold: usize,
}

fn decoder_norm_eps() -> f32 {
    1e-5
}

fn hole_px() -> usize {
    HOLE_PX
}

impl Config {
    /// Cells of the embedding along a side.
    fn grid(&self) -> usize {
        self.img_size / CELL_PX
    }
}

/// The model.
#[derive(Debug)]
pub struct Sam {
    config: Config,
    device: Device,
    encoder: ImageEncoder,
    prompts: PromptEncoder,
    decoder: MaskDecoder,
}

/// A picture that the model has looked at.
#[derive(Debug)]
pub struct Seen {
    /// How it lies in the network's input.
    pub frame: Frame,
    /// What the network made of it, `[1, dim, grid, grid]`.
    pub embedding: Tensor,
}

impl Sam {
    /// Joins an image encoder, loaded from the same weights, with prompt encoder and mask decoder.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go
    /// together.
    pub fn load(config: &Config, encoder: ImageEncoder, weights: &Weights) -> Result<Self> {
        let side = config.img_size;
        if !(CELL_PX..=MOST_PX).contains(&side) || !side.is_multiple_of(CELL_PX) {
            let reason = format!("an input of {side} pixels; multiples of {CELL_PX} up to {MOST_PX} can be");
            return Err(Error::shape("sam", reason));
        }
        Ok(Self {
            config: config.clone(),
            device: weights.tensor("mask_decoder.iou_token.weight", &[1, config.prompt_dim])?.device(),
            encoder,
            prompts: PromptEncoder::load(config, weights)?,
            decoder: MaskDecoder::load(config, weights)?,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The steps of its image encoder.
    pub fn encoder(&self) -> &ImageEncoder {
        &self.encoder
    }

    /// Its prompt encoder.
    pub fn prompt_encoder(&self) -> &PromptEncoder {
        &self.prompts
    }

    /// A picture that has the size of its frame already as the network's input `[1, 3, side, side]`: normalised, then
    /// zeros to the right and below.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is larger than the input.
    pub fn input(&self, resized: &RgbImage) -> Result<Tensor> {
        let (width, height, side) = (resized.width(), resized.height(), self.config.img_size);
        if width.max(height) > side {
            return Err(Error::shape("sam input", format!("{width} × {height} pixels do not fit {side}")));
        }
        let planes = resized.planes([0, 1, 2], MEAN, DEVIATION);
        let picture = Tensor::from_f32(&planes, &[1, 3, height, width], &self.device)?;
        picture.pad(2, 0, side - height)?.pad(3, 0, side - width) // [1, 3, side, side]
    }

    /// Looks at a picture, letting others run between the steps.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `host` says so; those of the engine.
    pub async fn look(&self, image: &RgbImage, host: &dyn Host) -> Result<Seen> {
        let frame = Frame::new([image.height(), image.width()], self.config.img_size);
        let [height, width] = frame.scaled_px();
        let mut x = self.input(&image.resized(CropPx::whole(image), width, height, Filter::Bilinear)?)?;
        for (name, step) in &self.encoder {
            host.breathe().await?;
            x = step.forward(&x).context(format!("sam/{name}"))?;
        }
        Ok(Seen { frame, embedding: x })
    }

    /// Draws the masks of prompts, which must be of one form.
    ///
    /// - `embedding`: of the picture, `[1, dim, grid, grid]`
    /// - `mask`: logits of an earlier mask of each prompt, `[prompts, 1, 4 · grid, 4 · grid]`
    ///
    /// # Errors
    /// [`Error::Shape`] as for [`PromptEncoder::encode`]; those of the engine.
    pub async fn decode(
        &self,
        embedding: &Tensor,
        prompts: &[Prompt<'_>],
        mask: Option<&Tensor>,
        answers: Answers,
    ) -> Result<Output> {
        let encoded = self.prompts.encode(prompts, mask).await?;
        self.decoder.forward(embedding, self.prompts.cells().await?, &encoded, answers)
    }

    /// Which pixels of the picture the first mask of each prompt has inside, small holes filled.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn masks(&self, frame: &Frame, low_res: &Tensor) -> Result<Vec<Mask>> {
        let [count, masks, height, width] = low_res.dims_of("sam masks")?;
        let logits = low_res.narrow(1, 0, 1.min(masks))?.to_f32().await?;
        let [picture_height, picture_width] = frame.picture_px();
        let mut found = Vec::with_capacity(count);
        for logits in logits.chunks_exact((height * width).max(1)) {
            let inside = frame.logits(logits, [height, width])?.to_f32().await?;
            let mask = Mask::new(picture_width, picture_height, inside.iter().map(|logit| *logit > 0.0).collect());
            found.push(mask.without_small(SmallRegions::Holes, self.config.hole_threshold).unwrap_or(mask));
        }
        Ok(found)
    }
}

#[async_trait(?Send)]
impl Segmenter for Sam {
    async fn segment(&self, image: &RgbImage, boxes_px: &[BoxPx], host: &dyn Host) -> Result<Vec<Mask>> {
        if boxes_px.is_empty() {
            return Ok(Vec::new());
        }
        let Seen { frame, embedding } = self.look(image, host).await?;
        let mut masks = Vec::with_capacity(boxes_px.len());
        for some in boxes_px.chunks(BOXES_AT_ONCE) {
            host.breathe().await?;
            let prompt = |b: &BoxPx| Prompt { points: &[], box_input_px: Some(frame.input_from_picture(b)) };
            let prompts: Vec<_> = some.iter().map(prompt).collect();
            let output = self.decode(&embedding, &prompts, None, Answers::One).await?;
            masks.extend(self.masks(&frame, &output.low_res).await?);
        }
        Ok(masks)
    }
}
