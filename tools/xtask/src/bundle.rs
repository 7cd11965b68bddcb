//! Builds `bundles/bubo-mini` from the fetched parts, and lays the samples beside it.

use std::{env, path::PathBuf, process::Command};

use anyhow::Result;

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
    say("compiling the bubo command");
    run(Command::new(places::cargo())
        .args(["build", "--release", "--quiet", "--package", "bubo-cli", "--bin", "bubo"])
        .current_dir(places::root()))?;
    let bubo = places::target().join("release").join(format!("bubo{}", env::consts::EXE_SUFFIX));
    say("building bundles/bubo-mini, where its parts or its converter have changed");
    let mut bundle = Command::new(bubo);
    bundle.arg("bundle").arg("--parts").arg(parts::folder()?);
    run(bundle.arg("--trained").arg(places::root().join("assets/trained")).arg("--out").arg(folder()))
}

/// Where the bundle is.
pub fn folder() -> PathBuf {
    places::root().join("bundles/bubo-mini")
}
