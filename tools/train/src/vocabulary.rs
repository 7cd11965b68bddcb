//! Which words name things: the labels of the frozen parts, and the broader kinds that they are of.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Deserialize;

/// Something with its name and the kind of thing that it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, Deserialize)]
pub struct Noun {
    /// `dog`
    pub kind: String,
    /// `golden retriever`; the kind itself where nothing finer is known.
    pub name: String,
}

/// Labels and kinds.
#[derive(Debug)]
pub struct Vocabulary {
    /// Of each class of the tagger.
    pub tagger: Vec<Noun>,
    /// Of each class of the detector.
    pub detector: Vec<Noun>,
    by_name: BTreeMap<String, Noun>,
    /// Classes of the tagger whose kind stands in the label file.
    named_kinds: BTreeSet<usize>,
}

impl Vocabulary {
    /// From the label files that are part of the program.
    ///
    /// # Errors
    /// If they are not what they should be.
    pub fn new() -> Result<Self> {
        #[derive(Deserialize)]
        struct Labels {
            labels: Vec<String>,
            kinds: BTreeMap<String, Vec<usize>>,
        }
        let Labels { labels, kinds } =
            serde_json::from_str(include_str!("../../../assets/labels/imagenet_labels.json"))?;
        let coco: Vec<String> = serde_json::from_str(include_str!("../../../assets/labels/coco_labels.json"))?;
        let kind_of = |class: usize| kinds.iter().find(|(_, members)| members.contains(&class)).map(|(kind, _)| kind);
        let tagger: Vec<Noun> = labels
            .iter()
            .enumerate()
            .map(|(class, name)| {
                let kind = kind_of(class).cloned().unwrap_or_else(|| last_word(name).to_owned());
                Noun { kind, name: name.clone() }
            })
            .collect();
        let detector: Vec<Noun> = coco.iter().map(|name| Noun { kind: name.clone(), name: name.clone() }).collect();
        let mut by_name = BTreeMap::new();
        for noun in &tagger {
            by_name.insert(noun.kind.clone(), Noun { kind: noun.kind.clone(), name: noun.kind.clone() });
        }
        for noun in tagger.iter().chain(&detector) {
            by_name.insert(noun.name.clone(), noun.clone());
        }
        let named_kinds = kinds.into_values().flatten().collect();
        Ok(Self { tagger, detector, by_name, named_kinds })
    }

    /// The noun of a name that some label or kind has.
    pub fn known(&self, name: &str) -> Option<Noun> {
        self.by_name.get(name).cloned()
    }

    /// The noun of any name: a known one's kind, else that of its last word, else the last word.
    pub fn noun(&self, name: &str) -> Noun {
        let last = last_word(name);
        let known = self.known(name).or_else(|| self.known(last));
        Noun { kind: known.map_or_else(|| last.to_owned(), |noun| noun.kind), name: name.to_owned() }
    }

    /// Whether the kind of a class of the tagger is one that the program knows by that name, rather than its last word.
    pub fn is_named_kind(&self, class: usize) -> bool {
        self.named_kinds.contains(&class)
    }

    /// All kinds of known things.
    pub fn kinds(&self) -> BTreeSet<&str> {
        self.by_name.values().map(|noun| noun.kind.as_str()).collect()
    }
}

fn last_word(name: &str) -> &str {
    name.rsplit(' ').next().unwrap_or(name)
}

/// The name in a short English label such as `A golden retriever.`; none of a sentence.
pub fn name_of(label: &str) -> Option<String> {
    let lower = label.trim().trim_end_matches(['.', '!']).to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let words = match words.as_slice() {
        ["a" | "an" | "the" | "some", rest @ ..] => rest,
        all => all,
    };
    let plain = words.iter().all(|word| word.chars().all(|c| c.is_ascii_alphabetic() || c == '-'));
    (plain && (1..=3).contains(&words.len())).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_kinds() {
        let vocabulary = Vocabulary::new().unwrap();
        let kind = |name: &str| vocabulary.noun(name).kind;
        assert_eq!(kind("golden retriever"), "dog");
        assert_eq!(kind("tree frog"), "frog");
        assert_eq!(kind("bear"), "bear");
        assert_eq!(kind("shaggy gnu"), "gnu");
        assert_eq!(vocabulary.known("shaggy gnu"), None);
    }

    #[test]
    fn short_labels_are_names() {
        let cases = [
            ("A dog.", Some("dog")),
            ("An African elephant.", Some("african elephant")),
            ("A flying saucer from outer space!", None),
            ("The letter 'A'.", None),
            ("", None),
        ];
        for (label, expected) in cases {
            assert_eq!(name_of(label).as_deref(), expected, "{label}");
        }
    }
}
