//! Files that training must never see, of whatever kind they are: those of the sets in `tests/eval`, and the samples of
//! the page and of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// All sets but those of `ELSEWHERE`; a test compares this with the folder.
const SETS: [(&str, &str); 5] = [
    ("fresh.json", include_str!("../../../tests/eval/fresh.json")),
    ("pairs.json", include_str!("../../../tests/eval/pairs.json")),
    ("photographs.json", include_str!("../../../tests/eval/photographs.json")),
    ("sounds.json", include_str!("../../../tests/eval/sounds.json")),
    ("stamps.json", include_str!("../../../tests/eval/stamps.json")),
];
/// Sets that hold nothing out: the things that `eval-taught` teaches are compared by frozen encoders, and all that is drawn
/// in the composites is of kinds that are kept for the test.
#[cfg(test)]
const ELSEWHERE: [&str; 2] = ["composites.json", "taught.json"];
const PARTS: &str = include_str!("../../parts.json");

/// Files within packages, by package.
pub type Files = BTreeMap<String, BTreeSet<PathBuf>>;

/// The files that are held out, of any package.
///
/// # Errors
/// If a set or the table of parts, which are part of the program, is not what it should be.
pub fn files() -> Result<Files> {
    let mut files = Files::new();
    for (name, text) in SETS {
        let set: Value = serde_json::from_str(text).context(name)?;
        visit(&set, &mut |path| {
            let mut parts = Path::new(path).strip_prefix("train/data/packages").ok()?.components();
            let package = parts.next()?.as_os_str().to_str()?.to_owned();
            files.entry(package).or_default().insert(parts.as_path().to_path_buf());
            Some(())
        });
    }
    let parts: Value = serde_json::from_str(PARTS).context("tools/parts.json")?;
    for part in parts["parts"].as_array().context("tools/parts.json has no parts")? {
        let package = part["package"].as_str().context("a part without package")?;
        visit(&part["files"], &mut |path| {
            // Within a resource collection; where packages are unpacked, these lie in a folder of their own.
            let (_, inner) = path.split_once(".rcc!/")?;
            files.entry(package.to_owned()).or_default().insert(Path::new("resources").join(inner));
            Some(())
        });
    }
    Ok(files)
}

/// Hands over every text in a JSON value.
fn visit(value: &Value, found: &mut impl FnMut(&str) -> Option<()>) {
    match value {
        Value::String(text) => {
            found(text);
        }
        Value::Array(values) => values.iter().for_each(|value| visit(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| visit(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_held_out() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/eval");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let sets: BTreeSet<String> = names.filter(|name| name.ends_with(".json")).collect();
        let sets: BTreeSet<String> = sets.into_iter().filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
        assert_eq!(sets, SETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn files_of_sets_and_samples_are_held_out() {
        let files = files().unwrap();
        let gcompris = &files["gcompris-qt-data"];
        let inside = |file: &str| Path::new("resources/gcompris/src/activities").join(file);
        assert!(gcompris.contains(&inside("explore_farm_animals/resource/animals/cow.ogg")));
        assert!(gcompris.contains(&inside("memory-sound/resource/LRTrain_slowing_down_01_LA_cut.ogg")));
        assert!(gcompris.contains(&inside("erase/resource/kitten.webp")));
        let stamp = Path::new("usr/share/tuxpaint/stamps/animals/birds/duck.png");
        assert!(files["tuxpaint-stamps-default"].contains(stamp));
    }
}
