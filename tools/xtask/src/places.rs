//! Where things are: the checkout, build outputs, and the cache that outlives a checkout.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The root folder of the checkout that this xtask was built from.
pub fn root() -> PathBuf {
    let manifest_dir =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let tools = manifest_dir.parent().unwrap_or(Path::new("."));
    tools.parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// `path` as a person in the checkout would write it.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Cargo's target folder: `CARGO_TARGET_DIR` where set, else `target/`.
pub fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}

/// A folder in the user's cache, made if it is missing: `BUBO_CACHE`, else `$XDG_CACHE_HOME/bubo`, else `~/.cache/bubo`.
///
/// # Errors
/// There is no home folder, or the folder cannot be made.
pub fn cache(name: &str) -> Result<PathBuf> {
    let set = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("BUBO_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("bubo")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/bubo")))
        .or_else(|| set("LOCALAPPDATA").map(|folder| folder.join("bubo")))
        .context("no cache folder: set BUBO_CACHE to one")?;
    let folder = base.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The cargo that started this xtask, or the one on the search path.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}
