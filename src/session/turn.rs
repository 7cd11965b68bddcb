//! One question and its answer.

use std::rc::Rc;

use super::event::{Event, Evidence, Stage};
use super::joining::Embedded;
use super::question::Question;
use super::scene::{Heard, Scene};
use super::voter::Voter;
use super::{AskOptions, Session, Sink, Topic, evidence, facts};
use crate::error::{Error, Result};
use crate::grounding::matcher::{AskedModel, Embedder, Entity, Matcher};
use crate::host::Host;
use crate::language::{self, Chat, Generation, GenerationOptions, LanguageModel, ModalityKind, StopReason};

/// Examples that the language model reads before it pairs phrases and things: all of the original's kinds.
const PAIRING_EXAMPLES: usize = 6;

/// The answer as it grows.
#[derive(Default)]
pub(super) struct Draft {
    pub text: String,
    stats: serde_json::Map<String, serde_json::Value>,
    prefill_tokens: usize,
    decode_tokens: usize,
    prefill_ms: f64,
    decode_ms: f64,
    pub cancelled: bool,
}

impl Draft {
    pub fn statistics(&self, total_ms: f64) -> serde_json::Map<String, serde_json::Value> {
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
    /// Whether nothing of it is sure.
    unsure: bool,
}

impl Facts {
    fn of_scene(scene: &Scene) -> Option<Self> {
        let said = scene.facts()?;
        let line = format!("In the picture: {said}.\n");
        let nouns = scene.things.iter().map(|thing| thing.tag.clone()).collect();
        Some(Self { said, line, nouns, unsure: scene.is_unsure(0..scene.things.len()) })
    }

    fn of_sound(heard: &Heard) -> Option<Self> {
        let said = heard.facts()?;
        let line = format!("In the sound: {said}.\n");
        Some(Self { said, line, nouns: heard.names().into_iter().map(|names| names.tag).collect(), unsure: false })
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

/// A picture or a sound as embeddings.
type Shown<'a> = (ModalityKind, &'a Embedded);

/// Takes the question back, and what was shown with it if it was the first: the next one shows it again.
fn forget_question(chat: &mut Chat, first: bool) {
    chat.withdraw();
    if first {
        chat.clear_shown();
    }
}

/// One question's surroundings.
pub(super) struct Turn<'a> {
    pub session: &'a Session,
    pub language: &'a Rc<LanguageModel>,
    /// Bundles can do without: then only the word lists tie phrases to things.
    pub embedder: Option<&'a Embedder>,
    pub options: &'a AskOptions,
    pub host: &'a dyn Host,
    pub events: Sink<'a>,
}

impl Turn<'_> {
    /// Says the answer, as it comes, into `draft`.
    pub async fn answer(
        &self,
        question: &str,
        scene: Option<&Scene>,
        heard: Option<&Heard>,
        draft: &mut Draft,
    ) -> Result<()> {
        // BuboGPT's language model looks and listens by itself, and is asked as people ask it.
        let alone = self.session.models.borrow().reads_embeddings();
        let kind = match Question::parse_with(question, &self.session.taught_names()) {
            _ if alone || (scene.is_none() && heard.is_none()) => Question::Open,
            // With a picture and a sound, "what is it" means both.
            Question::Identity(None) if scene.is_some() && heard.is_some() => {
                Question::Describe { picture: true, sound: true }
            }
            kind => kind,
        };
        let matcher = Matcher { embedder: self.embedder, vote: None };
        if self.options.evidence
            && let Some((evidence, text)) = evidence::answer(&kind, scene, heard, &matcher).await?
        {
            self.say_evidence(evidence, &text, draft);
            return Ok(());
        }
        let told = self.options.facts && !alone;
        let picture = scene.filter(|_| told).and_then(Facts::of_scene);
        let sound = heard.filter(|_| told).and_then(Facts::of_sound);
        let seen: Vec<Shown<'_>> = self.shown(ModalityKind::Image, scene.and_then(|scene| scene.embeddings.as_ref()));
        let played: Vec<Shown<'_>> = self.shown(ModalityKind::Audio, heard.and_then(|heard| heard.embeddings.as_ref()));
        match kind {
            Question::Describe { picture: see, sound: hear } => {
                // Whatever was not given cannot be meant.
                let see = scene.is_some() && (see || heard.is_none());
                let hear = heard.is_some() && (hear || !see);
                if see {
                    self.describe(Topic::Picture, picture, &seen, draft).await?;
                }
                if hear && !draft.cancelled {
                    self.describe(Topic::Sound, sound, &played, draft).await?;
                }
                if let (true, true, Some(scene), Some(heard)) = (see && hear, self.options.evidence, scene, heard)
                    && !draft.cancelled
                {
                    let text = evidence::relation(scene, heard, &matcher).await?;
                    self.say_evidence(Evidence::Relation, &text, draft);
                }
                Ok(())
            }
            Question::SoundSource if sound.is_some() || !played.is_empty() => {
                let line = sound.map(|facts| facts.line);
                self.speak(Topic::Sound, line.as_deref(), &played, Speech::new(question), draft).await
            }
            _ => {
                let lines: String = [picture, sound].into_iter().flatten().map(|facts| facts.line).collect();
                let shown: Vec<Shown<'_>> = seen.into_iter().chain(played).collect();
                self.speak(Topic::Everything, Some(&lines), &shown, Speech::new(question), draft).await
            }
        }
    }

    /// What is shown to the model as embeddings, if that is wanted.
    fn shown<'b>(&self, kind: ModalityKind, embeddings: Option<&'b Embedded>) -> Vec<Shown<'b>> {
        embeddings.filter(|_| self.options.embeddings).map(|embeddings| (kind, embeddings)).into_iter().collect()
    }

    /// Lets the model say the facts of one modality; without facts there is nothing that it could say.
    async fn describe(&self, topic: Topic, facts: Option<Facts>, shown: &[Shown<'_>], draft: &mut Draft) -> Result<()> {
        let (request, opening, nothing) = match topic {
            Topic::Sound => ("What is the sound?", "The sound is", "I hear nothing that I know."),
            _ => ("Describe the picture.", "The picture shows", "I see nothing in the picture that I know."),
        };
        let Some(facts) = facts else {
            if shown.is_empty() || self.options.facts {
                self.say(nothing, draft);
                return Ok(());
            }
            let speech = Speech { question: request, opening, complete: None };
            return self.speak(topic, None, shown, speech, draft).await;
        };
        let opening = if facts.unsure { "The picture perhaps shows" } else { opening };
        // With the article or number in its mouth the model gets it right.
        let opening = format!("{opening} {}", facts.said.split(' ').next().unwrap_or_default());
        let speech = Speech { question: request, opening: opening.trim_end(), complete: Some(&facts.nouns) };
        self.speak(topic, Some(&facts.line), shown, speech, draft).await
    }

    /// Asks the language model in a thread of the conversation. The facts stand before the thread's first question.
    async fn speak(
        &self,
        topic: Topic,
        facts: Option<&str>,
        shown: &[Shown<'_>],
        speech: Speech<'_>,
        draft: &mut Draft,
    ) -> Result<()> {
        let mut chat = self.session.take_thread(topic, self.language);
        let first = !chat.messages().iter().any(|message| message.role == language::Role::User);
        let facts = facts.filter(|_| first).unwrap_or_default();
        for (kind, embeddings) in shown.iter().filter(|_| first) {
            chat.attach(*kind, &embeddings.tensor(self.language)?)?;
        }
        chat.ask(format!("{facts}{}", speech.question));
        let generated = self.generate(&mut chat, &speech, draft).await;
        match &generated {
            Ok(generation) => draft.add(generation),
            // The question is taken back, so that the next one does not join it.
            Err(_) => forget_question(&mut chat, first),
        }
        if draft.cancelled {
            // A fragment left in the conversation is what a small model says next.
            chat.withdraw_answer();
            forget_question(&mut chat, first);
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
        if !complete && text[start..].trim() != generation.text {
            // Of what streamed, the original's cleaning leaves less.
            text.truncate(start);
            text.extend([gap, &generation.text]);
        }
        if complete {
            generation.stop_reason = StopReason::Stop;
            generation.text = text[start..].trim_start().to_owned();
            chat.replace_answer(&generation.text);
        }
        Ok(generation)
    }

    fn generation_options(&self, chat: &Chat, opening: &str) -> Result<GenerationOptions> {
        let AskOptions { max_tokens, num_beams, temperature, top_p, top_k, repetition_penalty, seed, .. } =
            *self.options;
        if max_tokens == 0 || !(0.0..=10.0).contains(&temperature) {
            return Err(Error::Input("max_tokens must be at least 1 and temperature between 0 and 10".into()));
        }
        let mut options = chat.default_options();
        options.max_new_tokens = max_tokens;
        options.num_beams = num_beams;
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

    /// Ties the answer's phrases to the things of the picture.
    pub async fn entities(&self, answer: &str, scene: Option<&Scene>, cancelled: &mut bool) -> Result<Vec<Entity>> {
        let Some(scene) = scene else { return Ok(Vec::new()) };
        (self.events)(Event::Stage { stage: Stage::Match, done: 0, total: 1 });
        let voter = Voter { chat: Chat::new(Rc::clone(self.language)), host: self.host };
        let matcher = Matcher { embedder: self.embedder, vote: Some(&voter) };
        let chat = self.session.talk.borrow_mut().pairing.take().unwrap_or_else(|| Chat::new(Rc::clone(self.language)));
        let asked = AskedModel { chat: &chat, host: self.host, examples: PAIRING_EXAMPLES };
        let matched = match matcher.entities_by(self.options.matching, &asked, answer, &scene.names()).await {
            // After a stop the phrases are still coloured as far as that takes no vote.
            Err(Error::Cancelled) => {
                *cancelled = true;
                Matcher { embedder: self.embedder, vote: None }.entities(answer, &scene.names()).await
            }
            // An answer that is too long to be asked about.
            Err(Error::Input(_)) => matcher.entities(answer, &scene.names()).await,
            other => other,
        };
        self.session.talk.borrow_mut().pairing = Some(chat);
        (self.events)(Event::Stage { stage: Stage::Match, done: 1, total: 1 });
        matched
    }
}
