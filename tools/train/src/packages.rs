//! Fetching the Debian packages that hold pictures and sounds, at pinned versions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::inside;

/// A package of `packages.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub package: String,
    /// Its version, epoch and all.
    pub version: String,
    /// Of the `.deb` file.
    pub sha256: String,
    /// Licence of what is taken from it.
    pub licence: String,
    /// A font in it whose pictures are taken out, to the folder `glyphs`.
    #[serde(default)]
    pub pictures_of_font: Option<PathBuf>,
    /// A folder in it with Qt's resource collections, whose pictures and sounds are taken out, to the folder `resources`.
    #[serde(default)]
    pub media_of_resources: Option<PathBuf>,
}

/// The table of packages.
///
/// # Errors
/// If the file, which is part of the program, is not what it should be.
pub fn table() -> Result<Vec<Package>> {
    Ok(serde_json::from_str(include_str!("../packages.json"))?)
}

/// Downloads, checks and unpacks what is not there yet. Returns the folder of each package.
///
/// # Errors
/// If apt cannot fetch a package, or its file is not the pinned one.
pub fn fetch(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut folders = BTreeMap::new();
    for package in table()? {
        let unpacked = folder.join(&package.package);
        if !unpacked.exists() {
            let download = folder.join(format!("{}.download", package.package));
            std::fs::create_dir_all(&download)?;
            unpack(&package, &download, &unpacked).with_context(|| package.package.clone())?;
            std::fs::remove_dir_all(&download)?;
        }
        folders.insert(package.package, unpacked);
    }
    Ok(folders)
}

fn unpack(package: &Package, download: &Path, unpacked: &Path) -> Result<()> {
    let wanted = format!("{}={}", package.package, package.version);
    run(Command::new("apt-get").args(["download", "-qq", &wanted]).current_dir(download))?;
    let archive = std::fs::read_dir(download)?.next().context("apt-get left no file")??.path();
    let found: String = Sha256::digest(std::fs::read(&archive)?).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == package.sha256, "its file has SHA-256 {found}, pinned is {}", package.sha256);
    let partial = unpacked.with_extension("partial");
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&partial))?;
    if let Some(font) = &package.pictures_of_font {
        inside::take_glyphs(&partial.join(font), &partial.join("glyphs"))?;
    }
    if let Some(resources) = &package.media_of_resources {
        inside::take_media(&partial.join(resources), &partial.join("resources"))?;
    }
    std::fs::rename(&partial, unpacked)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("could not start {program}, which Debian has"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}
