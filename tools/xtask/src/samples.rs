//! The pictures and sounds that the page offers: `tools/samples.json` chooses them from the fetched parts.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{parts::Fetched, places, process::say};

#[derive(Deserialize)]
struct Chosen {
    pictures: Vec<Choice>,
    sounds: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    /// The part in `tools/parts.json` that has it.
    part: String,
    file: String,
    name: String,
    credit: String,
}

/// The list that the page reads, `samples/samples.json`.
#[derive(Serialize)]
struct Listing {
    pictures: Vec<Sample>,
    sounds: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    /// Address relative to the list.
    file: String,
    name: String,
    credit: String,
}

/// Where the samples are put; served as `/samples/`.
pub fn folder() -> PathBuf {
    places::root().join("bundles/samples")
}

/// Copies the chosen files beside the bundle and writes their list; a part that could not be had is left out.
///
/// # Errors
/// A chosen file is not in its part, or the folder cannot be written.
pub fn lay_out(parts: &BTreeMap<String, Fetched>) -> Result<()> {
    let path = places::root().join("tools/samples.json");
    let chosen: Chosen = serde_json::from_str(&fs::read_to_string(path)?).context("tools/samples.json")?;
    fs::create_dir_all(folder())?;
    let listing = Listing { pictures: copy(chosen.pictures, parts)?, sounds: copy(chosen.sounds, parts)? };
    fs::write(folder().join("samples.json"), serde_json::to_string_pretty(&listing)?)?;
    say(format!("samples: {} pictures, {} sounds", listing.pictures.len(), listing.sounds.len()));
    Ok(())
}

fn copy(choices: Vec<Choice>, parts: &BTreeMap<String, Fetched>) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for choice in choices {
        let Some(part) = parts.get(&choice.part) else { continue };
        let source = part.files.get(&choice.file).with_context(|| format!("no {} in {}", choice.file, choice.part))?;
        fs::copy(source, folder().join(&choice.file))?;
        samples.push(Sample { file: choice.file, name: choice.name, credit: choice.credit });
    }
    Ok(samples)
}
