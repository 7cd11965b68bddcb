//! Writes checkpoints in the containers of the real ones: PyTorch's archives and legacy streams, safetensors, GGUF, and
//! SentencePiece's models.

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

/// A `tokenizer.model` of byte pairs: text, score and type of each piece.
pub fn sentencepiece_file(pieces: &[(String, f32, i32)]) -> Vec<u8> {
    let field = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
        out.extend([tag << 3 | 2, u8::try_from(bytes.len()).expect("a short field")]);
        out.extend(bytes);
    };
    let mut file = Vec::new();
    for (text, score, kind) in pieces {
        let mut piece = Vec::new();
        field(&mut piece, 1, text.as_bytes());
        piece.push(2 << 3 | 5);
        piece.extend(score.to_le_bytes());
        piece.extend([3 << 3, *kind as u8]);
        field(&mut file, 1, &piece);
    }
    field(&mut file, 2, &[3 << 3, 2]); // the trainer's model type: byte pairs
    file
}

/// A LLaMA of f32 tensors in GGUF, under GGUF's names and in its order of rotary rows.
pub fn gguf_file(path: &Path, state: &State, vocabulary: &[(String, f32, i32)], heads: usize) {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.bytes());
    };
    let sizes = [
        ("block_count", 2u32),
        ("attention.head_count", heads as u32),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("context_length", 128),
    ];
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((state.len() as u64).to_le_bytes());
    out.extend((sizes.len() as u64 + 6).to_le_bytes());
    for (key, size) in sizes {
        text(&mut out, &format!("llama.{key}"));
        out.extend(4u32.to_le_bytes());
        out.extend(size.to_le_bytes());
    }
    text(&mut out, "llama.attention.layer_norm_rms_epsilon");
    out.extend(6u32.to_le_bytes());
    out.extend(1e-6f32.to_le_bytes());
    for (key, value) in [("general.architecture", "llama"), ("tokenizer.ggml.model", "llama")] {
        text(&mut out, key);
        out.extend(8u32.to_le_bytes());
        text(&mut out, value);
    }
    for (key, kind) in [("tokens", 8u32), ("scores", 6), ("token_type", 5)] {
        text(&mut out, &format!("tokenizer.ggml.{key}"));
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((vocabulary.len() as u64).to_le_bytes());
        for (piece, score, kind) in vocabulary {
            match key {
                "tokens" => text(&mut out, piece),
                "scores" => out.extend(score.to_le_bytes()),
                _ => out.extend(kind.to_le_bytes()),
            }
        }
    }
    let mut data: Vec<u8> = Vec::new();
    for (name, (dims, numbers)) in state {
        text(&mut out, &gguf_name(name));
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().rev().for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        let rotary = name.contains("q_proj") || name.contains("k_proj");
        let numbers = if rotary { pairs_side_by_side(numbers.to_f32(), dims, heads) } else { numbers.to_f32() };
        data.extend(Numbers::F32(numbers).bytes());
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    std::fs::write(path, out).expect("there is room");
}

fn gguf_name(name: &str) -> String {
    let names = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
    ];
    names.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Rows of each head with the two numbers that turn together side by side, as llama.cpp's converter writes them.
fn pairs_side_by_side(numbers: Vec<f32>, dims: &[usize], heads: usize) -> Vec<f32> {
    let (rows, cols) = (dims[0], dims[1]);
    let half = rows / heads / 2;
    let source = |row: usize| row / (2 * half) * 2 * half + row % 2 * half + row % (2 * half) / 2;
    (0..rows).flat_map(|row| numbers[source(row) * cols..(source(row) + 1) * cols].to_vec()).collect()
}
