//! The original's questions in training, and how a question becomes a prompt.
//!
//! Source: bubogpt @ 17c72b5, prompts/alignment*.txt and the LLaVA data set's wrappers; bubogpt-spec 7.7, which quotes
//! them.

use anyhow::{Context, Result, bail, ensure};
use bubo::language::ModalityKind;
use serde::{Deserialize, Serialize};

use super::entries::{Annotated, Entry};
use crate::instructions::{NEGATIVE_PROMPTS, SOURCE_PROMPTS, UNRELATED};
use crate::random::Random;

/// Where a picture or a sound stands within a prompt; never tokenised.
pub const HERE: &str = "<ModalityHere>";
const VISION: &str = "<Vision>";
const AUDIO: &str = "<Audio>";

/// prompts/alignment.txt
const IMAGE_PROMPTS: [&str; 4] = [
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
];
/// prompts/alignment_audio.txt; the space at the end of the last one is in the file.
const AUDIO_PROMPTS: [&str; 4] = [
    "Describe this audio in detail.",
    "Pay attention to this audio and describe what you notice.",
    "Please provide a detailed description of the sound.",
    "Could you describe the contents of this audio for me? ",
];
/// Around LLaVA's questions; the misspelling is in the original.
const INSTRUCTION_PROMPTS: [&str; 7] = [
    "{}",
    "Quesion: {}",
    "{} A detail answer to the question is",
    "Quesion: {} detail answer:",
    "Based on the image, respond to this question with a detail answer: {} Answer:",
    "Use the provided image to answer the question: {}",
    "What is the answer to the following question? {}",
];

/// Which questions are asked about a data set's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompts {
    /// To describe a picture.
    Image,
    /// To describe a sound.
    Audio,
    /// The entry's own question about a picture.
    Instruction,
    /// Where in a picture a sound comes from.
    Source,
    /// To describe a picture and a sound that have nothing to do with each other.
    Unrelated,
}

impl Prompts {
    /// One of the questions, with the marks of what is shown before it.
    ///
    /// # Errors
    /// If an instruction has no question.
    pub fn draw(self, entry: &Entry, random: &mut Random) -> Result<String> {
        let mut one = |prompts: &[&str]| random.choose(prompts).copied().unwrap_or_default().to_owned();
        let text = match self {
            Self::Image => one(&IMAGE_PROMPTS),
            Self::Audio => one(&AUDIO_PROMPTS),
            Self::Source => one(&SOURCE_PROMPTS),
            Self::Unrelated => one(&NEGATIVE_PROMPTS),
            Self::Instruction => {
                let question = entry.question.as_deref().context("an instruction without a question")?;
                one(&INSTRUCTION_PROMPTS).replacen("{}", question, 1)
            }
        };
        Ok(self.shown().iter().map(|kind| mark(*kind) + " ").collect::<String>() + &text)
    }

    /// What is shown with the question, in order: in training the sound comes first.
    pub fn shown(self) -> &'static [ModalityKind] {
        match self {
            Self::Image | Self::Instruction => &[ModalityKind::Image],
            Self::Audio => &[ModalityKind::Audio],
            Self::Source | Self::Unrelated => &[ModalityKind::Audio, ModalityKind::Image],
        }
    }
}

fn mark(kind: ModalityKind) -> String {
    let open = if kind == ModalityKind::Image { VISION } else { AUDIO };
    format!("{open}{HERE}{}", open.replacen('<', "</", 1))
}

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that is tokenised on its own.
    Text(String),
    /// What was shown.
    Shown(ModalityKind),
}

/// A question within the template, cut where pictures and sounds stand.
///
/// - `template`: with `{}` where the question stands: `###Human: {} ###Assistant: `
///
/// # Errors
/// If the template has no such place, or a mark stands outside of `<Vision>` and `<Audio>`.
///
/// Source: bubogpt-spec 7.2 and 1.4: texts between the marks are tokenised each on its own.
pub fn pieces(template: &str, question: &str) -> Result<Vec<Piece>> {
    let (before, after) = template.split_once("{}").with_context(|| format!("no {{}} in the prompt {template:?}"))?;
    let prompt = format!("{before}{question}{after}");
    let mut pieces = Vec::new();
    let mut rest = prompt.as_str();
    while let Some((text, tail)) = rest.split_once(HERE) {
        let kind = match text {
            text if text.ends_with(VISION) => ModalityKind::Image,
            text if text.ends_with(AUDIO) => ModalityKind::Audio,
            _ => bail!("{HERE} must stand in {VISION} or {AUDIO} in {prompt:?}"),
        };
        pieces.extend([Piece::Text(text.to_owned()), Piece::Shown(kind)]);
        rest = tail;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// A caption as the original reads it: line breaks and the signs `"()*#~` become spaces, which do not follow each
/// other.
///
/// Source: bubogpt-spec 7.6.
pub fn clean_caption(caption: &str) -> String {
    let plain = caption.replace(['\n', '"', '(', ')', '*', '#', '~'], " ");
    plain.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Pictures and sounds that have nothing to do with each other, made up while they are drawn.
///
/// For a picture, a random sound; the answer is the picture's caption and the sound's, without anything between, behind
/// `They seem unrelated. `: always if the prompt asks for it (it has the word `related`), else half of the time.
///
/// Source: bubogpt-spec 7.8. Captions are said to start with "The image" and "The audio".
#[derive(Debug, Clone, PartialEq)]
pub struct UnrelatedPairs {
    images: Vec<Entry>,
    sounds: Vec<Entry>,
}

impl UnrelatedPairs {
    /// Pairs of any of these pictures with any of these sounds.
    ///
    /// # Errors
    /// If there are none, or these are not pictures and sounds.
    pub fn new(images: Annotated, sounds: Annotated) -> Result<Self> {
        ensure!(images.prompts == Prompts::Image, "pictures of pairs must be described, as in cc_sbu_align");
        ensure!(sounds.prompts == Prompts::Audio, "sounds of pairs must be described, as in Clotho-Detail");
        ensure!(!images.entries.is_empty() && !sounds.entries.is_empty(), "pairs need pictures and sounds");
        Ok(Self { images: images.entries, sounds: sounds.entries })
    }

    /// A picture, a sound, the question and its answer.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn draw(&self, random: &mut Random) -> Result<(Entry, String)> {
        let image = &self.images[random.below(self.images.len())];
        let sound = &self.sounds[random.below(self.sounds.len())];
        let mut entry = Entry { image: image.image.clone(), audio: sound.audio.clone(), ..Entry::default() };
        let question = Prompts::Unrelated.draw(&entry, random)?;
        let prefix = if question.contains("related") || random.happens(0.5) { UNRELATED } else { "" };
        entry.answer = format!("{prefix}{}{}", image.answer, sound.answer);
        Ok((entry, question))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::entries::Media;
    use super::*;

    #[test]
    fn prompts_are_the_originals_letter_by_letter() {
        let entry = Entry { question: Some("What is {} it?".into()), ..Entry::default() };
        let all = |prompts: Prompts| -> BTreeSet<String> {
            (0..200).map(|seed| prompts.draw(&entry, &mut Random::new(seed, 0)).unwrap()).collect()
        };
        let [image, audio, instruction, source, unrelated] =
            [Prompts::Image, Prompts::Audio, Prompts::Instruction, Prompts::Source, Prompts::Unrelated].map(all);
        assert_eq!([&image, &audio, &instruction, &source, &unrelated].map(BTreeSet::len), [4, 4, 7, 3, 5]);
        assert!(image.contains("<Vision><ModalityHere></Vision> Describe this image in detail."));
        assert!(audio.contains("<Audio><ModalityHere></Audio> Could you describe the contents of this audio for me? "));
        assert!(instruction.contains("<Vision><ModalityHere></Vision> Quesion: What is {} it? detail answer:"));
        let shown = "<Audio><ModalityHere></Audio> <Vision><ModalityHere></Vision>";
        assert!(source.contains(&format!("{shown} Which part of this scene is the source of the given sound?")));
        assert!(unrelated.contains(&format!("{shown} What is the audio and the image?")));
    }

    #[test]
    fn prompts_are_cut_where_something_is_shown() {
        let question = Prompts::Source.draw(&Entry::default(), &mut Random::new(1, 0)).unwrap();
        let pieces = pieces("###Human: {} ###Assistant: ", &question).unwrap();
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces[0], Piece::Text("###Human: <Audio>".into()));
        assert_eq!([&pieces[1], &pieces[3]], [&Piece::Shown(ModalityKind::Audio), &Piece::Shown(ModalityKind::Image)]);
        assert_eq!(pieces[2], Piece::Text("</Audio> <Vision>".into()));
        let Piece::Text(last) = &pieces[4] else { panic!("{pieces:?}") };
        assert!(last.starts_with("</Vision> ") && last.ends_with(" ###Assistant: "), "{last:?}");
        assert!(super::pieces("###Human", "a").is_err() && super::pieces("{}", "a <ModalityHere> b").is_err());
    }

    #[test]
    fn captions_lose_signs() {
        assert_eq!(clean_caption(" A \"dog\" (small)\n barks * #1 ~ . "), "A dog small barks 1 .");
    }

    #[test]
    fn unrelated_pairs_have_the_originals_wording_and_share() {
        let image = |at: usize| Entry {
            image: Some(Media::File(format!("{at}.jpg").into())),
            answer: format!("The image shows {at}."),
            ..Entry::default()
        };
        let sound = |at: usize| Entry {
            audio: Some(Media::File(format!("{at}.wav").into())),
            answer: format!("The audio is {at}."),
            ..Entry::default()
        };
        let images = Annotated { entries: (0..3).map(image).collect(), prompts: Prompts::Image };
        let sounds = Annotated { entries: (0..5).map(sound).collect(), prompts: Prompts::Audio };
        assert!(UnrelatedPairs::new(sounds.clone(), images.clone()).is_err());
        let pairs = UnrelatedPairs::new(images, sounds).unwrap();
        let (mut with, mut count, mut seen) = (0, 0, BTreeSet::new());
        for seed in 0..1000 {
            let (entry, question) = pairs.draw(&mut Random::new(seed, 1)).unwrap();
            let said = entry.answer.strip_prefix(UNRELATED);
            let captions = said.unwrap_or(&entry.answer);
            let [image, audio] = [entry.image, entry.audio].map(|media| media.unwrap().name().to_owned());
            let [image, audio] = [image, audio].map(|name| name[..1].to_owned());
            assert_eq!(captions, format!("The image shows {image}.The audio is {audio}."));
            seen.insert((image, audio));
            if question.contains("related") {
                assert!(said.is_some());
            } else {
                (with, count) = (with + usize::from(said.is_some()), count + 1);
            }
        }
        assert_eq!(seen.len(), 15, "every picture meets every sound");
        assert!((0.45..0.55).contains(&(with as f64 / count as f64)), "{with} of {count}");
    }
}
