//! What has no place in the repository: nameless reminders, paths of one machine, versions that disagree, heavy files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::SourceFile;
use crate::places;

const MAX_FILE_BYTES: u64 = 3_000_000;
/// What is trained here is small, but cannot be fetched from anywhere else.
const MAX_TRAINED_BYTES: u64 = 6_000_000;
const TRAINED: &str = "assets/trained";

/// Checks what can be said from the text of the files.
pub fn check(files: &[SourceFile]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(wrong) = wrong_in(line) {
                findings.push(format!("{}:{}: {wrong}", file.path, number + 1));
            }
        }
    }
    findings.extend(check_pins(files));
    findings
}

fn wrong_in(line: &str) -> Option<String> {
    // Put together here, so that this file does not find itself.
    let reminder = ["TO", "DO"].concat();
    let homes = [["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"], ["/wo", "rk/"], ["C:\\Us", "ers\\"]]
        .map(|half| half.concat());
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let bare = line.match_indices(&reminder).any(|(at, _)| {
        let rest = &line[at + reminder.len()..];
        let is_alone = !line[..at].ends_with(is_word) && !rest.starts_with(is_word);
        let is_named = rest.strip_prefix('(').is_some_and(|name| name.find(')').is_some_and(|length| length > 0));
        is_alone && !is_named
    });
    if bare {
        return Some(format!("{reminder} without a name: write `{reminder}(name): …`"));
    }
    let machine_path = homes.iter().find(|home| {
        line.match_indices(home.as_str()).any(|(at, _)| {
            // An address may have such a folder too: only a path that starts there is a machine's.
            !line[..at].ends_with(|before: char| is_word(before) || matches!(before, '.' | '~' | '-' | '}' | ')'))
        })
    });
    machine_path.map(|home| format!("a path of one machine, `{home}…`"))
}

/// The bindings' generator must be of the library's very version.
fn check_pins(files: &[SourceFile]) -> Option<String> {
    let library = pinned(files, "Cargo.toml", "wasm-bindgen");
    let generator = pinned(files, "tools/xtask/Cargo.toml", "wasm-bindgen-cli-support");
    match (library, generator) {
        (Some(library), Some(generator)) if library == generator && library.starts_with('=') => None,
        (library, generator) => Some(format!(
            "Cargo.toml has wasm-bindgen {library:?}, tools/xtask/Cargo.toml wasm-bindgen-cli-support {generator:?}: pin both to one version with `=`"
        )),
    }
}

/// The version of a dependency that is written as `name = "version"`.
fn pinned<'a>(files: &'a [SourceFile], path: &str, name: &str) -> Option<&'a str> {
    let manifest = files.iter().find(|file| file.path == path)?;
    let lines = manifest.text.lines().filter_map(|line| line.split_once('='));
    let (_, value) = lines.into_iter().find(|(key, _)| key.trim() == name)?;
    value.split('"').nth(1)
}

/// Checks that no file is too heavy for a repository.
///
/// # Errors
/// The size of a file cannot be read.
pub fn check_sizes(paths: &[PathBuf]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in paths {
        let bytes = size_of(&places::root().join(path))?;
        let most = if path.starts_with(TRAINED) { MAX_TRAINED_BYTES } else { MAX_FILE_BYTES };
        if bytes > most {
            findings.push(format!("{}: {bytes} bytes; keep large files out of git", path.display()));
        }
    }
    Ok(findings)
}

/// Zero for a file that git lists and that was deleted.
fn size_of(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_and_machine_paths_are_found() {
        let reminder = ["TO", "DO"].concat();
        let home = ["/ho", "me/"].concat();
        let cases = [
            (format!("// {reminder}: later"), true),
            (format!("// {reminder}(): later"), true),
            (format!("// {reminder}(ana): later"), false),
            (format!("let MY{reminder}LIST = 1;"), false),
            (format!("include!(\"{home}ana/x\")"), true),
            (format!("see https://example.org{home}page"), false),
            (format!("${{x}}{home}page"), false),
            ("plain".to_owned(), false),
        ];
        for (line, is_wrong) in cases {
            assert_eq!(wrong_in(&line).is_some(), is_wrong, "{line}");
        }
    }

    #[test]
    fn pins_must_agree() {
        let files = |library: &str, generator: &str| {
            [("Cargo.toml", "wasm-bindgen", library), ("tools/xtask/Cargo.toml", "wasm-bindgen-cli-support", generator)]
                .map(|(path, name, version)| SourceFile {
                    path: path.into(),
                    text: format!("{name} = \"{version}\"\n"),
                })
        };
        assert_eq!(check_pins(&files("=0.2.130", "=0.2.130")), None);
        assert!(check_pins(&files("=0.2.130", "=0.2.131")).is_some());
        assert!(check_pins(&files("0.2.130", "0.2.130")).is_some());
        assert!(check_pins(&[]).is_some());
    }
}
