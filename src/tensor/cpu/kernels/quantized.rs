//! Products with block-quantised matrices, in integers.
//!
//! Eight rows are interleaved to a panel, so that each lane of a vector belongs to a row: activations are loaded once
//! for eight rows, scales are loaded as vectors, and no lane is ever summed across. Activations are turned into
//! integers too, block by block: 8 bits are the fast choice for 4-bit weights; 16 bits cost half as much again there,
//! nothing for 8-bit weights, and are exact for practical purposes (2⁻¹⁶ of the block's largest).

use half::f16;

use super::simd::{Simd, Task, dispatch, has_fast_dot_i8};
use super::{for_each_piece, threads};
use crate::bundle::{BLOCK, QuantizedBlocks, Scheme};
use crate::error::{Error, Result};

/// Rows of a panel.
const PANEL: usize = 8;
/// Activation rows that share one pass over a panel.
const TILE: usize = 4;
/// Bytes of weights that stay in the cache while all activation rows pass over them.
const CACHED_BYTES: usize = 128 << 10;
/// A block whose largest number is smaller counts as zeros: its scale's reciprocal would not be finite.
const TINY: f32 = 1e-30;

/// A quantised matrix `[rows, cols]` in panels of eight rows, of the same size as before (but for up to seven rows).
///
/// The panel holds block column after block column; a block column holds, of each row in turn, words of 4 bytes (4-bit
/// schemes) or 2 bytes (8-bit), then the next words. Scales and minima: eight for each block column.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    scheme: Scheme,
    rows: usize,
    cols: usize,
    values: Vec<u8>,
    scales: Vec<f16>,
    mins: Vec<f16>,
}

fn word_bytes(scheme: Scheme) -> usize {
    if scheme == Scheme::Q8_0 { 2 } else { 4 }
}

/// Turns eight rows of words into words of eight rows, in place.
fn interleave<T: Copy>(rows: &mut [T], row_len: usize, word: usize, scratch: &mut Vec<T>) {
    for panel in rows.chunks_exact_mut((PANEL * row_len).max(1)) {
        scratch.clear();
        scratch.extend_from_slice(panel);
        for (at, target) in panel.chunks_exact_mut(word).enumerate() {
            let source = (at % PANEL) * row_len + at / PANEL * word;
            target.copy_from_slice(&scratch[source..source + word]);
        }
    }
}

impl PackedMatrix {
    /// Interleaves the rows in place, so memory does not double.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a scale or minimum is not finite.
    pub(crate) fn new(blocks: QuantizedBlocks) -> Result<Self> {
        let (scheme, rows, cols) = (blocks.scheme(), blocks.rows(), blocks.cols());
        let (mut values, mut scales, mut mins) = blocks.into_parts();
        if !scales.iter().chain(&mins).all(|number| number.is_finite()) {
            return Err(Error::corrupt(
                format!("{} matrix [{rows}, {cols}]", scheme.name()),
                "a scale or minimum is not a finite number",
            ));
        }
        let (padded, blocks_a_row) = (rows.next_multiple_of(PANEL), cols / BLOCK);
        let row_bytes = blocks_a_row * scheme.block_bytes();
        values.resize(padded * row_bytes, 0);
        scales.resize(padded * blocks_a_row, f16::ZERO);
        interleave(&mut values, row_bytes, word_bytes(scheme), &mut Vec::new());
        interleave(&mut scales, blocks_a_row, 1, &mut Vec::new());
        if scheme == Scheme::Q4_1 {
            mins.resize(padded * blocks_a_row, f16::ZERO);
            interleave(&mut mins, blocks_a_row, 1, &mut Vec::new());
        }
        Ok(Self { scheme, rows, cols, values, scales, mins })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Writes the values of `row`, which exists, as numbers into `out`, which has `cols` places.
    pub(crate) fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        let (bytes, word) = (self.scheme.block_bytes(), word_bytes(self.scheme));
        let first = row / PANEL * (self.cols / BLOCK);
        for (in_row, out) in out[..self.cols].chunks_exact_mut(BLOCK).enumerate() {
            let column = first + in_row;
            let at = column * PANEL + row % PANEL;
            let scale = self.scales[at].to_f32();
            let shift = match self.scheme {
                Scheme::Q4_0 => -8.0 * scale,
                Scheme::Q4_1 => self.mins[at].to_f32(),
                Scheme::Q8_0 => 0.0,
            };
            for j in 0..bytes {
                let place = column * PANEL * bytes + (j / word * PANEL + row % PANEL) * word + j % word;
                let value = self.values[place];
                if self.scheme == Scheme::Q8_0 {
                    out[j] = scale * f32::from(value as i8);
                } else {
                    out[j] = scale * f32::from(value & 15) + shift;
                    out[j + BLOCK / 2] = scale * f32::from(value >> 4) + shift;
                }
            }
        }
    }

    /// All values as numbers, row after row.
    pub(crate) fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        for (row, out) in out.chunks_exact_mut(self.cols.max(1)).enumerate() {
            self.dequantize_row(row, out);
        }
        out
    }

    /// `x` `[count, cols]` times the matrix's transpose into `out` `[count, rows]`; `exact` takes 16-bit activations
    /// where 8 bits would be faster.
    pub(crate) fn multiply(&self, x: &[f32], exact: bool, out: &mut [f32]) {
        match self.scheme {
            Scheme::Q8_0 => self.multiply_as::<Bytes>(x, out),
            _ if exact || !has_fast_dot_i8() => self.multiply_as::<WideNibbles>(x, out),
            _ => self.multiply_as::<Nibbles>(x, out),
        }
    }

    fn multiply_as<F: Format>(&self, x: &[f32], out: &mut [f32]) {
        if self.rows == 0 || x.is_empty() {
            out.fill(0.0);
            return;
        }
        let (count, columns) = (x.len() / self.cols, self.cols / BLOCK);
        let activations = dispatch(QuantizeTask::<F> { x, format: std::marker::PhantomData });
        let multiplications = count * self.rows * self.cols;
        if count == 1 {
            let panels = self.rows.div_ceil(PANEL);
            let piece = panels.div_ceil(threads());
            for_each_piece(out, piece * PANEL, multiplications, |index, out| {
                let first = index * piece;
                let panels = first..(first + piece).min(panels);
                dispatch(ProductTask::<F, 1> {
                    matrix: self,
                    panels,
                    activations: &activations,
                    out,
                    first: first * PANEL,
                });
            });
            return;
        }
        let piece = count.div_ceil(threads()).next_multiple_of(TILE);
        for_each_piece(out, piece * self.rows, multiplications, |index, out| {
            let first = index * piece * columns;
            let end = activations.len().min(first + piece * columns);
            self.multiply_rows::<F>(&activations[first..end], out);
        });
    }

    fn multiply_rows<F: Format>(&self, activations: &[Block<F>], out: &mut [f32]) {
        let (panels, columns) = (self.rows.div_ceil(PANEL), self.cols / BLOCK);
        let group = (CACHED_BYTES / (columns * size_of::<F::Packed>())).max(1);
        for first in (0..panels).step_by(group) {
            let range = first..(first + group).min(panels);
            let (tiles, rest) = activations.split_at(activations.len() / (TILE * columns) * TILE * columns);
            let (out_tiles, out_rest) = out.split_at_mut(tiles.len() / columns * self.rows);
            let tiles = tiles.chunks_exact(TILE * columns).zip(out_tiles.chunks_exact_mut(TILE * self.rows));
            for (activations, out) in tiles {
                let panels = range.clone();
                dispatch(ProductTask::<F, TILE> { matrix: self, panels, activations, out, first: 0 });
            }
            for (activations, out) in rest.chunks_exact(columns).zip(out_rest.chunks_exact_mut(self.rows)) {
                let panels = range.clone();
                dispatch(ProductTask::<F, 1> { matrix: self, panels, activations, out, first: 0 });
            }
        }
    }
}

/// 32 activations as integers: `scale · q`.
struct Block<F: Format> {
    words: F::Words,
    scale: f32,
    /// Of the integers, times the scale.
    sum: f32,
}

/// How integers of weights and activations meet.
trait Format: Sized {
    /// A block column of a panel.
    type Packed: bytemuck::Pod + Sync;
    /// Activations in the order in which they are multiplied.
    type Words: Copy + Send + Sync;
    /// Largest activation.
    const LIMIT: f32;

    fn words(q: &[i32; BLOCK]) -> Self::Words;

    /// Dot products of eight rows' weights with each of N blocks of activations.
    fn dot<S: Simd, const N: usize>(simd: S, packed: &Self::Packed, words: [&Self::Words; N]) -> [S::I; N];
}

fn pair(low: i32, high: i32) -> i32 {
    (low & 0xffff) | (high << 16)
}

/// 4-bit weights, 8-bit activations.
struct Nibbles;

impl Format for Nibbles {
    type Packed = [[u8; 32]; 4];
    type Words = [i32; 8];
    const LIMIT: f32 = 127.0;

    #[inline(always)]
    fn words(q: &[i32; BLOCK]) -> [i32; 8] {
        let mut words = [0; 8];
        for (word, q) in words.iter_mut().zip(q.as_chunks::<4>().0) {
            *word = i32::from_le_bytes(q.map(|q| q as u8));
        }
        words
    }

    #[inline(always)]
    fn dot<S: Simd, const N: usize>(simd: S, packed: &[[u8; 32]; 4], words: [&[i32; 8]; N]) -> [S::I; N] {
        let mut sums = [simd.zero(); N];
        for i in 0..4 {
            let [low, high] = simd.nibbles(simd.load_bytes(&packed[i]));
            for n in 0..N {
                sums[n] = simd.dot_i8(sums[n], words[n][i], low);
                sums[n] = simd.dot_i8(sums[n], words[n][i + 4], high);
            }
        }
        for sum in &mut sums {
            *sum = simd.pair_sums(*sum);
        }
        sums
    }
}

/// 4-bit weights, 16-bit activations.
struct WideNibbles;

impl Format for WideNibbles {
    type Packed = [[u8; 32]; 4];
    type Words = [[i32; 4]; 4];
    const LIMIT: f32 = 32767.0;

    #[inline(always)]
    fn words(q: &[i32; BLOCK]) -> [[i32; 4]; 4] {
        let mut words = [[0; 4]; 4];
        for (i, words) in words.iter_mut().enumerate() {
            let (low, high) = (4 * i, 4 * i + BLOCK / 2);
            *words = [
                pair(q[low], q[low + 2]),
                pair(q[low + 1], q[low + 3]),
                pair(q[high], q[high + 2]),
                pair(q[high + 1], q[high + 3]),
            ];
        }
        words
    }

    #[inline(always)]
    fn dot<S: Simd, const N: usize>(simd: S, packed: &[[u8; 32]; 4], words: [&[[i32; 4]; 4]; N]) -> [S::I; N] {
        let mut sums = [simd.zero(); N];
        for i in 0..4 {
            let values = simd.wide_nibbles(simd.load_bytes(&packed[i]));
            for n in 0..N {
                for j in 0..4 {
                    sums[n] = simd.dot_i16(sums[n], words[n][i][j], values[j]);
                }
            }
        }
        sums
    }
}

/// 8-bit weights, 16-bit activations.
struct Bytes;

impl Format for Bytes {
    type Packed = [[u8; 16]; 16];
    type Words = [i32; 16];
    const LIMIT: f32 = 32767.0;

    #[inline(always)]
    fn words(q: &[i32; BLOCK]) -> [i32; 16] {
        let mut words = [0; 16];
        for (word, q) in words.iter_mut().zip(q.as_chunks::<2>().0) {
            *word = pair(q[0], q[1]);
        }
        words
    }

    #[inline(always)]
    fn dot<S: Simd, const N: usize>(simd: S, packed: &[[u8; 16]; 16], words: [&[i32; 16]; N]) -> [S::I; N] {
        let mut sums = [simd.zero(); N];
        for i in 0..16 {
            let values = simd.load_widened(&packed[i]);
            for n in 0..N {
                sums[n] = simd.dot_i16(sums[n], words[n][i], values);
            }
        }
        sums
    }
}

struct QuantizeTask<'a, F> {
    x: &'a [f32],
    format: std::marker::PhantomData<F>,
}

impl<F: Format> Task for QuantizeTask<'_, F> {
    type Output = Vec<Block<F>>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<Block<F>> {
        let (blocks, _) = self.x.as_chunks::<BLOCK>();
        let mut out = Vec::with_capacity(blocks.len());
        for x in blocks {
            // As integers, so that not-a-number is larger than infinity and reaches the result through the scale.
            let mut largest = 0;
            for x in x {
                largest = largest.max(x.to_bits() & 0x7fff_ffff);
            }
            let largest = f32::from_bits(largest);
            let inverse = if largest < TINY { 0.0 } else { F::LIMIT / largest };
            let scale = largest / F::LIMIT;
            let (mut q, mut sum) = ([0; BLOCK], 0i32);
            for (q, x) in q.iter_mut().zip(x) {
                // The sum's low bits hold the rounded integer.
                *q = ((x * inverse + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4b40_0000);
                sum = sum.wrapping_add(*q);
            }
            out.push(Block { words: F::words(&q), scale, sum: scale * sum as f32 });
        }
        out
    }
}

/// N rows of activations times some panels; `out` holds N rows that begin with the matrix's row `first`.
struct ProductTask<'a, F: Format, const N: usize> {
    matrix: &'a PackedMatrix,
    panels: std::ops::Range<usize>,
    activations: &'a [Block<F>],
    out: &'a mut [f32],
    first: usize,
}

impl<F: Format, const N: usize> Task for ProductTask<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let columns = self.matrix.cols / BLOCK;
        let out_len = self.out.len() / N;
        let (packed, _): (&[[u8; PANEL]], _) = self.matrix.values.as_chunks();
        let packed: &[F::Packed] = bytemuck::cast_slice(packed);
        let (scales, _) = self.matrix.scales.as_chunks::<PANEL>();
        let (mins, _) = self.matrix.mins.as_chunks::<PANEL>();
        let mut activations = [&self.activations[..columns]; N];
        for (n, activations) in activations.iter_mut().enumerate() {
            *activations = &self.activations[n * columns..(n + 1) * columns];
        }
        for panel in self.panels {
            let range = panel * columns..(panel + 1) * columns;
            let (packed, scales) = (&packed[range.clone()], &scales[range.clone()]);
            let sums = match self.matrix.scheme {
                Scheme::Q4_1 => panel_product::<S, F, N, 1>(simd, packed, scales, &mins[range], activations),
                Scheme::Q4_0 => panel_product::<S, F, N, 2>(simd, packed, scales, scales, activations),
                Scheme::Q8_0 => panel_product::<S, F, N, 0>(simd, packed, scales, scales, activations),
            };
            let at = panel * PANEL - self.first;
            let len = PANEL.min(out_len - at);
            for (n, sums) in sums.into_iter().enumerate() {
                let mut lanes = [0.0; PANEL];
                simd.store(sums, &mut lanes);
                let start = n * out_len + at;
                self.out[start..start + len].copy_from_slice(&lanes[..len]);
            }
        }
    }
}

/// Eight rows times N rows of activations. MIN: 0 no minimum, 1 in `mins`, 2 −8 scales.
#[inline(always)]
fn panel_product<S: Simd, F: Format, const N: usize, const MIN: usize>(
    simd: S,
    packed: &[F::Packed],
    scales: &[[f16; PANEL]],
    mins: &[[f16; PANEL]],
    activations: [&[Block<F>]; N],
) -> [S::F; N] {
    let columns = packed.len();
    let (scales, mins) = (&scales[..columns], &mins[..columns]);
    let mut activations = activations;
    for activations in &mut activations {
        *activations = &activations[..columns];
    }
    let mut sums = [simd.splat(0.0); N];
    for i in 0..columns {
        let mut words = [&activations[0][i].words; N];
        for n in 1..N {
            words[n] = &activations[n][i].words;
        }
        let dots = F::dot(simd, &packed[i], words);
        let scale = simd.load_f16(&scales[i]);
        let min = if MIN == 2 { simd.mul(scale, simd.splat(-8.0)) } else { simd.load_f16(&mins[i]) };
        for n in 0..N {
            let activation = &activations[n][i];
            let factor = simd.mul(scale, simd.splat(activation.scale));
            sums[n] = simd.mul_add(simd.to_f32(dots[n]), factor, sums[n]);
            if MIN != 0 {
                sums[n] = simd.mul_add(min, simd.splat(activation.sum), sums[n]);
            }
        }
    }
    sums
}
