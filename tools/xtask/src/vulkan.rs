//! A Vulkan driver for the native GPU tests: the machine's own, else Mesa's software one.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::process::{apt_install, can_use_apt, say};

const ICD_FOLDER: &str = "/usr/share/vulkan/icd.d";

/// Variables to set so that wgpu finds an adapter; empty where the machine's own driver is to be used.
///
/// Without a graphics card on Linux that is lavapipe, which Debian's `mesa-vulkan-drivers` brings.
///
/// # Errors
/// apt fails.
pub fn environment() -> Result<Vec<(&'static str, String)>> {
    let is_chosen = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"].iter().any(|name| env::var_os(name).is_some());
    if !cfg!(target_os = "linux") || is_chosen || has_graphics_card() {
        return Ok(Vec::new());
    }
    if lavapipe().is_none() && can_use_apt() {
        apt_install(&["mesa-vulkan-drivers"])?;
    }
    match lavapipe() {
        Some(driver) => Ok(vec![("VK_ICD_FILENAMES", driver.display().to_string())]),
        None => {
            say("no graphics card and no lavapipe: install mesa-vulkan-drivers to run the GPU tests");
            Ok(Vec::new())
        }
    }
}

fn has_graphics_card() -> bool {
    let has_render_node = fs::read_dir("/dev/dri").is_ok_and(|mut nodes| {
        nodes.any(|node| node.is_ok_and(|node| node.file_name().as_encoded_bytes().starts_with(b"render")))
    });
    has_render_node || Path::new("/dev/nvidia0").exists()
}

fn lavapipe() -> Option<PathBuf> {
    let mut drivers = fs::read_dir(ICD_FOLDER).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    drivers.find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"lvp_icd")))
}
