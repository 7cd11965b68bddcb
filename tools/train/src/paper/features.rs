//! What the frozen networks make of a picture or a sound, kept on disk as far as they are frozen: the encoder's tokens
//! where the Q-Former learns, the Q-Former's queries where it does not, which are fifteen times smaller.
//!
//! A network is loaded when something is not on disk yet.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use bubo::bundle::Manifest;
use bubo::encoders::eva_vit::EvaVit;
use bubo::encoders::imagebind::ImageBindAudio;
use bubo::encoders::projector::{self, ProjectedQFormer};
use bubo::encoders::{AudioEncoder, Features, ImageEncoder};
use bubo::language::ModalityKind;
use bubo::media::{ChannelScale, MelClips, decode};
use bubo::nn::WeightLoader;
use bubo::tensor::{Device, Tensor};
use pollster::block_on;
use sha2::{Digest, Sha256};

use super::augment;
use super::entries::Media;
use crate::cache::Cache;
use crate::frozen::View;
use crate::random::Random;

/// The encoder's part of a bundle, and the Q-Former's.
pub fn parts(kind: ModalityKind) -> [&'static str; 2] {
    match kind {
        ModalityKind::Image => ["image_encoder", "image_qformer"],
        ModalityKind::Audio => ["audio_encoder", "audio_qformer"],
    }
}

/// Features of one modality.
pub struct FrozenFeatures {
    kind: ModalityKind,
    loader: Rc<RefCell<WeightLoader>>,
    cache: Rc<Cache>,
    /// Whether the Q-Former is frozen too.
    has_queries: bool,
    /// Random views of each picture or sound; 0: only what inference sees.
    views: u64,
    /// Hash of the networks' weights and configurations.
    networks_sha256: Vec<u8>,
    networks: OnceCell<Networks>,
}

enum Encoder {
    Eyes(Box<EvaVit>),
    Ears(Box<ImageBindAudio>),
}

struct Networks {
    encoder: Encoder,
    qformer: Option<ProjectedQFormer>,
}

impl FrozenFeatures {
    /// Features through the frozen networks of a bundle.
    ///
    /// - `has_queries`: whether the Q-Former is frozen too
    /// - `views`: random views of each picture or sound, as the original varies them; 0: only what inference sees
    ///
    /// # Errors
    /// If the bundle lacks a part.
    pub fn new(
        kind: ModalityKind,
        loader: Rc<RefCell<WeightLoader>>,
        cache: Rc<Cache>,
        has_queries: bool,
        views: u64,
    ) -> Result<Self> {
        let [encoder, qformer] = parts(kind);
        let mut hash = Sha256::new();
        for part in [Some(encoder), has_queries.then_some(qformer)].into_iter().flatten() {
            add_part(&mut hash, loader.borrow().manifest(), part)?;
        }
        let (networks_sha256, networks) = (hash.finalize().to_vec(), OnceCell::new());
        Ok(Self { kind, loader, cache, has_queries, views, networks_sha256, networks })
    }

    /// Features of a picture or a sound, one token after another: in a random view, or as in inference without
    /// `random`.
    ///
    /// # Errors
    /// If the file cannot be read or decoded, and those of the networks.
    pub fn of(&self, media: &Media, random: Option<&mut Random>) -> Result<Vec<f32>> {
        let view = match random {
            Some(random) if self.views > 0 => 1 + random.below(self.views as usize) as u64,
            _ => 0,
        };
        let bytes = media.read()?;
        let content = [b"bubogpt features 2".as_slice(), &self.networks_sha256, &view.to_le_bytes(), &bytes];
        let compute = || {
            let tokens = self.compute(&bytes, media.name(), view).with_context(|| format!("{media:?}"))?;
            Ok(View { features: block_on(tokens.to_f32())?, hints: Vec::new(), found: 0, said: vec![], told: None })
        };
        Ok(self.cache.view(&content, compute)?.features)
    }

    fn compute(&self, bytes: &[u8], name: &str, view: u64) -> Result<Tensor> {
        let Networks { encoder, qformer } = self.networks()?;
        // The same file has the same views.
        let mut random = (view > 0).then(|| Random::new(view, bytes.len() as u64));
        let tokens = match encoder {
            Encoder::Eyes(eyes) => {
                let image = decode::decode_image(bytes)?;
                match &mut random {
                    None => eyes.encode(&image)?.tokens,
                    Some(random) => {
                        let [side, _] = eyes.config().img_size;
                        let part = augment::crop(&image, side, random)?;
                        let planes = ChannelScale::CLIP.planes(&part);
                        eyes.forward(&Tensor::from_f32(&planes, &[1, 3, side, side], &Device::Cpu)?)?
                    }
                }
            }
            Encoder::Ears(ears) => {
                let sound = decode::decode_sound(bytes.to_vec(), Some(name))?;
                match &mut random {
                    None => ears.encode(&sound)?.tokens,
                    Some(random) => {
                        let MelClips { clips, bands, frames, numbers } =
                            augment::clips(&sound, ears.input_config(), random)?;
                        ears.forward(&Tensor::from_f32(&numbers, &[clips, 1, bands, frames], &Device::Cpu)?)?
                    }
                }
            }
        };
        Ok(match qformer {
            Some(qformer) => qformer.queries(&Features { tokens })?,
            None => tokens,
        })
    }

    fn networks(&self) -> Result<&Networks> {
        if let Some(networks) = self.networks.get() {
            return Ok(networks);
        }
        let [encoder, qformer] = parts(self.kind);
        let load = |name: &str| block_on(self.loader.borrow_mut().load_part(name, &mut |_| {}));
        let part = load(encoder)?;
        let expected = if self.kind == ModalityKind::Image { "eva_vit" } else { "imagebind" };
        ensure!(part.model == expected, "the part {encoder} holds {:?}, where {expected} is due", part.model);
        let encoder = match self.kind {
            ModalityKind::Image => Encoder::Eyes(Box::new(EvaVit::load(&part.config()?, &part.weights)?)),
            ModalityKind::Audio => Encoder::Ears(Box::new(ImageBindAudio::load(&part.config()?, &part.weights)?)),
        };
        let qformer = if self.has_queries {
            let part = load(qformer)?;
            Some(ProjectedQFormer::load(&part.config::<projector::Config>()?, &part.weights)?)
        } else {
            None
        };
        Ok(self.networks.get_or_init(|| Networks { encoder, qformer }))
    }
}

/// Everything that a part's numbers follow from: its configuration, and its tensors by the shards that hold them.
fn add_part(hash: &mut Sha256, manifest: &Manifest, name: &str) -> Result<()> {
    let part = manifest.parts.iter().position(|part| part.name == name);
    let part = part.with_context(|| {
        let known = manifest.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
        format!("the bundle has no {name}, only {known}; the paper's system is trained on a bundle of its models")
    })?;
    let entry = &manifest.parts[part];
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&entry.model);
    add(&entry.config.to_string());
    for tensor in manifest.tensors.iter().filter(|tensor| tensor.part == part) {
        add(&format!("{} {:?} {:?}", tensor.name, tensor.format, tensor.shape));
        for piece in &tensor.pieces {
            add(&format!("{:?} {:?} {}", piece.rows, piece.at, manifest.shards[piece.shard].sha256));
        }
    }
    Ok(())
}
