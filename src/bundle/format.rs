//! How a tensor's numbers lie in a shard.

use safetensors::Dtype;

use super::quantized::{BLOCK, Scheme};

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32 along the columns; values, scales and minima stand apart.
    Blocks(Scheme),
}

/// One of the arrays that a stored tensor consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// The numbers themselves, or, of a quantised matrix, its packed values (`X.q`).
    Values,
    /// One f16 a block (`X.scale`).
    Scales,
    /// One f16 a block (`X.min`).
    Mins,
}

/// Form of one section: its safetensors type, shape and length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SectionForm {
    pub(super) section: Section,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: usize,
}

impl Format {
    const ALL: [Format; 5] = [
        Format::F32,
        Format::F16,
        Format::Blocks(Scheme::Q4_0),
        Format::Blocks(Scheme::Q4_1),
        Format::Blocks(Scheme::Q8_0),
    ];

    /// The name in a manifest: `f32`, `f16`, `q4_0`, `q4_1`, `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Blocks(scheme) => scheme.name(),
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Format::name).join(", ")
    }

    /// The sections of a tensor of this shape, in the order in which they stand in a shard; `None` if the shape is not
    /// possible in this format or too large for any memory.
    pub(super) fn sections(self, shape: &[usize]) -> Option<Vec<SectionForm>> {
        let form = |section, dtype: Dtype, shape: Vec<usize>| {
            let count = shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim))?;
            let bytes = count.checked_mul(dtype.bitsize() / 8)?;
            Some(SectionForm { section, dtype, shape, bytes })
        };
        let scheme = match self {
            Format::F32 => return Some(vec![form(Section::Values, Dtype::F32, shape.to_vec())?]),
            Format::F16 => return Some(vec![form(Section::Values, Dtype::F16, shape.to_vec())?]),
            Format::Blocks(scheme) => scheme,
        };
        let &[rows, cols] = shape else { return None };
        if !cols.is_multiple_of(BLOCK) {
            return None;
        }
        let blocks = cols / BLOCK;
        let (dtype, packed) = if scheme == Scheme::Q8_0 { (Dtype::I8, cols) } else { (Dtype::U8, cols / 2) };
        let mut sections = vec![
            form(Section::Values, dtype, vec![rows, packed])?,
            form(Section::Scales, Dtype::F16, vec![rows, blocks])?,
        ];
        if scheme == Scheme::Q4_1 {
            sections.push(form(Section::Mins, Dtype::F16, vec![rows, blocks])?);
        }
        Some(sections)
    }

    /// Bytes of a tensor of this shape in a shard; `None` as for an impossible shape.
    pub fn stored_bytes(self, shape: &[usize]) -> Option<usize> {
        self.sections(shape)?.iter().try_fold(0usize, |sum, section| sum.checked_add(section.bytes))
    }

    /// Bytes of one section of a tensor of this shape; `None` if the format has no such section, or the shape is
    /// impossible.
    pub fn section_bytes(self, shape: &[usize], section: Section) -> Option<usize> {
        self.sections(shape)?.iter().find(|form| form.section == section).map(|form| form.bytes)
    }

    /// Name of a section in a shard: `X`, or `X.q`, `X.scale`, `X.min`.
    pub fn section_name(self, tensor: &str, section: Section) -> String {
        match (self, section) {
            (Format::F32 | Format::F16, _) => tensor.to_owned(),
            (Format::Blocks(_), Section::Values) => format!("{tensor}.q"),
            (Format::Blocks(_), Section::Scales) => format!("{tensor}.scale"),
            (Format::Blocks(_), Section::Mins) => format!("{tensor}.min"),
        }
    }
}
