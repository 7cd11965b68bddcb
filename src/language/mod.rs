//! Words: from a conversation with pictures and sounds in it to an answer.
//!
//! `prompt` writes the conversation as the model was trained to read it, `tokenizer` turns it into ids, `llama` says
//! what comes next, `sampler` chooses (`beam` among several answers that grow side by side), `stop` ends; `chat` holds it together and remembers what was read.
//! Where a reply has to be read by a program, `grammar` says what may come and `constrained` lets nothing else come.

mod beam;
mod chat;
mod constrained;
mod context;
pub mod grammar;
pub mod llama;
mod prompt;
mod sampler;
mod stop;
mod tokenizer;
mod vocabulary;

pub(crate) use context::Context;

pub use chat::{Chat, ContextCut, Event, Generation, GenerationOptions, Statistics, StopReason};
pub use constrained::{Choices, PairReply};
pub use grammar::PairGrammar;
pub use llama::Llama;
pub use prompt::{BUBOGPT_SYSTEM, Item, Message, Modality, ModalityKind, Part, PromptFormat, Role, Segment, Sequence};
pub use sampler::{Sampler, Sampling};
pub use stop::{StopRules, StopText};
pub use tokenizer::{Detokenizer, Span, Tokenizer};
pub use vocabulary::Vocabulary;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::Weights;

/// What the manifest says about a language model beside its sizes.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The token that starts a text, if the model has one.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// How to talk to it.
    pub chat: ChatSettings,
}

/// How to talk to a language model.
#[derive(Debug, Clone, Deserialize)]
pub struct ChatSettings {
    /// How conversations are written.
    #[serde(flatten)]
    pub format: PromptFormat,
    /// Whether a prompt starts with the start token.
    #[serde(default)]
    pub add_bos: bool,
    /// What ends an answer.
    #[serde(default)]
    pub stop: StopRules,
    /// How answers are generated unless the caller says otherwise.
    #[serde(default)]
    pub generation: GenerationOptions,
}

/// A language model with its tokeniser and manners: the `language` part of a bundle.
#[derive(Debug)]
pub struct LanguageModel {
    /// The network.
    pub llama: Llama,
    /// Its tokeniser.
    pub tokenizer: Tokenizer,
    /// How to talk to it.
    pub settings: Settings,
}

impl LanguageModel {
    /// Loads the part: `config` as in the manifest, `weights` below the part's prefix, the bytes of `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if configuration or tokeniser are not what they should be; [`Error::Weights`] as for
    /// [`Llama::load`].
    pub fn load(config: &serde_json::Value, weights: &Weights, tokenizer_json: &[u8]) -> Result<Self> {
        let wrong = |error: serde_json::Error| Error::corrupt("configuration of the language model", error.to_string());
        let sizes: llama::Config = serde_json::from_value(config.clone()).map_err(wrong)?;
        let settings: Settings = serde_json::from_value(config.clone()).map_err(wrong)?;
        if settings.chat.add_bos && settings.bos_token_id.is_none() {
            let reason = "`add_bos` is true, but there is no `bos_token_id`";
            return Err(Error::corrupt("configuration of the language model", reason));
        }
        let tokenizer = Tokenizer::from_bytes(tokenizer_json)?;
        Ok(Self { llama: Llama::load(&sizes, weights)?, tokenizer, settings })
    }

    /// Writes and tokenises a conversation so that the model's answer comes next.
    ///
    /// # Errors
    /// As for [`PromptFormat::render`] and [`Sequence::new`].
    pub fn read_prompt(&self, messages: &[Message]) -> Result<Sequence> {
        let start = self.settings.bos_token_id.filter(|_| self.settings.chat.add_bos);
        Sequence::new(self.settings.chat.format.render(messages)?, &self.tokenizer, start)
    }
}
