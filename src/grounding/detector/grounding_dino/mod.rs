//! Grounding DINO: finds what words name. Picture and caption look at each other through six layers, the most promising
//! places of the picture become queries, and these say box by box which words they match.
//!
//! Liu et al. 2023 (arXiv 2303.05499). Source: IDEA-Research/GroundingDINO, models/GroundingDINO/*.py @ 856dde2. Tensor
//! names are those of `groundingdino_swint_ogc.pth`. One picture and one caption at a time, so nothing is padded.
//!
//! | file | what |
//! | --- | --- |
//! | `config` | sizes, thresholds |
//! | `picture` | trunk and input projections: levels of features with their positions |
//! | `encoder` | picture and caption look at each other |
//! | `queries` | which places of the picture become queries |
//! | `decoder` | queries become boxes |
//! | `attention`, `deformable`, `positions` | what several of these are made of |
//! | `detect` | the way from a picture and phrases to named boxes |

mod attention;
mod config;
mod decoder;
mod deformable;
mod detect;
mod encoder;
mod picture;
mod positions;
mod queries;

pub use config::Config;
pub use detect::{GroundingDinoDetector, Hit, TOKENIZER_FILE, captions, read_hits};
pub use picture::Features;

use crate::error::{Error, Result};
use crate::grounding::caption::Caption;
use crate::nn::bert::{Bert, Visible};
use crate::nn::{Linear, Tap, Weights, unseen};
use crate::tensor::{Device, Tensor};
use decoder::Decoder;
use encoder::{Encoder, Text};
use picture::Eye;
use queries::Selection;

/// The network.
#[derive(Debug)]
pub struct GroundingDino {
    device: Device,
    dim: usize,
    eye: Eye,
    bert: Bert,
    feat_map: Linear,
    encoder: Encoder,
    selection: Selection,
    decoder: Decoder,
}

/// What the network says of a picture and a caption.
#[derive(Debug)]
pub struct Predictions {
    /// `[queries, tokens]`: how well each query matches each token of the caption, as logits.
    pub logits: Tensor,
    /// `[queries, 4]`: centre x, centre y, width and height of each query's box, 0..1 of the picture.
    pub boxes: Tensor,
}

impl GroundingDino {
    /// Loads all parts.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go
    /// together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let transformer = weights.pp("transformer");
        let feat_map = weights.pp("feat_map");
        Ok(Self {
            device: feat_map.tensor("bias", &[config.hidden_dim])?.device(),
            dim: config.hidden_dim,
            eye: Eye::load(config, weights)?,
            bert: Bert::load(&config.bert(weights)?, &weights.pp("bert"))?,
            feat_map: Linear::load(&feat_map, config.bert_hidden, config.hidden_dim)?,
            encoder: Encoder::load(config, &transformer.pp("encoder"))?,
            selection: Selection::load(config, &transformer)?,
            // The heads of all layers are one; it bears six names in the original, of which one is kept.
            decoder: Decoder::load(config, &transformer, &weights.pp("bbox_embed").pp(0))?,
        })
    }

    /// Where the network computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Looks at a normalised picture `[1, 3, height, width]`: once for all captions.
    ///
    /// # Errors
    /// [`Error::Shape`] if the picture has another form.
    pub fn look(&self, image: &Tensor) -> Result<Features> {
        self.eye.look(image, &mut unseen)
    }

    /// Looks for what a caption names.
    ///
    /// # Errors
    /// [`Error::Input`] for a caption with more tokens than the text side's position table has places in one block;
    /// those of the engine.
    pub fn find(&self, features: &Features, caption: &Caption) -> Result<Predictions> {
        self.find_seen(features, caption, &mut unseen)
    }

    /// [`look`](Self::look) and [`find`](Self::find), where `tap` sees what happens on the way under the names of the
    /// golden files, for example `enc0.memory`.
    ///
    /// # Errors
    /// As those.
    pub fn forward_seen(&self, image: &Tensor, caption: &Caption, tap: &mut Tap<'_>) -> Result<Predictions> {
        let features = self.eye.look(image, tap)?;
        self.find_seen(&features, caption, tap)
    }

    fn find_seen(&self, features: &Features, caption: &Caption, tap: &mut Tap<'_>) -> Result<Predictions> {
        let mut text = self.read(caption, tap)?;
        let memory = self.encoder.forward(features, &mut text, tap)?; // [tokens, dim]
        let boxes = self.selection.forward(features, &memory, &text.tokens, tap)?;
        let (queries, boxes) = self.decoder.forward(features, &memory, &text.tokens, &boxes, tap)?;
        Ok(Predictions { logits: queries.matmul_transposed(&text.tokens)?, boxes })
    }

    /// The text side: every token reads its own block of the caption.
    fn read(&self, caption: &Caption, tap: &mut Tap<'_>) -> Result<Text> {
        // The original makes masks and positions of all tokens, and only then cuts.
        let count = caption.token_count();
        let (ids, places) = (caption.ids.get(..count), caption.position_ids.get(..count));
        let (Some(ids), Some(places)) = (ids, places) else {
            return Err(Error::Input("the caption has positions for only some of its tokens".into()));
        };
        let visible = caption.visible();
        let hidden = self.bert.forward(ids, 1, Some(places), Visible::Pairs(&visible))?; // [1, tokens, bert_hidden]
        tap("bert_last", &hidden);
        let tokens = self.feat_map.forward(&hidden)?.reshape(&[count, self.dim])?; // [tokens, dim]
        tap("encoded_text", &tokens);
        Text::new(tokens, places, &visible)
    }
}
