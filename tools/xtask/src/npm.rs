//! Pinned npm packages: a folder of this repository holds `package.json` and `package-lock.json`, npm does the rest.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{
    places,
    process::{apt_install, can_use_apt, exists, output, say},
};

/// The oldest Node.js that the browser tests run on.
const NODE_MAJOR: u32 = 20;

/// Installs what `folder`'s lock file pins into that folder; does nothing when it is there already.
///
/// # Errors
/// There is no Node.js that is new enough, or npm fails.
pub fn install(folder: &Path) -> Result<()> {
    let lock = fs::read(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.lock-sha256");
    let wanted = format!("{:x?}", Sha256::digest(&lock));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    require_node()?;
    say(format!("installing npm packages of {}", places::shown(folder)));
    let quiet = ["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"];
    output(Command::new("npm").args(quiet).current_dir(folder))?;
    fs::write(stamp, wanted).context("cannot write the stamp of node_modules")
}

/// Like [`install`], but into the cache, where every checkout finds it; returns that folder.
///
/// # Errors
/// As [`install`].
pub fn install_in_cache(folder: &Path) -> Result<PathBuf> {
    let lock = fs::read(folder.join("package-lock.json"))?;
    let key: String = Sha256::digest(&lock).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let place = places::cache("npm")?.join(key);
    fs::create_dir_all(&place)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(folder.join(name), place.join(name))?;
    }
    install(&place)?;
    Ok(place)
}

/// Makes sure that Node.js and npm are there and new enough.
///
/// # Errors
/// They are missing or too old, and apt cannot help.
pub fn require_node() -> Result<()> {
    if !(exists("node") && exists("npm")) {
        if !can_use_apt() {
            bail!("Node.js {NODE_MAJOR} or newer, with npm, is needed: install it");
        }
        apt_install(&["nodejs", "npm"])?;
    }
    let version = output(Command::new("node").arg("--version"))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR) {
        bail!("Node.js {NODE_MAJOR} or newer is needed; this machine has {version}");
    }
    Ok(())
}
