//! Teaching on real input: real networks, photographs and sounds, native CPU engine.

use std::path::PathBuf;

use bubo::media::{CropPx, Filter, RgbImage, Waveform, decode};
use bubo::session::{AskOptions, Session, Subject, Teaching};
use bubo::tensor::Device;
use bubo_cli::golden::parts_folder;
use bubo_cli::host::CommandLine;
use bubo_cli::run::open_session;
use pollster::block_on;

fn session() -> Session {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../bundles/bubo-mini");
    let bundle = std::env::var_os("BUBO_BUNDLE").map_or(folder, PathBuf::from);
    block_on(open_session(&bundle, Device::Cpu)).expect("`cargo xtask bundle` builds it")
}

fn picture(file: &str) -> RgbImage {
    let bytes = std::fs::read(parts_folder().join(file)).expect("`cargo xtask parts` fetches it");
    decode::decode_image(&bytes).expect("it is a picture")
}

fn sound(file: &str) -> Waveform {
    let bytes = std::fs::read(parts_folder().join(file)).expect("`cargo xtask parts` fetches it");
    decode::decode_sound(bytes, Some(file)).expect("it is a sound")
}

/// The right four fifths of a picture, smaller: another photograph of the same thing, as far as the networks know.
fn other_view(image: &RgbImage) -> RgbImage {
    let left = image.width() / 8;
    let part = CropPx { left, top: 0, width: image.width() - left, height: image.height() };
    image.resized(part, part.width * 3 / 4, part.height * 3 / 4, Filter::Bicubic).expect("a smaller picture")
}

fn look(session: &Session, image: &RgbImage) -> Vec<(String, bool)> {
    let scene = block_on(session.add_image(image, &CommandLine::default(), &|_| {})).expect("it is understood");
    scene.things.iter().map(|thing| (thing.tag.clone(), thing.taught)).collect()
}

fn teach(session: &Session, name: &str, kind: Option<&str>, subject: Subject) -> bubo::Result<()> {
    let teaching = Teaching { name: name.into(), kind: kind.map(Into::into), subject, counterexample: false };
    block_on(session.teach(&teaching, &CommandLine::default(), &|_| {})).map(|_| ())
}

fn answer(session: &Session, question: &str) -> bubo::canvas::Export {
    let host = CommandLine::default();
    block_on(session.ask(question, &AskOptions::default(), &host, &|_| {})).expect("an answer")
}

#[test]
fn a_taught_dog_is_known_by_name_and_others_are_not() {
    let session = session();
    let dog = picture("farm/dog.webp");
    let before = look(&session, &dog);
    let at = before.iter().position(|(tag, _)| tag == "dog").expect("the dog is found");
    teach(&session, "Rex", Some("dog"), Subject::Thing(at)).expect("an example");

    // The picture at hand is looked at again.
    let scene = session.scene().expect("a picture is there");
    let rex = scene.things.iter().position(|thing| thing.tag == "Rex").expect("he is known at once");
    assert!(scene.things[rex].taught && scene.things[rex].aliases.contains(&"dog".to_owned()));
    assert_eq!(scene.things.len(), before.len(), "he is no second thing");
    assert!(scene.things[rex].mask.area_px() > 500);

    assert!(look(&session, &other_view(&dog)).contains(&("Rex".into(), true)), "another view of him");
    for (question, start) in [
        ("Is Rex there?", "Yes, Rex is"),
        ("Is there a dog?", "Yes, Rex is"),
        ("Where is Rex?", "Rex is"),
        ("What is it?", "It is Rex, a dog."),
        ("What colour is Rex?", "Rex is mostly"),
        ("How many dogs are there?", "I see a dog in"),
    ] {
        let export = answer(&session, question);
        assert!(export.answer.starts_with(start), "{question}: {}", export.answer);
        let phrase = &export.entities[0];
        assert!(["Rex", "dog"].contains(&phrase.phrase.as_str()), "{question}: {phrase:?}");
        assert_eq!(export.things[phrase.things[0]].tag, "Rex");
    }
    let described = answer(&session, "Describe the picture.");
    assert!(described.entities.iter().any(|entity| entity.phrase == "Rex"), "{}", described.answer);
    let json = serde_json::to_value(&described).expect("plain data");
    assert!(json["things"].as_array().expect("things").iter().any(|thing| thing["taught"] == true));

    for other in ["farm/cat.webp", "farm/horse.webp", "farm/cow.webp", "photographs/astronaut.png", "world/panda.webp"]
    {
        let found = look(&session, &picture(other));
        assert!(!found.iter().any(|(tag, _)| tag == "Rex"), "{other}: {found:?}");
        let no = answer(&session, "Is Rex in the picture?");
        assert_eq!(no.answer, "No, I do not see Rex in the picture.", "{other}");
        assert!(no.entities.is_empty());
    }
}

#[test]
fn what_no_detector_knows_is_taught_by_a_box_and_found_by_itself() {
    let session = session();
    let coffee = picture("photographs/coffee.png");
    look(&session, &coffee);
    let (width, height) = (coffee.width() as f32, coffee.height() as f32);
    let part = [0.25 * width, 0.1 * height, 0.8 * width, 0.75 * height];
    teach(&session, "my cup", None, Subject::Box(part.into())).expect("an example");
    let found = look(&session, &other_view(&coffee));
    assert!(found.contains(&("my cup".into(), true)), "{found:?}");
    let export = answer(&session, "Where is my cup?");
    assert!(export.answer.starts_with("My cup is"), "{}", export.answer);
    assert_eq!(export.entities[0].phrase, "My cup");
    for other in ["farm/dog.webp", "photographs/chelsea.png"] {
        assert!(!look(&session, &picture(other)).iter().any(|(_, taught)| *taught), "{other}");
    }
}

#[test]
fn a_taught_sound_is_heard_along_time() {
    let session = session();
    let host = CommandLine::default();
    block_on(session.add_audio(&sound("farm/owl.ogg"), &host, &|_| {})).expect("it is heard");
    teach(&session, "our owl", Some("owl"), Subject::Sound).expect("an example");
    let heard = session.heard().expect("a sound is there");
    assert!(heard.shown().iter().any(|sound| sound.tag == "our owl" && sound.taught), "{:?}", heard.shown());
    assert_eq!(answer(&session, "What do you hear?").sounds.iter().filter(|sound| sound.taught).count().min(1), 1);
    let yes = answer(&session, "Do you hear our owl?");
    assert!(yes.answer.starts_with("Yes, I hear our owl"), "{}", yes.answer);
    for other in ["farm/dog.ogg", "farm/cow.ogg", "everyday/rain.ogg", "everyday/train.ogg"] {
        let heard = block_on(session.add_audio(&sound(other), &host, &|_| {})).expect("it is heard");
        assert!(!heard.shown().iter().any(|sound| sound.taught), "{other}: {:?}", heard.shown());
        assert_eq!(answer(&session, "Do you hear our owl?").answer, "No, I do not hear our owl.");
    }
}

#[test]
fn what_was_taught_moves_to_another_session_and_is_forgotten_by_name() {
    let (first, second) = (session(), session());
    let host = CommandLine::default();
    let dog = picture("farm/dog.webp");
    let at = look(&first, &dog).iter().position(|(tag, _)| tag == "dog").expect("the dog is found");
    teach(&first, "Rex", Some("dog"), Subject::Thing(at)).expect("an example");
    let json = first.export_taught(None).expect("a document");
    assert!(json.len() < 5000, "{} bytes", json.len());

    look(&second, &dog);
    let list = block_on(second.import_taught(json.as_bytes(), &host, &|_| {})).expect("the same encoder");
    assert_eq!((list.classes.len(), list.pictures, list.sounds), (1, true, true));
    assert!(second.scene().expect("a picture is there").things.iter().any(|thing| thing.tag == "Rex"));
    block_on(second.forget_taught(Some("rex"), &host, &|_| {})).expect("it was known");
    assert!(!second.scene().expect("a picture is there").things.iter().any(|thing| thing.taught));
    assert!(block_on(second.forget_taught(Some("rex"), &host, &|_| {})).is_err());

    let other = json.replacen("\"fingerprint\":\"", "\"fingerprint\":\"0", 1);
    let cut = other.find("\"fingerprint\":\"").expect("it is there") + 15 + 64;
    let other = format!("{}{}", &other[..cut], &other[cut + 1..]);
    let refused = block_on(second.import_taught(other.as_bytes(), &host, &|_| {})).expect_err("another encoder");
    assert_eq!(refused.code(), "unsupported", "{refused}");
    assert!(second.taught().classes.is_empty());
}

#[test]
fn what_cannot_be_taught_is_refused_in_words() {
    let session = session();
    let cases = [(Subject::Picture, "no picture"), (Subject::Sound, "no sound")];
    for (subject, reason) in cases {
        let error = teach(&session, "Rex", None, subject).expect_err("nothing is shown");
        assert!(error.code() == "input" && error.to_string().contains(reason), "{error}");
    }
    look(&session, &picture("farm/dog.webp"));
    let cases = [
        (Subject::Thing(99), "no thing 99"),
        (Subject::Box([10.0, 10.0, 12.0, 400.0].into()), "at least 8"),
        (Subject::Box([f32::NAN, 10.0, 100.0, 400.0].into()), "at least 8"),
        (Subject::Box([-500.0, -500.0, -10.0, -10.0].into()), "at least 8"),
    ];
    for (subject, reason) in cases {
        let error = teach(&session, "Rex", None, subject).expect_err("no such part");
        assert!(error.code() == "input" && error.to_string().contains(reason), "{subject:?}: {error}");
    }
    assert_eq!(teach(&session, "<b>", None, Subject::Picture).expect_err("markup").code(), "input");
    assert!(session.taught().classes.is_empty());
}
