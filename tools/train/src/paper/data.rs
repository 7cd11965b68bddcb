//! Data sets of a configuration, and which of their entries a batch gets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::entries::{Annotated, Entry, SplitBy};
use super::prompts::{Prompts, UnrelatedPairs};
use super::{captioned, clotho, llava, minigpt4, vggss};
use crate::examples::Split;
use crate::random::Random;

/// A data set by the form of its files; paths are relative to the folder of all data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case", deny_unknown_fields)]
pub enum Format {
    /// [`minigpt4`]
    Minigpt4 {
        /// `filter_cap.json`
        annotations: PathBuf,
        /// Folder of the pictures.
        images: PathBuf,
    },
    /// [`llava`]
    Llava {
        /// Files that are read behind each other.
        annotations: Vec<PathBuf>,
        /// Folder of the pictures.
        images: PathBuf,
    },
    /// [`clotho::read_detail`]
    ClothoDetail {
        /// `Clotho-detail-annotation.json`
        annotations: PathBuf,
        /// Folder of the sounds.
        sounds: PathBuf,
    },
    /// [`clotho::read_csv`]
    ClothoCsv {
        /// `clotho_captions_development.csv`
        annotations: PathBuf,
        /// Folder of the sounds.
        sounds: PathBuf,
    },
    /// [`vggss`]
    Vggss {
        /// `vggss-instruction-tuning.json`
        annotations: PathBuf,
        /// Folder of the pictures.
        images: PathBuf,
        /// Folder of the sounds.
        sounds: PathBuf,
    },
    /// [`captioned::read_wavcaps`]
    Wavcaps {
        /// One of WavCaps' JSON files.
        annotations: PathBuf,
        /// Folder of the sounds.
        sounds: PathBuf,
    },
    /// [`captioned::read_shards`]
    Shards {
        /// Folder of the shards.
        folder: PathBuf,
    },
    /// [`UnrelatedPairs`]
    Unrelated {
        /// Pictures with captions.
        images: Box<Format>,
        /// Sounds with captions.
        sounds: Box<Format>,
    },
}

/// A data set and how often it is drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// For messages and curves.
    pub name: String,
    /// Share of the batches, relative to the others' (the original's `sample_ratio`).
    pub weight: f32,
    /// Its files.
    pub files: Format,
}

impl Format {
    fn read(&self, root: &Path) -> Result<Annotated> {
        match self {
            Self::Minigpt4 { annotations, images } => minigpt4::read(&root.join(annotations), &root.join(images)),
            Self::Llava { annotations, images } => {
                let mut all = Annotated { entries: Vec::new(), prompts: Prompts::Instruction };
                for file in annotations {
                    all.entries.extend(llava::read(&root.join(file), &root.join(images))?.entries);
                }
                Ok(all)
            }
            Self::ClothoDetail { annotations, sounds } => {
                clotho::read_detail(&root.join(annotations), &root.join(sounds))
            }
            Self::ClothoCsv { annotations, sounds } => clotho::read_csv(&root.join(annotations), &root.join(sounds)),
            Self::Vggss { annotations, images, sounds } => {
                vggss::read(&root.join(annotations), &root.join(images), &root.join(sounds))
            }
            Self::Wavcaps { annotations, sounds } => {
                captioned::read_wavcaps(&root.join(annotations), &root.join(sounds))
            }
            Self::Shards { folder } => captioned::read_shards(&root.join(folder)),
            Self::Unrelated { .. } => anyhow::bail!("pairs of pairs"),
        }
    }
}

/// An entry with its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What is shown and answered.
    pub entry: Entry,
    /// The question, with marks of what is shown.
    pub question: String,
}

/// Entries of one side of the split.
#[derive(Debug, Clone)]
enum Entries {
    Listed(Annotated),
    Pairs(UnrelatedPairs),
    /// Of pairs, if there is not even one picture or one sound.
    None,
}

impl Entries {
    fn draw(&self, random: &mut Random) -> Result<Asked> {
        match self {
            Self::Listed(Annotated { entries, prompts }) => {
                let entry = random.choose(entries).context("an empty data set")?.clone();
                Ok(Asked { question: prompts.draw(&entry, random)?, entry })
            }
            Self::Pairs(pairs) => {
                let (entry, question) = pairs.draw(random)?;
                Ok(Asked { entry, question })
            }
            Self::None => anyhow::bail!("an empty data set"),
        }
    }

    /// The first entries, or so many pairs, each with a fixed question.
    fn first(&self, count: usize) -> Result<Vec<Asked>> {
        let mut random = Random::new(1, 1);
        match self {
            Self::Listed(Annotated { entries, prompts }) => entries
                .iter()
                .take(count)
                .map(|entry| Ok(Asked { question: prompts.draw(entry, &mut random)?, entry: entry.clone() }))
                .collect(),
            Self::Pairs(_) => (0..count).map(|_| self.draw(&mut random)).collect(),
            Self::None => Ok(Vec::new()),
        }
    }
}

/// A data set that was read.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// For messages and curves.
    pub name: String,
    /// What is shown in it.
    pub prompts: Prompts,
    weight: f32,
    training: Entries,
    validation: Entries,
    /// Entries for training, validation and test; of pairs, those of the pictures.
    pub counts: [usize; 3],
}

impl DataSet {
    /// Reads a data set.
    ///
    /// # Errors
    /// If its files are not what they should be, or nothing is left to learn from.
    pub fn read(named: &Named, root: &Path, split: &SplitBy) -> Result<Self> {
        ensure!(named.weight.is_finite() && named.weight > 0.0, "{}: a weight is above 0", named.name);
        let side = |all: &Annotated, side: Split| Annotated {
            entries: all.entries.iter().filter(|entry| split.split(entry) == side).cloned().collect(),
            prompts: all.prompts,
        };
        let read = |files: &Format| files.read(root).with_context(|| named.name.clone());
        let (prompts, training, validation, counted) = match &named.files {
            Format::Unrelated { images, sounds } => {
                let (images, sounds) = (read(images)?, read(sounds)?);
                let pairs = |of: Split| UnrelatedPairs::new(side(&images, of), side(&sounds, of));
                let training = pairs(Split::Training).with_context(|| named.name.clone())?;
                let validation = pairs(Split::Validation).map_or(Entries::None, Entries::Pairs);
                (Prompts::Unrelated, Entries::Pairs(training), validation, images)
            }
            files => {
                let all = read(files)?;
                let [training, validation] = [Split::Training, Split::Validation].map(|of| side(&all, of));
                ensure!(!training.entries.is_empty(), "{}: the split leaves nothing to learn from", named.name);
                (all.prompts, Entries::Listed(training), Entries::Listed(validation), all)
            }
        };
        let counts = [Split::Training, Split::Validation, Split::Test].map(|of| side(&counted, of).entries.len());
        Ok(Self { name: named.name.clone(), prompts, weight: named.weight, training, validation, counts })
    }

    /// Entries that are not learnt from, at most so many.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn validation(&self, count: usize) -> Result<Vec<Asked>> {
        self.validation.first(count)
    }
}

/// A batch of one data set, drawn with its weight among all: the original groups data sets by what they show and draws
/// a group by the sum of its weights, then a set within it, which is the same.
///
/// # Errors
/// If there is no data set.
///
/// Source: bubogpt-spec 7.4.
pub fn draw<'a>(sets: &'a [DataSet], batch: usize, random: &mut Random) -> Result<(&'a DataSet, Vec<Asked>)> {
    let total: f32 = sets.iter().map(|set| set.weight).sum();
    let mut chance = random.unit() * total;
    let chosen = sets.iter().find(|set| {
        chance -= set.weight;
        chance < 0.0
    });
    let set = chosen.or(sets.last()).context("there are no data sets to draw from")?;
    let asked = (0..batch).map(|_| set.training.draw(random)).collect::<Result<_>>()?;
    Ok((set, asked))
}
