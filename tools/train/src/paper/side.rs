//! One modality: what is frozen of it, and what learns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use bubo::encoders::projector::{self, ProjectedQFormer};
use bubo::encoders::{Features, qformer};
use bubo::language::ModalityKind;
use bubo::nn::{Asked, Linear, WeightLoader, Weights};
use bubo::tensor::{Device, Tensor};
use candle_core::DType;
use pollster::block_on;
use serde::{Deserialize, Serialize};

use super::features::{FrozenFeatures, parts};
use crate::cache::Cache;
use crate::random::Random;
use crate::variables::Variables;

/// What learns of a modality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learns {
    /// The linear layer behind the Q-Former.
    Projector,
    /// Q-Former, its queries and the projector.
    QformerAndProjector,
}

/// Where what learns starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// From the bundle's weights.
    Bundle,
    /// From random numbers.
    Random,
}

/// How a modality is taught.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideConfig {
    /// What learns; everything else is frozen.
    pub learns: Learns,
    /// Where it starts.
    pub start: Start,
    /// Random views of each picture or sound, as the original varies them, all kept on disk; 0 for what inference sees.
    #[serde(default)]
    pub views: u64,
    /// Sizes of a Q-Former that the bundle does not have; those of BLIP-2's, which BuboGPT's for sounds has too, unless
    /// given.
    #[serde(default)]
    pub sizes: Option<qformer::Config>,
}

/// The network that learns, on its variables.
enum Network {
    Whole(ProjectedQFormer),
    Projector(Linear),
}

/// A modality in training.
pub struct Side {
    /// Which.
    pub kind: ModalityKind,
    /// Sizes, as a bundle has them.
    pub config: projector::Config,
    features: FrozenFeatures,
    network: Network,
    device: candle_core::Device,
}

fn published(encoder_width: usize) -> qformer::Config {
    qformer::Config {
        hidden_size: 768,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        intermediate_size: 3072,
        num_query_token: 32,
        encoder_width,
        cross_attention_freq: 2,
        layer_norm_eps: 1e-12,
    }
}

impl Side {
    /// Prefix of a modality's variables among all: `image.` or `audio.`.
    pub fn prefix(kind: ModalityKind) -> &'static str {
        if kind == ModalityKind::Image { "image." } else { "audio." }
    }

    /// Makes what learns, and its variables behind [`prefix`](Self::prefix).
    ///
    /// - `hidden_size`: width of the language model
    /// - `device`: where it learns; what is frozen of it is computed on the processor
    ///
    /// # Errors
    /// If the bundle lacks a part, or a part does not fit the language model.
    pub fn new(
        kind: ModalityKind,
        config: &SideConfig,
        loader: &Rc<RefCell<WeightLoader>>,
        cache: &Rc<Cache>,
        hidden_size: usize,
        device: &candle_core::Device,
        random: &mut Random,
    ) -> Result<(Self, Variables)> {
        let [encoder_part, qformer_part] = parts(kind);
        let has = |name: &str| loader.borrow().manifest().parts.iter().any(|part| part.name == name);
        let learns_all = config.learns == Learns::QformerAndProjector;
        // What a bundle holds from elsewhere gives the sizes, even where the numbers are not taken.
        let part = if has(qformer_part) {
            Some(block_on(loader.borrow_mut().load_part(qformer_part, &mut |_| {}))?)
        } else {
            ensure!(
                learns_all && config.start == Start::Random,
                "the bundle has no {qformer_part}, so its Q-Former can only learn from a random start"
            );
            None
        };
        let sizes: projector::Config = match &part {
            Some(part) => part.config()?,
            None => {
                let manifest = loader.borrow().manifest().clone();
                let encoder = manifest.parts.iter().find(|part| part.name == encoder_part);
                let width = encoder.and_then(|part| part.config["embed_dim"].as_u64());
                let width = width.with_context(|| format!("the width of {encoder_part}, `embed_dim`, is not known"))?;
                let qformer = config.sizes.clone().unwrap_or_else(|| published(width as usize));
                ensure!(
                    qformer.encoder_width as u64 == width,
                    "`sizes` say {} numbers a token; those of {encoder_part} have {width}",
                    qformer.encoder_width
                );
                projector::Config { qformer, projector_width: hidden_size }
            }
        };
        ensure!(
            sizes.projector_width == hidden_size,
            "{qformer_part} makes embeddings of {} numbers; the language model's have {hidden_size}",
            sizes.projector_width
        );
        let features = FrozenFeatures::new(kind, Rc::clone(loader), Rc::clone(cache), !learns_all, config.views)?;
        let listing = Weights::listing(BTreeMap::new())?;
        ProjectedQFormer::load(&sizes, &listing)?;
        let mut variables = Variables::default();
        for (name, Asked { dims, as_matrix }) in listing.asked() {
            if !learns_all && !name.starts_with(PROJECTOR) {
                continue;
            }
            let numbers = match (config.start, &part) {
                (Start::Bundle, Some(part)) => stored(&part.weights, &name, &dims, as_matrix)?,
                _ => random_numbers(&name, &dims, sizes.qformer.hidden_size, random),
            };
            variables.insert(name, numbers, &dims)?;
        }
        let variables = variables.on_device(device)?;
        let weights = variables.weights()?;
        let network = if learns_all {
            Network::Whole(ProjectedQFormer::load(&sizes, &weights)?)
        } else {
            let projector = weights.pp(PROJECTOR.trim_end_matches('.'));
            Network::Projector(Linear::load(&projector, sizes.qformer.hidden_size, hidden_size)?)
        };
        let variables = variables.behind(Self::prefix(kind));
        Ok((Self { kind, config: sizes, features, network, device: device.clone() }, variables))
    }

    /// What is frozen of it.
    pub fn features(&self) -> &FrozenFeatures {
        &self.features
    }

    /// Features of a batch, as [`FrozenFeatures::of`] gives them, to embeddings `[batch, queries, hidden_size]`.
    ///
    /// # Errors
    /// If they are not all of one length.
    pub fn forward(&self, features: &[Vec<f32>]) -> Result<Tensor> {
        let qformer = &self.config.qformer;
        let width = match self.network {
            Network::Whole(_) => qformer.encoder_width,
            Network::Projector(_) => qformer.hidden_size,
        };
        let tokens = features.first().map_or(0, Vec::len) / width.max(1);
        ensure!(features.iter().all(|one| one.len() == tokens * width), "features of several lengths in a batch");
        let tokens = Tensor::from_f32(&features.concat(), &[features.len(), tokens, width], &Device::Cpu)?;
        let tokens = tokens.on_candle(&self.device)?;
        Ok(match &self.network {
            Network::Whole(network) => network.forward(&Features { tokens })?,
            Network::Projector(projector) => projector.forward(&tokens)?,
        })
    }

    /// Writes what was learnt as `bubo join --trained` takes it: `{image,audio}_qformer.safetensors`, and the sizes as
    /// JSON.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, variables: &Variables, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let [_, name] = parts(self.kind);
        variables.below(Self::prefix(self.kind)).save_as(&folder.join(format!("{name}.safetensors")), DType::F32)?;
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(&self.config)?).with_context(|| path.display().to_string())
    }
}

/// What the projector's tensors start with.
const PROJECTOR: &str = "projector.fc.";

/// Numbers of a tensor of a bundle, quantised or not.
fn stored(weights: &Weights, name: &str, dims: &[usize], as_matrix: bool) -> Result<Vec<f32>> {
    if let (true, &[rows, cols]) = (as_matrix, dims) {
        let all: Vec<u32> = (0..rows as u32).collect();
        let matrix = weights.matrix(name, rows, cols)?;
        // The rows of a table of embeddings come as numbers, however it is stored.
        let table = Tensor::embedding(&matrix, &Tensor::from_u32(&all, &[rows], &Device::Cpu)?)?;
        return Ok(block_on(table.to_f32())?);
    }
    Ok(block_on(weights.tensor(name, dims)?.to_f32())?)
}

/// As the original starts: BERT's for the Q-Former, PyTorch's `Linear` for the projector.
///
/// Source: bubogpt-spec 3.6; transformers 4.28, `initializer_range` 0.02; torch 2.0, `Linear.reset_parameters`.
fn random_numbers(name: &str, dims: &[usize], hidden_size: usize, random: &mut Random) -> Vec<f32> {
    let count = dims.iter().product();
    let mut numbers = |number: &mut dyn FnMut(&mut Random) -> f32| (0..count).map(|_| number(random)).collect();
    if name.starts_with(PROJECTOR) {
        let most = (hidden_size.max(1) as f32).powf(-0.5);
        numbers(&mut |random| random.between(-most, most))
    } else if name.ends_with("LayerNorm.weight") {
        vec![1.0; count]
    } else if name.ends_with(".bias") {
        vec![0.0; count]
    } else {
        numbers(&mut |random| 0.02 * random.normal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of bubogpt-spec 7.1.
    #[test]
    fn as_many_numbers_learn_as_in_the_original() {
        let sizes = projector::Config { qformer: published(768), projector_width: 4096 };
        let listing = Weights::listing(BTreeMap::new()).unwrap();
        ProjectedQFormer::load(&sizes, &listing).unwrap();
        let count = |of: &dyn Fn(&str) -> bool| -> usize {
            let asked = listing.asked();
            asked.iter().filter(|(name, _)| of(name)).map(|(_, asked)| asked.dims.iter().product::<usize>()).sum()
        };
        assert_eq!(count(&|_| true), 102_413_824);
        assert_eq!(count(&|name| name.starts_with(PROJECTOR)), 3_149_824);
    }

    #[test]
    fn random_starts_are_the_originals() {
        let of = |name: &str, dims: &[usize]| random_numbers(name, dims, 64, &mut Random::new(1, 0));
        let spread = |numbers: &[f32]| (numbers.iter().map(|x| x * x).sum::<f32>() / numbers.len() as f32).sqrt();
        assert!((spread(&of("query_tokens", &[1, 32, 64])) - 0.02).abs() < 0.002);
        assert!(of("Qformer.bert.embeddings.LayerNorm.weight", &[64]).iter().all(|x| *x == 1.0));
        assert!(of("Qformer.bert.encoder.layer.0.attention.self.query.bias", &[64]).iter().all(|x| *x == 0.0));
        let projector = of("projector.fc.bias", &[2000]);
        assert!(projector.iter().all(|x| x.abs() <= 0.125) && (spread(&projector) - 0.125 / 3f32.sqrt()).abs() < 0.004);
    }
}
