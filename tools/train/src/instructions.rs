//! What the language model is asked in training, and what it shall answer.

use bubo::encoders::joiner::{Config, Hint, MOST_TAGS};
use bubo::grounding::scene::combined;
use bubo::grounding::{Detection, Found, Tag, Thing};
use bubo::language::ModalityKind;
use bubo::media::{BoxPx, Mask, RgbImage};
use bubo::session::{Scene, facts};

use crate::frozen::View;
use crate::random::Random;
use crate::slot_task::Sample;
use crate::slots::Said;
use crate::vocabulary::Vocabulary;

/// The original's prompts for pairs that do not belong together, without the marks of what is shown, which stands before
/// them. Source: bubogpt @ 17c72b5, prompts/alignment_audio_image_neg.txt.
const NEGATIVE_PROMPTS: [&str; 5] = [
    "Please describe the image and audio respectively.",
    "What is the audio and the image?",
    "Please provide a detailed description of the sound and the image.",
    "Could you tell the contents of this audio and photo for me?",
    "Are the audio and image related to each other? What are they?",
];
/// What such an answer starts with: always where the prompt asks for it, else half of the time.
pub const UNRELATED: &str = "They seem unrelated. ";
/// The original's prompts for the source of a sound: prompts/alignment_audio_image_region.txt.
const SOURCE_PROMPTS: [&str; 3] = [
    "Please find the source that emits the given sound in this image.",
    "Pay attention to the given audio and image, and tell me where is the sound coming from in this picture.",
    "Which part of this scene is the source of the given sound?",
];
/// Classes of the tagger up to this one are animals.
const ANIMAL_CLASSES: usize = 398;
/// Confidence from which on a fine name is said, and below which a tag is not heard of.
const SURE: f32 = 0.5;
const LEAST_TAG: f32 = 0.1;
/// Sides of the picture that boxes are laid in.
const SIDE: f32 = 100.0;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What is shown, in order.
    pub shown: Vec<ModalityKind>,
    /// Facts, if they are told, and the question.
    pub question: String,
    /// What shall be answered.
    pub answer: String,
}

/// What the program would tell the language model of a view in words: the same tags and boxes, put together the same way.
pub fn picture_facts(view: &View, config: &Config, vocabulary: &Vocabulary) -> Option<String> {
    let (tags, detections): (Vec<&Hint>, Vec<&Hint>) =
        view.hints.iter().partition(|hint| hint.class < config.tag_classes);
    let around = |hint: &Hint, size: [f32; 2]| -> BoxPx {
        let [[x, y], [width, height]] = [hint.centre, size];
        let edge = |at: f32| at.clamp(0.0, 1.0) * SIDE;
        let (x0, x1) = (edge(x - width / 2.0), edge(x + width / 2.0));
        BoxPx { x0, y0: edge(y - height / 2.0), x1, y1: edge(y + height / 2.0) }
    };
    let tags = tags.into_iter().take(MOST_TAGS).filter(|hint| hint.score >= LEAST_TAG).map(|hint| {
        let noun = &vocabulary.tagger[hint.class];
        let kind = (noun.kind != noun.name && vocabulary.is_named_kind(hint.class)).then(|| noun.kind.clone());
        Tag { label: noun.name.clone(), score: hint.score, box_px: Some(around(hint, [0.5, 0.6])), kind }
    });
    let detections = detections.into_iter().filter_map(|hint| {
        let label = config.detector_labels.get(hint.class - config.tag_classes)?.clone();
        Some(Detection { label, score: hint.score, box_px: around(hint, hint.size) })
    });
    let thing = |Found { tag, aliases, score, box_px, .. }| {
        let mask = Mask::new(1, 1, vec![false]);
        Thing { tag, aliases, score, box_px, mask, taught: false }
    };
    let things = combined(detections.collect(), tags.collect()).into_iter().map(thing).collect();
    let blank = RgbImage::new(SIDE as usize, SIDE as usize, vec![0; 3 * (SIDE * SIDE) as usize]).ok()?;
    Scene::new(&blank, things).facts()
}

/// What the program would tell the language model of a sound in words.
pub fn sound_facts(view: &View, labels: &[String]) -> Option<String> {
    let heard: Vec<(&str, f32)> = view
        .hints
        .iter()
        .filter(|hint| hint.score >= 0.2)
        .filter_map(|hint| Some((labels.get(hint.class)?.as_str(), hint.score)))
        .collect();
    let said: Vec<String> = facts::sounds_worth_saying(&heard, 2).into_iter().map(facts::sound_phrase).collect();
    (!said.is_empty()).then(|| facts::listed(&said))
}

/// The name that is said of a thing: the fine one if the encoder is sure of it, else the kind.
fn said_name<'a>(said: &'a Said, view: &View, vocabulary: &Vocabulary) -> &'a str {
    let fine = |hint: &Hint| {
        hint.score >= SURE && vocabulary.tagger.get(hint.class).is_some_and(|noun| noun.name == said.name)
    };
    if said.kind == said.name || view.hints.iter().any(fine) { &said.name } else { &said.kind }
}

fn things_said(sample: &Sample, vocabulary: &Vocabulary) -> String {
    let said = sample.said.iter().map(|said| {
        let noun = facts::with_article(said_name(said, &sample.view, vocabulary));
        said.place.as_ref().map_or_else(|| noun.clone(), |place| format!("{noun} {place}"))
    });
    facts::listed(&said.collect::<Vec<_>>())
}

fn phrase(sample: &Sample) -> &str {
    sample.said.first().map_or("", |said| &said.name)
}

/// A question about a picture alone.
///
/// - `told`: facts in words, if they are told
pub fn about_picture(sample: &Sample, told: Option<&str>, vocabulary: &Vocabulary, random: &mut Random) -> Exchange {
    let first = sample.said.first();
    let is_animal = first.is_some_and(|said| {
        vocabulary.tagger[..ANIMAL_CLASSES].iter().any(|noun| noun.kind == said.kind || noun.name == said.name)
    });
    let line = told.map_or_else(String::new, |told| format!("In the picture: {told}.\n"));
    let (question, answer) = match first {
        Some(said) if is_animal && random.happens(0.2) => {
            let name = facts::with_article(said_name(said, &sample.view, vocabulary));
            ("What animal is it?", format!("It is {name}."))
        }
        Some(said) if random.happens(0.15) => {
            let name = facts::with_article(said_name(said, &sample.view, vocabulary));
            ("What is the main thing in it?", format!("It is {name}."))
        }
        _ => ("Describe the picture.", format!("The picture shows {}.", things_said(sample, vocabulary))),
    };
    Exchange { shown: vec![ModalityKind::Image], question: format!("{line}{question}"), answer }
}

/// A question about a sound alone.
pub fn about_sound(sample: &Sample, told: Option<&str>, random: &mut Random) -> Exchange {
    let line = told.map_or_else(String::new, |told| format!("In the sound: {told}.\n"));
    let (question, answer) = match sample.said.first() {
        Some(said) if random.happens(0.25) => {
            ("What is making this sound?", format!("It is {}.", facts::with_article(&said.kind)))
        }
        _ => ("What is the sound?", format!("The sound is {}.", phrase(sample))),
    };
    Exchange { shown: vec![ModalityKind::Audio], question: format!("{line}{question}"), answer }
}

/// A picture and a sound that have nothing to do with each other, in the original's words, the sound before the picture.
///
/// Source: bubogpt-spec 7.8: captions follow each other, the picture's first.
pub fn unrelated(picture: &Sample, sound: &Sample, vocabulary: &Vocabulary, random: &mut Random) -> Exchange {
    let prompt = NEGATIVE_PROMPTS[random.below(NEGATIVE_PROMPTS.len())];
    let prefix = if prompt.contains("related") || random.happens(0.5) { UNRELATED } else { "" };
    let answer =
        format!("{prefix}The image shows {}. The audio is {}.", things_said(picture, vocabulary), phrase(sound));
    Exchange { shown: vec![ModalityKind::Audio, ModalityKind::Image], question: prompt.to_owned(), answer }
}

/// A picture and the sound of what is in it.
pub fn related(picture: &Sample, sound: &Sample, random: &mut Random) -> Exchange {
    let prompt = SOURCE_PROMPTS[random.below(SOURCE_PROMPTS.len())];
    let source = sound.said.first().map_or("", |said| &said.kind);
    let place = picture.said.first().and_then(|said| said.place.as_deref()).unwrap_or("in the image");
    let answer = format!("The sound comes from the {source} {place}.");
    Exchange { shown: vec![ModalityKind::Audio, ModalityKind::Image], question: prompt.to_owned(), answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Sample {
        let said = |kind: &str, name: &str, place: &str| Said {
            kind: kind.into(),
            name: name.into(),
            place: Some(place.into()),
        };
        let hints = vec![Hint { class: 207, score: 0.8, centre: [0.2, 0.5], size: [0.0; 2] }];
        let view = View { features: vec![], hints };
        let said = vec![said("dog", "golden retriever", "on the left"), said("cat", "tiger cat", "on the right")];
        Sample { view, said }
    }

    fn sound() -> Sample {
        let said = Said { kind: "train".into(), name: "a train whistle".into(), place: None };
        Sample { view: View { features: vec![], hints: vec![] }, said: vec![said] }
    }

    #[test]
    fn sure_names_are_said_and_others_by_their_kind() {
        let vocabulary = Vocabulary::new().unwrap();
        let said = "a golden retriever on the left and a cat on the right";
        assert_eq!(things_said(&picture(), &vocabulary), said);
        let answers: Vec<String> = (0..40)
            .map(|seed| about_picture(&picture(), None, &vocabulary, &mut Random::new(seed, 0)).answer)
            .collect();
        assert!(answers.contains(&format!("The picture shows {said}.")));
        assert!(answers.contains(&"It is a golden retriever.".to_owned()));
    }

    #[test]
    fn pairs_that_do_not_belong_together_say_so_where_they_must() {
        let vocabulary = Vocabulary::new().unwrap();
        let exchanges: Vec<Exchange> =
            (0..60).map(|seed| unrelated(&picture(), &sound(), &vocabulary, &mut Random::new(seed, 1))).collect();
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

    #[test]
    fn facts_are_those_of_the_program() {
        let vocabulary = Vocabulary::new().unwrap();
        let qformer = serde_json::json!({"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 8, "num_query_token": 2, "encoder_width": 8});
        let config = Config {
            places: 49,
            encoder_width: 4,
            tag_classes: 1000,
            detector_labels: vec!["person".into(), "dog".into()],
            qformer: serde_json::from_value(qformer).unwrap(),
            output_width: 4,
        };
        let mut view = picture().view;
        assert_eq!(picture_facts(&view, &config, &vocabulary).as_deref(), Some("a golden retriever on the left"));
        view.hints.push(Hint { class: 1001, score: 0.7, centre: [0.2, 0.5], size: [0.4, 0.5] });
        assert_eq!(picture_facts(&view, &config, &vocabulary).as_deref(), Some("a dog on the left"));
    }
}
