//! Writes a bundle: tensors come one by one and leave memory with their shard, so a checkpoint of any size streams.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bubo::bundle::{
    FileEntry, Format, Licence, MANIFEST_FILE, Manifest, PartEntry, QuantizedBlocks, Section, ShardEntry, TensorEntry,
};
use sha2::{Digest, Sha256};

use super::shard::{self, Sections, StoredPiece, hex};
use crate::convert::{Part, PartTensor, StoredTensor};

/// No shard is longer, header not counted.
const MAX_SHARD_BYTES: usize = 64 << 20;
/// A shard of this length takes no further tensors.
const FULL_SHARD_BYTES: usize = 32 << 20;
/// A shard of this length takes no tensors of another part.
const MIN_SHARD_BYTES: usize = 16 << 20;

/// A bundle that is being written.
pub struct BundleWriter {
    folder: PathBuf,
    manifest: Manifest,
    open: Vec<StoredPiece>,
    open_bytes: usize,
    max_shard_bytes: usize,
}

impl BundleWriter {
    /// Starts a bundle in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(folder: &Path, name: &str, version: &str, description: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        let manifest = Manifest {
            name: name.to_owned(),
            version: version.to_owned(),
            description: description.to_owned(),
            licences: Vec::new(),
            parts: Vec::new(),
            files: Vec::new(),
            shards: Vec::new(),
            tensors: Vec::new(),
        };
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            open: Vec::new(),
            open_bytes: 0,
            max_shard_bytes: MAX_SHARD_BYTES,
        })
    }

    /// Lowers the longest shard, for tests with small tensors.
    #[must_use]
    pub fn with_max_shard_bytes(mut self, bytes: usize) -> Self {
        self.max_shard_bytes = bytes.clamp(1, MAX_SHARD_BYTES);
        self
    }

    /// Writes a part behind those that are there.
    ///
    /// # Errors
    /// If a tensor cannot be read or is not finite, its name does not start with the part's name and a dot, or the disk is
    /// full.
    pub fn add(&mut self, part: Part) -> anyhow::Result<()> {
        let (name, model) = (part.name.to_owned(), part.model.to_owned());
        let prefix = format!("{name}.");
        let licence = Licence { part: name.clone(), spdx: part.licence.spdx, source: part.licence.source };
        let entry = PartEntry { name, model, config: part.config, prefix, files: Vec::new() };
        self.add_entry(entry, licence, part.files, part.tensors)
    }

    /// As [`add`](Self::add), for a part that a manifest describes; its files are those given.
    ///
    /// # Errors
    /// If a tensor cannot be read or is not finite, its name does not start with the part's prefix, or the disk is full.
    pub fn add_entry(
        &mut self,
        mut entry: PartEntry,
        licence: Licence,
        files: Vec<(String, Vec<u8>)>,
        tensors: Vec<PartTensor>,
    ) -> anyhow::Result<()> {
        if self.open_bytes >= MIN_SHARD_BYTES.min(self.max_shard_bytes) {
            self.close_shard()?;
        }
        entry.files = files.iter().map(|(name, _)| name.clone()).collect();
        for (name, bytes) in files {
            self.add_file(&name, &bytes)?;
        }
        let prefix = entry.prefix.clone();
        self.manifest.licences.push(licence);
        self.manifest.parts.push(entry);
        for tensor in tensors {
            ensure!(tensor.name.starts_with(&prefix), "{} does not start with {prefix}", tensor.name);
            let stored = (tensor.load)().with_context(|| tensor.name.clone())?;
            if let Some(at) = stored.first_not_finite() {
                bail!("{}: number {at} is NaN or infinite; weights are finite", tensor.name);
            }
            self.add_tensor(tensor.name, stored)?;
        }
        Ok(())
    }

    /// Writes the last shard and the manifest, and removes files of an earlier bundle that are not named any more.
    ///
    /// # Errors
    /// If the disk is full, or the manifest does not pass its own checks.
    pub fn finish(mut self) -> anyhow::Result<Manifest> {
        self.close_shard()?;
        let text = self.manifest.to_json()?;
        let manifest = Manifest::parse(text.as_bytes()).context("the bundle just written")?;
        let path = self.folder.join(MANIFEST_FILE);
        let earlier = fs::read(&path).ok().and_then(|text| Manifest::parse(&text).ok());
        write_file(&path, text.as_bytes())?;
        if let Some(earlier) = earlier {
            let named: Vec<&str> = stored_files(&manifest).collect();
            for file in stored_files(&earlier).filter(|file| !named.contains(file)) {
                // What is gone already need not be removed.
                let _ = fs::remove_file(self.folder.join(file));
            }
        }
        Ok(manifest)
    }

    fn add_file(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let sha256 = hex(&Sha256::digest(bytes));
        if let Some(there) = self.manifest.files.iter().find(|file| file.name == name) {
            ensure!(there.sha256 == sha256, "two parts have different files of the name {name}");
            return Ok(());
        }
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "bin"));
        let file = format!("{stem}-{}.{extension}", &sha256[..8]);
        write_file(&self.folder.join(&file), bytes)?;
        self.manifest.files.push(FileEntry { name: name.to_owned(), file, bytes: bytes.len() as u64, sha256 });
        Ok(())
    }

    fn add_tensor(&mut self, name: String, stored: StoredTensor) -> anyhow::Result<()> {
        let (format, shape, sections) = sections_of(stored);
        let bytes = format.stored_bytes(&shape).with_context(|| format!("{name}: shape {shape:?}"))?;
        let found: usize = sections.iter().map(|(_, bytes)| bytes.len()).sum();
        ensure!(found == bytes, "{name}: the shape {shape:?} takes {bytes} bytes, there are {found}");
        let tensor = self.manifest.tensors.len();
        let part = self.manifest.parts.len() - 1;
        let (rows, row_bytes) = rows_of(&shape, bytes);
        let rows_a_piece = (self.max_shard_bytes / row_bytes.max(1)).max(1);
        let piece_count = rows.div_ceil(rows_a_piece).max(1);
        self.manifest.tensors.push(TensorEntry {
            name: name.clone(),
            part,
            format,
            shape: shape.clone(),
            pieces: Vec::new(),
        });
        if piece_count == 1 {
            let rows = [0, rows];
            return self.add_piece(StoredPiece { tensor, name, format, shape, rows, piece_count, sections });
        }
        for first in (0..rows).step_by(rows_a_piece) {
            let end = (first + rows_a_piece).min(rows);
            let mut shape = shape.clone();
            shape[0] = end - first;
            let cut = |bytes: &Vec<u8>| bytes[bytes.len() / rows * first..bytes.len() / rows * end].to_vec();
            let sections = sections.iter().map(|(section, bytes)| (*section, cut(bytes))).collect();
            let (name, rows) = (name.clone(), [first, end]);
            self.add_piece(StoredPiece { tensor, name, format, shape, rows, piece_count, sections })?;
        }
        Ok(())
    }

    fn add_piece(&mut self, piece: StoredPiece) -> anyhow::Result<()> {
        let bytes = piece.bytes();
        let full = self.open_bytes >= FULL_SHARD_BYTES || self.open_bytes + bytes > self.max_shard_bytes;
        // Pieces of one tensor lie in shards of their own, so that no shard holds two of them.
        let second = piece.rows[0] > 0;
        if !self.open.is_empty() && (full || second) {
            self.close_shard()?;
        }
        self.open_bytes += bytes;
        self.open.push(piece);
        Ok(())
    }

    fn close_shard(&mut self) -> anyhow::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let number = self.manifest.shards.len();
        self.open_bytes = 0;
        let written = shard::write(number, std::mem::take(&mut self.open))?;
        let mut parts: Vec<usize> =
            written.places.iter().map(|(tensor, _)| self.manifest.tensors[*tensor].part).collect();
        parts.sort_unstable();
        parts.dedup();
        let parts: Vec<String> = parts.into_iter().map(|part| self.manifest.parts[part].name.clone()).collect();
        let file = format!("{number:02}-{}-{}.safetensors", parts.join("-"), &written.sha256[..8]);
        write_file(&self.folder.join(&file), &written.bytes)?;
        for (tensor, piece) in written.places {
            self.manifest.tensors[tensor].pieces.push(piece);
        }
        let bytes = written.bytes.len() as u64;
        self.manifest.shards.push(ShardEntry { file, bytes, sha256: written.sha256, parts });
        Ok(())
    }
}

/// Names of all files of a bundle but the manifest.
pub(super) fn stored_files(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let shards = manifest.shards.iter().map(|shard| shard.file.as_str());
    shards.chain(manifest.files.iter().map(|file| file.file.as_str()))
}

/// Writes under another name first, so that a name never stands for half a file.
fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).with_context(|| format!("could not write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("could not write {}", path.display()))
}

/// Rows of a tensor (a number alone is one) and bytes of each.
fn rows_of(shape: &[usize], bytes: usize) -> (usize, usize) {
    let rows = shape.first().copied().unwrap_or(1);
    (rows, bytes.checked_div(rows).unwrap_or(0))
}

fn sections_of(stored: StoredTensor) -> (Format, Vec<usize>, Sections) {
    let halves = |halves: &[half::f16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    match stored {
        StoredTensor::F32 { dims, data } => {
            let bytes = data.iter().flat_map(|number| number.to_le_bytes()).collect();
            (Format::F32, dims, vec![(Section::Values, bytes)])
        }
        StoredTensor::F16 { dims, data } => (Format::F16, dims, vec![(Section::Values, halves(&data))]),
        StoredTensor::Quantized(blocks) => {
            let mut sections =
                vec![(Section::Values, blocks.values().to_vec()), (Section::Scales, halves(blocks.scales()))];
            if !blocks.mins().is_empty() || blocks.scheme() == bubo::bundle::Scheme::Q4_1 {
                sections.push((Section::Mins, halves(blocks.mins())));
            }
            (Format::Blocks(blocks.scheme()), shape_of(&blocks), sections)
        }
    }
}

fn shape_of(blocks: &QuantizedBlocks) -> Vec<usize> {
    vec![blocks.rows(), blocks.cols()]
}
