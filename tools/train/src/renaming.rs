//! Other names for what is in a sample, in hints and answers alike: so hints are read rather than known by heart, and names
//! that training never saw pass as well as those that it did, also those of several tokens.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::examples::is_test_kind;
use crate::random::Random;
use crate::slot_task::Sample;
use crate::slots::Said;

/// Words of a name at the most.
const MOST_WORDS: usize = 2;

/// Names that names can be changed to.
#[derive(Debug, Clone)]
pub struct Renaming {
    names: Vec<String>,
}

impl Renaming {
    /// The names of things that the matcher knows, of one or two words, without those of kinds that are kept for the test.
    ///
    /// # Errors
    /// If the list, which is part of the program, is damaged.
    pub fn new() -> Result<Self> {
        #[derive(Deserialize)]
        struct Things {
            things: BTreeMap<String, String>,
        }
        let Things { things } = serde_json::from_str(include_str!("../../../assets/words/things.json"))?;
        let is_plain =
            |name: &String| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' ' || byte == b'-');
        let is_kept = |name: &String| name.split([' ', '-']).any(is_test_kind) || is_test_kind(name);
        let names: Vec<String> = things
            .into_keys()
            .filter(|name| is_plain(name) && name.split(' ').count() <= MOST_WORDS && !is_kept(name))
            .collect();
        ensure!(!names.is_empty(), "the list of things has no names");
        Ok(Self { names })
    }

    /// All names, for a table of what can be said.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Gives every kind and name of the sample another one, the same wherever it stands, if the hints have all that is to
    /// be said: what they lack, nobody could say. What would be said or told in words is left out, since it has the old
    /// ones.
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
            let new = names.entry(name.clone()).or_insert_with(|| self.names[random.below(self.names.len())].clone());
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
        sample.view.said.clear();
        sample.view.told = None;
    }
}

#[cfg(test)]
mod tests {
    use bubo::encoders::joiner::Hint;

    use super::*;
    use crate::frozen::View;

    #[test]
    fn kinds_that_are_kept_for_the_test_stay_unseen() {
        let renaming = Renaming::new().unwrap();
        assert!(renaming.names().len() > 1000, "{}", renaming.names().len());
        assert!(renaming.names().iter().all(|name| !is_test_kind(name.rsplit(' ').next().unwrap())));
    }

    #[test]
    fn a_name_stays_one_name() {
        let renaming = Renaming { names: ["lamp", "road", "seven", "blue", "often"].map(str::to_owned).into() };
        let hint = |kind: &str, name: &str| Hint {
            kind: kind.into(),
            name: name.into(),
            score: 0.5,
            centre: [0.5; 2],
            size: [0.0; 2],
        };
        let hints = vec![hint("dog", "pug"), hint("cat", "cat")];
        let said = Said { kind: "dog".into(), name: "pug".into(), place: Some("on the left".into()) };
        let view = View { features: vec![1.0], hints, found: 1, said: vec![], told: Some("a dog".into()) };
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
