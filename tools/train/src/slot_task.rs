//! Stage 0 as a task: views of real and simulated pictures or sounds, and what the slots shall say of them.

use anyhow::{Context, Result, bail};
use bubo::encoders::joiner::{Config, HINT_NUMBERS, Hint, Joiner, hint_numbers};
use bubo::language::{LanguageModel, Llama, Tokenizer};
use bubo::session::facts;
use bubo::session::joining::{hint_tokens, nothing};
use bubo::tensor::{Device as Engine, Tensor};
use pollster::block_on;

use crate::examples::{Split, is_test_kind};
use crate::frozen::{View, unit_box};
use crate::prepare::Seen;
use crate::random::Random;
use crate::renaming::Renaming;
use crate::run::Task;
use crate::scenes::{Allowed, Known, Placed, Prototypes, random_things};
use crate::slots::{MOST_SAID, SOUND_SLOTS, Said, Slots, THING_SLOTS, slot_tokens};
use crate::variables::Variables;
use crate::vocabulary::{Noun, Vocabulary};

/// Validation examples that are looked at, from the first on.
const MOST_VALIDATION: usize = 240;
/// Simulated samples that are looked at beside them.
const SIMULATED_VALIDATION: usize = 96;
/// Simulated pictures or sounds that are drawn until something is recognised in one.
const TRIES: usize = 100;

/// A view and what there is to say of it: things of a picture, the main one first, or sounds, the one that is heard most
/// first.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the joiner reads.
    pub view: View,
    /// What there is.
    pub said: Vec<Said>,
}

impl Sample {
    /// Whether facts in words name all that there is to say.
    pub fn is_told(&self) -> bool {
        self.said.iter().all(|said| self.view.tells(&said.kind) || self.view.tells(&said.name))
    }
}

/// Parts of the samples, 0..1.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// That are simulated.
    pub simulated: f32,
    /// Whose names are changed to random words, see [`Renaming`].
    pub renamed: f32,
}

/// Where samples of one modality come from.
pub struct Source {
    /// Sizes of its joiner.
    pub config: Config,
    /// The encoder's last layer.
    pub classifier: (Vec<f32>, Vec<f32>),
    /// Real ones.
    pub seen: Vec<Seen>,
    share: Share,
    renaming: Renaming,
    vocabulary: Vocabulary,
    /// Names of the audio encoder's classes; none for pictures.
    labels: Vec<String>,
    allowed: Allowed,
    /// Classes of sounds that have a phrase: class, source, phrase.
    sound_classes: Vec<(usize, String, String)>,
    training: Vec<usize>,
}

fn said_of(noun: &Noun, place: &str) -> Said {
    Said { kind: noun.kind.clone(), name: noun.name.clone(), place: Some(place.to_owned()) }
}

impl Source {
    /// - `labels`: names of the audio encoder's classes; empty for pictures
    ///
    /// # Errors
    /// If the labels that are part of the program are damaged, or the list of things is.
    pub fn new(
        config: Config,
        classifier: (Vec<f32>, Vec<f32>),
        seen: Vec<Seen>,
        share: Share,
        labels: &[String],
    ) -> Result<Self> {
        let vocabulary = Vocabulary::new()?;
        let known = |nouns: &[Noun]| (0..nouns.len()).filter(|class| !is_test_kind(&nouns[*class].kind)).collect();
        let allowed = Allowed { tagger: known(&vocabulary.tagger), detector: known(&vocabulary.detector) };
        let sound_classes = labels.iter().enumerate().filter_map(|(class, label)| {
            let (source, phrase) = (facts::sound_source(label), facts::sound_phrase(label));
            (!source.is_empty() && !is_test_kind(&source)).then_some((class, source, phrase))
        });
        let sound_classes = sound_classes.collect();
        let training = (0..seen.len()).filter(|at| seen[*at].split == Split::Training).collect();
        let (labels, renaming) = (labels.to_vec(), Renaming::new()?);
        Ok(Self { config, classifier, seen, share, renaming, vocabulary, labels, allowed, sound_classes, training })
    }

    /// Whether these are sounds.
    pub fn is_sound(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Slots of one thing or sound.
    pub fn slots_each(&self) -> usize {
        if self.is_sound() { SOUND_SLOTS } else { THING_SLOTS }
    }

    fn known(&self) -> Known<'_> {
        Known { vocabulary: &self.vocabulary, allowed: &self.allowed }
    }

    fn prototypes(&self) -> Prototypes<'_> {
        Prototypes { classifier: &self.classifier, width: self.config.encoder_width }
    }

    /// A real example as a sample: what was recognised is said, else what its file is named for.
    pub fn real(&self, seen: &Seen) -> Sample {
        let mut said = seen.view.said.clone();
        if said.is_empty() {
            said.push(if self.is_sound() {
                Said { kind: seen.noun.kind.clone(), name: seen.said.clone(), place: None }
            } else {
                said_of(&seen.noun, &seen.said)
            });
        }
        Sample { view: seen.view.clone(), said }
    }

    /// A random sample of the training split.
    ///
    /// # Errors
    /// Those of [`simulate`](Self::simulate).
    pub fn draw(&self, random: &mut Random) -> Result<Sample> {
        let mut sample = match random.choose(&self.training) {
            Some(at) if !random.happens(self.share.simulated) => {
                let mut sample = self.real(&self.seen[*at]);
                vary(&mut sample.view, random);
                sample
            }
            _ => self.simulate(random)?,
        };
        if random.happens(self.share.renamed) {
            self.renaming.rename(&mut sample, random);
        }
        Ok(sample)
    }

    /// A simulated sample of kinds that training may know.
    ///
    /// # Errors
    /// Those of the scenes.
    pub fn simulate(&self, random: &mut Random) -> Result<Sample> {
        if self.is_sound() { self.simulated_sound(random) } else { self.simulated_picture(random) }
    }

    /// A random picture of that kind from the training split, or else a simulated one if some class is of it.
    ///
    /// # Errors
    /// Those of the scenes.
    pub fn of_kind(&self, kind: &str, random: &mut Random) -> Result<Option<Sample>> {
        let real: Vec<usize> = self.training.iter().copied().filter(|at| self.seen[*at].noun.kind == kind).collect();
        if let Some(at) = random.choose(&real) {
            let mut sample = self.real(&self.seen[*at]);
            vary(&mut sample.view, random);
            return Ok(Some(sample));
        }
        let of_kind = |class: &&usize| self.vocabulary.tagger[**class].kind == kind;
        let classes: Vec<usize> = self.allowed.tagger.iter().filter(of_kind).copied().collect();
        let Some(tag) = random.choose(&classes).copied() else { return Ok(None) };
        let detection = self.vocabulary.detector.iter().position(|noun| noun.kind == kind);
        let left = random.between(0.0, 0.5);
        let things = [Placed { tag: Some(tag), detection, area: [left, 0.2, left + 0.5, 0.9] }];
        let view = self.prototypes().picture(&things, &self.config, self.known(), random)?;
        Ok(Some(Sample { view, said: self.said(&things) }))
    }

    fn said(&self, things: &[Placed]) -> Vec<Said> {
        let said = |thing: &Placed| {
            let noun = match (thing.tag, thing.detection) {
                (Some(class), _) => &self.vocabulary.tagger[class],
                (None, Some(class)) => &self.vocabulary.detector[class],
                (None, None) => return None,
            };
            let centre = (thing.area[0] + thing.area[2]) / 2.0;
            Some(said_of(noun, facts::place(&[unit_box(centre)], 1)?))
        };
        things.iter().filter_map(said).collect()
    }

    /// What is to say is what was heard, in the order in which facts tell it, as with pictures. Where nothing was, it is the
    /// sound that was made, if it is hinted at.
    fn simulated_sound(&self, random: &mut Random) -> Result<Sample> {
        for _ in 0..TRIES {
            let (class, source, phrase) = &self.sound_classes[random.below(self.sound_classes.len())];
            let (other, ..) = self.sound_classes[random.below(self.sound_classes.len())];
            let view = self.prototypes().sound(*class, other, self.config.places, &self.labels, random);
            let mut said = view.said.clone();
            if said.is_empty() && view.hints_at(phrase) {
                said.push(Said { kind: source.clone(), name: phrase.clone(), place: None });
            }
            if !said.is_empty() && view.is_free_of_test_kinds() {
                return Ok(Sample { view, said });
            }
        }
        bail!("nothing is heard in simulated sounds: audio encoder and labels do not go together")
    }

    /// What is to say is what was found, in the order in which facts tell it: from what else is in a picture nobody could
    /// know what comes first. Where nothing was found, it is what tags hint at.
    fn simulated_picture(&self, random: &mut Random) -> Result<Sample> {
        for _ in 0..TRIES {
            let things = random_things(self.known(), random);
            let view = self.prototypes().picture(&things, &self.config, self.known(), random)?;
            let mut said = view.said.clone();
            if said.is_empty() {
                said = self.said(&things);
                said.retain(|said| view.hints_at(&said.kind) || view.hints_at(&said.name));
            }
            if !said.is_empty() && view.is_free_of_test_kinds() {
                return Ok(Sample { view, said });
            }
        }
        bail!("nothing is recognised in simulated pictures: tagger and labels do not go together")
    }

    /// The split's samples without chance, at most so many.
    pub fn split(&self, split: Split, most: usize) -> Vec<Sample> {
        self.seen.iter().filter(|seen| seen.split == split).take(most).map(|seen| self.real(seen)).collect()
    }

    /// Every token that a slot may have to say.
    ///
    /// # Errors
    /// If the tokeniser refuses a text.
    pub fn all_targets(&self, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
        let nothing = nothing(tokenizer)?;
        let places = ["on the left", "in the middle", "on the right"];
        let nouns = self.vocabulary.tagger.iter().chain(&self.vocabulary.detector);
        let mut all: Vec<Said> = if self.is_sound() {
            let said = |(_, source, phrase): &(usize, String, String)| Said {
                kind: source.clone(),
                name: phrase.clone(),
                place: None,
            };
            self.sound_classes.iter().map(said).collect()
        } else {
            nouns.map(|noun| said_of(noun, places[0])).collect()
        };
        all.extend(self.seen.iter().flat_map(|seen| self.real(seen).said));
        let renamed = |name: &String| Said { kind: name.clone(), name: name.clone(), place: None };
        all.extend(self.renaming.names().iter().map(renamed));
        all.extend(places.map(|place| Said { kind: String::new(), name: String::new(), place: Some(place.into()) }));
        all.iter().map(|said| slot_tokens(tokenizer, Some(said), !self.is_sound(), nothing)).collect()
    }
}

/// The small changes that another look or another microphone would bring.
fn vary(view: &mut View, random: &mut Random) {
    let gain = (0.1 * random.normal()).exp();
    for x in &mut view.features {
        if *x > 0.0 {
            *x *= gain * (1.0 + 0.1 * (random.unit() - 0.5));
        }
    }
    for Hint { score, .. } in &mut view.hints {
        *score = (*score * (0.15 * random.normal()).exp()).clamp(0.0, 1.0);
    }
    // A hint is missed now and then, so that not everything hangs on it.
    if random.happens(0.15) && !view.hints.is_empty() {
        view.hints.remove(random.below(view.hints.len()));
    }
}

/// Embeddings of views, `[batch, queries, hidden_size]`.
///
/// # Errors
/// If views are not of the joiner's size.
pub fn join(joiner: &Joiner, views: &[&View], llama: &Llama, tokenizer: &Tokenizer) -> Result<candle_core::Tensor> {
    let Config { places, encoder_width, hints: count, .. } = *joiner.config();
    let features: Vec<f32> = views.iter().flat_map(|view| &view.features).copied().collect();
    let (mut ids, mut numbers) = (Vec::new(), Vec::new());
    for view in views {
        ids.extend(hint_tokens(tokenizer, &view.hints, count)?);
        numbers.extend(hint_numbers(&view.hints, count)?);
    }
    let batch = views.len();
    let words = llama.embed(&ids)?.reshape(&[batch, ids.len() / batch.max(1), llama.config().hidden_size])?;
    let features = Tensor::from_f32(&features, &[batch, places, encoder_width], &Engine::Cpu)?;
    let numbers = Tensor::from_f32(&numbers, &[batch, count, HINT_NUMBERS], &Engine::Cpu)?;
    let joined = joiner.forward(&features, &words, &numbers)?;
    Ok(joined.as_candle().context("training runs on the processor")?.clone())
}

/// Targets of a sample's slots.
///
/// # Errors
/// If the tokeniser refuses a text.
pub fn targets(tokenizer: &Tokenizer, sample: &Sample, is_sound: bool, nothing: u32) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for at in 0..MOST_SAID {
        ids.extend(slot_tokens(tokenizer, sample.said.get(at), !is_sound, nothing)?);
    }
    Ok(ids)
}

/// Stage 0.
pub struct SlotTask {
    source: Source,
    variables: Variables,
    joiner: Joiner,
    slots: Slots,
    model: LanguageModel,
    batch: usize,
}

impl SlotTask {
    /// Starts from random weights.
    ///
    /// # Errors
    /// Those of the models.
    pub fn new(source: Source, model: LanguageModel, batch: usize, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed, u64::MAX);
        let mean = mean_embedding(&model)?;
        let slots = Slots::new(&model, &source.all_targets(&model.tokenizer)?, source.slots_each())?;
        let variables = Variables::joiner(&source.config, &mean, slots.deviation(), &mut random)?;
        let joiner = Joiner::load(&source.config, &variables.weights()?)?;
        Ok(Self { source, variables, joiner, slots, model, batch })
    }

    fn embeddings(&self, samples: &[Sample]) -> Result<candle_core::Tensor> {
        let views: Vec<&View> = samples.iter().map(|sample| &sample.view).collect();
        join(&self.joiner, &views, &self.model.llama, &self.model.tokenizer)
    }

    fn targets(&self, samples: &[Sample]) -> Result<Vec<Vec<u32>>> {
        let (is_sound, nothing) = (self.source.is_sound(), self.slots.nothing());
        samples.iter().map(|sample| targets(&self.model.tokenizer, sample, is_sound, nothing)).collect()
    }
}

/// Mean over a sample of the language model's tokens.
fn mean_embedding(model: &LanguageModel) -> Result<Vec<f32>> {
    let ids: Vec<u32> = (0..model.tokenizer.vocabulary_size() as u32).step_by(7).collect();
    let numbers = block_on(model.llama.embed(&ids)?.to_f32())?;
    let width = model.llama.config().hidden_size;
    let mut mean = vec![0.0; width];
    for row in numbers.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / ids.len() as f32);
    }
    Ok(mean)
}

impl Task for SlotTask {
    fn variables(&self) -> &Variables {
        &self.variables
    }

    fn loss(&self, random: &mut Random) -> Result<candle_core::Tensor> {
        let samples = (0..self.batch).map(|_| self.source.draw(random)).collect::<Result<Vec<_>>>()?;
        self.slots.loss(&self.embeddings(&samples)?, &self.targets(&samples)?)
    }

    /// Real examples that are not learnt from, and simulated ones: of sounds there are hardly any real ones.
    fn validate(&self) -> Result<Vec<(String, f64)>> {
        let real = self.source.split(Split::Validation, MOST_VALIDATION);
        let mut random = Random::new(0, 0);
        let simulated = (0..SIMULATED_VALIDATION).map(|_| self.source.simulate(&mut random));
        let simulated = simulated.collect::<Result<Vec<_>>>()?;
        let mut scores = self.score(&real)?;
        scores.extend(self.score(&simulated)?.into_iter().map(|(name, x)| (format!("simulated {name}"), x)));
        Ok(scores)
    }
}

impl SlotTask {
    fn score(&self, samples: &[Sample]) -> Result<Vec<(String, f64)>> {
        let mut found = Vec::new();
        for chunk in samples.chunks(self.batch.max(1)) {
            found.extend(self.slots.read_out(&self.embeddings(chunk)?.detach())?);
        }
        Ok(self.slots.hits(&found, &self.targets(samples)?))
    }
}
