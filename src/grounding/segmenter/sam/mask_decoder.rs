//! SAM's mask decoder: tokens and picture look at each other, then every mask token draws its mask.
//!
//! Source: facebookresearch/segment-anything, modeling/{mask_decoder,transformer}.py @ dca509f, whose weight names are
//! kept.

use super::Config;
use super::prompt_encoder::Encoded;
use crate::error::Result;
use crate::nn::vit::head_dim;
use crate::nn::{LayerNorm, Linear, Weights};
use crate::tensor::{Attention, Tensor, Unary};

/// Added to the variance in the norm between the upscaling convolutions.
const UPSCALING_EPS: f32 = 1e-6;

/// Added to the variance in the norm behind the transformer.
const FINAL_EPS: f32 = 1e-5;

/// Layers of the small networks behind the tokens.
const HEAD_DEPTH: usize = 3;

/// How many masks a prompt gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// One, for prompts that leave no doubt: boxes.
    One,
    /// Several, from part to whole, for a single point.
    Several,
}

/// What the decoder makes of prompts.
#[derive(Debug)]
pub struct Output {
    /// Logits at a quarter of the input's size, `[prompts, masks, 4 · grid, 4 · grid]`; above 0 is inside.
    pub low_res: Tensor,
    /// How well each mask fits, as the network believes, `[prompts, masks]`.
    pub iou: Tensor,
    /// Tokens after each layer of the transformer, `[prompts, tokens, dim]`.
    pub layers: Vec<Tensor>,
    /// Tokens behind the transformer, in the same form.
    pub tokens: Tensor,
    /// The picture's map at a quarter of the input's size, `[prompts, dim / 8, 4 · grid, 4 · grid]`.
    pub upscaled: Tensor,
}

/// The decoder.
#[derive(Debug)]
pub struct MaskDecoder {
    /// The IoU token, then a token for the one mask and for each of the several, `[1 + masks, dim]`.
    own_tokens: Tensor,
    layers: Vec<Layer>,
    final_attention: CrossAttention,
    final_norm: LayerNorm,
    upscaling: Upscaling,
    /// A small network a mask token.
    heads: Vec<Perceptron>,
    iou_head: Perceptron,
}

impl MaskDecoder {
    /// Loads `mask_decoder.…`.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if a tensor is missing or has another shape; [`crate::Error::Shape`] for sizes that do
    /// not go together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let weights = weights.pp("mask_decoder");
        let (dim, masks) = (config.prompt_dim, config.num_multimask.saturating_add(1));
        let iou_token = weights.tensor("iou_token.weight", &[1, dim])?;
        let own_tokens = Tensor::concat(&[&iou_token, &weights.tensor("mask_tokens.weight", &[masks, dim])?], 0)?;
        let transformer = weights.pp("transformer");
        let head = |at| {
            let head = weights.pp("output_hypernetworks_mlps").pp(at);
            Perceptron::load(&head, [dim, dim, dim / 8])
        };
        Ok(Self {
            own_tokens,
            layers: (0..config.decoder_depth)
                .map(|at| Layer::load(config, &transformer.pp("layers").pp(at)))
                .collect::<Result<_>>()?,
            final_attention: CrossAttention::load(config, &transformer.pp("final_attn_token_to_image"), true)?,
            final_norm: LayerNorm::load(&transformer.pp("norm_final_attn"), dim, FINAL_EPS)?,
            upscaling: Upscaling::load(&weights.pp("output_upscaling"), dim)?,
            heads: (0..masks).map(head).collect::<Result<_>>()?,
            iou_head: Perceptron::load(&weights.pp("iou_prediction_head"), [dim, config.iou_hidden, masks])?,
        })
    }

    /// Draws masks.
    ///
    /// - `embedding`: of the picture, `[1, dim, grid, grid]`
    /// - `cells`: positions of its cells, in the same form
    /// - `prompts`: as the prompt encoder gives them
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not go together; those of the engine.
    pub fn forward(&self, embedding: &Tensor, cells: &Tensor, prompts: &Encoded, answers: Answers) -> Result<Output> {
        let [_, dim, rows, columns] = embedding.dims_of("sam embedding")?;
        let [count, _, _] = prompts.sparse.dims_of("sam prompts")?;
        let own = self.own_tokens.reshape(&[1, self.heads.len() + 1, dim])?;
        let own = own.broadcast_to(&[count, self.heads.len() + 1, dim])?;
        let token_positions = Tensor::concat(&[&own, &prompts.sparse], 1)?; // [prompts, tokens, dim]
        let flat = |maps: &Tensor| maps.reshape(&[maps.dims()[0], dim, rows * columns])?.transpose(1, 2);
        let cells = flat(cells)?; // [1, cells, dim]
        // Without mask prompts all see the same picture, until their tokens have changed it.
        let image = flat(&embedding.add(&prompts.dense)?)?; // [1 or prompts, cells, dim]

        let (mut tokens, mut image, mut layers) = (token_positions.clone(), image, Vec::new());
        for (at, layer) in self.layers.iter().enumerate() {
            (tokens, image) = layer.forward(&tokens, &image, &token_positions, &cells, at == 0)?;
            layers.push(tokens.clone());
        }
        let found = self.final_attention.forward(&tokens.add(&token_positions)?, &image.add(&cells)?, &image)?;
        let tokens = self.final_norm.forward(&tokens.add(&found)?)?;

        let image = image.broadcast_to(&[count, rows * columns, dim])?;
        let upscaled = self.upscaling.forward(&image.transpose(1, 2)?.reshape(&[count, dim, rows, columns])?)?;
        let iou = self.iou_head.forward(&tokens.narrow(1, 0, 1)?.reshape(&[count, dim])?)?;
        let (first, masks) = match answers {
            Answers::One => (0, 1),
            Answers::Several => (1, self.heads.len() - 1),
        };
        let low_res = self.draw(&tokens, &upscaled, first, masks)?;
        Ok(Output { low_res, iou: iou.narrow(1, first, masks)?, layers, tokens, upscaled })
    }

    /// The products of some mask tokens' small networks with the map, `[prompts, masks, height, width]`.
    fn draw(&self, tokens: &Tensor, upscaled: &Tensor, first: usize, masks: usize) -> Result<Tensor> {
        let [count, channels, height, width] = upscaled.dims_of("sam upscaled")?;
        let weights = self.heads.iter().enumerate().skip(first).take(masks);
        // The IoU token stands before the mask tokens.
        let weights =
            weights.map(|(at, head)| head.forward(&tokens.narrow(1, 1 + at, 1)?)).collect::<Result<Vec<_>>>()?;
        let weights = Tensor::concat(&weights.iter().collect::<Vec<_>>(), 1)?; // [prompts, masks, channels]
        let drawn = weights.matmul(&upscaled.reshape(&[count, channels, height * width])?)?;
        drawn.reshape(&[count, masks, height, width]) // [prompts, masks, height, width]
    }
}

/// Tokens look at each other, then at the picture; the picture looks back. Post-norm with residuals.
#[derive(Debug)]
struct Layer {
    self_attention: CrossAttention,
    norms: [LayerNorm; 4],
    token_to_image: CrossAttention,
    first: Linear,
    second: Linear,
    image_to_token: CrossAttention,
}

impl Layer {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.prompt_dim, config.decoder_mlp);
        let norm = |name: &str| LayerNorm::load(&weights.pp(name), dim, config.decoder_norm_eps);
        Ok(Self {
            norms: [norm("norm1")?, norm("norm2")?, norm("norm3")?, norm("norm4")?],
            self_attention: CrossAttention::load(config, &weights.pp("self_attn"), false)?,
            token_to_image: CrossAttention::load(config, &weights.pp("cross_attn_token_to_image"), true)?,
            first: Linear::load(&weights.pp("mlp").pp("lin1"), dim, hidden)?,
            second: Linear::load(&weights.pp("mlp").pp("lin2"), hidden, dim)?,
            image_to_token: CrossAttention::load(config, &weights.pp("cross_attn_image_to_token"), true)?,
        })
    }

    /// Gives the new tokens `[prompts, tokens, dim]` and the new picture `[prompts, cells, dim]`.
    fn forward(
        &self,
        tokens: &Tensor,
        image: &Tensor,
        token_positions: &Tensor,
        cells: &Tensor,
        is_first: bool,
    ) -> Result<(Tensor, Tensor)> {
        let tokens = if is_first {
            // The tokens are still their own positions, and their first look replaces them.
            self.self_attention.forward(tokens, tokens, tokens)?
        } else {
            let placed = tokens.add(token_positions)?;
            tokens.add(&self.self_attention.forward(&placed, &placed, tokens)?)?
        };
        let tokens = self.norms[0].forward(&tokens)?;
        let placed_image = image.add(cells)?;
        let found = self.token_to_image.forward(&tokens.add(token_positions)?, &placed_image, image)?;
        let tokens = self.norms[1].forward(&tokens.add(&found)?)?;
        let widened = self.first.forward_with(&tokens, Unary::Relu)?;
        let tokens = self.norms[2].forward(&tokens.add(&self.second.forward(&widened)?)?)?;
        let found = self.image_to_token.forward(&placed_image, &tokens.add(token_positions)?, &tokens)?;
        Ok((tokens, self.norms[3].forward(&image.add(&found)?)?))
    }
}

/// Attention whose queries, keys and values come from three places, narrower inside where it crosses.
#[derive(Debug)]
struct CrossAttention {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl CrossAttention {
    fn load(config: &Config, weights: &Weights, crosses: bool) -> Result<Self> {
        let dim = config.prompt_dim;
        let inner = if crosses { dim / config.decoder_attention_downsample_rate.max(1) } else { dim };
        head_dim(inner, config.decoder_heads)?;
        let linear = |name: &str| Linear::load(&weights.pp(name), dim, inner);
        Ok(Self {
            heads: config.decoder_heads,
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            output: Linear::load(&weights.pp("out_proj"), inner, dim)?,
        })
    }

    /// Queries `[batch, seq, dim]` find values by their keys, `[batch, keys, dim]`; a batch of 1 serves all of another.
    fn forward(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let [_, seq, dim] = query.dims_of("sam query")?;
        let [_, keys, _] = key.dims_of("sam key")?;
        let batch = query.dims()[0].max(key.dims()[0]);
        let split = |x: Tensor| -> Result<Tensor> {
            let [own, seq, inner] = x.dims_of("sam attention")?;
            let (heads, head_dim) = (self.heads, inner / self.heads);
            let heads_first = x.reshape(&[own, seq, heads, head_dim])?.transpose(1, 2)?;
            heads_first.broadcast_to(&[batch, heads, seq, head_dim]) // [batch, heads, seq, head_dim]
        };
        let query = split(self.query.forward(query)?)?;
        let (key, value) = (split(self.key.forward(key)?)?, split(self.value.forward(value)?)?);
        let [_, heads, _, head_dim] = query.dims_of("sam attention")?;
        let scale = (head_dim as f32).powf(-0.5);
        let attended =
            query.attention(&key, &value, &Attention { scale, key_count: keys, causal_start: None, mask: None })?;
        let joined = attended.transpose(1, 2)?.reshape(&[batch, seq, heads * head_dim])?;
        self.output.forward(&joined)?.reshape(&[batch, seq, dim]) // [batch, seq, dim]
    }
}

/// Two transposed convolutions: four times the rows and columns, an eighth of the channels.
#[derive(Debug)]
struct Upscaling {
    first: [Tensor; 2],
    norm: LayerNorm,
    second: [Tensor; 2],
}

impl Upscaling {
    fn load(weights: &Weights, dim: usize) -> Result<Self> {
        let load = |at: usize, input: usize, output: usize| -> Result<[Tensor; 2]> {
            let weights = weights.pp(at);
            Ok([weights.tensor("weight", &[input, output, 2, 2])?, weights.tensor("bias", &[output])?])
        };
        Ok(Self {
            first: load(0, dim, dim / 4)?,
            norm: LayerNorm::load(&weights.pp(1), dim / 4, UPSCALING_EPS)?,
            second: load(3, dim / 4, dim / 8)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let double = |x: &Tensor, [weight, bias]: &[Tensor; 2]| x.conv_transpose2d(weight, Some(bias), 2);
        let x = self.norm.forward_maps(&double(x, &self.first)?)?.unary(Unary::Gelu)?;
        double(&x, &self.second)?.unary(Unary::Gelu)
    }
}

/// Three linear layers with ReLU between them.
#[derive(Debug)]
struct Perceptron {
    layers: Vec<Linear>,
}

impl Perceptron {
    /// `widths`: of the input, inside, of the output.
    fn load(weights: &Weights, [input, hidden, output]: [usize; 3]) -> Result<Self> {
        let widths = |at| (if at == 0 { input } else { hidden }, if at + 1 == HEAD_DEPTH { output } else { hidden });
        let layer = |at| {
            let (from, to) = widths(at);
            Linear::load(&weights.pp("layers").pp(at), from, to)
        };
        Ok(Self { layers: (0..HEAD_DEPTH).map(layer).collect::<Result<_>>()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (at, layer) in self.layers.iter().enumerate() {
            x = if at + 1 < self.layers.len() { layer.forward_with(&x, Unary::Relu)? } else { layer.forward(&x)? };
        }
        Ok(x)
    }
}
