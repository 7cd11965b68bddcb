//! Reads TensorFlow.js graph models: the weights that the manifest lists, and the graph's nodes as far as a recipe needs
//! them to tell which is which.
//!
//! Source of the format: tensorflow/tfjs, tfjs-core/src/io/types.ts (`WeightsManifestEntry`) @ tfjs-v4.22.0.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};

use serde::Deserialize;

use super::checkpoint::{CheckpointTensor, NumberType, Numbers, element_count};

/// A graph model in memory.
#[derive(Debug)]
pub struct TfjsModel {
    nodes: Vec<Node>,
    tensors: HashMap<String, CheckpointTensor>,
}

/// One operation of the graph.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Its name, which is also the name of what it makes.
    pub name: String,
    /// The operator, for example `Conv2D`.
    #[serde(rename = "op")]
    pub operator: String,
    /// Names of the nodes that it reads.
    #[serde(rename = "input", default)]
    pub inputs: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "modelTopology")]
    topology: Topology,
    #[serde(rename = "weightsManifest")]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Topology {
    #[serde(rename = "node")]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
    #[serde(default)]
    scale: f32,
    #[serde(default)]
    min: f32,
}

impl TfjsModel {
    /// Reads `model.json` and the weight files that it names, which lie in the same folder.
    ///
    /// # Errors
    /// If a file cannot be read, is of another form, or ends early.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
        let file: File = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no TensorFlow.js graph model", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut tensors = HashMap::new();
        for group in &file.groups {
            let mut bytes = Vec::new();
            for name in &group.paths {
                // A model from elsewhere must not name files outside its own folder.
                let plain = Path::new(name).file_name().is_some_and(|plain| plain == name.as_str());
                ensure!(plain, "weights are said to lie in {name:?}; only files of the model's own folder are read");
                bytes.extend(std::fs::read(folder.join(name)).with_context(|| format!("could not read {name}"))?);
            }
            read_group(group, &bytes, &mut tensors)?;
        }
        Ok(Self { nodes: file.topology.nodes, tensors })
    }

    /// All nodes of the graph.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A weight by name.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn tensor(&self, name: &str) -> Result<&CheckpointTensor> {
        self.tensors.get(name).ok_or_else(|| anyhow!("the TensorFlow.js model holds no tensor {name}"))
    }
}

fn read_group(group: &Group, bytes: &[u8], tensors: &mut HashMap<String, CheckpointTensor>) -> Result<()> {
    let mut rest = bytes;
    for entry in &group.weights {
        let stored = entry.quantization.as_ref().map_or(&entry.dtype, |quantization| &quantization.dtype);
        let number_type = match stored.as_str() {
            "float32" => NumberType::F32,
            "float16" => NumberType::F16,
            "int32" => NumberType::I32,
            "bool" | "uint8" => NumberType::U8,
            "uint16" => NumberType::U16,
            other => bail!("tensor {} is of type {other}, which is not supported", entry.name),
        };
        let length = element_count(&entry.shape)?.checked_mul(number_type.byte_count());
        let taken = length.and_then(|length| rest.split_at_checked(length));
        let (mine, others) = taken.ok_or_else(|| anyhow!("the weight files end within tensor {}", entry.name))?;
        rest = others;
        let mut tensor = CheckpointTensor::from_bytes(entry.shape.clone(), number_type, mine)?;
        if let Some(Quantization { dtype, scale, min }) = &entry.quantization
            && dtype != "float16"
        {
            let numbers = tensor.to_f32().iter().map(|x| x * scale + min).collect();
            tensor = CheckpointTensor::new(entry.shape.clone(), Numbers::F32(numbers))?;
        }
        ensure!(tensors.insert(entry.name.clone(), tensor).is_none(), "tensor {} is there twice", entry.name);
    }
    ensure!(rest.is_empty(), "{} bytes of the weight files belong to no tensor", rest.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    const MODEL: &str = r#"{"modelTopology": {"node": [{"name": "a", "op": "Const"}, {"name": "b", "op": "Relu", "input": ["a"]}]},
        "weightsManifest": [{"paths": ["w.bin"], "weights": [
            {"name": "a", "shape": [2], "dtype": "float32"},
            {"name": "h", "shape": [1, 2], "dtype": "float32", "quantization": {"dtype": "float16", "original_dtype": "float32"}},
            {"name": "q", "shape": [2], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}},
            {"name": "i", "shape": [], "dtype": "int32"}]}]}"#;

    fn weights() -> Vec<u8> {
        let mut bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        bytes.extend([f16::from_f32(0.25), f16::from_f32(8.0)].iter().flat_map(|x| x.to_le_bytes()));
        bytes.extend([0u8, 4]);
        bytes.extend((-7i32).to_le_bytes());
        bytes
    }

    fn open(model: &str, weights: &[u8]) -> Result<TfjsModel> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("model.json"), model)?;
        std::fs::write(folder.path().join("w.bin"), weights)?;
        TfjsModel::open(&folder.path().join("model.json"))
    }

    #[test]
    fn reads_plain_half_and_quantised_weights() -> Result<()> {
        let model = open(MODEL, &weights())?;
        assert_eq!(model.nodes()[1].inputs, ["a"]);
        assert_eq!(model.tensor("a")?.to_f32(), [1.5, -2.0]);
        assert_eq!((model.tensor("h")?.dims(), model.tensor("h")?.to_f32()), (&[1, 2][..], vec![0.25, 8.0]));
        assert_eq!(model.tensor("q")?.to_f32(), [-1.0, 1.0]);
        assert_eq!(model.tensor("i")?.numbers(), &Numbers::I32(vec![-7]));
        Ok(())
    }

    #[test]
    fn refuses_damaged_files() {
        let mut long = weights();
        long.push(0);
        let cases = [
            (MODEL.to_owned(), weights()[..10].to_vec()),
            (MODEL.to_owned(), long),
            (MODEL.replace("[1, 2]", "[18446744073709551615, 3]"), weights()),
            (MODEL.replace("w.bin", "../w.bin"), weights()),
            (MODEL.replace("int32", "complex64"), weights()),
            ("{}".to_owned(), weights()),
            ("<html>".to_owned(), weights()),
        ];
        for (at, (model, weights)) in cases.iter().enumerate() {
            assert!(open(model, weights).is_err(), "case {at}");
        }
    }
}
