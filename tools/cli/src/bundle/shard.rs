//! One shard in the making: pieces of tensors, then a safetensors file.

use bubo::bundle::{Format, MAX_SHARD_HEADER_BYTES, Piece, Section, TensorEntry};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

/// Bytes of values, scales and minima.
pub(super) type Sections = Vec<(Section, Vec<u8>)>;

/// Some rows of a tensor, as they are stored.
pub(super) struct StoredPiece {
    /// Index in the manifest's tensors.
    pub(super) tensor: usize,
    pub(super) name: String,
    pub(super) format: Format,
    /// Shape of these rows.
    pub(super) shape: Vec<usize>,
    pub(super) rows: [usize; 2],
    pub(super) piece_count: usize,
    pub(super) sections: Sections,
}

impl StoredPiece {
    pub(super) fn bytes(&self) -> usize {
        self.sections.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Safetensors type and shape of a section.
    fn form(&self, section: Section) -> (&'static str, Vec<usize>) {
        let blocked = |packed: usize| self.shape.iter().rev().skip(1).rev().copied().chain([packed]).collect();
        let cols = self.shape.last().copied().unwrap_or(1);
        match (self.format, section) {
            (Format::F32, _) => ("F32", self.shape.clone()),
            (Format::F16, _) => ("F16", self.shape.clone()),
            (Format::Blocks(_), Section::Scales | Section::Mins) => ("F16", blocked(cols / bubo::bundle::BLOCK)),
            (Format::Blocks(bubo::bundle::Scheme::Q8_0), Section::Values) => ("I8", blocked(cols)),
            (Format::Blocks(_), Section::Values) => ("U8", blocked(cols / 2)),
        }
    }
}

/// A finished shard.
pub(super) struct ShardFile {
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// Its hash.
    pub(super) sha256: String,
    /// By the tensor's index: where its rows lie.
    pub(super) places: Vec<(usize, Piece)>,
}

/// Makes the file of shard number `shard`. Floats of 32 bits come first, so that all numbers lie aligned.
pub(super) fn write(shard: usize, mut pieces: Vec<StoredPiece>) -> anyhow::Result<ShardFile> {
    pieces.sort_by_key(|piece| piece.format != Format::F32);
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for piece in &pieces {
        let name = TensorEntry::name_of_piece(&piece.name, piece.piece_count, piece.rows[0]);
        for (section, bytes) in &piece.sections {
            let (dtype, shape) = piece.form(*section);
            let end = offset + bytes.len();
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] });
            let full = piece.format.section_name(&name, *section);
            anyhow::ensure!(header.insert(full.clone(), entry).is_none(), "the tensor {full} is there twice");
            offset = end;
        }
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    anyhow::ensure!(text.len() as u64 <= MAX_SHARD_HEADER_BYTES, "the header of a shard became too long");

    let mut bytes = Vec::with_capacity(8 + text.len() + offset);
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text);
    let mut places = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let begin = bytes.len() as u64;
        for (_, section) in &piece.sections {
            bytes.extend_from_slice(section);
        }
        places.push((piece.tensor, Piece { shard, rows: piece.rows, at: [begin, bytes.len() as u64] }));
    }
    let sha256 = hex(&Sha256::digest(&bytes));
    Ok(ShardFile { bytes, sha256, places })
}

/// Hexadecimal digits of a hash.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
