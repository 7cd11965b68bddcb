//! Numbers to blocks of 32: by each block's range, or with scales fitted by least squares.

use bubo::bundle::{BLOCK, QuantizedBlocks, Scheme};
use half::f16;

use super::{Part, PartTensor, StoredTensor};

/// How scales are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// From the block's largest and smallest number, as GGML's reference quantisers do.
    Range,
    /// From there on, scale and minimum are fitted to the rounded numbers by least squares, and these rounded again,
    /// as long as the squared error falls; from several starts.
    LeastSquares,
}

/// What matrices shall become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The scheme.
    pub scheme: Scheme,
    /// How scales are found.
    pub fit: Fit,
}

/// Rounds that a fit may take; it mostly stops after three.
const MAX_ROUNDS: usize = 12;
/// A fit starts from ranges narrowed by these factors: outliers may be worth cutting off. The negative ones turn the
/// scale of q4_0 round, whose codes reach farther down than up; they are of no use to the other schemes.
const STARTS: [f32; 9] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7, -1.14, -1.0, -0.9];

/// Quantises a row-major matrix; `None` if its columns are not a multiple of 32, or a number is not finite.
///
/// # Panics
/// If `data` has not `rows · cols` numbers: the caller's fault.
pub fn quantize(data: &[f32], rows: usize, cols: usize, target: Target) -> Option<QuantizedBlocks> {
    assert_eq!(data.len(), rows * cols, "a matrix [{rows}, {cols}]");
    if !cols.is_multiple_of(BLOCK) || data.iter().any(|number| !number.is_finite()) {
        return None;
    }
    let blocks = data.as_chunks::<BLOCK>().0;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = blocks.len().div_ceil(threads).max(1);
    // Blocks know nothing of each other, so the result does not depend on the number of threads.
    let packed: Vec<Packed> = std::thread::scope(|scope| {
        let running: Vec<_> = blocks.chunks(share).map(|blocks| scope.spawn(|| pack(blocks, target))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let (mut values, mut scales, mut mins) = (Vec::new(), Vec::new(), Vec::new());
    values.reserve_exact(blocks.len() * target.scheme.block_bytes());
    for packed in packed {
        values.extend(packed.values);
        scales.extend(packed.scales);
        mins.extend(packed.mins);
    }
    QuantizedBlocks::new(target.scheme, rows, cols, values, scales, mins).ok()
}

/// Some blocks as they are stored.
struct Packed {
    values: Vec<u8>,
    scales: Vec<f16>,
    mins: Vec<f16>,
}

fn pack(blocks: &[[f32; BLOCK]], target: Target) -> Packed {
    let scheme = target.scheme;
    let mut packed = Packed { values: Vec::new(), scales: Vec::with_capacity(blocks.len()), mins: Vec::new() };
    packed.values.reserve_exact(blocks.len() * scheme.block_bytes());
    for numbers in blocks {
        let block = match target.fit {
            Fit::Range => Block::by_range(numbers, scheme, 1.0),
            Fit::LeastSquares => Block::fitted(numbers, scheme),
        };
        packed.scales.push(block.scale);
        if scheme == Scheme::Q4_1 {
            packed.mins.push(block.min);
        }
        match scheme {
            Scheme::Q8_0 => packed.values.extend(block.codes.map(|code| (code as i8) as u8)),
            Scheme::Q4_0 | Scheme::Q4_1 => {
                let (low, high) = block.codes.split_at(BLOCK / 2);
                let shift = if scheme == Scheme::Q4_0 { 8 } else { 0 };
                packed.values.extend(
                    low.iter().zip(high).map(|(low, high)| (low + shift) as u8 | (((high + shift) as u8) << 4)),
                );
            }
        }
    }
    packed
}

/// One block: number i is `scale · codes[i] + min`.
#[derive(Debug, Clone, Copy)]
struct Block {
    scale: f16,
    min: f16,
    codes: [i16; BLOCK],
}

/// Smallest and largest code of a scheme.
fn code_range(scheme: Scheme) -> (f32, f32) {
    match scheme {
        Scheme::Q4_0 => (-8.0, 7.0),
        Scheme::Q4_1 => (0.0, 15.0),
        Scheme::Q8_0 => (-127.0, 127.0),
    }
}

/// The nearest f16 that is finite.
fn finite_half(number: f32) -> f16 {
    f16::from_f32(number.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// The nearest whole number, of two the even one, of a number within ±2¹⁵. `f32::round` is a call of a function on
/// processors that have to do without SSE4.1; this is an addition, and four fit into one.
fn rounded(number: f32) -> i16 {
    /// 1.5 · 2²³: with it, a float's last bits are the whole number's.
    const SHIFT: f32 = 12_582_912.0;
    (number + SHIFT).to_bits() as u16 as i16
}

/// The sum over a block, in eight lanes that run side by side.
fn sum(of: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0f32; LANES];
    for start in (0..BLOCK).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += of(start + lane);
        }
    }
    lanes.iter().sum()
}

impl Block {
    /// Rounds numbers to codes for a scale and a minimum as they will be stored.
    fn round(numbers: &[f32; BLOCK], scheme: Scheme, scale: f32, min: f32) -> Self {
        let (scale, min) = (finite_half(scale), finite_half(min));
        let (lowest, highest) = code_range(scheme);
        let inverse = if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() };
        let min_used = min.to_f32();
        let codes = numbers.map(|number| rounded(((number - min_used) * inverse).clamp(lowest, highest)));
        Self { scale, min, codes }
    }

    /// Takes the scale from the range of the numbers, times `share`.
    fn by_range(numbers: &[f32; BLOCK], scheme: Scheme, share: f32) -> Self {
        let lowest = numbers.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The number farthest from zero, with its sign, gets the code −8, of which there is one more than of +7.
        let extreme = if -lowest >= highest { lowest } else { highest };
        match scheme {
            Scheme::Q4_0 => Self::round(numbers, scheme, extreme * share / -8.0, 0.0),
            Scheme::Q8_0 => Self::round(numbers, scheme, extreme.abs() * share / 127.0, 0.0),
            Scheme::Q4_1 => {
                let cut = (highest - lowest) * (1.0 - share) / 2.0;
                Self::round(numbers, scheme, (highest - lowest) * share / 15.0, lowest + cut)
            }
        }
    }

    fn squared_error(&self, numbers: &[f32; BLOCK]) -> f32 {
        let (scale, min) = (self.scale.to_f32(), self.min.to_f32());
        let apart = |i: usize| numbers[i] - (scale * f32::from(self.codes[i]) + min);
        sum(|i| apart(i) * apart(i))
    }

    /// The scale and minimum for which the present codes are nearest to the numbers.
    fn least_squares(&self, numbers: &[f32; BLOCK], scheme: Scheme) -> (f32, f32) {
        let code = |i: usize| f32::from(self.codes[i]);
        let (cc, cx) = (sum(|i| code(i) * code(i)), sum(|i| code(i) * numbers[i]));
        if scheme != Scheme::Q4_1 {
            return (if cc > 0.0 { cx / cc } else { 0.0 }, 0.0);
        }
        let [cc, cx, c, x] = [cc, cx, sum(code), sum(|i| numbers[i])].map(f64::from);
        let n = BLOCK as f64;
        let determinant = n * cc - c * c;
        if determinant <= 0.0 {
            return (self.scale.to_f32(), (x / n) as f32);
        }
        let scale = (n * cx - c * x) / determinant;
        (scale as f32, ((x - scale * c) / n) as f32)
    }

    fn fitted(numbers: &[f32; BLOCK], scheme: Scheme) -> Self {
        let mut best = Self::by_range(numbers, scheme, 1.0);
        let mut best_error = best.squared_error(numbers);
        for share in STARTS.into_iter().filter(|share| *share > 0.0 || scheme == Scheme::Q4_0) {
            let mut block = Self::by_range(numbers, scheme, share);
            let mut error = block.squared_error(numbers);
            for _ in 0..MAX_ROUNDS {
                let (scale, min) = block.least_squares(numbers, scheme);
                let next = Self::round(numbers, scheme, scale, min);
                let next_error = next.squared_error(numbers);
                if next_error >= error {
                    break;
                }
                (block, error) = (next, next_error);
            }
            if error < best_error {
                (best, best_error) = (block, error);
            }
        }
        best
    }
}

/// The same part with its matrices quantised. Only tensors of two axes whose name ends in `weight` are; columns that are
/// no multiple of 32 stay f16, and are reported on standard error.
pub fn quantized_part(part: Part, target: Target) -> Part {
    let tensors = part.tensors.into_iter().map(|tensor| {
        let PartTensor { name, load } = tensor;
        let for_load = name.clone();
        PartTensor { name, load: Box::new(move || Ok(quantized_tensor(&for_load, load()?, target))) }
    });
    Part { tensors: tensors.collect(), ..part }
}

fn quantized_tensor(name: &str, stored: StoredTensor, target: Target) -> StoredTensor {
    let (dims, data) = match stored {
        StoredTensor::F32 { dims, data } => (dims, data),
        StoredTensor::F16 { dims, data } => (dims, data.into_iter().map(f16::to_f32).collect()),
        StoredTensor::Quantized(blocks) => return StoredTensor::Quantized(blocks),
    };
    match dims.as_slice() {
        &[rows, cols] if name.ends_with("weight") => match quantize(&data, rows, cols, target) {
            Some(blocks) => StoredTensor::Quantized(blocks),
            None => {
                eprintln!(
                    "{name} [{rows}, {cols}] stays f16: blocks need finite numbers and columns in multiples of 32"
                );
                StoredTensor::F16 { dims, data: data.into_iter().map(f16::from_f32).collect() }
            }
        },
        _ => StoredTensor::F32 { dims, data },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers like those of trained weights: nearly normal, some far out.
    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let mut normal = move || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
        (0..count).map(|i| if i % 97 == 0 { normal() * 4.0 } else { normal() }).collect()
    }

    fn mean_square_error(data: &[f32], blocks: &QuantizedBlocks) -> f64 {
        let apart = data.iter().zip(blocks.dequantize()).map(|(a, b)| f64::from(a - b).powi(2));
        apart.sum::<f64>() / data.len() as f64
    }

    #[test]
    fn range_is_within_half_a_step() {
        let data = numbers(64 * 96);
        for (scheme, steps) in [(Scheme::Q4_0, 8.0), (Scheme::Q4_1, 15.0), (Scheme::Q8_0, 127.0)] {
            let blocks = quantize(&data, 64, 96, Target { scheme, fit: Fit::Range }).expect("96 columns");
            for (block, (row, found)) in data.chunks(BLOCK).zip(blocks.dequantize().chunks(BLOCK)).enumerate() {
                let low = row.iter().copied().fold(f32::INFINITY, f32::min);
                let high = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let range = if scheme == Scheme::Q4_1 { high - low } else { high.abs().max(low.abs()) };
                // A whole step at the far end of q4_0, half elsewhere; the f16 of the scale costs another 2⁻¹¹.
                let allowed = range / steps * if scheme == Scheme::Q4_0 { 1.01 } else { 0.51 } + range * 1e-3;
                for (a, b) in row.iter().zip(found) {
                    assert!((a - b).abs() <= allowed, "{} block {block}: {a} became {b}", scheme.name());
                }
            }
        }
    }

    #[test]
    fn least_squares_is_better_than_range() {
        let data = numbers(64 * 256);
        for (scheme, at_most) in [(Scheme::Q4_0, 0.95), (Scheme::Q4_1, 0.9), (Scheme::Q8_0, 1.0)] {
            let error = |fit| {
                let blocks = quantize(&data, 64, 256, Target { scheme, fit }).expect("256 columns");
                mean_square_error(&data, &blocks)
            };
            let (range, fitted) = (error(Fit::Range), error(Fit::LeastSquares));
            println!("{}: range {range:.3e}, least squares {fitted:.3e}", scheme.name());
            assert!(fitted <= at_most * range, "{}: {fitted} against {range}", scheme.name());
        }
    }

    #[test]
    fn values_on_the_grid_stay_as_they_are() {
        let codes: Vec<f32> = (0..64).map(|i| ((i * 7) % 16) as f32).collect();
        for fit in [Fit::Range, Fit::LeastSquares] {
            let q4_1: Vec<f32> = codes.iter().map(|code| code * 0.25 - 1.5).collect();
            let blocks = quantize(&q4_1, 2, 32, Target { scheme: Scheme::Q4_1, fit }).expect("32 columns");
            assert_eq!(blocks.dequantize(), q4_1);
            let q4_0: Vec<f32> = codes.iter().map(|code| (code - 8.0) * 0.5).collect();
            let blocks = quantize(&q4_0, 2, 32, Target { scheme: Scheme::Q4_0, fit }).expect("32 columns");
            assert_eq!(blocks.dequantize(), q4_0);
            let zeros = quantize(&[0.0; 32], 1, 32, Target { scheme: Scheme::Q8_0, fit }).expect("32 columns");
            assert_eq!(zeros.dequantize(), [0.0; 32]);
        }
    }

    #[test]
    fn what_cannot_be_quantised_is_left_alone() {
        let target = Target { scheme: Scheme::Q4_1, fit: Fit::Range };
        assert!(quantize(&[1.0; 33], 1, 33, target).is_none());
        assert!(quantize(&[f32::NAN; 32], 1, 32, target).is_none());
        assert!(quantize(&[], 0, 32, target).is_some());
        let huge = quantize(&[3e38; 32], 1, 32, target).expect("32 columns");
        assert!(huge.dequantize().iter().all(|number| number.is_finite()));
    }
}
