//! What things are called, and which things are kinds of which: a small part of WordNet.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::OnceLock;

use serde::Deserialize;

/// How a word stands to the name of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Both mean the same.
    Same,
    /// The word is a kind of the thing, so many steps below it: `tabby` and a cat.
    Kind(usize),
    /// The thing is a kind of what the word says, so many steps above it: `animal` and a cat.
    Broader(usize),
}

/// Senses by word, and the senses above each.
pub(super) struct Lexicon {
    senses: HashMap<String, Vec<usize>>,
    parents: Vec<Vec<usize>>,
    person: Option<usize>,
}

#[derive(Deserialize)]
struct File {
    things: BTreeMap<String, String>,
}

/// Longest name, in words.
pub(super) const LONGEST: usize = 4;

impl Lexicon {
    /// The table that is compiled in.
    pub(super) fn get() -> &'static Self {
        static LEXICON: OnceLock<Lexicon> = OnceLock::new();
        LEXICON.get_or_init(|| Self::parse(include_str!("../../../assets/words/things.json")))
    }

    /// Reads `{"things": {"name": "other name, another<parent, parent"}}`. A table that cannot be read is empty: it is
    /// compiled in, and a test reads it.
    fn parse(json: &str) -> Self {
        let things = serde_json::from_str::<File>(json).map(|file| file.things).unwrap_or_default();
        let index: HashMap<&str, usize> = things.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let mut lexicon = Self { senses: HashMap::new(), parents: Vec::new(), person: index.get("person").copied() };
        for (at, (name, entry)) in things.iter().enumerate() {
            let (words, parents) = entry.split_once('<').unwrap_or((entry, ""));
            let own = name.trim_end_matches('\'');
            for word in std::iter::once(own).chain(words.split(", ")).filter(|word| !word.is_empty()) {
                lexicon.senses.entry(super::words::normalize(word)).or_default().push(at);
            }
            lexicon.parents.push(parents.split(", ").filter_map(|parent| index.get(parent).copied()).collect());
        }
        lexicon
    }

    /// Whether the word names something that can be in a picture.
    pub(super) fn knows(&self, word: &str) -> bool {
        self.senses.contains_key(word)
    }

    /// The closest relation of any sense of `word` to any sense of `name`.
    pub(super) fn relation(&self, word: &str, name: &str) -> Option<Relation> {
        let (words, names) = (self.senses.get(word)?, self.senses.get(name)?);
        if words.iter().any(|sense| names.contains(sense)) {
            return Some(Relation::Same);
        }
        let up = words.iter().filter_map(|sense| self.steps_up(*sense, names)).min().map(Relation::Kind);
        up.or_else(|| names.iter().filter_map(|sense| self.steps_up(*sense, words)).min().map(Relation::Broader))
    }

    /// Those of `names` that the word is a kind of: as [`relation`](Self::relation) says of each, found in one walk.
    pub(super) fn kinds_among<'a>(&self, word: &str, names: &[&'a str]) -> Vec<&'a str> {
        let Some(words) = self.senses.get(word) else { return Vec::new() };
        let (mut above, mut open) = (HashSet::new(), words.clone());
        while let Some(sense) = open.pop() {
            open.extend(self.parents[sense].iter().filter(|parent| above.insert(**parent)));
        }
        let is_kind = |name: &&&str| {
            let senses = self.senses.get(**name).map_or(&[][..], Vec::as_slice);
            senses.iter().any(|sense| above.contains(sense)) && !senses.iter().any(|sense| words.contains(sense))
        };
        names.iter().filter(is_kind).copied().collect()
    }

    /// Whether a sense of the word is a person.
    pub(super) fn is_person(&self, word: &str) -> bool {
        let (Some(person), Some(senses)) = (self.person, self.senses.get(word)) else { return false };
        senses.iter().any(|sense| *sense == person || self.steps_up(*sense, &[person]).is_some())
    }

    /// Steps from `sense` up to the nearest of `targets`.
    fn steps_up(&self, sense: usize, targets: &[usize]) -> Option<usize> {
        let (mut queue, mut seen) = (VecDeque::from([(sense, 0)]), HashSet::from([sense]));
        while let Some((at, steps)) = queue.pop_front() {
            for parent in &self.parents[at] {
                if targets.contains(parent) {
                    return Some(steps + 1);
                }
                if seen.insert(*parent) {
                    queue.push_back((*parent, steps + 1));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_among_names_are_the_same_as_one_by_one() {
        let lexicon = Lexicon::get();
        let names = ["animal", "bird", "cat", "dog", "vehicle", "kite", "tool", "person", "no such word"];
        for word in ["tabby", "dog", "kite", "hammer", "bike", "astronaut", "orange", "arabian camel", "no such word"] {
            let one_by_one = |name: &&&str| matches!(lexicon.relation(word, name), Some(Relation::Kind(_)));
            let expected: Vec<&str> = names.iter().filter(one_by_one).copied().collect();
            assert_eq!(lexicon.kinds_among(word, &names), expected, "{word}");
        }
        assert_eq!(lexicon.kinds_among("tabby", &names), ["animal", "cat"]);
    }

    #[test]
    fn hyphens_are_no_hindrance() {
        use crate::grounding::matcher::{is_kind_of, kinds_among};
        assert!(is_kind_of("ring-tailed lemur", "animal") && is_kind_of("ring tailed lemur", "lemur"));
        assert_eq!(kinds_among("wire-haired fox terrier", &["dog", "cat"]), ["dog"]);
    }

    #[test]
    fn relations_are_those_of_everyday_language() {
        let lexicon = Lexicon::get();
        let cases = [
            ("cat", "cat", Some("same")),
            ("aeroplane", "airplane", Some("same")),
            ("plane", "airplane", Some("same")),
            ("tabby", "cat", Some("kind")),
            ("kitten", "cat", Some("kind")),
            ("puppy", "dog", Some("kind")),
            ("feline", "cat", Some("broader")),
            ("animal", "cat", Some("broader")),
            ("vehicle", "car", Some("broader")),
            ("golden retriever", "dog", Some("kind")),
            ("astronaut", "person", Some("kind")),
            ("woman", "person", Some("kind")),
            ("bike", "bicycle", Some("same")),
            ("bike", "motorcycle", Some("same")),
            ("tv", "tv", Some("same")),
            ("television", "tv", Some("same")),
            ("phone", "cell phone", Some("same")),
            ("couch", "couch", Some("same")),
            ("sofa", "couch", Some("same")),
            ("fruit", "banana", Some("broader")),
            ("cat", "dog", None),
            ("tree", "potted plant", None),
            ("horse", "cow", None),
            ("hot dog", "dog", None),
            ("man", "dog", None),
        ];
        let failed: Vec<String> = cases
            .into_iter()
            .filter_map(|(word, name, expected)| {
                let found = lexicon.relation(word, name).map(|relation| match relation {
                    Relation::Same => "same",
                    Relation::Kind(_) => "kind",
                    Relation::Broader(_) => "broader",
                });
                (found != expected).then(|| format!("{word} / {name}: {found:?}, expected {expected:?}"))
            })
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(lexicon.is_person("girl") && !lexicon.is_person("dog"));
    }
}
