//! Pictures and sounds with their names, out of the packages, and who may see them: training, validation, test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::vocabulary::{Noun, Vocabulary, name_of};

/// Which part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Learnt from.
    Training,
    /// Files of kinds that are learnt, watched while learning.
    Validation,
    /// Kinds that training never sees.
    Test,
}

/// A picture or a sound with its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Example {
    /// Package that it comes from.
    pub package: String,
    /// File within the package.
    pub file: PathBuf,
    /// What it shows or what makes the sound.
    pub noun: Noun,
    /// Who may see it.
    pub split: Split,
}

/// One of so many kinds is kept for the test, and one of so many files of the others for validation.
const TEST_SHARE: u64 = 8;
const VALIDATION_SHARE: u64 = 12;

/// FNV-1a: where a name falls must stay the same for ever.
fn place(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Whether things of that kind are kept for the test.
pub fn is_test_kind(kind: &str) -> bool {
    (place(kind) >> 17).is_multiple_of(TEST_SHARE)
}

fn split_of(noun: &Noun, file: &Path) -> Split {
    if is_test_kind(&noun.kind) {
        Split::Test
    } else if (place(&file.to_string_lossy()) >> 17).is_multiple_of(VALIDATION_SHARE) {
        Split::Validation
    } else {
        Split::Training
    }
}

/// Who may see what, as it stands in `tools/train/split.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splits {
    /// Kinds that are kept for the test, of those that the packages and the vocabulary have.
    pub test_kinds: BTreeSet<String>,
    /// Files of other kinds that are kept for validation, by package.
    pub validation_files: BTreeMap<String, BTreeSet<PathBuf>>,
}

impl Splits {
    /// Who may see these examples.
    pub fn of<'a>(examples: impl IntoIterator<Item = &'a Example>, vocabulary: &Vocabulary) -> Self {
        let kinds = vocabulary.kinds().into_iter().filter(|kind| is_test_kind(kind)).map(str::to_owned);
        let mut splits = Self { test_kinds: kinds.collect(), validation_files: BTreeMap::new() };
        for Example { package, file, noun, split } in examples {
            match split {
                Split::Training => {}
                Split::Validation => {
                    splits.validation_files.entry(package.clone()).or_default().insert(file.clone());
                }
                Split::Test => {
                    splits.test_kinds.insert(noun.kind.clone());
                }
            }
        }
        splits
    }
}

/// All pictures and all sounds of the packages, in the order of their names.
///
/// # Errors
/// If a package's folder cannot be read.
pub fn read(folders: &BTreeMap<String, PathBuf>, vocabulary: &Vocabulary) -> Result<(Vec<Example>, Vec<Example>)> {
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    let folder = |name: &str| folders.get(name).with_context(|| format!("no package {name}"));
    let add = |list: &mut Vec<Example>, package: &str, root: &Path, file: &Path, noun: Noun| -> Result<()> {
        let file = file.strip_prefix(root)?.to_path_buf();
        let split = split_of(&noun, &file);
        list.push(Example { package: package.to_owned(), file, noun, split });
        Ok(())
    };
    let stamps = folder("tuxpaint-stamps-default")?;
    for label in files(stamps, "txt")? {
        // Letters and numbers.
        if label.components().any(|part| part.as_os_str() == "symbols") {
            continue;
        }
        // Line by line, a label in one language each; the first is English.
        let text = String::from_utf8_lossy(&std::fs::read(&label)?).into_owned();
        let Some(name) = text.lines().next().and_then(name_of) else { continue };
        let noun = vocabulary.noun(&name);
        let (picture, sound) = (label.with_extension("png"), label.with_extension("ogg"));
        if picture.exists() {
            add(&mut pictures, "tuxpaint-stamps-default", stamps, &picture, noun.clone())?;
        }
        if sound.exists() {
            add(&mut sounds, "tuxpaint-stamps-default", stamps, &sound, noun)?;
        }
    }
    let clipart = folder("openclipart-png")?;
    for picture in files(clipart, "png")? {
        if let Some(noun) = clipart_noun(picture.strip_prefix(clipart)?, vocabulary) {
            add(&mut pictures, "openclipart-png", clipart, &picture, noun)?;
        }
    }
    Ok((pictures, sounds))
}

/// Folders of clip art that show things rather than signs.
const CLIPART_FOLDERS: [&str; 7] = ["animals", "food", "transportation", "plants", "tools", "recreation", "household"];

/// What a piece of clip art shows, by its folder and the words of its file's name, if they are in the vocabulary.
fn clipart_noun(file: &Path, vocabulary: &Vocabulary) -> Option<Noun> {
    let inside = file.strip_prefix("usr/share/openclipart/png").ok()?;
    let folder = inside.iter().next()?.to_str()?;
    if !CLIPART_FOLDERS.contains(&folder) || inside.iter().any(|part| part == "roadsigns" || part == "cards") {
        return None;
    }
    let stem = inside.file_stem()?.to_str()?.to_lowercase();
    let words: Vec<&str> = stem.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).collect();
    // The name stands in front; who drew it comes after.
    let starts = 0..words.len().min(2);
    let candidates = starts.flat_map(|start| (1..=3).rev().map(move |count| (start, start + count)));
    let found = candidates.filter_map(|(start, end)| vocabulary.known(&words.get(start..end)?.join(" ")));
    found.into_iter().next()
}

/// All files below `folder` with that extension, in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let (mut open, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))? {
            let entry = entry?;
            // Symbolic links would give the same picture twice.
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && entry.path().extension().is_some_and(|found| found == extension) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_art_is_named_by_its_file() {
        let vocabulary = Vocabulary::new().unwrap();
        let noun = |file: &str| {
            clipart_noun(&Path::new("usr/share/openclipart/png").join(file), &vocabulary).map(|noun| noun.name)
        };
        assert_eq!(noun("animals/mammals/cat_01.png").as_deref(), Some("cat"));
        assert_eq!(noun("transportation/fire_truck_by_someone_01.png").as_deref(), Some("truck"));
        assert_eq!(noun("shapes/stars/star_30pt07step.png"), None);
        assert_eq!(noun("animals/rana03_architetto_france_01.png"), None);
    }

    #[test]
    fn the_written_split_is_the_one_in_use() {
        let written: Splits = serde_json::from_str(include_str!("../split.json")).unwrap();
        assert!(written.test_kinds.iter().all(|kind| is_test_kind(kind)));
        let vocabulary = Vocabulary::new().unwrap();
        let expected = Splits::of(&[], &vocabulary);
        assert!(expected.test_kinds.is_subset(&written.test_kinds));
        let noun = Noun { kind: "dog".into(), name: "dog".into() };
        let files = written.validation_files.values().flatten();
        assert!(!is_test_kind("dog") && files.into_iter().all(|file| split_of(&noun, file) == Split::Validation));
    }

    #[test]
    fn a_kind_is_on_one_side_only() {
        let vocabulary = Vocabulary::new().unwrap();
        let kinds = vocabulary.kinds();
        let test = kinds.iter().filter(|kind| is_test_kind(kind)).count();
        assert!((kinds.len() / 12..kinds.len() / 6).contains(&test), "{test} of {}", kinds.len());
        for file in ["a.png", "b.png", "c.png"] {
            let kind = kinds.iter().find(|kind| is_test_kind(kind)).unwrap();
            let noun = Noun { kind: (*kind).to_owned(), name: "any".into() };
            assert_eq!(split_of(&noun, Path::new(file)), Split::Test);
        }
    }
}
