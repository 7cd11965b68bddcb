//! Block-quantised matrices: 32 neighbouring values of a row share a scale (and a minimum).
//!
//! The numbers are those of the GGML types of the same names, so files of these types convert without loss both ways;
//! but values and scales are stored apart, so that a GPU reads both coalesced.

use half::f16;

use crate::error::{Error, Result};

/// Values that share one scale.
pub const BLOCK: usize = 32;

/// How a block's 32 numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// 4 bits: `scale · (nibble − 8)`.
    Q4_0,
    /// 4 bits: `scale · nibble + min`.
    Q4_1,
    /// 8 bits: `scale · q`, q signed.
    Q8_0,
}

impl Scheme {
    /// Bytes of one block's values, scales not counted.
    pub fn block_bytes(self) -> usize {
        match self {
            Scheme::Q4_0 | Scheme::Q4_1 => BLOCK / 2,
            Scheme::Q8_0 => BLOCK,
        }
    }

    /// The name used in bundles: `q4_0`, `q4_1`, `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Q4_0 => "q4_0",
            Scheme::Q4_1 => "q4_1",
            Scheme::Q8_0 => "q8_0",
        }
    }
}

/// A quantised matrix `[rows, cols]` in main memory.
///
/// - `values`: row after row, block after block. In the 4-bit schemes byte j of a block holds value j in its low and
///   value j + 16 in its high nibble, as GGML orders them.
/// - `scales`: `rows · cols / 32`
/// - `mins`: the same number for [`Scheme::Q4_1`], else empty
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedBlocks {
    scheme: Scheme,
    rows: usize,
    cols: usize,
    values: Vec<u8>,
    scales: Vec<f16>,
    mins: Vec<f16>,
}

impl QuantizedBlocks {
    /// Takes the stored parts of a matrix.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if `cols` is not a multiple of 32 or a part's length does not follow from the shape.
    pub fn new(
        scheme: Scheme,
        rows: usize,
        cols: usize,
        values: Vec<u8>,
        scales: Vec<f16>,
        mins: Vec<f16>,
    ) -> Result<Self> {
        let damaged = |reason: String| Error::corrupt(format!("{} matrix [{rows}, {cols}]", scheme.name()), reason);
        if !cols.is_multiple_of(BLOCK) {
            return Err(damaged(format!("the columns are not a multiple of {BLOCK}")));
        }
        let blocks = rows.checked_mul(cols / BLOCK).ok_or_else(|| damaged("too large".into()))?;
        let expected_mins = if scheme == Scheme::Q4_1 { blocks } else { 0 };
        let expected_bytes = blocks.checked_mul(scheme.block_bytes()).ok_or_else(|| damaged("too large".into()))?;
        if (values.len(), scales.len(), mins.len()) != (expected_bytes, blocks, expected_mins) {
            return Err(damaged(format!(
                "expected {expected_bytes} bytes of values, {blocks} scales, {expected_mins} minima, found {}, {}, {}",
                values.len(),
                scales.len(),
                mins.len()
            )));
        }
        Ok(Self { scheme, rows, cols, values, scales, mins })
    }

    /// The scheme of all blocks.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Rows: outputs of a linear layer, tokens of an embedding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs of a linear layer; a multiple of 32.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Packed values, see the type's description.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// One scale a block.
    pub fn scales(&self) -> &[f16] {
        &self.scales
    }

    /// One minimum a block for [`Scheme::Q4_1`], else empty.
    pub fn mins(&self) -> &[f16] {
        &self.mins
    }

    /// Gives up the values, scales and minima, for an engine that orders them its own way.
    pub fn into_parts(self) -> (Vec<u8>, Vec<f16>, Vec<f16>) {
        (self.values, self.scales, self.mins)
    }

    /// Writes the values of `row` as numbers into `out`, which has `cols` places.
    ///
    /// # Panics
    /// If `row` is not below [`rows`](Self::rows) or `out` is shorter than the row: the caller's fault.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        let blocks_a_row = self.cols / BLOCK;
        let bytes = self.scheme.block_bytes();
        for (in_row, out) in out[..self.cols].chunks_exact_mut(BLOCK).enumerate() {
            let block = row * blocks_a_row + in_row;
            let scale = self.scales[block].to_f32();
            let values = &self.values[block * bytes..(block + 1) * bytes];
            match self.scheme {
                Scheme::Q8_0 => {
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = scale * f32::from(*value as i8);
                    }
                }
                Scheme::Q4_0 | Scheme::Q4_1 => {
                    let shift = if self.scheme == Scheme::Q4_0 { -8.0 * scale } else { self.mins[block].to_f32() };
                    for (j, value) in values.iter().enumerate() {
                        out[j] = scale * f32::from(value & 15) + shift;
                        out[j + BLOCK / 2] = scale * f32::from(value >> 4) + shift;
                    }
                }
            }
        }
    }

    /// All values as numbers, row after row.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        if self.cols > 0 {
            for (row, out) in out.chunks_exact_mut(self.cols).enumerate() {
                self.dequantize_row(row, out);
            }
        }
        out
    }
}
