//! The original's prompts and cleaned answers.

use anyhow::Context;
use bubo::language::{Message, Modality, ModalityKind, Part, PromptFormat, Role, Segment};
use bubo::tensor::{Device, Tensor};
use serde::Deserialize;

use super::{Difference, Golden, count_difference};

#[derive(Deserialize)]
struct Conversation {
    image: usize,
    audio: usize,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    question: String,
    prompt: String,
    segments: Vec<String>,
    answer: String,
}

#[derive(Deserialize)]
struct Cleaning {
    text: String,
    result: String,
}

/// Runs the conversations and the cleaning of answers of `text_level`; texts must be equal.
///
/// # Errors
/// If the golden has another form.
pub fn run(golden: &Golden, device: &Device) -> anyhow::Result<Vec<Difference>> {
    let part = |name: &str| golden.json().get(name).cloned().with_context(|| format!("the golden has no {name:?}"));
    let conversations: Vec<Conversation> = serde_json::from_value(part("conversations")?)?;
    let cleanings: Vec<Cleaning> = serde_json::from_value(part("post")?)?;
    let format = PromptFormat::Bubogpt { system: None };

    let mut wrong = 0;
    for conversation in &conversations {
        let mut messages = shown(conversation, device)?;
        for (turn, step) in conversation.steps.iter().enumerate() {
            let question = Part::Text(step.question.clone());
            match messages.last_mut().filter(|_| turn == 0) {
                Some(message) => message.parts.push(question),
                None => messages.push(Message { role: Role::User, parts: vec![question] }),
            }
            let found = texts(&format.render(&messages)?);
            wrong += usize::from(found != step.segments || found.join("<ModalityHere>") != step.prompt);
            messages.push(Message::text(Role::Assistant, step.answer.clone()));
        }
    }
    let unclean = cleanings.iter().filter(|case| format.clean_answer(&case.text) != case.result).count();
    Ok(vec![count_difference("conversations", wrong), count_difference("post", unclean)])
}

/// One message for each picture and sound, as the original makes them.
fn shown(conversation: &Conversation, device: &Device) -> anyhow::Result<Vec<Message>> {
    let images = (0..conversation.image).map(|_| ModalityKind::Image);
    let kinds = images.chain((0..conversation.audio).map(|_| ModalityKind::Audio));
    kinds
        .enumerate()
        .map(|(id, kind)| {
            let embeddings = Tensor::zeros(&[32, 1], device)?;
            let part = Part::Modality(Modality { kind, id: id as u64, embeddings });
            Ok(Message { role: Role::User, parts: vec![part] })
        })
        .collect()
}

/// The texts between the embeddings.
fn texts(segments: &[Segment]) -> Vec<String> {
    let text = |segment: &Segment| match segment {
        Segment::Text(spans) => Some(spans.iter().map(|span| span.text.as_str()).collect()),
        Segment::Embeddings(_) => None,
    };
    segments.iter().filter_map(text).collect()
}
