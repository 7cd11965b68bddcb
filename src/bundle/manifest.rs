//! `bundle.json`: what a bundle holds, and where.
//!
//! The text comes from anywhere, so every number in it is checked against the others before it is used.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::format::Format;
use crate::error::{Error, Result};

/// Name of the manifest in a bundle's folder.
pub const MANIFEST_FILE: &str = "bundle.json";

/// The version of the manifest's form that this program reads and writes.
pub const FORMAT_VERSION: u64 = 1;

/// Longest header of a shard that is accepted.
pub const MAX_SHARD_HEADER_BYTES: u64 = 16 << 20;

/// Most axes that a stored tensor may have.
const MAX_AXES: usize = 8;

/// Longest small file (labels, tokeniser): it is held in memory as a whole.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// What a bundle holds, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Name of the bundle, for example `bubo-mini`.
    pub name: String,
    /// Version of the bundle.
    pub version: String,
    /// What it is, for people.
    pub description: String,
    /// Where each part comes from and how it may be used.
    pub licences: Vec<Licence>,
    /// The stages, in the order in which they are loaded.
    pub parts: Vec<PartEntry>,
    /// Small files.
    pub files: Vec<FileEntry>,
    /// Shards, in the order of their numbers.
    pub shards: Vec<ShardEntry>,
    /// Tensors, in the order of the text.
    pub tensors: Vec<TensorEntry>,
}

/// Licence and origin of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    /// The part's name.
    pub part: String,
    /// SPDX expression.
    pub spdx: String,
    /// Package and version, for people.
    pub source: String,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartEntry {
    /// `tagger`, `detector`, …: the key in the text.
    #[serde(skip)]
    pub name: String,
    /// Which model reads it.
    pub model: String,
    /// The model's configuration.
    pub config: Value,
    /// What the names of its tensors start with.
    pub prefix: String,
    /// Names of its small files.
    #[serde(default)]
    pub files: Vec<String>,
}

/// A small file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The name by which the part knows it, for example `tokenizer.json`: the key in the text.
    #[serde(skip)]
    pub name: String,
    /// Name in the bundle's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash, 64 hexadecimal digits.
    pub sha256: String,
}

/// A shard: a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Name in the bundle's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash, 64 hexadecimal digits.
    pub sha256: String,
    /// The parts whose tensors it holds.
    pub parts: Vec<String>,
}

/// A tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Full name.
    pub name: String,
    /// Index of its part.
    pub part: usize,
    /// How it is stored.
    pub format: Format,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// Where it is: one piece, or several of consecutive rows.
    pub pieces: Vec<Piece>,
}

/// Some rows of a tensor (places of its first axis) in one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index of the shard.
    pub shard: usize,
    /// First row, and the row behind the last one; all rows of a tensor that is in one piece.
    pub rows: [usize; 2],
    /// First byte in the shard's file, and the byte behind the last one, over all its sections.
    pub at: [u64; 2],
}

#[derive(Serialize, Deserialize)]
struct TensorText {
    dtype: String,
    shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<[u64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pieces: Option<Vec<PieceText>>,
}

#[derive(Serialize, Deserialize)]
struct PieceText {
    shard: usize,
    rows: [usize; 2],
    at: [u64; 2],
}

#[derive(Serialize, Deserialize)]
struct ManifestText {
    format: u64,
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    licences: Vec<Value>,
    parts: Map<String, Value>,
    #[serde(default)]
    files: Map<String, Value>,
    shards: Vec<Value>,
    tensors: Map<String, Value>,
}

fn damaged(reason: impl Into<String>) -> Error {
    Error::corrupt(MANIFEST_FILE, reason)
}

/// Deserialises one entry; the error names the place and the key.
fn entry<T: for<'a> Deserialize<'a>>(place: impl std::fmt::Display, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| damaged(format!("{place}: {error}")))
}

impl Manifest {
    /// Reads and checks the text of a `bundle.json`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] that names the key that is missing or wrong; [`Error::Unsupported`] for an unknown format, with
    /// those that are known.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.trim_ascii_start().starts_with(b"<") {
            return Err(damaged(
                "the address answered with a web page, not with a manifest; check the bundle's address",
            ));
        }
        let value: Value = serde_json::from_slice(text).map_err(|error| damaged(format!("no JSON: {error}")))?;
        match value.get("format").map(Value::as_u64) {
            None => return Err(damaged("the key `format` is missing")),
            Some(Some(FORMAT_VERSION)) => {}
            Some(_) => {
                return Err(Error::Unsupported(format!(
                    "{MANIFEST_FILE} has the format {}; known formats: {FORMAT_VERSION}. Get a newer version of this \
                     program, or an older bundle",
                    value["format"]
                )));
            }
        }
        let text: ManifestText = entry("top level", value)?;
        let mut manifest = Self {
            name: text.name,
            version: text.version,
            description: text.description,
            licences: list("licences", text.licences)?,
            parts: Vec::new(),
            files: Vec::new(),
            shards: list("shards", text.shards)?,
            tensors: Vec::new(),
        };
        for (name, value) in text.parts {
            let part: PartEntry = entry(format!("parts.{name}"), value)?;
            manifest.parts.push(PartEntry { name, ..part });
        }
        for (name, value) in text.files {
            let file: FileEntry = entry(format!("files.{name}"), value)?;
            manifest.files.push(FileEntry { name, ..file });
        }
        manifest.check_parts()?;
        manifest.check_files()?;
        manifest.check_shards()?;
        for (name, value) in text.tensors {
            let tensor = manifest.tensor_entry(&name, entry(format!("tensors.{name}"), value)?);
            manifest.tensors.push(tensor.map_err(|reason| damaged(format!("tensors.{name}: {reason}")))?);
        }
        manifest.check_overlaps()?;
        Ok(manifest)
    }

    /// The text of the manifest, which [`parse`](Self::parse) reads back.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it cannot be written as JSON, which only a strange configuration can cause.
    pub fn to_json(&self) -> Result<String> {
        let json = |value: serde_json::Result<Value>| value.map_err(|error| damaged(error.to_string()));
        let mut text = ManifestText {
            format: FORMAT_VERSION,
            name: self.name.clone(),
            version: self.version.clone(),
            description: self.description.clone(),
            licences: self.licences.iter().map(|entry| json(serde_json::to_value(entry))).collect::<Result<_>>()?,
            parts: Map::new(),
            files: Map::new(),
            shards: self.shards.iter().map(|entry| json(serde_json::to_value(entry))).collect::<Result<_>>()?,
            tensors: Map::new(),
        };
        for part in &self.parts {
            text.parts.insert(part.name.clone(), json(serde_json::to_value(part))?);
        }
        for file in &self.files {
            text.files.insert(file.name.clone(), json(serde_json::to_value(file))?);
        }
        for tensor in &self.tensors {
            text.tensors.insert(tensor.name.clone(), json(serde_json::to_value(tensor.to_text()))?);
        }
        serde_json::to_string(&text).map_err(|error| damaged(error.to_string()))
    }

    /// The part of that name.
    pub fn part(&self, name: &str) -> Option<&PartEntry> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Length of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).chain(self.files.iter().map(|file| file.bytes)).sum()
    }

    fn check_parts(&self) -> Result<()> {
        for (i, part) in self.parts.iter().enumerate() {
            if !part.prefix.ends_with('.') {
                return Err(damaged(format!(
                    "parts.{}: the prefix {:?} does not end in a dot",
                    part.name, part.prefix
                )));
            }
            for other in &self.parts[..i] {
                if part.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&part.prefix) {
                    return Err(damaged(format!("the parts {} and {} share a prefix", other.name, part.name)));
                }
            }
            if let Some(name) = part.files.iter().find(|name| !self.files.iter().any(|file| file.name == **name)) {
                return Err(damaged(format!("parts.{}: `files` has no entry {name:?}", part.name)));
            }
        }
        Ok(())
    }

    fn check_files(&self) -> Result<()> {
        for file in &self.files {
            check_stored_file(&format!("files.{}", file.name), &file.file, &file.sha256)?;
            if file.bytes > MAX_FILE_BYTES {
                return Err(damaged(format!(
                    "files.{}: {} bytes are too many for a small file",
                    file.name, file.bytes
                )));
            }
        }
        Ok(())
    }

    fn check_shards(&self) -> Result<()> {
        let mut total = 0u64;
        for (i, shard) in self.shards.iter().enumerate() {
            let place = format!("shards[{i}]");
            check_stored_file(&place, &shard.file, &shard.sha256)?;
            total = total
                .checked_add(shard.bytes)
                .filter(|total| *total < 1 << 48)
                .ok_or_else(|| damaged(format!("{place}: {} bytes are too many", shard.bytes)))?;
            if let Some(name) = shard.parts.iter().find(|name| self.part(name).is_none()) {
                return Err(damaged(format!("{place}: there is no part {name:?}")));
            }
        }
        Ok(())
    }

    /// Checks one tensor's text against parts and shards.
    fn tensor_entry(&self, name: &str, text: TensorText) -> Result<TensorEntry, String> {
        let format = Format::from_name(&text.dtype)
            .ok_or_else(|| format!("dtype {:?} is unknown; known are {}", text.dtype, Format::names()))?;
        if text.shape.len() > MAX_AXES {
            return Err(format!("{} axes are too many", text.shape.len()));
        }
        let part = self.parts.iter().position(|part| name.starts_with(&part.prefix));
        let part = part.ok_or("its name starts with the prefix of no part")?;
        let row_count = text.shape.first().copied().unwrap_or(1);
        let pieces: Vec<Piece> = match (text.shard, text.at, text.pieces) {
            (Some(shard), Some(at), None) => vec![Piece { shard, rows: [0, row_count], at }],
            (None, None, Some(pieces)) => {
                pieces.into_iter().map(|PieceText { shard, rows, at }| Piece { shard, rows, at }).collect()
            }
            _ => return Err("it needs the keys `shard` and `at`, or else the key `pieces`".into()),
        };
        let mut next_row = 0;
        if !pieces.is_sorted_by(|a, b| a.shard < b.shard) {
            return Err("its pieces do not follow the order of the shards".into());
        }
        for piece in &pieces {
            if piece.rows[0] != next_row || piece.rows[1] < piece.rows[0] {
                return Err(format!("the rows {:?} do not follow row {next_row}", piece.rows));
            }
            next_row = piece.rows[1];
            self.check_piece(format, &text.shape, part, piece)?;
        }
        if next_row != row_count {
            return Err(format!("its pieces hold {next_row} of {row_count} rows"));
        }
        Ok(TensorEntry { name: name.to_owned(), part, format, shape: text.shape, pieces })
    }

    fn check_piece(&self, format: Format, shape: &[usize], part: usize, piece: &Piece) -> Result<(), String> {
        let [begin, end] = piece.at;
        let shard = self.shards.get(piece.shard).ok_or_else(|| format!("there is no shard {}", piece.shard))?;
        if !shard.parts.contains(&self.parts[part].name) {
            return Err(format!("shard {} does not name its part", piece.shard));
        }
        let bytes = format
            .stored_bytes(&piece.shape(shape))
            .ok_or_else(|| format!("the shape {shape:?} is not possible for {}", format.name()))?;
        if begin > end || end > shard.bytes || end - begin != bytes as u64 {
            return Err(format!(
                "bytes {begin}..{end} of shard {} do not fit: it has {}, the tensor {bytes}",
                piece.shard, shard.bytes
            ));
        }
        Ok(())
    }

    fn check_overlaps(&self) -> Result<()> {
        let mut spans: Vec<(usize, [u64; 2], &str)> = Vec::new();
        for tensor in &self.tensors {
            let stored = tensor.pieces.iter().filter(|piece| piece.at[0] < piece.at[1]);
            spans.extend(stored.map(|piece| (piece.shard, piece.at, tensor.name.as_str())));
        }
        spans.sort_unstable();
        for pair in spans.windows(2) {
            let [(shard, [_, end], first), (next_shard, [begin, _], second)] = pair else { continue };
            if shard == next_shard && begin < end {
                return Err(damaged(format!("tensors {first} and {second} overlap in shard {shard}")));
            }
        }
        Ok(())
    }
}

fn list<T: for<'a> Deserialize<'a>>(key: &str, values: Vec<Value>) -> Result<Vec<T>> {
    values.into_iter().enumerate().map(|(i, value)| entry(format!("{key}[{i}]"), value)).collect()
}

/// A bundle's files lie in its folder: names that could lead elsewhere, or mean something in an address, are refused.
fn check_stored_file(place: &str, file: &str, sha256: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if file.is_empty() || file.len() > 200 || file.starts_with('.') || !file.chars().all(plain) {
        return Err(damaged(format!("{place}: {file:?} is no plain file name")));
    }
    if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(damaged(format!("{place}: sha256 is not 64 lower-case hexadecimal digits")));
    }
    Ok(())
}

impl Piece {
    /// Shape of the piece of a tensor of the given shape.
    pub(super) fn shape(&self, tensor: &[usize]) -> Vec<usize> {
        let mut shape = tensor.to_vec();
        if let Some(first) = shape.first_mut() {
            *first = self.rows[1] - self.rows[0];
        }
        shape
    }
}

impl TensorEntry {
    /// Name under which a piece stands in its shard: the tensor's own, or with its first row behind it.
    pub(super) fn piece_name(&self, piece: &Piece) -> String {
        Self::name_of_piece(&self.name, self.pieces.len(), piece.rows[0])
    }

    /// Name of the piece of a tensor that begins at `first_row`, of `piece_count` in all.
    pub fn name_of_piece(tensor: &str, piece_count: usize, first_row: usize) -> String {
        if piece_count == 1 { tensor.to_owned() } else { format!("{tensor}.from_row_{first_row}") }
    }

    fn to_text(&self) -> TensorText {
        let (dtype, shape) = (self.format.name().to_owned(), self.shape.clone());
        if let [piece] = self.pieces.as_slice() {
            return TensorText { dtype, shape, shard: Some(piece.shard), at: Some(piece.at), pieces: None };
        }
        let pieces =
            self.pieces.iter().map(|Piece { shard, rows, at }| PieceText { shard: *shard, rows: *rows, at: *at });
        TensorText { dtype, shape, shard: None, at: None, pieces: Some(pieces.collect()) }
    }
}
