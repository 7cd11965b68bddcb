//! What a session knows of its picture and its sound.

use serde::Serialize;

use super::facts;
use super::joining::Embedded;
use crate::canvas::{ExportedSound, ExportedThing, Palette, Rle};
use crate::encoders::Features;
use crate::encoders::yamnet::SoundTag;
use crate::grounding::matcher::{Names, is_kind_of};
use crate::grounding::{Found, Tag, Thing};
use crate::media::{BoxPx, RgbImage, named_colors};

/// Things of one tag that are named in the facts at the most; more are said as a number.
const MOST_GROUPS: usize = 5;

/// A thing that is less sure may well be something else, and is said with "perhaps". Of 197 photographs of GCompris, 22 show
/// no surer thing; what is surest in them is there in 4 (a bucket, cars) and nearly right in 3 (a narwhal is a grey whale).
const LEAST_SURE: f32 = 0.5;

/// A guess that is less sure is none. On 120 photographs (96 of GCompris that are in no evaluation set, and the half of
/// `fresh.json` that rules are made with) tags of this score or more name 93 % of what is there, 0.7 % of what is not.
const LEAST_GUESS: f32 = 0.03;

/// The same where only the kind is asked for, of which there are many.
const LEAST_GUESS_OF_KIND: f32 = 0.1;

/// A label of a sound whose mean confidence is lower is no guess, nor one that is less sure than [`LEAST_SHARE`] of the
/// surest. Of 53 sounds of stamps and GCompris that no evaluation set has, such labels name the source of 77 %, what is
/// said unasked that of 60 %; of 14 common sources (dogs, cars, people) each is wrongly among them in 4 %, or 2 %.
const LEAST_SOUND_GUESS: f32 = 0.03;
/// See [`LEAST_SOUND_GUESS`].
const LEAST_SHARE: f32 = 0.3;

/// Labels of a sound that are said at the most.
const MOST_SAID_SOUNDS: usize = 2;

/// More labels of a sound than this are not shown.
const MOST_SHOWN_SOUNDS: usize = 4;

/// A thing as it is shown before and after it is outlined.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownThing {
    /// Lower-case English, or the name that a person taught.
    pub tag: String,
    /// Other names of the same thing.
    pub aliases: Vec<String>,
    /// Confidence, 0..1.
    pub score: f32,
    /// Left, top, right, bottom.
    pub box_px: BoxPx,
    /// Its pixels, once they are known.
    pub mask: Option<Rle>,
    /// Colour of outline and phrase, `#rrggbb`.
    pub color: String,
    /// Colour behind the phrase and within the outline, `#rrggbb`.
    pub light_color: String,
    /// Whether a person taught its name.
    pub taught: bool,
}

/// A tag of the sound over a span of time, and how it is said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownSound {
    /// AudioSet's name of the class, or the name that a person taught.
    pub tag: String,
    /// In words: `a dog barking`.
    pub phrase: String,
    /// Confidence, 0..1.
    pub score: f32,
    /// Start of the span.
    pub start_s: f32,
    /// End of the span.
    pub end_s: f32,
    /// Whether a person taught it.
    pub taught: bool,
}

/// Boxes as they are shown before their masks are known.
pub fn shown_boxes(found: &[Found]) -> Vec<ShownThing> {
    let mut palette = Palette::default();
    found
        .iter()
        .map(|Found { tag, aliases, score, box_px, taught }| {
            let color = palette.color(tag);
            ShownThing {
                tag: tag.clone(),
                aliases: aliases.clone(),
                score: *score,
                box_px: *box_px,
                mask: None,
                color: color.dark_hex(),
                light_color: color.light_hex(),
                taught: *taught,
            }
        })
        .collect()
}

/// The picture of a conversation.
#[derive(Debug)]
pub struct Scene {
    /// Columns of the picture.
    pub width: usize,
    /// Rows of the picture.
    pub height: usize,
    /// What is in it, most confident first.
    pub things: Vec<Thing>,
    /// Colours of each thing, see [`named_colors`].
    colors: Vec<Vec<&'static str>>,
    /// The picture for the language model, where the bundle has a joiner or a Q-Former.
    pub embeddings: Option<Embedded>,
    /// What the tagger named, sure or not: an answer where somebody asks for just that.
    pub guesses: Vec<Tag>,
}

impl Scene {
    /// What `things` make of `image`.
    pub fn new(image: &RgbImage, things: Vec<Thing>) -> Self {
        let colors = things.iter().map(|thing| named_colors(image, &thing.mask)).collect();
        Self { width: image.width(), height: image.height(), things, colors, embeddings: None, guesses: Vec::new() }
    }

    /// The colours of some things together, by how many have each: `brown and white`; none if they have no pixels.
    pub fn colors(&self, things: &[usize]) -> Option<String> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for color in things.iter().filter_map(|thing| self.colors.get(*thing)).flatten() {
            match counts.iter_mut().find(|(known, _)| known == color) {
                Some((_, count)) => *count += 1,
                None => counts.push((color, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named: Vec<String> = counts.into_iter().take(2).map(|(color, _)| color.to_owned()).collect();
        (!named.is_empty()).then(|| facts::listed(&named))
    }

    /// The things as they are shown.
    pub fn shown(&self) -> Vec<ShownThing> {
        let mut palette = Palette::default();
        self.things
            .iter()
            .map(|thing| {
                let color = palette.color(&thing.tag);
                ShownThing {
                    tag: thing.tag.clone(),
                    aliases: thing.aliases.clone(),
                    score: thing.score,
                    box_px: thing.box_px,
                    mask: Some(Rle::encode(&thing.mask)),
                    color: color.dark_hex(),
                    light_color: color.light_hex(),
                    taught: thing.taught,
                }
            })
            .collect()
    }

    /// The things as they are saved.
    pub fn exported(&self) -> Vec<ExportedThing> {
        self.things.iter().map(ExportedThing::from).collect()
    }

    /// Whether none of these things, of which there is at least one, is sure to be what it is called.
    pub fn is_unsure(&self, things: impl IntoIterator<Item = usize>) -> bool {
        things.into_iter().all(|thing| self.things[thing].score < LEAST_SURE)
    }

    /// What the things are called.
    pub fn names(&self) -> Vec<Names> {
        self.things.iter().map(|thing| Names { tag: thing.tag.clone(), aliases: thing.aliases.clone() }).collect()
    }

    /// The likeliest guess that the noun, in singular or plural, names, or a kind of it.
    pub fn guess(&self, noun: &str) -> Option<&Tag> {
        let singular = noun.strip_suffix('s').unwrap_or(noun);
        let names = |tag: &&Tag| {
            [noun, singular]
                .into_iter()
                .any(|noun| tag.label == noun || tag.kind.as_deref() == Some(noun) || is_kind_of(&tag.label, noun))
        };
        self.guesses.iter().find(|tag| names(tag) && tag.score >= LEAST_GUESS)
    }

    /// The likeliest guess that is of that kind.
    pub fn guess_of_kind(&self, kind: &str) -> Option<&Tag> {
        let mut guesses = self.guesses.iter().filter(|tag| tag.score >= LEAST_GUESS_OF_KIND);
        guesses.find(|tag| tag.label != kind && is_kind_of(&tag.label, kind))
    }

    /// The picture in words, for example `two dogs on the left and a person on the right`; none if nothing was found.
    pub fn facts(&self) -> Option<String> {
        let mut groups: Vec<(&str, Vec<&Thing>)> = Vec::new();
        for thing in &self.things {
            match groups.iter_mut().find(|(tag, _)| *tag == thing.tag) {
                Some((_, members)) => members.push(thing),
                None => groups.push((&thing.tag, vec![thing])),
            }
        }
        let said: Vec<String> =
            groups.iter().take(MOST_GROUPS).map(|(tag, members)| self.group_in_words(tag, members)).collect();
        (!said.is_empty()).then(|| facts::listed(&said))
    }

    /// The same as computed answers say it: with "perhaps" in front, if nothing of it is sure.
    pub fn seen(&self) -> Option<String> {
        let perhaps = if self.is_unsure(0..self.things.len()) { "perhaps " } else { "" };
        self.facts().map(|facts| format!("{perhaps}{facts}"))
    }

    fn group_in_words(&self, tag: &str, members: &[&Thing]) -> String {
        let counted = match members {
            [thing] if thing.taught => facts::introduced(tag, &thing.aliases),
            _ => facts::counted(members.len(), tag),
        };
        match self.place(members.iter().map(|thing| thing.box_px)) {
            Some(place) => format!("{counted} {place}"),
            None => counted,
        }
    }

    /// Where things lie, see [`facts::place`].
    pub fn place(&self, boxes_px: impl Iterator<Item = BoxPx>) -> Option<&'static str> {
        facts::place(&boxes_px.collect::<Vec<_>>(), self.width)
    }
}

/// What may be heard in a sound, most confident first, without labels that say too little.
///
/// - `means`: mean confidence of each label over the sound, 0..1
pub fn sound_guesses(labels: &[String], means: &[f32]) -> Vec<String> {
    let mut heard: Vec<(&String, f32)> = labels.iter().zip(means.iter().copied()).collect();
    heard.retain(|(label, mean)| *mean >= LEAST_SOUND_GUESS && !facts::is_general_sound(label));
    heard.sort_by(|a, b| b.1.total_cmp(&a.1));
    let least = heard.first().map_or(0.0, |(_, best)| LEAST_SHARE * best);
    heard.into_iter().filter(|(_, mean)| *mean >= least).map(|(label, _)| label.clone()).collect()
}

/// A sound that a person taught, where it is heard.
#[derive(Debug, Clone, PartialEq)]
pub struct TaughtTag {
    /// Its name in place of a label, and when it is heard.
    pub tag: SoundTag,
    /// The broader kind.
    pub kind: Option<String>,
}

/// The sound of a conversation.
#[derive(Debug, Clone)]
pub struct Heard {
    /// What is heard when; nothing where the encoder does not name sounds.
    pub tags: Vec<SoundTag>,
    /// Labels of what may be heard, see [`sound_guesses`]: an answer where somebody asks for just that.
    pub guesses: Vec<String>,
    /// What was taught and is heard.
    pub taught: Vec<TaughtTag>,
    /// What a Q-Former attends to.
    pub features: Features,
    /// Begin and end of what each of the features' tokens stands for, in seconds; empty where they stand for the whole.
    pub spans_s: Vec<[f32; 2]>,
    /// Length of the sound.
    pub duration_s: f32,
    /// The sound for the language model, where the bundle has a joiner or a Q-Former.
    pub embeddings: Option<Embedded>,
}

impl Heard {
    /// The labels worth saying: what was taught, then the others, most confident first. A label that is heard mainly
    /// while something taught is heard says the same in other words, and is left out.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for taught in &self.taught {
            if !labels.contains(&taught.tag.label.as_str()) && labels.len() < MOST_SAID_SOUNDS {
                labels.push(&taught.tag.label);
            }
        }
        let mut others = self.ranked();
        others.retain(|(label, _)| !self.is_covered(label));
        let left = MOST_SAID_SOUNDS - labels.len();
        if left > 0 {
            labels.extend(facts::sounds_worth_saying(&others, left));
        }
        labels
    }

    /// How the labels worth saying are said.
    pub fn phrases(&self) -> Vec<String> {
        self.labels().into_iter().map(|label| self.phrase(label)).collect()
    }

    fn phrase(&self, label: &str) -> String {
        if self.is_taught(label) { facts::with_article(label) } else { facts::sound_phrase(label) }
    }

    fn is_taught(&self, label: &str) -> bool {
        self.taught.iter().any(|taught| taught.tag.label == label)
    }

    /// Whether a label is heard for most of its time while something taught is.
    fn is_covered(&self, label: &str) -> bool {
        let (mut all, mut shared) = (0.0, 0.0);
        for tag in self.tags.iter().filter(|tag| tag.label == label) {
            all += tag.end_s - tag.start_s;
            let common = self.taught.iter().map(|TaughtTag { tag: taught, .. }| {
                (taught.end_s.min(tag.end_s) - taught.start_s.max(tag.start_s)).max(0.0)
            });
            shared += common.fold(0.0, f32::max);
        }
        all > 0.0 && shared > 0.5 * all
    }

    /// Labels by their mean confidence over the sound, highest first: what is heard for long counts for more than what
    /// one moment resembles.
    fn ranked(&self) -> Vec<(&str, f32)> {
        let mut ranked: Vec<(&str, f32)> = Vec::new();
        for SoundTag { label, score, start_s, end_s } in &self.tags {
            let part = score * (end_s - start_s) / self.duration_s.max(f32::MIN_POSITIVE);
            match ranked.iter_mut().find(|(known, _)| known == label) {
                Some((_, mean)) => *mean += part,
                None => ranked.push((label, part)),
            }
        }
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }

    /// The spans of the labels that are heard most, in the order of time; too general labels only if there are no others.
    fn spans(&self) -> Vec<&SoundTag> {
        let mut labels: Vec<&str> = self.ranked().into_iter().map(|(label, _)| label).collect();
        if labels.iter().any(|label| !facts::is_general_sound(label)) {
            labels.retain(|label| !facts::is_general_sound(label));
        }
        labels.truncate(MOST_SHOWN_SOUNDS);
        let mut spans: Vec<&SoundTag> = self.tags.iter().filter(|tag| labels.contains(&tag.label.as_str())).collect();
        spans.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        spans
    }

    /// The sound in words, for example `a dog barking and rain falling`; none if nothing was recognised.
    pub fn facts(&self) -> Option<String> {
        let said = self.phrases();
        (!said.is_empty()).then(|| facts::listed(&said))
    }

    /// What makes the sounds worth saying, with the labels as other names.
    pub fn names(&self) -> Vec<Names> {
        self.sources().into_iter().map(|(_, names)| names).collect()
    }

    /// The sounds worth saying in words, each with what makes it.
    pub fn sources(&self) -> Vec<(String, Names)> {
        let sources = self.labels().into_iter().map(|label| {
            let names = match self.taught.iter().find(|taught| taught.tag.label == label) {
                Some(taught) => Names { tag: label.to_owned(), aliases: taught.kind.iter().cloned().collect() },
                None => source_names(label),
            };
            (self.phrase(label), names)
        });
        sources.filter(|(_, names)| !names.tag.is_empty()).collect()
    }

    /// What may be heard beside that, each in words with what makes it.
    pub fn guessed(&self) -> Vec<(String, Names)> {
        let labels = self.labels();
        let others = self.guesses.iter().filter(|label| !labels.contains(&label.as_str()) && !self.is_covered(label));
        let guessed = others.map(|label| (facts::sound_phrase(label), source_names(label)));
        guessed.filter(|(_, names)| !names.tag.is_empty()).collect()
    }

    /// The tags as they are shown.
    pub fn shown(&self) -> Vec<ShownSound> {
        let shown =
            self.shown_tags().into_iter().map(|(SoundTag { label, score, start_s, end_s }, taught)| ShownSound {
                tag: label.clone(),
                phrase: if taught { facts::with_article(label) } else { facts::sound_phrase(label) },
                score: *score,
                start_s: *start_s,
                end_s: *end_s,
                taught,
            });
        shown.collect()
    }

    /// The tags as they are saved.
    pub fn exported(&self) -> Vec<ExportedSound> {
        let exported = self.shown_tags().into_iter().map(|(SoundTag { label, score, start_s, end_s }, taught)| {
            ExportedSound { tag: label.clone(), score: *score, start_s: *start_s, end_s: *end_s, taught }
        });
        exported.collect()
    }

    /// What was taught, and the spans of the other labels, each with whether it was taught, in the order of time.
    fn shown_tags(&self) -> Vec<(&SoundTag, bool)> {
        let taught = self.taught.iter().map(|taught| (&taught.tag, true));
        let mut tags: Vec<(&SoundTag, bool)> = taught.chain(self.spans().into_iter().map(|tag| (tag, false))).collect();
        tags.sort_by(|a, b| a.0.start_s.total_cmp(&b.0.start_s));
        tags
    }
}

/// What makes a sound of that label, with the label's words as other names.
fn source_names(label: &str) -> Names {
    let aliases = label.split(',').map(|part| part.trim().to_lowercase()).collect();
    Names { tag: facts::sound_source(label), aliases }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::encoders::Features;
    use crate::tensor::{Device, Tensor};

    /// Five seconds with those labels, each with its confidence, begin and end.
    pub(in crate::session) fn heard(tags: &[(&str, f32, f32, f32)]) -> Heard {
        let tag = |&(label, score, start_s, end_s): &(&str, f32, f32, f32)| SoundTag {
            label: label.into(),
            score,
            start_s,
            end_s,
        };
        let tokens = Tensor::zeros(&[1, 1, 1], &Device::Cpu).expect("one number");
        let features = Features { tokens };
        let (tags, taught, spans_s) = (tags.iter().map(tag).collect(), Vec::new(), Vec::new());
        Heard { tags, guesses: Vec::new(), taught, features, spans_s, duration_s: 5.0, embeddings: None }
    }

    #[test]
    fn who_asks_for_something_hears_of_guesses() {
        let image = RgbImage::new(2, 2, vec![0; 12]).expect("a picture");
        let mut scene = Scene::new(&image, Vec::new());
        let tag = |label: &str, score| Tag { label: label.into(), score, box_px: None, kind: None };
        scene.guesses = vec![tag("whistle", 0.3), tag("folding chair", 0.24), tag("banjo", 0.02)];
        let guess = |noun: &str| scene.guess(noun).map(|tag| tag.label.as_str());
        assert_eq!(
            (guess("chair"), guess("chairs"), guess("whistle")),
            (Some("folding chair"), Some("folding chair"), Some("whistle"))
        );
        assert_eq!((guess("banjo"), guess("dog")), (None, None), "too unsure, and not seen at all");
        scene.guesses = vec![tag("flagpole", 0.3), tag("fox squirrel", 0.2), tag("spider monkey", 0.14)];
        let of_kind = |kind: &str| scene.guess_of_kind(kind).map(|tag| tag.label.as_str());
        assert_eq!((of_kind("animal"), of_kind("instrument")), (Some("fox squirrel"), None));
    }

    #[test]
    fn guesses_at_a_sound_are_not_much_less_sure_than_the_surest() {
        let labels = ["Animal", "Dog", "Cat", "Bark", "Silence"].map(String::from);
        assert_eq!(sound_guesses(&labels, &[0.9, 0.1, 0.04, 0.2, 0.5]), ["Bark", "Dog"]);
        assert_eq!(sound_guesses(&labels, &[0.9, 0.02, 0.01, 0.0, 0.0]), Vec::<String>::new(), "too unsure");
        let mut bark = heard(&[("Bark", 0.9, 0.0, 1.0)]);
        bark.guesses = vec!["Bark".into(), "Cat".into()];
        let guessed = bark.guessed();
        assert_eq!(guessed.len(), 1, "what is heard is no guess");
        assert_eq!(guessed[0].1.tag, "cat");
    }

    #[test]
    fn what_is_heard_for_long_counts_for_more() {
        let train = heard(&[("Bird", 1.0, 3.9, 4.8), ("Train", 0.9, 0.0, 4.4), ("Vehicle", 0.96, 0.0, 4.4)]);
        assert_eq!(train.labels(), ["Train"]);
        let shown: Vec<String> = train.shown().into_iter().map(|sound| sound.tag).collect();
        assert_eq!(shown, ["Train", "Bird"], "in the order of time, without what says too little");
        let only: Vec<String> =
            heard(&[("Animal", 0.9, 0.0, 1.0)]).shown().into_iter().map(|sound| sound.tag).collect();
        assert_eq!(only, ["Animal"]);
    }

    #[test]
    fn what_was_taught_is_said_first_and_in_place_of_its_label() {
        let mut ring = heard(&[("Doorbell", 0.9, 1.0, 2.0), ("Rain", 0.6, 0.0, 5.0)]);
        let tag = SoundTag { label: "our doorbell".into(), score: 0.8, start_s: 0.9, end_s: 2.1 };
        ring.taught = vec![TaughtTag { tag, kind: Some("doorbell".into()) }];
        assert_eq!(ring.phrases(), ["our doorbell", "rain falling"]);
        let shown: Vec<_> = ring.shown().into_iter().map(|sound| (sound.tag, sound.taught)).collect();
        assert_eq!(shown[1], ("our doorbell".into(), true));
        assert_eq!(ring.names()[0], Names { tag: "our doorbell".into(), aliases: vec!["doorbell".into()] });
    }
}
