//! Things and sounds that a person taught by a few examples: their names, their features, and how they are recognised.
//!
//! The networks stay as they are. A taught class is a handful of feature vectors of the frozen encoder, see [`rule`] for
//! how a new vector is compared with them, and [`document`] for how they are kept and handed on.

pub mod document;
pub mod encoder;
pub mod name;
pub mod rule;
pub mod sounds;
pub mod things;

use serde::{Deserialize, Serialize};

pub use encoder::{EncoderId, Encoders};
pub use rule::{Match, Recogniser};

use crate::error::{Error, Result};
use name::{checked_kind, checked_name};

/// Classes of one sense at the most.
pub const MAX_CLASSES: usize = 64;
/// Examples of one class at the most, and as many counterexamples.
pub const MAX_EXAMPLES: usize = 24;

/// What a class was taught from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sense {
    /// Things in pictures.
    Picture,
    /// Sounds.
    Sound,
}

/// One taught class.
#[derive(Debug, Clone, PartialEq)]
pub struct TaughtClass {
    /// What it is called, see [`name`].
    pub name: String,
    /// The broader kind that it is one of, lower-case English: `dog` for Rex.
    pub kind: Option<String>,
    /// What it was taught from.
    pub sense: Sense,
    /// Features of examples, each as wide as the encoder's.
    pub examples: Vec<Vec<f32>>,
    /// Features of what was taken for it and is not.
    pub counterexamples: Vec<Vec<f32>>,
}

/// A taught class as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaughtSummary {
    /// What it is called.
    pub name: String,
    /// The broader kind.
    pub kind: Option<String>,
    /// What it was taught from.
    pub sense: Sense,
    /// Number of examples.
    pub examples: usize,
    /// Number of counterexamples.
    pub counterexamples: usize,
}

/// Something to learn.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// What it is called; a name that is known already gets one more example. Upper and lower case are the same here.
    pub name: String,
    /// The broader kind; none keeps the one that is known.
    pub kind: Option<String>,
    /// What it is taught from.
    pub sense: Sense,
    /// Features of the example.
    pub features: Vec<f32>,
    /// Whether the example shows what the class is not.
    pub counterexample: bool,
}

/// All taught classes, for one pair of encoders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taught {
    /// The encoders whose features these are.
    encoders: Encoders,
    classes: Vec<TaughtClass>,
}

impl Taught {
    /// Nothing taught yet, for these encoders.
    pub fn new(encoders: Encoders) -> Self {
        Self { encoders, classes: Vec::new() }
    }

    /// The encoders whose features the examples are.
    pub fn encoders(&self) -> &Encoders {
        &self.encoders
    }

    /// The classes, in the order in which they were taught.
    pub fn classes(&self) -> &[TaughtClass] {
        &self.classes
    }

    /// Whether nothing is taught of this sense.
    pub fn is_empty(&self, sense: Sense) -> bool {
        !self.classes.iter().any(|class| class.sense == sense)
    }

    /// The classes as they are listed.
    pub fn summaries(&self) -> Vec<TaughtSummary> {
        let summary = |class: &TaughtClass| TaughtSummary {
            name: class.name.clone(),
            kind: class.kind.clone(),
            sense: class.sense,
            examples: class.examples.len(),
            counterexamples: class.counterexamples.len(),
        };
        self.classes.iter().map(summary).collect()
    }

    /// Learns one example.
    ///
    /// # Errors
    /// [`Error::Input`] for a name or kind that cannot be used, a counterexample of a class that is not known, and what
    /// would pass [`MAX_CLASSES`] or [`MAX_EXAMPLES`]; [`Error::Unsupported`] where the bundle has no encoder for the
    /// sense; [`Error::Shape`] for features of another width or that are no numbers. Nothing is changed then.
    pub fn learn(&mut self, lesson: Lesson) -> Result<()> {
        let Lesson { name, kind, sense, features, counterexample } = lesson;
        let name = checked_name("name", &name)?;
        let kind = kind.as_deref().map(checked_kind).transpose()?.flatten();
        // As it will be read from a document, so that an import of the same example is recognised as the same.
        let features = document::rounded(&features);
        self.encoders.check(sense, &features)?;
        let Some(at) = self.position(&name, sense) else {
            if counterexample {
                return Err(Error::Input(format!("{name:?} was not taught; teach what it is before what it is not")));
            }
            self.check_room(sense, 1)?;
            let (examples, counterexamples) = (vec![features], Vec::new());
            self.classes.push(TaughtClass { name, kind, sense, examples, counterexamples });
            return Ok(());
        };
        let class = &mut self.classes[at];
        let list = if counterexample { &mut class.counterexamples } else { &mut class.examples };
        if list.len() >= MAX_EXAMPLES {
            let which = if counterexample { "counterexamples" } else { "examples" };
            let name = &class.name;
            return Err(Error::Input(format!(
                "{name:?} has {MAX_EXAMPLES} {which}, which is the limit; forget it to begin anew"
            )));
        }
        list.push(features);
        class.kind = kind.or(class.kind.take());
        Ok(())
    }

    /// Adds the classes of another collection: a name that is known gets the examples that it lacks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if they are of other encoders, [`Error::Input`] if they would pass a limit. Nothing is
    /// changed then.
    pub fn merge(&mut self, others: &Taught) -> Result<()> {
        let mut merged = self.clone();
        for other in &others.classes {
            merged.encoders.check_same(other.sense, &others.encoders)?;
            let Some(at) = merged.position(&other.name, other.sense) else {
                merged.check_room(other.sense, 1)?;
                merged.classes.push(other.clone());
                continue;
            };
            let class = &mut merged.classes[at];
            class.kind = class.kind.take().or_else(|| other.kind.clone());
            add_missing(&class.name, &mut class.examples, &other.examples)?;
            add_missing(&class.name, &mut class.counterexamples, &other.counterexamples)?;
        }
        *self = merged;
        Ok(())
    }

    /// Forgets one class, in both senses, or all. Returns how many classes went.
    ///
    /// # Errors
    /// [`Error::Input`] if nothing of that name was taught.
    pub fn forget(&mut self, name: Option<&str>) -> Result<usize> {
        let before = self.classes.len();
        match name {
            None => self.classes.clear(),
            Some(name) => self.classes.retain(|class| !same_name(&class.name, name)),
        }
        match (before - self.classes.len(), name) {
            (0, Some(name)) => {
                let name: String = name.chars().take(name::MAX_NAME_CHARS).collect();
                Err(Error::Input(format!("nothing was taught by the name {name:?}")))
            }
            (gone, _) => Ok(gone),
        }
    }

    fn position(&self, name: &str, sense: Sense) -> Option<usize> {
        self.classes.iter().position(|class| class.sense == sense && same_name(&class.name, name))
    }

    fn check_room(&self, sense: Sense, more: usize) -> Result<()> {
        let count = self.classes.iter().filter(|class| class.sense == sense).count();
        if count + more > MAX_CLASSES {
            return Err(Error::Input(format!(
                "{MAX_CLASSES} classes are taught already, which is the limit; forget one that is not needed"
            )));
        }
        Ok(())
    }
}

/// Names are compared without regard to case and outer spaces.
fn same_name(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

fn add_missing(name: &str, known: &mut Vec<Vec<f32>>, others: &[Vec<f32>]) -> Result<()> {
    let missing: Vec<_> = others.iter().filter(|other| !known.contains(other)).cloned().collect();
    if known.len() + missing.len() > MAX_EXAMPLES {
        return Err(Error::Input(format!(
            "{name:?} would have {} examples; {MAX_EXAMPLES} is the limit. Forget it here before the import",
            known.len() + missing.len()
        )));
    }
    known.extend(missing);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(features: usize) -> EncoderId {
        EncoderId { model: "tiny".into(), fingerprint: "ab".repeat(32), features }
    }

    /// Nothing, for pictures of four features and sounds of two.
    pub(super) fn taught() -> Taught {
        Taught::new(Encoders { picture: Some(id(4)), sound: Some(id(2)) })
    }

    pub(super) fn lesson(name: &str, features: [f32; 4]) -> Lesson {
        let (name, sense, features) = (name.to_owned(), Sense::Picture, features.to_vec());
        Lesson { name, kind: None, sense, features, counterexample: false }
    }

    #[test]
    fn examples_add_up_under_one_name() {
        let mut taught = taught();
        taught.learn(Lesson { kind: Some("Dog".into()), ..lesson("Rex", [1.0; 4]) }).expect("the first");
        taught.learn(lesson(" rex ", [2.0; 4])).expect("the second");
        let sound = Lesson { sense: Sense::Sound, features: vec![1.0, 2.0], ..lesson("Rex", [0.0; 4]) };
        taught.learn(sound).expect("a sound of the same name");
        let summaries = taught.summaries();
        assert_eq!((summaries.len(), summaries[0].examples, summaries[0].kind.as_deref()), (2, 2, Some("dog")));
        assert_eq!(taught.forget(Some("REX")).expect("both"), 2);
        assert!(taught.classes().is_empty());
        assert_eq!(taught.forget(Some("Rex")).expect_err("gone").code(), "input");
        assert_eq!(taught.forget(None).expect("nothing to forget is fine"), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut taught = taught();
        taught.learn(lesson("Rex", [1.0; 4])).expect("an example");
        let before = taught.clone();
        let cases = [
            (Lesson { features: vec![1.0; 3], ..lesson("Rex", [0.0; 4]) }, "shape"),
            (lesson("Rex", [f32::NAN, 1.0, 1.0, 1.0]), "shape"),
            (lesson("Rex", [0.0; 4]), "shape"),
            (lesson("<i>", [1.0; 4]), "input"),
            (Lesson { kind: Some("a/b".into()), ..lesson("Rex", [1.0; 4]) }, "input"),
            (Lesson { counterexample: true, ..lesson("Fido", [1.0; 4]) }, "input"),
        ];
        for (lesson, code) in cases {
            assert_eq!(taught.learn(lesson.clone()).expect_err("it does not fit").code(), code, "{lesson:?}");
        }
        assert_eq!(taught, before);
        for _ in 1..MAX_EXAMPLES {
            taught.learn(lesson("Rex", [1.0; 4])).expect("room");
        }
        assert_eq!(taught.learn(lesson("Rex", [1.0; 4])).expect_err("full").code(), "input");
        for at in 1..MAX_CLASSES {
            taught.learn(lesson(&format!("Rex {at}"), [1.0; 4])).expect("room");
        }
        assert_eq!(taught.learn(lesson("Fido", [1.0; 4])).expect_err("full").code(), "input");
        let mut deaf = Taught::new(Encoders { picture: Some(id(4)), sound: None });
        let sound = Lesson { sense: Sense::Sound, ..lesson("bell", [1.0; 4]) };
        assert_eq!(deaf.learn(sound).expect_err("no encoder").code(), "unsupported");
    }

    #[test]
    fn documents_are_read_back_and_merged() {
        let mut first = taught();
        first.learn(Lesson { kind: Some("dog".into()), ..lesson("Rex", [0.5, 1.0, 0.25, 6.0]) }).expect("an example");
        let json = first.to_json(None).expect("plain data");
        let read = Taught::from_json(json.as_bytes()).expect("its own output");
        assert_eq!(read.summaries(), first.summaries());
        let mut second = taught();
        second.learn(lesson("rex", [1.0; 4])).expect("an example");
        second.merge(&read).expect("the same encoders");
        second.merge(&read).expect("a second time changes nothing");
        assert_eq!((second.classes().len(), second.classes()[0].examples.len()), (1, 2));
        assert_eq!(second.classes()[0].kind.as_deref(), Some("dog"));
        let mut other =
            Taught::new(Encoders { picture: Some(EncoderId { model: "other".into(), ..id(4) }), sound: None });
        let error = other.merge(&read).expect_err("another encoder");
        assert!(error.code() == "unsupported" && error.to_string().contains("another encoder (tiny abab"), "{error}");
        assert!(other.classes().is_empty());
    }

    /// A valid document, changed in one place by each case.
    #[test]
    fn hostile_documents_are_refused_by_name() {
        let mut taught = taught();
        taught.learn(lesson("Rex", [1.0; 4])).expect("an example");
        let good = taught.to_json(None).expect("plain data");
        let vector = "ADwAPAA8ADw=";
        assert!(good.contains(vector), "{good}");
        let twice = format!(
            r#""examples":["{vector}"],"counterexamples":[]}},{{"name":"REX","sense":"picture","examples":["{vector}"]"#
        );
        let many = vec![format!("{vector:?}"); MAX_EXAMPLES + 1].join(",");
        let (list, lists) = (format!("[\"{vector}\"]"), format!("\"examples\":[\"{vector}\"],\"counterexamples\":[]"));
        let cases: Vec<(&str, String, &str, &str)> = vec![
            ("\"bubo-taught\"", "\"other\"".into(), "corrupt", "format"),
            ("\"version\":1", "\"version\":2".into(), "unsupported", "version"),
            ("\"version\":1", "\"version\":1,\"more\":0".into(), "corrupt", "more"),
            (vector, "ADwAPAA8".into(), "corrupt", "characters"),
            (vector, "ADwAPAA8ADw=ADwAPAA8ADw=".into(), "corrupt", "characters"),
            (vector, "ADwAPAA8AD!=".into(), "corrupt", "Rex"),
            (vector, "AHwAPAA8ADw=".into(), "corrupt", "finite"), // an infinity
            (vector, "AH4APAA8ADw=".into(), "corrupt", "finite"), // no number
            (vector, "AAAAAAAAAAA=".into(), "corrupt", "zeros"),
            (&list, format!("[{many}]"), "input", "25 examples"),
            (&list, "[]".into(), "corrupt", "no examples"),
            ("\"Rex\"", format!("{:?}", "x".repeat(10_000)), "input", "10000 characters"),
            ("\"Rex\"", "\"<script>alert(1)</script>\"".into(), "input", "character"),
            ("\"picture\",\"examples\"", "\"smell\",\"examples\"".into(), "corrupt", "smell"),
            ("\"picture\",\"examples\"", "\"sound\",\"examples\"".into(), "corrupt", "none for it"),
            ("\"features\":4", "\"features\":4000000000".into(), "corrupt", "features"),
            ("\"features\":4", "\"features\":0".into(), "corrupt", "features"),
            ("abab", "zz".into(), "corrupt", "hexadecimal"),
            (&lists, twice, "corrupt", "twice"),
        ];
        for (place, change, code, word) in cases {
            let changed = good.replacen(place, &change, 1);
            assert_ne!(changed, good, "{place} is in {good}");
            let error = Taught::from_json(changed.as_bytes()).expect_err(&change);
            let told = error.to_string();
            assert!(error.code() == code && told.contains(word) && told.len() < 400, "{place} → {change:.60}: {told}");
        }
        for bytes in [b"".as_slice(), b"[]", b"null", b"{", b"\xff", &[b'['; 5000]] {
            assert_eq!(Taught::from_json(bytes).expect_err("no document").code(), "corrupt");
        }
        let long = vec![b' '; document::MAX_DOCUMENT_BYTES + 1];
        assert_eq!(Taught::from_json(&long).expect_err("too long").code(), "input");
    }
}
