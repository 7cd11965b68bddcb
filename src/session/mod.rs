//! The conductor: which stage comes next, what is remembered, what is told, and how everything can be stopped.
//!
//! A [`Session`] serves the page, the command line and the tests alike. Its methods take `&self`, so that a picture can
//! be looked at while the language model is still on its way; what they tell goes to an [`Event`] sink.

mod event;
pub mod evidence;
pub mod facts;
pub mod joining;
mod models;
mod question;
mod scene;
pub mod stages;
mod teaching;
mod turn;
mod voter;

use std::cell::RefCell;
use std::rc::Rc;

pub use event::{Event, Evidence, LoadProgress, Stage};
pub use question::Question;
pub use scene::{Heard, Scene, ShownSound, ShownThing, TaughtTag, shown_boxes};
pub use teaching::{Subject, TaughtList, Teaching};

use crate::bundle::Loader;
use crate::canvas::Export;
use crate::error::{Context, Error, Result};
use crate::grounding::matcher::MatchMode;
use crate::grounding::taught::Taught;
use crate::grounding::{Found, Thing};
use crate::host::Host;
use crate::language::{Chat, GenerationOptions, LanguageModel};
use crate::media::{RgbImage, Waveform};
use crate::nn::WeightSink;
use crate::tensor::Device;
use joining::Embedded;
use models::Models;
use teaching::Studied;
use turn::{Draft, Turn};

/// What the language model is told before everything else where there is a picture or a sound.
pub const SYSTEM: &str =
    "You answer questions about a picture and a sound in one short sentence, using only the facts given.";

/// Confidence below which a sound's tag is not kept.
const LEAST_SOUND_SCORE: f32 = 0.2;
/// Spans of tags of a sound that are kept at the most; of which labels they are shown, [`scene`] decides.
const MOST_SOUND_TAGS: usize = 24;

/// Takes events as they happen.
pub type Sink<'a> = &'a dyn Fn(Event);

/// How a question is answered.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskOptions {
    /// Longest answer of the language model, in tokens.
    pub max_tokens: usize,
    /// Answers that grow side by side, 1 to 16, of which the likeliest is taken. With more than 1 nothing streams.
    pub num_beams: usize,
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
    /// Which way the answer's phrases are tied to the things of the picture.
    pub matching: MatchMode,
    /// Whether what was recognised is told to the language model in words. Off, to see what embeddings alone can do.
    pub facts: bool,
    /// Whether pictures and sounds reach the language model as embeddings, where the bundle has joiners or Q-Formers.
    pub embeddings: bool,
}

impl Default for AskOptions {
    fn default() -> Self {
        Self {
            max_tokens: 96,
            num_beams: 1,
            temperature: 0.0,
            top_p: None,
            top_k: None,
            repetition_penalty: 1.0,
            seed: 0,
            evidence: true,
            matching: MatchMode::Lexicon,
            facts: true,
            embeddings: true,
        }
    }
}

impl AskOptions {
    /// As the original's demo asks: answers are drawn, up to 300 tokens long, and their phrases are tied as the language
    /// model says. What the paper's system is shown has settings of its own, see `bubo convert --original`.
    ///
    /// Source: bubogpt @ 17c72b5, eval_scripts/conversation.py, `Chat.answer`.
    pub fn original() -> Self {
        let GenerationOptions { sampling, max_new_tokens, .. } = GenerationOptions::original();
        Self {
            max_tokens: max_new_tokens,
            temperature: sampling.temperature,
            top_p: Some(sampling.top_p),
            top_k: Some(sampling.top_k),
            repetition_penalty: sampling.repetition_penalty,
            matching: MatchMode::Original,
            evidence: false,
            facts: false,
            ..Self::default()
        }
    }
}

/// What was shown and said. A conversation has one thread a topic, since facts about the picture leak into what a small
/// model says about the sound.
#[derive(Default)]
struct Talk {
    scene: Option<Rc<Scene>>,
    /// What the scene was before anything taught was recognised in it.
    studied: Option<Rc<Studied>>,
    heard: Option<Rc<Heard>>,
    threads: Vec<(Topic, Chat)>,
    /// Remembers what the language model reads before it pairs phrases and things, see [`MatchMode`].
    pairing: Option<Chat>,
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
    taught: RefCell<Taught>,
}

impl Session {
    /// A session without networks, whose tensors will live on `device`.
    pub fn new(device: Device) -> Self {
        Self { device, models: RefCell::default(), talk: RefCell::default(), taught: RefCell::default() }
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
        self.set_encoders(loader.manifest());
        let parts: Vec<String> = loader.manifest().parts.iter().map(|part| part.name.clone()).collect();
        for part in parts {
            let loaded = loader.load_part(&part, &mut |progress| events(Event::Load(progress.into()))).await?;
            self.models.borrow_mut().install(&part, &loaded).context(part.clone())?;
            events(Event::Part { part });
        }
        events(Event::Ready);
        Ok(())
    }

    /// Whether pictures can be looked at.
    pub fn can_see(&self) -> bool {
        let models = self.models.borrow();
        models.tagger.is_some() && models.detector.is_some() && models.segmenter.is_some()
    }

    /// Whether sounds can be listened to.
    pub fn can_hear(&self) -> bool {
        self.models.borrow().audio_encoder.is_some()
    }

    /// Whether questions can be answered.
    pub fn can_answer(&self) -> bool {
        let models = self.models.borrow();
        models.language.is_some()
    }

    /// Whether the language model can be shown pictures or sounds as embeddings, beside being told about them in words.
    pub fn has_embeddings(&self) -> bool {
        let models = self.models.borrow();
        models.image_joiner.is_some() || models.audio_joiner.is_some() || models.reads_embeddings()
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
        let (joiner, encoder, qformer) = {
            let models = self.models.borrow();
            (models.image_joiner.clone(), models.image_encoder.clone(), models.image_qformer.clone())
        };
        let eyes = self.models.borrow().eyes()?;
        events(Event::Stage { stage: Stage::Detect, done: 0, total: 1 });
        let (detections, tags) = eyes.look(image, host).await?;
        let studied = Studied::new(image, eyes.put_together(detections, tags.clone()));
        let found = self.named(&studied, &*eyes.tagger, host).await?;
        events(Event::Stage { stage: Stage::Detect, done: 1, total: 1 });
        events(Event::Things { things: shown_boxes(&found), r#final: false });
        let total = found.len();
        events(Event::Stage { stage: Stage::Segment, done: 0, total });
        let things = studied.outlined(found, &eyes, host).await?;
        // Not what the outlines showed to be there only once.
        let hinted: Vec<Found> = things.iter().map(Thing::found).collect();
        events(Event::Stage { stage: Stage::Segment, done: total, total });
        let mut scene = Scene::new(image, things);
        scene.guesses = tags;
        host.breathe().await?;
        scene.embeddings = match (joiner, encoder, qformer) {
            (_, Some(encoder), Some(qformer)) => Some(Embedded::Ready(qformer.forward(&encoder.encode(image)?)?)),
            (Some(joiner), ..) => joining::picture(joiner, &*eyes.tagger, image, &hinted).await?,
            _ => None,
        };
        let scene = Rc::new(scene);
        events(Event::Things { things: scene.shown(), r#final: true });
        let mut talk = self.talk.borrow_mut();
        talk.scene = Some(Rc::clone(&scene));
        talk.studied = Some(Rc::new(studied));
        talk.threads.retain(|(topic, _)| *topic == Topic::Sound);
        Ok(scene)
    }

    /// Listens to a sound, which becomes that of the conversation; what was said about another one is forgotten.
    ///
    /// # Errors
    /// As for [`add_image`](Self::add_image).
    pub async fn add_audio(&self, sound: &Waveform, host: &dyn Host, events: Sink<'_>) -> Result<Rc<Heard>> {
        let (encoder, ears) = {
            let models = self.models.borrow();
            (models.audio_encoder.clone().ok_or_else(|| not_loaded("sounds"))?, models.ears.clone())
        };
        events(Event::Stage { stage: Stage::Listen, done: 0, total: 1 });
        let (joiner, qformer) = {
            let models = self.models.borrow();
            (models.audio_joiner.clone(), models.audio_qformer.clone())
        };
        let (tags, guesses, features, spans_s, embeddings) = match ears {
            Some(ears) => {
                let listened = ears.listen(sound, host).await?;
                let embeddings = joiner.map(|joiner| joining::sound(joiner, &listened, ears.labels())).transpose()?;
                let tags = ears.tags(&listened, sound, LEAST_SOUND_SCORE, MOST_SOUND_TAGS);
                let guesses = scene::sound_guesses(ears.labels(), &ears.means(&listened));
                let spans_s = listened.starts_s.iter().map(|start_s| [*start_s, start_s + listened.patch_s]).collect();
                (tags, guesses, listened.features, spans_s, embeddings)
            }
            None => {
                host.breathe().await?;
                let features = encoder.encode(sound)?;
                let embeddings = qformer.map(|qformer| qformer.forward(&features)).transpose()?.map(Embedded::Ready);
                (Vec::new(), Vec::new(), features, Vec::new(), embeddings)
            }
        };
        events(Event::Stage { stage: Stage::Listen, done: 1, total: 1 });
        let (taught, duration_s) = (Vec::new(), sound.duration_s() as f32);
        let mut heard = Heard { tags, guesses, taught, features, spans_s, duration_s, embeddings };
        heard.taught = self.heard_names(&heard).await?;
        let heard = Rc::new(heard);
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

    /// Forgets everything that was said; picture and sound stay.
    pub fn forget_words(&self) {
        self.talk.borrow_mut().threads.clear();
    }

    /// Takes the picture out of the conversation.
    pub fn remove_image(&self) {
        let mut talk = self.talk.borrow_mut();
        (talk.scene, talk.studied) = (None, None);
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
    /// A stop is no error here: the answer so far comes back, with `cancelled` in its statistics; the conversation does not
    /// remember it.
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
            let language = models.language.clone().ok_or_else(|| not_loaded("questions"))?;
            (language, models.embedder.clone())
        };
        let started = host.now_ms();
        let (scene, heard) = (self.scene(), self.heard());
        let mut draft = Draft::default();
        let turn = Turn { session: self, language: &language, embedder: embedder.as_deref(), options, host, events };
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
                let shown = topic != Topic::Everything || talk.scene.is_some() || talk.heard.is_some();
                if shown && !self.models.borrow().reads_embeddings() {
                    chat.set_system(SYSTEM);
                }
                chat
            }
        }
    }
}

/// The error while parts are on their way.
fn not_loaded(what: &str) -> Error {
    Error::Input(format!("the model for {what} is not loaded yet; wait until it is, or load a bundle that has one"))
}
