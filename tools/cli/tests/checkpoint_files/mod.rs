//! Writes checkpoints in the containers of the real ones: PyTorch's archives and legacy streams, and safetensors.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use half::f16;

/// Names, shapes and numbers.
pub type State = BTreeMap<String, (Vec<usize>, Numbers)>;

/// Numbers in the type in which they are written.
#[derive(Debug, Clone)]
pub enum Numbers {
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
}

impl Numbers {
    pub fn into_f16(self) -> Self {
        Self::F16(self.to_f32().into_iter().map(f16::from_f32).collect())
    }

    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F16(numbers) => numbers.iter().map(|number| number.to_f32()).collect(),
            Self::F32(numbers) => numbers.clone(),
            Self::F64(numbers) => numbers.iter().map(|number| *number as f32).collect(),
            Self::I64(numbers) => numbers.iter().map(|number| *number as f32).collect(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F16(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Self::F32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Self::F64(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Self::I64(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F16(numbers) => numbers.len(),
            Self::F32(numbers) => numbers.len(),
            Self::F64(numbers) => numbers.len(),
            Self::I64(numbers) => numbers.len(),
        }
    }

    fn storage_class(&self) -> &'static str {
        match self {
            Self::F16(_) => "HalfStorage",
            Self::F32(_) => "FloatStorage",
            Self::F64(_) => "DoubleStorage",
            Self::I64(_) => "LongStorage",
        }
    }

    fn safetensors_type(&self) -> &'static str {
        match self {
            Self::F16(_) => "F16",
            Self::F32(_) => "F32",
            Self::F64(_) => "F64",
            Self::I64(_) => "I64",
        }
    }
}

fn text(program: &mut Vec<u8>, text: &str) {
    program.push(b'X');
    program.extend((text.len() as u32).to_le_bytes());
    program.extend(text.as_bytes());
}

fn number(program: &mut Vec<u8>, number: usize) {
    program.push(b'J');
    program.extend((number as i32).to_le_bytes());
}

fn tuple_of_numbers(program: &mut Vec<u8>, numbers: &[usize]) {
    program.push(b'(');
    numbers.iter().for_each(|at| number(program, *at));
    program.push(b't');
}

/// The pickle of a dictionary of tensors, storages named by their places; within another dictionary under `key`.
fn pickle(key: Option<&str>, state: &State) -> Vec<u8> {
    let mut program = b"\x80\x02".to_vec();
    if let Some(key) = key {
        program.push(b'}');
        text(&mut program, key);
    }
    program.extend(b"ccollections\nOrderedDict\n)R");
    for (at, (name, (dims, numbers))) in state.iter().enumerate() {
        text(&mut program, name);
        program.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut program, "storage");
        program.extend(format!("ctorch\n{}\n", numbers.storage_class()).bytes());
        text(&mut program, &at.to_string());
        text(&mut program, "cpu");
        number(&mut program, numbers.len());
        program.extend(b"tQK\x00");
        tuple_of_numbers(&mut program, dims);
        let mut strides = vec![1; dims.len()];
        for axis in (1..dims.len()).rev() {
            strides[axis - 1] = strides[axis] * dims[axis];
        }
        tuple_of_numbers(&mut program, &strides);
        program.extend(b"\x89ccollections\nOrderedDict\n)RtRs");
    }
    if key.is_some() {
        program.push(b's');
        text(&mut program, "epoch");
        program.extend(b"K\x03s");
    }
    program.push(b'.');
    program
}

/// What `torch.save` writes since version 1.6.
pub fn zip_file(path: &Path, key: Option<&str>, state: &State) {
    let file = std::fs::File::create(path).expect("there is room");
    let mut archive = zip::ZipWriter::new(file);
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut add = |name: String, bytes: &[u8]| {
        archive.start_file(name, options).expect("a new entry");
        archive.write_all(bytes).expect("there is room");
    };
    add("archive/data.pkl".into(), &pickle(key, state));
    for (at, (_, numbers)) in state.values().enumerate() {
        add(format!("archive/data/{at}"), &numbers.bytes());
    }
    archive.finish().expect("there is room");
}

/// What it wrote before.
pub fn legacy_file(path: &Path, key: Option<&str>, state: &State) {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    bytes.extend(pickle(key, state));
    bytes.extend(b"\x80\x02](");
    (0..state.len()).for_each(|at| text(&mut bytes, &at.to_string()));
    bytes.extend(b"e.");
    for (_, numbers) in state.values() {
        bytes.extend((numbers.len() as u64).to_le_bytes());
        bytes.extend(numbers.bytes());
    }
    std::fs::write(path, bytes).expect("there is room");
}

/// A safetensors file.
pub fn safetensors_file(path: &Path, state: &State) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (dims, numbers)) in state {
        let begin = data.len();
        data.extend(numbers.bytes());
        let entry = serde_json::json!({
            "dtype": numbers.safetensors_type(), "shape": dims, "data_offsets": [begin, data.len()],
        });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).expect("plain JSON");
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length[..], &header, &data].concat()).expect("there is room");
}
