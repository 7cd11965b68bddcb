//! LLaVA's instructions (`conversation_58k`, `detail_23k`, `complex_reasoning_77k`): a list of `{"id", "conversations":
//! [{"value"}, …]}`, in which questions and answers take turns; each pair is a sample. Pictures are COCO's,
//! `train2014/COCO_train2014_{id, 12 digits}.jpg`.
//!
//! Source: bubogpt-spec 7.9, from haotian-liu/LLaVA. Answers are taken as they are (7.6); of a question, the mark
//! `<image>` is taken out (7.7).

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

use super::entries::{Annotated, Entry, Id, JsonList, media};
use super::prompts::Prompts;

#[derive(Deserialize)]
struct Annotation {
    id: Id,
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    /// Who says it; the original only counts.
    #[serde(default)]
    from: Option<String>,
    value: String,
}

/// Reads the file `annotations`, whose pictures lie in `images`.
///
/// # Errors
/// If a file is missing or has another form; the message names file and entry.
pub fn read(annotations: &Path, images: &Path) -> Result<Annotated> {
    let form =
        r#"{"id": number, "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": text}, …]}"#;
    let list = JsonList::read(annotations, None, form)?;
    let entries = list.entries(|Annotation { id, conversations }| {
        let image = media(images, &file_name(&id)?)?;
        let (pairs, rest) = conversations.as_chunks::<2>();
        ensure!(
            rest.is_empty() && !pairs.is_empty(),
            "{} turns, where each question has an answer",
            conversations.len()
        );
        let mut entries = Vec::with_capacity(pairs.len());
        for [question, answer] in pairs {
            for (turn, expected) in [(question, "human"), (answer, "gpt")] {
                let said = turn.from.as_deref().unwrap_or(expected);
                ensure!(said == expected, "a turn from {said:?}, where {expected:?} is due");
            }
            let text = question.value.replace("<image>", "").trim().to_owned();
            ensure!(!text.is_empty(), "nothing is asked");
            let (question, answer) = (Some(text), answer.value.clone());
            entries.push(Entry { image: Some(image.clone()), question, answer, ..Entry::default() });
        }
        Ok(entries)
    })?;
    Ok(Annotated { entries, prompts: Prompts::Instruction })
}

fn file_name(id: &Id) -> Result<String> {
    let digits = id.to_string();
    if digits.is_empty() || digits.len() > 12 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("the id {digits:?} is no number of up to 12 digits");
    }
    Ok(format!("COCO_train2014_{digits:0>12}.jpg"))
}
