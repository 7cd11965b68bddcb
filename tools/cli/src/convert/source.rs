//! A public checkpoint on disk, whatever its container: one file or a folder of shards, tensors read when asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::checkpoint::{CheckpointTensor, NumberType};
use super::pickle::TorchCheckpoint;
use super::safetensors::SafetensorsFile;

/// What is known of a tensor before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Sizes of the axes, outermost first.
    pub dims: Vec<usize>,
    /// How its numbers are stored.
    pub number_type: NumberType,
}

/// The tensors of a checkpoint, over all its files.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    files: Vec<Container>,
    tensors: BTreeMap<String, (usize, TensorInfo)>,
}

#[derive(Debug)]
enum Container {
    Torch(TorchCheckpoint),
    Safetensors(SafetensorsFile),
}

impl Source {
    /// Opens a `.safetensors`, `.pth`, `.pt`, `.bin` or `.ckpt` file, or a folder with shards of one of these kinds;
    /// a folder with both is read from its safetensors. Only headers are read.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or two of them hold the same tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let mut source = Self { path: path.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
        for file in files_of(path)? {
            source.add(&file)?;
        }
        Ok(source)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let container = match extension(path).as_str() {
            "safetensors" => Container::Safetensors(SafetensorsFile::open(path)?),
            "pth" | "pt" | "bin" | "ckpt" => Container::Torch(TorchCheckpoint::open(path)?),
            other => bail!(
                "{} ends in {other:?}; known are .safetensors, .pth, .pt, .bin and .ckpt (PyTorch), and .gguf",
                path.display()
            ),
        };
        let number = self.files.len();
        for (name, info) in container.tensors() {
            let twice = self.tensors.insert(name.clone(), (number, info)).is_some();
            ensure!(!twice, "two files of {} hold the tensor {name}", self.path.display());
        }
        self.files.push(container);
        Ok(())
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, (_, info))| (name.as_str(), info))
    }

    /// What is known of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, info)| info)
    }

    /// Reads one tensor of weights.
    ///
    /// # Errors
    /// If it is not there, its numbers are no floats of up to 32 bits, or some of them are not finite.
    pub fn weight(&self, name: &str) -> Result<CheckpointTensor> {
        let (file, info) =
            self.tensors.get(name).with_context(|| format!("{} holds no tensor {name}", self.path.display()))?;
        ensure!(
            info.number_type.is_weight(),
            "tensor {name} {:?} holds numbers of type {}; weights are F32, F16 or BF16",
            info.dims,
            info.number_type.name()
        );
        let tensor = match &self.files[*file] {
            Container::Torch(checkpoint) => checkpoint.tensor(name)?,
            Container::Safetensors(file) => file.tensor(name)?,
        };
        if let Some(at) = tensor.first_not_finite() {
            bail!(
                "tensor {name} {:?}: number {at} is not finite (NaN or infinite); the checkpoint is damaged",
                info.dims
            );
        }
        Ok(tensor)
    }
}

impl Container {
    fn tensors(&self) -> Vec<(String, TensorInfo)> {
        match self {
            Self::Safetensors(file) => file
                .tensors
                .iter()
                .map(|(name, info)| {
                    (name.clone(), TensorInfo { dims: info.dims.clone(), number_type: info.number_type })
                })
                .collect(),
            Self::Torch(checkpoint) => checkpoint
                .tensors()
                .filter_map(|(name, dims)| {
                    let number_type = checkpoint.number_type(name)?;
                    Some((name.to_owned(), TensorInfo { dims: dims.to_vec(), number_type }))
                })
                .collect(),
        }
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// The file itself, or a folder's shards in the order of their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("could not read {}", path.display()))?;
    let mut all = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    all.sort();
    // Other pickles lie about in such folders too: `training_args.bin`, optimiser states.
    let training = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        ["training_args", "optimizer", "scheduler", "rng_state"].iter().any(|start| name.starts_with(start))
    };
    for kinds in [&["safetensors"][..], &["bin", "pth", "pt"]] {
        let found: Vec<PathBuf> =
            all.iter().filter(|path| kinds.contains(&extension(path).as_str()) && !training(path)).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    bail!("{} holds no .safetensors, .bin, .pth or .pt file", path.display())
}
