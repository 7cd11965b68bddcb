//! Lists of names and shapes without numbers: JSON with `tensors: [[name, shape, type], …]`.
//!
//! `{0-31}` in a name stands for each of these numbers, so that a list of a model of equal blocks is short.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::models::Shapes;

/// Most names that a list may stand for.
const MOST_NAMES: usize = 1_000_000;

#[derive(Deserialize)]
struct List {
    tensors: Vec<(String, Vec<usize>, String)>,
}

/// Reads a list.
///
/// # Errors
/// If it is no JSON of that form, or names a tensor twice.
pub fn read(path: &Path) -> Result<Shapes> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is no list of tensors", path.display()))
}

/// As [`read`], of the text at hand.
///
/// # Errors
/// If it is no JSON of that form, or names a tensor twice.
pub fn parse(text: &[u8]) -> Result<Shapes> {
    let list: List = serde_json::from_slice(text)?;
    let mut shapes = Shapes::new();
    for (pattern, dims, _) in list.tensors {
        for name in expand(&pattern)? {
            ensure!(shapes.insert(name.clone(), dims.clone()).is_none(), "{name} is there twice");
            ensure!(shapes.len() <= MOST_NAMES, "more than {MOST_NAMES} names");
        }
    }
    ensure!(!shapes.is_empty(), "it names no tensors");
    Ok(shapes)
}

/// All names that a pattern stands for.
///
/// # Errors
/// If braces hold something else than two numbers, the first not above the second.
pub fn expand(pattern: &str) -> Result<Vec<String>> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('{') {
        let (range, behind) = behind.split_once('}').with_context(|| format!("{pattern}: a brace is not closed"))?;
        let (first, last) = range.split_once('-').with_context(|| format!("{pattern}: {{{range}}} is no range"))?;
        let (first, last): (usize, usize) = (first.parse()?, last.parse()?);
        ensure!(first <= last && last - first < MOST_NAMES / names.len(), "{pattern}: {{{range}}} is no range");
        let one = |name: &String| (first..=last).map(|at| format!("{name}{before}{at}")).collect::<Vec<_>>();
        names = names.iter().flat_map(one).collect();
        rest = behind;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_stand_for_numbers() {
        assert_eq!(expand("a.b").expect("plain"), ["a.b"]);
        assert_eq!(expand("a.{0-1}.b.{9-10}").expect("ranges"), ["a.0.b.9", "a.0.b.10", "a.1.b.9", "a.1.b.10"]);
        for bad in ["a.{0-", "a.{1}", "a.{2-1}", "a.{x-y}", "{0-999}{0-999}{0-999}"] {
            assert!(expand(bad).is_err(), "{bad}");
        }
        let list = parse(br#"{"tensors": [["w.{0-2}", [3, 4], "F16"]], "more": 1}"#).expect("a list");
        assert_eq!(list.keys().collect::<Vec<_>>(), ["w.0", "w.1", "w.2"]);
        for bad in [&b"{}"[..], b"[]", br#"{"tensors": []}"#, br#"{"tensors": [["a", [1], "F32"], ["a", [1], "F32"]]}"#]
        {
            assert!(parse(bad).is_err());
        }
    }
}
