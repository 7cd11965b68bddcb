//! Segment Anything and MobileSAM: outline whatever a box or a point stands for.
//!
//! Paper: Kirillov et al. 2023 (arXiv 2304.02643); facebookresearch/segment-anything @ dca509f. The picture is encoded
//! once ([`image_encoder`], or [`tiny_vit`] in MobileSAM); prompts are then cheap ([`prompt_encoder`], [`mask_decoder`]).

pub mod image_encoder;
pub mod mask_decoder;
pub mod prompt_encoder;
pub mod tiny_vit;

use async_trait::async_trait;
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::grounding::{RawOutputs, Segmenter};
use crate::host::Host;
use crate::media::{BoxPx, ChannelScale, HOLE_PX, Mask, PaddedView, RgbImage, SmallRegions};
use crate::nn::Weights;
use crate::tensor::{Device, Resize, Tensor};
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
    pub view: PaddedView,
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

    /// A picture as the network's input `[1, 3, side, side]`: normalised, then zeros to the right and below.
    ///
    /// # Errors
    /// [`Error::Shape`] if the picture was brought to another side than the network's.
    pub fn input(&self, view: &PaddedView) -> Result<Tensor> {
        let side = self.config.img_size;
        if view.side != side {
            return Err(Error::shape("sam input", format!("a picture for {} pixels, not {side}", view.side)));
        }
        Tensor::from_f32(&view.planes(ChannelScale::IMAGENET), &[1, 3, side, side], &self.device)
    }

    /// Looks at a picture, letting others run between the steps.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `host` says so; those of the engine.
    pub async fn look(&self, image: &RgbImage, host: &dyn Host) -> Result<Seen> {
        let view = image.with_longest_side(self.config.img_size)?;
        let mut x = self.input(&view)?;
        for (name, step) in &self.encoder {
            host.breathe().await?;
            x = step.forward(&x).context(format!("sam/{name}"))?;
        }
        Ok(Seen { view, embedding: x })
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
    pub async fn masks(&self, view: &PaddedView, low_res: &Tensor) -> Result<Vec<Mask>> {
        let [count, masks, height, width] = low_res.dims_of("sam masks")?;
        let logits = low_res.narrow(1, 0, 1.min(masks))?.to_f32().await?;
        let mut found = Vec::with_capacity(count);
        for logits in logits.chunks_exact((height * width).max(1)) {
            let inside = picture_logits(view, logits, [height, width])?.to_f32().await?;
            let inside = inside.iter().map(|logit| *logit > 0.0).collect();
            let mask = Mask::new(view.original_width, view.original_height, inside);
            found.push(mask.without_small(SmallRegions::Holes, self.config.hole_threshold).unwrap_or(mask));
        }
        Ok(found)
    }
}

/// Brings a mask's logits of `size` (height, width), which cover the whole input, to the size of the picture:
/// `[1, 1, height, width]` on the CPU. In two steps as in training, which is not the same as one.
///
/// # Errors
/// [`Error::Shape`] if the count does not follow from the size.
///
/// Source: facebookresearch/segment-anything, modeling/sam.py (`postprocess_masks`) @ dca509f.
pub fn picture_logits(view: &PaddedView, logits: &[f32], size: [usize; 2]) -> Result<Tensor> {
    let coarse = Tensor::from_f32(logits, &[1, 1, size[0], size[1]], &Device::Cpu)?;
    let input = coarse.resize(view.side, view.side, Resize::Bilinear)?;
    let picture = input.narrow(2, 0, view.image.height())?.narrow(3, 0, view.image.width())?;
    picture.resize(view.original_height, view.original_width, Resize::Bilinear)
}

#[async_trait(?Send)]
impl Segmenter for Sam {
    async fn segment(&self, image: &RgbImage, boxes_px: &[BoxPx], host: &dyn Host) -> Result<Vec<Mask>> {
        if boxes_px.is_empty() {
            return Ok(Vec::new());
        }
        let Seen { view, embedding } = self.look(image, host).await?;
        let mut masks = Vec::with_capacity(boxes_px.len());
        for some in boxes_px.chunks(BOXES_AT_ONCE) {
            host.breathe().await?;
            let prompt = |b: &BoxPx| Prompt { points: &[], box_input_px: Some(view.box_to_view(*b)) };
            let prompts: Vec<_> = some.iter().map(prompt).collect();
            let output = self.decode(&embedding, &prompts, None, Answers::One).await?;
            masks.extend(self.masks(&view, &output.low_res).await?);
        }
        Ok(masks)
    }

    /// `embedding` of the picture, `low_res` and `iou` of the box's mask.
    async fn raw_outputs(&self, image: &RgbImage, box_px: BoxPx, host: &dyn Host) -> Result<RawOutputs> {
        let Seen { view, embedding } = self.look(image, host).await?;
        let prompt = Prompt { points: &[], box_input_px: Some(view.box_to_view(box_px)) };
        let Output { low_res, iou, .. } = self.decode(&embedding, &[prompt], None, Answers::One).await?;
        Ok(vec![("embedding", embedding), ("low_res", low_res), ("iou", iou)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_come_back_in_the_size_of_any_picture() -> Result<()> {
        for [width, height] in [[1, 1], [300, 1], [1, 300], [53, 37]] {
            let view = RgbImage::new(width, height, vec![0; 3 * width * height])?.with_longest_side(64)?;
            // The left half of the input is inside, a quarter of the way to either side of 0.
            let logits: Vec<f32> = (0..16 * 16).map(|at| if at % 16 < 8 { 0.25 } else { -0.25 }).collect();
            let found = picture_logits(&view, &logits, [16, 16])?;
            assert_eq!(found.dims(), [1, 1, height, width]);
            let inside = pollster::block_on(found.to_f32())?.iter().filter(|logit| **logit > 0.0).count();
            let half = if view.image.width() <= 32 { width * height } else { width / 2 * height };
            assert!(inside.abs_diff(half) <= height, "{width} × {height}: {inside}");
        }
        Ok(())
    }
}
