//! How much GPU memory numbers will take, told from their shapes alone.

use super::matmul::rows_of_part;
use super::pool::{exact_size, size_class};
use crate::bundle::{BLOCK, Scheme};

/// Memory of one tensor or matrix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// All its buffers together.
    pub bytes: u64,
    /// Its largest buffer.
    pub largest_buffer: u64,
    /// The most that a kernel sees of one of its buffers.
    pub largest_binding: u64,
}

impl Footprint {
    /// Of a tensor of f32 numbers that lives as a whole.
    pub fn of_tensor(dims: &[usize]) -> Self {
        let count = dims.iter().fold(1u64, |count, dim| count.saturating_mul(*dim as u64));
        let bytes = size_class(count.saturating_mul(4));
        Self { bytes, largest_buffer: bytes, largest_binding: count.saturating_mul(4) }
    }

    /// Of a linear layer's or an embedding's f32 weights: one buffer, seen by rows where a binding would be too large.
    pub fn of_dense_matrix(rows: usize, cols: usize, binding_limit: u64) -> Self {
        let whole = Self::of_tensor(&[rows, cols]);
        let held = rows_of_part(rows, cols.saturating_mul(4), binding_limit);
        Self { largest_binding: (held as u64).saturating_mul(cols as u64 * 4), ..whole }
    }

    /// Of a quantised matrix, which is split by rows where a binding would be too large.
    pub fn of_quantized_matrix(scheme: Scheme, rows: usize, cols: usize, binding_limit: u64) -> Self {
        let row_blocks = cols / BLOCK;
        let held = rows_of_part(rows, row_blocks * scheme.block_bytes(), binding_limit).max(1);
        let mut all = Self::default();
        let mut first = 0;
        while first < rows {
            let blocks = (held.min(rows - first) as u64).saturating_mul(row_blocks as u64);
            let minimums = if scheme == Scheme::Q4_1 { blocks * 2 } else { 0 };
            for bytes in [blocks.saturating_mul(scheme.block_bytes() as u64), blocks * 2, minimums].map(exact_size) {
                all.bytes += bytes;
                all.largest_buffer = all.largest_buffer.max(bytes);
                all.largest_binding = all.largest_binding.max(bytes);
            }
            first += held;
        }
        all
    }
}
