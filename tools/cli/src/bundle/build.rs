//! Builds a bundle from the packages that hold its parts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bubo::bundle::{MANIFEST_FILE, Manifest};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::shard::hex;
use super::writer::{BundleWriter, stored_files};
use crate::convert::quantize::{Target, quantized_part};
use crate::convert::{MINI, Part, Recipe};

const DESCRIPTION: &str = "Small pretrained parts from package registries: ImageNet tags, COCO boxes, saliency masks, \
                           AudioSet sounds, sentence embeddings, and a language model of 135 M parameters";

/// A package as `cargo xtask parts` lists it; other keys do not matter here.
#[derive(Debug, Deserialize)]
struct Package {
    files: BTreeMap<String, PathBuf>,
    folder: PathBuf,
}

/// Builds `bubo-mini` in `out` from the packages that the list `parts` names. Returns the manifest, and whether anything
/// had to be done: what was built before from the same inputs by the same program stays.
///
/// # Errors
/// If an input is missing or cannot be converted.
pub fn build(parts: &Path, out: &Path, report: &mut dyn FnMut(&str)) -> anyhow::Result<(Manifest, bool)> {
    let text = fs::read_to_string(parts).with_context(|| format!("could not read {}", parts.display()))?;
    let packages: BTreeMap<String, Package> =
        serde_json::from_str(&text).with_context(|| format!("{} is no list of packages", parts.display()))?;
    let stamp_file = out.with_extension("stamp");
    let stamp = stamp(&packages)?;
    if fs::read_to_string(&stamp_file).is_ok_and(|there| there == stamp) {
        if let Some(manifest) = intact(out) {
            return Ok((manifest, false));
        }
    }
    let mut writer = BundleWriter::new(out, "bubo-mini", env!("CARGO_PKG_VERSION"), DESCRIPTION)?;
    for recipe in MINI {
        report(&format!("converting {}", recipe.part));
        let part = (recipe.convert)(&package(&packages, recipe)?.folder).with_context(|| recipe.part)?;
        check_name(recipe, &part)?;
        writer.add(part).with_context(|| recipe.part)?;
    }
    let manifest = writer.finish()?;
    fs::write(&stamp_file, stamp).with_context(|| format!("could not write {}", stamp_file.display()))?;
    Ok((manifest, true))
}

/// Converts one checkpoint to a bundle of one part, its matrices quantised if a target is given.
///
/// # Errors
/// If there is no recipe for `part`, or the checkpoint does not fit it.
pub fn convert_one(part: &str, source: &Path, out: &Path, target: Option<Target>) -> anyhow::Result<Manifest> {
    let Some(recipe) = MINI.iter().find(|recipe| recipe.part == part) else {
        let known = MINI.iter().map(|recipe| recipe.part).collect::<Vec<_>>().join(", ");
        bail!("there is no recipe for {part:?}; known are: {known}");
    };
    let mut converted = (recipe.convert)(source)?;
    check_name(recipe, &converted)?;
    if let Some(target) = target {
        converted = quantized_part(converted, target);
    }
    let mut writer = BundleWriter::new(out, part, env!("CARGO_PKG_VERSION"), "")?;
    writer.add(converted)?;
    writer.finish()
}

fn check_name(recipe: &Recipe, part: &Part) -> anyhow::Result<()> {
    ensure!(recipe.part == part.name, "the recipe of {} made {}", recipe.part, part.name);
    Ok(())
}

fn package<'a>(packages: &'a BTreeMap<String, Package>, recipe: &Recipe) -> anyhow::Result<&'a Package> {
    let name = recipe.inputs.first().with_context(|| format!("the recipe of {} names no package", recipe.part))?;
    packages.get(*name).with_context(|| format!("the list has no package {name:?}; run `cargo xtask parts`"))
}

/// What the bundle depends on: the inputs and this program.
fn stamp(packages: &BTreeMap<String, Package>) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut add = |path: &Path| -> anyhow::Result<()> {
        let mut file = fs::File::open(path).with_context(|| format!("could not read {}", path.display()))?;
        let mut of_file = Sha256::new();
        std::io::copy(&mut file, &mut HashWriter(&mut of_file))?;
        hash.update(of_file.finalize());
        Ok(())
    };
    add(&std::env::current_exe().context("where is this program?")?)?;
    for recipe in MINI {
        for input in recipe.inputs {
            let package = packages.get(*input).with_context(|| format!("the list has no package {input:?}"))?;
            package.files.values().try_for_each(|file| add(file))?;
        }
    }
    Ok(hex(&hash.finalize()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The manifest of the bundle in `out` if all its files are there in their full length.
fn intact(out: &Path) -> Option<Manifest> {
    let manifest = Manifest::parse(&fs::read(out.join(MANIFEST_FILE)).ok()?).ok()?;
    let length = |file: &str| fs::metadata(out.join(file)).map_or(u64::MAX, |metadata| metadata.len());
    let total: u64 = stored_files(&manifest).map(length).fold(0, u64::saturating_add);
    (total == manifest.total_bytes()).then_some(manifest)
}
