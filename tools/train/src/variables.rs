//! What learns: named variables, from random numbers or from a file, as weights of the models that inference runs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bubo::encoders::joiner;
use bubo::language::llama;
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::Tensor;
use candle_core::{DType, Device, Var, backprop::GradStore};

use crate::random::Random;

/// Whether a variable is of a low-rank addition to the language model.
pub fn is_low_rank(name: &str) -> bool {
    name.contains(".lora_")
}

/// Variables by the names that the models know them by.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// By name.
    pub by_name: BTreeMap<String, Var>,
}

impl Variables {
    /// Starting values of a joiner: what the hints' words say goes through nearly unchanged, from every hint alike; the
    /// rest is random.
    ///
    /// - `mean_embedding`: the mean of the language model's tokens, where the projector starts
    /// - `deviation`: of the numbers of its tokens' embeddings
    ///
    /// # Errors
    /// If sizes do not go together.
    pub fn joiner(
        config: &joiner::Config,
        mean_embedding: &[f32],
        deviation: f32,
        random: &mut Random,
    ) -> Result<Self> {
        ensure!(mean_embedding.len() == config.output_width, "a mean of {} numbers", mean_embedding.len());
        let (dim, width) = (config.qformer.hidden_size, config.output_width);
        // Words of deviation 1 in the queries' width, and back: a random projection and its transpose.
        let scale = (deviation * (width as f32).sqrt()).max(1e-6).recip();
        let squeeze: Vec<f32> = (0..dim * width).map(|_| scale * random.normal()).collect();
        let back = 0.5 / (scale * scale * dim as f32);
        let mut variables = Self::default();
        for (name, dims) in joiner_shapes(config) {
            let count: usize = dims.iter().product();
            let numbers: Vec<f32> = match name.as_str() {
                "llama_proj.bias" => mean_embedding.to_vec(),
                "llama_proj.weight" => {
                    (0..count).map(|at| back * squeeze[at % dim * width + at / dim]).collect() // [width, dim]
                }
                "words.weight" => squeeze.clone(),
                "words.bias" => {
                    let row = |row: &[f32]| -row.iter().zip(mean_embedding).map(|(a, b)| a * b).sum::<f32>();
                    squeeze.chunks_exact(width).map(row).collect()
                }
                "features.weight" => {
                    let deviation = (dims[1] as f32).powf(-0.5);
                    (0..count).map(|_| deviation * random.normal()).collect()
                }
                _ if name.ends_with(".bias") => vec![0.0; count],
                _ if name.ends_with("norm.weight") || name.ends_with("LayerNorm.weight") => vec![1.0; count],
                _ if name.ends_with("crossattention.self.value.weight")
                    || name.ends_with("crossattention.output.dense.weight") =>
                {
                    let identity = |at: usize| f32::from(u8::from(at / dim == at % dim));
                    (0..count).map(|at| identity(at) + 0.02 * random.normal()).collect()
                }
                // BERT's.
                _ if name.starts_with("Qformer") || name == "query_tokens" => {
                    (0..count).map(|_| 0.04 * random.normal()).collect()
                }
                "places" => (0..count).map(|_| 0.5 * random.normal()).collect(),
                _ => (0..count).map(|_| 0.2 * random.normal()).collect(),
            };
            variables.insert(name, numbers, &dims)?;
        }
        Ok(variables)
    }

    /// Starting values of a LoRA on the queries, keys and values of every layer: nothing is added at first.
    ///
    /// # Errors
    /// Those of the tensors.
    pub fn low_rank(config: &llama::Config, rank: usize, random: &mut Random) -> Result<Self> {
        let mut variables = Self::default();
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads.max(1));
        let key_width = hidden / heads * config.num_key_value_heads.unwrap_or(heads);
        for layer in 0..config.num_hidden_layers {
            for (projection, output) in [("q_proj", hidden), ("k_proj", key_width), ("v_proj", key_width)] {
                let name = |part: &str| format!("model.layers.{layer}.self_attn.{projection}.{part}.weight");
                let deviation = (hidden as f32).powf(-0.5);
                let down = (0..rank * hidden).map(|_| deviation * random.normal()).collect();
                variables.insert(name("lora_a"), down, &[rank, hidden])?;
                variables.insert(name("lora_b"), vec![0.0; output * rank], &[output, rank])?;
            }
        }
        Ok(variables)
    }

    /// A language model's weights with these low-rank variables in place of those that it has, if any: a trained bundle
    /// can be taught again from its start.
    ///
    /// # Errors
    /// Those of the tensors.
    pub fn added_to(&self, weights: &Weights) -> Result<Weights> {
        Ok(weights.without(is_low_rank).with(self.tensors())?)
    }

    /// Adds a variable, or replaces it.
    ///
    /// # Errors
    /// If the numbers are not as many as `dims` says.
    pub fn insert(&mut self, name: String, numbers: Vec<f32>, dims: &[usize]) -> Result<()> {
        let variable = Var::from_vec(numbers, dims, &Device::Cpu).with_context(|| name.clone())?;
        self.by_name.insert(name, variable);
        Ok(())
    }

    /// The numbers of a variable.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let variable = self.by_name.get(name).with_context(|| format!("no variable {name}"))?;
        Ok(variable.flatten_all()?.to_vec1()?)
    }

    /// The variables themselves as tensors of the models, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.by_name.iter().map(|(name, variable)| (name.clone(), Tensor::from_candle(variable.as_tensor().clone())))
    }

    /// All variables as weights of a model; the model then computes with the variables themselves.
    ///
    /// # Errors
    /// Never; the signature is the map's.
    pub fn weights(&self) -> Result<Weights> {
        let mut map = WeightMap::default();
        for (name, tensor) in self.tensors() {
            map.insert_tensor(name, tensor)?;
        }
        Ok(Weights::new(map))
    }

    /// The gradients of these variables; a variable that took no part has none.
    ///
    /// # Errors
    /// Those of the tensors.
    pub fn gradients(&self, store: &GradStore) -> Result<BTreeMap<String, Vec<f32>>> {
        let found = self.by_name.iter().filter_map(|(name, variable)| Some((name, store.get(variable)?)));
        found.map(|(name, gradient)| Ok((name.clone(), gradient.flatten_all()?.to_vec1()?))).collect()
    }

    /// Those whose names start with `prefix`, without it.
    pub fn below(&self, prefix: &str) -> Self {
        let own = self.by_name.iter();
        let own = own.filter_map(|(name, variable)| Some((name.strip_prefix(prefix)?.to_owned(), variable.clone())));
        Self { by_name: own.collect() }
    }

    /// These on one of candle's devices.
    ///
    /// # Errors
    /// Those of the device.
    pub fn on_device(self, device: &Device) -> Result<Self> {
        let moved = self.by_name.into_iter();
        let moved = moved.map(|(name, own)| Ok((name, Var::from_tensor(&own.to_device(device)?)?)));
        Ok(Self { by_name: moved.collect::<Result<_>>()? })
    }

    /// These with `prefix` before their names.
    pub fn behind(self, prefix: &str) -> Self {
        Self { by_name: self.by_name.into_iter().map(|(name, own)| (format!("{prefix}{name}"), own)).collect() }
    }

    /// Writes all variables to a safetensors file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_as(path, DType::F32)
    }

    /// Writes all variables to a safetensors file as numbers of that type.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_as(&self, path: &Path, dtype: DType) -> Result<()> {
        let tensors = self.by_name.iter();
        let tensors = tensors.map(|(name, variable)| Ok((name.clone(), variable.as_tensor().to_dtype(dtype)?)));
        let tensors = tensors.collect::<Result<std::collections::HashMap<_, _>>>()?;
        candle_core::safetensors::save(&tensors, path).with_context(|| format!("could not write {}", path.display()))
    }

    /// Takes the values of a file, which must have exactly these variables.
    ///
    /// # Errors
    /// If it cannot be read, or a variable is missing or has another shape.
    pub fn restore(&self, path: &Path) -> Result<()> {
        let found = candle_core::safetensors::load(path, &Device::Cpu);
        let found = found.with_context(|| format!("could not read {}", path.display()))?;
        for (name, variable) in &self.by_name {
            let tensor = found.get(name).with_context(|| format!("{} has no {name}", path.display()))?;
            ensure!(tensor.dims() == variable.dims(), "{name} is {:?} in {}", tensor.dims(), path.display());
            variable.set(&tensor.to_dtype(DType::F32)?.to_device(variable.device())?)?;
        }
        Ok(())
    }
}

/// Names and shapes of a joiner's weights.
fn joiner_shapes(config: &joiner::Config) -> Vec<(String, Vec<usize>)> {
    let (qformer, dim) = (&config.qformer, config.qformer.hidden_size);
    let mut shapes = vec![
        ("places".to_owned(), vec![config.places + config.hints * joiner::HINT_TOKENS, dim]),
        ("overall".into(), vec![1, dim]),
        ("query_tokens".into(), vec![1, qformer.num_query_token, dim]),
    ];
    let mut linear = |name: String, output: usize, input: usize| {
        shapes.push((format!("{name}.weight"), vec![output, input]));
        shapes.push((format!("{name}.bias"), vec![output]));
    };
    linear("features".into(), dim, config.encoder_width);
    linear("words".into(), dim, config.output_width);
    linear("numbers".into(), dim, joiner::HINT_NUMBERS);
    linear("llama_proj".into(), config.output_width, dim);
    let mut norms = vec!["norm".to_owned(), "Qformer.bert.embeddings.LayerNorm".into()];
    for index in 0..qformer.num_hidden_layers {
        let layer = format!("Qformer.bert.encoder.layer.{index}");
        let crosses = index.is_multiple_of(qformer.cross_attention_freq.max(1));
        let attentions = [Some("attention"), crosses.then_some("crossattention")];
        for attention in attentions.into_iter().flatten() {
            for projection in ["query", "key", "value"] {
                linear(format!("{layer}.{attention}.self.{projection}"), dim, dim);
            }
            linear(format!("{layer}.{attention}.output.dense"), dim, dim);
            norms.push(format!("{layer}.{attention}.output.LayerNorm"));
        }
        linear(format!("{layer}.intermediate_query.dense"), qformer.intermediate_size, dim);
        linear(format!("{layer}.output_query.dense"), dim, qformer.intermediate_size);
        norms.push(format!("{layer}.output_query.LayerNorm"));
    }
    for norm in norms {
        shapes.push((format!("{norm}.weight"), vec![dim]));
        shapes.push((format!("{norm}.bias"), vec![dim]));
    }
    shapes
}
