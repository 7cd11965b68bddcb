//! Which words of an answer mean which things in the picture.
//!
//! Noun phrases of the answer are found by word lists, tied to things by name, by synonym and by kind (a small part of
//! WordNet), then by sentence embedding; where these disagree a vote is asked for, which the session lets the language
//! model cast. The model may also be asked for the pairs themselves ([`MatchMode`]). What the answer says is not there
//! stays without colour, and so does a phrase that nothing fits.

mod asked;
mod chunk;
mod embedder;
mod lexicon;
pub mod original;
mod pairs;
mod speech;
mod words;

use std::borrow::Cow;
use std::ops::Range;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use asked::AskedModel;
pub use embedder::{Embedder, dot, load_tokenizer};
pub use pairs::{MatchMode, Pairing};

use super::taught::name::is_proper;
use crate::error::Result;
use chunk::{Chunk, noun_phrases};
use lexicon::{LONGEST, Lexicon, Relation};
use speech::Speech;
use words::{Word, normalize, split};

/// Cosine from which on a word that the lists do not know is taken to mean a thing.
///
/// MiniLM measures how much two words have to do with each other, not whether they mean the same: `bathroom` and a
/// toilet have .79, `goblet` and a wine glass .20. On the pairs of tests/golden/matcher_pairs.json whose word no list
/// knew, .68 gave a precision of 11 in 12 and a recall of 11 in 28; .60 gave 11 in 14 and 11 in 28.
const COSINE: f32 = 0.68;

/// The same for a word that is known to name something else: then a vote is asked for.
const COSINE_AGAINST_LEXICON: f32 = 0.8;

/// How far ahead of the next class the best one must be.
const MARGIN: f32 = 0.08;

/// A phrase of an answer and the things that it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// As it stands in the answer.
    pub phrase: String,
    /// Its first character.
    pub start: usize,
    /// The character after its last.
    pub end: usize,
    /// Indices of things, ascending.
    pub things: Vec<usize>,
}

/// What a thing is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Its tag.
    pub tag: String,
    /// Other names, for example a tagger's finer class of the same region.
    pub aliases: Vec<String>,
}

/// Decides where names and embeddings disagree.
#[async_trait(?Send)]
pub trait Vote {
    /// Which of the candidates the phrase means in this sentence; `None` for none of them.
    ///
    /// # Errors
    /// Those of the voter's model.
    async fn vote(&self, phrase: &str, answer: &str, candidates: &[String]) -> Result<Option<usize>>;
}

/// Finds the things of a picture in answers. Same input, same output.
#[derive(Clone, Copy, Default)]
pub struct Matcher<'a> {
    /// For words that the lists do not know.
    pub embedder: Option<&'a Embedder>,
    /// For phrases on which the ways of matching disagree.
    pub vote: Option<&'a dyn Vote>,
}

/// How a phrase was tied to things, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tie {
    /// The name itself, or a synonym.
    Name,
    /// A kind of the thing, so many steps below it.
    Kind(usize),
    /// A word of a tag of several words that is not known as a whole.
    Part,
    /// More general than the thing, so many steps above it.
    Broader(usize),
}

/// Whether a word means a kind of what the other means, as a goose is a kind of bird.
pub fn is_kind_of(word: &str, name: &str) -> bool {
    matches!(Lexicon::get().relation(&looked_up(word), &looked_up(name)), Some(Relation::Kind(_)))
}

/// Whether a word can say of a thing what its name says, or less: of a tennis racket `racket`, of a cat `animal`.
pub fn covers(word: &str, name: &str) -> bool {
    let relation = Lexicon::get().relation(&looked_up(word), &looked_up(name));
    matches!(relation, Some(Relation::Same | Relation::Broader(_)))
}

/// Those of `names` that a word means a kind of, as [`is_kind_of`] says of each.
pub fn kinds_among<'a>(word: &str, names: &[&'a str]) -> Vec<&'a str> {
    Lexicon::get().kinds_among(&looked_up(word), names)
}

/// A name as the lexicon has it: labels have hyphens (`ring-tailed lemur`), which are spaces there.
fn looked_up(name: &str) -> Cow<'_, str> {
    if name.contains('-') { Cow::Owned(normalize(name)) } else { Cow::Borrowed(name) }
}

impl Matcher<'_> {
    /// Finds every phrase that means one of the things.
    ///
    /// Entities come in the order of the text, start and end on word boundaries, and do not overlap. Phrases exclude
    /// determiners and include numbers and adjectives. Where one thing of a class is meant, so are all of its class.
    ///
    /// # Errors
    /// Those of the embedder and of the vote.
    pub async fn entities(&self, answer: &str, things: &[Names]) -> Result<Vec<Entity>> {
        if things.is_empty() {
            return Ok(Vec::new());
        }
        let words = split(answer);
        let targets: Vec<Target> = things.iter().map(Target::new).collect();
        let characters: Vec<char> = answer.chars().collect();
        let mut embedded = Embedded::new(&targets);
        let mut entities: Vec<Entity> = Vec::new();
        for chunk in noun_phrases(&words, &names_in(&words, &characters, things)) {
            if chunk.negated {
                continue;
            }
            let phrase = Phrase::new(&words, &chunk, &targets);
            let found = self.things_of(&phrase, answer, &targets, &entities, &mut embedded).await?;
            if !found.is_empty() {
                let (start, end) = (words[chunk.first].start, words[chunk.end - 1].end);
                let phrase = characters[start..end].iter().collect();
                entities.push(Entity { phrase, start, end, things: found });
            }
        }
        Ok(entities)
    }

    async fn things_of(
        &self,
        phrase: &Phrase,
        answer: &str,
        targets: &[Target],
        before: &[Entity],
        embedded: &mut Embedded,
    ) -> Result<Vec<usize>> {
        let ties: Vec<Option<Tie>> = targets.iter().map(|target| target.tie(phrase)).collect();
        let found = lexical(&ties, phrase, targets);
        if let Some(Tie::Name | Tie::Kind(_)) = found.tie {
            return Ok(found.things);
        }
        if !found.things.is_empty() && (found.classes(targets).len() == 1 || phrase.plural) {
            return Ok(found.things);
        }
        if !found.things.is_empty() {
            // One animal is named, and there are a cat and a dog: the one spoken of last, else a vote.
            let recent = before.iter().rev().find(|entity| entity.things.iter().any(|i| found.things.contains(i)));
            if let Some(entity) = recent.filter(|_| !phrase.indefinite) {
                return Ok(entity.things.clone());
            }
            return self.elect(phrase, answer, targets, &found.classes(targets)).await;
        }
        self.by_embedding(phrase, answer, targets, embedded).await
    }

    async fn by_embedding(
        &self,
        phrase: &Phrase,
        answer: &str,
        targets: &[Target],
        embedded: &mut Embedded,
    ) -> Result<Vec<usize>> {
        let Some(embedder) = self.embedder else { return Ok(Vec::new()) };
        let ranked = embedded.rank(embedder, &phrase.head).await?;
        let Some((best, class)) = ranked.first() else { return Ok(Vec::new()) };
        let ahead = ranked.get(1).is_none_or(|(next, _)| best - next >= MARGIN);
        match (phrase.known, ahead) {
            (false, true) if *best >= COSINE => Ok(things_of_class(targets, class)),
            (false, false) if *best >= COSINE => {
                let close = ranked.iter().take_while(|(cosine, _)| *cosine >= COSINE);
                let close: Vec<String> = close.map(|(_, class)| class.clone()).collect();
                self.elect(phrase, answer, targets, &close).await
            }
            (true, _) if *best >= COSINE_AGAINST_LEXICON => {
                self.elect(phrase, answer, targets, std::slice::from_ref(class)).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Things of the class that the vote falls on; none without a voter.
    async fn elect(&self, phrase: &Phrase, answer: &str, targets: &[Target], classes: &[String]) -> Result<Vec<usize>> {
        let Some(vote) = self.vote else { return Ok(Vec::new()) };
        let winner = vote.vote(&phrase.text, answer, classes).await?;
        Ok(winner.and_then(|winner| classes.get(winner)).map_or_else(Vec::new, |class| things_of_class(targets, class)))
    }
}

/// Where proper names of things stand, in order; the longer one where two overlap. A name with a capital letter is one
/// only where it is written with it: `will` is not Will.
fn names_in(words: &[Word], characters: &[char], things: &[Names]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for tag in things.iter().map(|thing| &thing.tag).filter(|tag| is_proper(tag)) {
        let name = split(tag);
        let capital = tag.chars().next().is_some_and(char::is_uppercase);
        let found = words.windows(name.len().max(1)).enumerate().filter(|(_, window)| {
            let written = !capital || window.first().is_some_and(|word| characters[word.start].is_uppercase());
            written && !name.is_empty() && window.iter().map(|word| &word.text).eq(name.iter().map(|word| &word.text))
        });
        spans.extend(found.map(|(at, _)| at..at + name.len()));
    }
    spans.sort_by_key(|span| std::cmp::Reverse(span.len()));
    let mut kept: Vec<Range<usize>> = Vec::new();
    for span in spans {
        if !kept.iter().any(|other| span.start < other.end && other.start < span.end) {
            kept.push(span);
        }
    }
    kept.sort_by_key(|span| span.start);
    kept
}

fn things_of_class(targets: &[Target], class: &str) -> Vec<usize> {
    (0..targets.len()).filter(|i| targets[*i].class() == class).collect()
}

/// The things tied to a phrase and the best tie among them.
struct Lexical {
    tie: Option<Tie>,
    things: Vec<usize>,
}

impl Lexical {
    /// Distinct tags of the things.
    fn classes(&self, targets: &[Target]) -> Vec<String> {
        let mut classes: Vec<String> = Vec::new();
        for thing in &self.things {
            let class = targets[*thing].class();
            if !classes.iter().any(|known| known == class) {
                classes.push(class.to_owned());
            }
        }
        classes
    }
}

/// The best tie, all things that have it, and with a name also all kinds of what it names: "the dogs" are the dog and
/// the poodle.
fn lexical(ties: &[Option<Tie>], phrase: &Phrase, targets: &[Target]) -> Lexical {
    let best = ties.iter().flatten().min().copied();
    let with = |accepted: &dyn Fn(Tie) -> bool| -> Vec<usize> {
        (0..targets.len()).filter(|i| ties[*i].is_some_and(accepted)).collect()
    };
    let things = match best {
        None => Vec::new(),
        Some(Tie::Name) if phrase.plural => with(&|tie| matches!(tie, Tie::Name | Tie::Broader(_))),
        Some(Tie::Broader(_)) => with(&|tie| matches!(tie, Tie::Broader(_))),
        Some(best) => with(&|tie| tie == best),
    };
    Lexical { tie: best, things }
}

/// A noun phrase ready to be compared.
struct Phrase {
    /// Lower-case words.
    text: String,
    /// The last words, up to the longest that anyone knows; base forms of the last word, likeliest first.
    heads: Vec<String>,
    /// The first of them.
    head: String,
    /// Whether the lists know the head.
    known: bool,
    plural: bool,
    indefinite: bool,
    /// Whether it is a proper name.
    name: bool,
}

impl Phrase {
    fn new(words: &[Word], chunk: &Chunk, targets: &[Target]) -> Self {
        let texts: Vec<String> =
            words[chunk.first..chunk.end].iter().flat_map(|word| word.text.split('-').map(str::to_owned)).collect();
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        if chunk.name {
            let text = texts.join(" ");
            let heads = vec![text.clone()];
            return Self { head: text.clone(), text, heads, known: true, plural: false, indefinite: false, name: true };
        }
        let (last, modifiers) = texts.split_last().map_or(("", &[][..]), |(last, front)| (last.as_str(), front));
        let (speech, lexicon) = (Speech::get(), Lexicon::get());
        let bases = speech.noun_bases(last);
        let named = |name: &str| targets.iter().any(|target| target.names.iter().any(|known| known == name));
        let mut heads: Vec<String> = Vec::new();
        for length in (0..LONGEST.min(modifiers.len() + 1)).rev() {
            let front = &modifiers[modifiers.len() - length..];
            let joined = |base: &str| front.iter().map(String::as_str).chain([base]).collect::<Vec<_>>().join(" ");
            heads.extend(bases.iter().map(|(base, _)| joined(base)).filter(|name| named(name) || lexicon.knows(name)));
            if !heads.is_empty() {
                break;
            }
        }
        let known = !heads.is_empty() || bases.iter().any(|(base, _)| speech.is_common_noun(base));
        if heads.is_empty() {
            heads.extend(bases.iter().map(|(base, _)| base.clone()));
        }
        let plural = chunk.several || bases.first().is_some_and(|(_, plural)| *plural) && last != "glasses";
        let head = heads.first().cloned().unwrap_or_default();
        Self { text: texts.join(" "), head, heads, known, plural, indefinite: chunk.indefinite, name: false }
    }
}

/// A thing's names, ready to be compared.
struct Target {
    /// The tag.
    class: String,
    /// Whether the tag is a proper name: then only that name means it, and no word list knows it, so that a dog called
    /// Daisy is no flower.
    proper: bool,
    /// Tag first, unless it is a proper name, then aliases; base forms.
    names: Vec<String>,
    /// Words of names that are not known as a whole.
    parts: Vec<String>,
}

impl Target {
    fn new(thing: &Names) -> Self {
        let (lexicon, speech) = (Lexicon::get(), Speech::get());
        let mut names: Vec<String> = Vec::new();
        let mut parts = Vec::new();
        let (class, proper) = (normalize(&thing.tag), is_proper(&thing.tag));
        let tag = (!proper).then_some(&thing.tag);
        for name in tag.into_iter().chain(&thing.aliases).map(|name| normalize(name)) {
            if name.is_empty() && !names.is_empty() {
                continue;
            }
            let (front, last) =
                name.rsplit_once(' ').map_or((None, name.as_str()), |(front, last)| (Some(front), last));
            let whole = |base: &str| front.map_or_else(|| base.to_owned(), |front| format!("{front} {base}"));
            let bases: Vec<String> = speech.noun_bases(last).iter().map(|(base, _)| whole(base)).collect();
            let known: Vec<String> = bases.into_iter().filter(|base| lexicon.knows(base)).collect();
            if known.is_empty() && front.is_some() {
                parts.extend(name.split(' ').filter(|word| lexicon.knows(word)).map(str::to_owned));
            }
            names.push(name.clone());
            names.extend(known.into_iter().filter(|base| *base != name));
        }
        Self { class, proper, names, parts }
    }

    /// The tag: things with the same are shown together.
    fn class(&self) -> &str {
        &self.class
    }

    fn tie(&self, phrase: &Phrase) -> Option<Tie> {
        if phrase.name {
            return (self.proper && phrase.text == self.class).then_some(Tie::Name);
        }
        let lexicon = Lexicon::get();
        let mut best: Option<Tie> = None;
        let mut consider = |tie: Tie| best = Some(best.map_or(tie, |known| known.min(tie)));
        for head in &phrase.heads {
            for name in &self.names {
                if head == name {
                    consider(Tie::Name);
                } else if let Some(relation) = lexicon.relation(head, name) {
                    consider(match relation {
                        Relation::Same => Tie::Name,
                        Relation::Kind(steps) => Tie::Kind(steps),
                        Relation::Broader(steps) => Tie::Broader(steps),
                    });
                } else if lexicon.is_person(name) && is_any_person(head) {
                    consider(Tie::Broader(1));
                }
            }
            if self.parts.iter().any(|part| part == head) {
                consider(Tie::Part);
            }
        }
        best
    }
}

/// Words for people that say nothing of what they do: they may mean any kind of person.
fn is_any_person(word: &str) -> bool {
    matches!(
        word,
        "man"
            | "woman"
            | "boy"
            | "girl"
            | "child"
            | "kid"
            | "people"
            | "human"
            | "lady"
            | "guy"
            | "gentleman"
            | "adult"
    )
}

/// Embeddings of names and heads, made when first needed.
struct Embedded {
    classes: Vec<(String, Vec<String>)>,
    vectors: Vec<(usize, Vec<f32>)>,
}

impl Embedded {
    fn new(targets: &[Target]) -> Self {
        let mut classes: Vec<(String, Vec<String>)> = Vec::new();
        for target in targets {
            match classes.iter_mut().find(|(class, _)| class == target.class()) {
                Some((_, names)) => names.extend(target.names.iter().cloned()),
                None => classes.push((target.class().to_owned(), target.names.clone())),
            }
        }
        for (_, names) in &mut classes {
            names.sort_unstable();
            names.dedup();
        }
        Self { classes, vectors: Vec::new() }
    }

    /// Cosine of the word to the nearest name of each class, nearest class first.
    async fn rank(&mut self, embedder: &Embedder, word: &str) -> Result<Vec<(f32, String)>> {
        if self.vectors.is_empty() {
            let names: Vec<(usize, &str)> = self
                .classes
                .iter()
                .enumerate()
                .flat_map(|(class, (_, names))| names.iter().map(move |name| (class, name.as_str())))
                .collect();
            let texts: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
            self.vectors = names.iter().map(|(class, _)| *class).zip(embedder.embed(&texts).await?).collect();
        }
        let vectors = embedder.embed(&[word]).await?;
        let mut ranked: Vec<(f32, String)> = self
            .classes
            .iter()
            .enumerate()
            .map(|(class, (name, _))| {
                let cosines = self.vectors.iter().filter(|(of, _)| *of == class).map(|(_, v)| dot(v, &vectors[0]));
                (cosines.fold(-1.0, f32::max), name.clone())
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(ranked)
    }
}
