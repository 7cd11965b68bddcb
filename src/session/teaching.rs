//! Teaching a loaded session a few things and sounds, and recognising them from then on.

use std::cell::RefCell;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::scene::{Heard, Scene, TaughtTag};
use super::{Session, Sink, Topic, not_loaded};
use crate::bundle::Manifest;
use crate::encoders::yamnet::SoundTag;
use crate::error::{Error, Result};
use crate::grounding::scene::Eyes;
use crate::grounding::taught::things::{Described, describe, features_of, named, whole};
use crate::grounding::taught::{Encoders, Lesson, Recogniser, Sense, Taught, TaughtSummary, sounds};
use crate::grounding::{Found, Tagger, Thing};
use crate::host::Host;
use crate::media::{BoxPx, Mask, RgbImage};

/// Smallest side of a box that can be taught from, in pixels.
const LEAST_SIDE_PX: f32 = 8.0;

/// What an example is taken from: the picture or the sound of the conversation, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The whole picture.
    Picture,
    /// One of its things, by its place among them.
    Thing(usize),
    /// A box in it.
    Box(BoxPx),
    /// The whole sound.
    Sound,
    /// A stretch of it: begin and end in seconds.
    Span([f32; 2]),
}

/// An example that a person gives.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teaching {
    /// What it is called: `Rex` or `our doorbell` for one single thing, `thermos` for a kind of thing.
    pub name: String,
    /// The broader kind, for example `dog`.
    #[serde(default)]
    pub kind: Option<String>,
    /// What shows it.
    pub subject: Subject,
    /// Whether it shows what the name is not for.
    #[serde(default)]
    pub counterexample: bool,
}

/// What is taught, as a page lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TaughtList {
    /// The classes, in the order in which they were taught.
    pub classes: Vec<TaughtSummary>,
    /// Whether things in pictures can be taught to this bundle.
    pub pictures: bool,
    /// Whether sounds can.
    pub sounds: bool,
}

/// A picture as it was before anything taught was recognised in it.
#[derive(Debug)]
pub(super) struct Studied {
    image: RgbImage,
    found: Vec<Found>,
    described: RefCell<Option<Rc<Described>>>,
    /// Masks by the boxes that they were made for.
    masks: RefCell<Vec<(BoxPx, Mask)>>,
}

impl Studied {
    pub fn new(image: &RgbImage, found: Vec<Found>) -> Self {
        Self { image: image.clone(), found, described: RefCell::default(), masks: RefCell::default() }
    }

    /// The things with their masks, those of boxes that were outlined before as they were.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `host` says so, and those of the segmenter.
    pub async fn outlined(&self, found: Vec<Found>, eyes: &Eyes, host: &dyn Host) -> Result<Vec<Thing>> {
        let boxes = found.iter().map(|found| found.box_px);
        let new: Vec<BoxPx> = boxes.filter(|box_px| self.mask(box_px).is_none()).collect();
        let masks = eyes.segmenter.segment(&self.image, &new, host).await?;
        self.masks.borrow_mut().extend(new.into_iter().zip(masks));
        let (found, masks) =
            found.into_iter().filter_map(|found| self.mask(&found.box_px).map(|mask| (found, mask))).unzip();
        Ok(eyes.outlined(found, masks))
    }

    fn mask(&self, box_px: &BoxPx) -> Option<Mask> {
        self.masks.borrow().iter().find(|(known, _)| known == box_px).map(|(_, mask)| mask.clone())
    }

    /// Features of the picture and its boxes, made when first needed.
    async fn described(&self, tagger: &dyn Tagger, host: &dyn Host) -> Result<Option<Rc<Described>>> {
        if let Some(known) = self.described.borrow().clone() {
            return Ok(Some(known));
        }
        let described = describe(tagger, &self.image, &self.found, host).await?.map(Rc::new);
        self.described.replace(described.clone());
        Ok(described)
    }
}

impl Session {
    /// Takes note of the encoders of the bundle that is loaded; what was taught to others is forgotten.
    pub fn set_encoders(&self, manifest: &Manifest) {
        let encoders = Encoders::of(manifest);
        if *self.taught.borrow().encoders() != encoders {
            self.taught.replace(Taught::new(encoders));
        }
    }

    /// What is taught, and whether more can be.
    pub fn taught(&self) -> TaughtList {
        let taught = self.taught.borrow();
        let Encoders { picture, sound } = taught.encoders();
        TaughtList { classes: taught.summaries(), pictures: picture.is_some(), sounds: sound.is_some() }
    }

    /// What is taught as a document, see [`crate::grounding::taught::document`]; of one sense, or of both.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn export_taught(&self, sense: Option<Sense>) -> Result<String> {
        self.taught.borrow().to_json(sense)
    }

    /// Teaches one example; what is shown and heard in the conversation is then looked at again, and told.
    ///
    /// # Errors
    /// [`Error::Input`] without a picture or sound, for a thing or a part that is not there, and as
    /// [`Taught::learn`]; [`Error::Unsupported`] if this bundle cannot be taught. Nothing is learnt then.
    pub async fn teach(&self, teaching: &Teaching, host: &dyn Host, events: Sink<'_>) -> Result<TaughtList> {
        let sense = match teaching.subject {
            Subject::Picture | Subject::Thing(_) | Subject::Box(_) => Sense::Picture,
            Subject::Sound | Subject::Span(_) => Sense::Sound,
        };
        self.taught.borrow().encoders().required(sense)?;
        let features = match sense {
            Sense::Picture => self.picture_features(teaching.subject, host).await?,
            Sense::Sound => self.sound_features(teaching.subject).await?,
        };
        let Teaching { name, kind, counterexample, .. } = teaching.clone();
        self.taught.borrow_mut().learn(Lesson { name, kind, sense, features, counterexample })?;
        self.recognise_again(sense, host, events).await?;
        Ok(self.taught())
    }

    /// Adds what a document holds; what is shown and heard is looked at again.
    ///
    /// # Errors
    /// Those of [`Taught::from_json`] and [`Taught::merge`]. Nothing is taken then.
    pub async fn import_taught(&self, json: &[u8], host: &dyn Host, events: Sink<'_>) -> Result<TaughtList> {
        let others = Taught::from_json(json)?;
        self.taught.borrow_mut().merge(&others)?;
        for sense in [Sense::Picture, Sense::Sound] {
            if !others.is_empty(sense) {
                self.recognise_again(sense, host, events).await?;
            }
        }
        Ok(self.taught())
    }

    /// Forgets one name, or all; what is shown and heard is looked at again.
    ///
    /// # Errors
    /// [`Error::Input`] if nothing of that name was taught.
    pub async fn forget_taught(&self, name: Option<&str>, host: &dyn Host, events: Sink<'_>) -> Result<TaughtList> {
        self.taught.borrow_mut().forget(name)?;
        for sense in [Sense::Picture, Sense::Sound] {
            self.recognise_again(sense, host, events).await?;
        }
        Ok(self.taught())
    }

    /// Names that were taught.
    pub(super) fn taught_names(&self) -> Vec<String> {
        self.taught.borrow().classes().iter().map(|class| class.name.clone()).collect()
    }

    /// The things of a picture with the names that were taught.
    pub(super) async fn named(&self, studied: &Studied, tagger: &dyn Tagger, host: &dyn Host) -> Result<Vec<Found>> {
        let recogniser = Recogniser::new(&self.taught.borrow(), Sense::Picture);
        let Some(recogniser) = recogniser else { return Ok(studied.found.clone()) };
        match studied.described(tagger, host).await? {
            Some(described) => named(&recogniser, &described, tagger, &studied.image, &studied.found, host).await,
            None => Ok(studied.found.clone()),
        }
    }

    /// Taught sounds in what is heard.
    pub(super) async fn heard_names(&self, heard: &Heard) -> Result<Vec<TaughtTag>> {
        let recogniser = Recogniser::new(&self.taught.borrow(), Sense::Sound);
        let Some(recogniser) = recogniser else { return Ok(Vec::new()) };
        let tag = |found: sounds::HeardClass| {
            let class = &recogniser.classes()[found.class];
            let [start_s, end_s] = found.span_s;
            let end_s = end_s.min(heard.duration_s);
            let tag = SoundTag { label: class.name.clone(), score: found.score, start_s, end_s };
            TaughtTag { tag, kind: class.kind.clone() }
        };
        Ok(sounds::heard(&recogniser, &patches_of(heard).await?, &heard.spans_s).into_iter().map(tag).collect())
    }

    async fn picture_features(&self, subject: Subject, host: &dyn Host) -> Result<Vec<f32>> {
        let (scene, studied) = {
            let talk = self.talk.borrow();
            (talk.scene.clone(), talk.studied.clone())
        };
        let (Some(scene), Some(studied)) = (scene, studied) else {
            return Err(Error::Input("there is no picture to teach from; show one first".into()));
        };
        let image = &studied.image;
        let part = match subject {
            Subject::Thing(thing) => {
                let known = scene.things.get(thing).map(|thing| thing.box_px);
                let count = scene.things.len();
                known.ok_or_else(|| Error::Input(format!("there is no thing {thing}; the picture has {count}")))?
            }
            Subject::Box(box_px) => {
                let inside = box_px.clamped(image.width(), image.height());
                let (width, height) = (inside.x1 - inside.x0, inside.y1 - inside.y0);
                // Written so that a box of what is no number is refused too.
                if !(width >= LEAST_SIDE_PX && height >= LEAST_SIDE_PX) {
                    let reason = format!("the box has {width:.0} × {height:.0} pixels in the picture");
                    return Err(Error::Input(format!("{reason}; draw one of at least {LEAST_SIDE_PX} each way")));
                }
                inside
            }
            _ => whole(image),
        };
        let tagger = self.models.borrow().tagger.clone().ok_or_else(|| not_loaded("pictures"))?;
        host.breathe().await?;
        let features = features_of(&*tagger, image, part).await?;
        features.ok_or_else(|| Error::Unsupported("teaching: the bundle's tagger gives no features".into()))
    }

    async fn sound_features(&self, subject: Subject) -> Result<Vec<f32>> {
        let Some(heard) = self.heard() else {
            return Err(Error::Input("there is no sound to teach from; play one first".into()));
        };
        let span_s = match subject {
            Subject::Span([start_s, end_s]) if start_s < end_s => [start_s, end_s],
            Subject::Span([start_s, end_s]) => {
                return Err(Error::Input(format!("the stretch from {start_s} s to {end_s} s has no length")));
            }
            _ => [0.0, heard.duration_s],
        };
        let features = sounds::features_of(&patches_of(&heard).await?, &heard.spans_s, span_s);
        features.ok_or_else(|| {
            let [start_s, end_s] = span_s;
            Error::Input(format!("from {start_s} s to {end_s} s there is no sound; it lasts {} s", heard.duration_s))
        })
    }

    /// Looks at the picture, or listens to the sound, of the conversation for what is taught now. What was said about it
    /// is forgotten, since it may be called otherwise now.
    async fn recognise_again(&self, sense: Sense, host: &dyn Host, events: Sink<'_>) -> Result<()> {
        match sense {
            Sense::Picture => self.look_again(host, events).await,
            Sense::Sound => self.listen_again(events).await,
        }
    }

    async fn look_again(&self, host: &dyn Host, events: Sink<'_>) -> Result<()> {
        let (scene, studied) = {
            let talk = self.talk.borrow();
            (talk.scene.clone(), talk.studied.clone())
        };
        let (Some(scene), Some(studied)) = (scene, studied) else { return Ok(()) };
        let eyes = self.models.borrow().eyes()?;
        let found = self.named(&studied, &*eyes.tagger, host).await?;
        let things = studied.outlined(found, &eyes, host).await?;
        let found: Vec<Found> = things.iter().map(Thing::found).collect();
        let size = [studied.image.width(), studied.image.height()];
        let embeddings = scene.embeddings.as_ref().map(|seen| seen.with_things(&found, scene.things.len(), size));
        let mut again = Scene::new(&studied.image, things);
        again.embeddings = embeddings;
        again.guesses.clone_from(&scene.guesses);
        let again = Rc::new(again);
        events(Event::Things { things: again.shown(), r#final: true });
        let mut talk = self.talk.borrow_mut();
        talk.scene = Some(again);
        talk.threads.retain(|(topic, _)| *topic == Topic::Sound);
        Ok(())
    }

    async fn listen_again(&self, events: Sink<'_>) -> Result<()> {
        let Some(heard) = self.heard() else { return Ok(()) };
        let taught = self.heard_names(&heard).await?;
        let again = Rc::new(Heard { taught, ..Heard::clone(&heard) });
        events(Event::Sounds { sounds: again.shown() });
        let mut talk = self.talk.borrow_mut();
        talk.heard = Some(again);
        talk.threads.retain(|(topic, _)| *topic == Topic::Picture);
        Ok(())
    }
}

/// Features of each patch of a sound.
async fn patches_of(heard: &Heard) -> Result<Vec<Vec<f32>>> {
    let [_, _, dim] = heard.features.tokens.dims_of("features of a sound")?;
    Ok(heard.features.tokens.to_f32().await?.chunks_exact(dim).map(<[f32]>::to_vec).collect())
}
