//! Sets: questions with what counts as right, as a JSON file. `docs/evaluation.md` describes the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bubo::media::BoxPx;
use bubo::session::facts::with_article;
use serde::{Deserialize, Serialize};

/// A set of questions with what counts as right.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Set {
    /// Where it comes from and what it may be used for, in words.
    pub about: String,
    /// Pictures that are drawn, by the name that items give as their `image`.
    pub pictures: BTreeMap<String, Composite>,
    /// In any order; neighbours with the same picture are asked about it without looking at it again.
    pub items: Vec<Item>,
}

/// A picture that is drawn of others, so that the pixels of each thing are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Composite {
    /// Columns and rows.
    pub size_px: [u32; 2],
    /// A photograph behind the things, cut to fill the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<PathBuf>,
    /// Instead of it, the seed of a ground that fades from one colour to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground: Option<u64>,
    /// What is drawn, the nearest last.
    pub things: Vec<Cutout>,
}

/// A picture with transparent pixels around its thing, and where it is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    /// PNG or WebP.
    pub file: PathBuf,
    /// Its centre, of the picture's width and height, 0..1.
    pub centre_unit: [f32; 2],
    /// Its height, of the picture's height, 0..1.
    pub height_unit: f32,
}

/// A thing whose pixels or boxes are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownThing {
    /// Words, one of which a phrase must have that means it.
    pub accept: Vec<String>,
    /// Its boxes, one for each of its kind, in pixels of the picture: left, top, right, bottom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes_px: Vec<BoxPx>,
    /// Instead of boxes: which of a drawn picture's things it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drawn: Vec<usize>,
}

/// A place as answers say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Left third.
    Left,
    /// Middle third.
    Middle,
    /// Right third.
    Right,
}

/// A question with what counts as right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Item {
    /// Describe a picture.
    Describe {
        /// File, or a drawn picture's name.
        image: PathBuf,
        /// Words, one of which must be named.
        accept: Vec<String>,
        /// Words that may be named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<String>,
        /// Things whose place in the picture is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        things: Vec<KnownThing>,
    },
    /// Say what a sound is.
    Sound {
        /// File.
        audio: PathBuf,
        /// Words, one of which must be named.
        accept: Vec<String>,
    },
    /// Say what it is that the picture shows.
    What {
        /// File, or a drawn picture's name.
        image: PathBuf,
        /// `What is it?` unless given.
        #[serde(default = "what_is_it")]
        question: String,
        /// Words, one of which must be named.
        accept: Vec<String>,
    },
    /// Say whether something is in the picture.
    There {
        /// File, or a drawn picture's name.
        image: PathBuf,
        /// With its article: `a dog`.
        thing: String,
        /// Whether it is.
        there: bool,
    },
    /// Say where something is.
    Where {
        /// File, or a drawn picture's name.
        image: PathBuf,
        /// Without article: `dog`.
        thing: String,
        /// Places that are right; the answer must name some of these and no others.
        accept: Vec<Place>,
    },
    /// Anything else about a picture.
    Question {
        /// File, or a drawn picture's name.
        image: PathBuf,
        /// What is asked.
        question: String,
        /// Words, one of which must be named.
        accept: Vec<String>,
    },
    /// Tell whether picture and sound belong together.
    Pair {
        /// File, or a drawn picture's name.
        image: PathBuf,
        /// Sound.
        audio: PathBuf,
        /// Whether they do.
        related: bool,
    },
}

fn what_is_it() -> String {
    "What is it?".into()
}

impl Item {
    /// Its picture and its sound.
    pub fn files(&self) -> (Option<&Path>, Option<&Path>) {
        match self {
            Item::Sound { audio, .. } => (None, Some(audio)),
            Item::Pair { image, audio, .. } => (Some(image), Some(audio)),
            Item::Describe { image, .. }
            | Item::What { image, .. }
            | Item::There { image, .. }
            | Item::Where { image, .. }
            | Item::Question { image, .. } => (Some(image), None),
        }
    }

    /// What is asked.
    pub fn question(&self) -> String {
        match self {
            Item::Describe { .. } => "Describe the picture.".into(),
            Item::Sound { .. } => "What do you hear?".into(),
            Item::What { question, .. } | Item::Question { question, .. } => question.clone(),
            Item::There { thing, .. } => format!("Is there {thing} in the picture?"),
            Item::Where { thing, .. } => format!("Where is the {thing}?"),
            Item::Pair { .. } => "Are the audio and image related to each other? What are they?".into(),
        }
    }

    fn check(&self, pictures: &BTreeMap<String, Composite>) -> anyhow::Result<()> {
        let words = |accept: &[String]| {
            ensure!(!accept.is_empty(), "`accept` has no words, so that nothing could be right");
            ensure!(accept.iter().all(|word| word.chars().any(char::is_alphanumeric)), "a word of `accept` is empty");
            Ok(())
        };
        match self {
            Item::Describe { image, accept, things, .. } => {
                words(accept)?;
                let picture = image.to_str().and_then(|name| pictures.get(name));
                for thing in things {
                    words(&thing.accept)?;
                    thing.check(picture).with_context(|| format!("thing {:?}", thing.accept[0]))?;
                }
                Ok(())
            }
            Item::Sound { accept, .. } | Item::What { accept, .. } | Item::Question { accept, .. } => words(accept),
            Item::There { thing, .. } => {
                let article = ["a ", "an ", "the ", "any "].iter().any(|article| thing.starts_with(article));
                // Some nouns have none: binoculars.
                ensure!(
                    article || with_article(thing) == *thing,
                    "`thing` is {thing:?}; write it with its article, as in `a dog`"
                );
                Ok(())
            }
            Item::Where { thing, accept, .. } => {
                ensure!(!thing.trim().is_empty(), "`thing` is empty");
                ensure!(!accept.is_empty(), "`accept` has no places");
                Ok(())
            }
            Item::Pair { .. } => Ok(()),
        }
    }
}

impl KnownThing {
    fn check(&self, picture: Option<&Composite>) -> anyhow::Result<()> {
        ensure!(self.boxes_px.is_empty() != self.drawn.is_empty(), "give either `boxes_px` or `drawn`");
        for box_px in &self.boxes_px {
            let [x0, y0, x1, y1] = <[f32; 4]>::from(*box_px);
            ensure!(
                x0 >= 0.0 && y0 >= 0.0 && x1 > x0 && y1 > y0 && x1.is_finite() && y1.is_finite(),
                "box {:?} is not left, top, right, bottom in pixels",
                [x0, y0, x1, y1]
            );
        }
        if !self.drawn.is_empty() {
            let picture =
                picture.context("`drawn` is for drawn pictures; this one is a file, which takes `boxes_px`")?;
            let count = picture.things.len();
            if let Some(missing) = self.drawn.iter().find(|index| **index >= count) {
                bail!("`drawn` names thing {missing}, but the picture has {count}, counted from 0");
            }
        }
        Ok(())
    }
}

impl Composite {
    fn check(&self) -> anyhow::Result<()> {
        let [width, height] = self.size_px;
        ensure!((16..=4096).contains(&width) && (16..=4096).contains(&height), "a side of `size_px` is not 16 to 4096");
        ensure!(self.background.is_some() != self.ground.is_some(), "give either `background` or `ground`");
        for Cutout { file, centre_unit, height_unit } in &self.things {
            let inside = centre_unit.iter().all(|unit| (0.0..=1.0).contains(unit));
            ensure!(inside, "`centre_unit` of {} is not within 0 to 1", file.display());
            let visible = *height_unit > 0.0 && *height_unit <= 1.0;
            ensure!(visible, "`height_unit` of {} is not more than 0 and up to 1", file.display());
        }
        Ok(())
    }
}

/// Reads a set and checks all that can be known without looking at its files.
///
/// # Errors
/// If it cannot be read or is no set, in words that name the item or picture and say what to do.
pub fn read(path: &Path) -> anyhow::Result<Set> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &[u8]) -> anyhow::Result<Set> {
    /// Items as they are, so that an error can say which one is wrong.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        #[serde(default)]
        about: String,
        #[serde(default)]
        pictures: BTreeMap<String, Composite>,
        items: Vec<serde_json::Value>,
    }
    let Raw { about, pictures, items } = serde_json::from_slice(text)?;
    ensure!(!items.is_empty(), "it has no items");
    for (name, picture) in &pictures {
        picture.check().with_context(|| format!("picture {name:?}"))?;
    }
    let items = items.into_iter().enumerate().map(|(index, item)| {
        let place = || format!("item {}", index + 1);
        let item: Item = serde_json::from_value(item).with_context(place)?;
        item.check(&pictures).with_context(place)?;
        Ok(item)
    });
    let items = items.collect::<anyhow::Result<Vec<Item>>>()?;
    Ok(Set { about, pictures, items })
}

impl Set {
    /// Checks that every file is there.
    ///
    /// # Errors
    /// If some are not, naming the first and telling how many and what to do.
    pub fn check_files(&self, root: &Path) -> anyhow::Result<()> {
        let of_items = self.items.iter().flat_map(|item| {
            let (image, audio) = item.files();
            let drawn = |path: &&Path| path.to_str().is_some_and(|name| self.pictures.contains_key(name));
            [image.filter(|path| !drawn(path)), audio]
        });
        let of_pictures = self.pictures.values().flat_map(|picture| {
            picture.things.iter().map(|thing| Some(thing.file.as_path())).chain([picture.background.as_deref()])
        });
        let mut missing: Vec<&Path> =
            of_items.chain(of_pictures).flatten().filter(|path| !root.join(path).is_file()).collect();
        missing.sort();
        missing.dedup();
        if let Some(first) = missing.first() {
            bail!(
                "{} of its files are missing below {}, the first is {}; give the folder of the files with --root, and \
                 fetch those of tests/eval with `cargo xtask parts` and `bubo data --data ~/.cache/bubo/train/data`",
                missing.len(),
                root.display(),
                first.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        format!("{:#}", parse(json.as_bytes()).unwrap_err())
    }

    #[test]
    fn sets_of_the_repository_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/eval");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("taught.json") {
                continue; // of `eval-taught`, which reads another form
            }
            let set = read(&path).unwrap();
            let again: Set = parse(&serde_json::to_vec(&set).unwrap()).unwrap();
            assert_eq!(again, set, "{}", path.display());
        }
    }

    #[test]
    fn hostile_sets_are_refused_in_words() {
        let describe = |more: &str| format!(r#"{{"items": [{{"kind": "describe", "image": "a.png", {more}}}]}}"#);
        let thing = |more: &str| describe(&format!(r#""accept": ["dog"], "things": [{{"accept": ["dog"], {more}}}]"#));
        let picture = |more: &str| {
            format!(
                r#"{{"pictures": {{"p": {{"size_px": [64, 48], {more}}}}},
                "items": [{{"kind": "what", "image": "p", "accept": ["dog"]}}]}}"#
            )
        };
        let cases = [
            ("[]".to_owned(), "invalid"),
            (r#"{"items": []}"#.to_owned(), "no items"),
            (r#"{"items": [], "item": 1}"#.to_owned(), "unknown field `item`"),
            (describe(r#""accept": []"#), "item 1: `accept` has no words"),
            (describe(r#""accept": ["  "]"#), "item 1: a word of `accept` is empty"),
            (describe(r#""accept": ["dog"], "acept": 1"#), "item 1: unknown field `acept`"),
            (describe(r#""accept": "dog""#), "item 1: invalid type"),
            (thing(r#""boxes_px": [[5, 5, 5, 9]]"#), "is not left, top, right, bottom"),
            (thing(r#""boxes_px": [[1, 2, 3]]"#), "item 1: invalid length 3"),
            (thing(r#""boxes_px": [[-1, 2, 3, 4]]"#), "is not left, top, right, bottom"),
            (thing(r#""drawn": [0]"#), "`drawn` is for drawn pictures"),
            (thing(r#""drawn": []"#), "either `boxes_px` or `drawn`"),
            (picture(r#""things": []"#), "picture \"p\": give either `background` or `ground`"),
            (
                picture(r#""ground": 1, "things": [{"file": "a.png", "centre_unit": [2, 0], "height_unit": 1}]"#),
                "`centre_unit` of a.png is not within 0 to 1",
            ),
            (
                picture(r#""ground": 1, "things": [{"file": "a.png", "centre_unit": [0, 0], "height_unit": 0}]"#),
                "`height_unit` of a.png is not more than 0",
            ),
            (
                r#"{"items": [{"kind": "there", "image": "a.png", "thing": "dog", "there": true}]}"#.to_owned(),
                "with its article",
            ),
            (
                r#"{"items": [{"kind": "where", "image": "a.png", "thing": "dog", "accept": ["up"]}]}"#.to_owned(),
                "unknown variant `up`",
            ),
            (r#"{"items": [{"kind": "guess"}]}"#.to_owned(), "unknown variant `guess`"),
        ];
        for (json, expected) in cases {
            let found = error(&json);
            assert!(found.contains(expected), "{json}\n{found}");
        }
    }

    #[test]
    fn missing_files_are_named() {
        let set = parse(
            br#"{"pictures": {"p": {"size_px": [64, 48], "ground": 1, "things":
                [{"file": "cut.png", "centre_unit": [0.5, 0.5], "height_unit": 0.5}]}},
                "items": [{"kind": "what", "image": "p", "accept": ["dog"]},
                          {"kind": "pair", "image": "b.png", "audio": "a.ogg", "related": true}]}"#,
        )
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.png"), "").unwrap();
        let error = set.check_files(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("2 of its files are missing") && error.contains("the first is a.ogg"), "{error}");
    }
}
