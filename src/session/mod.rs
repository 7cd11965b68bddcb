//! The conductor: which stage comes next, what is remembered, what is told, and how everything can be stopped.
//!
//! A [`Session`] serves the page, the command line and the tests alike. Its methods take `&self`, so that a picture can
//! be looked at while the language model is still on its way; what they tell goes to an [`Event`] sink.

mod event;
pub mod evidence;
pub mod facts;
mod question;
mod scene;
mod voter;

use std::cell::RefCell;
use std::rc::Rc;

pub use event::{Event, Evidence, LoadProgress, Stage};
pub use question::Question;
pub use scene::{Heard, Scene, ShownSound, ShownThing, shown_boxes};

use crate::bundle::{LoadedPart, Loader};
use crate::canvas::Export;
use crate::encoders::yamnet::Yamnet;
use crate::error::{Context, Error, Result};
use crate::grounding::matcher::{Embedder, Entity, Matcher};
use crate::grounding::scene::Eyes;
use crate::grounding::{Detector, Segmenter, Tagger, detector, segmenter, tagger};
use crate::host::Host;
use crate::language::{self, Chat, Generation, GenerationOptions, LanguageModel, StopReason};
use crate::media::{RgbImage, Waveform};
use crate::nn::{WeightSink, Weights};
use crate::tensor::Device;
use voter::Voter;

/// What the language model is told before everything else, where pictures and sounds reach it as words.
const SYSTEM: &str =
    "You answer questions about a picture and a sound in one short sentence, using only the facts given.";

/// Confidence below which a sound's tag is not shown.
const LEAST_SOUND_SCORE: f32 = 0.2;
/// Tags of one moment of a sound that are shown at the most.
const MOST_SOUND_TAGS: usize = 3;

/// Takes events as they happen.
pub type Sink<'a> = &'a dyn Fn(Event);

/// How a question is answered.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskOptions {
    /// Longest answer of the language model, in tokens.
    pub max_tokens: usize,
    /// 0 gives the most likely answer; more gives more varied ones, usually up to 1.
    pub temperature: f32,
    /// Only the likeliest tokens that together have this probability, 0..1.
    pub top_p: Option<f32>,
    /// Only so many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Above 1: tokens that were used become less likely.
    pub repetition_penalty: f32,
    /// The same number gives the same answer.
    pub seed: u64,
    /// Whether what boxes, tags and sounds know is computed from them (see [`evidence`]) instead of being left to the
    /// language model.
    pub evidence: bool,
}

impl Default for AskOptions {
    fn default() -> Self {
        Self {
            max_tokens: 96,
            temperature: 0.0,
            top_p: None,
            top_k: None,
            repetition_penalty: 1.0,
            seed: 0,
            evidence: true,
        }
    }
}

/// The networks, as far as they are loaded.
#[derive(Default)]
struct Models {
    tagger: Option<Rc<dyn Tagger>>,
    detector: Option<Rc<dyn Detector>>,
    segmenter: Option<Rc<dyn Segmenter>>,
    ears: Option<Rc<Yamnet>>,
    embedder: Option<Rc<Embedder>>,
    language: Option<Rc<LanguageModel>>,
}

/// What was shown and said. A conversation has one thread a topic, since facts about the picture leak into what a small
/// model says about the sound.
#[derive(Default)]
struct Talk {
    scene: Option<Rc<Scene>>,
    heard: Option<Rc<Heard>>,
    threads: Vec<(Topic, Chat)>,
}

/// What a thread of the conversation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Picture,
    Sound,
    Everything,
}

/// A conversation about a picture and a sound, and the networks that it takes.
pub struct Session {
    device: Device,
    models: RefCell<Models>,
    talk: RefCell<Talk>,
}

/// The answer as it grows.
#[derive(Default)]
struct Draft {
    text: String,
    stats: serde_json::Map<String, serde_json::Value>,
    prefill_tokens: usize,
    decode_tokens: usize,
    prefill_ms: f64,
    decode_ms: f64,
    cancelled: bool,
}

impl Session {
    /// A session without networks, whose tensors will live on `device`.
    pub fn new(device: Device) -> Self {
        Self { device, models: RefCell::default(), talk: RefCell::default() }
    }

    /// The device of the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Loads all parts of a bundle in the manifest's order; each works as soon as [`Event::Part`] names it.
    ///
    /// # Errors
    /// Those of the loader; [`Error::Unsupported`] for a part whose model is not known. Parts that were ready stay so.
    pub async fn load(&self, loader: &mut Loader<WeightSink>, events: Sink<'_>) -> Result<()> {
        let parts: Vec<String> = loader.manifest().parts.iter().map(|part| part.name.clone()).collect();
        for part in parts {
            let loaded = loader.load_part(&part, &mut |progress| events(Event::Load(progress.into()))).await?;
            self.install(&part, loaded).context(part.clone())?;
            events(Event::Part { part });
        }
        events(Event::Ready);
        Ok(())
    }

    fn install(&self, name: &str, part: LoadedPart<Weights>) -> Result<()> {
        let mut models = self.models.borrow_mut();
        match name {
            "tagger" => models.tagger = Some(tagger::load(&part)?),
            "detector" => models.detector = Some(detector::load(&part)?),
            "segmenter" => models.segmenter = Some(segmenter::load(&part)?),
            "audio_encoder" => models.ears = Some(Rc::new(load_ears(&part)?)),
            "text_embedder" => models.embedder = Some(Rc::new(load_embedder(&part)?)),
            "language" => models.language = Some(Rc::new(load_language(&part)?)),
            other => return Err(Error::Unsupported(format!("a bundle with a part named {other:?}"))),
        }
        Ok(())
    }

    /// Whether pictures can be looked at.
    pub fn can_see(&self) -> bool {
        let models = self.models.borrow();
        models.tagger.is_some() && models.detector.is_some() && models.segmenter.is_some()
    }

    /// Whether sounds can be listened to.
    pub fn can_hear(&self) -> bool {
        self.models.borrow().ears.is_some()
    }

    /// Whether questions can be answered.
    pub fn can_answer(&self) -> bool {
        let models = self.models.borrow();
        models.language.is_some() && models.embedder.is_some()
    }

    /// The picture of the conversation, if there is one.
    pub fn scene(&self) -> Option<Rc<Scene>> {
        self.talk.borrow().scene.clone()
    }

    /// The sound of the conversation, if there is one.
    pub fn heard(&self) -> Option<Rc<Heard>> {
        self.talk.borrow().heard.clone()
    }

    /// Looks at a picture, which becomes that of the conversation; what was said about another one is forgotten.
    ///
    /// # Errors
    /// [`Error::Input`] while the networks for pictures are not loaded; [`Error::Cancelled`]; those of the engine. The
    /// picture that was there then stays.
    pub async fn add_image(&self, image: &RgbImage, host: &dyn Host, events: Sink<'_>) -> Result<Rc<Scene>> {
        let (tagger, detector, segmenter) = {
            let models = self.models.borrow();
            match (&models.tagger, &models.detector, &models.segmenter) {
                (Some(tagger), Some(detector), Some(segmenter)) => {
                    (Rc::clone(tagger), Rc::clone(detector), Rc::clone(segmenter))
                }
                _ => return Err(not_loaded("pictures")),
            }
        };
        let eyes = Eyes { tagger: &*tagger, detector: &*detector, segmenter: &*segmenter };
        events(Event::Stage { stage: Stage::Detect, done: 0, total: 1 });
        let found = eyes.find_boxes(image, host).await?;
        events(Event::Stage { stage: Stage::Detect, done: 1, total: 1 });
        events(Event::Things { things: shown_boxes(&found), r#final: false });
        let total = found.len();
        events(Event::Stage { stage: Stage::Segment, done: 0, total });
        let things = eyes.outline(image, found, host).await?;
        events(Event::Stage { stage: Stage::Segment, done: total, total });
        let scene = Rc::new(Scene { width: image.width(), height: image.height(), things });
        events(Event::Things { things: scene.shown(), r#final: true });
        let mut talk = self.talk.borrow_mut();
        talk.scene = Some(Rc::clone(&scene));
        talk.threads.retain(|(topic, _)| *topic == Topic::Sound);
        Ok(scene)
    }

    /// Listens to a sound, which becomes that of the conversation; what was said about another one is forgotten.
    ///
    /// # Errors
    /// As for [`add_image`](Self::add_image).
    pub async fn add_audio(&self, sound: &Waveform, host: &dyn Host, events: Sink<'_>) -> Result<Rc<Heard>> {
        let ears = self.models.borrow().ears.clone().ok_or_else(|| not_loaded("sounds"))?;
        events(Event::Stage { stage: Stage::Listen, done: 0, total: 1 });
        let listened = ears.listen(sound, host).await?;
        let tags = ears.tags(&listened, sound, LEAST_SOUND_SCORE, MOST_SOUND_TAGS);
        events(Event::Stage { stage: Stage::Listen, done: 1, total: 1 });
        let heard = Rc::new(Heard { tags });
        events(Event::Sounds { sounds: heard.shown() });
        let mut talk = self.talk.borrow_mut();
        talk.heard = Some(Rc::clone(&heard));
        talk.threads.retain(|(topic, _)| *topic == Topic::Picture);
        Ok(heard)
    }

    /// What is seen and heard, without an answer.
    pub fn look(&self) -> Export {
        let (scene, heard) = (self.scene(), self.heard());
        Export {
            answer: String::new(),
            entities: Vec::new(),
            things: scene.as_ref().map_or_else(Vec::new, |scene| scene.exported()),
            sounds: heard.as_ref().map_or_else(Vec::new, |heard| heard.exported()),
            stats: serde_json::Map::new(),
        }
    }

    /// Forgets picture, sound and everything that was said.
    pub fn clear(&self) {
        *self.talk.borrow_mut() = Talk::default();
    }

    /// Takes the picture out of the conversation.
    pub fn remove_image(&self) {
        let mut talk = self.talk.borrow_mut();
        talk.scene = None;
        talk.threads.retain(|(topic, _)| *topic == Topic::Sound);
    }

    /// Takes the sound out of the conversation.
    pub fn remove_audio(&self) {
        let mut talk = self.talk.borrow_mut();
        talk.heard = None;
        talk.threads.retain(|(topic, _)| *topic == Topic::Picture);
    }

    /// Answers a question about what is there; without picture and sound it just talks.
    ///
    /// A stop is no error here: the answer so far comes back, with `cancelled` in its statistics.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty or too long question, for options out of range, and while the language model is
    /// not loaded; those of the engine. The conversation can go on.
    pub async fn ask(&self, question: &str, options: &AskOptions, host: &dyn Host, events: Sink<'_>) -> Result<Export> {
        let question = question.trim();
        if question.is_empty() {
            return Err(Error::Input("the question is empty; type what you want to know".into()));
        }
        let (language, embedder) = {
            let models = self.models.borrow();
            match (&models.language, &models.embedder) {
                (Some(language), Some(embedder)) => (Rc::clone(language), Rc::clone(embedder)),
                _ => return Err(not_loaded("questions")),
            }
        };
        let started = host.now_ms();
        let (scene, heard) = (self.scene(), self.heard());
        let mut draft = Draft::default();
        let turn = Turn { session: self, language: &language, embedder: &embedder, options, host, events };
        turn.answer(question, scene.as_deref(), heard.as_deref(), &mut draft).await?;
        let entities = turn.entities(&draft.text, scene.as_deref(), &mut draft.cancelled).await?;
        for entity in &entities {
            events(Event::Entity(entity.clone()));
        }
        let stats = draft.statistics(host.now_ms() - started);
        let export = Export { answer: draft.text, entities, stats, ..self.look() };
        events(Event::Done { answer: Box::new(export.clone()) });
        Ok(export)
    }

    /// Takes the thread out, so that no borrow is held while it is at work; a new one if there is none.
    fn take_thread(&self, topic: Topic, language: &Rc<LanguageModel>) -> Chat {
        let mut talk = self.talk.borrow_mut();
        match talk.threads.iter().position(|(known, _)| *known == topic) {
            Some(place) => talk.threads.swap_remove(place).1,
            None => {
                let mut chat = Chat::new(Rc::clone(language));
                if topic != Topic::Everything || talk.scene.is_some() || talk.heard.is_some() {
                    chat.set_system(SYSTEM);
                }
                chat
            }
        }
    }
}

fn load_ears(part: &LoadedPart<Weights>) -> Result<Yamnet> {
    check_model(part, "yamnet")?;
    Yamnet::load(&part.config()?, &part.weights, &part.json_file::<Vec<String>>("audioset_labels.json")?)
}

fn load_embedder(part: &LoadedPart<Weights>) -> Result<Embedder> {
    check_model(part, "minilm")?;
    Embedder::load(&part.config()?, &part.weights, part.file("minilm_tokenizer.json")?)
}

fn load_language(part: &LoadedPart<Weights>) -> Result<LanguageModel> {
    check_model(part, "llama")?;
    LanguageModel::load(&part.config, &part.weights, part.file("tokenizer.json")?)
}

fn check_model(part: &LoadedPart<Weights>, known: &str) -> Result<()> {
    if part.model == known {
        return Ok(());
    }
    Err(Error::Unsupported(format!("a model {:?} here; known is {known}", part.model)))
}

/// The error while parts are on their way.
fn not_loaded(what: &str) -> Error {
    Error::Input(format!("the model for {what} is not loaded yet; wait until it is, or load a bundle that has one"))
}

impl Draft {
    fn statistics(&self, total_ms: f64) -> serde_json::Map<String, serde_json::Value> {
        let mut stats = self.stats.clone();
        let rounded = |ms: f64| serde_json::json!((ms * 10.0).round() / 10.0);
        let rate = |tokens: usize, ms: f64| rounded(if ms > 0.0 { tokens as f64 * 1000.0 / ms } else { 0.0 });
        stats.insert("prefill_tokens".into(), self.prefill_tokens.into());
        stats.insert("prefill_ms".into(), rounded(self.prefill_ms));
        stats.insert("decode_tokens".into(), self.decode_tokens.into());
        stats.insert("decode_ms".into(), rounded(self.decode_ms));
        stats.insert("decode_tokens_per_second".into(), rate(self.decode_tokens, self.decode_ms));
        stats.insert("total_ms".into(), rounded(total_ms));
        stats.insert("cancelled".into(), self.cancelled.into());
        stats
    }

    fn add(&mut self, generation: &Generation) {
        let statistics = &generation.statistics;
        self.prefill_tokens += statistics.prefill_tokens;
        self.prefill_ms += statistics.prefill_ms;
        self.decode_tokens += statistics.decode_tokens;
        self.decode_ms += statistics.decode_ms;
        self.cancelled |= generation.stop_reason == StopReason::Cancelled;
    }
}

/// What is known of the picture or the sound, in words.
struct Facts {
    /// `a dog on the left and two people`
    said: String,
    /// As the language model reads it, a line of its own.
    line: String,
    /// What a complete description has to name.
    nouns: Vec<String>,
}

impl Facts {
    fn of_scene(scene: &Scene) -> Option<Self> {
        let said = scene.facts()?;
        let line = format!("In the picture: {said}.\n");
        Some(Self { said, line, nouns: scene.things.iter().map(|thing| thing.tag.clone()).collect() })
    }

    fn of_sound(heard: &Heard) -> Option<Self> {
        let said = heard.facts()?;
        let line = format!("In the sound: {said}.\n");
        Some(Self { said, line, nouns: heard.names().into_iter().map(|names| names.tag).collect() })
    }
}

/// What the language model is asked to say.
struct Speech<'a> {
    question: &'a str,
    /// How the answer starts.
    opening: &'a str,
    /// Once these are named, a clause that begins with a comma ends the answer instead: all that is known has been said,
    /// and what a small model would add is made up.
    complete: Option<&'a [String]>,
}

impl<'a> Speech<'a> {
    fn new(question: &'a str) -> Self {
        Self { question, opening: "", complete: None }
    }

    fn is_complete(&self, said: &str) -> bool {
        let said = said.to_lowercase();
        let named = |noun: &String| {
            let last = noun.rsplit(' ').next().unwrap_or(noun).to_lowercase();
            said.contains(&last) || said.contains(&facts::plural(&last))
        };
        self.complete.is_some_and(|nouns| nouns.iter().all(named))
    }
}

/// One question's surroundings.
struct Turn<'a> {
    session: &'a Session,
    language: &'a Rc<LanguageModel>,
    embedder: &'a Embedder,
    options: &'a AskOptions,
    host: &'a dyn Host,
    events: Sink<'a>,
}

impl Turn<'_> {
    async fn answer(
        &self,
        question: &str,
        scene: Option<&Scene>,
        heard: Option<&Heard>,
        draft: &mut Draft,
    ) -> Result<()> {
        let kind = if scene.is_some() || heard.is_some() { Question::parse(question) } else { Question::Open };
        let matcher = Matcher { embedder: Some(self.embedder), vote: None };
        if self.options.evidence
            && let Some((evidence, text)) = evidence::answer(&kind, scene, heard, &matcher).await?
        {
            self.say_evidence(evidence, &text, draft);
            return Ok(());
        }
        let picture = scene.and_then(Facts::of_scene);
        let sound = heard.and_then(Facts::of_sound);
        match kind {
            Question::Describe { picture: see, sound: hear } => {
                // Whatever was not given cannot be meant.
                let see = scene.is_some() && (see || heard.is_none());
                let hear = heard.is_some() && (hear || !see);
                if see {
                    self.describe(Topic::Picture, picture, draft).await?;
                }
                if hear && !draft.cancelled {
                    self.describe(Topic::Sound, sound, draft).await?;
                }
                if let (true, true, Some(scene), Some(heard)) = (see && hear, self.options.evidence, scene, heard)
                    && !draft.cancelled
                {
                    let text = evidence::relation(scene, heard, &matcher).await?;
                    self.say_evidence(Evidence::Relation, &text, draft);
                }
                Ok(())
            }
            Question::SoundSource if sound.is_some() => {
                let line = sound.map(|facts| facts.line);
                self.speak(Topic::Sound, line.as_deref(), Speech::new(question), draft).await
            }
            _ => {
                let lines: String = [picture, sound].into_iter().flatten().map(|facts| facts.line).collect();
                self.speak(Topic::Everything, Some(&lines), Speech::new(question), draft).await
            }
        }
    }

    /// Lets the model say the facts of one modality; without facts there is nothing that it could say.
    async fn describe(&self, topic: Topic, facts: Option<Facts>, draft: &mut Draft) -> Result<()> {
        let (request, opening, nothing) = match topic {
            Topic::Sound => ("What is the sound?", "The sound is", "I hear nothing that I know."),
            _ => ("Describe the picture.", "The picture shows", "I see nothing in the picture that I know."),
        };
        let Some(facts) = facts else {
            self.say(nothing, draft);
            return Ok(());
        };
        // With the article or number in its mouth the model gets it right.
        let opening = format!("{opening} {}", facts.said.split(' ').next().unwrap_or_default());
        let speech = Speech { question: request, opening: opening.trim_end(), complete: Some(&facts.nouns) };
        self.speak(topic, Some(&facts.line), speech, draft).await
    }

    /// Asks the language model in a thread of the conversation. The facts stand before the thread's first question.
    async fn speak(&self, topic: Topic, facts: Option<&str>, speech: Speech<'_>, draft: &mut Draft) -> Result<()> {
        let mut chat = self.session.take_thread(topic, self.language);
        let first = !chat.messages().iter().any(|message| message.role == language::Role::User);
        let facts = facts.filter(|_| first).unwrap_or_default();
        chat.ask(format!("{facts}{}", speech.question));
        let generated = self.generate(&mut chat, &speech, draft).await;
        match &generated {
            Ok(generation) => draft.add(generation),
            // The question is taken back, so that the next one does not join it.
            Err(_) => chat.withdraw(),
        }
        if draft.cancelled {
            chat.withdraw();
        }
        self.session.talk.borrow_mut().threads.push((topic, chat));
        generated.map(|_| ())
    }

    async fn generate(&self, chat: &mut Chat, speech: &Speech<'_>, draft: &mut Draft) -> Result<Generation> {
        let options = self.generation_options(chat, speech.opening)?;
        let gap = if draft.text.is_empty() { "" } else { " " };
        let (events, text) = (self.events, &mut draft.text);
        let start = text.len();
        let mut complete = false;
        let mut generation = chat
            .generate(self.host, &options, async |event| {
                let more = match event {
                    language::Event::Prefill { done, total } => {
                        events(Event::Stage { stage: Stage::Read, done, total });
                        return Ok(());
                    }
                    language::Event::Text(more) => more,
                };
                complete = more.starts_with([',', ';']) && speech.is_complete(&text[start..]);
                let more = if complete { "." } else { more };
                let more = if text.len() == start { format!("{gap}{more}") } else { more.to_owned() };
                text.push_str(&more);
                events(Event::Token { text: more });
                if complete { Err(Error::Cancelled) } else { Ok(()) }
            })
            .await?;
        if complete {
            generation.stop_reason = StopReason::Stop;
            generation.text = text[start..].trim_start().to_owned();
            chat.replace_answer(&generation.text);
        }
        Ok(generation)
    }

    fn generation_options(&self, chat: &Chat, opening: &str) -> Result<GenerationOptions> {
        let AskOptions { max_tokens, temperature, top_p, top_k, repetition_penalty, seed, .. } = *self.options;
        if max_tokens == 0 || !(0.0..=10.0).contains(&temperature) {
            return Err(Error::Input("max_tokens must be at least 1 and temperature between 0 and 10".into()));
        }
        let mut options = chat.default_options();
        options.max_new_tokens = max_tokens;
        options.opening = opening.to_owned();
        options.sampling.temperature = temperature;
        options.sampling.top_p = top_p.unwrap_or(options.sampling.top_p);
        options.sampling.top_k = top_k.unwrap_or(options.sampling.top_k);
        options.sampling.repetition_penalty = repetition_penalty;
        options.sampling.seed = seed;
        Ok(options)
    }

    fn say_evidence(&self, evidence: Evidence, text: &str, draft: &mut Draft) {
        (self.events)(Event::Evidence { evidence });
        let computed = draft.stats.entry("evidence").or_insert_with(|| serde_json::json!([]));
        if let Some(list) = computed.as_array_mut() {
            list.push(serde_json::json!(evidence));
        }
        self.say(text, draft);
    }

    fn say(&self, text: &str, draft: &mut Draft) {
        let text = if draft.text.is_empty() { text.to_owned() } else { format!(" {text}") };
        draft.text.push_str(&text);
        (self.events)(Event::Token { text });
    }

    async fn entities(&self, answer: &str, scene: Option<&Scene>, cancelled: &mut bool) -> Result<Vec<Entity>> {
        let Some(scene) = scene else { return Ok(Vec::new()) };
        (self.events)(Event::Stage { stage: Stage::Match, done: 0, total: 1 });
        let voter = Voter { chat: Chat::new(Rc::clone(self.language)), host: self.host };
        let matcher = Matcher { embedder: Some(self.embedder), vote: Some(&voter) };
        let matched = match matcher.entities(answer, &scene.names()).await {
            // After a stop the phrases are still coloured as far as that takes no vote.
            Err(Error::Cancelled) => {
                *cancelled = true;
                Matcher { embedder: Some(self.embedder), vote: None }.entities(answer, &scene.names()).await
            }
            other => other,
        };
        (self.events)(Event::Stage { stage: Stage::Match, done: 1, total: 1 });
        matched
    }
}
