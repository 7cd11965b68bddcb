//! Replies that follow a grammar, token by token.

use std::collections::BTreeSet;

use super::LanguageModel;
use super::context::Context;
use super::grammar::{PairGrammar, State};
use super::prompt::Sequence;
use super::stop::StopRules;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::host::Host;

/// What may come next in a reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Choices {
    /// Tokens that go on with the reply, ascending.
    pub more: Vec<u32>,
    /// Tokens that end it; empty where it may not end.
    pub end: Vec<u32>,
}

/// A reply of pairs as it grows, token by token.
#[derive(Debug)]
pub struct PairReply<'a> {
    grammar: &'a PairGrammar,
    vocabulary: &'a Vocabulary,
    state: State,
    bytes: Vec<u8>,
}

impl<'a> PairReply<'a> {
    /// An empty reply.
    pub fn new(grammar: &'a PairGrammar, vocabulary: &'a Vocabulary) -> Self {
        Self { grammar, vocabulary, state: grammar.start(), bytes: Vec::new() }
    }

    /// Tokens that may come next. Found along the tree of the vocabulary, so that what cannot come costs nothing.
    pub fn choices(&self, rules: &StopRules) -> Choices {
        let more = self.vocabulary.tokens_from(self.state.clone(), |state, byte| self.grammar.step(state, byte));
        let mut end = Vec::new();
        if self.grammar.may_end(&self.state) {
            // A run of tokens that ends an answer is recognised by its first: nothing else begins like it here.
            let runs = rules.sequences.iter().filter_map(|run| run.first());
            end.extend(rules.ids.iter().chain(runs).filter(|id| more.binary_search(id).is_err()));
        }
        Choices { more, end }
    }

    /// Takes the next token.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is none of [`Choices::more`].
    pub fn push(&mut self, id: u32) -> Result<()> {
        let bytes = self.vocabulary.bytes(id).unwrap_or_default();
        let next = bytes.iter().try_fold(self.state.clone(), |state, byte| self.grammar.step(&state, *byte));
        self.state = next.ok_or_else(|| Error::shape("grammar", format!("token {id} does not fit")))?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether the line that was just ended came before: a weak model would go on like this for ever.
    pub fn repeats_itself(&self) -> bool {
        let Some(lines) = self.bytes.strip_suffix(b"\n") else { return false };
        let mut known = BTreeSet::new();
        !lines.split(|byte| *byte == b'\n').all(|line| known.insert(line.to_ascii_lowercase()))
    }

    /// The reply's whole lines.
    pub fn finish(self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let whole = match text.rsplit_once('\n') {
            _ if self.grammar.may_end(&self.state) => &text,
            Some((whole, _)) => whole,
            None => "",
        };
        whole.trim().to_owned()
    }
}

/// The likeliest reply to `sequence` that `grammar` allows, of at most `max_tokens` tokens; only whole lines of it.
///
/// Where there is no choice the model is not asked. Its reading goes on from what `context` holds.
pub(crate) async fn reply(
    model: &LanguageModel,
    context: &mut Context,
    host: &dyn Host,
    sequence: &Sequence,
    grammar: &PairGrammar,
    max_tokens: usize,
) -> Result<String> {
    let LanguageModel { llama, tokenizer, settings } = model;
    let room = context.max_positions().saturating_sub(sequence.items.len());
    if room == 0 {
        let (found, most) = (sequence.items.len(), context.max_positions());
        return Err(Error::Input(format!("{found} tokens leave no room for a reply in the context of {most}")));
    }
    let chunk = settings.chat.generation.prefill_chunk;
    let mut hidden = context.read(llama, sequence, chunk, host, &mut async |_, _| Ok(())).await?.last;
    let mut draft = PairReply::new(grammar, tokenizer.vocabulary());
    for _ in 0..max_tokens.min(room) {
        host.breathe().await?;
        let Choices { more, end } = draft.choices(&settings.chat.stop);
        let id = match (more.as_slice(), end.as_slice()) {
            // The end, or a vocabulary that has no token for what would have to come.
            ([], _) => break,
            ([only], []) => *only,
            _ => {
                let logits = llama.logits(&hidden)?.to_f32().await?;
                likeliest(&logits, more.iter().chain(&end))?
            }
        };
        if end.contains(&id) {
            break;
        }
        draft.push(id)?;
        if draft.repeats_itself() {
            break;
        }
        hidden = context.push(llama, &[id])?;
    }
    Ok(draft.finish())
}

fn likeliest<'a>(logits: &[f32], ids: impl Iterator<Item = &'a u32>) -> Result<u32> {
    let known = ids.filter_map(|id| Some((*id, *logits.get(*id as usize)?)));
    let best = known.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
    let best = best.filter(|(_, logit)| !logit.is_nan());
    best.map(|(id, _)| id)
        .ok_or_else(|| Error::corrupt("language model", "its logits are not numbers; the weights may be damaged"))
}
