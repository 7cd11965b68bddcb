//! Builds a bundle from the packages that hold its parts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bubo::bundle::{MANIFEST_FILE, Manifest};
use sha2::{Digest, Sha256};

use super::shard::hex;
use super::writer::{BundleWriter, stored_files};
use crate::convert::quantize::{Target, quantized_part};
use crate::convert::{MINI, Part, Recipe, original, public, trained};

const DESCRIPTION: &str = "Small pretrained parts from package registries: ImageNet tags, COCO boxes, saliency masks, \
                           AudioSet sounds, sentence embeddings, and a language model of 135 M parameters";

/// Builds `bubo-mini` in `out` from the unpacked packages, each in a folder of its name within `parts`, and from what was
/// trained (see [`trained`]), if a folder of that is given. Returns the manifest, and whether anything had to be done: what was built before from the same inputs by the same program stays.
///
/// # Errors
/// If an input is missing or cannot be converted.
pub fn build(
    parts: &Path,
    trained: Option<&Path>,
    out: &Path,
    report: &mut dyn FnMut(&str),
) -> anyhow::Result<(Manifest, bool)> {
    let stamp_file = out.with_extension("stamp");
    let stamp = stamp(parts, trained)?;
    if fs::read_to_string(&stamp_file).is_ok_and(|there| there == stamp)
        && let Some(manifest) = intact(out)
    {
        return Ok((manifest, false));
    }
    let mut writer = BundleWriter::new(out, "bubo-mini", env!("CARGO_PKG_VERSION"), DESCRIPTION)?;
    for recipe in MINI {
        report(&format!("converting {}", recipe.part));
        let mut part = (recipe.convert)(&input(parts, recipe.inputs.first())?).with_context(|| recipe.part)?;
        check_name(recipe, &part)?;
        if let Some(folder) = trained.filter(|_| part.name == "language") {
            for joiner in trained::joiners(folder)? {
                writer.add(joiner)?;
            }
            trained::add_low_rank(&mut part, folder)?;
        }
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

/// Converts public checkpoints of the paper's system to one bundle named `name`, which behaves as the original does where
/// `is_original`; `report` gets what was used and left over.
///
/// # Errors
/// As for [`public::convert`], or if the disk is full.
pub fn convert_public(
    sources: &[PathBuf],
    out: &Path,
    name: &str,
    target: Option<Target>,
    is_original: bool,
    report: &mut dyn FnMut(&str),
) -> anyhow::Result<Manifest> {
    let public::Converted { parts, report: text } = public::convert(sources, target)?;
    report(&text);
    let mut writer = BundleWriter::new(out, name, env!("CARGO_PKG_VERSION"), "")?;
    for mut part in parts {
        report(&format!("writing {}: {} tensors", part.name, part.tensors.len()));
        if is_original {
            original::apply(part.model, &mut part.config);
        }
        let name = part.name;
        writer.add(part).context(name)?;
    }
    writer.finish()
}

fn check_name(recipe: &Recipe, part: &Part) -> anyhow::Result<()> {
    ensure!(recipe.part == part.name, "the recipe of {} made {}", recipe.part, part.name);
    Ok(())
}

/// The folder of a package.
fn input(parts: &Path, package: Option<&&str>) -> anyhow::Result<PathBuf> {
    let folder = parts.join(package.context("the recipe names no package")?);
    ensure!(folder.is_dir(), "there is no folder {}; `cargo xtask bundle` fetches it", folder.display());
    Ok(folder)
}

/// What the bundle depends on: the inputs and this program.
fn stamp(parts: &Path, trained: Option<&Path>) -> anyhow::Result<String> {
    let mut files = vec![std::env::current_exe().context("where is this program?")?];
    let packages = MINI.iter().flat_map(|recipe| recipe.inputs).map(|package| input(parts, Some(package)));
    for folder in packages.chain(trained.map(|folder| Ok(folder.to_path_buf()))) {
        let folder = folder?;
        let entries = fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))?;
        let mut found = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        found.sort();
        files.extend(found.into_iter().filter(|path| path.is_file()));
    }
    let mut hash = Sha256::new();
    for path in files {
        let mut file = fs::File::open(&path).with_context(|| format!("could not read {}", path.display()))?;
        std::io::copy(&mut file, &mut HashWriter(&mut hash))?;
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
