//! Reads PyTorch checkpoints (`torch.save`), the zip form and the older stream form.
//!
//! A pickle is a program for a stack machine. This one only builds values in memory: functions that the program names
//! are noted, never called, and a tensor is what was to be made by `torch._utils._rebuild_tensor_v2`. Everything else in
//! a checkpoint (optimiser state, options, classes of some training code) is passed over.
//!
//! Sources: Python's pickletools for the opcodes; pytorch/pytorch, torch/serialization.py @ v2.5.0 for both forms.

mod machine;
mod tensors;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::checkpoint::{CheckpointTensor, NumberType};
use machine::{Machine, Value};
use tensors::Record;

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

    /// In which type a tensor's numbers are stored.
    pub fn number_type(&self, name: &str) -> Option<NumberType> {
        self.tensors.get(name).map(|record| record.number_type)
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
        let file_bytes = std::fs::metadata(&self.path)?.len();
        ensure!(length as u64 <= file_bytes, "it needs {length} bytes, the whole file has {file_bytes}");
        let mut bytes = Vec::with_capacity(length);
        match &self.place {
            Place::Zip { prefix } => {
                let mut archive = zip::ZipArchive::new(BufReader::new(File::open(&self.path)?))?;
                let mut entry = archive.by_name(&format!("{prefix}data/{}", record.storage))?;
                // PyTorch never packs storages; a packed one could unfold to any size.
                ensure!(entry.compression() == zip::CompressionMethod::Stored, "its storage is packed; save it anew");
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
        let dense = record.gather(bytes, size)?;
        CheckpointTensor::from_bytes(record.dims.clone(), record.number_type, &dense)
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
    fn names_what_a_hostile_file_would_have_called() -> Result<()> {
        let calls: [(&[u8], &str); 5] = [
            (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "os.system"),
            (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"),
            (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
            (b"\x80\x02cxml.dom\n__class__.__init__\n)R.", "xml.dom.__class__.__init__"),
            (b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_sparse_tensor\n)Rs.", "_rebuild_sparse_tensor"),
        ];
        for (program, named) in calls {
            let file = zip_file(program, &[0.0])?;
            let error = TorchCheckpoint::open(file.path()).expect_err(named);
            assert!(format!("{error:#}").contains(named), "{named}: {error:#}");
        }
        Ok(())
    }

    #[test]
    fn a_packed_storage_is_refused() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let mut archive = zip::ZipWriter::new(file.reopen()?);
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file("archive/data.pkl", options)?;
        archive.write_all(&program([2, 3], [3, 1], 0))?;
        archive.start_file("archive/data/0", options.compression_method(zip::CompressionMethod::Deflated))?;
        archive.write_all(&[0; 24])?;
        archive.finish()?;
        let error = TorchCheckpoint::open(file.path())?.tensor("w").expect_err("it is packed");
        assert!(format!("{error:#}").contains("packed"), "{error:#}");
        Ok(())
    }

    #[test]
    fn calls_nothing_and_survives_nesting() -> Result<()> {
        let call = Machine::run(&mut &b"\x80\x02cargparse\nNamespace\nX\x04\x00\x00\x00true\x85R."[..])?;
        assert!(matches!(call.result(), Value::Call { .. }));
        assert!(call.tensors()?.is_empty());
        let mut deep = b")".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 1_000_000));
        deep.push(b'.');
        drop(Machine::run(&mut &deep[..])?);
        Ok(())
    }
}
