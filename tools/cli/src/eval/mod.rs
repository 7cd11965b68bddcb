//! `bubo eval`: how often a bundle answers rightly. `docs/evaluation.md` describes sets and what is counted.

pub mod composites;
pub mod ground;
pub mod picture;
pub mod score;
pub mod set;
pub mod words;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use bubo::canvas::Export;
use bubo::media::{Mask, RgbImage};
use bubo::session::{AskOptions, Session};
use bubo_train::vocabulary::Vocabulary;
use serde::Serialize;

use crate::host::CommandLine;
use crate::run::{read_image, read_sound};
use score::{Row, Scores};
use set::{Item, Set};
use words::{Known, is_one_of, names};

/// A way of answering that is measured, with its name.
#[derive(Debug, Clone)]
pub struct Variant {
    /// As tables say it.
    pub name: &'static str,
    /// How it answers.
    pub options: AskOptions,
}

/// Variants that show what each source of an answer adds: what is computed from boxes, tags and sounds; what the
/// language model is told in words; what it is shown as embeddings.
///
/// - `joined`: whether the bundle has embeddings to show
pub fn variants(joined: bool) -> Vec<Variant> {
    let variant = |name, evidence, facts, embeddings| Variant {
        name,
        options: AskOptions { evidence, facts, embeddings, ..AskOptions::default() },
    };
    let mut all = vec![variant("default", true, true, true), variant("no evidence", false, true, true)];
    if joined {
        all.push(variant("no evidence, no embeddings", false, true, false));
        all.push(variant("no evidence, no facts", false, false, true));
    }
    all.push(variant("language model alone", false, false, false));
    all
}

/// What a picture of a set holds: the picture, and the masks of its things if it was drawn.
struct Looked {
    size: [usize; 2],
    masks: Vec<Mask>,
}

/// What the session was last shown, so that it need not look and listen again for the next item.
#[derive(Default)]
struct Shown {
    image: Option<PathBuf>,
    audio: Option<PathBuf>,
    looked: Option<Looked>,
}

/// Runs a set with each variant. Returns their scores in the same order.
///
/// - `root`: folder that the set's paths are relative to
/// - `progress`: told how many items are done
///
/// # Errors
/// If a file cannot be read, a box reaches out of its picture, and those of the session.
pub async fn run(
    session: &Session,
    set: &Set,
    root: &Path,
    variants: &[Variant],
    progress: &mut dyn FnMut(usize),
) -> anyhow::Result<Vec<Scores>> {
    let known = Known::new(&Vocabulary::new()?);
    let mut scores = vec![Scores::default(); variants.len()];
    let mut shown = Shown::default();
    session.clear();
    for (index, item) in set.items.iter().enumerate() {
        let place = || format!("item {}", index + 1);
        show(session, &mut shown, item, set, root).await.with_context(place)?;
        for (variant, scores) in variants.iter().zip(&mut scores) {
            session.forget_words();
            let answer = session.ask(&item.question(), &variant.options, &CommandLine::default(), &|_| {}).await;
            let answer = answer.with_context(place)?;
            count(scores, item, &answer, shown.looked.as_ref(), &known).with_context(place)?;
        }
        progress(index + 1);
    }
    Ok(scores)
}

/// Shows the session what an item is about, where that is not what it was shown last.
async fn show(session: &Session, shown: &mut Shown, item: &Item, set: &Set, root: &Path) -> anyhow::Result<()> {
    let (image, audio) = item.files();
    let host = CommandLine::default();
    if shown.image.as_deref() != image {
        session.remove_image();
        shown.image = None;
        if let Some(path) = image {
            let (picture, masks) = load(path, set, root)?;
            session.add_image(&picture, &host, &|_| {}).await?;
            shown.looked = Some(Looked { size: [picture.width(), picture.height()], masks });
            shown.image = Some(path.to_owned());
        }
    }
    if shown.audio.as_deref() != audio {
        session.remove_audio();
        shown.audio = None;
        if let Some(path) = audio {
            session.add_audio(&read_sound(&root.join(path))?, &host, &|_| {}).await?;
            shown.audio = Some(path.to_owned());
        }
    }
    Ok(())
}

fn load(path: &Path, set: &Set, root: &Path) -> anyhow::Result<(RgbImage, Vec<Mask>)> {
    match path.to_str().and_then(|name| set.pictures.get(name)) {
        Some(drawn) => {
            let picture::Drawn { image, masks } = picture::draw(drawn, root)?;
            Ok((image, masks))
        }
        None => Ok((read_image(&root.join(path))?, Vec::new())),
    }
}

fn count(
    scores: &mut Scores,
    item: &Item,
    answer: &Export,
    looked: Option<&Looked>,
    known: &Known,
) -> anyhow::Result<()> {
    let said = &answer.answer;
    let (image, audio) = item.files();
    let files = [image, audio].map(|path| path.map_or_else(String::new, |path| format!("{} ", path.display())));
    let failure = || format!("{}{}{} -> {said}", files[0], files[1], item.question());
    match item {
        Item::Describe { accept, also, things, .. } => {
            scores.add("describe: main thing named", names(said, accept) || known.names_closer(said, accept), failure);
            let there: Vec<&String> =
                accept.iter().chain(also).chain(things.iter().flat_map(|thing| &thing.accept)).collect();
            for thing in known.named(said) {
                let hit = is_one_of(&thing, there.iter().copied());
                scores.add("describe: named things are there", hit, || format!("{}{thing:?} in: {said}", files[0]));
            }
            for entity in &answer.entities {
                let hit = is_one_of(&entity.phrase, there.iter().copied());
                let failure = || format!("{}{:?} in: {said}", files[0], entity.phrase);
                scores.add("describe: coloured phrases are there", hit, failure);
            }
            let looked = looked.context("a picture was looked at")?;
            for thing in things {
                let iou = ground::overlap(answer, thing, &looked.masks, looked.size)?;
                let hit = iou.is_some_and(|iou| iou >= ground::LEAST_IOU);
                let failure = || {
                    let how = iou.map_or_else(|| "not coloured".to_owned(), |iou| format!("IoU {iou:.2}"));
                    format!("{}{}: {how}, in: {said}", files[0], thing.accept[0])
                };
                scores.add("grounding: outlined, of all things", hit, failure);
                if iou.is_some() {
                    scores.add("grounding: outlined, of coloured ones", hit, failure);
                }
            }
        }
        Item::Sound { accept, .. } => scores.add("sound: source named", names(said, accept), failure),
        Item::What { accept, .. } => {
            scores.add("what is it", names(said, accept) || known.names_closer(said, accept), failure);
        }
        Item::Question { accept, .. } => scores.add("other questions", names(said, accept), failure),
        Item::There { there, .. } => {
            let kind = if *there { "is there a …: it is" } else { "is there a …: it is not" };
            scores.add(kind, words::yes_or_no(said) == Some(*there), failure);
        }
        Item::Where { accept, .. } => {
            let places = words::places(said);
            let right = !places.is_empty() && places.iter().all(|place| accept.contains(place));
            scores.add("where is the …", right, failure);
        }
        Item::Pair { related, .. } => {
            let said_related = !said.contains("unrelated");
            let kind = if *related { "pairs: related" } else { "pairs: unrelated" };
            scores.add(kind, said_related == *related, failure);
        }
    }
    Ok(())
}

/// One variant's figures.
#[derive(Debug, Serialize)]
pub struct MeasuredVariant<'a> {
    /// Its name.
    pub name: &'a str,
    /// Lines of the table.
    pub rows: Vec<Row>,
    /// Hits and failures by kind of question.
    pub scores: &'a Scores,
}

/// What is measured and how it is told.
#[derive(Debug, Default)]
pub struct Request {
    /// Sets.
    pub sets: Vec<PathBuf>,
    /// Folder that their paths are relative to; each set's own unless given.
    pub root: Option<PathBuf>,
    /// Whether one JSON object is printed instead of lines.
    pub json: bool,
}

/// Measures a session with each variant on each set, and returns what is to be printed.
///
/// # Errors
/// If a set cannot be read or lacks files, before anything is measured; those of [`run`].
pub async fn measure(session: &Session, request: &Request, variants: &[Variant]) -> anyhow::Result<String> {
    let mut sets = Vec::new();
    for path in &request.sets {
        let root = request.root.as_deref().or(path.parent()).unwrap_or(Path::new("."));
        let set = set::read(path)?;
        set.check_files(root).with_context(|| path.display().to_string())?;
        sets.push((path, root, set));
    }
    let (mut out, mut measured) = (String::new(), Vec::new());
    for (path, root, set) in &sets {
        let started = Instant::now();
        let mut told = Instant::now();
        let mut tell = |done: usize| {
            if told.elapsed().as_secs() >= 10 {
                eprintln!("{}: {done} of {}", path.display(), set.items.len());
                told = Instant::now();
            }
        };
        let scores = run(session, set, root, variants, &mut tell).await;
        let scores = scores.with_context(|| path.display().to_string())?;
        let seconds = started.elapsed().as_secs_f64();
        if request.json {
            let of_variant = |(variant, scores): (&Variant, &Scores)| {
                serde_json::to_value(MeasuredVariant { name: variant.name, rows: scores.rows(), scores })
            };
            let variants = variants.iter().zip(&scores).map(of_variant).collect::<Result<Vec<_>, _>>()?;
            measured
                .push(serde_json::json!({"set": path, "about": set.about, "seconds": seconds, "variants": variants}));
            continue;
        }
        out += &format!("{}: {} items, {seconds:.0} s\n\n", path.display(), set.items.len());
        match (variants, scores.as_slice()) {
            ([_], [scores]) => out += &scores.report(),
            _ => {
                let columns: Vec<(&str, &Scores)> = variants.iter().map(|v| v.name).zip(&scores).collect();
                out += &score::table(&columns);
            }
        }
        out.push('\n');
    }
    if request.json {
        out = serde_json::to_string(&serde_json::json!({ "sets": measured }))? + "\n";
    }
    Ok(out)
}
