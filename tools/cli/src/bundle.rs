//! Bundles on disk: written part by part, and opened for the commands that compute.

mod build;
mod join;
mod shard;
mod writer;

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, ensure};
use bubo::bundle::{FileSource, LoadedPart, MANIFEST_FILE, NoCache};
use bubo::nn::{WeightLoader, WeightSink, Weights};
use bubo::tensor::{Device, Precision};

pub use build::{build, convert_one, convert_public};
pub use join::join;
pub use writer::BundleWriter;

use crate::host::CommandLine;

/// Opens the bundle in `folder` for loading onto `device`, activations of quantised matrices in `precision`.
///
/// # Errors
/// If there is none; the message says how to make it.
pub fn open(folder: &Path, device: &Device, precision: Precision) -> anyhow::Result<WeightLoader> {
    ensure!(
        folder.join(MANIFEST_FILE).exists(),
        "there is no bundle at {}; `cargo xtask bundle` builds bubo-mini",
        folder.display()
    );
    let device = device.clone();
    let source = Rc::new(FileSource::new(folder));
    let sink = move || WeightSink::new(device.clone()).with_precision(precision);
    let opened = WeightLoader::open(source, Rc::new(NoCache), Rc::new(CommandLine::default()), sink);
    Ok(pollster::block_on(opened)?)
}

/// Loads one part of the bundle in `folder`: what goldens of real weights run on.
///
/// # Errors
/// If there is no bundle, or it lacks the part.
pub fn load_part(folder: Option<&Path>, name: &str, device: &Device) -> anyhow::Result<LoadedPart<Weights>> {
    let folder = folder.context("this golden needs the weights of a bundle: give --bundle DIR")?;
    let mut loader = open(folder, device, Precision::Exact)?;
    Ok(pollster::block_on(loader.load_part(name, &mut |_| {}))?)
}
