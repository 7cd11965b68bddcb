//! `bubo eval-set`: writes a set of drawn pictures, out of cut-outs of kinds that training never sees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bubo::session::facts;
use bubo_train::examples::{Example, Split};
use bubo_train::prepare;
use bubo_train::random::Random;
use bubo_train::vocabulary::Vocabulary;

use super::set::{Composite, Cutout, Item, KnownThing, Place, Set};

const SIZE_PX: [u32; 2] = [640, 480];
/// Centre of each place, of the picture's width.
const CENTRES_UNIT: [(Place, f32); 3] = [(Place::Left, 0.2), (Place::Middle, 0.5), (Place::Right, 0.8)];

/// What a cut-out shows, and where its file is, relative to the packages' folder.
struct Candidate {
    file: PathBuf,
    kind: String,
    accept: Vec<String>,
    /// Width over height.
    ratio: f32,
}

/// Writes a set.
///
/// - `data`: folder of the packages, as for `bubo train`
/// - `prefix`: how the set's paths begin: the packages' folder, relative to the root that the set is measured with
/// - `count`: pictures; every third has two things, and every one takes four or five items
/// - `seed`: the same number gives the same set
///
/// # Errors
/// If the packages cannot be fetched or read, or have too few cut-outs.
pub fn make(data: &Path, prefix: &Path, count: usize, seed: u64) -> anyhow::Result<Set> {
    let vocabulary = Vocabulary::new()?;
    let packages = data.join("packages");
    let (_, pictures, _) = prepare::examples(&packages, &vocabulary)?;
    let known = vocabulary.kinds();
    let mut by_kind: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for example in pictures.iter().filter(|example| example.split == Split::Test) {
        if !known.contains(example.noun.kind.as_str()) {
            continue;
        }
        if let Some(candidate) = candidate(example, &packages)? {
            by_kind.entry(candidate.kind.clone()).or_default().push(candidate);
        }
    }
    ensure!(by_kind.len() >= 3, "the packages have cut-outs of {} kinds only", by_kind.len());
    let about = format!(
        "Cut-outs of kinds that training never sees, drawn on grounds: `bubo eval-set --count {count} --seed {seed}`."
    );
    let mut set = Set { about, ..Set::default() };
    // Kinds in turn, so that those with many files do not fill the set.
    let mut kinds: Vec<&String> = by_kind.keys().collect();
    let mut random = Random::new(seed, 0);
    for index in (1..kinds.len()).rev() {
        kinds.swap(index, random.below(index + 1));
    }
    for index in 0..count {
        let mut random = Random::new(seed, index as u64 + 1);
        let pick = |turn: usize, random: &mut Random| random.choose(&by_kind[kinds[turn % kinds.len()]]);
        let first = pick(2 * index, &mut random).context("a kind has files")?;
        let second = pick(2 * index + 1, &mut random).filter(|_| index % 3 == 2);
        let absent = absent_kind(&kinds, &[Some(first), second], &mut random)?;
        add_picture(&mut set, index, first, second, absent, prefix, &mut random);
    }
    Ok(set)
}

/// What an example shows; none if it has no transparent pixels around it.
fn candidate(example: &Example, packages: &Path) -> anyhow::Result<Option<Candidate>> {
    let file = Path::new(&example.package).join(&example.file);
    let bytes = std::fs::read(packages.join(&file)).with_context(|| file.display().to_string())?;
    // A few of the files are damaged.
    let Ok(picture) = image::load_from_memory(&bytes) else { return Ok(None) };
    let picture = picture.into_rgba8();
    let clear = picture.pixels().filter(|pixel| pixel[3] < 32).count();
    let share = clear as f32 / (picture.width() * picture.height()).max(1) as f32;
    let ratio = picture.width() as f32 / picture.height().max(1) as f32;
    if !(0.1..0.9).contains(&share) || !(0.4..2.5).contains(&ratio) {
        return Ok(None);
    }
    let mut accept = vec![example.noun.kind.clone()];
    if example.noun.name != example.noun.kind {
        accept.push(example.noun.name.clone());
    }
    Ok(Some(Candidate { file, kind: example.noun.kind.clone(), accept, ratio }))
}

/// A kind that is not in the picture.
fn absent_kind<'a>(
    kinds: &[&'a String],
    shown: &[Option<&Candidate>],
    random: &mut Random,
) -> anyhow::Result<&'a String> {
    let is_shown = |kind: &str| {
        let mut shown = shown.iter().flatten().flat_map(|candidate| &candidate.accept);
        shown.any(|name| name.contains(kind) || kind.contains(name.as_str()))
    };
    let others: Vec<&String> = kinds.iter().copied().filter(|kind| !is_shown(kind)).collect();
    random.choose(&others).copied().context("there are other kinds")
}

/// Adds a picture and what is asked about it.
fn add_picture(
    set: &mut Set,
    index: usize,
    first: &Candidate,
    second: Option<&Candidate>,
    absent: &str,
    prefix: &Path,
    random: &mut Random,
) {
    let name = format!("drawn {:02}", index + 1);
    let image = PathBuf::from(&name);
    let (mut cutouts, mut things) = (Vec::new(), Vec::new());
    // Two things stand on both sides; one alone takes the places in turn.
    let places = if second.is_some() { [0, 2] } else { [(index - index / 3) % 3, 0] };
    for (at, candidate) in [Some(first), second].into_iter().flatten().enumerate() {
        let (place, centre) = CENTRES_UNIT[places[at]];
        // As high as wanted, but no wider than its third of the picture allows.
        let widest = if second.is_some() || place != Place::Middle { 0.38 } else { 0.8 };
        let ratio_unit = candidate.ratio * SIZE_PX[1] as f32 / SIZE_PX[0] as f32;
        let height = random.between(0.4, 0.8).min(widest / ratio_unit);
        // Rounded, so that the file can be read.
        let rounded = |unit: f32| (unit * 100.0).round() / 100.0;
        let centre_unit = [rounded(centre), rounded(random.between(height / 2.0, 1.0 - height / 2.0))];
        cutouts.push(Cutout { file: prefix.join(&candidate.file), centre_unit, height_unit: rounded(height) });
        things.push(KnownThing { accept: candidate.accept.clone(), boxes_px: vec![], drawn: vec![at] });
        set.items.push(Item::Where { image: image.clone(), thing: candidate.kind.clone(), accept: vec![place] });
    }
    let ground = Some(random.number() % 1000);
    let picture = Composite { size_px: SIZE_PX, background: None, ground, things: cutouts };
    set.pictures.insert(name, picture);
    let accept = things.iter().flat_map(|thing| thing.accept.clone()).collect();
    set.items.push(Item::Describe { image: image.clone(), accept, also: vec![], things });
    if second.is_none() {
        let question = "What is it?".to_owned();
        set.items.push(Item::What { image: image.clone(), question, accept: first.accept.clone() });
    }
    let there = |kind: &str, there| Item::There { image: image.clone(), thing: facts::with_article(kind), there };
    set.items.extend([there(&first.kind, true), there(absent, false)]);
}

/// The set as a file of one line an item.
///
/// # Errors
/// Never with a set that was made here.
pub fn to_json(set: &Set) -> serde_json::Result<String> {
    let pictures = set.pictures.iter().map(|(name, picture)| {
        Ok(format!("    {}: {}", serde_json::to_string(name)?, serde_json::to_string(picture)?))
    });
    let pictures = pictures.collect::<serde_json::Result<Vec<_>>>()?.join(",\n");
    let items = set.items.iter().map(|item| Ok(format!("    {}", serde_json::to_string(item)?)));
    let items = items.collect::<serde_json::Result<Vec<_>>>()?.join(",\n");
    let about = serde_json::to_string(&set.about)?;
    Ok(format!("{{\n  \"about\": {about},\n  \"pictures\": {{\n{pictures}\n  }},\n  \"items\": [\n{items}\n  ]\n}}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: &str, ratio: f32) -> Candidate {
        Candidate { file: format!("p/{kind}.png").into(), kind: kind.into(), accept: vec![kind.into()], ratio }
    }

    #[test]
    fn drawn_sets_are_sets() {
        let mut set = Set::default();
        let (cow, duck) = (candidate("cow", 1.4), candidate("duck", 0.8));
        for index in 0..6 {
            let second = (index % 3 == 2).then_some(&duck);
            let random = &mut Random::new(7, index as u64);
            add_picture(&mut set, index, &cow, second, "lion", Path::new("data"), random);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.json");
        std::fs::write(&path, to_json(&set).unwrap()).unwrap();
        let read = super::super::set::read(&path).unwrap();
        assert_eq!(read, set);
        assert_eq!(read.pictures["drawn 01"].things[0].file, Path::new("data/p/cow.png"));
        for picture in read.pictures.values() {
            for Cutout { centre_unit, height_unit, file, .. } in &picture.things {
                let ratio = if file.ends_with("cow.png") { 1.4 } else { 0.8 };
                let half_width = height_unit * ratio * 480.0 / 640.0 / 2.0;
                let half_height = height_unit / 2.0;
                let inside = |centre: f32, half: f32| centre - half > -0.02 && centre + half < 1.02;
                assert!(inside(centre_unit[0], half_width) && inside(centre_unit[1], half_height), "{picture:?}");
            }
        }
    }

    #[test]
    fn what_is_asked_for_in_vain_is_not_there() {
        let kinds = ["bear", "cow", "polar bear"].map(str::to_owned);
        let kinds: Vec<&String> = kinds.iter().collect();
        let shown = Candidate { accept: vec!["bear".into(), "polar bear".into()], ..candidate("bear", 1.0) };
        for seed in 0..8 {
            let absent = absent_kind(&kinds, &[Some(&shown), None], &mut Random::new(seed, 0)).unwrap();
            assert_eq!(absent, "cow");
        }
    }
}
