//! Other words for the names in a sample, in hints and answers alike: so hints are read rather than known by heart, and
//! words that training never saw pass as well as those that it did.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bubo::language::Tokenizer;

use crate::random::Random;
use crate::slot_task::Sample;
use crate::slots::Said;

/// Words to choose from: enough that none is learnt by heart, few enough that telling them apart is quick.
const WORDS: usize = 2000;
/// Shortest word.
const LEAST_LETTERS: usize = 3;
/// Words of a name at the most; each is one token, and a kind has two.
const MOST_WORDS: usize = 2;

/// Words that names can be changed to.
#[derive(Debug, Clone)]
pub struct Renaming {
    words: Vec<String>,
}

impl Renaming {
    /// Random words of the tokeniser that are one token each; the same ones every time.
    ///
    /// # Errors
    /// If the tokeniser has none.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let mut words: Vec<String> = (0..tokenizer.vocabulary_size() as u32)
            .filter_map(|id| String::from_utf8(tokenizer.bytes_of(id)?).ok())
            .filter_map(|text| text.strip_prefix(' ').map(str::to_owned))
            .filter(|word| word.len() >= LEAST_LETTERS && word.bytes().all(|byte| byte.is_ascii_lowercase()))
            .collect();
        ensure!(!words.is_empty(), "the tokeniser has no words of one token");
        let mut random = Random::new(0, 0);
        for at in 0..words.len().min(WORDS) {
            let other = at + random.below(words.len() - at);
            words.swap(at, other);
        }
        words.truncate(WORDS);
        Ok(Self { words })
    }

    /// All words, for a table of what can be said.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Gives every kind and name of the sample another one, the same wherever it stands, if the hints have all that is to
    /// be said: what they lack, nobody could say. What would be told in words is left out, since it has the old ones.
    pub fn rename(&self, sample: &mut Sample, random: &mut Random) {
        let hints = &sample.view.hints;
        let hinted = |said: &Said| {
            hints.iter().any(|hint| hint.kind == said.kind) && hints.iter().any(|hint| hint.name == said.name)
        };
        if !sample.said.iter().all(hinted) {
            return;
        }
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut rename = |name: &mut String| {
            let new = names.entry(name.clone()).or_insert_with(|| {
                let count = 1 + random.below(MOST_WORDS);
                let words: Vec<&str> =
                    (0..count).map(|_| self.words[random.below(self.words.len())].as_str()).collect();
                words.join(" ")
            });
            name.clone_from(new);
        };
        for hint in &mut sample.view.hints {
            rename(&mut hint.kind);
            rename(&mut hint.name);
        }
        for said in &mut sample.said {
            rename(&mut said.kind);
            rename(&mut said.name);
        }
        sample.view.told = None;
    }
}

#[cfg(test)]
mod tests {
    use bubo::encoders::joiner::Hint;

    use super::*;
    use crate::frozen::View;

    #[test]
    fn a_name_stays_one_name() {
        let renaming = Renaming { words: ["lamp", "road", "seven", "blue", "often"].map(str::to_owned).into() };
        let hint = |kind: &str, name: &str| Hint {
            kind: kind.into(),
            name: name.into(),
            score: 0.5,
            centre: [0.5; 2],
            size: [0.0; 2],
        };
        let hints = vec![hint("dog", "pug"), hint("cat", "cat")];
        let said = Said { kind: "dog".into(), name: "pug".into(), place: Some("on the left".into()) };
        let view = View { features: vec![1.0], hints, told: Some("a dog".into()) };
        let mut sample = Sample { view, said: vec![said] };
        renaming.rename(&mut sample, &mut Random::new(3, 0));
        let Sample { view, said } = sample;
        assert!(said[0].kind == view.hints[0].kind && said[0].name == view.hints[0].name && said[0].kind != "dog");
        assert!(view.hints[1].kind == view.hints[1].name && view.told.is_none());
        assert_eq!(said[0].place.as_deref(), Some("on the left"));
        let unseen = Said { kind: "boat".into(), name: "boat".into(), place: None };
        let mut sample = Sample { view, said: vec![unseen.clone()] };
        renaming.rename(&mut sample, &mut Random::new(3, 0));
        assert_eq!(sample.said, [unseen], "no hint tells that");
    }
}
