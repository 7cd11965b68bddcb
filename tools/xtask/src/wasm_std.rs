//! The standard library for `wasm32-unknown-unknown`, and the compiler that belongs to it.
//!
//! People have it from rustup. A machine that reaches only package registries cannot get it there, so
//! `BUBO_WASM_STD=debian` takes Debian's `rustc-web` and its sources instead: the packages are unpacked into the
//! cache without being installed, and the standard library is built once from the sources.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    places,
    process::{output, run, say},
};

/// The target of every browser build.
pub const TARGET: &str = "wasm32-unknown-unknown";
const SWITCH: &str = "BUBO_WASM_STD";
/// Debian's host triple for the packages below; others are refused.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// Versions that were tried together. Where a mirror has dropped one, apt's candidate is taken, and that is said.
const PACKAGES: [(&str, &str); 6] = [
    ("rustc-web", "1.96.0+dfsg1-1~deb12u2"),
    ("libstd-rust-web-1.96", "1.96.0+dfsg1-1~deb12u2"),
    ("libstd-rust-web-dev", "1.96.0+dfsg1-1~deb12u2"),
    ("rust-web-src", "1.96.0+dfsg1-1~deb12u2"),
    ("libllvm22", "1:22.1.8-1~deb12u1"),
    ("lld-22", "1:22.1.8-1~deb12u1"),
];

/// How the library is built; a library in the cache that was built otherwise is replaced. Link-time optimisation reads
/// the bitcode, as it does in rustup's library.
const STD_FLAGS: &str = "-C embed-bitcode=yes";

/// Makes sure that wasm can be compiled; returns the `RUSTC` to compile it with, `None` for the usual one.
///
/// # Errors
/// The switch has an unknown value, or the standard library can be neither found nor fetched.
pub fn provide() -> Result<Option<PathBuf>> {
    match env::var(SWITCH).as_deref() {
        Err(_) | Ok("" | "rustup") => from_rustup().map(|()| None),
        Ok("debian") => from_debian().map(Some),
        Ok(other) => bail!("{SWITCH}={other} is unknown: use `rustup` or `debian`"),
    }
}

/// Names the standard library that [`provide`] gave: objects compiled against another one must not be reused.
///
/// # Errors
/// The library's record cannot be read.
pub fn identity(compiler: Option<&Path>) -> Result<String> {
    match compiler.and_then(Path::parent) {
        Some(prefix) => Ok(fs::read_to_string(prefix.join("finished"))?),
        None => output(Command::new("rustc").arg("-vV")),
    }
}

fn from_rustup() -> Result<()> {
    let lib_dir =
        output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).env_remove("RUSTC"))?;
    if Path::new(&lib_dir).is_dir() {
        return Ok(());
    }
    say(format!("adding the {TARGET} standard library with rustup"));
    run(Command::new("rustup").args(["target", "add", TARGET])).with_context(|| {
        format!("no {TARGET} standard library; on a Debian machine without rustup's server, set {SWITCH}=debian")
    })
}

fn from_debian() -> Result<PathBuf> {
    let (_, version) = PACKAGES[0];
    let folder = places::cache("wasm-std")?;
    let prefix = folder.join(version);
    let wrapper = prefix.join("rustc");
    let finished = prefix.join("finished");
    let recipe = format!("{PACKAGES:?} {STD_FLAGS}\n");
    let is_finished = || fs::read_to_string(&finished).is_ok_and(|found| found == recipe);
    if is_finished() {
        return Ok(wrapper);
    }
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    if host != HOST {
        bail!("{SWITCH}=debian is for {HOST}; this machine is {host}: install the {TARGET} target with rustup");
    }
    // Built beside its final place, so that an interrupted or a parallel run never leaves half a library there.
    let building = folder.join(format!("{version}.{}", std::process::id()));
    unpack(&building)?;
    write_wrapper(&building)?;
    build_std(&building)?;
    fs::write(building.join("finished"), &recipe)?;
    if prefix.exists() && !is_finished() {
        fs::remove_dir_all(&prefix)?;
    }
    if fs::rename(&building, &prefix).is_err() {
        // Another run finished first; its result is the same.
        fs::remove_dir_all(&building)?;
    }
    write_wrapper(&prefix)?;
    Ok(wrapper)
}

fn unpack(prefix: &Path) -> Result<()> {
    let archives = prefix.join("archives");
    fs::create_dir_all(&archives)?;
    say("fetching Debian's rustc for wasm (138 MB): rustc-web, its sources, llvm, lld");
    if !download(&archives, Versions::Pinned)? {
        // Lists of an older day may know other versions alone.
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        if !download(&archives, Versions::Pinned)? {
            say(format!("the pinned versions are gone from the mirror: {PACKAGES:?}; taking apt's candidates"));
            download(&archives, Versions::Any)?;
        }
    }
    for entry in fs::read_dir(&archives)? {
        run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(prefix))?;
    }
    fs::remove_dir_all(&archives)?;
    Ok(())
}

/// What is downloaded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Versions {
    Pinned,
    Any,
}

/// Whether apt has all packages in those versions; the folder then holds them and nothing else.
///
/// # Errors
/// If a package cannot be had in any version.
fn download(archives: &Path, versions: Versions) -> Result<bool> {
    fs::remove_dir_all(archives)?;
    fs::create_dir(archives)?;
    for (package, version) in PACKAGES {
        let fetch = |what: &str| output(Command::new("apt-get").args(["download", "-qq", what]).current_dir(archives));
        match versions {
            Versions::Any => drop(fetch(package)?),
            Versions::Pinned if fetch(&format!("{package}={version}")).is_err() => return Ok(false),
            Versions::Pinned => {}
        }
    }
    Ok(true)
}

/// A `rustc` that finds its own libraries and linker inside the prefix.
#[cfg(unix)]
fn write_wrapper(prefix: &Path) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let libraries = prefix.join("usr/lib/x86_64-linux-gnu");
    let compiler = prefix.join("usr/bin/rustc");
    let wrapper = prefix.join("rustc");
    let script = format!("#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n", libraries.display(), compiler.display());
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;

    let rustlib = prefix.join("usr/lib/rustlib");
    for (folder, up) in [(prefix.join("usr/bin"), ".."), (rustlib.join(HOST).join("bin"), "../../../..")] {
        fs::create_dir_all(&folder)?;
        let link = folder.join("rust-lld");
        if !link.is_symlink() {
            symlink(format!("{up}/lib/llvm-22/bin/lld"), link)?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn write_wrapper(_: &Path) -> Result<()> {
    bail!("Debian's packages run on Linux only")
}

/// Compiles the standard library with a stub crate that needs it, and puts the result where `rustc` looks.
fn build_std(prefix: &Path) -> Result<()> {
    say("building the wasm standard library from source, once (about 80 s of one core)");
    let stub = prefix.join("stub");
    fs::create_dir_all(stub.join("src"))?;
    let manifest = "[package]\nname = \"stub\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[lib]\n[workspace]\n";
    fs::write(stub.join("Cargo.toml"), manifest)?;
    fs::write(stub.join("src/lib.rs"), "")?;
    run(Command::new(places::cargo())
        .args(["build", "--quiet", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort,test"])
        .current_dir(&stub)
        .env("RUSTC", prefix.join("rustc"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", stub.join("target"))
        .env("RUSTFLAGS", STD_FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;

    let built = stub.join("target").join(TARGET).join("release/deps");
    let place = prefix.join("usr/lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&place)?;
    let mut count = 0;
    for entry in fs::read_dir(&built)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libstub-") {
            fs::copy(&path, place.join(name))?;
            count += 1;
        }
    }
    if count == 0 {
        bail!("cargo built no standard library in {}", built.display());
    }
    fs::remove_dir_all(&stub)?;
    Ok(())
}
