//! Reads ONNX models: their stored tensors, and their nodes as far as a recipe needs them to tell which is which.
//!
//! Only the protobuf fields used here are declared; all others are skipped. Numbers of fields and types:
//! onnx/onnx, onnx/onnx.proto @ v1.17.0.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use half::f16;
use prost::Message;

use super::checkpoint::{CheckpointTensor, NumberType, Numbers};

/// How many nodes a constant may be computed through; deeper chains (or circles) are refused.
const LONGEST_CHAIN: usize = 16;

/// An ONNX file in memory; tensors kept in a file beside it are read when asked for.
#[derive(Debug)]
pub struct OnnxModel {
    folder: Option<PathBuf>,
    nodes: Vec<Node>,
    stored: Vec<Stored>,
    stored_by_name: HashMap<String, usize>,
    node_by_output: HashMap<String, usize>,
}

/// One operation of the graph.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of the tensors that it reads; an empty name is an input left out.
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    /// Names of the tensors that it makes.
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    /// Its own name, often a path of modules.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator, for example `Conv`.
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    float: f32,
    #[prost(int64, tag = "3")]
    int: i64,
    #[prost(message, optional, tag = "5")]
    tensor: Option<Stored>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Stored>,
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<KeyValue>,
    /// 1: in a file of its own.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl Node {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// An attribute that is a whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.int)
    }

    /// An attribute that is a list of whole numbers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// An attribute that is a number.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|attribute| attribute.float)
    }
}

impl OnnxModel {
    /// Reads a file. Tensors that it keeps elsewhere are looked for in the same folder.
    ///
    /// # Errors
    /// If the file cannot be read or is no ONNX model.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
        Self::parse(&bytes, path.parent()).with_context(|| format!("{} is no ONNX model", path.display()))
    }

    /// Reads a model from its bytes; `folder` holds the files of tensors kept outside it, if any.
    ///
    /// # Errors
    /// If the bytes are no ONNX model, or two tensors share a name.
    pub fn parse(bytes: &[u8], folder: Option<&Path>) -> Result<Self> {
        let graph = Model::decode(bytes)?.graph.ok_or_else(|| anyhow!("it holds no graph"))?;
        let mut stored_by_name = HashMap::new();
        for (at, stored) in graph.initializers.iter().enumerate() {
            let taken = stored_by_name.insert(stored.name.clone(), at).is_some();
            ensure!(!taken, "tensor {} is there twice", stored.name);
        }
        let mut node_by_output = HashMap::new();
        for (at, node) in graph.nodes.iter().enumerate() {
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                ensure!(node_by_output.insert(output.clone(), at).is_none(), "two nodes make the tensor {output}");
            }
        }
        let folder = folder.map(Path::to_owned);
        Ok(Self { folder, nodes: graph.nodes, stored: graph.initializers, stored_by_name, node_by_output })
    }

    /// All nodes, in an order in which they can be computed.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that makes a tensor; `None` for inputs of the graph and stored tensors.
    pub fn producer(&self, tensor: &str) -> Option<&Node> {
        self.node_by_output.get(tensor).map(|at| &self.nodes[*at])
    }

    /// Names of all stored tensors, in the file's order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.stored.iter().map(|stored| stored.name.as_str())
    }

    /// Whether a tensor of that name is stored.
    pub fn contains(&self, name: &str) -> bool {
        self.stored_by_name.contains_key(name)
    }

    /// A stored tensor in its own type: an initialiser or the value of a `Constant` node.
    ///
    /// # Errors
    /// If there is none of that name, its type is not one of [`Numbers`], or its data is missing or of another length.
    pub fn tensor(&self, name: &str) -> Result<CheckpointTensor> {
        let constant = || {
            let node = self.producer(name).filter(|node| node.operator == "Constant")?;
            node.attribute("value")?.tensor.as_ref()
        };
        let stored = self.stored_by_name.get(name).map(|at| &self.stored[*at]).or_else(constant);
        let stored = stored.ok_or_else(|| anyhow!("the ONNX model holds no tensor {name}"))?;
        self.read(stored).with_context(|| format!("tensor {name}"))
    }

    /// A constant as f32 numbers, computed through the nodes that converters put before stored weights: `Identity`,
    /// `Cast`, a product with a scale (`Mul`), `DequantizeLinear`.
    ///
    /// A `QuantizeLinear` of a float constant is passed over: the float numbers behind it are the more exact ones.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor), or if the tensor depends on another kind of node or on an input.
    pub fn constant_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.constant_within(name, LONGEST_CHAIN)
    }

    fn constant_within(&self, name: &str, depth: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let Some(node) = self.producer(name).filter(|node| node.operator != "Constant") else {
            let tensor = self.tensor(name)?;
            return Ok((tensor.dims().to_vec(), tensor.to_f32()));
        };
        let input = |at: usize| -> Result<(Vec<usize>, Vec<f32>)> {
            let deeper = depth.checked_sub(1).ok_or_else(|| anyhow!("tensor {name} hides behind too many nodes"))?;
            let input = node.inputs.get(at).ok_or_else(|| anyhow!("{} lacks an input", node.operator))?;
            self.constant_within(input, deeper)
        };
        match node.operator.as_str() {
            "Identity" | "Cast" | "QuantizeLinear" => input(0),
            "Mul" => scaled(input(0)?, &input(1)?, None),
            "DequantizeLinear" => {
                let quantised = self.producer(&node.inputs[0]).is_some_and(|node| node.operator == "QuantizeLinear");
                if quantised {
                    return input(0);
                }
                let (dims, mut numbers) = input(0)?;
                if node.inputs.get(2).is_some_and(|name| !name.is_empty()) {
                    let (_, zero) = input(2)?;
                    let [zero] = zero[..] else { bail!("tensor {name} has a zero point for each channel") };
                    numbers.iter_mut().for_each(|x| *x -= zero);
                }
                scaled((dims, numbers), &input(1)?, Some(node.int("axis").unwrap_or(1)))
            }
            other => bail!("tensor {name} is no constant: it comes from {other}"),
        }
    }

    fn read(&self, stored: &Stored) -> Result<CheckpointTensor> {
        let dims: Vec<usize> =
            stored.dims.iter().map(|dim| usize::try_from(*dim)).collect::<Result<_, _>>().context("negative size")?;
        let number_type = match stored.data_type {
            1 => NumberType::F32,
            2 | 9 => NumberType::U8,
            3 => NumberType::I8,
            4 => NumberType::U16,
            5 => NumberType::I16,
            6 => NumberType::I32,
            7 => NumberType::I64,
            10 => NumberType::F16,
            11 => NumberType::F64,
            16 => NumberType::Bf16,
            other => bail!("numbers of ONNX type {other} are not supported; types 1 to 7, 9 to 11 and 16 are"),
        };
        if stored.data_location == 1 {
            let bytes = self.read_outside(stored)?;
            return CheckpointTensor::from_bytes(dims, number_type, &bytes);
        }
        if !stored.raw_data.is_empty() {
            return CheckpointTensor::from_bytes(dims, number_type, &stored.raw_data);
        }
        let ints = || stored.int32_data.iter().copied();
        let numbers = match number_type {
            NumberType::F32 => Numbers::F32(stored.float_data.clone()),
            NumberType::F64 => Numbers::F32(stored.double_data.iter().map(|x| *x as f32).collect()),
            NumberType::F16 => Numbers::F16(ints().map(|bits| f16::from_bits(bits as u16)).collect()),
            NumberType::Bf16 => Numbers::F32(ints().map(|bits| f32::from_bits((bits as u32) << 16)).collect()),
            NumberType::I8 => Numbers::I8(ints().map(|x| x as i8).collect()),
            NumberType::U8 => Numbers::U8(ints().map(|x| x as u8).collect()),
            NumberType::I16 | NumberType::U16 | NumberType::I32 => Numbers::I32(stored.int32_data.clone()),
            NumberType::I64 => Numbers::I64(stored.int64_data.clone()),
        };
        CheckpointTensor::new(dims, numbers)
    }

    /// Reads the bytes of a tensor kept in a file beside the model.
    fn read_outside(&self, stored: &Stored) -> Result<Vec<u8>> {
        let value = |key: &str| stored.external_data.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
        let number = |key: &str| value(key).map(str::parse::<u64>).transpose().with_context(|| format!("bad {key}"));
        let location = value("location").ok_or_else(|| anyhow!("it names no file"))?;
        // A model from elsewhere must not name files outside its own folder.
        let plain = Path::new(location).file_name().is_some_and(|name| name == location);
        ensure!(plain, "its data is said to lie in {location:?}; only a file of the model's own folder is read");
        let folder = self.folder.as_ref().ok_or_else(|| anyhow!("its data lies in a file {location:?}"))?;
        let mut file = File::open(folder.join(location)).with_context(|| format!("could not read {location}"))?;
        let size = file.metadata()?.len();
        let offset = number("offset")?.unwrap_or(0);
        let left = size.checked_sub(offset).ok_or_else(|| anyhow!("{location} ends before byte {offset}"))?;
        let length = number("length")?.unwrap_or(left);
        ensure!(length <= left, "{location} has {left} bytes from {offset} on, {length} are needed");
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Multiplies by one scale, by one a place of `axis`, or by a tensor that stretches to the shape (last axes aligned).
fn scaled(
    (dims, mut numbers): (Vec<usize>, Vec<f32>),
    (scale_dims, scale): &(Vec<usize>, Vec<f32>),
    axis: Option<i64>,
) -> Result<(Vec<usize>, Vec<f32>)> {
    let rank = dims.len();
    if let [scale] = scale[..] {
        numbers.iter_mut().for_each(|x| *x *= scale);
        return Ok((dims, numbers));
    }
    let mut aligned = vec![1; rank];
    match axis {
        Some(axis) => {
            let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).unwrap_or(rank);
            ensure!(scale_dims.len() == 1 && axis < rank, "scale {scale_dims:?} does not fit axis {axis} of {dims:?}");
            aligned[axis] = scale_dims[0];
        }
        None => {
            let front = rank.checked_sub(scale_dims.len());
            let front = front.ok_or_else(|| anyhow!("{scale_dims:?} does not stretch to {dims:?}"))?;
            aligned[front..].copy_from_slice(scale_dims);
        }
    }
    ensure!(
        aligned.iter().zip(&dims).all(|(scale, dim)| scale == dim || *scale == 1),
        "{scale_dims:?} does not stretch to {dims:?}"
    );
    for (at, x) in numbers.iter_mut().enumerate() {
        let (mut rest, mut place, mut step) = (at, 0, 1);
        for axis in (0..rank).rev() {
            if aligned[axis] > 1 {
                place += rest % dims[axis] * step;
                step *= aligned[axis];
            }
            rest /= dims[axis];
        }
        *x *= scale[place];
    }
    Ok((dims, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, dims: &[i64], numbers: &[f32]) -> Stored {
        let raw_data = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Stored { name: name.into(), dims: dims.into(), data_type: 1, raw_data, ..Default::default() }
    }

    fn bytes(nodes: Vec<Node>, initializers: Vec<Stored>) -> Vec<u8> {
        Model { graph: Some(Graph { nodes, initializers }) }.encode_to_vec()
    }

    fn node(operator: &str, inputs: &[&str], output: &str) -> Node {
        let inputs = inputs.iter().map(ToString::to_string).collect();
        Node { operator: operator.into(), inputs, outputs: vec![output.into()], ..Default::default() }
    }

    #[test]
    fn reads_every_form_of_storage() -> Result<()> {
        let typed = Stored {
            name: "typed".into(),
            dims: vec![2],
            data_type: 1,
            float_data: vec![1.5, -2.0],
            ..Default::default()
        };
        let bytes8 =
            Stored { name: "i8".into(), dims: vec![1, 2], data_type: 3, int32_data: vec![-3, 4], ..Default::default() };
        let half =
            Stored { name: "half".into(), dims: vec![], data_type: 10, int32_data: vec![0x3c00], ..Default::default() };
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("beside"), [0u8, 0, 7, 0, 0, 0])?;
        let entry = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
        let outside = Stored {
            name: "outside".into(),
            dims: vec![1],
            data_type: 6,
            data_location: 1,
            external_data: vec![entry("location", "beside"), entry("offset", "2"), entry("length", "4")],
            ..Default::default()
        };
        let bytes = bytes(vec![], vec![tensor("raw", &[1, 2], &[0.25, 8.0]), typed, bytes8, half, outside]);
        let model = OnnxModel::parse(&bytes, Some(folder.path()))?;
        assert_eq!(model.tensor("raw")?, CheckpointTensor::new(vec![1, 2], Numbers::F32(vec![0.25, 8.0]))?);
        assert_eq!(model.tensor("typed")?.to_f32(), [1.5, -2.0]);
        assert_eq!(model.tensor("i8")?, CheckpointTensor::new(vec![1, 2], Numbers::I8(vec![-3, 4]))?);
        assert_eq!(model.tensor("half")?.to_f32(), [1.0]);
        assert_eq!(model.tensor("outside")?.numbers(), &Numbers::I32(vec![7]));
        assert!(model.tensor("none").is_err());
        Ok(())
    }

    #[test]
    fn computes_constants_behind_scales() -> Result<()> {
        let quantised = Stored {
            name: "q".into(),
            dims: vec![2, 3],
            data_type: 3,
            int32_data: vec![1, 2, 3, 4, 5, 6],
            ..Default::default()
        };
        let zero =
            Stored { name: "zero".into(), dims: vec![], data_type: 3, int32_data: vec![1], ..Default::default() };
        let nodes = vec![
            node("Cast", &["q"], "f"),
            node("Mul", &["f", "column"], "product"),
            node("DequantizeLinear", &["q", "row", "zero"], "dequantised"),
            node("Relu", &["f"], "relu"),
            node("Identity", &["circle"], "circle"),
        ];
        let stored =
            vec![quantised, zero, tensor("column", &[2, 1], &[1.0, 10.0]), tensor("row", &[3], &[1.0, 2.0, 3.0])];
        let model = OnnxModel::parse(&bytes(nodes, stored), None)?;
        assert_eq!(model.constant_f32("product")?, (vec![2, 3], vec![1.0, 2.0, 3.0, 40.0, 50.0, 60.0]));
        assert_eq!(model.constant_f32("dequantised")?, (vec![2, 3], vec![0.0, 2.0, 6.0, 3.0, 8.0, 15.0]));
        assert!(model.constant_f32("relu").is_err());
        assert!(model.constant_f32("circle").is_err());
        Ok(())
    }

    #[test]
    fn refuses_hostile_files() {
        let entry = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
        let outside = |location: &str, offset: &str| Stored {
            name: "t".into(),
            data_type: 1,
            data_location: 1,
            external_data: vec![entry("location", location), entry("offset", offset)],
            ..Default::default()
        };
        let cases = [
            tensor("t", &[i64::MAX, i64::MAX], &[1.0]),
            tensor("t", &[-1], &[]),
            tensor("t", &[1 << 40], &[1.0]),
            Stored { name: "t".into(), dims: vec![1 << 40], data_type: 1, ..Default::default() },
            Stored { name: "t".into(), data_type: 99, ..Default::default() },
            outside("../../etc/passwd", "0"),
            outside("/etc/passwd", "0"),
            outside("missing", "0"),
            outside("..", "0"),
        ];
        for (at, case) in cases.into_iter().enumerate() {
            let model = OnnxModel::parse(&bytes(vec![], vec![case]), Some(Path::new("/tmp"))).expect("well formed");
            assert!(model.tensor("t").is_err(), "case {at}");
        }
        assert!(OnnxModel::parse(b"<!doctype html>", None).is_err());
        assert!(OnnxModel::parse(b"", None).is_err());
        let whole = bytes(vec![], vec![tensor("t", &[4], &[1.0; 4])]);
        for cut in 1..whole.len() {
            assert!(OnnxModel::parse(&whole[..cut], None).is_err(), "cut at {cut}");
        }
    }
}
