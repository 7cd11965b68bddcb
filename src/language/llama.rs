//! LLaMA: the language model of both bundles (Vicuna-7B, SmolLM2).
//!
//! Pre-norm blocks of causal attention with rotary positions and a gated feed-forward layer, RMS norms, no biases.
//! Several query heads may share a key head; the head may share the table of embeddings.
//!
//! Source: "LLaMA: Open and Efficient Foundation Language Models", arXiv 2302.13971; "GQA", arXiv 2305.13245; names and
//! layouts of transformers 4.46.3, models/llama/modeling_llama.py.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::{Embedding, KvCache, Linear, RmsNorm, RotaryTable, Weights};
use crate::tensor::{Attention, Device, Tensor, Unary};

/// Positions for which rotary tables are made at most, whatever a configuration says.
const MAX_POSITIONS: usize = 1 << 17;

/// Sizes and constants, by Hugging Face's names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// Rows of the embedding; Vicuna v0 has one more than its tokeniser.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many as query heads if not given.
    pub num_key_value_heads: Option<usize>,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the mean square in the norms.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    #[serde(default = "original_theta")]
    pub rope_theta: f32,
    /// Whether the head is the table of embeddings.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

fn original_theta() -> f32 {
    10_000.0
}

impl Config {
    fn key_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of one head.
    fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    fn check(&self) -> Result<()> {
        let heads = self.num_attention_heads;
        let sizes = [self.vocab_size, self.hidden_size, self.intermediate_size, heads, self.key_heads()];
        if sizes.contains(&0)
            || !self.hidden_size.is_multiple_of(heads)
            || !self.head_dim().is_multiple_of(2)
            || !heads.is_multiple_of(self.key_heads())
            || self.max_position_embeddings > MAX_POSITIONS
        {
            return Err(Error::corrupt("language model configuration", format!("{self:?}")));
        }
        Ok(())
    }
}

/// The model.
#[derive(Debug)]
pub struct Llama {
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    rotary: RotaryTable,
    device: Device,
    config: Config,
}

impl Llama {
    /// Loads `model.embed_tokens`, `model.layers.N`, `model.norm` and, unless tied, `lm_head`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for sizes that do not go together; [`Error::Weights`] if a weight is missing or has another
    /// shape.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let model = weights.pp("model");
        let device = model.pp("norm").tensor("weight", &[config.hidden_size])?.device();
        let embedding = Embedding::load(&model.pp("embed_tokens"), config.vocab_size, config.hidden_size)?;
        let head = if config.tie_word_embeddings {
            Linear::new(embedding.table(), None)
        } else {
            Linear::load_without_bias(&weights.pp("lm_head"), config.hidden_size, config.vocab_size)?
        };
        let blocks = (0..config.num_hidden_layers)
            .map(|layer| Block::load(config, &model.pp("layers").pp(layer)))
            .collect::<Result<_>>()?;
        Ok(Self {
            embedding,
            blocks,
            norm: RmsNorm::load(&model.pp("norm"), config.hidden_size, config.rms_norm_eps)?,
            head,
            rotary: RotaryTable::new(config.head_dim(), config.max_position_embeddings, config.rope_theta, &device)?,
            device,
            config: config.clone(),
        })
    }

    /// What it was loaded with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it is computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// An empty cache for at most so many places, or as many as the model knows positions.
    pub fn new_cache(&self, max_positions: usize) -> KvCache {
        KvCache::new(self.blocks.len(), max_positions.min(self.config.max_position_embeddings))
    }

    /// Embeddings of tokens: `[1, n, hidden_size]`.
    ///
    /// # Errors
    /// [`Error::Input`] for an id that the model does not have.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.config.vocab_size) {
            let reason = format!("token {id} does not exist, the model has {}", self.config.vocab_size);
            return Err(Error::Input(reason));
        }
        let embedded = self.embedding.forward(&Tensor::from_u32(ids, &[ids.len()], &self.device)?)?;
        embedded.reshape(&[1, ids.len(), self.config.hidden_size]) // [1, seq, hidden]
    }

    /// Runs the blocks and the last norm on `[batch, seq, hidden_size]`; the same shape comes out.
    ///
    /// With a cache the sequence continues what the cache holds and is added to it; without, it stands alone (training).
    ///
    /// # Errors
    /// [`Error::Shape`] if the sequence is too long or has another width; then the cache is as it was.
    pub fn forward(&self, embeddings: &Tensor, cache: Option<&mut KvCache>) -> Result<Tensor> {
        self.forward_observed(embeddings, cache, &mut |_, _| {})
    }

    /// As [`forward`](Self::forward) for `[1, branches, hidden_size]`, of which each goes on from a text of its own, with
    /// as many places before it: all stand at `position`.
    ///
    /// - `hidden`: `[1, 1, branches, places]` over what the cache holds and these; −∞ where a place is not of the branch
    ///
    /// # Errors
    /// [`Error::Shape`] if the mask does not fit or the position is too far; then the cache is as it was.
    pub fn forward_branches(
        &self,
        embeddings: &Tensor,
        cache: &mut KvCache,
        position: usize,
        hidden: &Tensor,
    ) -> Result<Tensor> {
        self.run(embeddings, Some(cache), Rows::Branches { position, hidden }, &mut |_, _| {})
    }

    /// As [`forward`](Self::forward), and shows what comes out of every part to `observe`: `layer0.attn` and `layer0`
    /// (the residual stream after it), and so on. For tests that look for where a difference starts.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn forward_observed(
        &self,
        embeddings: &Tensor,
        cache: Option<&mut KvCache>,
        observe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let start = cache.as_ref().map_or(0, |cache| cache.len());
        self.run(embeddings, cache, Rows::InLine(start), observe)
    }

    fn run(
        &self,
        embeddings: &Tensor,
        mut cache: Option<&mut KvCache>,
        rows: Rows<'_>,
        observe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let [_, seq, _] = embeddings.dims_of("llama")?;
        let mut x = embeddings.clone();
        for (layer, block) in self.blocks.iter().enumerate() {
            let keys = cache.as_deref_mut().map(|cache| (cache, layer));
            let attended = block.attention.forward(&block.input_norm.forward(&x)?, &self.rotary, rows, keys)?;
            observe(&format!("layer{layer}.attn"), &attended);
            x = x.add(&attended)?;
            x = x.add(&block.mlp.forward(&block.post_attention_norm.forward(&x)?)?)?;
            observe(&format!("layer{layer}"), &x);
        }
        if let Some(cache) = cache {
            cache.advance(seq)?;
        }
        self.norm.forward(&x)
    }

    /// Logits of the next token, `[.., vocab_size]`, from what [`forward`](Self::forward) gave, `[.., hidden_size]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another width.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)
    }
}

/// Where the rows of a pass stand, and what they see.
#[derive(Debug, Clone, Copy)]
enum Rows<'a> {
    /// Behind each other, from this position on; each sees all before it.
    InLine(usize),
    /// All at one position; the mask hides what lies on other branches.
    Branches { position: usize, hidden: &'a Tensor },
}

impl Rows<'_> {
    /// Turns `x` `[batch, heads, seq, dim]` to the rows' positions.
    fn turn(self, x: &Tensor, rotary: &RotaryTable) -> Result<Tensor> {
        match self {
            Self::InLine(start) => rotary.apply(x, start),
            Self::Branches { position, .. } => {
                let [batch, heads, seq, dim] = x.dims_of("llama branches")?;
                rotary.apply(&x.reshape(&[batch, heads * seq, 1, dim])?, position)?.reshape(&[batch, heads, seq, dim])
            }
        }
    }

    /// What `seq` rows see.
    fn attention(&self, seq: usize, scale: f32) -> Result<Attention<'_>> {
        Ok(match *self {
            Self::InLine(start) => Attention { scale, key_count: start + seq, causal_start: Some(start), mask: None },
            Self::Branches { hidden, .. } => {
                let [_, _, _, places] = hidden.dims_of("mask of branches")?;
                Attention { scale, key_count: places, causal_start: None, mask: Some(hidden) }
            }
        })
    }
}

#[derive(Debug)]
struct Block {
    input_norm: RmsNorm,
    attention: SelfAttention,
    post_attention_norm: RmsNorm,
    mlp: Mlp,
}

impl Block {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let norm = |name| RmsNorm::load(&weights.pp(name), config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: SelfAttention::load(config, &weights.pp("self_attn"))?,
            post_attention_norm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(config, &weights.pp("mlp"))?,
        })
    }
}

#[derive(Debug)]
struct SelfAttention {
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    heads: usize,
    key_heads: usize,
    head_dim: usize,
}

impl SelfAttention {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (hidden, heads, key_heads) = (config.hidden_size, config.num_attention_heads, config.key_heads());
        let head_dim = config.head_dim();
        let load = |name, input, output| Projection::load(&weights.pp(name), input, output);
        Ok(Self {
            query: load("q_proj", hidden, heads * head_dim)?,
            key: load("k_proj", hidden, key_heads * head_dim)?,
            value: load("v_proj", hidden, key_heads * head_dim)?,
            output: load("o_proj", heads * head_dim, hidden)?,
            heads,
            key_heads,
            head_dim,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        rotary: &RotaryTable,
        rows: Rows<'_>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Result<Tensor> {
        let [batch, seq, _] = x.dims_of("llama attention")?;
        let query = rows.turn(&self.split(&self.query.forward(x)?, self.heads)?, rotary)?;
        let key = rows.turn(&self.split(&self.key.forward(x)?, self.key_heads)?, rotary)?;
        let value = self.split(&self.value.forward(x)?, self.key_heads)?;
        let (key, value) = match cache {
            Some((cache, layer)) => cache.append(layer, &key, &value)?,
            None => (key, value),
        };
        let scale = (self.head_dim as f32).sqrt().recip();
        let attended = query.attention(&key, &value, &rows.attention(seq, scale)?)?; // [batch, heads, seq, head_dim]
        let attended = if seq == 1 { attended } else { attended.transpose(1, 2)? }; // [batch, seq, heads, head_dim]
        self.output.forward(&attended.reshape(&[batch, seq, self.heads * self.head_dim])?)
    }

    /// `[batch, seq, heads · head_dim]` to `[batch, heads, seq, head_dim]`; of a single place, without moving a number.
    fn split(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let [batch, seq, _] = x.dims_of("llama heads")?;
        if seq == 1 {
            return x.reshape(&[batch, heads, 1, self.head_dim]);
        }
        x.reshape(&[batch, seq, heads, self.head_dim])?.transpose(1, 2) // [batch, heads, seq, head_dim]
    }
}

/// `down(silu(gate(x)) · up(x))`.
#[derive(Debug)]
struct Mlp {
    gate: Projection,
    up: Projection,
    down: Projection,
}

impl Mlp {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate: Projection::load(&weights.pp("gate_proj"), hidden, inner)?,
            up: Projection::load(&weights.pp("up_proj"), hidden, inner)?,
            down: Projection::load(&weights.pp("down_proj"), inner, hidden)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.gate.forward_with(x, Unary::Silu)?.mul(&self.up.forward(x)?)?)
    }
}

/// A linear layer and, if the weights have one, its trained low-rank addition: `x · Wᵀ + (x · Aᵀ) · Bᵀ`.
///
/// The addition stays apart because merged into a 4-bit matrix most of it would be rounded away. Names: `lora_a.weight`
/// `[rank, input]`, `lora_b.weight` `[output, rank]`, the usual factor `alpha / rank` already inside B.
///
/// Source: "LoRA", arXiv 2106.09685.
#[derive(Debug)]
struct Projection {
    linear: Linear,
    low_rank: Option<(Linear, Linear)>,
}

impl Projection {
    fn load(weights: &Weights, input: usize, output: usize) -> Result<Self> {
        let linear = Linear::load_without_bias(weights, input, output)?;
        let low_rank = match weights.pp("lora_a").dims("weight").as_deref() {
            Some(&[rank, _]) => Some((
                Linear::load_without_bias(&weights.pp("lora_a"), input, rank)?,
                Linear::load_without_bias(&weights.pp("lora_b"), rank, output)?,
            )),
            _ => None,
        };
        Ok(Self { linear, low_rank })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = self.linear.forward(x)?;
        match &self.low_rank {
            Some((down, up)) => out.add(&up.forward(&down.forward(x)?)?),
            None => Ok(out),
        }
    }

    fn forward_with(&self, x: &Tensor, activation: Unary) -> Result<Tensor> {
        match &self.low_rank {
            Some(_) => self.forward(x)?.unary(activation),
            None => self.linear.forward_with(x, activation),
        }
    }
}
