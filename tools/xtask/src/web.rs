//! The wasm build: cargo, then wasm-bindgen (as a library, so that its version is pinned by Cargo.lock), then wasm-opt.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use wasm_bindgen_cli_support::Bindgen;

use crate::{
    npm, places,
    process::{output, run, say},
    wasm_std,
};

/// One of the wasm builds that the package ships. All share their sources; each has its own output names.
pub struct Build {
    /// Cargo's profile.
    profile: &'static str,
    /// Whether wasm-opt rewrites the result.
    optimized: bool,
    /// Base name of the files in `pkg/dist/`.
    name: &'static str,
}

/// SIMD, one thread: runs on every page.
pub const SIMD: Build = Build { profile: "wasm", optimized: true, name: "bubo" };
/// The same for the daily loop: compiles in a fraction of the time and runs slower.
pub const SIMD_FAST: Build = Build { profile: "wasm-dev", optimized: false, name: "bubo" };

/// The features that the browser must have; Chromium, Firefox and Safari of today do.
const WASM_OPT: [&str; 11] = [
    "-O3",
    "--strip-debug",
    "--strip-target-features",
    "--enable-simd",
    "--enable-relaxed-simd",
    "--enable-bulk-memory",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// Builds into `pkg/dist/`, which git ignores; a step whose input has not changed is skipped.
///
/// # Errors
/// The toolchain cannot be provided, or one of the three steps fails.
pub fn build(build: &Build) -> Result<()> {
    let wasm = compile(build)?;
    let dist = dist();
    let stamp = dist.join(format!(".{}.stamp", build.name));
    let inputs = stamp_of(build, &wasm)?;
    let outputs = [dist.join(format!("{}.js", build.name)), dist.join(format!("{}_bg.wasm", build.name))];
    if outputs.iter().all(|path| path.is_file()) && fs::read_to_string(&stamp).is_ok_and(|found| found == inputs) {
        say("pkg/dist is up to date");
        return Ok(());
    }
    fs::create_dir_all(&dist)?;
    // Gone until everything has succeeded.
    let _ = fs::remove_file(&stamp);
    bind(build, &wasm, &dist)?;
    if build.optimized {
        optimize(&outputs[1])?;
    }
    let bytes = outputs[1].metadata()?.len();
    say(format!("pkg/dist/{}_bg.wasm: {:.2} MB", build.name, bytes as f64 / 1e6));
    Ok(fs::write(&stamp, inputs)?)
}

/// The folder that the generated files are written to.
pub fn dist() -> PathBuf {
    places::root().join("pkg/dist")
}

/// Refuses warnings in code that only the wasm build compiles; call it after [`build`].
///
/// # Errors
/// There are warnings, which the error repeats.
pub fn refuse_warnings(build: &Build) -> Result<()> {
    // Nothing is compiled anew: cargo repeats what the compiler said.
    let result = cargo_command(build, wasm_std::provide()?.as_deref()).output()?;
    let said = String::from_utf8_lossy(&result.stderr);
    ensure!(!said.contains("warning: `bubo`"), "the wasm build has warnings:\n{said}");
    Ok(())
}

/// Runs cargo and returns the raw wasm file.
fn compile(build: &Build) -> Result<PathBuf> {
    let compiler = wasm_std::provide()?;
    forget_other_std(&target_dir(), &wasm_std::identity(compiler.as_deref())?)?;
    say(format!("compiling wasm (profile {})", build.profile));
    run(&mut cargo_command(build, compiler.as_deref()))?;
    Ok(target_dir().join(wasm_std::TARGET).join(build.profile).join("bubo.wasm"))
}

/// Wasm objects lie apart from native ones, since another compiler may make them.
fn target_dir() -> PathBuf {
    places::target().join("wasm")
}

fn cargo_command(build: &Build, compiler: Option<&Path>) -> Command {
    let mut command = Command::new(places::cargo());
    command
        .args(["rustc", "--package", "bubo", "--lib", "--crate-type", "cdylib"])
        .args(["--profile", build.profile, "--target", wasm_std::TARGET, "--target-dir"])
        .arg(target_dir())
        .current_dir(places::root())
        // The target's own flags in .cargo/config.toml would yield to these.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(compiler) = compiler {
        command.env("RUSTC", compiler);
    }
    command
}

/// Cargo does not see that the standard library was built anew; its old objects would not link.
fn forget_other_std(target_dir: &Path, identity: &str) -> Result<()> {
    let record = target_dir.join("std.txt");
    if fs::read_to_string(&record).is_ok_and(|found| found == identity) {
        return Ok(());
    }
    if target_dir.exists() {
        fs::remove_dir_all(target_dir).with_context(|| format!("cannot clear {}", target_dir.display()))?;
    }
    fs::create_dir_all(target_dir)?;
    Ok(fs::write(record, identity)?)
}

/// What the output depends on: the raw wasm (wasm-bindgen's version is in it) and the tools.
fn stamp_of(build: &Build, wasm: &Path) -> Result<String> {
    let bytes = fs::read(wasm).with_context(|| format!("cargo made no {}", wasm.display()))?;
    let tools = fs::read(npm_folder().join("package-lock.json"))?;
    let mut hash = Sha256::new();
    hash.update(&bytes);
    hash.update(&tools);
    hash.update(format!("{} {WASM_OPT:?}", build.optimized));
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bind(build: &Build, wasm: &Path, dist: &Path) -> Result<()> {
    say("generating the JavaScript bindings");
    Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .typescript(true)
        .out_name(build.name)
        // The default place of the wasm file, `new URL(…, import.meta.url)`, is what bundlers recognise.
        .omit_default_module_path(false)
        .remove_name_section(build.optimized)
        .remove_producers_section(build.optimized)
        .generate(dist)
        .context("wasm-bindgen")
}

fn npm_folder() -> PathBuf {
    places::root().join("tools/xtask/npm")
}

fn optimize(wasm: &Path) -> Result<()> {
    let tools = npm::install_in_cache(&npm_folder())?;
    say("optimising with wasm-opt");
    let optimized = wasm.with_extension("wasm.tmp");
    let program = tools.join("node_modules/binaryen/bin/wasm-opt");
    output(Command::new("node").arg(program).args(WASM_OPT).arg(wasm).arg("-o").arg(&optimized))?;
    Ok(fs::rename(optimized, wasm)?)
}
