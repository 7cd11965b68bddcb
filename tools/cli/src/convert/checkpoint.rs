//! A tensor as a checkpoint file stores it, before any recipe has renamed or recast it.

use anyhow::{Result, bail, ensure};
use half::f16;

/// Shape and numbers of one stored tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointTensor {
    dims: Vec<usize>,
    numbers: Numbers,
}

/// The numbers of a tensor in their stored type.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 16-bit floating point.
    F16(Vec<f16>),
    /// Signed bytes, mostly quantised weights.
    I8(Vec<i8>),
    /// Unsigned bytes, mostly quantised weights or truth values.
    U8(Vec<u8>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// Types of [`Numbers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point, read as 32-bit.
    F64,
    /// 16-bit floating point.
    F16,
    /// The upper half of a 32-bit floating-point number, read as 32-bit.
    Bf16,
    /// Signed bytes.
    I8,
    /// Unsigned bytes and truth values.
    U8,
    /// 16-bit integers, read as 32-bit.
    I16,
    /// 16-bit unsigned integers, read as 32-bit.
    U16,
    /// 32-bit integers.
    I32,
    /// 64-bit integers.
    I64,
}

impl NumberType {
    /// Bytes of one number in a file.
    pub fn byte_count(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The type of that name in safetensors headers and lists of shapes.
    pub fn from_safetensors(name: &str) -> Option<Self> {
        Some(match name {
            "F32" => Self::F32,
            "F64" => Self::F64,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "I8" => Self::I8,
            "U8" | "BOOL" => Self::U8,
            "I16" => Self::I16,
            "U16" => Self::U16,
            "I32" => Self::I32,
            "I64" => Self::I64,
            _ => return None,
        })
    }

    /// Its name in safetensors headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::I16 => "I16",
            Self::U16 => "U16",
            Self::I32 => "I32",
            Self::I64 => "I64",
        }
    }

    /// Whether weights may be of this type: floats of up to 32 bits.
    pub fn is_weight(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

/// Number of elements of a shape, or an error if it cannot be counted.
pub fn element_count(dims: &[usize]) -> Result<usize> {
    match dims.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim)) {
        Some(count) => Ok(count),
        None => bail!("a tensor of shape {dims:?} has too many elements"),
    }
}

impl CheckpointTensor {
    /// Takes a shape and as many numbers as follow from it.
    ///
    /// # Errors
    /// If the counts differ.
    pub fn new(dims: Vec<usize>, numbers: Numbers) -> Result<Self> {
        let expected = element_count(&dims)?;
        let found = numbers.len();
        ensure!(expected == found, "a tensor of shape {dims:?} has {expected} elements, {found} are stored");
        Ok(Self { dims, numbers })
    }

    /// Reads little-endian bytes.
    ///
    /// # Errors
    /// If the byte count does not follow from shape and type. Nothing is allocated before that is known.
    pub fn from_bytes(dims: Vec<usize>, number_type: NumberType, bytes: &[u8]) -> Result<Self> {
        let size = number_type.byte_count();
        let expected = element_count(&dims)?.checked_mul(size);
        let found = bytes.len();
        ensure!(expected == Some(found), "a tensor of shape {dims:?} cannot have {found} bytes of {number_type:?}");
        let numbers = match number_type {
            NumberType::F32 => Numbers::F32(read(bytes, f32::from_le_bytes)),
            NumberType::F64 => Numbers::F32(read(bytes, |b| f64::from_le_bytes(b) as f32)),
            NumberType::F16 => Numbers::F16(read(bytes, f16::from_le_bytes)),
            NumberType::Bf16 => Numbers::F32(read(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
            NumberType::I8 => Numbers::I8(read(bytes, i8::from_le_bytes)),
            NumberType::U8 => Numbers::U8(bytes.to_vec()),
            NumberType::I16 => Numbers::I32(read(bytes, |b| i16::from_le_bytes(b).into())),
            NumberType::U16 => Numbers::I32(read(bytes, |b| u16::from_le_bytes(b).into())),
            NumberType::I32 => Numbers::I32(read(bytes, i32::from_le_bytes)),
            NumberType::I64 => Numbers::I64(read(bytes, i64::from_le_bytes)),
        };
        Ok(Self { dims, numbers })
    }

    /// Sizes of the axes, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The numbers in row-major order, in their stored type.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Shape and numbers, given up.
    pub fn into_parts(self) -> (Vec<usize>, Numbers) {
        (self.dims, self.numbers)
    }

    /// Place of the first number that is NaN or infinite.
    pub fn first_not_finite(&self) -> Option<usize> {
        match &self.numbers {
            Numbers::F32(numbers) => numbers.iter().position(|number| !number.is_finite()),
            Numbers::F16(numbers) => numbers.iter().position(|number| !number.is_finite()),
            _ => None,
        }
    }

    /// The numbers as f32. Integers are taken as they are, without scale.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.numbers {
            Numbers::F32(numbers) => numbers.clone(),
            Numbers::F16(numbers) => numbers.iter().map(|x| x.to_f32()).collect(),
            Numbers::I8(numbers) => numbers.iter().map(|x| f32::from(*x)).collect(),
            Numbers::U8(numbers) => numbers.iter().map(|x| f32::from(*x)).collect(),
            Numbers::I32(numbers) => numbers.iter().map(|x| *x as f32).collect(),
            Numbers::I64(numbers) => numbers.iter().map(|x| *x as f32).collect(),
        }
    }
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F16(numbers) => numbers.len(),
            Self::I8(numbers) => numbers.len(),
            Self::U8(numbers) => numbers.len(),
            Self::I32(numbers) => numbers.len(),
            Self::I64(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn read<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}
