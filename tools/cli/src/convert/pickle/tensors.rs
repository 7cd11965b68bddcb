//! Tensors in what a pickle has built: views of storages.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::super::checkpoint::{NumberType, element_count};
use super::machine::{Id, Machine, Value};

/// How deep dictionaries of tensors may be nested, and how many entries are looked at.
const DEEPEST: usize = 8;
const MOST_ENTRIES: usize = 1_000_000;

/// One tensor: a view of a storage, offset and strides in elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) storage: String,
    pub(super) number_type: NumberType,
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Record {
    /// Elements of the storage from the first to the last that the tensor touches.
    pub(super) fn span(&self) -> Result<usize> {
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
    pub(super) fn gather(&self, bytes: Vec<u8>, size: usize) -> Result<Vec<u8>> {
        let mut dense_strides = vec![1usize; self.dims.len()];
        for axis in (1..self.dims.len()).rev() {
            dense_strides[axis - 1] = dense_strides[axis] * self.dims[axis].max(1);
        }
        let dense =
            self.dims.iter().zip(self.strides.iter().zip(&dense_strides)).all(|(dim, (a, b))| *dim == 1 || a == b);
        if dense {
            return Ok(bytes);
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

impl Machine {
    /// Bytes of one element of every storage that the program refers to.
    pub(super) fn storage_sizes(&self) -> HashMap<&str, usize> {
        let storages = self.values.iter().filter_map(|value| match value {
            Value::Persistent(id) => self.storage(*id).ok(),
            _ => None,
        });
        storages.map(|(key, number_type)| (key, number_type.byte_count())).collect()
    }

    /// All tensors in the dictionaries of the result.
    pub(super) fn tensors(&self) -> Result<BTreeMap<String, Record>> {
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
            ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [tensor, ..])
                if *tensor < at =>
            {
                self.record(*tensor)
            }
            (other, _) if other.starts_with("torch._utils._rebuild") => {
                bail!("it is made by {other}, which is not read; save it as a plain dense tensor")
            }
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
