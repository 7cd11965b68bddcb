//! MiniGPT-4's detailed captions, `cc_sbu_align`: `filter_cap.json` holds `{"annotations": [{"image_id", "caption"}]}`,
//! the pictures are `image/{image_id}.jpg`.
//!
//! Source: bubogpt-spec 7.9, from Vision-CAIR/MiniGPT-4. Captions are taken as they are (7.6).

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::entries::{Annotated, Entry, Id, JsonList, media};
use super::prompts::Prompts;

#[derive(Deserialize)]
struct Annotation {
    image_id: Id,
    caption: String,
}

/// Reads the file `annotations`, whose pictures lie in `images`.
///
/// # Errors
/// If a file is missing or has another form; the message names file and entry.
pub fn read(annotations: &Path, images: &Path) -> Result<Annotated> {
    let list = JsonList::read(annotations, Some("annotations"), r#"{"image_id": text or number, "caption": text}"#)?;
    let entries = list.entries(|Annotation { image_id, caption }| {
        let image = Some(media(images, &format!("{image_id}.jpg"))?);
        Ok(vec![Entry { image, answer: caption, ..Entry::default() }])
    })?;
    Ok(Annotated { entries, prompts: Prompts::Image })
}
