//! How fast the language model answers.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use bubo::language::{Chat, GenerationOptions, Sampling, Statistics};
use bubo::tensor::{Device, Precision};
use pollster::block_on;
use serde::Serialize;

use crate::host::CommandLine;
use crate::part;

/// About a hundred tokens, like a question with a picture's findings in it.
const QUESTION: &str = "The picture shows these things: a dog at the left, a park bench in the middle, a frisbee at the \
    top, two people at the right, grass and trees in the background. The sound is of a dog that barks. Describe in three \
    sentences what happens in the picture, say where the things are, and say whether the sound belongs to it.";

/// Figures of one turn.
#[derive(Debug, Serialize)]
pub struct Turn {
    /// Places of the prompt that were computed.
    pub prefill_tokens: usize,
    /// Places of the prompt that were known from the turn before.
    pub reused_tokens: usize,
    /// Places a second while reading the prompt.
    pub prefill_tokens_per_second: f64,
    /// From the question to the first token.
    pub first_token_ms: f64,
    /// Tokens after the first one.
    pub decode_tokens: usize,
    /// Tokens a second after the first one.
    pub decode_tokens_per_second: f64,
}

impl From<Statistics> for Turn {
    fn from(statistics: Statistics) -> Self {
        Self {
            prefill_tokens: statistics.prefill_tokens,
            reused_tokens: statistics.reused_tokens,
            prefill_tokens_per_second: statistics.prefill_tokens_per_second(),
            first_token_ms: statistics.prefill_ms,
            decode_tokens: statistics.decode_tokens,
            decode_tokens_per_second: statistics.decode_tokens_per_second(),
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "prompt {} tokens (+ {} known): {:.1} tokens/s, first token after {:.0} ms; answer: {:.1} tokens/s over {}",
            self.prefill_tokens,
            self.reused_tokens,
            self.prefill_tokens_per_second,
            self.first_token_ms,
            self.decode_tokens_per_second,
            self.decode_tokens
        )
    }
}

/// Asks the language model of a bundle (or checkpoint) a question of about a hundred tokens and a short follow-up; each
/// answer is forced to `tokens` tokens.
///
/// # Errors
/// If the model cannot be loaded, or fails.
pub fn language(source: &Path, device: &Device, precision: Precision, tokens: usize) -> anyhow::Result<Vec<Turn>> {
    let model = Rc::new(part::load_language(source, device, precision)?);
    let mut chat = Chat::new(model);
    let host = CommandLine::default();
    let options = GenerationOptions {
        sampling: Sampling::default(),
        max_new_tokens: tokens,
        min_new_tokens: tokens,
        ..chat.default_options()
    };
    // The first answer pays for what is made once (pipelines, room for the cache) and is not counted.
    chat.ask("Hello");
    block_on(chat.generate(&host, &GenerationOptions { max_new_tokens: 2, ..options.clone() }, async |_| Ok(())))?;
    chat.clear();
    [QUESTION, "And what is behind them?"]
        .into_iter()
        .map(|question| {
            chat.ask(question);
            Ok(block_on(chat.generate(&host, &options, async |_| Ok(())))?.statistics.into())
        })
        .collect()
}
