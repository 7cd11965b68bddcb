//! Reads PyTorch checkpoints (`torch.save`), the zip form and the older stream form.
//!
//! A pickle is a program for a stack machine. This one only builds values in memory: functions that the program names
//! are noted, never called, and a tensor is what was to be made by `torch._utils._rebuild_tensor_v2`. Everything else in
//! a checkpoint (optimiser state, options, classes of some training code) is passed over.
//!
//! Sources: Python's pickletools for the opcodes; pytorch/pytorch, torch/serialization.py @ v2.5.0 for both forms.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::checkpoint::{CheckpointTensor, NumberType, element_count};

/// Opcodes that one pickle may run: more than any real checkpoint's, far fewer than would fill the memory.
const MOST_OPCODES: usize = 20_000_000;
/// Bytes that one text or number may have.
const LONGEST_TEXT: u64 = 1 << 24;
/// How deep dictionaries of tensors may be nested, and how many entries are looked at.
const DEEPEST: usize = 8;
const MOST_ENTRIES: usize = 1_000_000;

/// A checkpoint whose tensors are read when asked for.
#[derive(Debug)]
pub struct TorchCheckpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Record>,
    place: Place,
}

/// Where the bytes of storages lie.
#[derive(Debug)]
enum Place {
    /// In files `<prefix>data/<key>` of the zip archive.
    Zip { prefix: String },
    /// In the file itself: first byte of each storage.
    Stream { starts: HashMap<String, u64> },
}

/// One tensor: a view of a storage, offset and strides in elements.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    storage: String,
    number_type: NumberType,
    offset: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl TorchCheckpoint {
    /// Reads which tensors a file holds. Dictionaries within dictionaries give names joined by dots.
    ///
    /// # Errors
    /// If the file cannot be read, is no PyTorch checkpoint, or holds no tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("could not read {}", path.display()))?;
        let context = || format!("{} is no PyTorch checkpoint", path.display());
        let mut reader = BufReader::new(file);
        let zipped = reader.fill_buf()?.starts_with(b"PK");
        let (tensors, place) = if zipped { open_zip(reader) } else { open_stream(reader) }.with_context(context)?;
        ensure!(!tensors.is_empty(), "{} holds no tensors", path.display());
        Ok(Self { path: path.to_owned(), tensors, place })
    }

    /// Names and shapes of all tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, record)| (name.as_str(), record.dims.as_slice()))
    }

    /// Whether a tensor of that name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// If there is none of that name, or its storage is shorter than its shape says.
    pub fn tensor(&self, name: &str) -> Result<CheckpointTensor> {
        let record = self.tensors.get(name).ok_or_else(|| anyhow!("the checkpoint holds no tensor {name}"))?;
        self.read(record).with_context(|| format!("tensor {name}"))
    }

    fn read(&self, record: &Record) -> Result<CheckpointTensor> {
        let size = record.number_type.byte_count();
        let span = record.span()?;
        let bytes_of = |count: usize| count.checked_mul(size).ok_or_else(|| anyhow!("its storage is too large"));
        let (skip, length) = (bytes_of(record.offset)? as u64, bytes_of(span)?);
        let mut bytes = Vec::new();
        match &self.place {
            Place::Zip { prefix } => {
                let mut archive = zip::ZipArchive::new(BufReader::new(File::open(&self.path)?))?;
                let mut entry = archive.by_name(&format!("{prefix}data/{}", record.storage))?;
                std::io::copy(&mut entry.by_ref().take(skip), &mut std::io::sink())?;
                entry.take(length as u64).read_to_end(&mut bytes)?;
            }
            Place::Stream { starts } => {
                let start = starts.get(&record.storage).ok_or_else(|| anyhow!("its storage is missing"))?;
                let mut file = File::open(&self.path)?;
                file.seek(SeekFrom::Start(start.checked_add(skip).ok_or_else(|| anyhow!("its offset is too large"))?))?;
                file.take(length as u64).read_to_end(&mut bytes)?;
            }
        }
        ensure!(bytes.len() == length, "{length} bytes are needed, {} are left in its storage", bytes.len());
        let dense = record.gather(&bytes, size)?;
        CheckpointTensor::from_bytes(record.dims.clone(), record.number_type, &dense)
    }
}

impl Record {
    /// Elements of the storage from the first to the last that the tensor touches.
    fn span(&self) -> Result<usize> {
        if element_count(&self.dims)? == 0 {
            return Ok(0);
        }
        let last = self
            .dims
            .iter()
            .zip(&self.strides)
            .try_fold(0usize, |sum, (dim, stride)| sum.checked_add((dim - 1).checked_mul(*stride)?));
        last.and_then(|last| last.checked_add(1)).ok_or_else(|| anyhow!("its strides are too large"))
    }

    /// Copies the elements into row-major order.
    fn gather(&self, bytes: &[u8], size: usize) -> Result<Vec<u8>> {
        let mut dense_strides = vec![1usize; self.dims.len()];
        for axis in (1..self.dims.len()).rev() {
            dense_strides[axis - 1] = dense_strides[axis] * self.dims[axis].max(1);
        }
        let dense =
            self.dims.iter().zip(self.strides.iter().zip(&dense_strides)).all(|(dim, (a, b))| *dim == 1 || a == b);
        if dense {
            return Ok(bytes.to_vec());
        }
        let count = element_count(&self.dims)?;
        // Strides of 0 could make a huge tensor of a small file.
        ensure!(count <= bytes.len() / size, "it repeats its storage");
        let mut gathered = Vec::with_capacity(count * size);
        for at in 0..count {
            let axes = self.dims.iter().zip(self.strides.iter().zip(&dense_strides));
            let from: usize = axes.map(|(dim, (stride, dense))| at / dense % dim * stride).sum();
            gathered.extend_from_slice(&bytes[from * size..(from + 1) * size]);
        }
        Ok(gathered)
    }
}

fn open_zip(reader: BufReader<File>) -> Result<(BTreeMap<String, Record>, Place)> {
    let mut archive = zip::ZipArchive::new(reader)?;
    let mut prefix = None;
    for at in 0..archive.len() {
        let name = archive.by_index_raw(at)?.name()?.into_owned();
        if let Some(folder) = name.strip_suffix("data.pkl") {
            prefix = Some(folder.to_owned());
        }
    }
    let prefix = prefix.ok_or_else(|| anyhow!("the archive holds no data.pkl"))?;
    let program = archive.by_name(&format!("{prefix}data.pkl"))?;
    let machine = Machine::run(&mut BufReader::new(program))?;
    Ok((machine.tensors()?, Place::Zip { prefix }))
}

/// The stream form: magic number, version, system, the object itself, the list of storages, then each storage's element
/// count (i64) and bytes.
fn open_stream(mut reader: BufReader<File>) -> Result<(BTreeMap<String, Record>, Place)> {
    const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let magic = Machine::run(&mut reader)?;
    ensure!(matches!(magic.result(), Value::Big(bytes) if bytes == MAGIC), "it does not start with PyTorch's mark");
    Machine::run(&mut reader)?;
    Machine::run(&mut reader)?;
    let machine = Machine::run(&mut reader)?;
    let keys = Machine::run(&mut reader)?;
    let Value::List(keys_at) = keys.result() else { bail!("the list of storages is missing") };
    let sizes = machine.storage_sizes();
    let end = reader.get_ref().metadata()?.len();
    let mut starts = HashMap::new();
    let mut at = reader.stream_position()?;
    for key in keys_at {
        let Value::Text(key) = keys.value(*key) else { bail!("a storage has no name") };
        let size = *sizes.get(key.as_str()).ok_or_else(|| anyhow!("storage {key} belongs to no tensor"))?;
        reader.seek(SeekFrom::Start(at))?;
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        starts.insert(key.clone(), at + 8);
        let length = u64::from_le_bytes(count).checked_mul(size as u64).and_then(|length| (at + 8).checked_add(length));
        at = length.filter(|at| *at <= end).ok_or_else(|| anyhow!("the file ends within storage {key}"))?;
    }
    Ok((machine.tensors()?, Place::Stream { starts }))
}

type Id = usize;

/// What a pickle builds. Values refer to each other by place in [`Machine::values`], so that no depth of nesting and no
/// circle can exhaust the real stack.
#[derive(Debug)]
enum Value {
    Nothing,
    Bool,
    Int(i64),
    /// A whole number beyond 64 bits, little-endian.
    Big(Vec<u8>),
    Float,
    Text(String),
    Bytes,
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A call that was asked for and not made.
    Call {
        function: Id,
        arguments: Id,
    },
    /// A reference to a storage.
    Persistent(Id),
}

/// The stack machine, or what is left when its program has ended.
#[derive(Debug, Default)]
struct Machine {
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine {
    /// Runs one pickle to its end; the reader then stands behind it.
    fn run(reader: &mut impl BufRead) -> Result<Self> {
        let mut machine = Self::default();
        for _ in 0..MOST_OPCODES {
            let [opcode] = bytes(reader)?;
            if opcode == b'.' {
                ensure!(!machine.stack.is_empty(), "the pickle ends without a value");
                return Ok(machine);
            }
            machine.step(opcode, reader)?;
        }
        bail!("the pickle has more than {MOST_OPCODES} steps")
    }

    /// What the program has built.
    fn result(&self) -> &Value {
        self.stack.last().map_or(&Value::Nothing, |at| self.value(*at))
    }

    fn value(&self, at: Id) -> &Value {
        &self.values[at]
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id> {
        let lowest = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > lowest, "the pickle takes a value that is not there");
        self.stack.pop().ok_or_else(|| anyhow!("the pickle's stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| anyhow!("the pickle lacks a mark"))?;
        ensure!(mark <= self.stack.len(), "the pickle took what lies below a mark");
        Ok(self.stack.split_off(mark))
    }

    fn pop_tuple(&mut self, count: usize) -> Result<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn memoize(&mut self, key: u32) -> Result<()> {
        let top = *self.stack.last().ok_or_else(|| anyhow!("the pickle keeps a value that is not there"))?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let at = *self.memo.get(&key).ok_or_else(|| anyhow!("the pickle asks for a value that was not kept"))?;
        self.stack.push(at);
        Ok(())
    }

    fn text(&mut self, reader: &mut impl BufRead, length: u64) -> Result<()> {
        let text = String::from_utf8(read_exactly(reader, length)?)?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn step(&mut self, opcode: u8, reader: &mut impl BufRead) -> Result<()> {
        match opcode {
            0x80 => drop(bytes::<1>(reader)?),         // PROTO
            0x95 => drop(bytes::<8>(reader)?),         // FRAME
            b'(' => self.marks.push(self.stack.len()), // MARK
            b'0' => drop(self.pop()?),                 // POP
            b'N' => self.push(Value::Nothing),
            0x88 | 0x89 => self.push(Value::Bool), // NEWTRUE, NEWFALSE
            b'K' => {
                let [x] = bytes(reader)?;
                self.push(Value::Int(x.into()));
            }
            b'M' => {
                let x = u16::from_le_bytes(bytes(reader)?);
                self.push(Value::Int(x.into()));
            }
            b'J' => {
                let x = i32::from_le_bytes(bytes(reader)?);
                self.push(Value::Int(x.into()));
            }
            0x8a => {
                // LONG1: little-endian two's complement
                let [length] = bytes(reader)?;
                let digits = read_exactly(reader, length.into())?;
                self.push(if digits.len() <= 8 { Value::Int(signed(&digits)) } else { Value::Big(digits) });
            }
            b'G' => {
                bytes::<8>(reader)?;
                self.push(Value::Float);
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(bytes(reader)?);
                self.text(reader, length.into())?;
            }
            0x8c | b'U' => {
                let [length] = bytes(reader)?;
                self.text(reader, length.into())?;
            }
            b'B' | b'C' => {
                let length =
                    if opcode == b'B' { u32::from_le_bytes(bytes(reader)?) } else { bytes::<1>(reader)?[0].into() };
                read_exactly(reader, length.into())?;
                self.push(Value::Bytes);
            }
            b'c' => {
                let (module, name) = (line(reader)?, line(reader)?);
                self.push(Value::Global(format!("{module}.{name}")));
            }
            b'}' => self.push(Value::Dict(vec![])),
            b']' => self.push(Value::List(vec![])),
            b')' => self.push(Value::Tuple(vec![])),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => self.pop_tuple(usize::from(opcode - 0x84))?, // TUPLE1 to TUPLE3
            b'q' => {
                let [key] = bytes(reader)?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(bytes(reader)?);
                self.memoize(key)?;
            }
            0x94 => self.memoize(u32::try_from(self.memo.len())?)?, // MEMOIZE
            b'h' => {
                let [key] = bytes(reader)?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(bytes(reader)?);
                self.recall(key)?;
            }
            _ => self.build(opcode)?,
        }
        Ok(())
    }

    /// The opcodes that put values together.
    fn build(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x93 => {
                // STACK_GLOBAL
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (self.value(module), self.value(name)) else {
                    bail!("the pickle names a global by something else than text");
                };
                let global = format!("{module}.{name}");
                self.push(Value::Global(global));
            }
            b'R' | 0x81 => {
                // REDUCE, NEWOBJ
                let (arguments, function) = (self.pop()?, self.pop()?);
                let dict = matches!(self.value(function), Value::Global(name) if name == "collections.OrderedDict");
                self.push(if dict { Value::Dict(vec![]) } else { Value::Call { function, arguments } });
            }
            b'b' => drop(self.pop()?), // BUILD: attributes of an object, of no use here
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            other => bail!("the pickle uses opcode {other:#04x}, which no checkpoint of tensors needs"),
        }
        Ok(())
    }

    fn top(&mut self) -> Result<&mut Value> {
        let top = *self.stack.last().ok_or_else(|| anyhow!("the pickle's stack is empty"))?;
        Ok(&mut self.values[top])
    }

    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        // Objects of other classes may be filled like dictionaries; they are of no use here.
        if let Value::Dict(entries) = self.top()? {
            entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)));
        }
        Ok(())
    }

    fn append(&mut self, items: &[Id]) -> Result<()> {
        if let Value::List(list) = self.top()? {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    /// Bytes of one element of every storage that the program refers to.
    fn storage_sizes(&self) -> HashMap<&str, usize> {
        let storages = self.values.iter().filter_map(|value| match value {
            Value::Persistent(id) => self.storage(*id).ok(),
            _ => None,
        });
        storages.map(|(key, number_type)| (key, number_type.byte_count())).collect()
    }

    /// All tensors in the dictionaries of the result.
    fn tensors(&self) -> Result<BTreeMap<String, Record>> {
        let mut found = BTreeMap::new();
        let mut entries_left = MOST_ENTRIES;
        let mut open: Vec<(String, Id, usize)> =
            self.stack.last().map(|at| (String::new(), *at, 0)).into_iter().collect();
        while let Some((prefix, at, depth)) = open.pop() {
            let Value::Dict(entries) = self.value(at) else { continue };
            for (key, value) in entries {
                let Value::Text(key) = self.value(*key) else { continue };
                entries_left = entries_left.checked_sub(1).ok_or_else(|| anyhow!("it has too many entries"))?;
                let name = format!("{prefix}{key}");
                if let Some(record) = self.record(*value).with_context(|| format!("tensor {name}"))? {
                    found.insert(name, record);
                } else if depth < DEEPEST {
                    open.push((format!("{name}."), *value, depth + 1));
                }
            }
        }
        Ok(found)
    }

    /// The tensor that a call would make, if it is one.
    fn record(&self, at: Id) -> Result<Option<Record>> {
        let Value::Call { function, arguments } = self.value(at) else { return Ok(None) };
        let (Value::Global(function), Value::Tuple(arguments)) = (self.value(*function), self.value(*arguments)) else {
            return Ok(None);
        };
        match (function.as_str(), arguments.as_slice()) {
            ("torch._utils._rebuild_tensor_v2", [storage, offset, dims, strides, ..]) => {
                let Value::Persistent(id) = self.value(*storage) else { bail!("it has no storage") };
                let (storage, number_type) = self.storage(*id)?;
                let (dims, strides) = (self.sizes(*dims)?, self.sizes(*strides)?);
                ensure!(dims.len() == strides.len(), "shape {dims:?} and strides {strides:?} differ in length");
                Ok(Some(Record { storage: storage.into(), number_type, offset: self.size(*offset)?, dims, strides }))
            }
            // A parameter wraps a tensor; parameters do not wrap parameters.
            ("torch._utils._rebuild_parameter", [tensor, ..]) if *tensor < at => self.record(*tensor),
            _ => Ok(None),
        }
    }

    /// Key and number type of a storage: `("storage", class, key, location, element count, ..)`.
    fn storage(&self, id: Id) -> Result<(&str, NumberType)> {
        let Value::Tuple(parts) = self.value(id) else { bail!("its storage is described in an unknown way") };
        let [_, class, key, ..] = parts[..] else { bail!("its storage is described in an unknown way") };
        let (Value::Global(class), Value::Text(key)) = (self.value(class), self.value(key)) else {
            bail!("its storage is described in an unknown way");
        };
        let number_type = match class.strip_prefix("torch.").unwrap_or(class) {
            "FloatStorage" => NumberType::F32,
            "DoubleStorage" => NumberType::F64,
            "HalfStorage" => NumberType::F16,
            "BFloat16Storage" => NumberType::Bf16,
            "CharStorage" => NumberType::I8,
            "ByteStorage" | "BoolStorage" => NumberType::U8,
            "ShortStorage" => NumberType::I16,
            "IntStorage" => NumberType::I32,
            "LongStorage" => NumberType::I64,
            other => bail!("numbers of {other} are not supported"),
        };
        Ok((key, number_type))
    }

    fn size(&self, at: Id) -> Result<usize> {
        match self.value(at) {
            Value::Int(size) => usize::try_from(*size).context("a size is negative"),
            _ => bail!("a size is no number"),
        }
    }

    fn sizes(&self, at: Id) -> Result<Vec<usize>> {
        match self.value(at) {
            Value::Tuple(items) | Value::List(items) => items.iter().map(|item| self.size(*item)).collect(),
            _ => bail!("its shape is no list"),
        }
    }
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).context("the pickle is cut short")?;
    Ok(bytes)
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> Result<Vec<u8>> {
    ensure!(length <= LONGEST_TEXT, "the pickle holds a text of {length} bytes");
    let mut bytes = Vec::new();
    let found = reader.take(length).read_to_end(&mut bytes)?;
    ensure!(found as u64 == length, "the pickle is cut short");
    Ok(bytes)
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut bytes = Vec::new();
    reader.take(1 << 12).read_until(b'\n', &mut bytes)?;
    ensure!(bytes.pop() == Some(b'\n'), "the pickle is cut short");
    Ok(String::from_utf8(bytes)?)
}

fn signed(digits: &[u8]) -> i64 {
    let mut filled = [if digits.last().is_some_and(|top| *top >= 0x80) { 0xff } else { 0 }; 8];
    filled[..digits.len()].copy_from_slice(digits);
    i64::from_le_bytes(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A dictionary `{"w": tensor 2 × 3 of floats in storage "0"}` with the given strides.
    fn program(dims: [u8; 2], strides: [u8; 2], offset: u8) -> Vec<u8> {
        let mut p = b"\x80\x02}q\x00X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
        p.extend(b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ");
        p.extend([b'K', offset, b'K', dims[0], b'K', dims[1], 0x86, b'K', strides[0], b'K', strides[1], 0x86]);
        p.extend(b"\x89}tRs.");
        p
    }

    fn zip_file(program: &[u8], storage: &[f32]) -> Result<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new()?;
        let mut archive = zip::ZipWriter::new(file.reopen()?);
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file("archive/data.pkl", options)?;
        archive.write_all(program)?;
        archive.start_file("archive/data/0", options)?;
        archive.write_all(&storage.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
        archive.finish()?;
        Ok(file)
    }

    fn stream_file(program: &[u8], storage: &[f32]) -> Result<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.")?;
        file.write_all(program)?;
        file.write_all(b"\x80\x02]X\x01\x00\x00\x000a.")?;
        file.write_all(&(storage.len() as u64).to_le_bytes())?;
        file.write_all(&storage.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
        file.flush()?;
        Ok(file)
    }

    #[test]
    fn reads_both_forms_and_strides() -> Result<()> {
        let storage = [9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        for make in [zip_file, stream_file] {
            let dense = make(&program([2, 3], [3, 1], 1), &storage)?;
            let checkpoint = TorchCheckpoint::open(dense.path())?;
            assert_eq!(checkpoint.tensors().collect::<Vec<_>>(), [("w", &[2usize, 3][..])]);
            assert_eq!(checkpoint.tensor("w")?.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
            let transposed = make(&program([2, 3], [1, 2], 1), &storage)?;
            assert_eq!(TorchCheckpoint::open(transposed.path())?.tensor("w")?.to_f32(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        }
        Ok(())
    }

    #[test]
    fn refuses_damaged_files() -> Result<()> {
        let storage = [0.0; 6];
        for make in [zip_file, stream_file] {
            for (dims, strides, offset) in [([2, 3], [3, 1], 1), ([3, 3], [3, 1], 0), ([200, 200], [0, 0], 0)] {
                let file = make(&program(dims, strides, offset), &storage)?;
                assert!(TorchCheckpoint::open(file.path())?.tensor("w").is_err(), "{dims:?} {strides:?} {offset}");
            }
            let whole = program([2, 3], [3, 1], 0);
            for cut in 0..whole.len() {
                assert!(TorchCheckpoint::open(make(&whole[..cut], &storage)?.path()).is_err(), "cut at {cut}");
            }
        }
        for nonsense in [&b""[..], b"PK\x03\x04nothing", b"<!doctype html>", b"\x80\x02.", b"ttttt", b"((((((u."] {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(nonsense)?;
            assert!(TorchCheckpoint::open(file.path()).is_err(), "{nonsense:?}");
        }
        Ok(())
    }

    #[test]
    fn calls_nothing_and_survives_nesting() -> Result<()> {
        let call = Machine::run(&mut &b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."[..])?;
        assert!(matches!(call.result(), Value::Call { .. }));
        assert!(call.tensors()?.is_empty());
        let mut deep = b")".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 1_000_000));
        deep.push(b'.');
        drop(Machine::run(&mut &deep[..])?);
        Ok(())
    }
}
