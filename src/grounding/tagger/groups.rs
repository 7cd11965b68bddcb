//! What several classes have in common, where none of them is sure: a goldfish at .3, a tench and a puffer at .2 are a fish.
//!
//! The idea is that of Deng et al. 2012, "Hedging Your Bets": say the narrowest name that is sure enough.

use std::collections::BTreeMap;

use crate::grounding::matcher::kinds_among;

/// The sum of a group's classes must be this sure, 0..1.
const SURE: f32 = 0.5;

/// Words that people say who cannot tell which: those that the tagger's classes are kinds of, beside its labels' own kinds.
const GROUPS: [&str; 45] = [
    "antelope",
    "ape",
    "bag",
    "basket",
    "beetle",
    "box",
    "bridge",
    "building",
    "butterfly",
    "cabinet",
    "camera",
    "coat",
    "computer",
    "crab",
    "curtain",
    "fence",
    "fish",
    "fox",
    "frog",
    "fruit",
    "guitar",
    "gun",
    "hat",
    "insect",
    "lamp",
    "lizard",
    "monkey",
    "musical instrument",
    "pan",
    "piano",
    "pot",
    "rabbit",
    "salamander",
    "shark",
    "ship",
    "shoe",
    "snake",
    "spider",
    "table",
    "telephone",
    "tool",
    "truck",
    "vegetable",
    "whale",
    "wolf",
];

/// Whether a name is of a group so wide that to see one is not to see each of its kinds: a tool need not be a hammer.
pub fn is_wide(name: &str) -> bool {
    GROUPS.contains(&name)
}

/// Groups of a tagger's classes.
#[derive(Debug)]
pub(super) struct Groups {
    /// Name and classes, the fewest first.
    groups: Vec<(String, Vec<usize>)>,
}

impl Groups {
    /// - `labels`: one name a class
    /// - `kinds`: broader kinds of some classes
    pub(super) fn new(labels: &[String], kinds: &BTreeMap<usize, String>) -> Self {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (class, label) in labels.iter().enumerate() {
            let kind = kinds.get(&class).map(String::as_str);
            let own = GROUPS.into_iter().filter(|group| group == label);
            let others = own.chain(kinds_among(label, &GROUPS)).filter(|group| Some(*group) != kind);
            for group in kind.into_iter().chain(others) {
                groups.entry(group).or_default().push(class);
            }
        }
        let several = groups.into_iter().filter(|(_, classes)| classes.len() > 1);
        let mut groups: Vec<_> = several.map(|(name, classes)| (name.to_owned(), classes)).collect();
        groups.sort_by_key(|(_, classes)| classes.len());
        Self { groups }
    }

    /// The narrowest group whose classes are sure together, with these and how sure; none if one class is sure by itself.
    ///
    /// - `scores`: of each class, 0..1
    pub(super) fn surest(&self, scores: &[f32]) -> Option<(&str, &[usize], f32)> {
        if scores.iter().any(|score| *score >= SURE) {
            return None;
        }
        let sum = |classes: &[usize]| classes.iter().filter_map(|class| scores.get(*class)).sum::<f32>();
        let mut sums = self.groups.iter().map(|(name, classes)| (name.as_str(), classes.as_slice(), sum(classes)));
        sums.find(|(_, _, sum)| *sum >= SURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_unsure_fish_are_a_fish() {
        let labels: Vec<String> =
            ["goldfish", "tench", "hammerhead", "tabby cat", "tiger cat", "drum"].map(str::to_owned).into();
        let kinds = BTreeMap::from([(3, "cat".to_owned()), (4, "cat".to_owned())]);
        let groups = Groups::new(&labels, &kinds);
        let is = |scores: &[f32], name: &str, classes: &[usize], score: f32| {
            let found = groups.surest(scores);
            found.is_some_and(|found| (found.0, found.1) == (name, classes) && (found.2 - score).abs() < 1e-5)
        };
        assert!(is(&[0.3, 0.25, 0.2, 0.0, 0.0, 0.0], "fish", &[0, 1, 2], 0.75));
        assert!(is(&[0.1, 0.0, 0.0, 0.45, 0.3, 0.0], "cat", &[3, 4], 0.75));
        assert_eq!(groups.surest(&[0.6, 0.3, 0.0, 0.0, 0.0, 0.0]), None, "the goldfish is sure");
        assert_eq!(groups.surest(&[0.3, 0.1, 0.0, 0.2, 0.0, 0.3]), None);
    }
}
