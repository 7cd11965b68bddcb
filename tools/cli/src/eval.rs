//! `bubo eval`: how often a bundle answers rightly.
//!
//! A set is a JSON file: `{"items": [...]}`, each item with paths relative to the folder that is given:
//!
//! - `{"kind": "describe", "image": "dog.png", "accept": ["dog"], "also": ["grass"]}`: a hit if the description of the
//!   picture names one of the accepted words; known things that it names besides those of `accept` and `also` count as
//!   made up
//! - `{"kind": "sound", "audio": "moo.ogg", "accept": ["cow", "moo"]}`: the same for a sound
//! - `{"kind": "question", "image": "dog.png", "question": "What animal is it?", "accept": ["dog"]}`
//! - `{"kind": "pair", "image": "dog.png", "audio": "moo.ogg", "related": false}`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bubo::session::{AskOptions, Session};
use bubo_train::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};

use crate::host::CommandLine;
use crate::run::{read_image, read_sound};

/// A set of questions with what counts as right.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// In any order.
    pub items: Vec<Item>,
}

/// A question with what counts as right.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Item {
    /// Describe a picture.
    Describe {
        /// File.
        image: PathBuf,
        /// Words, one of which must be named.
        accept: Vec<String>,
        /// Words that may be named.
        #[serde(default)]
        also: Vec<String>,
    },
    /// Say what a sound is.
    Sound {
        /// File.
        audio: PathBuf,
        /// Words, one of which must be named.
        accept: Vec<String>,
    },
    /// Anything about a picture.
    Question {
        /// File.
        image: PathBuf,
        /// What is asked.
        question: String,
        /// Words, one of which must be named.
        accept: Vec<String>,
    },
    /// Tell whether picture and sound belong together.
    Pair {
        /// Picture.
        image: PathBuf,
        /// Sound.
        audio: PathBuf,
        /// Whether they do.
        related: bool,
    },
}

/// Hits of one kind of question.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Score {
    /// Right answers.
    pub hits: usize,
    /// All answers.
    pub count: usize,
    /// Wrong answers, and what was asked.
    pub failures: Vec<String>,
}

impl Score {
    fn add(&mut self, hit: bool, failure: impl FnOnce() -> String) {
        self.count += 1;
        self.hits += usize::from(hit);
        if !hit {
            self.failures.push(failure());
        }
    }

    /// Share of hits.
    pub fn rate(&self) -> f64 {
        self.hits as f64 / self.count.max(1) as f64
    }

    /// Where the true share lies with 95 % confidence (Wilson 1927).
    pub fn interval(&self) -> (f64, f64) {
        let (n, p, z) = (self.count.max(1) as f64, self.rate(), 1.959_964);
        let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }
}

/// Words of a text in lower case, a plural `s` taken off, joined by single spaces with one at each end.
fn plain(text: &str) -> String {
    let words = text.to_lowercase();
    let words = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| {
        let singular = word.strip_suffix('s').filter(|stem| stem.len() > 2 && !stem.ends_with('s'));
        singular.unwrap_or(word).to_owned()
    });
    format!(" {} ", words.collect::<Vec<_>>().join(" "))
}

fn names(answer: &str, words: &[String]) -> bool {
    let answer = plain(answer);
    words.iter().any(|word| answer.contains(&plain(word)))
}

/// Things that an answer names, as far as the vocabulary knows them, without those that are part of a longer name.
fn things_named(answer: &str, known: &BTreeSet<String>) -> Vec<String> {
    let plain_answer = plain(answer);
    let words: Vec<&str> = plain_answer.split_whitespace().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let longest =
            (1..=3.min(words.len() - at)).rev().find(|count| known.contains(&words[at..at + count].join(" ")));
        if let Some(count) = longest {
            found.push(words[at..at + count].join(" "));
        }
        at += longest.unwrap_or(1);
    }
    found
}

/// Runs a set. Returns the scores by kind of question; `made up` counts a hit for each named thing that is there.
///
/// # Errors
/// If a file cannot be read, and those of the session.
pub async fn run(
    session: &Session,
    set: &Set,
    root: &Path,
    options: &AskOptions,
) -> anyhow::Result<BTreeMap<String, Score>> {
    let vocabulary = Vocabulary::new()?;
    let nouns = vocabulary.tagger.iter().chain(&vocabulary.detector);
    let known: BTreeSet<String> =
        nouns.flat_map(|noun| [&noun.name, &noun.kind]).map(|name| plain(name).trim().to_owned()).collect();
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    for item in &set.items {
        let (image, audio, question) = match item {
            Item::Describe { image, .. } => (Some(image), None, "Describe the picture."),
            Item::Sound { audio, .. } => (None, Some(audio), "What do you hear?"),
            Item::Question { image, question, .. } => (Some(image), None, question.as_str()),
            Item::Pair { image, audio, .. } => {
                (Some(image), Some(audio), "Are the audio and image related to each other? What are they?")
            }
        };
        let answer = ask(session, root, image, audio, question, options).await?;
        let shown = image.or(audio).map(|path| path.display().to_string()).unwrap_or_default();
        let failure = || format!("{shown}: {question} -> {answer}");
        match item {
            Item::Describe { accept, also, .. } => {
                scores.entry("describe".into()).or_default().add(names(&answer, accept), failure);
                for thing in things_named(&answer, &known) {
                    let there = accept.iter().chain(also).any(|word| {
                        let (word, thing) = (plain(word), format!(" {thing} "));
                        word.contains(&thing) || thing.contains(&word)
                    });
                    let failure = || format!("{shown}: {thing:?} in: {answer}");
                    scores.entry("named things that are there".into()).or_default().add(there, failure);
                }
            }
            Item::Sound { accept, .. } => {
                scores.entry("sound".into()).or_default().add(names(&answer, accept), failure);
            }
            Item::Question { accept, .. } => {
                scores.entry("question".into()).or_default().add(names(&answer, accept), failure);
            }
            Item::Pair { related, .. } => {
                let said_related = !answer.contains("unrelated");
                let kind = if *related { "related pair" } else { "unrelated pair" };
                scores.entry(kind.into()).or_default().add(said_related == *related, failure);
            }
        }
    }
    Ok(scores)
}

async fn ask(
    session: &Session,
    root: &Path,
    image: Option<&PathBuf>,
    audio: Option<&PathBuf>,
    question: &str,
    options: &AskOptions,
) -> anyhow::Result<String> {
    session.clear();
    let host = CommandLine::default();
    if let Some(path) = image {
        session.add_image(&read_image(&root.join(path))?, &host, &|_| {}).await?;
    }
    if let Some(path) = audio {
        session.add_audio(&read_sound(&root.join(path))?, &host, &|_| {}).await?;
    }
    Ok(session.ask(question, options, &host, &|_| {}).await?.answer)
}

/// Reads a set.
///
/// # Errors
/// If it cannot be read or has no items.
pub fn read(path: &Path) -> anyhow::Result<Set> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let set: Set = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    if set.items.is_empty() {
        bail!("{} has no items", path.display());
    }
    Ok(set)
}

/// The scores as a table, failures below.
pub fn report(scores: &BTreeMap<String, Score>) -> String {
    let mut out = String::new();
    for (kind, score) in scores {
        let (low, high) = score.interval();
        out += &format!(
            "{kind:28} {:4} of {:4}  {:.3}  (95 %: {low:.3} to {high:.3})\n",
            score.hits,
            score.count,
            score.rate()
        );
    }
    if let (Some(related), Some(unrelated)) = (scores.get("related pair"), scores.get("unrelated pair")) {
        out += &format!("{:28} {:.3}\n", "balanced accuracy of pairs", (related.rate() + unrelated.rate()) / 2.0);
    }
    for (kind, score) in scores {
        for failure in &score.failures {
            out += &format!("{kind}: {}\n", failure.replace('\n', " "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        let accept = ["dog".to_owned(), "hot dog".to_owned()];
        assert!(names("There are two Dogs.", &accept) && names("a hot dog", &accept));
        assert!(!names("a dogma, a hotdog stand", &accept));
        assert!(names("a glass", &["glass".to_owned()]) && names("a bus", &["bus".to_owned()]));
    }

    #[test]
    fn longer_names_hide_their_parts() {
        let known = ["dog", "hot dog", "person"].map(str::to_owned).into();
        assert_eq!(
            things_named("A person eats hot dogs with a dog and a unicorn.", &known),
            ["person", "hot dog", "dog"]
        );
    }

    #[test]
    fn intervals_are_wilsons() {
        let score = Score { hits: 9, count: 10, failures: vec![] };
        let (low, high) = score.interval();
        assert!((low - 0.5958).abs() < 1e-3 && (high - 0.9821).abs() < 1e-3, "{low} {high}");
    }
}
