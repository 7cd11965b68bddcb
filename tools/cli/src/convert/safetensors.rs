//! Reader of safetensors files: the header at once, tensors when they are asked for.
//!
//! The crate's own reader wants the whole file in memory or mapped; a checkpoint of 13 GB should stream.
//!
//! Source of the format: huggingface/safetensors, README.md, "Format".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::checkpoint::{CheckpointTensor, NumberType, element_count};

/// Longest header that is read.
const MAX_HEADER_BYTES: u64 = 100 << 20;

/// An open safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Sizes of the axes.
    pub dims: Vec<usize>,
    /// How the numbers are stored.
    pub number_type: NumberType,
    /// First byte in the file.
    start: u64,
    bytes: usize,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl SafetensorsFile {
    /// Reads the header.
    ///
    /// # Errors
    /// If the file cannot be read, or its header does not agree with itself and the file's length.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("could not read {}", path.display()))?;
        Self::read_header(path, &mut file).with_context(|| format!("{} is no safetensors file", path.display()))
    }

    fn read_header(path: &Path, file: &mut File) -> Result<Self> {
        let file_bytes = file.metadata()?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).context("it is too short")?;
        let length = u64::from_le_bytes(length);
        ensure!(length <= MAX_HEADER_BYTES.min(file_bytes), "a header of {length} bytes in a file of {file_bytes}");
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header)?;
        let header: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&header).context("its header is no JSON")?;
        let mut tensors = BTreeMap::new();
        for (name, entry) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
            let info = tensor_info(entry, length + 8, file_bytes).with_context(|| format!("tensor {name}"))?;
            tensors.insert(name, info);
        }
        ensure!(!tensors.is_empty(), "it holds no tensors");
        Ok(Self { path: path.to_owned(), tensors })
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// If there is none of that name, or the file was cut short meanwhile.
    pub fn tensor(&self, name: &str) -> Result<CheckpointTensor> {
        let info = self.tensors.get(name).with_context(|| format!("the checkpoint holds no tensor {name}"))?;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(info.start))?;
        let mut bytes = vec![0; info.bytes];
        file.read_exact(&mut bytes).with_context(|| format!("tensor {name}: the file ends within it"))?;
        CheckpointTensor::from_bytes(info.dims.clone(), info.number_type, &bytes)
    }
}

fn tensor_info(entry: serde_json::Value, data_start: u64, file_bytes: u64) -> Result<TensorInfo> {
    let Entry { dtype, shape, data_offsets: [begin, end] } = serde_json::from_value(entry)?;
    let number_type = NumberType::from_safetensors(&dtype)
        .with_context(|| format!("numbers of {dtype} are not supported; save it as F32, F16 or BF16"))?;
    let bytes = element_count(&shape)?.checked_mul(number_type.byte_count()).context("it is too large")?;
    let last = data_start.checked_add(end).context("its offset is too large")?;
    ensure!(
        begin <= end && end - begin == bytes as u64 && last <= file_bytes,
        "{shape:?} of {dtype} takes {bytes} bytes; it lies at {begin}..{end} behind byte {data_start} of {file_bytes}"
    );
    Ok(TensorInfo { dims: shape, number_type, start: data_start + begin, bytes })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(header: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        let length = (header.len() as u64).to_le_bytes();
        for bytes in [&length[..], header.as_bytes(), data] {
            file.write_all(bytes).expect("there is room");
        }
        file
    }

    #[test]
    fn numbers_come_as_they_are_and_damage_is_named() {
        let good = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
        let kept = file(good, &[0, 0x3c, 0, 0xc0]);
        let opened = SafetensorsFile::open(kept.path()).expect("a good header");
        assert_eq!(opened.tensor("w").expect("it is there").to_f32(), [1.0, -2.0]);
        assert!(opened.tensor("x").is_err());
        let bad = [
            r#"{"w":{"dtype":"F16","shape":[3],"data_offsets":[0,4]}}"#,
            r#"{"w":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#,
            r#"{"w":{"dtype":"F16","shape":[2],"data_offsets":[4,0]}}"#,
            r#"{"w":{"dtype":"C64","shape":[1],"data_offsets":[0,4]}}"#,
            r#"{"w":{"dtype":"F16","shape":[9223372036854775807,4],"data_offsets":[0,4]}}"#,
            r#"{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,18446744073709551615]}}"#,
            r#"{"w":1}"#,
            "{}",
            "[",
        ];
        for header in bad {
            assert!(SafetensorsFile::open(file(header, &[0; 4]).path()).is_err(), "{header}");
        }
        let mut long = tempfile::NamedTempFile::new().expect("a temporary file");
        long.write_all(&u64::MAX.to_le_bytes()).expect("there is room");
        assert!(SafetensorsFile::open(long.path()).is_err(), "a header longer than the file");
    }
}
