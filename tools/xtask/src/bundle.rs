//! Builds `bundles/bubo-mini` from the fetched parts, and lays the samples beside it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{
    parts, places,
    process::{run, say},
    samples,
};

/// Fetches, converts and shards what is not there yet.
///
/// # Errors
/// A part cannot be fetched, or the conversion fails.
pub fn build() -> Result<()> {
    samples::lay_out(&parts::fetch(None)?)?;
    let converter = build_converter()?;
    let bundle = folder();
    let stamp = bundle.join(".stamp");
    // The converter's own bytes say whether anything that it does could have changed.
    let inputs = stamp_of(&[&converter, &places::root().join("tools/parts.json")])?;
    if bundle.join("bundle.json").is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == inputs) {
        say("bundles/bubo-mini is up to date");
        return Ok(());
    }
    say("converting the parts into bundles/bubo-mini");
    // Built beside its place, so that what is there stays whole if this is interrupted.
    let building = bundle.with_extension("new");
    if building.exists() {
        fs::remove_dir_all(&building)?;
    }
    run(Command::new(&converter).arg("bundle").arg("--parts").arg(parts::folder()?).arg("--out").arg(&building))?;
    fs::write(building.join(".stamp"), inputs)?;
    if bundle.exists() {
        fs::remove_dir_all(&bundle)?;
    }
    fs::rename(&building, &bundle).context("cannot put the bundle in place")
}

/// Where the bundle is.
pub fn folder() -> PathBuf {
    places::root().join("bundles/bubo-mini")
}

/// Compiles the `bubo` command and returns its path.
fn build_converter() -> Result<PathBuf> {
    say("compiling the bubo command");
    run(Command::new(places::cargo())
        .args(["build", "--release", "--quiet", "--package", "bubo-cli", "--bin", "bubo"])
        .current_dir(places::root()))?;
    Ok(places::target().join("release").join(format!("bubo{}", env::consts::EXE_SUFFIX)))
}

fn stamp_of(files: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
