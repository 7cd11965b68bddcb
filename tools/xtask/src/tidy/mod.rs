//! Checks of the source tree that no compiler makes: who may import whom, what has no place in shipped code, and what
//! has no place in the repository.

mod imports;
mod repository;
mod source;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{places, process::output};

/// A file of the checkout that git knows or would take.
struct SourceFile {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

/// Runs every check and lists all findings.
///
/// # Errors
/// There is a finding, or the tree cannot be read.
pub fn check() -> Result<()> {
    let files = text_files()?;
    let mut findings = imports::check(&files)?;
    findings.extend(repository::check(&files));
    findings.extend(repository::check_sizes(&tracked_paths()?)?);
    if findings.is_empty() {
        println!("tidy: {} files are fine", files.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("{} findings", findings.len());
}

fn tracked_paths() -> Result<Vec<PathBuf>> {
    let listing = output(
        Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(places::root()),
    )
    .context("tidy asks git which files belong to the checkout")?;
    Ok(listing.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect())
}

fn text_files() -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for path in tracked_paths()? {
        // A file that git still lists but that is deleted, and binary files, are nobody's prose.
        let Ok(bytes) = fs::read(places::root().join(&path)) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(SourceFile { path: path.to_string_lossy().replace('\\', "/"), text });
        }
    }
    Ok(files)
}
