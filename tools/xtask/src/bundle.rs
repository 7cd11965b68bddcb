//! Builds `bundles/bubo-mini` from the fetched parts, and lays the samples beside it; bundles of random numbers, too.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    parts::{self, Group},
    places,
    process::{output, run, say},
    samples,
};

/// Fetches, converts and shards what is not there yet.
///
/// # Errors
/// A part cannot be fetched, or the conversion fails.
pub fn build() -> Result<()> {
    samples::lay_out(&parts::fetch(&[Group::Model, Group::Sample])?)?;
    let mut bundle = bubo()?;
    say("building bundles/bubo-mini, where its parts or its converter have changed");
    bundle.arg("bundle").arg("--parts").arg(parts::folder()?);
    run(bundle.arg("--trained").arg(places::root().join("assets/trained")).arg("--out").arg(folder()))
}

/// Writes `bundles/NAME` of random numbers in the shapes of the paper's system.
///
/// - `options`: of `bubo synth`
///
/// # Errors
/// `bubo` cannot be compiled, refuses an option, or the disk is full.
pub fn random(name: &str, options: &[&str]) -> Result<PathBuf> {
    let folder = places::root().join("bundles").join(name);
    let mut synth = bubo()?;
    say(format!("writing random numbers to bundles/{name}"));
    run(synth.arg("synth").args(options).arg("--out").arg(&folder))?;
    Ok(folder)
}

/// Bytes of GPU memory that `bubo plan` foretells for a bundle's weights.
///
/// # Errors
/// There is no such bundle.
pub fn planned_gpu_bytes(folder: &std::path::Path) -> Result<u64> {
    let plan = output(bubo()?.arg("plan").arg(folder).arg("--json"))?;
    let plan: serde_json::Value = serde_json::from_str(&plan)?;
    plan["weight_bytes"].as_u64().context("`bubo plan --json` tells no `weight_bytes`")
}

/// The command `bubo`, compiled if its sources have changed.
fn bubo() -> Result<Command> {
    say("compiling the bubo command");
    run(Command::new(places::cargo())
        .args(["build", "--release", "--quiet", "--package", "bubo-cli", "--bin", "bubo"])
        .current_dir(places::root()))?;
    Ok(Command::new(places::target().join("release").join(format!("bubo{}", env::consts::EXE_SUFFIX))))
}

/// Where bubo-mini is.
pub fn folder() -> PathBuf {
    places::root().join("bundles/bubo-mini")
}
