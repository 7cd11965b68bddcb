//! Files out of Qt's resource collections (`.rcc`), stored plainly or with zlib.
//!
//! Layout: a header of big-endian words (version, offsets of tree, data and names), a tree of nodes whose names are
//! UTF-16, and length-prefixed data. Source: Qt's `rcc`, `qtbase/src/tools/rcc/rcc.cpp`, formats 1 to 3.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use flate2::read::ZlibDecoder;

/// No wanted file is larger; a stream that unpacks to more is refused.
const MAX_FILE_BYTES: u64 = 1 << 30;

const FOLDER: u16 = 2;
const ZLIB: u16 = 1;
const ZSTD: u16 = 4;

/// The file at `path` of a collection.
///
/// # Errors
/// `bytes` is no collection or cut short, or has no such file, or the file is packed in a way not known here.
pub fn read_file(bytes: &[u8], path: &str) -> Result<Vec<u8>> {
    let collection = Collection::open(bytes)?;
    let mut node = collection.tree;
    for wanted in path.trim_start_matches('/').split('/') {
        let mut found = None;
        for child in collection.children(node)? {
            if collection.name(child)? == wanted {
                found = Some(child);
                break;
            }
        }
        node = found.with_context(|| format!("no {path} in it"))?;
    }
    ensure!(collection.flags(node)? & FOLDER == 0, "{path} is a folder");
    collection.content(node).with_context(|| path.to_owned())
}

/// Paths of all files of a collection, without a slash in front, in its own order.
///
/// # Errors
/// `bytes` is no collection, is cut short, or its folders lie in each other.
pub fn paths(bytes: &[u8]) -> Result<Vec<String>> {
    let collection = Collection::open(bytes)?;
    // A node is one of so many; more visits than that go round in a circle.
    let most_nodes = bytes.len() / collection.node_bytes;
    let (mut open, mut found, mut visits) = (vec![(collection.tree, String::new())], Vec::new(), 0);
    while let Some((folder, prefix)) = open.pop() {
        for child in collection.children(folder)? {
            visits += 1;
            ensure!(visits <= most_nodes, "its folders lie in each other");
            let path = format!("{prefix}{}", collection.name(child)?);
            if collection.flags(child)? & FOLDER == 0 {
                found.push(path);
            } else {
                open.push((child, format!("{path}/")));
            }
        }
    }
    Ok(found)
}

struct Collection<'a> {
    bytes: &'a [u8],
    /// Offset of the first node, the root.
    tree: usize,
    data: usize,
    names: usize,
    node_bytes: usize,
}

impl<'a> Collection<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        ensure!(bytes.starts_with(b"qres"), "not a Qt resource file");
        let [version, tree, data, names] = [4, 8, 12, 16].map(|at| word(bytes, at));
        let node_bytes = if version? < 2 { 14 } else { 22 };
        Ok(Self { bytes, tree: tree?, data: data?, names: names?, node_bytes })
    }

    fn children(&self, node: usize) -> Result<impl Iterator<Item = usize> + use<>> {
        let (count, first) = (word(self.bytes, node + 6)?, word(self.bytes, node + 10)?);
        let (tree, node_bytes) = (self.tree, self.node_bytes);
        Ok((0..count).map(move |child| tree + (first + child) * node_bytes))
    }

    fn flags(&self, node: usize) -> Result<u16> {
        half_word(self.bytes, node + 4)
    }

    /// A name: its length in UTF-16 units, a hash (skipped), then the units.
    fn name(&self, node: usize) -> Result<String> {
        let at = self.names + word(self.bytes, node)?;
        let length = usize::from(half_word(self.bytes, at)?);
        let units: Vec<u16> =
            (0..length).map(|index| half_word(self.bytes, at + 6 + 2 * index)).collect::<Result<_>>()?;
        Ok(String::from_utf16_lossy(&units))
    }

    fn content(&self, node: usize) -> Result<Vec<u8>> {
        let flags = self.flags(node)?;
        ensure!(flags & ZSTD == 0, "it is packed with zstd, which is not supported");
        let start = self.data + word(self.bytes, node + 10)?;
        let length = word(self.bytes, start)?;
        let content = self.bytes.get(start + 4..start + 4 + length).context("the file is cut short")?;
        if flags & ZLIB == 0 {
            return Ok(content.to_vec());
        }
        // The unpacked length stands before the stream.
        let mut unpacked = Vec::new();
        let stream = ZlibDecoder::new(content.get(4..).context("the file is cut short")?);
        stream.take(MAX_FILE_BYTES + 1).read_to_end(&mut unpacked)?;
        ensure!(unpacked.len() as u64 <= MAX_FILE_BYTES, "it is larger than 1 GiB");
        Ok(unpacked)
    }
}

fn word(bytes: &[u8], at: usize) -> Result<usize> {
    let four = bytes.get(at..at + 4).context("the file is cut short")?;
    Ok(four.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

fn half_word(bytes: &[u8], at: usize) -> Result<u16> {
    let two = bytes.get(at..at + 2).context("the file is cut short")?;
    Ok(two.iter().fold(0, |value, &byte| value << 8 | u16::from(byte)))
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
        assert_eq!(read_file(&collection(), "/a/plain").unwrap(), b"hi");
        assert_eq!(read_file(&collection(), "/a/packed").unwrap(), b"hello");
        assert_eq!(paths(&collection()).unwrap(), ["a/plain", "a/packed"]);
    }

    #[test]
    fn folders_that_lie_in_each_other_are_refused() {
        let mut bytes = collection();
        // The folder `a`, node 1, has itself as its first child.
        bytes[20 + 22 + 10..][..4].copy_from_slice(&1u32.to_be_bytes());
        assert!(paths(&bytes).unwrap_err().to_string().contains("in each other"));
    }

    #[test]
    fn rcc_refuses_what_is_not_there_or_cut() {
        assert!(read_file(&collection(), "/a").is_err());
        assert!(read_file(&collection(), "/a/other").is_err());
        for length in 0..collection().len() {
            // A prefix may still hold the first file; it must never panic.
            let _ = read_file(&collection()[..length], "/a/packed");
            let _ = paths(&collection()[..length]);
        }
        assert!(read_file(&collection()[..30], "/a/plain").is_err());
    }
}
