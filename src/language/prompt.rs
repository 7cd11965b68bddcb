//! Conversations as the text and the embeddings that a model was trained to read.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value as JinjaValue;
use minijinja::{Environment, context};
use serde::Deserialize;

use super::tokenizer::{Span, Tokenizer};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The original's system text.
///
/// Source: bubogpt @ 17c72b5, eval_scripts/conversation.py, `CONV_X`.
pub const BUBOGPT_SYSTEM: &str = "Give the following image: <Vision>ImageContent</Vision> or audio: \
    <Audio>AudioContent</Audio>. You will be able to see the image/audio once I provide it to you. Please answer my \
    questions.";

/// The original's separator of turns.
const SEPARATOR: &str = "###";

/// Instructions that a chat template may take: thousands of messages, but not an endless loop.
const TEMPLATE_STEPS: u64 = 1_000_000;

/// Marks within rendered text: non-characters, which are taken out of what people write, so nobody can forge them.
const TYPED_START: char = '\u{FDD0}';
const TYPED_END: char = '\u{FDD1}';
const EMBEDDINGS_START: char = '\u{FDD2}';
const EMBEDDINGS_END: char = '\u{FDD3}';
const MARKS: [char; 4] = [TYPED_START, TYPED_END, EMBEDDINGS_START, EMBEDDINGS_END];

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The instructions; first, if at all.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// What was shown or played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModalityKind {
    /// A picture.
    Image,
    /// A sound.
    Audio,
}

/// A picture or a sound as embeddings of the language model.
#[derive(Debug, Clone)]
pub struct Modality {
    /// Which of both.
    pub kind: ModalityKind,
    /// Tells this one from all others of the conversation; equal ids mean equal embeddings.
    pub id: u64,
    /// `[tokens, hidden_size]`
    pub embeddings: Tensor,
}

/// A part of a message.
#[derive(Debug, Clone)]
pub enum Part {
    /// Words.
    Text(String),
    /// A picture or a sound.
    Modality(Modality),
}

/// What one side says.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// In order; [`PromptFormat`] puts one space between them.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of words.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }

    /// Whether a picture or a sound is in it.
    pub fn has_modality(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Modality(_)))
    }
}

/// How a model wants its conversations written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum PromptFormat {
    /// The original's: `system###Human: …###Assistant:`.
    Bubogpt {
        /// System text in place of the original's.
        #[serde(default)]
        system: Option<String>,
    },
    /// A Hugging Face chat template (Jinja).
    Template {
        /// The template's source.
        template: String,
        /// System text; the template's own if not given.
        #[serde(default)]
        system: Option<String>,
    },
}

/// A piece of a prompt.
#[derive(Debug, Clone)]
pub enum Segment {
    /// Text that is tokenised on its own.
    Text(Vec<Span>),
    /// Embeddings that stand between two texts.
    Embeddings(Modality),
}

impl PromptFormat {
    /// Writes the conversation so that the model's answer comes next. The result starts and ends with a text, and
    /// texts and embeddings take turns.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the template does not work.
    pub fn render(&self, messages: &[Message]) -> Result<Vec<Segment>> {
        let mut modalities = Vec::new();
        let rendered = match self {
            PromptFormat::Bubogpt { system } => {
                render_bubogpt(system.as_deref().unwrap_or(BUBOGPT_SYSTEM), messages, &mut modalities)
            }
            PromptFormat::Template { template, system } => {
                render_template(template, system.as_deref(), messages, &mut modalities)?
            }
        };
        split_at_marks(&rendered, &modalities)
    }

    /// Whether a question joins the picture before it, and pictures each make a message of their own (the original), or
    /// all that is shown before a question makes one message with it.
    pub fn has_message_per_modality(&self) -> bool {
        matches!(self, PromptFormat::Bubogpt { .. })
    }

    /// An answer as it was generated to the answer as it is shown and remembered.
    ///
    /// Source: bubogpt @ 17c72b5, eval_scripts/conversation.py, `Chat.answer`: what precedes the first `###`, of it what
    /// follows the last `Assistant:`, without white space around.
    pub fn clean_answer(&self, text: &str) -> String {
        match self {
            PromptFormat::Bubogpt { .. } => {
                let before = text.split(SEPARATOR).next().unwrap_or_default();
                before.rsplit("Assistant:").next().unwrap_or_default().trim().to_owned()
            }
            PromptFormat::Template { .. } => text.trim().to_owned(),
        }
    }
}

/// Token ids and places of embeddings of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A token.
    Token(u32),
    /// A row of a modality's embeddings.
    Embedding {
        /// [`Modality::id`]
        modality: u64,
        /// Which of its rows.
        row: usize,
    },
}

/// A prompt as the model reads it.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    /// Tokens and rows of embeddings in order.
    pub items: Vec<Item>,
    /// The embeddings that `items` names.
    pub modalities: Vec<Modality>,
}

impl Sequence {
    /// Tokenises every segment on its own, as the original does, after `start` if there is one.
    ///
    /// # Errors
    /// [`Error::Input`] if the tokeniser refuses a text; [`Error::Shape`] if embeddings do not have two axes.
    pub fn new(segments: Vec<Segment>, tokenizer: &Tokenizer, start: Option<u32>) -> Result<Self> {
        let mut sequence = Self { items: start.map(Item::Token).into_iter().collect(), modalities: Vec::new() };
        for segment in segments {
            match segment {
                Segment::Text(spans) => {
                    sequence.items.extend(tokenizer.encode_spans(&spans)?.into_iter().map(Item::Token));
                }
                Segment::Embeddings(modality) => {
                    let [rows, _] = modality.embeddings.dims_of("embeddings of a picture or sound")?;
                    sequence.items.extend((0..rows).map(|row| Item::Embedding { modality: modality.id, row }));
                    sequence.modalities.push(modality);
                }
            }
        }
        Ok(sequence)
    }
}

/// The text of a message with marks, its parts joined by one space.
fn marked_content(message: &Message, modalities: &mut Vec<Modality>) -> String {
    let parts = message.parts.iter().map(|part| match part {
        Part::Text(text) => marked_text(text, message.role),
        Part::Modality(modality) => {
            modalities.push(modality.clone());
            let (open, close) = match modality.kind {
                ModalityKind::Image => ("<Vision>", "</Vision>"),
                ModalityKind::Audio => ("<Audio>", "</Audio>"),
            };
            let index = modalities.len() - 1;
            format!("{open}{EMBEDDINGS_START}{index}{EMBEDDINGS_END}{close}")
        }
    });
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// Text between marks. White space around stays outside of them, so that a template can trim it.
fn marked_text(text: &str, role: Role) -> String {
    let clean = text.replace(MARKS, "");
    if role == Role::System {
        return clean;
    }
    let inner = clean.trim();
    if inner.is_empty() {
        return clean;
    }
    clean.replacen(inner, &format!("{TYPED_START}{inner}{TYPED_END}"), 1)
}

/// Source: bubogpt @ 17c72b5, eval_scripts/conversation.py, `Conversation.get_prompt`: a message without content has
/// neither space nor separator.
fn render_bubogpt(system: &str, messages: &[Message], modalities: &mut Vec<Modality>) -> String {
    let told = messages.first().filter(|message| message.role == Role::System);
    let system = told.map_or_else(|| system.replace(MARKS, ""), |message| marked_content(message, modalities));
    let mut out = system + SEPARATOR;
    for message in messages.iter().filter(|message| message.role != Role::System) {
        out += if message.role == Role::User { "Human:" } else { "Assistant:" };
        let content = marked_content(message, modalities);
        if !content.is_empty() {
            out += &format!(" {content}{SEPARATOR}");
        }
    }
    out + "Assistant:"
}

fn render_template(
    template: &str,
    system: Option<&str>,
    messages: &[Message],
    modalities: &mut Vec<Modality>,
) -> Result<String> {
    let broken = |error: minijinja::Error| Error::corrupt("chat template", format!("{error:#}"));
    let mut environment = Environment::new();
    // As transformers sets Jinja up.
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(broken)?);
    environment.set_fuel(Some(TEMPLATE_STEPS));
    environment.set_unknown_method_callback(python_method);
    environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
    });
    let told = messages.first().is_some_and(|message| message.role == Role::System);
    let default_system = system.filter(|_| !told).map(|text| Message::text(Role::System, text));
    let entries: Vec<JinjaValue> = default_system
        .iter()
        .chain(messages)
        .map(|message| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            context! { role, content => marked_content(message, modalities) }
        })
        .collect();
    let template = environment.template_from_str(template).map_err(broken)?;
    template
        .render(context! { messages => entries, add_generation_prompt => true, bos_token => "", eos_token => "" })
        .map_err(broken)
}

/// Python's methods of texts that chat templates use.
fn python_method(
    _: &mut minijinja::State<'_, '_>,
    value: &JinjaValue,
    method: &str,
    arguments: &[JinjaValue],
) -> Result<JinjaValue, minijinja::Error> {
    let unknown = || minijinja::Error::from(minijinja::ErrorKind::UnknownMethod);
    let text = value.as_str().ok_or_else(unknown)?;
    match (method, arguments) {
        ("strip", []) => Ok(text.trim().into()),
        ("lstrip", []) => Ok(text.trim_start().into()),
        ("rstrip", []) => Ok(text.trim_end().into()),
        ("upper", []) => Ok(text.to_uppercase().into()),
        ("lower", []) => Ok(text.to_lowercase().into()),
        ("startswith", [prefix]) => Ok(text.starts_with(prefix.as_str().ok_or_else(unknown)?).into()),
        ("endswith", [suffix]) => Ok(text.ends_with(suffix.as_str().ok_or_else(unknown)?).into()),
        _ => Err(unknown()),
    }
}

/// Cuts rendered text at its marks.
fn split_at_marks(rendered: &str, modalities: &[Modality]) -> Result<Vec<Segment>> {
    let damaged = || Error::corrupt("chat template", "it takes the contents of messages apart");
    let mut segments = Vec::new();
    let mut spans: Vec<Span> = Vec::new();
    let mut trusted = true;
    let mut rest = rendered;
    while let Some(at) = rest.find(MARKS) {
        let (text, tail) = rest.split_at(at);
        push_span(&mut spans, text, trusted);
        let mark = tail.chars().next().ok_or_else(damaged)?;
        rest = &tail[mark.len_utf8()..];
        match mark {
            TYPED_START => trusted = false,
            TYPED_END => trusted = true,
            EMBEDDINGS_START => {
                let (index, tail) = rest.split_once(EMBEDDINGS_END).ok_or_else(damaged)?;
                let modality = index.parse().ok().and_then(|index: usize| modalities.get(index)).ok_or_else(damaged)?;
                segments.push(Segment::Text(std::mem::take(&mut spans)));
                segments.push(Segment::Embeddings(modality.clone()));
                rest = tail;
            }
            _ => return Err(damaged()),
        }
    }
    push_span(&mut spans, rest, trusted);
    segments.push(Segment::Text(spans));
    let shown = segments.len() / 2;
    // Fewer or more embeddings than were given would be answered wrongly without anyone noticing.
    if shown == modalities.len() { Ok(segments) } else { Err(damaged()) }
}

fn push_span(spans: &mut Vec<Span>, text: &str, trusted: bool) {
    if !text.is_empty() {
        spans.push(Span { text: text.to_owned(), trusted });
    }
}
