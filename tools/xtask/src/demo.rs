//! `cargo xtask demo`: everything from a fresh checkout to a page that runs.

use std::time::Instant;

use anyhow::Result;

use crate::{bundle, serve, web};

/// Builds what is missing, then serves the page until the process is ended.
///
/// # Errors
/// A step fails, or the port is taken.
pub fn run(port: u16, fast: bool) -> Result<()> {
    let start = Instant::now();
    eprintln!("[1/3] wasm: the module that the page runs (the first time takes minutes)");
    web::build(if fast { &web::SIMD_FAST } else { &web::SIMD })?;
    eprintln!("[2/3] bundle: pretrained parts, converted (the first time fetches about 450 MB)");
    bundle::build()?;
    eprintln!("[3/3] page: ready after {:.0} s; Ctrl-C ends it", start.elapsed().as_secs_f64());
    serve::serve(port)
}
