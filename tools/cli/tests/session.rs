//! The whole job on real input: real networks, photographs and sounds, native CPU engine.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use async_trait::async_trait;
use bubo::Error;
use bubo::grounding::matcher::MatchMode;
use bubo::host::Host;
use bubo::media::{RgbImage, Waveform, decode};
use bubo::session::{AskOptions, Event, Session};
use bubo::tensor::Device;
use bubo_cli::golden::parts_folder;
use bubo_cli::run::open_session;

/// Lets so many moments pass, then asks to stop.
struct Patience {
    moments: Cell<usize>,
}

impl Patience {
    fn endless() -> Self {
        Self::of(usize::MAX)
    }

    fn of(moments: usize) -> Self {
        Self { moments: Cell::new(moments) }
    }
}

#[async_trait(?Send)]
impl Host for Patience {
    async fn breathe(&self) -> bubo::Result<()> {
        match self.moments.get().checked_sub(1) {
            Some(left) => self.moments.set(left),
            None => return Err(Error::Cancelled),
        }
        Ok(())
    }

    async fn sleep_ms(&self, _duration_ms: u32) -> bubo::Result<()> {
        self.breathe().await
    }

    fn now_ms(&self) -> f64 {
        0.0
    }
}

fn session() -> Session {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../bundles/bubo-mini");
    let bundle = std::env::var_os("BUBO_BUNDLE").map_or(folder, PathBuf::from);
    pollster::block_on(open_session(&bundle, Device::Cpu)).expect("`cargo xtask bundle` builds it")
}

fn picture(file: &str) -> RgbImage {
    let bytes = std::fs::read(parts_folder().join(file)).expect("`cargo xtask parts` fetches it");
    decode::decode_image(&bytes).expect("it is a picture")
}

fn sound(file: &str) -> Waveform {
    let bytes = std::fs::read(parts_folder().join(file)).expect("`cargo xtask parts` fetches it");
    decode::decode_sound(bytes, Some(file)).expect("it is a sound")
}

fn ask(session: &Session, question: &str, host: &Patience) -> bubo::Result<bubo::canvas::Export> {
    pollster::block_on(session.ask(question, &AskOptions::default(), host, &|_| {}))
}

#[test]
fn a_picture_and_a_sound_are_described_and_grounded() {
    let (session, host) = (session(), Patience::endless());
    let events: RefCell<Vec<serde_json::Value>> = RefCell::default();
    let tell = |event: Event| events.borrow_mut().push(serde_json::to_value(event).expect("plain data"));
    pollster::block_on(async {
        session.add_image(&picture("farm/dog.webp"), &host, &tell).await?;
        session.add_audio(&sound("farm/dog.ogg"), &host, &tell).await
    })
    .expect("both are understood");
    let question = "Describe what you see and hear.";
    let answer = pollster::block_on(session.ask(question, &AskOptions::default(), &host, &tell)).expect("an answer");

    let characters: Vec<char> = answer.answer.chars().collect();
    let dog = answer.things.iter().position(|thing| thing.tag == "dog").expect("the dog is found");
    let entity = answer.entities.iter().find(|entity| entity.things.contains(&dog)).expect("the dog is named");
    let phrase: String = characters[entity.start..entity.end].iter().collect();
    assert_eq!(phrase, entity.phrase);
    assert!(answer.answer.to_lowercase().contains("dog"), "{}", answer.answer);
    assert!(answer.answer.contains("belong together"), "{}", answer.answer);

    // The dog's mask fills a good part of its box and nothing outside of it.
    let mask = answer.things[dog].mask.decode().expect("a mask");
    let box_px = answer.things[dog].box_px;
    let share = mask.area_px() as f32 / box_px.area();
    assert!((0.2..1.0).contains(&share), "the mask fills {share} of its box");

    let events = events.take();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let at = |kind: &str| kinds.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("no {kind} event"));
    assert!(at("things") < at("sounds") && at("sounds") < at("token") && at("token") < at("entity"));
    assert_eq!(kinds.last(), Some(&"done"));
    let streamed: String = events.iter().filter(|e| e["type"] == "token").filter_map(|e| e["text"].as_str()).collect();
    assert_eq!(streamed, answer.answer);

    let unrelated = {
        pollster::block_on(session.add_audio(&sound("everyday/rain.ogg"), &host, &tell)).expect("rain");
        ask(&session, "Do the picture and the sound belong together?", &host).expect("an answer")
    };
    assert!(unrelated.answer.contains("unrelated"), "{}", unrelated.answer);
    assert_eq!(unrelated.stats["evidence"], serde_json::json!(["relation"]));
    let follow_up = ask(&session, "What animal is it?", &host).expect("an answer");
    assert!(follow_up.answer.starts_with("It is a dog"), "{}", follow_up.answer);
    assert!(follow_up.answer.contains("I hear rain"), "{}", follow_up.answer);
}

/// The language model pairs phrases and things; what it says of one answer is read again for the next.
#[test]
fn phrases_are_tied_by_the_language_model_too() {
    let (session, host) = (session(), Patience::endless());
    pollster::block_on(session.add_image(&picture("farm/dog.webp"), &host, &|_| {})).expect("it is understood");
    for matching in [MatchMode::Model, MatchMode::Both] {
        let options = AskOptions { matching, ..AskOptions::default() };
        let answer = pollster::block_on(session.ask("Describe the picture.", &options, &host, &|_| {}));
        let answer = answer.expect("an answer");
        let characters: Vec<char> = answer.answer.chars().collect();
        assert!(!answer.entities.is_empty(), "{matching:?}: {}", answer.answer);
        for entity in &answer.entities {
            assert_eq!(entity.phrase, characters[entity.start..entity.end].iter().collect::<String>());
            assert!(entity.things.iter().all(|thing| *thing < answer.things.len()), "{entity:?}");
        }
    }
}

#[test]
fn evidence_knows_what_is_there() {
    let (session, host) = (session(), Patience::endless());
    pollster::block_on(session.add_image(&picture("farm/horse.webp"), &host, &|_| {})).expect("horses");
    let cases = [
        ("Is there a horse in the picture?", "Yes"),
        ("Are there any horses?", "Yes"),
        ("Is there a piano?", "No"),
        ("Where is the piano?", "I see no piano"),
        ("How many giraffes are there?", "I see no giraffe"),
        ("What is it?", "These are four horses"),
        ("What animal is it?", "These are four horses"),
        ("What colour are the horses?", "The horses are mostly"),
    ];
    for (question, start) in cases {
        let answer = ask(&session, question, &host).expect("an answer").answer;
        assert!(answer.starts_with(start), "{question}: {answer}");
    }
}

#[test]
fn stopping_anywhere_leaves_the_session_usable() {
    let (session, endless) = (session(), Patience::endless());
    let image = picture("farm/dog.webp");
    let stopped = pollster::block_on(session.add_image(&image, &Patience::of(1), &|_| {}));
    assert!(matches!(stopped, Err(Error::Cancelled)), "{:?}", stopped.err());
    assert!(session.scene().is_none());
    pollster::block_on(session.add_image(&image, &endless, &|_| {})).expect("the second try is not stopped");
    for moments in [0, 1, 4, 9] {
        match ask(&session, "Write a short story about it.", &Patience::of(moments)) {
            Ok(answer) => {
                let (text, stats) = (&answer.answer, &answer.stats);
                assert_eq!(stats["cancelled"], true, "after {moments} moments: {text:?} {stats:?}");
            }
            Err(error) => assert!(matches!(error, Error::Cancelled), "{error}"),
        }
    }
    let answer = ask(&session, "Describe the picture.", &endless).expect("it goes on");
    let said = answer.answer.to_lowercase();
    assert!(said.contains("dog") || said.contains("german shepherd"), "{said}");
    assert_eq!(answer.stats["cancelled"], false);
}

#[test]
fn what_cannot_be_used_is_refused_in_words() {
    let (session, host) = (session(), Patience::endless());
    let empty = ask(&session, " \n ", &host).expect_err("an empty question");
    assert_eq!(empty.code(), "input");
    let long = ask(&session, &"why ".repeat(5000), &host).expect_err("a question longer than the context");
    assert_eq!(long.code(), "input", "{long}");
    let options = AskOptions { max_tokens: 0, ..AskOptions::default() };
    let none = pollster::block_on(session.ask("Hello?", &options, &host, &|_| {})).expect_err("no tokens allowed");
    assert_eq!(none.code(), "input");
    let dot = RgbImage::new(1, 1, vec![128, 128, 128]).expect("a picture of one pixel");
    pollster::block_on(session.add_image(&dot, &host, &|_| {})).expect("one pixel is a picture");
    let answer = ask(&session, "Hello?", &host).expect("the session goes on");
    assert!(!answer.answer.is_empty());
}
