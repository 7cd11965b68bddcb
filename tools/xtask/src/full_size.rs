//! `cargo xtask full-size`: the paper's system at full size in headless Chromium, on random numbers. `docs/full-size.md`
//! tells what it measured.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{bundle, chromium, npm, places, process, serve, web};

/// The whole system, with MobileSAM.
const WHOLE: &str = "bubogpt-7b-random";

/// Builds what is missing, streams both bundles into WebGPU and runs every stage.
///
/// - `layers`: blocks of each trunk at most in the second bundle, whose stages all run; it has SAM's ViT-H
///
/// # Errors
/// A step fails, a number is not finite, or memory is not what was promised.
pub fn run(layers: usize, fast: bool) -> Result<()> {
    ensure!(layers > 0, "a trunk needs at least one block: --layers 1");
    web::build(if fast { &web::SIMD_FAST } else { &web::SIMD })?;
    let count = layers.to_string();
    let cut = format!("{WHOLE}-{layers}");
    let folder = places::root().join("tests/browser");
    npm::install(&folder)?;
    let mut measure = Command::new("node");
    measure.arg(folder.join("full-size.js")).current_dir(places::root());
    for (name, options) in [(WHOLE, vec![]), (cut.as_str(), vec!["--layers", &count, "--segmenter", "sam_vit_h"])] {
        let path = places::root().join("bundles").join(name);
        if !path.join("bundle.json").is_file() {
            bundle::random(name, &options)?;
        }
        measure.arg(address(name)).arg(bundle::planned_gpu_bytes(&path)?.to_string());
    }
    let port = serve::start(serve::Site::of_checkout(), 0)?;
    measure.env("BUBO_URL", format!("http://localhost:{port}/")).env("BUBO_CHROME", chromium::provide()?);
    process::run(&mut measure)
}

fn address(name: &str) -> String {
    Path::new("bundles").join(name).join("bundle.json").to_string_lossy().replace('\\', "/")
}
