//! Parts of speech and base forms of English words, as far as finding noun phrases needs them.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use serde::Deserialize;

use super::lexicon::Lexicon;

/// What a word can be, seen alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `the`, `my`, `both`: what follows is taken to exist.
    Definite,
    /// `a`, `some`, `any`.
    Indefinite,
    /// `two`, `3`, `several`.
    Number,
    /// Subject pronouns, `to` and modal verbs: a verb follows.
    BeforeVerb,
    /// Forms of `be`, `have`, `do`.
    Auxiliary,
    /// Prepositions, conjunctions, other pronouns, question words.
    Function,
    /// A word that can only be a verb.
    Verb,
    /// A word that is a verb or a noun.
    VerbOrNoun,
    /// A form in `-ing` or `-ed` of a verb.
    Participle,
    /// An adjective.
    Adjective,
    /// An adverb.
    Adverb,
    /// A noun, or a word that nobody knows.
    Noun,
}

const DEFINITE: &str = "the this that these those my your his her its our their both all each every other";
const INDEFINITE: &str = "a an some any another either what which no neither such";
const NUMBERS: &str = "one two three four five six seven eight nine ten eleven twelve dozen dozens several many few \
    multiple numerous zero various more most fewer less countless";
const BEFORE_VERB: &str = "i we you he she it they who to can could will would shall should may might must cannot let's \
    i'm we're you're they're it's he's she's i'll we'll you'll they'll i've we've you've they've let please";
const AUXILIARY: &str = "am is are was were be been being have has had having do does did done isn't aren't wasn't \
    weren't hasn't haven't hadn't don't doesn't didn't can't couldn't won't wouldn't shouldn't mustn't ain't there's \
    that's here's what's who's gets got get";
const FUNCTION: &str = "about above across after against along alongside amid amidst among amongst around as at before \
    behind below beneath beside besides between beyond by despite down during except for from in inside into like near \
    nearby of off on onto out outside over past per since than through throughout toward towards under underneath until \
    up upon via while with within without and or but nor so yet if because although though whereas unless whether when \
    where why how that whose whom there here not never me him us them myself yourself himself herself itself ourselves \
    themselves mine yours hers ours theirs anyone anything anybody everyone everything everybody nothing nobody none \
    something somewhere nowhere everywhere anywhere then also too very just only even still already again ever instead \
    rather however therefore thus hence perhaps maybe yes ok okay well please etc e.g i.e vs versus it";

#[derive(Deserialize)]
struct File {
    nouns: String,
    verbs: String,
    nouns_and_verbs: String,
    adjectives: String,
    adverbs: String,
    noun_forms: HashMap<String, String>,
    verb_forms: HashMap<String, String>,
}

/// Word lists and irregular forms.
pub(super) struct Speech {
    kinds: HashMap<String, Kind>,
    nouns: HashSet<String>,
    noun_forms: HashMap<String, String>,
    verb_forms: HashMap<String, String>,
}

impl Speech {
    /// The lists that are compiled in.
    pub(super) fn get() -> &'static Self {
        static SPEECH: OnceLock<Speech> = OnceLock::new();
        SPEECH.get_or_init(|| Self::parse(include_str!("../../../assets/words/speech.json")))
    }

    fn parse(json: &str) -> Self {
        let mut kinds = HashMap::new();
        let mut add = |words: &str, kind| kinds.extend(words.split_whitespace().map(|word| (word.to_owned(), kind)));
        let (mut nouns, mut noun_forms, mut verb_forms) = (HashSet::new(), HashMap::new(), HashMap::new());
        // Compiled in, and read by a test: a file that cannot be read leaves the closed classes below.
        if let Ok(file) = serde_json::from_str::<File>(json) {
            add(&file.adverbs, Kind::Adverb);
            add(&file.adjectives, Kind::Adjective);
            add(&file.nouns_and_verbs, Kind::VerbOrNoun);
            add(&file.verbs, Kind::Verb);
            nouns = file.nouns.split_whitespace().map(str::to_owned).collect();
            (noun_forms, verb_forms) = (file.noun_forms, file.verb_forms);
        }
        add(FUNCTION, Kind::Function);
        add(NUMBERS, Kind::Number);
        add(AUXILIARY, Kind::Auxiliary);
        add(BEFORE_VERB, Kind::BeforeVerb);
        add(INDEFINITE, Kind::Indefinite);
        add(DEFINITE, Kind::Definite);
        Self { kinds, nouns, noun_forms, verb_forms }
    }

    /// What the word can be.
    pub(super) fn kind(&self, word: &str) -> Kind {
        if word.chars().next().is_some_and(char::is_numeric) {
            return Kind::Number;
        }
        // Letters beyond Latin: nothing that these lists could tell.
        if word.chars().next().is_some_and(|first| first > '\u{24f}') {
            return Kind::Function;
        }
        match self.kinds.get(word) {
            Some(Kind::Verb) if word.ends_with("ing") || word.ends_with("ed") => return Kind::Participle,
            Some(kind) => return *kind,
            None if self.nouns.contains(word) => return Kind::Noun,
            None => {}
        }
        if let Some((verb, participle)) = self.verb_base(word) {
            return match self.kinds.get(verb.as_str()) {
                _ if participle => Kind::Participle,
                Some(Kind::VerbOrNoun) => Kind::VerbOrNoun,
                _ => Kind::Verb,
            };
        }
        let ends = |endings: &[&str]| word.len() > 5 && endings.iter().any(|ending| word.ends_with(ending));
        if ends(&["ly"]) && !Lexicon::get().knows(word) {
            Kind::Adverb
        } else if ends(&["ous", "ful", "less", "able", "ible", "ive", "ish"]) && !Lexicon::get().knows(word) {
            Kind::Adjective
        } else {
            Kind::Noun
        }
    }

    /// Whether common texts use the word as a noun, beside the names of things.
    pub(super) fn is_common_noun(&self, word: &str) -> bool {
        self.nouns.contains(word) || self.kinds.contains_key(word)
    }

    /// The verb of an inflected form, and whether the form is a participle.
    fn verb_base(&self, word: &str) -> Option<(String, bool)> {
        let known = |verb: &str| matches!(self.kinds.get(verb), Some(Kind::Verb | Kind::VerbOrNoun));
        if let Some(verb) = self.verb_forms.get(word).filter(|verb| known(verb)) {
            return Some((verb.clone(), !word.ends_with('s')));
        }
        let try_endings = |endings: &[(&str, &str)]| {
            endings.iter().find_map(|(ending, base)| {
                let stem = word.strip_suffix(ending)?;
                let bare = format!("{stem}{base}");
                let undoubled = stem.char_indices().last().map(|(at, _)| &stem[..at]);
                known(&bare).then_some(bare).or_else(|| {
                    let doubled = stem.chars().rev().take(2).collect::<Vec<_>>();
                    let twice = doubled.len() == 2 && doubled[0] == doubled[1];
                    undoubled.filter(|verb| twice && known(verb)).map(str::to_owned)
                })
            })
        };
        if let Some(verb) = try_endings(&[("ing", ""), ("ing", "e"), ("ied", "y"), ("ed", ""), ("ed", "e"), ("d", "")])
        {
            return Some((verb, true));
        }
        try_endings(&[("ies", "y"), ("es", ""), ("s", "")]).map(|verb| (verb, false))
    }

    /// Base forms that a noun can have, itself last: `cats` gives `cat` and `cats`. The flag says whether the form
    /// differs from the word: a plural.
    pub(super) fn noun_bases(&self, word: &str) -> Vec<(String, bool)> {
        let mut bases = Vec::new();
        if let Some(base) = self.noun_forms.get(word) {
            bases.push((base.clone(), true));
        }
        let rules = [("men", "man"), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")];
        for (ending, base) in rules {
            if let Some(stem) = word.strip_suffix(ending)
                && stem.chars().count() > 1
                && !(ending == "s" && (stem.ends_with('s') || stem.ends_with('u')))
                && (ending != "es" || ["s", "x", "z", "ch", "sh", "o"].iter().any(|end| stem.ends_with(end)))
            {
                bases.push((format!("{stem}{base}"), true));
            }
        }
        bases.push((word.to_owned(), matches!(word, "people" | "cattle" | "folk")));
        bases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_are_what_they_mostly_are() {
        let cases = [
            ("the", Kind::Definite),
            ("an", Kind::Indefinite),
            ("3", Kind::Number),
            ("brown", Kind::Adjective),
            ("large", Kind::Adjective),
            ("sits", Kind::Verb),
            ("sitting", Kind::Participle),
            ("wearing", Kind::Participle),
            ("lying", Kind::Participle),
            ("chasing", Kind::Participle),
            ("dog", Kind::VerbOrNoun),
            ("quickly", Kind::Adverb),
            ("beautiful", Kind::Adjective),
            ("zyzzyva", Kind::Noun),
            ("is", Kind::Auxiliary),
        ];
        let speech = Speech::get();
        let failed: Vec<String> = cases
            .into_iter()
            .filter(|(word, kind)| speech.kind(word) != *kind)
            .map(|(word, kind)| format!("{word}: {:?}, expected {kind:?}", speech.kind(word)))
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn plurals_have_their_singular() {
        for (plural, singular) in [
            ("cats", "cat"),
            ("puppies", "puppy"),
            ("knives", "knife"),
            ("wolves", "wolf"),
            ("women", "woman"),
            ("mice", "mouse"),
            ("buses", "bus"),
            ("sandwiches", "sandwich"),
            ("geese", "goose"),
            ("children", "child"),
            ("sheep", "sheep"),
            ("policemen", "policeman"),
        ] {
            let bases = Speech::get().noun_bases(plural);
            assert!(bases.iter().any(|(base, _)| base == singular), "{plural}: {bases:?}");
        }
    }
}
