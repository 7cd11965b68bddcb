//! From packages to what training reads: views with their names, and who may see them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use bubo::encoders::joiner::Hint;
use bubo::grounding::matcher::is_kind_of;
use bubo::media::decode;

use crate::cache::Cache;
use crate::canvas::{Drawn, draw};
use crate::examples::{Example, Split, is_test_kind};
use crate::frozen::{Ears, Eyes, View};
use crate::packages;
use crate::random::Random;
use crate::vocabulary::{Noun, Vocabulary};

/// Drawings of one stamp or piece of clip art; variation comes from how views are changed while learning.
const DRAWINGS: u64 = 1;
/// Sounds longer than this are cut: the start says what they are.
const MOST_SECONDS: usize = 10;
/// Confidence that some label of the named source must reach, else the sound is silent or mislabelled.
const LEAST_HEARD: f32 = 0.1;

/// A real picture or sound as the joiner reads it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What the encoders made of it.
    pub view: View,
    /// What it shows, or what makes the sound.
    pub noun: Noun,
    /// Place in the picture as answers say it, or the sound in words.
    pub said: String,
    /// Who may see it.
    pub split: Split,
}

/// The examples of the packages in `folder`, which are fetched if they are not there.
///
/// # Errors
/// If they cannot be fetched or read.
pub fn examples(folder: &Path, vocabulary: &Vocabulary) -> Result<(Roots, Vec<Example>, Vec<Example>)> {
    let roots = packages::fetch(folder)?;
    let (pictures, sounds) = crate::examples::read(&roots, vocabulary)?;
    Ok((Roots(roots), pictures, sounds))
}

/// Folders of the packages.
#[derive(Debug)]
pub struct Roots(BTreeMap<String, PathBuf>);

impl Roots {
    fn read(&self, example: &Example) -> Result<Vec<u8>> {
        let root = self.0.get(&example.package).with_context(|| format!("no package {}", example.package))?;
        let path = root.join(&example.file);
        std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))
    }
}

/// Tells how far a long work is, with the time left, a few times a minute.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: usize,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn new(what: &'static str, total: usize) -> Self {
        Self { what, total, started: Instant::now(), told: Instant::now() }
    }

    /// Says that `done` are done, if it was not said lately; `note` is added.
    pub fn tell(&mut self, done: usize, note: &str) {
        if done == self.total || self.told.elapsed().as_secs() >= 10 {
            let spent = self.started.elapsed().as_secs_f64();
            let left = spent / done.max(1) as f64 * (self.total - done.min(self.total)) as f64;
            eprintln!("{}: {done} of {}, {left:.0} s left{note}", self.what, self.total);
            self.told = Instant::now();
        }
    }
}

/// Views of the pictures in which their names are recognised, each drawn a few times: from the others only guessing can be
/// learnt.
///
/// # Errors
/// If a file cannot be read, and those of the encoders.
pub fn pictures(roots: &Roots, examples: &[Example], eyes: &Eyes, cache: &Cache) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut progress = Progress::new("looking at pictures", examples.len());
    for (index, example) in examples.iter().enumerate() {
        let bytes = roots.read(example)?;
        for drawing in 0..DRAWINGS {
            let content = [b"picture 5".as_slice(), &bytes, &drawing.to_le_bytes()];
            // What cannot be decoded is left out: a few of the files are damaged or of another kind.
            let Ok(Drawn { image, place }) = draw(&bytes, &mut Random::new(drawing, bytes.len() as u64)) else { break };
            let view = cache.view(&content, || eyes.look(&image))?;
            if is_recognised(&view, &example.noun) {
                seen.push(Seen { view, noun: example.noun.clone(), said: place.to_owned(), split: example.split });
            }
        }
        progress.tell(index + 1, "");
    }
    Ok(seen)
}

/// Whether what was found first in a picture is what its file is named for, and all else may be learnt; where nothing was
/// found, whether some hint is.
fn is_recognised(view: &View, noun: &Noun) -> bool {
    let named = |name: &String| [&noun.kind, &noun.name].contains(&name) || is_kind_of(name, &noun.name);
    let hints_at = |hint: &Hint| named(&hint.kind) || named(&hint.name);
    match view.found {
        0 => view.hints.iter().any(hints_at),
        _ => view.hints.first().is_some_and(hints_at) && view.is_free_of_test_kinds(),
    }
}

/// Views of the sounds in which something of their name is heard, in the words of what is heard.
///
/// # Errors
/// If a file cannot be read, and those of the encoders.
pub fn sounds(
    roots: &Roots,
    examples: &[Example],
    ears: &Ears,
    vocabulary: &Vocabulary,
    cache: &Cache,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut progress = Progress::new("listening to sounds", examples.len());
    for (index, example) in examples.iter().enumerate() {
        let bytes = roots.read(example)?;
        progress.tell(index + 1, "");
        let Ok(sound) = decode::decode_sound(bytes.clone(), example.file.to_str()) else { continue };
        let most = MOST_SECONDS * sound.sample_rate_hz() as usize;
        let start = sound.samples()[..sound.samples().len().min(most)].to_vec();
        let sound = bubo::media::Waveform::new(start, sound.sample_rate_hz())?;
        let view = cache.view(&[b"sound 4", &bytes], || ears.listen(&sound))?;
        let named = view.hints.iter().find_map(|Hint { kind: source, name: phrase, centre, .. }| {
            let named = [&example.noun.kind, &example.noun.name];
            let fits = !source.is_empty() && (named.contains(&source) || vocabulary.noun(source).kind == *named[0]);
            (fits && centre[1] >= LEAST_HEARD).then(|| (source.clone(), phrase.clone()))
        });
        if let Some((source, phrase)) = named {
            let noun = Noun { kind: source.clone(), name: source };
            // What else is heard is said, too.
            let is_kept = is_test_kind(&noun.kind) || !view.is_free_of_test_kinds();
            let split = if is_kept { Split::Test } else { example.split };
            seen.push(Seen { view, noun, said: phrase, split });
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_count_whose_names_are_recognised() {
        let vocabulary = Vocabulary::new().unwrap();
        let hint = |name: &str| {
            let Noun { kind, name } = vocabulary.noun(name);
            Hint { kind, name, score: 0.4, centre: [0.5; 2], size: [0.3; 2] }
        };
        let view = |names: &[&str], found: usize| View {
            features: vec![],
            hints: names.iter().map(|name| hint(name)).collect(),
            found,
            said: vec![],
            told: None,
        };
        let counts = |names: &[&str], found: usize| is_recognised(&view(names, found), &vocabulary.noun("dog"));
        assert!(counts(&["umbrella", "dog"], 0), "nothing was found, and a tag names it");
        assert!(counts(&["dog", "umbrella"], 2) && counts(&["golden retriever"], 1));
        assert!(!counts(&["umbrella", "dog"], 1), "something else would be said");
        assert!(!counts(&["umbrella"], 0) && !counts(&[], 0));
        let kept = vocabulary.kinds().into_iter().find(|kind| is_test_kind(kind)).unwrap();
        assert!(!counts(&["dog", kept], 2) && counts(&["dog", kept], 1));
    }
}
