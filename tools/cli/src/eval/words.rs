//! Which things, answers and places a text names.

use std::collections::{BTreeMap, BTreeSet};

use bubo::grounding::matcher::is_kind_of;
use bubo::session::facts::plural;
use bubo_train::vocabulary::Vocabulary;

use super::set::Place;

/// Words of a text in lower case, a plural `s` taken off, joined by single spaces with one at each end.
pub fn plain(text: &str) -> String {
    let words = text.to_lowercase();
    let words = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| {
        let singular = word.strip_suffix('s').filter(|stem| stem.len() > 2 && !stem.ends_with('s'));
        singular.unwrap_or(word).to_owned()
    });
    format!(" {} ", words.collect::<Vec<_>>().join(" "))
}

/// A word as [`plain`] text, and its plural, which not always has just an `s` more.
fn forms(word: &str) -> [String; 2] {
    [plain(word), plain(&plural(word))]
}

/// Whether a text names one of the words, as a whole word.
pub fn names(text: &str, words: &[String]) -> bool {
    let text = plain(text);
    words.iter().any(|word| forms(word).iter().any(|form| text.contains(form)))
}

/// Whether something that a text names is one of these words, or is said more or less closely: `dog` of `hot dog`.
pub fn is_one_of<'a>(named: &str, words: impl IntoIterator<Item = &'a String>) -> bool {
    let named = plain(named);
    words.into_iter().any(|word| {
        let [word, words] = forms(word);
        word.contains(&named) || named.contains(&word) || named.contains(&words)
    })
}

/// What an answer says to "is there …?"; none if it says neither.
pub fn yes_or_no(answer: &str) -> Option<bool> {
    let said = plain(answer);
    let first = said.split_whitespace().next()?;
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| said.contains(&format!(" {phrase} ")));
    match first {
        "yes" => Some(true),
        "no" => Some(false),
        _ if says(&["no", "not", "nothing", "none", "isn t", "aren t", "cannot"]) => Some(false),
        _ if says(&["there is", "there are", "i see", "show"]) => Some(true),
        _ => None,
    }
}

/// The places that an answer names.
pub fn places(answer: &str) -> BTreeSet<Place> {
    let said = plain(answer);
    let words =
        [(Place::Left, &["left"][..]), (Place::Middle, &["middle", "center", "centre"]), (Place::Right, &["right"])];
    let named = |words: &[&str]| words.iter().any(|word| said.contains(&format!(" {word} ")));
    words.into_iter().filter(|(_, words)| named(words)).map(|(place, _)| place).collect()
}

/// Names of all things that the vocabulary knows, each at its forms.
#[derive(Debug)]
pub struct Known(BTreeMap<String, String>);

impl Known {
    /// Of the vocabulary.
    pub fn new(vocabulary: &Vocabulary) -> Self {
        let nouns = vocabulary.tagger.iter().chain(&vocabulary.detector);
        Self::of(nouns.flat_map(|noun| [&*noun.name, &*noun.kind]))
    }

    fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let forms = names.into_iter().flat_map(|name| {
            let [singular, plural] = forms(name).map(|form| form.trim().to_owned());
            [(plural, singular.clone()), (singular.clone(), singular)]
        });
        Self(forms.collect())
    }

    /// Whether an answer names a known thing that is a kind of one of the words: a German shepherd is a dog.
    pub fn names_closer(&self, answer: &str, words: &[String]) -> bool {
        self.named(answer).iter().any(|thing| words.iter().any(|word| is_kind_of(thing, word)))
    }

    /// Known things that an answer names, without those that are part of a longer name.
    pub fn named(&self, answer: &str) -> Vec<String> {
        let plain_answer = plain(answer);
        let words: Vec<&str> = plain_answer.split_whitespace().collect();
        let (mut found, mut at) = (Vec::new(), 0);
        while at < words.len() {
            let known = |count| Some((count, self.0.get(&words[at..at + count].join(" "))?));
            let longest = (1..=3.min(words.len() - at)).rev().find_map(known);
            found.extend(longest.map(|(_, name)| name.clone()));
            at += longest.map_or(1, |(count, _)| count);
        }
        found
    }
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
        assert!(names("two buses", &["bus".to_owned()]) && is_one_of("two benches", &["bench".to_owned()]));
    }

    #[test]
    fn who_says_more_closely_says_it_too() {
        let known = Known::new(&Vocabulary::new().unwrap());
        let accept = ["dog".to_owned()];
        assert!(known.names_closer("The picture shows a German shepherd in the middle.", &accept));
        assert!(!known.names_closer("The picture shows an animal.", &accept));
        assert!(!known.names_closer("The picture shows a tabby cat.", &accept));
    }

    #[test]
    fn longer_names_hide_their_parts() {
        let known = Known::of(["dog", "hot dog", "person", "bus", "couch"]);
        assert_eq!(known.named("A person eats hot dogs with a dog and a unicorn."), ["person", "hot dog", "dog"]);
        assert_eq!(known.named("Three people, two buses, couches."), ["person", "bus", "couch"]);
    }

    #[test]
    fn closer_and_broader_names_are_the_same_thing() {
        let words = ["polar bear".to_owned(), "cup".to_owned()];
        assert!(is_one_of("the bear", &["bear".to_owned()]) && is_one_of("bear", &words) && is_one_of("cups", &words));
        assert!(!is_one_of("cupboard", &words) && !is_one_of("dog", &words));
    }

    #[test]
    fn yes_and_no_are_understood() {
        let cases = [
            ("Yes, there is a dog on the left.", Some(true)),
            ("No, I see no dog in the picture.", Some(false)),
            ("There is a dog.", Some(true)),
            ("There isn't a dog.", Some(false)),
            ("The picture does not show a dog.", Some(false)),
            ("A dog is an animal.", None),
            ("", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(yes_or_no(answer), expected, "{answer}");
        }
    }

    #[test]
    fn places_are_understood() {
        assert_eq!(places("The cup is on the left."), [Place::Left].into());
        assert_eq!(places("They are in the center and on the right."), [Place::Middle, Place::Right].into());
        assert_eq!(places("It is brightly lit."), [].into());
    }
}
