//! Stages 1 and 2: answers through the frozen language model, whose loss teaches joiners and, if asked for, a low-rank
//! addition.
//!
//! Prompts are written and tokenised by the code that inference runs. The loss is the cross-entropy of the answer's tokens
//! and of the token that ends it.

use anyhow::{Context, Result, bail, ensure};
use bubo::encoders::joiner::Joiner;
use bubo::language::{ChatSettings, Item, Llama, Message, Modality, ModalityKind, Part, Role, Sequence, Tokenizer};
use bubo::session::SYSTEM;
use bubo::tensor::{Device as Engine, Tensor as BuboTensor};
use candle_core::Tensor;

use crate::examples::Split;
use crate::frozen::View;
use crate::instructions::{self, Exchange};
use crate::random::Random;
use crate::run::Task;
use crate::sequences::{Row, answer_logits, answer_loss, share_right};
use crate::slot_task::{Sample, Source, join, targets};
use crate::slots::Slots;
use crate::variables::{Variables, is_low_rank};
use crate::vocabulary::Vocabulary;

/// Validation samples of each modality.
const VALIDATION: usize = 12;
/// Part of the questions about one of both that are about pictures.
const PICTURES: f32 = 0.6;
/// Draws until a pair does, or does not, belong together.
const TRIES: usize = 8;
/// Modality ids within a prompt.
const IMAGE: u64 = 0;
const AUDIO: u64 = 1;

/// The frozen language model, with or without a low-rank addition.
pub struct Frozen {
    /// The network.
    pub llama: Llama,
    /// Its tokeniser.
    pub tokenizer: Tokenizer,
    /// How to talk to it.
    pub chat: ChatSettings,
    /// Start token, if prompts have one.
    pub start: Option<u32>,
    /// What ends an answer.
    pub end: u32,
}

/// A joiner that learns, with where its samples come from.
pub struct Learner {
    /// Prefix of its variables: `image.` or `audio.`.
    pub prefix: &'static str,
    /// Samples.
    pub source: Source,
    /// The network, on the variables.
    pub joiner: Joiner,
    /// Stage 0's targets, whose loss is kept to some part.
    pub slots: Slots,
}

/// What is asked, and how often.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Part of the questions with the facts told in words, 0..1.
    pub facts: f32,
    /// Part of the questions with facts that are shown something else than what the facts tell, 0..1.
    #[serde(default)]
    pub misled: f32,
    /// Part of the questions with facts at which nothing is shown: words have to do, 0..1.
    #[serde(default)]
    pub unseen: f32,
    /// Part of the batches that are pairs which do not belong together; with both modalities only.
    #[serde(default)]
    pub unrelated: f32,
    /// Part of the batches that are pairs which do; with both modalities only.
    #[serde(default)]
    pub related: f32,
    /// Part of stage 0's loss that is added.
    #[serde(default)]
    pub slots: f64,
}

impl Mix {
    /// The question with nothing shown, if chance has it so and all that is asked about is told in words.
    fn unseen(&self, mut exchange: Exchange, is_told: bool, random: &mut Random) -> Exchange {
        if is_told && random.happens(self.unseen) {
            exchange.shown.clear();
        }
        exchange
    }
}

/// Stage 1, with one learner, or stage 2, with both.
pub struct AnswerTask {
    /// What learns: joiners' variables behind their prefixes, and the low-rank addition's.
    pub variables: Variables,
    /// The language model.
    pub model: Frozen,
    /// Pictures.
    pub image: Option<Learner>,
    /// Sounds.
    pub audio: Option<Learner>,
    /// What is asked.
    pub mix: Mix,
    /// Samples of a batch.
    pub batch: usize,
    /// Factor on the learning rate of the low-rank addition.
    pub low_rank_rate: f64,
    /// Names of things.
    pub vocabulary: Vocabulary,
}

/// A question with what it is about.
struct Asked {
    image: Option<Sample>,
    audio: Option<Sample>,
    exchange: Exchange,
}

/// The picture or the sound of a question.
type SampleOf = fn(&Asked) -> Option<&Sample>;

/// Embeddings of a batch's pictures or sounds, `[batch, queries, hidden_size]`.
struct Joined {
    image: Option<Tensor>,
    audio: Option<Tensor>,
}

impl AnswerTask {
    fn ask_about_picture(&self, learner: &Learner, random: &mut Random) -> Result<Asked> {
        let sample = learner.source.draw(random)?;
        let told = self.told(&sample, random);
        let exchange = instructions::about_picture(&sample, told.as_deref(), &self.vocabulary, random);
        let exchange = self.mix.unseen(exchange, told.is_some(), random);
        Ok(Asked { image: Some(self.shown(learner, sample, told.is_some(), random)?), audio: None, exchange })
    }

    fn ask_about_sound(&self, learner: &Learner, random: &mut Random) -> Result<Asked> {
        let sample = learner.source.draw(random)?;
        let told = self.told(&sample, random);
        let exchange = instructions::about_sound(&sample, told.as_deref(), random);
        let exchange = self.mix.unseen(exchange, told.is_some(), random);
        Ok(Asked { image: None, audio: Some(self.shown(learner, sample, told.is_some(), random)?), exchange })
    }

    /// The facts in words, if chance has it so and they are true of the sample.
    fn told(&self, sample: &Sample, random: &mut Random) -> Option<String> {
        let is_told = random.happens(self.mix.facts);
        sample.view.told.clone().filter(|_| is_told && sample.is_told())
    }

    /// What is shown with a question whose facts are told: now and then something else, so that words count for more than
    /// embeddings where they differ.
    fn shown(&self, learner: &Learner, sample: Sample, is_told: bool, random: &mut Random) -> Result<Sample> {
        if is_told && random.happens(self.mix.misled) { learner.source.draw(random) } else { Ok(sample) }
    }

    /// A batch of one kind of question, as the original's batches are.
    fn draw(&self, random: &mut Random) -> Result<Vec<Asked>> {
        let Mix { unrelated, related, .. } = self.mix;
        let chance = random.unit();
        let mut ask = |_| -> Result<Asked> {
            let (image, audio) = match (&self.image, &self.audio) {
                (Some(image), Some(audio)) => (image, audio),
                (Some(image), None) => return self.ask_about_picture(image, random),
                (None, Some(audio)) => return self.ask_about_sound(audio, random),
                (None, None) => bail!("nothing is to learn"),
            };
            Ok(if chance < unrelated + related {
                let agreeing = if chance < unrelated { None } else { agreeing(image, audio, random)? };
                let with_facts = random.happens(self.mix.facts);
                let ((picture, sound), exchange) = if let Some(both) = agreeing {
                    let exchange = instructions::related(&both.0, &both.1, with_facts, random);
                    (both, exchange)
                } else {
                    let both = differing(image, audio, random)?;
                    let exchange = instructions::unrelated(&both.0, &both.1, with_facts, random);
                    (both, exchange)
                };
                let is_told = with_facts && picture.view.told.is_some() && sound.view.told.is_some();
                let exchange = self.mix.unseen(exchange, is_told, random);
                Asked { image: Some(picture), audio: Some(sound), exchange }
            } else if chance < unrelated + related + PICTURES * (1.0 - unrelated - related) {
                self.ask_about_picture(image, random)?
            } else {
                self.ask_about_sound(audio, random)?
            })
        };
        (0..self.batch).map(&mut ask).collect()
    }

    fn join(&self, learner: Option<&Learner>, samples: &[&Sample]) -> Result<Option<Tensor>> {
        let (Some(learner), false) = (learner, samples.is_empty()) else { return Ok(None) };
        let views: Vec<&View> = samples.iter().map(|sample| &sample.view).collect();
        join(&learner.joiner, &views, &self.model.llama, &self.model.tokenizer).map(Some)
    }

    fn joined(&self, asked: &[Asked]) -> Result<Joined> {
        let samples = |sample: fn(&Asked) -> Option<&Sample>| asked.iter().filter_map(sample).collect::<Vec<_>>();
        let images = samples(|asked| asked.image.as_ref());
        let sounds = samples(|asked| asked.audio.as_ref());
        let complete = |list: &[&Sample]| list.is_empty() || list.len() == asked.len();
        ensure!(complete(&images) && complete(&sounds), "a batch of more than one kind of question");
        Ok(Joined { image: self.join(self.image.as_ref(), &images)?, audio: self.join(self.audio.as_ref(), &sounds)? })
    }

    /// Stage 0's loss on the same samples.
    fn slot_loss(&self, asked: &[Asked], joined: &Joined) -> Result<Option<Tensor>> {
        let mut sum: Option<Tensor> = None;
        let sides: [(_, _, SampleOf); 2] = [
            (&self.image, &joined.image, |asked| asked.image.as_ref()),
            (&self.audio, &joined.audio, |asked| asked.audio.as_ref()),
        ];
        for (learner, embeddings, sample) in sides {
            let (Some(learner), Some(embeddings)) = (learner, embeddings) else { continue };
            let (is_sound, nothing) = (learner.source.is_sound(), learner.slots.nothing());
            let wanted = asked.iter().filter_map(sample);
            let wanted = wanted.map(|sample| targets(&self.model.tokenizer, sample, is_sound, nothing));
            let loss = learner.slots.loss(embeddings, &wanted.collect::<Result<Vec<_>>>()?)?;
            sum = Some(match sum {
                Some(sum) => (sum + loss)?,
                None => loss,
            });
        }
        Ok(sum)
    }

    /// Logits at the places before each of the answers' tokens, and those tokens.
    fn answer_logits(&self, asked: &[Asked], joined: &Joined) -> Result<(Tensor, Vec<u32>)> {
        let prompts =
            asked.iter().map(|asked| self.model.prompt(&asked.exchange, joined)).collect::<Result<Vec<_>>>()?;
        let rows = prompts
            .into_iter()
            .enumerate()
            .map(|(at, (items, answer))| Ok(Row { embedded: self.model.embed(&items, joined, at)?, answer }));
        answer_logits(&self.model.llama, rows.collect::<Result<_>>()?)
    }
}

impl Frozen {
    /// Tokens and places of embeddings of prompt and answer, the answer's last token left out, and the answer's tokens.
    fn prompt(&self, exchange: &Exchange, joined: &Joined) -> Result<(Vec<Item>, Vec<u32>)> {
        let mut parts = Vec::new();
        for kind in &exchange.shown {
            let id = if *kind == ModalityKind::Image { IMAGE } else { AUDIO };
            // Only as many rows as there will be: the numbers are put in by `embed`.
            let embeddings = BuboTensor::zeros(&[joined.of(id)?.dim(1)?, 1], &Engine::Cpu)?;
            parts.push(Part::Modality(Modality { kind: *kind, id, embeddings }));
        }
        parts.push(Part::Text(exchange.question.clone()));
        let messages = [Message::text(Role::System, SYSTEM), Message { role: Role::User, parts }];
        let mut items = Sequence::new(self.chat.format.render(&messages)?, &self.tokenizer, self.start)?.items;
        let mut answer = self.tokenizer.encode(&exchange.answer)?;
        items.extend(answer.iter().copied().map(Item::Token));
        answer.push(self.end);
        Ok((items, answer))
    }

    /// Embeddings of a prompt, `[places, hidden_size]`; where something is shown, all rows of what was joined for it.
    fn embed(&self, items: &[Item], joined: &Joined, at: usize) -> Result<Tensor> {
        let mut pieces = Vec::new();
        let same_kind = |a: &Item, b: &Item| match (a, b) {
            (Item::Token(_), Item::Token(_)) => true,
            (Item::Embedding { modality: a, .. }, Item::Embedding { modality: b, .. }) => a == b,
            _ => false,
        };
        for run in items.chunk_by(same_kind) {
            let ids: Vec<u32> =
                run.iter().filter_map(|item| if let Item::Token(id) = item { Some(*id) } else { None }).collect();
            pieces.push(match run[0] {
                Item::Token(_) => {
                    let tokens = self.llama.embed(&ids)?;
                    tokens.as_candle().context("training runs on the processor")?.squeeze(0)?
                }
                Item::Embedding { modality, .. } => joined.of(modality)?.get(at)?,
            });
        }
        let embedded = Tensor::cat(&pieces, 0)?;
        ensure!(embedded.dim(0)? == items.len(), "{} places were embedded, of {}", embedded.dim(0)?, items.len());
        Ok(embedded)
    }
}

impl Joined {
    fn of(&self, modality: u64) -> Result<&Tensor> {
        let side = if modality == IMAGE { &self.image } else { &self.audio };
        side.as_ref().context("nothing was joined for what is shown")
    }
}

/// A picture and a sound whose kinds differ.
fn differing(image: &Learner, audio: &Learner, random: &mut Random) -> Result<(Sample, Sample)> {
    let (picture, mut sound) = (image.source.draw(random)?, audio.source.draw(random)?);
    for _ in 0..TRIES {
        if !agree(&picture, &sound) {
            break;
        }
        sound = audio.source.draw(random)?;
    }
    Ok((picture, sound))
}

/// A picture and a sound of the same kind; none if chance brings none.
fn agreeing(image: &Learner, audio: &Learner, random: &mut Random) -> Result<Option<(Sample, Sample)>> {
    for _ in 0..TRIES {
        let sound = audio.source.draw(random)?;
        let kind = sound.said.first().map_or("", |said| said.kind.as_str()).to_owned();
        if let Some(picture) = image.source.of_kind(&kind, random)? {
            return Ok(Some((picture, sound)));
        }
    }
    Ok(None)
}

fn agree(picture: &Sample, sound: &Sample) -> bool {
    let shown = |source: &str| picture.said.iter().any(|said| said.kind == source || said.name == source);
    sound.said.iter().any(|said| shown(&said.kind))
}

impl Task for AnswerTask {
    fn variables(&self) -> &Variables {
        &self.variables
    }

    fn loss(&self, random: &mut Random) -> Result<Tensor> {
        let asked = self.draw(random)?;
        let joined = self.joined(&asked)?;
        let (logits, wanted) = self.answer_logits(&asked, &joined)?;
        let loss = answer_loss(&logits, &wanted)?;
        match self.slot_loss(&asked, &joined)?.filter(|_| self.mix.slots > 0.0) {
            Some(slots) => Ok((loss + slots * self.mix.slots)?),
            None => Ok(loss),
        }
    }

    /// Share of the answers' tokens that would be chosen, from embeddings alone, on examples that are not learnt from.
    fn validate(&self) -> Result<Vec<(String, f64)>> {
        let mut scores = Vec::new();
        let random = || Random::new(1, 1);
        for (name, learner) in [("pictures", &self.image), ("sounds", &self.audio)] {
            let Some(learner) = learner else { continue };
            let asked: Vec<Asked> = learner
                .source
                .split(Split::Validation, VALIDATION)
                .into_iter()
                .map(|sample| {
                    let exchange = if learner.source.is_sound() {
                        instructions::about_sound(&sample, None, &mut random())
                    } else {
                        instructions::about_picture(&sample, None, &self.vocabulary, &mut random())
                    };
                    if learner.source.is_sound() {
                        Asked { image: None, audio: Some(sample), exchange }
                    } else {
                        Asked { image: Some(sample), audio: None, exchange }
                    }
                })
                .collect();
            if asked.is_empty() {
                continue;
            }
            let (logits, wanted) = self.answer_logits(&asked, &self.joined(&asked)?)?;
            scores.push((name.to_owned(), share_right(&logits, &wanted)?));
        }
        Ok(scores)
    }

    fn rate_factor(&self, name: &str) -> f64 {
        if is_low_rank(name) { self.low_rank_rate } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_hidden_that_words_do_not_tell() {
        let mix: Mix = serde_json::from_str(r#"{"facts": 1, "unseen": 0.5}"#).expect("a mix");
        let exchange = || {
            let (question, answer) = ("What is it?".to_owned(), "It is a dog.".to_owned());
            Exchange { shown: vec![ModalityKind::Image], question, answer }
        };
        let shown = |is_told| {
            let exchanges = (0..40).map(|seed| mix.unseen(exchange(), is_told, &mut Random::new(seed, 0)));
            exchanges.filter(|exchange| !exchange.shown.is_empty()).count()
        };
        assert_eq!(shown(false), 40);
        assert!((10..30).contains(&shown(true)), "{}", shown(true));
    }
}
