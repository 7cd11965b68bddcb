//! What the language model is asked in training, and what it shall answer.

use bubo::language::ModalityKind;
use bubo::session::facts;

use crate::frozen::View;
use crate::random::Random;
use crate::slot_task::Sample;
use crate::slots::Said;
use crate::vocabulary::{Noun, Vocabulary};

/// The original's prompts for pairs that do not belong together, without the marks of what is shown, which stands before
/// them. Source: bubogpt @ 17c72b5, prompts/alignment_audio_image_neg.txt.
pub const NEGATIVE_PROMPTS: [&str; 5] = [
    "Please describe the image and audio respectively.",
    "What is the audio and the image?",
    "Please provide a detailed description of the sound and the image.",
    "Could you tell the contents of this audio and photo for me?",
    "Are the audio and image related to each other? What are they?",
];
/// What such an answer starts with: always where the prompt asks for it, else half of the time.
pub const UNRELATED: &str = "They seem unrelated. ";
/// The original's prompts for the source of a sound: prompts/alignment_audio_image_region.txt.
pub const SOURCE_PROMPTS: [&str; 3] = [
    "Please find the source that emits the given sound in this image.",
    "Pay attention to the given audio and image, and tell me where is the sound coming from in this picture.",
    "Which part of this scene is the source of the given sound?",
];
/// What such an answer starts with where picture and sound belong together and the prompt asks for it; the original has
/// no such answers, but who only ever hears that things are unrelated says nothing else.
pub const RELATED: &str = "They seem related. ";
/// Ways to ask for a description.
const DESCRIBE_PROMPTS: [&str; 5] = [
    "Describe the picture.",
    "What is in the picture?",
    "What do you see?",
    "Describe the image in a few words.",
    "What does the picture show?",
];
/// Ways to ask what a thing is.
const IDENTITY_PROMPTS: [&str; 3] =
    ["What is it?", "What is the main thing in it?", "What is the main object in the picture?"];
/// Ways to ask what is heard.
const HEAR_PROMPTS: [&str; 4] =
    ["What is the sound?", "What do you hear?", "Describe the sound.", "What can be heard?"];
/// Ways to ask what makes a sound.
const MAKER_PROMPTS: [&str; 2] = ["What is making this sound?", "Who or what makes this sound?"];
/// Classes of the tagger up to this one are animals.
const ANIMAL_CLASSES: usize = 398;
/// Classes of the tagger that are no further apart in its list than that are near each other.
const NEAR_CLASSES: usize = 40;
/// Confidence from which on a fine name is said.
const SURE: f32 = 0.5;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What is shown, in order; nothing where the facts have to do.
    pub shown: Vec<ModalityKind>,
    /// Facts, if they are told, and the question.
    pub question: String,
    /// What shall be answered.
    pub answer: String,
}

/// The name that is said of a thing: the fine one if the encoder is sure of it, else the kind.
fn said_name<'a>(said: &'a Said, view: &View) -> &'a str {
    // A thing is as sure as its kind; its name is only as sure as the tag.
    let scores = view.hints.iter().filter(|hint| hint.name == said.name).map(|hint| hint.score);
    let sure = scores.fold(f32::INFINITY, f32::min);
    if (SURE..=1.0).contains(&sure) { &said.name } else { &said.kind }
}

fn things_said(sample: &Sample) -> String {
    let said = sample.said.iter().map(|said| {
        let noun = facts::with_article(said_name(said, &sample.view));
        said.place.as_ref().map_or_else(|| noun.clone(), |place| format!("{noun} {place}"))
    });
    facts::listed(&said.collect::<Vec<_>>())
}

fn sounds_said(sample: &Sample) -> String {
    facts::listed(&sample.said.iter().map(|said| said.name.clone()).collect::<Vec<_>>())
}

/// A question about a picture alone. Descriptions say all the facts, if they are told: a model that learns to leave some
/// out does so in sessions, too.
///
/// - `told`: facts in words, if they are told
pub fn about_picture(sample: &Sample, told: Option<&str>, vocabulary: &Vocabulary, random: &mut Random) -> Exchange {
    let first = sample.said.first();
    let is_animal = first.is_some_and(|said| {
        vocabulary.tagger[..ANIMAL_CLASSES].iter().any(|noun| noun.kind == said.kind || noun.name == said.name)
    });
    let line = told.map_or_else(String::new, |told| format!("In the picture: {told}.\n"));
    let things = told.map_or_else(|| things_said(sample), str::to_owned);
    let describe = |prompt: &str| (prompt.to_owned(), format!("The picture shows {things}."));
    let [describe_prompt, identity_prompt] =
        [&DESCRIBE_PROMPTS[..], &IDENTITY_PROMPTS].map(|prompts| prompts[random.below(prompts.len())]);
    let identity = |said: &Said| format!("It is {}.", facts::with_article(said_name(said, &sample.view)));
    let (question, answer) = match first {
        Some(said) if is_animal && random.happens(0.15) => ("What animal is it?".to_owned(), identity(said)),
        Some(said) if random.happens(0.1) => (identity_prompt.to_owned(), identity(said)),
        Some(said) if random.happens(0.35) => presence(sample, said, vocabulary, random),
        Some(said) if random.happens(0.1) => match &said.place {
            Some(place) => (format!("Where is the {}?", said.kind), format!("The {} is {place}.", said.kind)),
            None => describe(describe_prompt),
        },
        _ => describe(describe_prompt),
    };
    Exchange { shown: vec![ModalityKind::Image], question: format!("{line}{question}"), answer }
}

/// Whether something is there: half of the time what is, by its kind or by its name, in the words of the evidence that
/// sessions compute. What is not there is now and then of classes that stand near in the tagger's list, where alike
/// things do: whoever is only asked for far-off things learns to say yes to all that comes near.
///
/// - `first`: the first of the sample's things
fn presence(sample: &Sample, first: &Said, vocabulary: &Vocabulary, random: &mut Random) -> (String, String) {
    let form = random.below(3);
    let question = |noun: &str| {
        let noun = facts::with_article(noun);
        match form {
            0 => format!("Is there {noun} in the picture?"),
            1 => format!("Is there {noun}?"),
            _ => format!("Do you see {noun}?"),
        }
    };
    let said = random.choose(&sample.said).unwrap_or(first);
    // What is only hinted at is neither confirmed nor denied.
    let is_said = |noun: &str| sample.said.iter().any(|said| said.kind == noun || said.name == noun);
    let there = |noun: &str| is_said(noun) || sample.view.tells(noun) || sample.view.hints_at(noun);
    let other = random.happens(0.5).then(|| another_kind(said, vocabulary, random)).flatten();
    match other.filter(|other| !there(other)) {
        Some(other) => (question(other), format!("No, I see no {other} in the picture.")),
        None => {
            let name = if random.happens(0.3) { said_name(said, &sample.view) } else { &said.kind };
            let place = said.place.as_deref().unwrap_or("in the picture");
            (question(name), format!("Yes, there is {} {place}.", facts::with_article(name)))
        }
    }
}

/// Any kind of thing, half of the time one that stands near in the tagger's list.
fn another_kind<'a>(said: &Said, vocabulary: &'a Vocabulary, random: &mut Random) -> Option<&'a str> {
    let of_that_kind = |noun: &Noun| noun.kind == said.kind || noun.name == said.name;
    let class = vocabulary.tagger.iter().position(of_that_kind).filter(|_| random.happens(0.5));
    let Some(class) = class else {
        let kinds: Vec<&str> = vocabulary.kinds().into_iter().collect();
        return random.choose(&kinds).copied();
    };
    let near = class.saturating_sub(NEAR_CLASSES)..(class + NEAR_CLASSES + 1).min(vocabulary.tagger.len());
    random.choose(&vocabulary.tagger[near]).map(|noun| noun.kind.as_str())
}

/// A question about a sound alone. As with pictures, all the facts are said, if they are told.
///
/// - `told`: facts in words, if they are told
pub fn about_sound(sample: &Sample, told: Option<&str>, random: &mut Random) -> Exchange {
    let line = told.map_or_else(String::new, |told| format!("In the sound: {told}.\n"));
    let heard = told.map_or_else(|| sounds_said(sample), str::to_owned);
    let (question, answer) = match sample.said.first() {
        Some(_) if random.happens(0.25) => {
            let sources = sample.said.iter().map(|said| facts::with_article(&said.kind)).collect::<Vec<_>>();
            let maker = told.map_or_else(|| facts::listed(&sources), str::to_owned);
            (MAKER_PROMPTS[random.below(MAKER_PROMPTS.len())], format!("It is {maker}."))
        }
        _ => (HEAR_PROMPTS[random.below(HEAR_PROMPTS.len())], format!("The sound is {heard}.")),
    };
    Exchange { shown: vec![ModalityKind::Audio], question: format!("{line}{question}"), answer }
}

/// A picture and a sound that have nothing to do with each other, in the original's words; as in sessions, and unlike
/// there, the picture comes before the sound.
///
/// Source: bubogpt-spec 7.8: captions follow each other, the picture's first.
pub fn unrelated(picture: &Sample, sound: &Sample, with_facts: bool, random: &mut Random) -> Exchange {
    let prompt = NEGATIVE_PROMPTS[random.below(NEGATIVE_PROMPTS.len())];
    let prefix = if prompt.contains("related") || random.happens(0.5) { UNRELATED } else { "" };
    about_both(picture, sound, with_facts, prompt, format!("{prefix}{}", both_said(picture, sound, with_facts)))
}

/// A picture and the sound of what is in it: what they are, or where the sound comes from.
pub fn related(picture: &Sample, sound: &Sample, with_facts: bool, random: &mut Random) -> Exchange {
    if random.happens(0.5) {
        let prompt = NEGATIVE_PROMPTS[random.below(NEGATIVE_PROMPTS.len())];
        let prefix = if prompt.contains("related") { RELATED } else { "" };
        return about_both(
            picture,
            sound,
            with_facts,
            prompt,
            format!("{prefix}{}", both_said(picture, sound, with_facts)),
        );
    }
    let prompt = SOURCE_PROMPTS[random.below(SOURCE_PROMPTS.len())];
    let source = sound.said.first().map_or("", |said| &said.kind);
    let place = picture.said.first().and_then(|said| said.place.as_deref()).unwrap_or("in the image");
    about_both(picture, sound, with_facts, prompt, format!("The sound comes from the {source} {place}."))
}

fn both_said(picture: &Sample, sound: &Sample, with_facts: bool) -> String {
    let told = |sample: &Sample| sample.view.told.clone().filter(|_| with_facts);
    let things = told(picture).unwrap_or_else(|| things_said(picture));
    let heard = told(sound).unwrap_or_else(|| sounds_said(sound));
    format!("The image shows {things}. The audio is {heard}.")
}

fn about_both(picture: &Sample, sound: &Sample, with_facts: bool, prompt: &str, answer: String) -> Exchange {
    let line = |place: &str, told: &Option<String>| {
        told.as_ref().filter(|_| with_facts).map(|told| format!("In the {place}: {told}.\n")).unwrap_or_default()
    };
    let question = format!("{}{}{prompt}", line("picture", &picture.view.told), line("sound", &sound.view.told));
    Exchange { shown: vec![ModalityKind::Image, ModalityKind::Audio], question, answer }
}

#[cfg(test)]
mod tests {
    use bubo::encoders::joiner::Hint;

    use super::*;

    fn picture() -> Sample {
        let said = |kind: &str, name: &str, place: &str| Said {
            kind: kind.into(),
            name: name.into(),
            place: Some(place.into()),
        };
        let (kind, name) = ("dog".into(), "golden retriever".into());
        let hints = vec![Hint { kind, name, score: 0.8, centre: [0.2, 0.5], size: [0.0; 2] }];
        let view = View { features: vec![], hints, found: 1, said: vec![], told: None };
        let said = vec![said("dog", "golden retriever", "on the left"), said("cat", "tiger cat", "on the right")];
        Sample { view, said }
    }

    fn sound() -> Sample {
        let said = Said { kind: "train".into(), name: "a train whistle".into(), place: None };
        Sample { view: View { features: vec![], hints: vec![], found: 0, said: vec![], told: None }, said: vec![said] }
    }

    #[test]
    fn sure_names_are_said_and_others_by_their_kind() {
        let vocabulary = Vocabulary::new().unwrap();
        let said = "a golden retriever on the left and a cat on the right";
        assert_eq!(things_said(&picture()), said);
        let answers: Vec<String> = (0..40)
            .map(|seed| about_picture(&picture(), None, &vocabulary, &mut Random::new(seed, 0)).answer)
            .collect();
        assert!(answers.contains(&format!("The picture shows {said}.")));
        assert!(answers.contains(&"It is a golden retriever.".to_owned()));
    }

    #[test]
    fn facts_that_are_told_are_all_said() {
        let vocabulary = Vocabulary::new().unwrap();
        let told = "a golden retriever on the left and two cats";
        let answers: Vec<String> = (0..40)
            .map(|seed| about_picture(&picture(), Some(told), &vocabulary, &mut Random::new(seed, 0)).answer)
            .collect();
        assert!(answers.contains(&format!("The picture shows {told}.")));
        let heard = "a train whistle and a horn";
        for seed in 0..40 {
            let Exchange { question, answer, .. } = about_sound(&sound(), Some(heard), &mut Random::new(seed, 2));
            assert!(question.starts_with("In the sound: a train whistle and a horn.\n"));
            assert!([format!("The sound is {heard}."), format!("It is {heard}.")].contains(&answer), "{answer}");
        }
    }

    #[test]
    fn every_sound_that_is_heard_is_said() {
        let mut both = sound();
        both.said.push(Said { kind: "dog".into(), name: "a dog barking".into(), place: None });
        let answers: Vec<String> =
            (0..40).map(|seed| about_sound(&both, None, &mut Random::new(seed, 2)).answer).collect();
        for answer in ["The sound is a train whistle and a dog barking.", "It is a train and a dog."] {
            assert!(answers.iter().any(|found| found == answer), "{answer}");
        }
    }

    #[test]
    fn what_is_told_is_never_denied() {
        let vocabulary = Vocabulary::new().unwrap();
        let denials = |told: Option<&str>| {
            let mut sample = picture();
            sample.view.told = told.map(str::to_owned);
            let answers = (0..200)
                .map(|seed| about_picture(&sample, told, &vocabulary, &mut Random::new(seed, 3)).answer)
                .filter(|answer| answer.starts_with("No,"));
            answers.count()
        };
        let everything: Vec<String> = vocabulary.kinds().into_iter().map(facts::plural).collect();
        assert!(denials(None) > 0);
        assert_eq!(denials(Some(&everything.join(", "))), 0);
    }

    #[test]
    fn what_is_there_is_asked_of_every_thing_by_kind_and_name() {
        let vocabulary = Vocabulary::new().unwrap();
        let asked: Vec<(String, String)> = (0..2000)
            .map(|seed| presence(&picture(), &picture().said[0], &vocabulary, &mut Random::new(seed, 4)))
            .collect();
        for noun in ["dog", "golden retriever", "cat"] {
            let question = format!("Is there a {noun}?");
            let mut answers = asked.iter().filter(|(asked, _)| *asked == question).map(|(_, answer)| answer);
            assert!(answers.next().is_some_and(|answer| answer.starts_with("Yes, there is a ")), "{question}");
            assert!(answers.all(|answer| answer.starts_with("Yes,")), "{question}");
        }
        let denied = asked.iter().filter(|(_, answer)| answer.starts_with("No,")).count();
        assert!((400..1000).contains(&denied), "{denied} of {}", asked.len());
        assert!(asked.iter().any(|(_, answer)| answer == "No, I see no lion in the picture."), "near a tiger cat");
    }

    #[test]
    fn pairs_that_do_not_belong_together_say_so_where_they_must() {
        let exchanges: Vec<Exchange> =
            (0..60).map(|seed| unrelated(&picture(), &sound(), false, &mut Random::new(seed, 1))).collect();
        let must = |exchange: &&Exchange| exchange.question.contains("related");
        assert!(exchanges.iter().filter(must).all(|exchange| exchange.answer.starts_with(UNRELATED)));
        let others: Vec<bool> = exchanges
            .iter()
            .filter(|exchange| !must(exchange))
            .map(|exchange| exchange.answer.starts_with(UNRELATED))
            .collect();
        assert!(others.contains(&true) && others.contains(&false));
        assert!(exchanges.iter().all(|exchange| exchange.answer.ends_with("The audio is a train whistle.")));
    }
}
