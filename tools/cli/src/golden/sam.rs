//! Segment Anything in the original's and in Hugging Face's naming, and MobileSAM.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bubo::grounding::Segmenter;
use bubo::grounding::segmenter::sam::image_encoder::{self, ImageEncoder};
use bubo::grounding::segmenter::sam::mask_decoder::{Answers, Output};
use bubo::grounding::segmenter::sam::prompt_encoder::{Point, Prompt};
use bubo::grounding::segmenter::sam::{Config, Sam, picture_logits, tiny_vit};
use bubo::media::{BoxPx, Mask, PaddedView, RgbImage, SmallRegions};
use bubo::nn::Weights;
use bubo::tensor::{Device, Tensor};
use serde::Deserialize;

use super::named::named_weights;
use super::{Difference, Golden, count_difference, tolerance};
use crate::convert::{mobile_sam, sam};

/// Low-resolution masks are allowed ten times what embeddings are; masks must be exact beyond that distance from 0.
const MASKS: f64 = 10.0;

/// Runs `sam`.
///
/// # Errors
/// If the golden's weights do not make the model.
pub fn run(golden: &Golden, device: &Device, _: Option<&Path>) -> Result<Vec<Difference>> {
    let weights = named_weights(golden, device, sam::original)?;
    compare(golden, device, &weights, image_encoder::load(&golden.config()?, &weights)?)
}

/// Runs `mobile_sam`.
///
/// # Errors
/// As for [`run`].
pub fn run_mobile(golden: &Golden, device: &Device, _: Option<&Path>) -> Result<Vec<Difference>> {
    let weights = named_weights(golden, device, mobile_sam::original)?;
    compare(golden, device, &weights, tiny_vit::load(&golden.config()?, &weights)?)
}

/// Where the golden's picture lies in the input.
#[derive(Deserialize)]
struct Sizes {
    original_hw: [usize; 2],
    input_hw: [usize; 2],
}

struct Case<'a> {
    golden: &'a Golden,
    device: &'a Device,
    sam: Sam,
    view: PaddedView,
    embedding: Tensor,
    boxes: Vec<BoxPx>,
    points: Vec<Point>,
    allowed: f64,
    found: Vec<Difference>,
}

fn compare(golden: &Golden, device: &Device, weights: &Weights, encoder: ImageEncoder) -> Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let sam = Sam::load(&config, encoder, weights)?;
    weights.finish()?;
    let sizes: Sizes = golden.config()?;
    let view = view(golden, &sizes, config.img_size)?;
    let allowed = tolerance(golden.component(), device);
    let (embedding, mut found) = embed(golden, &sam, &view, allowed)?;
    let in_frame: Vec<BoxPx> = boxes(golden, "in.boxes")?.into_iter().map(|b| view.box_to_view(b)).collect();
    let flat: Vec<f32> = in_frame.iter().flat_map(|b| <[f32; 4]>::from(*b)).collect();
    found.push(golden.compare_f32("mid.boxes_in_frame", &flat, allowed)?);
    let points = points(golden, "in.points", "in.point_labels", |place| view.point_to_view(place))?;
    let mut case = Case { golden, device, sam, view, embedding, boxes: in_frame, points, allowed, found };
    pollster::block_on(async {
        case.positions().await?;
        case.boxes().await?;
        case.other_prompts().await?;
        case.whole().await
    })?;
    Ok(case.found)
}

/// The golden's picture, which is stored at the size that it has in the input, channels first.
fn view(golden: &Golden, sizes: &Sizes, side: usize) -> Result<PaddedView> {
    let &[3, height, width] = golden.dims("in.resized_image")? else { anyhow::bail!("a picture has three channels") };
    let [original_height, original_width] = sizes.original_hw;
    let original = RgbImage::new(original_width, original_height, vec![0; 3 * original_width * original_height])?;
    let resized = original.with_longest_side(side)?.image;
    ensure!([resized.height(), resized.width()] == sizes.input_hw && sizes.input_hw == [height, width]);
    let planes = golden.u8("in.resized_image")?;
    let pixels = (0..3 * height * width).map(|at| planes[at % 3 * height * width + at / 3]).collect();
    Ok(PaddedView { image: RgbImage::new(width, height, pixels)?, side, original_width, original_height })
}

/// Embeds the picture, comparing what comes out of every step that the golden knows.
fn embed(golden: &Golden, sam: &Sam, view: &PaddedView, allowed: f64) -> Result<(Tensor, Vec<Difference>)> {
    let mut x = sam.input(view)?;
    let numbers = pollster::block_on(x.to_f32())?;
    let mean = |plane: &[f32]| (plane.iter().map(|x| f64::from(*x)).sum::<f64>() / plane.len() as f64) as f32;
    let means: Vec<f32> = numbers.chunks_exact(numbers.len() / 3).map(mean).collect();
    let mut found = vec![golden.compare_f32("mid.preprocessed_mean", &means, allowed)?];
    for (name, step) in sam.encoder() {
        x = step.forward(&x)?;
        let name = format!("mid.{name}");
        if golden.contains(&name) {
            found.push(golden.compare(&name, &as_stored(golden.dims(&name)?, &x)?, allowed)?);
        }
    }
    found.push(golden.compare("out.image_embedding", &x, allowed)?);
    Ok((x, found))
}

/// Maps `[1, rows, columns, dim]` in the form in which the original has them: channels first, or one row of tokens.
fn as_stored(dims: &[usize], maps: &Tensor) -> Result<Tensor> {
    let [_, rows, columns, dim] = maps.dims_of("golden maps")?;
    Ok(match dims {
        [1, channels, height, width] if [*channels, *height, *width] == [dim, rows, columns] => {
            maps.permute(&[0, 3, 1, 2])?
        }
        [_, _, _] => maps.reshape(&[1, rows * columns, dim])?,
        _ => maps.clone(),
    })
}

fn boxes(golden: &Golden, name: &str) -> Result<Vec<BoxPx>> {
    let numbers = golden.f32(name)?;
    Ok(numbers.as_chunks::<4>().0.iter().map(|corners| BoxPx::from(*corners)).collect())
}

fn points(golden: &Golden, places: &str, labels: &str, place: impl Fn([f32; 2]) -> [f32; 2]) -> Result<Vec<Point>> {
    let (places, labels) = (golden.f32(places)?, golden.i64(labels)?);
    let point = |(xy, label): (&[f32; 2], &i64)| {
        let [x, y] = place(*xy);
        Point { x, y, inside: *label == 1 }
    };
    Ok(places.as_chunks::<2>().0.iter().zip(&labels).map(point).collect())
}

impl Case<'_> {
    fn check(&mut self, name: &str, tensor: &Tensor, factor: f64) -> Result<()> {
        self.found.push(self.golden.compare(name, tensor, factor * self.allowed)?);
        Ok(())
    }

    /// Compares masks and IoU of an answer.
    fn check_answer(&mut self, name: &str, output: &Output) -> Result<()> {
        self.check(&format!("out.{name}.low_res"), &output.low_res, MASKS)?;
        self.check(&format!("out.{name}.iou"), &output.iou, 1.0)
    }

    async fn positions(&mut self) -> Result<()> {
        let cells = self.sam.prompt_encoder().cells().await?.clone();
        self.check("mid.dense_pe", &cells, 1.0)
    }

    async fn boxes(&mut self) -> Result<()> {
        let boxes = self.boxes.clone();
        let prompts: Vec<Prompt<'_>> = boxes.iter().map(|b| Prompt { points: &[], box_input_px: Some(*b) }).collect();
        let sparse = self.sam.prompt_encoder().encode(&prompts, None).await?.sparse;
        self.check("mid.box.sparse", &sparse, 1.0)?;
        let output = self.sam.decode(&self.embedding, &prompts, None, Answers::One).await?;
        for (at, layer) in output.layers.iter().enumerate() {
            self.check(&format!("mid.box.layer{at}.queries"), layer, 1.0)?;
        }
        self.check("mid.box.hs", &output.tokens, 1.0)?;
        self.check("mid.box.upscaled_first", &output.upscaled.narrow(0, 0, 1)?, 1.0)?;
        self.check_answer("box", &output)?;
        self.masks(&output.low_res).await
    }

    /// Masks in the size of the picture, their holes and islands.
    async fn masks(&mut self, low_res: &Tensor) -> Result<()> {
        let [count, _, height, width] = low_res.dims_of("golden masks")?;
        let mut logits = Vec::new();
        for low_res in low_res.to_f32().await?.chunks_exact(height * width) {
            logits.extend(picture_logits(&self.view, low_res, [height, width])?.to_f32().await?);
        }
        let allowed = MASKS * self.allowed;
        self.found.push(self.golden.compare_f32("out.box.mask_logits", &logits, allowed)?);
        let expected_logits = self.golden.f32("out.box.mask_logits")?;
        let far = |at: usize| f64::from(expected_logits[at].abs()) > allowed;
        let (height, width) = (self.view.original_height, self.view.original_width);
        let masks: Vec<Mask> = logits
            .chunks_exact(height * width)
            .map(|logits| Mask::new(width, height, logits.iter().map(|logit| *logit > 0.0).collect()))
            .collect();
        let expected = self.golden.u8("out.box.mask")?;
        let found = masks.iter().flat_map(Mask::inside);
        let wrong = found.zip(expected).enumerate().filter(|(at, (a, b))| far(*at) && **a != (**b != 0)).count();
        self.found.push(count_difference("out.box.mask", wrong));
        ensure!(masks.len() == count, "{} masks of {count}", masks.len());
        // Near the threshold a pixel may differ, and with it a small region: cleaning is tested on the golden's masks.
        let given = expected.chunks_exact(height * width);
        let given: Vec<Mask> =
            given.map(|mask| Mask::new(width, height, mask.iter().map(|pixel| *pixel != 0).collect())).collect();
        self.cleaned(&given, SmallRegions::Holes, "out.box.mask_holes_filled")?;
        self.cleaned(&given, SmallRegions::Islands, "out.box.mask_islands_removed")
    }

    fn cleaned(&mut self, masks: &[Mask], regions: SmallRegions, name: &str) -> Result<()> {
        let area_px = self.sam.config().hole_threshold;
        let cleaned = masks.iter().map(|mask| mask.without_small(regions, area_px).unwrap_or_else(|| mask.clone()));
        let cleaned: Vec<bool> = cleaned.flat_map(|mask| mask.inside().to_vec()).collect();
        let expected = self.golden.u8(name)?;
        ensure!(cleaned.len() == expected.len(), "{name}: {} pixels, {} expected", cleaned.len(), expected.len());
        let wrong = cleaned.iter().zip(expected).filter(|(a, b)| **a != (**b != 0)).count();
        self.found.push(count_difference(name, wrong));
        Ok(())
    }

    /// Several masks, points, a box with points, and a box with an earlier mask.
    async fn other_prompts(&mut self) -> Result<()> {
        let box_input_px = self.boxes.first().copied();
        let points = self.points.clone();
        let a_box = [Prompt { points: &[], box_input_px }];
        let output = self.sam.decode(&self.embedding, &a_box, None, Answers::Several).await?;
        self.check_answer("box_multi", &output)?;
        let pointed = [Prompt { points: &points, box_input_px: None }];
        let sparse = self.sam.prompt_encoder().encode(&pointed, None).await?.sparse;
        self.check("mid.points.sparse", &sparse, 1.0)?;
        let output = self.sam.decode(&self.embedding, &pointed, None, Answers::Several).await?;
        self.check_answer("points", &output)?;
        let both = [Prompt { points: &points, box_input_px }];
        let output = self.sam.decode(&self.embedding, &both, None, Answers::One).await?;
        self.check_answer("box_and_points", &output)?;
        let mask = self.golden.tensor("out.box.low_res", self.device)?.narrow(0, 0, 1)?;
        let output = self.sam.decode(&self.embedding, &a_box, Some(&mask), Answers::One).await?;
        self.check_answer("box_and_mask", &output)
    }

    /// The segmenter as the session calls it, on the picture at the size of the input: embedding once, boxes batched,
    /// masks cleaned.
    async fn whole(&mut self) -> Result<()> {
        let image = &self.view.image;
        let host = crate::host::CommandLine::default();
        let boxes = self.boxes.clone();
        // More boxes than go through the decoder at once.
        let many: Vec<BoxPx> = boxes.iter().copied().cycle().take(4 * boxes.len()).collect();
        let masks = self.sam.segment(image, &many, &host).await?;
        let seen = self.sam.look(image, &host).await?;
        let mut wrong = usize::from(masks.len() != many.len());
        for (at, b) in many.iter().enumerate() {
            let prompt = [Prompt { points: &[], box_input_px: Some(seen.view.box_to_view(*b)) }];
            let alone = self.sam.decode(&seen.embedding, &prompt, None, Answers::One).await?;
            let alone = self.sam.masks(&seen.view, &alone.low_res).await?;
            let alone = alone.first().context("a box has a mask")?;
            let pairs = masks[at].inside().iter().zip(alone.inside());
            // Sums of a batch may come in another order, so a pixel on the edge may flip.
            wrong += usize::from(pairs.filter(|(a, b)| a != b).count() > alone.inside().len() / 1000);
        }
        self.found.push(count_difference("segmented boxes that differ from boxes alone", wrong));
        Ok(())
    }
}

/// Hugging Face's names of the sizes.
#[derive(Deserialize)]
struct HuggingFaceConfig {
    hidden_size: usize,
    out: usize,
    depth: usize,
    num_heads: usize,
    image_size: usize,
    window_size: usize,
    global_attn_indexes: Vec<usize>,
    mask_in: usize,
    mlp: usize,
    dec_heads: usize,
    iou_hidden: usize,
}

/// Runs `sam_hf`.
///
/// # Errors
/// As for [`run`].
pub fn run_hugging_face(golden: &Golden, device: &Device, _: Option<&Path>) -> Result<Vec<Difference>> {
    let given: HuggingFaceConfig = golden.config()?;
    let weights = named_weights(golden, device, sam::hugging_face)?;
    let encoder = image_encoder::Config {
        img_size: given.image_size,
        patch_size: 16,
        embed_dim: given.hidden_size,
        depth: given.depth,
        num_heads: given.num_heads,
        window_size: given.window_size,
        global_attn_indexes: given.global_attn_indexes,
        prompt_dim: given.out,
    };
    let config = Config {
        img_size: given.image_size,
        prompt_dim: given.out,
        mask_in_chans: given.mask_in,
        decoder_depth: 2,
        decoder_mlp: given.mlp,
        decoder_heads: given.dec_heads,
        decoder_attention_downsample_rate: 2,
        decoder_norm_eps: 1e-6,
        num_multimask: 3,
        iou_hidden: given.iou_hidden,
        hole_threshold: 0,
    };
    let sam = Sam::load(&config, image_encoder::load(&encoder, &weights)?, &weights)?;
    weights.finish()?;
    let allowed = tolerance(golden.component(), device);
    let mut embedding = golden.tensor("in.pixel_values", device)?;
    for (_, step) in sam.encoder() {
        embedding = step.forward(&embedding)?;
    }
    let boxes = boxes(golden, "in.boxes")?;
    let boxes: Vec<_> = boxes.into_iter().map(|b| Prompt { points: &[], box_input_px: Some(b) }).collect();
    let points = points(golden, "in.points", "in.labels", |place| place)?;
    let points = [Prompt { points: &points, box_input_px: None }];
    let boxed = pollster::block_on(sam.decode(&embedding, &boxes, None, Answers::One))?;
    let pointed = pollster::block_on(sam.decode(&embedding, &points, None, Answers::Several))?;
    Ok(vec![
        golden.compare("out.image_embedding", &embedding, allowed)?,
        golden.compare("out.box.low_res", &boxed.low_res, MASKS * allowed)?,
        golden.compare("out.box.iou", &boxed.iou, allowed)?,
        golden.compare("out.points.low_res", &pointed.low_res, MASKS * allowed)?,
        golden.compare("out.points.iou", &pointed.iou, allowed)?,
    ])
}
