//! VGGSS' pictures with the sound of something in them: `vggss-instruction-tuning.json` holds `{"annotations":
//! [{"audio_id", "image_id", "caption"}]}`, sounds are `{audio_id}.wav`, pictures `{image_id}.jpg`. The caption says
//! where the sound comes from.
//!
//! A `class`, which VGGSS' own list has (Chen et al. 2021, arXiv 2104.02691) and the original's file does not, is read
//! where it is there: it says what is kept for the test.
//!
//! Source: bubogpt-spec 7.9. Captions go through [`clean_caption`] (7.6).

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::entries::{Annotated, Entry, Id, JsonList, media};
use super::prompts::{Prompts, clean_caption};

#[derive(Deserialize)]
struct Annotation {
    audio_id: Id,
    image_id: Id,
    caption: String,
    #[serde(default)]
    class: Option<String>,
}

/// Reads the file `annotations`, whose pictures lie in `images` and whose sounds in `sounds`.
///
/// # Errors
/// If a file is missing or has another form; the message names file and entry.
pub fn read(annotations: &Path, images: &Path, sounds: &Path) -> Result<Annotated> {
    let form = r#"{"audio_id": text or number, "image_id": text or number, "caption": text}"#;
    let list = JsonList::read(annotations, Some("annotations"), form)?;
    let entries = list.entries(|Annotation { audio_id, image_id, caption, class }| {
        let audio = Some(media(sounds, &format!("{audio_id}.wav"))?);
        let image = Some(media(images, &format!("{image_id}.jpg"))?);
        Ok(vec![Entry { image, audio, answer: clean_caption(&caption), class, question: None }])
    })?;
    Ok(Annotated { entries, prompts: Prompts::Source })
}
