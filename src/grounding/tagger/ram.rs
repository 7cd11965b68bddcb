//! RAM, the Recognize Anything Model: a Swin trunk whose features 4585 tags look at, each for itself.
//!
//! Zhang et al. 2023 (arXiv 2306.03514). Source: xinyu1205/recognize-anything, ram/models/{ram,swin_transformer,bert}.py
//! @ 7cb804a. Tensor names are those of `ram_swin_large_14m.pth`: `visual_encoder`, `image_proj`, `label_embed`,
//! `wordvec_proj`, `tagging_head`, `fc`.

use async_trait::async_trait;
use serde::Deserialize;

use super::not_things::names_no_thing;
use crate::error::{Error, Result};
use crate::grounding::{RawOutputs, Tag, Tagger};
use crate::media::{ChannelScale, Filter, Fit, RgbImage};
use crate::nn::swin::{self, Swin};
use crate::nn::{AttentionBlock, FeedForwardBlock, LayerNorm, Linear, Tap, Weights, unseen};
use crate::tensor::{Device, Reduce, Tensor, Unary};

/// The names of the tags, one a line.
pub const TAG_LIST_FILE: &str = "ram_tag_list.txt";
/// The confidence that each tag must exceed, one number a line.
pub const THRESHOLD_FILE: &str = "ram_tag_list_threshold.txt";

/// Added to the variance in the layer norms of the head.
const HEAD_EPS: f32 = 1e-12;

/// Sizes of a RAM.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Side of the square picture in pixels.
    pub image_res: usize,
    /// Channels of the trunk's first stage.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Heads of each stage.
    pub num_heads: Vec<usize>,
    /// Side of a window in tokens.
    pub window_size: usize,
    /// Channels of the picture's features, and of a tag's description, where they enter the head.
    pub proj_dim: usize,
    /// Width of the head.
    pub hidden_size: usize,
    /// Layers of the head.
    pub num_hidden_layers: usize,
    /// Heads of the head's attention.
    pub num_attention_heads: usize,
    /// Width inside the head's feed-forward networks.
    pub intermediate_size: usize,
    /// Number of tags.
    pub num_class: usize,
    /// Which tags are given.
    #[serde(default)]
    pub given_tags: GivenTags,
}

/// Which of the tags that are seen a tagger gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GivenTags {
    /// Those that can name a thing: a detector that is asked for `brown`, `run` or `kitchen` draws boxes around everything.
    #[default]
    Things,
    /// All, as in the original.
    Original,
}

impl Config {
    fn trunk(&self) -> swin::Config {
        swin::Config {
            embed_dim: self.embed_dim,
            depths: self.depths.clone(),
            heads: self.num_heads.clone(),
            window: self.window_size,
            side_px: Some(self.image_res),
        }
    }
}

/// The network: from a picture to a logit for every tag.
#[derive(Debug)]
pub struct Ram {
    trunk: Swin,
    norm: LayerNorm,
    image_proj: Linear,
    /// What stands for the tags, `[1, num_class, hidden_size]`: it does not depend on the picture.
    queries: Tensor,
    layers: Vec<Layer>,
    fc: Linear,
}

impl Ram {
    /// Loads the trunk and the head, and makes the tags' queries.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go
    /// together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        if [config.image_res, config.hidden_size, config.num_class, config.proj_dim].contains(&0) {
            return Err(Error::shape("ram", format!("a size is 0: {config:?}")));
        }
        let visual = weights.pp("visual_encoder");
        let width = config.channels_out()?;
        let layers = weights.pp("tagging_head").pp("encoder").pp("layer");
        let (tags, dim) = (config.num_class, config.hidden_size);
        let queries = projected_labels(config, weights)?.unary(Unary::Relu)?;
        Ok(Self {
            trunk: Swin::load(&config.trunk(), &visual)?,
            norm: LayerNorm::load(&visual.pp("norm"), width, swin::EPS)?,
            image_proj: Linear::load(&weights.pp("image_proj"), width, config.proj_dim)?,
            queries: queries.reshape(&[1, tags, dim])?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(config, &layers.pp(index)))
                .collect::<Result<_>>()?,
            fc: Linear::load(&weights.pp("fc"), dim, 1)?,
        })
    }

    /// Logits `[num_class]` of a normalised picture `[1, 3, image_res, image_res]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the picture has another form.
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        self.forward_seen(image, &mut unseen)
    }

    /// As [`forward`](Self::forward); `tap` sees the trunk's states, `visual_encoder`, `image_proj` and the head's
    /// layers as `tagging_head.layerN`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the picture has another form.
    pub fn forward_seen(&self, image: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let mut maps = self.trunk.forward(image, tap)?;
        let last = maps.pop().ok_or_else(|| Error::shape("ram", "a trunk without stages"))?;
        let tokens = self.norm.forward(&last.tokens)?; // [places, width]
        let [_, width] = tokens.dims_of("ram tokens")?;
        // The mean over all places stands in for a class token.
        let mean = tokens.reduce(Reduce::Mean, 0)?.reshape(&[1, width])?;
        let tokens = Tensor::concat(&[&mean, &tokens], 0)?; // [1 + places, width]
        tap("visual_encoder", &tokens);
        let features = self.image_proj.forward(&tokens)?; // [1 + places, proj_dim]
        tap("image_proj", &features);
        let [places, dim] = features.dims_of("ram features")?;
        let features = features.reshape(&[1, places, dim])?;
        let mut x = self.queries.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &features)?;
            tap(&format!("tagging_head.layer{index}"), &x);
        }
        let [_, tags, _] = x.dims_of("ram tags")?;
        self.fc.forward(&x)?.reshape(&[tags]) // [num_class]
    }
}

impl Config {
    /// Channels of the trunk's last stage.
    fn channels_out(&self) -> Result<usize> {
        let last = self.depths.len().checked_sub(1).filter(|last| *last < 16);
        last.map(|last| self.embed_dim << last)
            .ok_or_else(|| Error::shape("ram", "the trunk has no stages, or too many"))
    }
}

/// The tags' descriptions brought to the head's width, `[num_class, hidden_size]`, before their rectifier.
///
/// # Errors
/// [`Error::Weights`] if a tensor is missing or has another shape.
pub fn projected_labels(config: &Config, weights: &Weights) -> Result<Tensor> {
    let table = weights.matrix("label_embed", config.num_class, config.proj_dim)?;
    let projection = Linear::load(&weights.pp("wordvec_proj"), config.proj_dim, config.hidden_size)?;
    let device = weights.pp("wordvec_proj").tensor("bias", &[config.hidden_size])?.device();
    let all: Vec<u32> = (0..config.num_class as u32).collect();
    projection.forward(&Tensor::embedding(&table, &Tensor::from_u32(&all, &[all.len()], &device)?)?)
}

/// Cross-attention to the picture and feed-forward network. Tags do not look at each other: the self-attention of the BERT
/// that this was is left out.
#[derive(Debug)]
struct Layer {
    attention: AttentionBlock,
    feed_forward: FeedForwardBlock,
}

impl Layer {
    fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let (dim, inner, heads) = (config.hidden_size, config.intermediate_size, config.num_attention_heads);
        let (cross, eps) = (weights.pp("crossattention"), HEAD_EPS);
        let (intermediate, output) = (weights.pp("intermediate"), weights.pp("output"));
        Ok(Self {
            attention: AttentionBlock::load(&cross, dim, config.proj_dim, heads, eps)?,
            feed_forward: FeedForwardBlock::load(&intermediate, &output, dim, inner, eps)?,
        })
    }

    fn forward(&self, x: &Tensor, features: &Tensor) -> Result<Tensor> {
        self.feed_forward.forward(&self.attention.forward(x, features, None)?)
    }
}

/// The network with the names of its tags.
#[derive(Debug)]
pub struct RamTagger {
    network: Ram,
    device: Device,
    image_res: usize,
    names: Vec<String>,
    thresholds: Vec<f32>,
    given: GivenTags,
}

impl RamTagger {
    /// Loads the network; `names` and `thresholds` are the bytes of [`TAG_LIST_FILE`] and [`THRESHOLD_FILE`].
    ///
    /// # Errors
    /// As [`Ram::load`]; [`Error::Corrupt`] if a list has another length or holds no numbers.
    pub fn load(config: &Config, weights: &Weights, names: &[u8], thresholds: &[u8]) -> Result<Self> {
        // A few tags of the list are written with capitals, such as "3D glasses".
        let names = lines(TAG_LIST_FILE, names, config.num_class)?.iter().map(|name| name.to_lowercase()).collect();
        let number = |line: &String| line.parse().ok().filter(|threshold: &f32| threshold.is_finite());
        let thresholds: Option<Vec<f32>> =
            lines(THRESHOLD_FILE, thresholds, config.num_class)?.iter().map(number).collect();
        let thresholds = thresholds.ok_or_else(|| Error::corrupt(THRESHOLD_FILE, "a line that is no number"))?;
        let network = Ram::load(config, weights)?;
        let device = network.queries.device();
        Ok(Self { network, device, image_res: config.image_res, names, thresholds, given: config.given_tags })
    }

    /// A picture as the network's input `[1, 3, image_res, image_res]`: squeezed into the square, normalised.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn input(&self, image: &RgbImage) -> Result<Tensor> {
        let side = self.image_res;
        let squeezed = image.squared(side, Fit::Squash, Filter::Bilinear)?;
        Tensor::from_f32(&ChannelScale::IMAGENET.planes(&squeezed), &[1, 3, side, side], &self.device)
    }
}

#[async_trait(?Send)]
impl Tagger for RamTagger {
    /// Tags whose confidence is beyond their own threshold, in the order of the list, as far as they are
    /// [given](GivenTags).
    async fn tag(&self, image: &RgbImage) -> Result<Vec<Tag>> {
        let logits = self.network.forward(&self.input(image)?)?;
        let scores = logits.unary(Unary::Sigmoid)?.to_f32().await?;
        let tag = |at: usize| Tag { label: self.names[at].clone(), score: scores[at], box_px: None, kind: None };
        let seen = hits(&scores, &self.thresholds).into_iter();
        Ok(seen.filter(|at| self.given.gives(&self.names[*at])).map(tag).collect())
    }

    /// `logits`, one a tag.
    async fn raw_outputs(&self, image: &RgbImage) -> Result<RawOutputs> {
        Ok(vec![("logits", self.network.forward(&self.input(image)?)?)])
    }
}

impl GivenTags {
    /// Whether a tag (lower-case) is given.
    pub fn gives(self, tag: &str) -> bool {
        self == Self::Original || !names_no_thing(tag)
    }
}

/// Places of the scores that are greater than their threshold.
pub fn hits(scores: &[f32], thresholds: &[f32]) -> Vec<usize> {
    let pairs = scores.iter().zip(thresholds).enumerate();
    pairs.filter(|(_, (score, threshold))| score > threshold).map(|(at, _)| at).collect()
}

/// The lines of a list that must have `count` of them.
fn lines(file: &'static str, bytes: &[u8], count: usize) -> Result<Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|error| Error::corrupt(file, error.to_string()))?;
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if lines.len() != count {
        return Err(Error::corrupt(file, format!("{} lines for {count} tags", lines.len())));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_must_be_beyond_its_threshold() {
        assert_eq!(hits(&[0.5, 0.65, 0.651, f32::NAN, 1.0], &[0.4, 0.65, 0.65, 0.0, 1.0]), [0, 2]);
    }

    #[test]
    fn lists_must_fit() {
        assert_eq!(lines("list", b"a\nb c \r\n", 2).expect("two lines"), ["a", "b c"]);
        for (bytes, count) in [(b"a\nb".as_slice(), 3), (b"\xFF\n", 1), (b"", 1)] {
            assert!(lines("list", bytes, count).is_err(), "{bytes:?}");
        }
    }
}
