//! Noun phrases of an answer, found word by word, and whether the answer says that they are not there.

use std::ops::Range;

use super::lexicon::{LONGEST, Lexicon};
use super::speech::{Kind, Speech};
use super::words::{Gap, Word};

/// A noun phrase without its determiner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// First word: a number, an adjective or a noun.
    pub first: usize,
    /// The word after the last, which is the head.
    pub end: usize,
    /// Whether `a`, `some`, a number or nothing stands before it, so that it brings something up.
    pub indefinite: bool,
    /// Whether a number above one stands before it.
    pub several: bool,
    /// Whether the answer says that there is none.
    pub negated: bool,
    /// Whether it is the proper name of a thing.
    pub name: bool,
}

/// Words that say how much or what sort there is of what follows `of`, not what it is.
const MEASURES: &str = "group pair pairs couple herd flock bunch set number lot lots variety type kind sort piece slice \
    family crowd row line stack pile collection side part top bottom front back edge middle center corner view picture image \
    photo photograph close-up closeup series portion bit amount plenty majority";

/// Clauses in which a negation no longer holds.
const NEW_CLAUSE: &str = "but however although though while whereas because since except yet";

/// Words that start a clause of their own after a comma.
const NEW_SUBJECT: &str = "a an the there it he she they we you i this that these those just only instead rather \
    their its his her my your our";

fn listed(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|entry| entry == word)
}

/// Finds all noun phrases of a text, in order. Words in `names` are proper names, whatever else they could be; each is a
/// phrase of its own.
pub(super) fn noun_phrases(words: &[Word], names: &[Range<usize>]) -> Vec<Chunk> {
    let mut reader = Reader { words, names, chunks: Vec::new(), open: None, before: Before::Nothing, negation: false };
    for at in 0..words.len() {
        reader.read(at);
    }
    reader.close(words.len());
    reader.chunks
}

/// The last word that decides what the next one can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Verb,
    Determiner,
}

/// A phrase that may go on.
#[derive(Debug, Clone, Copy)]
struct Open {
    first: usize,
    indefinite: bool,
    several: bool,
    has_noun: bool,
}

struct Reader<'a> {
    words: &'a [Word],
    names: &'a [Range<usize>],
    chunks: Vec<Chunk>,
    open: Option<Open>,
    before: Before,
    negation: bool,
}

impl Reader<'_> {
    fn read(&mut self, at: usize) {
        let word = &self.words[at];
        if word.gap != Gap::Space || (at > 0 && self.words[at - 1].possessive) {
            self.close(at);
            self.before = Before::Nothing;
            let starts_clause = listed(NEW_SUBJECT, &word.text) || self.starts_clause_after_and(at);
            if matches!(word.gap, Gap::Break | Gap::Sentence) || (word.gap == Gap::Comma && starts_clause) {
                self.negation = false;
            }
        }
        if let Some(name) = self.names.iter().find(|name| name.contains(&at)) {
            if name.start == at {
                self.read_name(name.clone());
            }
            return;
        }
        self.follow_negation(at);
        let kind = self.kind_here(at);
        match kind {
            Kind::Definite | Kind::Indefinite => {
                self.close(at);
                self.before = Before::Determiner;
                self.start(at + 1, kind == Kind::Indefinite, false);
            }
            Kind::Number => {
                let definite = self.open.is_some_and(|open| open.first == at && !open.indefinite);
                self.close(at);
                self.before = Before::Determiner;
                self.start(at, !definite, !matches!(word.text.as_str(), "one" | "1" | "zero" | "0"));
            }
            Kind::Function | Kind::Auxiliary | Kind::BeforeVerb | Kind::Verb => {
                self.close(at);
                self.before = if kind == Kind::BeforeVerb { Before::Verb } else { Before::Nothing };
            }
            Kind::Participle | Kind::Adjective | Kind::Adverb => self.read_modifier(at, kind),
            Kind::Noun | Kind::VerbOrNoun => {
                // A plural ends its phrase ("dogs bark"), unless it is part of a name ("sports ball").
                if self.open.is_some_and(|open| open.has_noun) && self.plural_before(at) && !self.completes_name(at) {
                    self.close(at);
                }
                if self.open.is_none() {
                    self.start(at, true, false);
                }
                if let Some(open) = &mut self.open {
                    open.has_noun = true;
                }
            }
        }
    }

    fn read_name(&mut self, name: Range<usize>) {
        self.close(name.start);
        let negated = self.negation || said_to_be_absent(&self.words[name.end..]);
        self.chunks.push(Chunk {
            first: name.start,
            end: name.end,
            indefinite: false,
            several: false,
            negated,
            name: true,
        });
        self.before = Before::Nothing;
    }

    /// Adjectives, and participles right after a determiner or an adjective, go with the noun that follows.
    fn read_modifier(&mut self, at: usize, kind: Kind) {
        let inside = self.open.is_some_and(|open| !open.has_noun);
        match kind {
            Kind::Adverb if inside => {}
            Kind::Participle if inside => {}
            Kind::Adjective if inside => {}
            Kind::Adjective => {
                self.close(at);
                self.start(at, true, false);
            }
            _ => {
                self.close(at);
                self.before = Before::Nothing;
            }
        }
    }

    fn start(&mut self, first: usize, indefinite: bool, several: bool) {
        self.open = Some(Open { first, indefinite, several, has_noun: false });
    }

    /// Ends the phrase before word `end`.
    fn close(&mut self, end: usize) {
        let Some(open) = self.open.take() else { return };
        let mut first = open.first;
        let speech = Speech::get();
        // `very`, `walking` and the like are not part of what is named when they come first.
        while first < end && speech.kind(&self.words[first].text) == Kind::Adverb {
            first += 1;
        }
        if first >= end || !(open.has_noun || Lexicon::get().knows(&self.words[end - 1].text)) {
            return;
        }
        let measure = listed(MEASURES, &self.words[end - 1].text) || self.words[end - 1].text == "family";
        if measure && self.words.get(end).is_some_and(|word| word.text == "of" && word.gap == Gap::Space) {
            return;
        }
        let negated = (self.negation && open.indefinite) || said_to_be_absent(&self.words[end..]);
        let Open { indefinite, several, .. } = open;
        self.chunks.push(Chunk { first, end, indefinite, several, negated, name: false });
        self.before = Before::Nothing;
    }

    /// What the word is in its place.
    fn kind_here(&self, at: usize) -> Kind {
        let (speech, word) = (Speech::get(), &self.words[at]);
        let kind = speech.kind(&word.text);
        let noun_before = self.open.is_some_and(|open| open.has_noun);
        let known = speech.noun_bases(&word.text).iter().any(|(base, _)| Lexicon::get().knows(base));
        let third_person = word.text.ends_with('s') && !word.text.ends_with("ss");
        if self.completes_name(at) {
            return Kind::Noun;
        }
        match kind {
            Kind::Verb | Kind::VerbOrNoun if self.before == Before::Verb && !third_person => Kind::Verb,
            Kind::Verb | Kind::VerbOrNoun if noun_before => {
                // "the bus stop" is a noun, as a verb would end in s; "the dog runs" is a verb, "coffee cups" a noun.
                let noun_form = !third_person || (kind == Kind::VerbOrNoun && known);
                if noun_form && !self.takes_object(at) && !self.plural_subject(at) { Kind::Noun } else { Kind::Verb }
            }
            Kind::Verb | Kind::VerbOrNoun if self.before == Before::Nothing && self.takes_pronoun(at) => Kind::Verb,
            Kind::Verb | Kind::VerbOrNoun if self.before == Before::Determiner => Kind::Noun,
            Kind::Verb if known => Kind::Noun,
            Kind::VerbOrNoun => Kind::Noun,
            // `building`, `painting`: a noun unless something is being built.
            Kind::Participle if known && !(noun_before && self.takes_object(at)) => Kind::Noun,
            Kind::Adjective if known && self.ends_phrase(at) => Kind::Noun,
            kind => kind,
        }
    }

    /// Whether what follows looks like the object of a verb.
    fn takes_object(&self, at: usize) -> bool {
        self.words.get(at + 1).is_some_and(|next| {
            next.gap == Gap::Space
                && matches!(Speech::get().kind(&next.text), Kind::Definite | Kind::Indefinite | Kind::Number)
        })
    }

    fn takes_pronoun(&self, at: usize) -> bool {
        self.words.get(at + 1).is_some_and(|next| {
            next.gap == Gap::Space && matches!(next.text.as_str(), "it" | "them" | "him" | "me" | "us" | "itself")
        })
    }

    /// Whether the word and those before it in the phrase are the name of a thing: "teddy bear".
    fn completes_name(&self, at: usize) -> bool {
        let Some(open) = self.open.filter(|open| open.first < at) else { return false };
        let bases = Speech::get().noun_bases(&self.words[at].text);
        (open.first.max((at + 1).saturating_sub(LONGEST))..at).any(|first| {
            let front: Vec<&str> = self.words[first..at].iter().map(|word| word.text.as_str()).collect();
            bases.iter().any(|(base, _)| Lexicon::get().knows(&format!("{} {base}", front.join(" "))))
        })
    }

    fn plural_before(&self, at: usize) -> bool {
        at > 0
            && Speech::get()
                .noun_bases(&self.words[at - 1].text)
                .iter()
                .any(|(base, plural)| *plural && (Lexicon::get().knows(base) || Speech::get().is_common_noun(base)))
    }

    /// Whether a verb after the open phrase would have no s: "several sheep graze", "a cat and a dog sit".
    fn plural_subject(&self, at: usize) -> bool {
        let joined = |first: usize| (first.saturating_sub(2)..first).any(|before| self.words[before].text == "and");
        self.plural_before(at) || self.open.is_some_and(|open| open.several || joined(open.first))
    }

    fn ends_phrase(&self, at: usize) -> bool {
        self.words.get(at + 1).is_none_or(|next| {
            let noun = matches!(
                Speech::get().kind(&next.text),
                Kind::Noun | Kind::VerbOrNoun | Kind::Adjective | Kind::Participle | Kind::Adverb
            );
            next.gap != Gap::Space || !noun
        })
    }

    /// `, and a cat`: a clause of its own, unlike `, and cats`.
    fn starts_clause_after_and(&self, at: usize) -> bool {
        self.words[at].text == "and" && self.words.get(at + 1).is_some_and(|next| listed(NEW_SUBJECT, &next.text))
    }

    /// Keeps track of `no`, `not`, `without` and of where they stop to hold.
    fn follow_negation(&mut self, at: usize) {
        let text = self.words[at].text.as_str();
        let next = self.words.get(at + 1).filter(|next| next.gap == Gap::Space).map(|next| next.text.as_str());
        let starts = match text {
            "no" => next.is_some_and(|next| !matches!(next, "doubt" | "longer" | "matter" | "one")),
            "not" => next.is_none_or(|next| !matches!(next, "only" | "just" | "merely" | "simply" | "sure" | "clear")),
            "without" | "neither" | "nor" | "never" | "cannot" | "zero" | "lacks" | "lacking" | "absence" | "lack" => {
                true
            }
            "instead" | "rather" => matches!(next, Some("of" | "than")),
            "free" => false,
            text => text.ends_with("n't"),
        };
        if starts {
            self.close(at);
            self.negation = true;
        } else if listed(NEW_CLAUSE, text) {
            self.close(at);
            self.negation = false;
        }
    }
}

/// `… is not visible`, `… are missing`: said right after the phrase.
fn said_to_be_absent(after: &[Word]) -> bool {
    let mut texts = after.iter().take_while(|word| word.gap == Gap::Space).map(|word| word.text.as_str());
    let mut negated = match texts.next() {
        Some("is" | "are" | "was" | "were") => false,
        Some("isn't" | "aren't" | "wasn't" | "weren't" | "can't" | "cannot") => true,
        _ => return false,
    };
    for text in texts.take(4) {
        match text {
            "not" => negated = true,
            "be" | "actually" | "clearly" | "really" | "currently" => {}
            "visible" | "present" | "shown" | "seen" | "pictured" | "depicted" | "included" | "there" | "detected" => {
                return negated;
            }
            "absent" | "missing" | "nowhere" => return !negated,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

    /// Phrases joined by `|`; negated ones with a `!` in front.
    fn phrases(text: &str) -> String {
        let words = split(text);
        let show = |chunk: &Chunk| {
            let body: Vec<&str> = words[chunk.first..chunk.end].iter().map(|word| word.text.as_str()).collect();
            format!("{}{}", if chunk.negated { "!" } else { "" }, body.join(" "))
        };
        noun_phrases(&words, &[]).iter().map(show).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn phrases_are_found_with_their_negations() {
        let cases = [
            ("A brown dog is running in the grassy field with a red ball.", "brown dog|grassy field|red ball"),
            ("Two people ride a bicycle", "two people|bicycle"),
            ("The cat sleeps on the couch.", "cat|couch"),
            ("A man wearing a red hat walks his dog", "man|red hat|dog"),
            ("A group of people riding horses", "people|horses"),
            ("Two pairs of scissors", "scissors"),
            ("There is no dog.", "!dog"),
            ("There is no dog or cat in the picture, but there is a bird.", "!dog|!cat|picture|bird"),
            ("It is a cat, not a dog.", "cat|!dog"),
            ("not only a dog but also a cat", "dog|cat"),
            ("The dog is not on the couch.", "dog|couch"),
            ("A dog is not visible.", "!dog"),
            ("I don't see any cats.", "!cats"),
            ("the dog's tail", "dog|tail"),
            ("dogs, cats and birds", "dogs|cats|birds"),
            ("no dogs, cats or birds", "!dogs|!cats|!birds"),
            ("No, there is a cat.", "cat"),
            ("an orange cat", "orange cat"),
            ("A bear stands in the river", "bear|river"),
            ("birds fly over the house", "birds|house"),
            ("", ""),
        ];
        let failed: Vec<String> = cases
            .into_iter()
            .filter(|(text, expected)| phrases(text) != *expected)
            .map(|(text, expected)| format!("{text:?}: {:?}, expected {expected:?}", phrases(text)))
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn names_are_phrases_of_their_own() {
        type Case<'a> = (&'a str, &'a [(usize, usize)], &'a [(usize, usize, bool)]);
        let cases: [Case<'_>; 3] = [
            (
                "The dog Lucky is near Will's bed.",
                &[(2, 3), (5, 6)],
                &[(1, 2, false), (2, 3, true), (5, 6, true), (6, 7, false)],
            ),
            ("It is not Lucky.", &[(3, 4)], &[(3, 4, true)]),
            ("Our old cat runs", &[(0, 3)], &[(0, 3, true)]),
        ];
        for (text, names, expected) in cases {
            let words = split(text);
            let names: Vec<Range<usize>> = names.iter().map(|(start, end)| *start..*end).collect();
            let chunks = noun_phrases(&words, &names);
            let found: Vec<_> = chunks.iter().map(|chunk| (chunk.first, chunk.end, chunk.name)).collect();
            assert_eq!(found, expected, "{text}");
            assert_eq!(chunks[0].negated, text.contains("not"), "{text}");
        }
    }
}
