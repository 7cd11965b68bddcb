//! Reader of GGUF files, versions 2 and 3: the header at once, tensors when they are asked for.
//!
//! Not candle's reader, because that one panics on an alignment of 0, multiplies sizes unchecked, and turns blocks into
//! its own tensors, where a bundle wants a file's bits as they are.
//!
//! Source of the layout: ggml-org/ggml, docs/gguf.md.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bubo::bundle::{BLOCK, QuantizedBlocks, Scheme};
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use half::{bf16, f16};

use super::StoredTensor;
use super::ggml::{from_ggml, front_bytes};

/// Arrays within arrays are allowed by the format; real files have none.
const MAX_DEPTH: usize = 4;
/// Elements of one metadata array; the largest real vocabularies have a quarter of a million.
const MAX_ARRAY: u64 = 1 << 24;
const MAX_AXES: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// A metadata value; all integers are widened.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer.
    Integer(i128),
    /// Any float. An f32 is kept as its shortest decimal, so that 1e-5 stays 1e-5.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// Values of one type.
    Array(Vec<Value>),
}

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Blocks of 32.
    Blocks(Scheme),
    /// Blocks that bundles do not have; read as f32, to be quantised anew.
    Foreign(GgmlDType),
    /// A type that is not read, by its GGML number.
    Other(u32),
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Sizes of the axes, outermost first (the file has them the other way round).
    pub dims: Vec<usize>,
    /// How the numbers are stored.
    pub storage: Storage,
    /// Bytes from the start of the file.
    start: u64,
}

/// An open GGUF file.
#[derive(Debug, Clone)]
pub struct Gguf {
    path: PathBuf,
    file_bytes: u64,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads the header.
    ///
    /// # Errors
    /// If the file cannot be read or its header does not follow the format; sizes are checked against the file's.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let file_bytes = file.metadata()?.len();
        let mut header = Header { file: BufReader::new(file), at: 0, end: file_bytes };
        header.read(path, file_bytes).with_context(|| format!("reading the GGUF header of {}", path.display()))
    }

    /// A metadata value.
    ///
    /// # Errors
    /// If there is none of that key.
    pub fn value(&self, key: &str) -> anyhow::Result<&Value> {
        self.metadata.get(key).with_context(|| format!("the GGUF file has no `{key}`"))
    }

    /// A metadata value that must be text.
    ///
    /// # Errors
    /// If it is missing or something else.
    pub fn text(&self, key: &str) -> anyhow::Result<&str> {
        match self.value(key)? {
            Value::Text(text) => Ok(text),
            other => bail!("`{key}` should be text, found {other:?}"),
        }
    }

    /// A metadata value that must be a count or id.
    ///
    /// # Errors
    /// If it is missing, not an integer, or negative.
    pub fn count(&self, key: &str) -> anyhow::Result<usize> {
        match self.value(key)? {
            Value::Integer(count) => usize::try_from(*count).with_context(|| format!("`{key}` is {count}")),
            other => bail!("`{key}` should be an integer, found {other:?}"),
        }
    }

    /// A metadata value that must be a number.
    ///
    /// # Errors
    /// If it is missing or not a finite float.
    pub fn float(&self, key: &str) -> anyhow::Result<f64> {
        match self.value(key)? {
            Value::Float(number) if number.is_finite() => Ok(*number),
            other => bail!("`{key}` should be a float, found {other:?}"),
        }
    }

    /// A metadata value that must be a list of texts.
    ///
    /// # Errors
    /// If it is missing or has other elements.
    pub fn texts(&self, key: &str) -> anyhow::Result<Vec<&str>> {
        let Value::Array(values) = self.value(key)? else { bail!("`{key}` should be a list") };
        values
            .iter()
            .map(|value| match value {
                Value::Text(text) => Ok(text.as_str()),
                other => bail!("`{key}` should hold texts, found {other:?}"),
            })
            .collect()
    }

    /// Reads a tensor, bit by bit as it is stored.
    ///
    /// # Errors
    /// If it is missing, of a type that bundles do not have, or reaches beyond the file.
    pub fn read(&self, name: &str) -> anyhow::Result<StoredTensor> {
        let info = self.tensors.get(name).with_context(|| format!("the GGUF file has no tensor `{name}`"))?;
        let bytes = self.read_bytes(info).with_context(|| format!("reading tensor `{name}`"))?;
        let dims = info.dims.clone();
        Ok(match info.storage {
            Storage::F32 => {
                let data = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                StoredTensor::F32 { dims, data }
            }
            Storage::F16 => StoredTensor::F16 {
                dims,
                data: bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect(),
            },
            Storage::Bf16 => {
                let data = bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
                StoredTensor::F32 { dims, data }
            }
            Storage::Blocks(scheme) => StoredTensor::Quantized(blocks_of(scheme, &info.dims, &bytes)?),
            Storage::Foreign(dtype) => {
                let tensor = qtensor_from_ggml(dtype, &bytes, dims.clone(), &Device::Cpu)?.dequantize(&Device::Cpu)?;
                StoredTensor::F32 { dims, data: tensor.flatten_all()?.to_vec1()? }
            }
            Storage::Other(number) => bail!(
                "tensor `{name}` has GGML type {number}; this reads floats, Q4_0 to Q8_0 and Q2_K to Q6_K: quantise the \
                 model to one of them"
            ),
        })
    }

    /// Why a tensor cannot be read, as far as the header tells.
    pub fn problem(&self, name: &str) -> Option<String> {
        let info = self.tensors.get(name)?;
        match (info.storage, self.end(info)) {
            (Storage::Other(number), _) => Some(format!("its GGML type {number} is not read")),
            (_, Err(error)) => Some(format!("{error:#}")),
            _ => None,
        }
    }

    /// The byte behind a tensor's last.
    fn end(&self, info: &TensorInfo) -> anyhow::Result<u64> {
        let bytes = info.bytes()?;
        let end = info.start.checked_add(bytes).filter(|end| *end <= self.file_bytes);
        end.with_context(|| {
            format!("{bytes} bytes from {} on reach beyond the file's {}; it is cut short", info.start, self.file_bytes)
        })
    }

    fn read_bytes(&self, info: &TensorInfo) -> anyhow::Result<Vec<u8>> {
        let bytes = self.end(info)? - info.start;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(info.start))?;
        let mut out = vec![0; usize::try_from(bytes)?];
        file.read_exact(&mut out)?;
        Ok(out)
    }
}

impl TensorInfo {
    /// Bytes of the tensor in the file.
    fn bytes(&self) -> anyhow::Result<u64> {
        let count =
            self.dims.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim as u64)).context("too many elements")?;
        let (block, block_bytes) = match self.storage {
            Storage::F32 => (1, 4),
            Storage::F16 | Storage::Bf16 => (1, 2),
            Storage::Blocks(scheme) => (BLOCK as u64, (front_bytes(scheme) + scheme.block_bytes()) as u64),
            Storage::Foreign(dtype) => (dtype.block_size() as u64, dtype.type_size() as u64),
            Storage::Other(_) => (1, 0),
        };
        let row = self.dims.last().copied().unwrap_or(1) as u64;
        ensure!(row.is_multiple_of(block), "rows of {row} do not divide into blocks of {block}");
        (count / block).checked_mul(block_bytes).context("too many bytes")
    }
}

/// Parts a matrix's blocks; no bit changes.
fn blocks_of(scheme: Scheme, dims: &[usize], bytes: &[u8]) -> anyhow::Result<QuantizedBlocks> {
    let &[rows, cols] = dims else { bail!("a quantised tensor should be a matrix, found {dims:?}") };
    from_ggml(scheme, rows, cols, bytes)
}

/// The header as it is read; knows how much may still come.
struct Header {
    file: BufReader<File>,
    at: u64,
    end: u64,
}

impl Header {
    fn read(&mut self, path: &Path, file_bytes: u64) -> anyhow::Result<Gguf> {
        ensure!(&self.bytes::<4>()? == b"GGUF", "it does not start with GGUF");
        let version = self.u32()?;
        ensure!(matches!(version, 2 | 3), "version {version}, known are 2 and 3 (little-endian)");
        let (tensor_count, value_count) = (self.u64()?, self.u64()?);
        // A tensor takes at least 24 bytes, a value 13: counts that cannot be true end here.
        let least = tensor_count.saturating_mul(24).saturating_add(value_count.saturating_mul(13));
        ensure!(
            least <= self.end - self.at,
            "{tensor_count} tensors and {value_count} values do not fit into the file"
        );

        let mut metadata = BTreeMap::new();
        for _ in 0..value_count {
            let key = self.text()?;
            let kind = self.u32()?;
            let value = self.value(kind, 0).with_context(|| format!("at `{key}`"))?;
            ensure!(metadata.insert(key.clone(), value).is_none(), "`{key}` is there twice");
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Integer(n)) if (1..=1 << 20).contains(n) => u64::try_from(*n)?,
            Some(other) => bail!("an alignment of {other:?}"),
        };

        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = self.text()?;
            let info = self.tensor_info().with_context(|| format!("at tensor `{name}`"))?;
            ensure!(tensors.insert(name.clone(), info).is_none(), "tensor `{name}` is there twice");
        }
        let data_start = self.at.div_ceil(alignment) * alignment;
        for (name, info) in &mut tensors {
            info.start = info.start.checked_add(data_start).with_context(|| format!("offset of `{name}`"))?;
        }
        Ok(Gguf { path: path.to_path_buf(), file_bytes, metadata, tensors })
    }

    /// `start` is still relative to the data.
    fn tensor_info(&mut self) -> anyhow::Result<TensorInfo> {
        let axes = self.u32()?;
        ensure!(axes <= MAX_AXES, "{axes} axes");
        let mut dims = (0..axes).map(|_| Ok(usize::try_from(self.u64()?)?)).collect::<anyhow::Result<Vec<_>>>()?;
        dims.reverse();
        let storage = match self.u32()? {
            0 => Storage::F32,
            1 => Storage::F16,
            2 => Storage::Blocks(Scheme::Q4_0),
            3 => Storage::Blocks(Scheme::Q4_1),
            6 => Storage::Foreign(GgmlDType::Q5_0),
            7 => Storage::Foreign(GgmlDType::Q5_1),
            8 => Storage::Blocks(Scheme::Q8_0),
            10 => Storage::Foreign(GgmlDType::Q2K),
            11 => Storage::Foreign(GgmlDType::Q3K),
            12 => Storage::Foreign(GgmlDType::Q4K),
            13 => Storage::Foreign(GgmlDType::Q5K),
            14 => Storage::Foreign(GgmlDType::Q6K),
            30 => Storage::Bf16,
            other => Storage::Other(other),
        };
        Ok(TensorInfo { dims, storage, start: self.u64()? })
    }

    fn value(&mut self, kind: u32, depth: usize) -> anyhow::Result<Value> {
        Ok(match kind {
            0 => Value::Integer(self.bytes::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(shortest(f32::from_le_bytes(self.bytes()?))),
            7 => Value::Bool(self.bytes::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 => {
                ensure!(depth < MAX_DEPTH, "arrays nested more than {MAX_DEPTH} deep");
                let (kind, count) = (self.u32()?, self.u64()?);
                ensure!(count <= MAX_ARRAY.min(self.end - self.at), "an array of {count} elements");
                Value::Array((0..count).map(|_| self.value(kind, depth + 1)).collect::<anyhow::Result<_>>()?)
            }
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.bytes()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            other => bail!("unknown value type {other}"),
        })
    }

    fn text(&mut self) -> anyhow::Result<String> {
        let length = self.u64()?;
        ensure!(length <= self.end - self.at, "a text of {length} bytes, {} are left", self.end - self.at);
        let mut bytes = vec![0; usize::try_from(length)?];
        self.file.read_exact(&mut bytes)?;
        self.at += length;
        String::from_utf8(bytes).context("a text that is not UTF-8")
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut out = [0; N];
        self.file.read_exact(&mut out).context("the file ends within its header")?;
        self.at += N as u64;
        Ok(out)
    }
}

/// The f64 of the shortest decimal that names this f32.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A header with one value and one Q8_0 tensor of one block.
    fn small_file(alignment: u32, dims: [u64; 2], data: &[u8]) -> Vec<u8> {
        small_file_of(8, alignment, dims, data)
    }

    fn small_file_of(kind: u32, alignment: u32, dims: [u64; 2], data: &[u8]) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        text(&mut out, "general.alignment");
        out.extend(4u32.to_le_bytes());
        out.extend(alignment.to_le_bytes());
        text(&mut out, "w");
        out.extend(2u32.to_le_bytes());
        dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.resize(out.len().next_multiple_of(alignment.max(1) as usize), 0);
        out.extend(data);
        out
    }

    fn open(bytes: &[u8]) -> anyhow::Result<Gguf> {
        let path = std::env::temp_dir().join(format!("bubo-gguf-{}-{:p}.gguf", std::process::id(), bytes));
        File::create(&path)?.write_all(bytes)?;
        let gguf = Gguf::open(&path).and_then(|gguf| gguf.read("w").map(|_| gguf));
        std::fs::remove_file(&path)?;
        gguf
    }

    #[test]
    fn a_small_file_is_read_and_damaged_ones_are_refused() {
        let block: Vec<u8> = (0..34).collect();
        let good = small_file(64, [32, 1], &block);
        let gguf = open(&good).expect("a file of the stated form");
        assert_eq!(gguf.tensors["w"].dims, [1, 32]);
        assert_eq!(gguf.count("general.alignment").expect("it is there"), 64);

        for length in [0, 3, 4, 8, 30, good.len() - 1] {
            assert!(open(&good[..length]).is_err(), "cut to {length} bytes");
        }
        let damaged = [
            ("alignment 0", small_file(0, [32, 1], &block)),
            ("a row of 33", small_file(32, [33, 1], &block)),
            ("sizes that overflow", small_file(32, [1 << 40, 1 << 40], &block)),
            ("more than the file holds", small_file(32, [32, 1 << 30], &block)),
        ];
        for (what, bytes) in damaged {
            assert!(open(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn blocks_that_bundles_lack_come_as_floats() {
        use candle_core::Tensor;
        use candle_core::quantized::QTensor;
        let data: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0).collect();
        let tensor = Tensor::from_vec(data, (2, 256), &Device::Cpu).expect("the counts agree");
        for (kind, dtype) in [(6, GgmlDType::Q5_0), (12, GgmlDType::Q4K), (13, GgmlDType::Q5K), (14, GgmlDType::Q6K)] {
            let packed = QTensor::quantize(&tensor, dtype).expect("256 columns");
            let bytes = packed.data().expect("on the CPU");
            let file = small_file_of(kind, 32, [256, 2], &bytes);
            let path = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a temporary file");
            std::fs::write(path.path(), &file).expect("there is room");
            let found = Gguf::open(path.path()).and_then(|gguf| gguf.read("w")).expect("it is read");
            let expected = packed.dequantize(&Device::Cpu).and_then(|t| t.flatten_all()?.to_vec1()).expect("floats");
            assert_eq!(found, StoredTensor::F32 { dims: vec![2, 256], data: expected }, "{dtype:?}");
            assert!(open(&file[..file.len() - 1]).is_err(), "{dtype:?} cut short");
        }
        assert!(open(&small_file_of(99, 32, [256, 2], &[0; 999])).is_err(), "an unknown type");
    }

    #[test]
    fn a_float_keeps_its_decimal_form() {
        assert_eq!(shortest(1e-5), 1e-5);
        assert_eq!(shortest(100_000.0), 100_000.0);
    }
}
