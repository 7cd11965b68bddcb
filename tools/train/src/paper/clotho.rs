//! Clotho's sounds with captions: as `Clotho-detail-annotation.json`, in which one paragraph tells what five people
//! wrote, or as Clotho's own table with these five.
//!
//! - JSON: `{"annotations": [{"audio_id", "caption"}]}`, sounds are `{audio_id}.wav`. Source: bubogpt-spec 7.9.
//! - CSV: a line `file_name,caption_1,…,caption_5`, then a sound a line; each caption is a sample. Source: Drossos et
//!   al. 2020, "Clotho: an audio captioning dataset" (arXiv 1910.09387), whose files are quoted as in RFC 4180.
//!
//! Captions go through [`clean_caption`] (7.6).

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::entries::{Annotated, Entry, Id, JsonList, check, media};
use super::prompts::{Prompts, clean_caption};

#[derive(Deserialize)]
struct Annotation {
    audio_id: Id,
    caption: String,
}

/// Reads Clotho-Detail: the file `annotations`, whose sounds lie in `sounds`.
///
/// # Errors
/// If a file is missing or has another form; the message names file and entry.
pub fn read_detail(annotations: &Path, sounds: &Path) -> Result<Annotated> {
    let list = JsonList::read(annotations, Some("annotations"), r#"{"audio_id": text or number, "caption": text}"#)?;
    let entries = list.entries(|Annotation { audio_id, caption }| {
        // Ids of the published file are names of Clotho's files, with their ending or without.
        let id = audio_id.to_string();
        let audio = Some(media(sounds, &format!("{}.wav", id.strip_suffix(".wav").unwrap_or(&id)))?);
        Ok(vec![Entry { audio, answer: clean_caption(&caption), ..Entry::default() }])
    })?;
    Ok(Annotated { entries, prompts: Prompts::Audio })
}

const CAPTIONS: usize = 5;

/// Reads Clotho's table `captions`, whose sounds lie in `sounds`.
///
/// # Errors
/// If a file is missing or has another form; the message names file and line.
pub fn read_csv(captions: &Path, sounds: &Path) -> Result<Annotated> {
    let text = std::fs::read(captions).with_context(|| format!("could not read {}", captions.display()))?;
    let text = String::from_utf8(text).with_context(|| format!("{} is no UTF-8", captions.display()))?;
    let mut rows = rows(&text).with_context(|| captions.display().to_string())?.into_iter();
    let mut header = vec!["file_name".to_owned()];
    header.extend((1..=CAPTIONS).map(|number| format!("caption_{number}")));
    let (_, first) = rows.next().unwrap_or_default();
    ensure!(
        first == header,
        "{}, line 1: expected {}, found {}",
        captions.display(),
        header.join(","),
        first.join(",")
    );
    let mut entries = Vec::new();
    for (line, row) in rows {
        let told = || format!("{}, line {line}: expected {}", captions.display(), header.join(","));
        let [name, captions @ ..] = row.as_slice() else { continue };
        ensure!(captions.len() == CAPTIONS, "{}; found {} fields", told(), row.len());
        let audio = media(sounds, name).with_context(told)?;
        for caption in captions {
            let entry = Entry { audio: Some(audio.clone()), answer: clean_caption(caption), ..Entry::default() };
            check(&entry).with_context(told)?;
            entries.push(entry);
        }
    }
    ensure!(!entries.is_empty(), "{} has no sounds", captions.display());
    Ok(Annotated { entries, prompts: Prompts::Audio })
}

/// Fields of a table, each row with the line it starts at; a field may be quoted, `""` within is a quotation mark.
fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>> {
    let mut rows = Vec::new();
    let (mut row, mut field, mut line, mut start) = (Vec::new(), String::new(), 1, 1);
    let mut letters = text.trim_start_matches('\u{FEFF}').chars().peekable();
    let (mut quoted, mut closed) = (false, false);
    while let Some(letter) = letters.next() {
        line += usize::from(letter == '\n');
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                field.push('"');
                letters.next();
            }
            '"' if quoted => (quoted, closed) = (false, true),
            letter if quoted => field.push(letter),
            '"' if field.is_empty() && !closed => quoted = true,
            ',' => {
                row.push(std::mem::take(&mut field));
                closed = false;
            }
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' => {
                row.push(std::mem::take(&mut field));
                rows.push((start, std::mem::take(&mut row)));
                (closed, start) = (false, line);
            }
            _ if closed => bail!("line {line}: {letter:?} behind a quoted field"),
            letter => field.push(letter),
        }
    }
    ensure!(!quoted, "line {start}: a quotation mark is never closed");
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push((start, row));
    }
    rows.retain(|(_, row)| row.len() > 1 || !row[0].is_empty());
    Ok(rows)
}
