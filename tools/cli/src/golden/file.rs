//! Golden files: inputs, intermediates and outputs of an original implementation, as safetensors or JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Difference;

/// A golden file in memory.
#[derive(Debug)]
pub struct Golden {
    component: String,
    meta: Value,
    tensors: BTreeMap<String, Array>,
}

#[derive(Debug)]
struct Array {
    dtype: Dtype,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Golden {
    /// Opens `tests/golden/<name>.safetensors` or `.json` of this project.
    ///
    /// # Errors
    /// If there is none or it is damaged.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        let tensors = folder.join(format!("{name}.safetensors"));
        Self::read(&if tensors.exists() { tensors } else { folder.join(format!("{name}.json")) })
    }

    /// Reads a golden file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or names no component.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("could not read the golden {}", path.display()))?;
        let golden = if path.extension().is_some_and(|extension| extension == "json") {
            Self::from_json(&bytes)
        } else {
            Self::from_safetensors(&bytes)
        };
        golden.with_context(|| format!("{} is no golden file", path.display()))
    }

    fn from_json(bytes: &[u8]) -> anyhow::Result<Self> {
        let meta: Value = serde_json::from_slice(bytes)?;
        Ok(Self { component: component_of(&meta)?, meta, tensors: BTreeMap::new() })
    }

    fn from_safetensors(bytes: &[u8]) -> anyhow::Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let text = header.metadata().as_ref().and_then(|metadata| metadata.get("golden"));
        let meta: Value = serde_json::from_str(text.context("its metadata lack the key \"golden\"")?)?;
        let tensors = SafeTensors::deserialize(bytes)?
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let array = Array { dtype: view.dtype(), dims: view.shape().to_vec(), bytes: view.data().to_vec() };
                (name, array)
            })
            .collect();
        Ok(Self { component: component_of(&meta)?, meta, tensors })
    }

    /// Name of the component, for example `effnet_lite0_coffee`.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Everything a JSON golden holds; of a safetensors golden its description.
    pub fn json(&self) -> &Value {
        &self.meta
    }

    /// The configuration of the component.
    ///
    /// # Errors
    /// If it does not have the form of `T`; the message names the key.
    pub fn config<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let config = self.meta.get("config").cloned().unwrap_or(Value::Null);
        serde_json::from_value(config).with_context(|| format!("configuration of the golden {}", self.component))
    }

    /// Names of all arrays that start with `prefix`.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    /// Whether there is an array of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn array(&self, name: &str) -> anyhow::Result<&Array> {
        self.tensors.get(name).with_context(|| format!("the golden {} has no array {name:?}", self.component))
    }

    /// Sizes of an array's axes.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn dims(&self, name: &str) -> anyhow::Result<&[usize]> {
        Ok(&self.array(name)?.dims)
    }

    /// An array's numbers as f32, row-major; whole numbers are converted.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn f32(&self, name: &str) -> anyhow::Result<Vec<f32>> {
        let array = self.array(name)?;
        Ok(match array.dtype {
            Dtype::F32 => array.numbers(f32::from_le_bytes),
            Dtype::F64 => array.numbers(|bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F16 => array.numbers(|bytes| half::f16::from_le_bytes(bytes).to_f32()),
            _ => self.i64(name)?.into_iter().map(|number| number as f32).collect(),
        })
    }

    /// An array's whole numbers (ids, booleans, samples, pixels), row-major.
    ///
    /// # Errors
    /// If there is none of that name or it holds floats.
    pub fn i64(&self, name: &str) -> anyhow::Result<Vec<i64>> {
        let array = self.array(name)?;
        Ok(match array.dtype {
            Dtype::I64 => array.numbers(i64::from_le_bytes),
            Dtype::I32 => array.numbers(|bytes| i64::from(i32::from_le_bytes(bytes))),
            Dtype::I16 => array.numbers(|bytes| i64::from(i16::from_le_bytes(bytes))),
            Dtype::U8 | Dtype::BOOL => array.numbers(|[byte]: [u8; 1]| i64::from(byte)),
            Dtype::I8 => array.numbers(|[byte]: [u8; 1]| i64::from(byte as i8)),
            other => bail!("the golden {}: {name} holds {other:?}, not whole numbers", self.component),
        })
    }

    /// An array's ids.
    ///
    /// # Errors
    /// If there is none of that name, or a number is no u32.
    pub fn u32(&self, name: &str) -> anyhow::Result<Vec<u32>> {
        self.i64(name)?.into_iter().map(|id| u32::try_from(id).with_context(|| format!("{name}: {id}"))).collect()
    }

    /// An array's bytes, for example pixels.
    ///
    /// # Errors
    /// If there is none of that name, or it does not hold bytes.
    pub fn u8(&self, name: &str) -> anyhow::Result<&[u8]> {
        let array = self.array(name)?;
        ensure!(matches!(array.dtype, Dtype::U8 | Dtype::BOOL), "{name} holds {:?}, not bytes", array.dtype);
        Ok(&array.bytes)
    }

    /// An array as an f32 tensor on `device`.
    ///
    /// # Errors
    /// If there is none of that name, or it does not fit the device.
    pub fn tensor(&self, name: &str, device: &Device) -> anyhow::Result<Tensor> {
        Ok(Tensor::from_f32(&self.f32(name)?, self.dims(name)?, device)?)
    }

    /// An array of ids as a u32 tensor on `device`.
    ///
    /// # Errors
    /// As for [`u32`](Self::u32) and [`tensor`](Self::tensor).
    pub fn ids(&self, name: &str, device: &Device) -> anyhow::Result<Tensor> {
        Ok(Tensor::from_u32(&self.u32(name)?, self.dims(name)?, device)?)
    }

    /// The original's weights, `weights.` stripped from their names.
    ///
    /// # Errors
    /// If they do not fit the device.
    pub fn weights(&self, device: &Device) -> anyhow::Result<Weights> {
        self.weights_as(device, str::to_owned)
    }

    /// As [`weights`](Self::weights), under the names that `rename` gives them.
    ///
    /// # Errors
    /// If two get the same name, or they do not fit the device.
    pub fn weights_as(&self, device: &Device, rename: impl Fn(&str) -> String) -> anyhow::Result<Weights> {
        let mut map = WeightMap::default();
        for name in self.names("weights.") {
            map.insert_tensor(rename(&name["weights.".len()..]), self.tensor(name, device)?)?;
        }
        Ok(Weights::new(map))
    }

    /// Reads `found` back and compares it with the array `name`; axes of 1 in front do not count.
    ///
    /// # Errors
    /// If there is no such array, or the shapes differ.
    pub fn compare(&self, name: &str, found: &Tensor, tolerance: f64) -> anyhow::Result<Difference> {
        let significant = |dims: &[usize]| dims.iter().copied().skip_while(|dim| *dim == 1).collect::<Vec<_>>();
        let (expected, dims) = (self.dims(name)?, found.dims());
        ensure!(
            significant(expected) == significant(dims),
            "{}: {name}: expected {expected:?}, found {dims:?}",
            self.component
        );
        self.compare_f32(name, &pollster::block_on(found.to_f32())?, tolerance)
    }

    /// Compares numbers at hand with the array `name`.
    ///
    /// # Errors
    /// If there is no such array, or the counts differ.
    pub fn compare_f32(&self, name: &str, found: &[f32], tolerance: f64) -> anyhow::Result<Difference> {
        let expected = self.f32(name)?;
        ensure!(expected.len() == found.len(), "{name}: expected {} numbers, found {}", expected.len(), found.len());
        Ok(Difference { name: name.to_owned(), max_abs: max_abs_difference(&expected, found), tolerance })
    }
}

fn component_of(meta: &Value) -> anyhow::Result<String> {
    Ok(meta.get("component").and_then(Value::as_str).context("it names no component")?.to_owned())
}

/// Largest absolute difference of two arrays of the same length. A number that is none on one side only, or infinities
/// that differ, are infinitely far apart.
pub fn max_abs_difference(expected: &[f32], found: &[f32]) -> f64 {
    let apart = |(expected, found): (&f32, &f32)| {
        if expected == found || (expected.is_nan() && found.is_nan()) {
            return 0.0;
        }
        let apart = (f64::from(*expected) - f64::from(*found)).abs();
        if apart.is_nan() { f64::INFINITY } else { apart }
    };
    expected.iter().zip(found).map(apart).fold(0.0, f64::max)
}

impl Array {
    fn numbers<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
    }
}
