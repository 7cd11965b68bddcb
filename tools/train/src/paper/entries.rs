//! What readers of annotation files give: pictures and sounds with what shall be said about them; and who may see them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::prompts::{HERE, Prompts};
use crate::examples::{Split, place};

/// No picture or sound is larger; a shard that claims more is damaged.
const MOST_BYTES: u64 = 1 << 30;

/// Where the bytes of a picture or a sound are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// A file of its own.
    File(PathBuf),
    /// A file within a tar shard.
    InShard {
        /// The shard.
        shard: PathBuf,
        /// Name within it.
        name: String,
        /// Where its bytes start.
        at: u64,
        /// How many there are.
        length: u64,
    },
}

impl Media {
    /// Its bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path).with_context(|| format!("could not read {}", path.display())),
            Self::InShard { shard, name, at, length } => {
                let told = || format!("could not read {name} in {}", shard.display());
                ensure!(*length <= MOST_BYTES, "{}: {length} bytes", told());
                let mut file = File::open(shard).with_context(told)?;
                file.seek(SeekFrom::Start(*at)).with_context(told)?;
                let mut bytes = vec![0; *length as usize];
                file.read_exact(&mut bytes).with_context(told)?;
                Ok(bytes)
            }
        }
    }

    /// Name of the file without folders: by it, entries are split, so that a picture that several annotation files name
    /// is on the same side in all of them.
    pub fn name(&self) -> &str {
        let path = match self {
            Self::File(path) => path.as_path(),
            Self::InShard { name, .. } => Path::new(name),
        };
        path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// A picture, a sound or both, with what shall be said about them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The picture.
    pub image: Option<Media>,
    /// The sound.
    pub audio: Option<Media>,
    /// The question, where the annotation has one.
    pub question: Option<String>,
    /// What shall be answered.
    pub answer: String,
    /// Class of the thing, where the annotation names one.
    pub class: Option<String>,
}

/// What a reader gives: entries, and what is asked about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotated {
    /// In the order of the file.
    pub entries: Vec<Entry>,
    /// Which prompts go with them.
    pub prompts: Prompts,
}

/// Who may see what.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitBy {
    /// One of so many files is kept for validation; 0 keeps none.
    pub validation_files_one_in: u64,
    /// Classes that are kept for the test: entries of that class, or that name it as a word in question or answer.
    #[serde(default)]
    pub test_classes: Vec<String>,
}

impl SplitBy {
    /// Who may see an entry. Of a picture with a sound, the sound's file decides.
    pub fn split(&self, entry: &Entry) -> Split {
        let texts = [entry.class.as_deref(), entry.question.as_deref(), Some(entry.answer.as_str())];
        if self.test_classes.iter().any(|class| texts.into_iter().flatten().any(|text| names(text, class))) {
            return Split::Test;
        }
        let file = entry.audio.as_ref().or(entry.image.as_ref()).map_or("", Media::name);
        let one_in = self.validation_files_one_in;
        if one_in > 0 && (place(file) >> 17).is_multiple_of(one_in) { Split::Validation } else { Split::Training }
    }
}

/// Whether `class` stands in `text` as whole words, in small or large letters.
fn names(text: &str, class: &str) -> bool {
    let words = |text: &str| {
        let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect::<Vec<_>>()
    };
    let class = words(class);
    !class.is_empty() && words(text).windows(class.len()).any(|window| window == class)
}

/// A number or a text: ids are written either way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// As a number.
    Number(u64),
    /// As a text.
    Text(String),
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// An annotation file in JSON: a list of entries, whose errors name the file, the entry and what is expected.
#[derive(Debug)]
pub struct JsonList<'a> {
    path: &'a Path,
    form: &'static str,
    entries: Vec<Value>,
}

impl<'a> JsonList<'a> {
    /// Reads a file that holds a list, below `key` of an object if one is given.
    ///
    /// - `form`: of an entry, for messages
    ///
    /// # Errors
    /// If it cannot be read, is no JSON, or the list is not there or empty.
    pub fn read(path: &'a Path, key: Option<&str>, form: &'static str) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
        let value: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        let expected = key.map_or_else(|| format!("[{form}, …]"), |key| format!("{{\"{key}\": [{form}, …]}}"));
        let list = match (key, value) {
            (Some(key), Value::Object(mut fields)) => fields.remove(key),
            (None, list) => Some(list),
            (Some(_), _) => None,
        };
        let Some(Value::Array(entries)) = list else { bail!("{}: expected {expected}", path.display()) };
        ensure!(!entries.is_empty(), "{}: the list is empty; expected {expected}", path.display());
        Ok(Self { path, form, entries })
    }

    /// Every entry in its type, through `convert`.
    ///
    /// # Errors
    /// Of the first entry that has another form or that `convert` refuses, by file and number.
    pub fn entries<T: DeserializeOwned>(self, mut convert: impl FnMut(T) -> Result<Vec<Entry>>) -> Result<Vec<Entry>> {
        let mut found = Vec::with_capacity(self.entries.len());
        for (at, value) in self.entries.into_iter().enumerate() {
            let told = || format!("{}, entry {at}: expected {}", self.path.display(), self.form);
            let entry = serde_json::from_value(value).with_context(told)?;
            for entry in convert(entry).with_context(told)? {
                check(&entry).with_context(told)?;
                found.push(entry);
            }
        }
        Ok(found)
    }
}

/// Refuses texts that are empty or that would be taken for a picture's place.
///
/// # Errors
/// If the answer or the question is of that kind.
pub fn check(entry: &Entry) -> Result<()> {
    ensure!(!entry.answer.trim().is_empty(), "nothing is to be answered");
    for text in [Some(&entry.answer), entry.question.as_ref()].into_iter().flatten() {
        ensure!(!text.contains(HERE), "the text {HERE:?} stands for a picture or a sound and cannot be said");
    }
    Ok(())
}

/// A file of a folder, which must be there.
///
/// # Errors
/// If the name is a path, or there is no such file.
pub fn media(folder: &Path, name: &str) -> Result<Media> {
    ensure!(
        !name.contains(['/', '\\']) && !name.starts_with('.'),
        "{name:?} is no file name; ids name files of {}",
        folder.display()
    );
    let path = folder.join(name);
    ensure!(path.is_file(), "there is no file {}", path.display());
    Ok(Media::File(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &str, answer: &str) -> Entry {
        Entry { image: Some(Media::File(file.into())), answer: answer.into(), ..Entry::default() }
    }

    #[test]
    fn files_are_on_one_side_and_classes_are_kept_as_words() {
        let split = SplitBy { validation_files_one_in: 4, test_classes: vec!["banjo".into(), "Hair dryer".into()] };
        let sides: Vec<Split> = (0..200).map(|at| split.split(&entry(&format!("a/{at}.jpg"), "A cat."))).collect();
        let validation = sides.iter().filter(|side| **side == Split::Validation).count();
        assert!((30..70).contains(&validation), "{validation}");
        let elsewhere: Vec<Split> = (0..200).map(|at| split.split(&entry(&format!("b/{at}.jpg"), "A dog."))).collect();
        assert_eq!(sides, elsewhere, "the folder and the answer do not matter");
        assert_eq!(split.split(&entry("1.jpg", "A frog with a Banjo.")), Split::Test);
        assert_eq!(split.split(&entry("1.jpg", "The hair-dryer hums.")), Split::Test);
        assert_ne!(split.split(&entry("1.jpg", "Some banjos.")), Split::Test);
        let classed = Entry { class: Some("banjo".into()), ..entry("1.jpg", "It hums.") };
        assert_eq!(split.split(&classed), Split::Test);
        let all = SplitBy::default();
        assert!((0..50).all(|at| all.split(&entry(&format!("{at}.jpg"), "A cat.")) == Split::Training));
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("1.jpg"), b"x").unwrap();
        assert_eq!(media(folder.path(), "1.jpg").unwrap().name(), "1.jpg");
        for name in ["../1.jpg", "/etc/passwd", "a/1.jpg", "..", ".1.jpg", "2.jpg"] {
            assert!(media(folder.path(), name).is_err(), "{name}");
        }
    }
}
