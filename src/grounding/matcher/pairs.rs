//! Pairs that a language model gives, and how far they are believed.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::chunk::{Chunk, noun_phrases};
use super::words::{Word, split};
use super::{
    COSINE_AGAINST_LEXICON, Embedded, Entity, Matcher, Names, Phrase, Target, names_in, original, things_of_class,
};
use crate::error::Result;
use crate::language::grammar::SEPARATOR;

/// Cosine from which on a model's pair is believed where the lists do not know the word. Lower than what the embedding
/// needs alone: the model is a second witness. A word that the lists know, and know as something else, needs as much as a
/// vote does: SmolLM2 pairs 92 of the 162 wrong pairs of tests/golden/matcher_pairs.json. With a model that pairs
/// everything .6 gives 5 wrong ones of 79, .45 gives 11 of 85; neither finds more right ones than the lists do.
const COSINE_SECOND_WITNESS: f32 = 0.6;

/// Which way phrases are tied to things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchMode {
    /// Word lists, sentence embeddings and votes: right with any language model, and fast.
    #[default]
    Lexicon,
    /// The language model's pairs as they are, at every place of the answer that has their words.
    Model,
    /// Word lists first; the model's pairs where these have none and nothing speaks against them.
    Both,
    /// The language model's pairs as the original reads them (see [`original`]): a phrase is coloured where it first
    /// stands, be it inside of another word.
    Original,
}

/// Pairs phrases of an answer with names: lines `phrase - name`.
#[async_trait(?Send)]
pub trait Pairing {
    /// The reply for an answer and distinct lower-case names.
    ///
    /// # Errors
    /// Those of the model; [`crate::Error::Cancelled`].
    async fn reply(&self, answer: &str, names: &[String]) -> Result<String>;
}

/// Words of an answer that were paired with a name.
struct Said {
    first_word: usize,
    end_word: usize,
    class: String,
}

impl Matcher<'_> {
    /// As [`entities`](Self::entities), with a model that pairs phrases and names.
    ///
    /// Entities come in the order of the text and do not overlap, whatever the model says, and but for
    /// [`MatchMode::Original`] stand on word boundaries; with [`MatchMode::Lexicon`] it is not asked.
    ///
    /// # Errors
    /// Those of the embedder, the vote and the pairing.
    pub async fn entities_by(
        &self,
        mode: MatchMode,
        pairing: &dyn Pairing,
        answer: &str,
        things: &[Names],
    ) -> Result<Vec<Entity>> {
        let known = match mode {
            MatchMode::Lexicon => return self.entities(answer, things).await,
            MatchMode::Model | MatchMode::Original => Vec::new(),
            MatchMode::Both => self.entities(answer, things).await?,
        };
        if things.is_empty() || answer.trim().is_empty() {
            return Ok(known);
        }
        let targets: Vec<Target> = things.iter().map(Target::new).collect();
        let mut names: Vec<String> = targets.iter().map(|target| target.class().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let reply = pairing.reply(answer, &names).await?;
        if mode == MatchMode::Original {
            return Ok(highlighted(answer, &names, &reply, &targets));
        }
        let (words, characters): (_, Vec<char>) = (split(answer), answer.chars().collect());
        let mut said = said_in(&reply, &words, &names);
        if mode == MatchMode::Both {
            said.retain(|said| !known.iter().any(|entity| overlaps(entity, said, &words)));
            let chunks = noun_phrases(&words, &names_in(&words, &characters, things));
            said = self.believed(said, &words, &chunks, &targets).await?;
        }
        let entity = |said: Said| {
            let (start, end) = (words[said.first_word].start, words[said.end_word - 1].end);
            let phrase = characters[start..end].iter().collect();
            Entity { phrase, start, end, things: things_of_class(&targets, &said.class) }
        };
        let mut entities = known;
        entities.extend(said.into_iter().map(entity));
        entities.sort_by_key(|entity| (entity.start, usize::MAX - entity.end));
        let mut last = 0;
        entities.retain(|entity| {
            entity.start >= last && !entity.things.is_empty() && {
                last = entity.end;
                true
            }
        });
        Ok(entities)
    }

    /// Pairs whose words are a noun phrase that the answer does not deny, that no list ties to something else, and that
    /// lists or embedding find at least akin.
    async fn believed(
        &self,
        said: Vec<Said>,
        words: &[Word],
        chunks: &[Chunk],
        targets: &[Target],
    ) -> Result<Vec<Said>> {
        let mut embedded = Embedded::new(targets);
        let mut believed = Vec::new();
        for said in said {
            let chunk = chunks.iter().find(|chunk| chunk.first < said.end_word && said.first_word < chunk.end);
            let Some(chunk) = chunk.filter(|chunk| !chunk.negated) else { continue };
            let phrase = Phrase::new(words, chunk, targets);
            let mut tied = targets.iter().filter(|target| target.tie(&phrase).is_some()).peekable();
            if tied.peek().is_some() {
                // The lists left it open which of these is meant.
                if tied.any(|target| target.class() == said.class) {
                    believed.push(said);
                }
                continue;
            }
            let akin = match self.embedder {
                Some(embedder) => {
                    let least = if phrase.known { COSINE_AGAINST_LEXICON } else { COSINE_SECOND_WITNESS };
                    let ranked = embedded.rank(embedder, &phrase.head).await?;
                    ranked.iter().any(|(cosine, class)| *class == said.class && *cosine >= least)
                }
                None => !phrase.known,
            };
            if akin {
                believed.push(said);
            }
        }
        Ok(believed)
    }
}

/// What the original highlights, as entities.
fn highlighted(answer: &str, names: &[String], reply: &str, targets: &[Target]) -> Vec<Entity> {
    // Each name stands for its colour, too, so that a highlight tells which one it is of.
    let item = |name: &String| original::Item { name: name.clone(), color: name.clone() };
    let original::Reply { highlight, color_map, .. } =
        original::parse(answer, &names.iter().map(item).collect::<Vec<_>>(), reply);
    let (mut start, mut entities) = (0, Vec::new());
    for (phrase, label) in highlight {
        let end = start + phrase.chars().count();
        let name = label.and_then(|label| color_map.iter().find(|(known, _)| *known == label));
        if let Some((_, name)) = name.filter(|_| end > start) {
            entities.push(Entity { phrase, start, end, things: things_of_class(targets, name) });
        }
        start = end;
    }
    entities
}

fn overlaps(entity: &Entity, said: &Said, words: &[Word]) -> bool {
    entity.start < words[said.end_word - 1].end && words[said.first_word].start < entity.end
}

/// All places at which the answer has the words of a reply's line. Of lines with equal words the last one counts, as in
/// the original; lines of another form, or with names that are not listed, do not count.
fn said_in(reply: &str, words: &[Word], names: &[String]) -> Vec<Said> {
    let mut pairs: Vec<(Vec<String>, String)> = Vec::new();
    for (left, right) in reply.lines().filter_map(|line| line.split_once(SEPARATOR)) {
        let phrase: Vec<String> = split(left).into_iter().map(|word| word.text).collect();
        let Some(name) = names.iter().find(|name| name.to_lowercase() == right.trim().to_lowercase()) else { continue };
        if phrase.is_empty() {
            continue;
        }
        match pairs.iter_mut().find(|(known, _)| *known == phrase) {
            Some((_, class)) => class.clone_from(name),
            None => pairs.push((phrase, name.clone())),
        }
    }
    let mut said = Vec::new();
    for (phrase, class) in pairs {
        for (first_word, found) in words.windows(phrase.len()).enumerate() {
            if found.iter().zip(&phrase).all(|(word, text)| word.text == *text) {
                said.push(Said { first_word, end_word: first_word + phrase.len(), class: class.clone() });
            }
        }
    }
    said
}
