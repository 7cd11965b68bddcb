//! Replies that cannot be read wrongly: lines `phrase - list item`, byte by byte.
//!
//! BuboGPT asks a language model which words of an answer mean which things of a list, and reads its reply line by line.
//! A [`PairGrammar`] says of every beginning of a reply which bytes may follow, so that a model that may only choose among
//! them cannot but give such lines, whatever it was trained on:
//!
//! - a phrase stands in the answer, whatever its case, from the start of a word to the end of a word within one line;
//! - it does not hold ` - ` itself, since a line is split at the first one;
//! - an item stands in the list;
//! - the reply may end where a line could end.
//!
//! A beginning that is allowed can always be finished.

use std::rc::Rc;

use unicode_segmentation::UnicodeSegmentation;

/// What parts phrase and item.
pub const SEPARATOR: &str = " - ";

/// The lines that an answer and a list allow.
#[derive(Debug)]
pub struct PairGrammar {
    text: Vec<char>,
    /// Characters with which words start.
    starts: Vec<u32>,
    /// Whether a word ends before the character.
    ends: Vec<bool>,
    /// Whether a phrase that has come so far can be finished.
    open: Vec<bool>,
    items: Vec<ItemNode>,
}

/// A node of the tree of items.
#[derive(Debug, Default)]
struct ItemNode {
    next: Vec<(char, u32)>,
    ends: bool,
}

/// How far a reply has come.
#[derive(Debug, Clone)]
pub struct State {
    place: Place,
    /// The first bytes of a character that is not complete.
    partial: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Place {
    /// Nothing has come. A space may come, which the tokens of some vocabularies begin with.
    Start,
    /// Before a line.
    Line,
    Phrase(Phrase),
    /// At a node of the items' tree.
    Item(u32),
}

/// Within a phrase, or the separator behind it.
#[derive(Debug, Clone)]
struct Phrase {
    /// Characters of the answer that may come next, ascending; the phrase may stand in several places.
    places: Rc<[u32]>,
    /// How many characters of the separator the line ends with: 0 to 2.
    separator: usize,
    /// Whether these followed the end of a word, so that an item may follow.
    closed: bool,
}

impl PairGrammar {
    /// The lines for an answer and a list. Items are taken in lower case and without white space around; those that are
    /// empty or have several lines cannot be said.
    pub fn new(answer: &str, items: &[&str]) -> Self {
        let text: Vec<char> = answer.chars().collect();
        let (mut starts, mut ends) = (Vec::new(), vec![false; text.len() + 1]);
        let mut at = 0;
        for piece in answer.split_word_bounds() {
            let end = at + piece.chars().count();
            if piece.chars().any(char::is_alphanumeric) {
                // To the segmentation an underscore is a letter; in answers it is a mark of emphasis.
                let left = piece.chars().take_while(|c| *c == '_').count();
                let right = piece.chars().rev().take_while(|c| *c == '_').count();
                starts.push((at + left) as u32);
                ends[end - right] = true;
                // "the dog's bowl" has a dog in it.
                let owner = ["'s", "’s", "'S", "’S"].iter().any(|ending| piece.ends_with(ending));
                if owner && end - at > 2 {
                    ends[end - 2] = true;
                }
            }
            at = end;
        }
        let items = item_tree(items);
        if items.len() == 1 {
            starts.clear();
        }
        Self { open: open_places(&text, &ends), text, starts, ends, items }
    }

    /// Before the first byte.
    pub fn start(&self) -> State {
        State { place: Place::Start, partial: Vec::new() }
    }

    /// Whether a reply may end here.
    pub fn may_end(&self, state: &State) -> bool {
        state.partial.is_empty()
            && match state.place {
                Place::Start | Place::Line => true,
                Place::Phrase(_) => false,
                Place::Item(node) => self.items[node as usize].ends,
            }
    }

    /// The reply with one more byte; `None` if it may not come.
    pub fn step(&self, state: &State, byte: u8) -> Option<State> {
        if state.partial.is_empty() && byte.is_ascii() {
            return Some(State { place: self.next(&state.place, char::from(byte))?, partial: Vec::new() });
        }
        let mut partial = state.partial.clone();
        partial.push(byte);
        match std::str::from_utf8(&partial) {
            Ok(text) => {
                let character = text.chars().next()?;
                Some(State { place: self.next(&state.place, character)?, partial: Vec::new() })
            }
            // Bytes of which nothing can become, and such as begin only characters that may not come.
            Err(error) if error.error_len().is_some() => None,
            Err(_) => self.can_begin(&state.place, &partial).then(|| State { place: state.place.clone(), partial }),
        }
    }

    /// Whether a character that may come begins with these bytes.
    fn can_begin(&self, place: &Place, bytes: &[u8]) -> bool {
        let begins = |c: char| c.encode_utf8(&mut [0; 4]).as_bytes().starts_with(bytes);
        match place {
            Place::Start | Place::Line => self.starts.iter().any(|at| forms(self.text[*at as usize]).any(begins)),
            Place::Phrase(phrase) => phrase.places.iter().any(|at| {
                let shown = self.text.get(*at as usize).filter(|_| self.open[*at as usize + 1]);
                shown.is_some_and(|c| forms(*c).any(begins))
            }),
            Place::Item(node) => self.items[*node as usize].next.iter().any(|(c, _)| begins(*c)),
        }
    }

    fn next(&self, place: &Place, c: char) -> Option<Place> {
        match place {
            Place::Start if c == ' ' => (!self.starts.is_empty()).then_some(Place::Line),
            Place::Start | Place::Line => {
                let places = self.advanced(&self.starts, c);
                let phrase = Phrase { places, separator: 0, closed: false };
                (!phrase.places.is_empty()).then_some(Place::Phrase(phrase))
            }
            Place::Phrase(phrase) => self.next_in_phrase(phrase, c),
            Place::Item(node) => {
                let node = &self.items[*node as usize];
                if c == '\n' && node.ends {
                    return Some(Place::Line);
                }
                node.next.iter().find(|(next, _)| *next == c).map(|(_, next)| Place::Item(*next))
            }
        }
    }

    fn next_in_phrase(&self, phrase: &Phrase, c: char) -> Option<Place> {
        if phrase.separator == 2 && c == ' ' {
            // The line is split here, whether the phrase goes on like this in the answer or not.
            return phrase.closed.then_some(Place::Item(0));
        }
        let separator = match (phrase.separator, c) {
            (_, ' ') => 1,
            (1, '-') => 2,
            _ => 0,
        };
        let closed = match separator {
            0 => false,
            1 => phrase.places.iter().any(|at| self.ends[*at as usize]),
            _ => phrase.closed,
        };
        let places = self.advanced(&phrase.places, c);
        (closed || !places.is_empty()).then_some(Place::Phrase(Phrase { places, separator, closed }))
    }

    /// Places behind those at which the answer has this character, as far as a phrase can be finished from there.
    fn advanced(&self, places: &[u32], c: char) -> Rc<[u32]> {
        let fits = |at: &&u32| {
            let at = **at as usize;
            self.text.get(at).is_some_and(|shown| self.open[at + 1] && same(*shown, c))
        };
        places.iter().filter(fits).map(|at| at + 1).collect()
    }
}

/// A character in lower case, as the reader of replies compares: one for one.
fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Whether a character of a reply is one of the answer. Those whose lower case is two characters, or depends on what
/// stands around, are left out of replies: the lower case of the whole reply could differ from that of the answer.
fn same(shown: char, said: char) -> bool {
    lower(shown) == lower(said) && said.to_lowercase().count() == 1 && !matches!(said, 'Σ' | '\n')
}

/// The forms of a character of the answer that may stand in a reply.
fn forms(shown: char) -> impl Iterator<Item = char> {
    let others = [Some(shown), Some(lower(shown)), shown.to_uppercase().next(), lower(shown).to_uppercase().next()];
    others.into_iter().flatten().filter(move |said| same(shown, *said))
}

/// For every place whether a phrase that has come so far can be finished there or further on, without a line's end and
/// without [`SEPARATOR`] in between.
fn open_places(text: &[char], ends: &[bool]) -> Vec<bool> {
    let separator: Vec<char> = SEPARATOR.chars().collect();
    let mut open = ends.to_vec();
    for at in (0..text.len()).rev() {
        let parted = text[..=at].ends_with(&separator);
        open[at] |= open[at + 1] && !parted && forms(text[at]).next().is_some();
    }
    open
}

fn item_tree(items: &[&str]) -> Vec<ItemNode> {
    let mut nodes = vec![ItemNode::default()];
    for item in items {
        let item = item.trim().to_lowercase();
        // What cannot be compared in lower case cannot be found again.
        if item.is_empty() || item.contains('\n') || item.to_lowercase() != item {
            continue;
        }
        let mut at = 0;
        for c in item.chars() {
            at = match nodes[at].next.iter().find(|(next, _)| *next == c) {
                Some((_, next)) => *next as usize,
                None => {
                    nodes.push(ItemNode::default());
                    let new = nodes.len() - 1;
                    nodes[at].next.push((c, new as u32));
                    new
                }
            };
        }
        nodes[at].ends = true;
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the grammar takes a whole reply.
    fn takes(grammar: &PairGrammar, reply: &str) -> bool {
        let end = reply.bytes().try_fold(grammar.start(), |state, byte| grammar.step(&state, byte));
        end.is_some_and(|state| grammar.may_end(&state))
    }

    #[test]
    fn only_pairs_of_the_answer_and_the_list_are_taken() {
        let answer = "The naïve Dog’s bowl - a red one - is _full_.\nA cat.";
        let grammar = PairGrammar::new(answer, &["dog", "dog house", "Cat", "", "two\nlines", "é"]);
        for reply in [
            "",
            "dog - dog",
            " Dog - dog house\n",
            "NAÏVE DOG - dog\ncat - cat\nThe naïve dog’s bowl - é",
            "Dog’s - dog",
            "full - cat\ncat - dog",
            "a red one - cat",
        ] {
            assert!(takes(&grammar, reply), "{reply:?}");
        }
        for reply in [
            "dog",
            "dog -",
            "dog - ",
            "dog - do",
            "dog - horse",
            "og - dog",
            "do - dog",
            "horse - dog",
            "dog- dog",
            "dog  - dog",
            "  dog - dog",
            "dog - dog ",
            "dog - dog\n\n",
            "_full_ - dog",
            "bowl - a - dog",
            "is full.\nA cat - cat",
            "dog - Cat",
            "dog - two\nlines",
        ] {
            assert!(!takes(&grammar, reply), "{reply:?}");
        }
        // What the answer itself goes on with is no item.
        assert!(!takes(&grammar, "bowl - a red one"));
        for grammar in [PairGrammar::new("A dog.", &[]), PairGrammar::new("?!", &["dog"]), PairGrammar::new("", &["x"])]
        {
            assert!(takes(&grammar, ""));
            assert!((0..=255).all(|byte| grammar.step(&grammar.start(), byte).is_none_or(|_| byte == b' ')));
        }
    }

    /// From every beginning that is allowed the shortest way on leads to an end.
    #[test]
    fn every_beginning_can_be_finished() {
        let strategy = proptest::collection::vec("[a-cA-C’'_ .,\\-\nİıΣσςßéÉ世🐕\u{301}]{0,12}|dog - |- | -|\n", 0..6);
        let items = proptest::collection::vec("[a-cÀ世 \\-]{0,6}", 0..4);
        proptest::proptest!(|(answer in strategy, items in items, seed in proptest::prelude::any::<u64>())| {
            let answer = answer.concat();
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            let grammar = PairGrammar::new(&answer, &items);
            let (mut state, mut dice) = (grammar.start(), seed);
            let mut reply = Vec::new();
            for _ in 0..200 {
                let next: Vec<(u8, State)> =
                    (0..=255).filter_map(|byte| Some((byte, grammar.step(&state, byte)?))).collect();
                proptest::prop_assert!(!next.is_empty() || grammar.may_end(&state), "{:?} {:?}", answer, reply);
                if next.is_empty() {
                    break;
                }
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (byte, chosen) = next[(dice >> 33) as usize % next.len()].clone();
                reply.push(byte);
                state = chosen;
            }
        });
    }
}
