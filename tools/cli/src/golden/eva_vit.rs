//! EVA's ViT in the original's and in Hugging Face's naming.

use std::path::Path;

use anyhow::Result;
use bubo::encoders::ImageEncoder;
use bubo::encoders::eva_vit::{Config, EvaVit};
use bubo::media::{Fit, RgbImage};
use bubo::tensor::Device;
use serde::Deserialize;

use super::named::named_weights;
use super::{Difference, Golden, count_difference, tolerance};
use crate::convert::eva_vit::{hugging_face, original};

/// Runs `eva_vit`.
///
/// # Errors
/// If the golden's weights do not make such a transformer.
pub fn run(golden: &Golden, device: &Device, _: Option<&Path>) -> Result<Vec<Difference>> {
    let weights = named_weights(golden, device, original)?;
    let eva = EvaVit::load(&golden.config()?, &weights)?;
    weights.finish()?;
    let allowed = tolerance(golden.component(), device);
    let image = golden.tensor("in.image", device)?;
    let patches = eva.patches(&image)?;
    let states = eva.states(&eva.embed(&patches)?)?;
    let mut found = vec![golden.compare("mid.patch_embed", &patches, allowed)?];
    for (at, state) in states.iter().enumerate() {
        found.push(golden.compare(&format!("mid.block{at}.attn"), &state.attention, allowed)?);
        found.push(golden.compare(&format!("mid.block{at}"), &state.output, allowed)?);
    }
    if let Some(last) = states.last() {
        found.push(golden.compare("out.tokens", &last.output, allowed)?);
    }
    found.push(golden.compare("out.ln_vision", &eva.forward(&image)?, allowed)?);
    Ok(found)
}

/// Whether pictures of any size give as many tokens as the transformer has places, all of them numbers.
fn encodes(eva: &EvaVit) -> Result<bool> {
    let config = eva.config();
    let places = 1 + config.img_size.iter().map(|side| side / config.patch_size).product::<usize>();
    for (width, height) in [(1, 1), (90, 31), (7, 200)] {
        let image = RgbImage::new(width, height, (0..3 * width * height).map(|at| (at * 7 % 256) as u8).collect())?;
        let tokens = eva.encode(&image)?.tokens;
        let finite = pollster::block_on(tokens.to_f32())?.iter().all(|number| number.is_finite());
        if tokens.dims() != [1, places, config.embed_dim] || !finite {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Hugging Face's names of the sizes.
#[derive(Deserialize)]
struct HuggingFaceConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    layer_norm_eps: f32,
}

/// Runs `blip2_vision_hf`.
///
/// # Errors
/// As for [`run`].
pub fn run_hugging_face(golden: &Golden, device: &Device, _: Option<&Path>) -> Result<Vec<Difference>> {
    let given: HuggingFaceConfig = golden.config()?;
    let config = Config {
        img_size: [given.image_size; 2],
        patch_size: given.patch_size,
        embed_dim: given.hidden_size,
        depth: given.num_hidden_layers,
        num_heads: given.num_attention_heads,
        mlp_hidden: given.intermediate_size,
        fit: Fit::Squash,
        block_eps: given.layer_norm_eps,
        ln_vision_eps: given.layer_norm_eps,
    };
    // The golden is the vision model alone, without the prefix that it has within BLIP-2.
    let weights = named_weights(golden, device, |name| hugging_face(&format!("vision_model.{name}")))?;
    let eva = EvaVit::load(&config, &weights)?;
    weights.finish()?;
    let allowed = tolerance(golden.component(), device);
    let image = golden.tensor("in.image", device)?;
    let embedded = eva.embed(&eva.patches(&image)?)?;
    let mut found = vec![golden.compare("mid.hidden0", &embedded, allowed)?];
    for (at, state) in eva.states(&embedded)?.iter().enumerate() {
        found.push(golden.compare(&format!("mid.hidden{}", at + 1), &state.output, allowed)?);
    }
    let output = eva.forward(&image)?;
    found.push(count_difference("encoded pictures of another form", usize::from(!encodes(&eva)?)));
    found.push(golden.compare("out.last_hidden_state", &output, allowed)?);
    // Hugging Face norms the class token once more for its pooled output, which BLIP-2 does not use.
    let [batch, _, dim] = output.dims_of("blip2 output")?;
    let pooled = eva.normalise(&output.narrow(1, 0, 1)?)?.reshape(&[batch, dim])?;
    found.push(golden.compare("out.pooler_output", &pooled, allowed)?);
    Ok(found)
}
