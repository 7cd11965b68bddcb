//! What stage 1 learns from: sounds, or pictures, with a caption each.
//!
//! - Shards (WebDataset): tar files in which `NAME.json` (`{"caption": text, …}`) stands beside `NAME.flac` or another
//!   sound, or `NAME.jpg` or another picture. The original packs WavCaps so, 500 pairs a shard; web pictures (CC3M,
//!   CC12M, SBU, LAION) come so from img2dataset. Source: bubogpt-spec 7.3.
//! - WavCaps' own JSON: `{"data": [{"id", "caption", "duration", …}]}`, sounds are `{id}.flac`. Source: bubogpt-spec
//!   7.9.
//!
//! Captions go through [`clean_caption`] (7.6).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::entries::{Annotated, Entry, Id, JsonList, Media, check, media};
use super::prompts::{Prompts, clean_caption};

const SOUNDS: [&str; 5] = ["flac", "wav", "mp3", "ogg", "m4a"];
const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// No caption's file is longer.
const MOST_CAPTION_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Captioned {
    caption: String,
}

#[derive(Deserialize)]
struct WavCap {
    id: Id,
    caption: String,
}

/// Reads WavCaps' file `annotations`, whose sounds lie in `sounds`.
///
/// # Errors
/// If a file is missing or has another form; the message names file and entry.
pub fn read_wavcaps(annotations: &Path, sounds: &Path) -> Result<Annotated> {
    let list = JsonList::read(annotations, Some("data"), r#"{"id": text or number, "caption": text}"#)?;
    let entries = list.entries(|WavCap { id, caption }| {
        let audio = Some(media(sounds, &format!("{id}.flac"))?);
        Ok(vec![Entry { audio, answer: clean_caption(&caption), ..Entry::default() }])
    })?;
    Ok(Annotated { entries, prompts: Prompts::Audio })
}

/// Reads all shards (`.tar`) of a folder, in the order of their names. Only headers and captions are read; pictures and
/// sounds are read when they are drawn.
///
/// # Errors
/// If there is no shard, one is damaged, or a caption has no picture or sound or the other way round.
pub fn read_shards(folder: &Path) -> Result<Annotated> {
    let listing = std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let paths = listing.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    let mut shards: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "tar")).collect();
    shards.sort();
    ensure!(!shards.is_empty(), "{} has no shards; expected files that end in .tar", folder.display());
    let mut entries = Vec::new();
    for shard in &shards {
        entries.extend(read_shard(shard).with_context(|| shard.display().to_string())?);
    }
    let is_picture = |entry: &Entry| entry.image.is_some();
    let pictures = entries.iter().filter(|entry| is_picture(entry)).count();
    ensure!(
        pictures == 0 || pictures == entries.len(),
        "{} holds pictures and sounds; give each a folder of its own",
        folder.display()
    );
    let prompts = if pictures > 0 { Prompts::Image } else { Prompts::Audio };
    Ok(Annotated { entries, prompts })
}

#[derive(Default)]
struct Sample {
    media: Option<(Media, bool)>,
    caption: Option<String>,
}

fn read_shard(shard: &Path) -> Result<Vec<Entry>> {
    let mut samples: BTreeMap<String, Sample> = BTreeMap::new();
    let mut archive = tar::Archive::new(File::open(shard).context("it cannot be opened")?);
    for member in archive.entries_with_seek().context("it is no tar file")? {
        let mut member = member.context("it is damaged")?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8(member.path_bytes().into_owned()).context("a file name is no UTF-8")?;
        let Some((stem, ending)) = name.rsplit_once('.') else { continue };
        let sample = samples.entry(stem.to_owned()).or_default();
        let (is_sound, is_picture) = (SOUNDS.contains(&ending), PICTURES.contains(&ending));
        if is_sound || is_picture {
            let (at, length) = (member.raw_file_position(), member.size());
            let media = Media::InShard { shard: shard.to_path_buf(), name: name.clone(), at, length };
            ensure!(sample.media.replace((media, is_picture)).is_none(), "{stem} has several pictures or sounds");
        } else if ending == "json" {
            ensure!(member.size() <= MOST_CAPTION_BYTES, "{name} is {} bytes long, too long", member.size());
            let mut text = Vec::new();
            member.read_to_end(&mut text).with_context(|| name.clone())?;
            let found: Captioned =
                serde_json::from_slice(&text).with_context(|| format!(r#"{name}: expected {{"caption": text, …}}"#))?;
            sample.caption = Some(found.caption);
        }
    }
    let mut entries = Vec::with_capacity(samples.len());
    for (stem, sample) in samples {
        let (media, is_picture) = sample.media.with_context(|| {
            format!("{stem} has no picture or sound; expected {stem}.flac or {stem}.jpg beside {stem}.json")
        })?;
        let caption = sample.caption.with_context(|| format!("{stem} has no caption; expected {stem}.json"))?;
        let (image, audio) = if is_picture { (Some(media), None) } else { (None, Some(media)) };
        let entry = Entry { image, audio, answer: clean_caption(&caption), ..Entry::default() };
        check(&entry).with_context(|| format!("{stem}.json"))?;
        entries.push(entry);
    }
    ensure!(!entries.is_empty(), "it is empty");
    Ok(entries)
}
