//! Pictures and sounds with their names, out of the packages, and who may see them: training, validation, test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::held_out::{self, Files};
use crate::naming;
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
pub(crate) fn place(text: &str) -> u64 {
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
    pub validation_files: Files,
    /// Files that are left out, of whatever kind they are, since an evaluation set or a sample has them, by package.
    pub evaluation_files: Files,
}

impl Splits {
    /// Who may see these examples.
    ///
    /// # Errors
    /// Those of [`held_out::files`].
    pub fn of<'a>(examples: impl IntoIterator<Item = &'a Example>, vocabulary: &Vocabulary) -> Result<Self> {
        let kinds = vocabulary.kinds().into_iter().filter(|kind| is_test_kind(kind)).map(str::to_owned);
        let evaluation_files = held_out::files()?;
        let mut splits = Self { test_kinds: kinds.collect(), validation_files: Files::new(), evaluation_files };
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
        Ok(splits)
    }
}

/// All pictures and all sounds of the packages, in the order of their names, package after package.
///
/// What is held out (`held_out`) is not among them, except where its kind is kept for the test anyway.
///
/// # Errors
/// If a package's folder cannot be read.
pub fn read(folders: &BTreeMap<String, PathBuf>, vocabulary: &Vocabulary) -> Result<(Vec<Example>, Vec<Example>)> {
    let held_out = held_out::files()?;
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    let folder = |name: &str| folders.get(name).with_context(|| format!("no package {name}"));
    let add = |list: &mut Vec<Example>, package: &str, root: &Path, file: &Path, noun: Noun| -> Result<()> {
        let file = file.strip_prefix(root)?.to_path_buf();
        let split = split_of(&noun, &file);
        if split != Split::Test && held_out.get(package).is_some_and(|files| files.contains(&file)) {
            return Ok(());
        }
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
    type Name = fn(&Path, &Vocabulary) -> Option<Noun>;
    let named: [(&str, &str, Name); 3] = [
        ("openclipart-png", "png", naming::clipart),
        ("fonts-noto-color-emoji", "png", naming::emoji),
        ("gcompris-qt-data", "webp", naming::gcompris_picture),
    ];
    for (package, extension, name) in named {
        let root = folder(package)?;
        for picture in files(root, extension)? {
            if let Some(noun) = name(picture.strip_prefix(root)?, vocabulary) {
                add(&mut pictures, package, root, &picture, noun)?;
            }
        }
    }
    let gcompris = folder("gcompris-qt-data")?;
    for sound in files(gcompris, "ogg")? {
        if let Some(noun) = naming::gcompris_sound(sound.strip_prefix(gcompris)?, vocabulary) {
            add(&mut sounds, "gcompris-qt-data", gcompris, &sound, noun)?;
        }
    }
    Ok((pictures, sounds))
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
    fn the_written_split_is_the_one_in_use() {
        let written: Splits = serde_json::from_str(include_str!("../split.json")).unwrap();
        assert!(written.test_kinds.iter().all(|kind| is_test_kind(kind)));
        let vocabulary = Vocabulary::new().unwrap();
        let expected = Splits::of(&[], &vocabulary).unwrap();
        assert!(expected.test_kinds.is_subset(&written.test_kinds));
        let noun = Noun { kind: "dog".into(), name: "dog".into() };
        let files = written.validation_files.values().flatten();
        assert!(!is_test_kind("dog") && files.into_iter().all(|file| split_of(&noun, file) == Split::Validation));
        assert_eq!(written.evaluation_files, expected.evaluation_files);
        let is_held_out =
            |package: &str, file| expected.evaluation_files.get(package).is_some_and(|all| all.contains(file));
        let validation =
            written.validation_files.iter().flat_map(|(package, files)| files.iter().map(move |f| (package, f)));
        assert!(validation.into_iter().all(|(package, file)| !is_held_out(package, file)));
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
