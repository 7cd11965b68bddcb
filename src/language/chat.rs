//! A conversation with the model.

use std::cell::Cell;
use std::rc::Rc;

use serde::Deserialize;

use super::beam::{MOST_BEAMS, Search};
use super::context::Context;
use super::grammar::PairGrammar;
use super::prompt::{Item, Message, Modality, ModalityKind, Part, Role, Sequence};
use super::sampler::{Sampler, Sampling, log_softmax};
use super::stop::StopText;
use super::tokenizer::Detokenizer;
use super::{LanguageModel, constrained};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::tensor::Tensor;

/// How an answer is generated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Answers that grow side by side, of which the likeliest is taken; with 1, each token is final and shown at once. At
    /// most 16.
    pub num_beams: usize,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Shortest answer, in tokens: before that, nothing ends it.
    pub min_new_tokens: usize,
    /// Places for prompt and answer together; never more than the model has.
    pub max_context: usize,
    /// What goes when they do not suffice.
    pub cut: ContextCut,
    /// Places of a prompt that are read at once. The page gets a moment between two such chunks.
    pub prefill_chunk: usize,
    /// Words with which the answer starts; the model goes on from there.
    pub opening: String,
}

impl Default for GenerationOptions {
    /// The most likely answer of up to 300 tokens within 2000 places.
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            num_beams: 1,
            max_new_tokens: 300,
            min_new_tokens: 1,
            max_context: 2000,
            cut: ContextCut::Pinned,
            prefill_chunk: 64,
            opening: String::new(),
        }
    }
}

impl GenerationOptions {
    /// The original's: [`Sampling::original`], 1 to 300 tokens within 2000 places, cut from the front.
    ///
    /// Source: bubogpt @ 17c72b5, eval_scripts/conversation.py, `Chat.answer`.
    pub fn original() -> Self {
        Self { sampling: Sampling::original(), cut: ContextCut::Original, ..Self::default() }
    }
}

/// What is left out of a prompt that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextCut {
    /// The oldest words; the system text, pictures and sounds, and the last question stay.
    Pinned,
    /// The oldest places, whatever they are, as in the original: in long conversations that is the picture.
    Original,
}

/// What happens while an answer is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// So many places of the prompt's new part have been read.
    Prefill {
        /// Places read.
        done: usize,
        /// Places to read.
        total: usize,
    },
    /// More of the answer, never half a character.
    Text(&'a str),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were allowed.
    Length,
    /// No place is left in the context.
    Context,
    /// The caller asked to stop.
    Cancelled,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Statistics {
    /// Places of the prompt that were computed.
    pub prefill_tokens: usize,
    /// Places of the prompt that were known from before.
    pub reused_tokens: usize,
    /// From the start to the first token.
    pub prefill_ms: f64,
    /// Tokens after the first.
    pub decode_tokens: usize,
    /// From the first token to the end.
    pub decode_ms: f64,
}

impl Statistics {
    /// Tokens a second after the first one; 0 if there were none.
    pub fn decode_tokens_per_second(&self) -> f64 {
        if self.decode_ms > 0.0 { self.decode_tokens as f64 * 1000.0 / self.decode_ms } else { 0.0 }
    }

    /// Places a second while reading the prompt; 0 if it took no time.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        if self.prefill_ms > 0.0 { self.prefill_tokens as f64 * 1000.0 / self.prefill_ms } else { 0.0 }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The answer as it is shown and remembered.
    pub text: String,
    /// The tokens as they were generated, the one that ended it included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// What it cost.
    pub statistics: Statistics,
}

/// A conversation. It remembers what the model has read, so that a follow-up question costs only what is new.
#[derive(Debug)]
pub struct Chat {
    model: Rc<LanguageModel>,
    messages: Vec<Message>,
    context: Option<Context>,
    scoring: Scratch,
    next_modality: u64,
}

/// The context of [`Chat::score`], apart from the conversation's. Taken out while it is in use, so that two scorings at
/// the same time do no harm: the second starts with an empty one.
#[derive(Default)]
struct Scratch(Cell<Option<Context>>);

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

impl Chat {
    /// An empty conversation.
    pub fn new(model: Rc<LanguageModel>) -> Self {
        Self { model, messages: Vec::new(), context: None, scoring: Scratch::default(), next_modality: 0 }
    }

    /// A conversation that goes on from what was said elsewhere. What was shown in it keeps its place.
    pub fn with_messages(model: Rc<LanguageModel>, messages: Vec<Message>) -> Self {
        let shown = messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
            Part::Modality(modality) => Some(modality.id + 1),
            Part::Text(_) => None,
        });
        let next_modality = shown.max().unwrap_or(0);
        Self { messages, next_modality, ..Self::new(model) }
    }

    /// The model.
    pub fn model(&self) -> &Rc<LanguageModel> {
        &self.model
    }

    /// What was said, as far as it is still in the prompt.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The model's own way to generate.
    pub fn default_options(&self) -> GenerationOptions {
        self.model.settings.chat.generation.clone()
    }

    /// Sets what the model is told before everything else.
    pub fn set_system(&mut self, text: impl Into<String>) {
        self.messages.retain(|message| message.role != Role::System);
        self.messages.insert(0, Message::text(Role::System, text));
    }

    /// Shows a picture or plays a sound: embeddings `[tokens, hidden_size]` or `[1, tokens, hidden_size]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for embeddings of another form.
    pub fn attach(&mut self, kind: ModalityKind, embeddings: &Tensor) -> Result<()> {
        let hidden = self.model.llama.config().hidden_size;
        let embeddings = match *embeddings.dims() {
            [tokens, width] | [1, tokens, width] if width == hidden => embeddings.reshape(&[tokens, width])?,
            ref other => {
                let reason = format!("embeddings {other:?} for a language model of width {hidden}");
                return Err(Error::shape("attach", reason));
            }
        };
        let part = Part::Modality(Modality { kind, id: self.next_modality, embeddings });
        self.next_modality += 1;
        let own_message = self.model.settings.chat.format.has_message_per_modality();
        match self.shown_last() {
            Some(message) if !own_message => message.parts.push(part),
            _ => self.messages.push(Message { role: Role::User, parts: vec![part] }),
        }
        Ok(())
    }

    /// Asks a question; [`generate`](Self::generate) answers it. A question joins what was shown right before it.
    pub fn ask(&mut self, question: impl Into<String>) {
        let part = Part::Text(question.into());
        match self.shown_last() {
            Some(message) => message.parts.push(part),
            None => self.messages.push(Message { role: Role::User, parts: vec![part] }),
        }
    }

    /// The last message, if something was shown in it and nothing asked yet.
    fn shown_last(&mut self) -> Option<&mut Message> {
        let shown = |message: &&mut Message| {
            message.role == Role::User && message.parts.iter().all(|part| matches!(part, Part::Modality(_)))
        };
        self.messages.last_mut().filter(shown)
    }

    /// Takes the last question back, if it has not been answered; what was shown with it stays.
    pub fn withdraw(&mut self) {
        let Some(message) = self.messages.last_mut().filter(|message| message.role == Role::User) else { return };
        message.parts.retain(|part| matches!(part, Part::Modality(_)));
        if message.parts.is_empty() {
            self.messages.pop();
        }
    }

    /// Takes back what was shown last, if nothing was asked about it yet.
    pub fn clear_shown(&mut self) {
        if self.shown_last().is_some() {
            self.messages.pop();
        }
    }

    /// Takes the last answer back, so that its question can be answered anew.
    pub fn withdraw_answer(&mut self) {
        self.messages.pop_if(|message| message.role == Role::Assistant);
    }

    /// Remembers the last answer as `text`, for callers who show it otherwise than it was generated.
    pub fn replace_answer(&mut self, text: &str) {
        if let Some(message) = self.messages.last_mut().filter(|message| message.role == Role::Assistant) {
            message.parts = vec![Part::Text(text.to_owned())];
        }
    }

    /// Forgets everything that was said and shown, the system text too.
    pub fn clear(&mut self) {
        self.messages.clear();
        if let Some(context) = &mut self.context {
            context.truncate(0);
        }
    }

    /// Generates the answer to what was asked and remembers it.
    ///
    /// A stop that the host or `on_event` asks for ([`Error::Cancelled`]) is not an error here: the answer so far comes
    /// back with [`StopReason::Cancelled`], and is remembered unless it is empty; then the question stays open. A
    /// future that is dropped half-way leaves a conversation that can go on, its question open.
    ///
    /// # Errors
    /// [`Error::Input`] if nothing was asked, the question alone is too long or an option is out of range; those of the
    /// engine and of `on_event`.
    pub async fn generate(
        &mut self,
        host: &dyn Host,
        options: &GenerationOptions,
        mut on_event: impl AsyncFnMut(Event<'_>) -> Result<()>,
    ) -> Result<Generation> {
        if self.messages.last().is_none_or(|message| message.role != Role::User) {
            return Err(Error::Input("there is no question to answer".into()));
        }
        if !(1..=MOST_BEAMS).contains(&options.num_beams) {
            return Err(Error::Input(format!("num_beams is {}; it is 1 to {MOST_BEAMS}", options.num_beams)));
        }
        let mut sampler = Sampler::new(options.sampling.clone())?;
        let mut context = match self.context.take() {
            Some(context) if context.max_positions() == self.positions(options) => context,
            _ => Context::new(&self.model.llama, self.positions(options)),
        };
        let mut draft = Draft::default();
        let result = match self.fitting_prompt(options, context.max_positions()) {
            Ok(mut sequence) => {
                let model = Rc::clone(&self.model);
                sequence.items.extend(model.tokenizer.encode(&options.opening)?.into_iter().map(Item::Token));
                show(&mut draft, &options.opening, &mut on_event).await?;
                let run = Run { model: &model, host, options, on_event: &mut on_event };
                run.answer(&mut context, &sequence, &mut sampler, &mut draft).await
            }
            Err(error) => Err(error),
        };
        self.context = Some(context);
        let stop_reason = match result {
            Ok(reason) => reason,
            Err(Error::Cancelled) => StopReason::Cancelled,
            Err(error) => return Err(error),
        };
        let text = self.model.settings.chat.format.clean_answer(&draft.text);
        if stop_reason != StopReason::Cancelled || !text.is_empty() {
            self.messages.push(Message::text(Role::Assistant, text.clone()));
        }
        Ok(Generation { text, token_ids: draft.ids, stop_reason, statistics: draft.statistics })
    }

    fn positions(&self, options: &GenerationOptions) -> usize {
        options.max_context.min(self.model.llama.config().max_position_embeddings)
    }

    /// The prompt, cut so that the longest answer still fits behind it.
    fn fitting_prompt(&mut self, options: &GenerationOptions, positions: usize) -> Result<Sequence> {
        let Some(room) = positions.checked_sub(options.max_new_tokens).filter(|room| *room > 0) else {
            let (answer, unit) = (options.max_new_tokens, "tokens leaves no room for a question");
            return Err(Error::Input(format!("an answer of {answer} {unit} in a context of {positions}")));
        };
        let mut sequence = self.model.read_prompt(&self.messages)?;
        if sequence.items.len() <= room {
            return Ok(sequence);
        }
        if options.cut == ContextCut::Original {
            sequence.items.drain(..sequence.items.len() - room);
            return Ok(sequence);
        }
        // Somewhat more goes than must, because what stands behind a cut has to be read again.
        let comfortable = room - room / 4;
        while sequence.items.len() > comfortable && self.forget_oldest() {
            sequence = self.model.read_prompt(&self.messages)?;
        }
        let found = sequence.items.len();
        if found <= room {
            return Ok(sequence);
        }
        Err(Error::Input(format!(
            "the question, with what was shown, takes {found} of at most {room} tokens: ask a shorter one or start anew"
        )))
    }

    /// Takes the words out of the oldest exchange that has any, and keeps what was shown in it. The open question and
    /// the system text stay. Says whether there was something to take.
    fn forget_oldest(&mut self) -> bool {
        let open = self.messages.len() - 1;
        let has_words = |message: &Message| {
            message.role != Role::System && message.parts.iter().any(|part| matches!(part, Part::Text(_)))
        };
        let Some(start) = self.messages[..open].iter().position(has_words) else { return false };
        let answered = self.messages[start..open].iter().position(|message| message.role == Role::Assistant);
        let end = answered.map_or(open, |answer| start + answer + 1);
        for message in &mut self.messages[start..end] {
            message.parts.retain(|part| matches!(part, Part::Modality(_)));
        }
        self.messages.retain(|message| !message.parts.is_empty());
        true
    }

    /// Logarithm of the probability of each candidate as the answer to `messages`, up to its end if `complete`, else as
    /// its beginning. The conversation and its memory are not touched; the prompt's beginning that the last scoring
    /// had in common is not read again.
    ///
    /// # Errors
    /// [`Error::Input`] if prompt and candidate are too long for the model; [`Error::Cancelled`]; those of the engine.
    pub async fn score(
        &self,
        host: &dyn Host,
        messages: &[Message],
        candidates: &[&str],
        complete: bool,
    ) -> Result<Vec<f32>> {
        let options = self.default_options();
        let kept = self.scoring.0.take();
        let mut context = kept.unwrap_or_else(|| Context::new(&self.model.llama, self.positions(&options)));
        let scores = self.score_in(&mut context, host, messages, candidates, complete).await;
        self.scoring.0.set(Some(context));
        scores
    }

    /// The likeliest reply to `messages` that the grammar allows: whole lines, possibly none. Like
    /// [`score`](Self::score) it touches neither the conversation nor its memory.
    ///
    /// # Errors
    /// [`Error::Input`] if the prompt is too long for the model; [`Error::Cancelled`]; those of the engine.
    pub async fn reply_in_pairs(
        &self,
        host: &dyn Host,
        messages: &[Message],
        grammar: &PairGrammar,
        max_tokens: usize,
    ) -> Result<String> {
        let kept = self.scoring.0.take();
        let positions = self.positions(&self.default_options());
        let mut context = kept.unwrap_or_else(|| Context::new(&self.model.llama, positions));
        let reply = match self.model.read_prompt(messages) {
            Ok(sequence) => constrained::reply(&self.model, &mut context, host, &sequence, grammar, max_tokens).await,
            Err(error) => Err(error),
        };
        self.scoring.0.set(Some(context));
        reply
    }

    async fn score_in(
        &self,
        context: &mut Context,
        host: &dyn Host,
        messages: &[Message],
        candidates: &[&str],
        complete: bool,
    ) -> Result<Vec<f32>> {
        let LanguageModel { llama, tokenizer, settings } = self.model.as_ref();
        let sequence = self.model.read_prompt(messages)?;
        let end = settings.chat.stop.ids.first().copied().filter(|_| complete);
        let answers = candidates
            .iter()
            .map(|candidate| Ok(tokenizer.encode(candidate)?.into_iter().chain(end).collect()))
            .collect::<Result<Vec<Vec<u32>>>>()?;
        let longest = sequence.items.len() + answers.iter().map(Vec::len).max().unwrap_or(0);
        if longest > context.max_positions() {
            let most = context.max_positions();
            return Err(Error::Input(format!("{longest} tokens do not fit into the context of {most}")));
        }
        let chunk = settings.chat.generation.prefill_chunk;
        let prompt = context.read(llama, &sequence, chunk, host, &mut async |_, _| Ok(())).await?;
        let prompt_len = context.len();
        let first = log_softmax(&llama.logits(&prompt.last)?.to_f32().await?);
        let mut scores = Vec::with_capacity(answers.len());
        for ids in answers {
            host.breathe().await?;
            let Some((last, front)) = ids.split_last() else {
                scores.push(0.0);
                continue;
            };
            let mut score = first.get(ids[0] as usize).copied().unwrap_or(f32::NEG_INFINITY);
            if !front.is_empty() {
                let logits = llama.logits(&context.push(llama, front)?)?.to_f32().await?;
                context.truncate(prompt_len);
                let rows = logits.chunks_exact(llama.config().vocab_size);
                for (row, id) in rows.zip(front.iter().skip(1).chain([last])) {
                    score += log_softmax(row).get(*id as usize).copied().unwrap_or(f32::NEG_INFINITY);
                }
            }
            scores.push(score);
        }
        Ok(scores)
    }
}

/// The answer as it grows.
#[derive(Default)]
struct Draft {
    ids: Vec<u32>,
    text: String,
    statistics: Statistics,
}

/// One answer's surroundings.
struct Run<'a, F> {
    model: &'a LanguageModel,
    host: &'a dyn Host,
    options: &'a GenerationOptions,
    on_event: &'a mut F,
}

impl<F: AsyncFnMut(Event<'_>) -> Result<()>> Run<'_, F> {
    async fn answer(
        self,
        context: &mut Context,
        sequence: &Sequence,
        sampler: &mut Sampler,
        draft: &mut Draft,
    ) -> Result<StopReason> {
        let Self { model, host, options, on_event } = self;
        let started = host.now_ms();
        let mut progress = async |done, total| on_event(Event::Prefill { done, total }).await;
        let prompt = context.read(&model.llama, sequence, options.prefill_chunk, host, &mut progress).await?;
        draft.statistics.prefill_tokens = prompt.computed;
        draft.statistics.reused_tokens = prompt.reused;
        draft.statistics.prefill_ms = host.now_ms() - started;

        let rules = &model.settings.chat.stop;
        if options.num_beams > 1 {
            let run = Run { model, host, options, on_event };
            return run.answer_by_beams(context, &prompt.last, sampler, draft).await;
        }
        let (mut detokenizer, mut stop_text) = (Detokenizer::default(), StopText::default());
        let mut hidden = prompt.last;
        let mut first_token_at = None;
        let reason = loop {
            if draft.ids.len() >= options.max_new_tokens {
                break StopReason::Length;
            }
            let too_short = draft.ids.len() < options.min_new_tokens;
            let banned = if too_short { rules.ids.as_slice() } else { &[] };
            let id = sampler.next(&model.llama.logits(&hidden)?, &draft.ids, banned).await?;
            draft.ids.push(id);
            let now = host.now_ms();
            let first = *first_token_at.get_or_insert(now);
            draft.statistics.prefill_ms = first - started;
            draft.statistics.decode_ms = now - first;
            draft.statistics.decode_tokens = draft.ids.len() - 1;
            let mut ended = rules.match_ids(&draft.ids);
            // A run of tokens that ends the answer is text nevertheless, which cleaning the answer looks for.
            if !rules.ids.contains(&id) {
                let piece = detokenizer.push(&model.tokenizer, id)?;
                let (shown, found) = stop_text.push(rules, &piece);
                ended |= found;
                show(draft, &shown, on_event).await?;
            }
            if ended {
                break StopReason::Stop;
            }
            if context.len() >= context.max_positions() {
                break StopReason::Context;
            }
            host.breathe().await?;
            hidden = context.push(&model.llama, &[id])?;
        };
        let rest = detokenizer.finish(&model.tokenizer)?;
        let (shown, ended) = stop_text.push(rules, &rest);
        let held = if ended { String::new() } else { stop_text.finish() };
        show(draft, &(shown + &held), on_event).await?;
        Ok(reason)
    }

    /// The answer as a whole: no token is final before the search has ended.
    async fn answer_by_beams(
        self,
        context: &mut Context,
        last: &Tensor,
        sampler: &mut Sampler,
        draft: &mut Draft,
    ) -> Result<StopReason> {
        let Self { model, host, options, on_event } = self;
        let started = host.now_ms();
        let statistics = &mut draft.statistics;
        let on_step = |tokens: usize| {
            statistics.decode_tokens = tokens;
            statistics.decode_ms = host.now_ms() - started;
        };
        let search = Search { model, host, options };
        let (ids, reason) = search.run(context, last, sampler, on_step).await?;
        let mut stop_text = StopText::default();
        let (text, ended) = stop_text.push(&model.settings.chat.stop, &model.tokenizer.decode(&ids)?);
        let held = if ended { String::new() } else { stop_text.finish() };
        draft.ids = ids;
        show(draft, &(text + &held), on_event).await?;
        Ok(reason)
    }
}

/// Adds to the answer and tells the caller; white space in front of the answer is left out.
async fn show(draft: &mut Draft, text: &str, on_event: &mut impl AsyncFnMut(Event<'_>) -> Result<()>) -> Result<()> {
    let text = if draft.text.is_empty() { text.trim_start() } else { text };
    if text.is_empty() {
        return Ok(());
    }
    draft.text.push_str(text);
    on_event(Event::Text(text)).await
}
