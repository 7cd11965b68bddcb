//! A Chrome for the browser tests: the one that is there, else Debian's.

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

use crate::process::{apt_install, can_use_apt};

const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
/// Where installers put it on systems that do not list it in the search path.
const FIXED: [&str; 3] = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
];

/// Finds the browser, installing Debian's where this machine has none and allows it.
///
/// `BUBO_CHROME` names another one.
///
/// # Errors
/// There is no browser and it cannot be installed.
pub fn provide() -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("BUBO_CHROME").map(PathBuf::from) {
        if !chosen.is_file() {
            bail!("BUBO_CHROME={} is no file", chosen.display());
        }
        return Ok(chosen);
    }
    if let Some(found) = find() {
        return Ok(found);
    }
    if can_use_apt() {
        apt_install(&["chromium"])?;
    }
    match find() {
        Some(found) => Ok(found),
        None => bail!("the browser tests need Chrome or Chromium: install one, or set BUBO_CHROME to its path"),
    }
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    on_path.chain(FIXED.map(PathBuf::from)).find(|candidate| candidate.is_file())
}
