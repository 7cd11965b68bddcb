//! The frozen parts: what a picture or a sound becomes before anything learns.

use std::rc::Rc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bubo::encoders::joiner::{self, Hint, spread};
use bubo::encoders::yamnet::{Heard, Yamnet};
use bubo::grounding::detector;
use bubo::grounding::scene::combined;
use bubo::grounding::second_look::named_by_both;
use bubo::grounding::tagger::imagenet::ImagenetTagger;
use bubo::grounding::{Detector, Found, Tag, Tagger};
use bubo::host::Host;
use bubo::media::{BoxPx, Mask, RgbImage, Waveform};
use bubo::nn::{WeightLoader, Weights};
use bubo::session::joining::{MOST_FOUND, MOST_TAGS, PICTURE_HINTS, picture_hints, sound_hints};
use bubo::session::{Scene, facts};
use bubo::tensor::Tensor;
use pollster::block_on;

use crate::examples::is_test_kind;
use crate::slots::{MOST_SAID, SOUND_SLOTS, Said, THING_SLOTS};

/// Patches of a sound that the joiner hears.
pub const SOUND_PATCHES: usize = 12;

/// What a joiner reads of one picture or sound.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// `[places, encoder_width]`
    pub features: Vec<f32>,
    /// What was recognised.
    pub hints: Vec<Hint>,
    /// How many hints, the first, are things that were found in a picture, most confident first.
    pub found: usize,
    /// What descriptions say first of it, each kind of thing or source of sound once; nothing if nothing was recognised.
    pub said: Vec<Said>,
    /// What the program would tell the language model of it in words.
    pub told: Option<String>,
}

impl View {
    /// Whether nothing was recognised that is kept for the test: what is recognised is said.
    pub fn is_free_of_test_kinds(&self) -> bool {
        let found = self.hints.iter().take(self.found).flat_map(|hint| [&hint.kind, &hint.name]);
        !found.chain(self.said.iter().map(|said| &said.kind)).any(|name| is_test_kind(name))
    }

    /// Whether a hint names the noun, more or less closely.
    pub fn hints_at(&self, noun: &str) -> bool {
        self.hints.iter().any(|hint| hint.kind == noun || hint.name == noun)
    }

    /// Whether the facts in words name the noun, in singular or plural.
    pub fn tells(&self, noun: &str) -> bool {
        // Whole words: there is no ant in an elephant.
        let words = |text: &str| format!(" {} ", text.replace(',', ""));
        let told = self.told.as_deref().map(words).unwrap_or_default();
        [words(noun), words(&facts::plural(noun))].iter().any(|noun| told.contains(noun))
    }
}

/// What descriptions say first of what was found in a picture, each kind of thing once.
fn things_said(found: &[Hint]) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    for Hint { kind, name, .. } in found {
        if said.len() < MOST_SAID && said.iter().all(|said| said.name != *name) {
            let alike = found.iter().filter(|hint| hint.name == *name);
            let boxes: Vec<BoxPx> = alike.map(|hint| unit_box(hint.centre[0])).collect();
            let place = facts::place(&boxes, 1).map(str::to_owned);
            said.push(Said { kind: kind.clone(), name: name.clone(), place });
        }
    }
    said
}

/// A box around that place in a picture that is 1 wide.
pub fn unit_box(centre: f32) -> BoxPx {
    BoxPx { x0: centre, y0: 0.0, x1: centre, y1: 1.0 }
}

/// The networks for pictures.
pub struct Eyes {
    tagger: ImagenetTagger,
    detector: Rc<dyn Detector>,
    /// `[tag_classes, encoder_width]` and the biases of the classes: prototypes of what features a class has.
    pub classifier: (Vec<f32>, Vec<f32>),
}

/// Here nobody waits for a moment of time, or stops what runs.
struct Alone;

#[async_trait(?Send)]
impl Host for Alone {
    async fn breathe(&self) -> bubo::Result<()> {
        Ok(())
    }

    async fn sleep_ms(&self, _: u32) -> bubo::Result<()> {
        Ok(())
    }

    fn now_ms(&self) -> f64 {
        0.0
    }
}

/// The network for sounds.
#[derive(Debug)]
pub struct Ears {
    yamnet: Yamnet,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// `[tag_classes, encoder_width]` and the biases of the classes.
    pub classifier: (Vec<f32>, Vec<f32>),
}

fn classifier(weights: &Weights, classes: usize, width: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let weight = block_on(weights.tensor("weight", &[classes, width])?.to_f32())?;
    Ok((weight, block_on(weights.tensor("bias", &[classes])?.to_f32())?))
}

impl Eyes {
    /// Loads tagger and detector of a bundle.
    ///
    /// # Errors
    /// If the bundle has none that are known here.
    pub fn load(loader: &mut WeightLoader) -> Result<Self> {
        let tagger = block_on(loader.load_part("tagger", &mut |_| {}))?;
        let classifier = classifier(&tagger.weights.pp("_fc"), 1000, 1280)?;
        let tagger = ImagenetTagger::load(&tagger.config()?, &tagger.weights, tagger.file("imagenet_labels.json")?)?;
        let detector = block_on(loader.load_part("detector", &mut |_| {}))?;
        Ok(Self { tagger, detector: detector::load(&detector)?, classifier })
    }

    /// Sizes of a joiner for these networks.
    pub fn joiner_config(&self, output_width: usize) -> Result<joiner::Config> {
        joiner_config([49, 1280], PICTURE_HINTS, [2, MOST_SAID * THING_SLOTS], output_width)
    }

    /// What the joiner reads of a picture.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn look(&self, image: &RgbImage) -> Result<View> {
        let size = [image.width(), image.height()];
        let tags = block_on(self.tagger.tag(image))?;
        let detections = block_on(self.detector.detect(image, &[]))?;
        let detections = block_on(named_by_both(&self.tagger, image, detections, &tags))?;
        let found = combined(detections, tags);
        let view = block_on(self.tagger.view(image))?.context("the tagger has no features")?;
        let features = block_on(view.features.to_f32())?;
        picture_view(features, found, &view.tags, size)
    }
}

/// What the joiner reads of a picture of that size, in which this was found.
///
/// # Errors
/// If the picture has no size.
pub fn picture_view(features: Vec<f32>, found: Vec<Found>, tags: &[Tag], size: [usize; 2]) -> Result<View> {
    let hints = picture_hints(&found, tags, size);
    let count = found.len().min(MOST_FOUND);
    let said = things_said(&hints[..count]);
    // Facts tell of more things than there are hints of, and must not name what is kept for the test either.
    let is_kept = |thing: &Found| std::iter::once(&thing.tag).chain(&thing.aliases).any(|name| is_test_kind(name));
    let told = if found.iter().any(is_kept) { None } else { picture_facts(found, size)? };
    Ok(View { features, hints, found: count, said, told })
}

/// What the program would tell the language model of what was found in a picture of that size.
fn picture_facts(found: Vec<Found>, [width, height]: [usize; 2]) -> Result<Option<String>> {
    let thing = |found: Found| found.with_mask(Mask::new(1, 1, vec![false]));
    let blank = RgbImage::new(width, height, vec![0; 3 * width * height])?;
    Ok(Scene::new(&blank, found.into_iter().map(thing).collect()).facts())
}

impl Ears {
    /// Loads the audio encoder of a bundle.
    ///
    /// # Errors
    /// If the bundle has none that is known here.
    pub fn load(loader: &mut WeightLoader) -> Result<Self> {
        let part = block_on(loader.load_part("audio_encoder", &mut |_| {}))?;
        let labels: Vec<String> = part.json_file("audioset_labels.json")?;
        let classifier = classifier(&part.weights.pp("classifier"), labels.len(), 1024)?;
        let yamnet = Yamnet::load(&part.config()?, &part.weights, &labels).context("audio_encoder")?;
        Ok(Self { yamnet, labels, classifier })
    }

    /// Sizes of a joiner for this network.
    pub fn joiner_config(&self, output_width: usize) -> Result<joiner::Config> {
        joiner_config([SOUND_PATCHES, 1024], MOST_TAGS, [2, MOST_SAID * SOUND_SLOTS], output_width)
    }

    /// What the joiner reads of a sound.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn listen(&self, sound: &Waveform) -> Result<View> {
        let Heard { features, logits, starts_s, .. } = block_on(self.yamnet.listen(sound, &Alone))?;
        let chosen = spread(starts_s.len(), SOUND_PATCHES);
        let chosen = Tensor::from_u32(&chosen, &[chosen.len()], &features.tokens.device())?;
        let features = block_on(features.tokens.index_select(1, &chosen)?.to_f32())?;
        Ok(sound_view(features, &logits, &self.labels))
    }
}

/// What the joiner reads of a sound.
///
/// - `features`: of the patches that are chosen
/// - `logits`: of all of them, `[patches, labels]`
pub fn sound_view(features: Vec<f32>, logits: &[f32], labels: &[String]) -> View {
    let heard = heard(logits, labels);
    let phrases: Vec<String> = heard.iter().map(|label| facts::sound_phrase(label)).collect();
    let said = |(label, phrase): (&&str, &String)| Said {
        kind: facts::sound_source(label),
        name: phrase.clone(),
        place: None,
    };
    View {
        features,
        hints: sound_hints(logits, labels),
        found: 0,
        // Silence has no source, and is nothing to say.
        said: heard.iter().zip(&phrases).map(said).filter(|said| !said.kind.is_empty()).collect(),
        told: (!phrases.is_empty()).then(|| facts::listed(&phrases)),
    }
}

/// The labels that the program would tell of a sound: of those that some patch is sure of, those that are heard most.
fn heard<'a>(logits: &[f32], labels: &'a [String]) -> Vec<&'a str> {
    /// As sessions keep tags.
    const LEAST: f32 = 0.2;
    let score = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    let patches = logits.len() / labels.len().max(1);
    let heard = labels.iter().enumerate().filter_map(|(class, label)| {
        let scores = logits.iter().skip(class).step_by(labels.len()).map(|logit| score(*logit));
        let sum: f32 = scores.filter(|score| *score >= LEAST).sum();
        (sum > 0.0).then(|| (label.as_str(), sum / patches as f32))
    });
    let heard: Vec<(&str, f32)> = heard.collect();
    facts::sounds_worth_saying(&heard, MOST_SAID)
}

/// 256 wide, cross-attention in every layer.
fn joiner_config(
    [places, encoder_width]: [usize; 2],
    hints: usize,
    [layers, queries]: [usize; 2],
    output_width: usize,
) -> Result<joiner::Config> {
    let qformer = serde_json::json!({
        "hidden_size": 256, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 1024,
        "num_query_token": queries, "encoder_width": 256, "cross_attention_freq": 1,
    });
    let qformer = serde_json::from_value(qformer)?;
    Ok(joiner::Config { places, encoder_width, hints, qformer, output_width })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(kind: &str, name: &str, across: f32) -> Hint {
        Hint { kind: kind.into(), name: name.into(), score: 0.6, centre: [across, 0.5], size: [0.2; 2] }
    }

    #[test]
    fn facts_do_not_name_what_is_kept_for_the_test() {
        let found = |tag: &str| Found {
            tag: tag.into(),
            aliases: vec![],
            score: 0.5,
            box_px: BoxPx { x0: 0.0, y0: 0.0, x1: 10.0, y1: 10.0 },
            taught: false,
        };
        let told = |last: &str| {
            let things = ["dog", "cat", "person", "car", last].map(found).to_vec();
            picture_view(vec![], things, &[], [10, 10]).unwrap().told
        };
        assert!(is_test_kind("cow") && !is_test_kind("horse"));
        assert!(told("horse").is_some_and(|told| told.contains("horse")));
        assert_eq!(told("cow"), None, "the fifth thing is no hint, but would be told");
    }

    #[test]
    fn what_is_heard_is_said_as_facts_tell_it() {
        let labels = ["Moo", "Silence", "Bark", "Rain"].map(str::to_owned);
        let heard = |sure: &[usize]| {
            let logits: Vec<f32> =
                (0..labels.len()).map(|class| if sure.contains(&class) { 3.0 - class as f32 } else { -9.0 }).collect();
            sound_view(vec![], &logits, &labels)
        };
        let view = heard(&[0, 2]);
        let said: Vec<(&str, &str)> = view.said.iter().map(|said| (&*said.kind, &*said.name)).collect();
        assert_eq!(said, [("cow", "a cow mooing"), ("dog", "a dog barking")]);
        assert_eq!(view.told.as_deref(), Some("a cow mooing and a dog barking"));
        assert!(is_test_kind("cow") && !view.is_free_of_test_kinds() && heard(&[2]).is_free_of_test_kinds());
        assert_eq!(heard(&[1]).said, [], "silence");
        assert_eq!((heard(&[]).said, heard(&[]).told), (vec![], None));
    }

    #[test]
    fn what_was_found_is_said_in_its_order_each_kind_once() {
        let hints = vec![
            hint("person", "person", 0.1),
            hint("dog", "pug", 0.9),
            hint("person", "person", 0.8),
            hint("cat", "cat", 0.5),
            hint("horse", "horse", 0.5),
        ];
        let told = Some("two people, a dog on the right and a cat in the middle".into());
        let view = View { features: vec![], said: things_said(&hints[..4]), hints, found: 4, told };
        let said = |kind: &str, name: &str, place: Option<&str>| Said {
            kind: kind.into(),
            name: name.into(),
            place: place.map(str::to_owned),
        };
        assert_eq!(view.said, [said("person", "person", None), said("dog", "pug", Some("on the right"))]);
        assert!(view.hints_at("horse") && view.hints_at("pug") && !view.hints_at("bird"));
        assert!(view.tells("person") && view.tells("dog") && view.tells("cat") && !view.tells("horse"));
        assert!(!view.tells("do") && !view.tells("at"), "parts of words are no names");
        assert_eq!(things_said(&[]), []);
    }
}
