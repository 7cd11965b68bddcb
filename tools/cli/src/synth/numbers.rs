//! Seeded random numbers of a size that keeps activations within bounds through many layers.

use anyhow::{Context, Result};
use bubo::bundle::{BLOCK, Format, QuantizedBlocks, Scheme};
use half::f16;

use crate::convert::StoredTensor;
use crate::convert::checkpoint::element_count;

/// SplitMix64: small, fast, and good enough for weights that mean nothing.
///
/// Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
struct Random(u64);

impl Random {
    /// A stream for a tensor: the same seed and name give the same numbers, whatever else a bundle holds.
    fn new(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
        });
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// The numbers of a tensor of that name in the form in which a bundle stores them.
///
/// # Errors
/// If the shape is not possible in that form.
pub fn tensor(name: &str, format: Format, dims: &[usize], seed: u64) -> Result<StoredTensor> {
    let mut random = Random::new(seed, name);
    let count = element_count(dims)?;
    let (centre, spread) = centre_and_spread(name, dims);
    let mut number = || centre + spread * random.unit();
    let dims = dims.to_vec();
    match format {
        Format::F32 => Ok(StoredTensor::F32 { data: (0..count).map(|_| number()).collect(), dims }),
        Format::F16 => Ok(StoredTensor::F16 { data: (0..count).map(|_| f16::from_f32(number())).collect(), dims }),
        Format::Blocks(scheme) => {
            let &[rows, cols] = dims.as_slice() else { anyhow::bail!("blocks are for matrices, {name} is {dims:?}") };
            Ok(StoredTensor::Quantized(blocks(scheme, rows, cols, &mut random)?))
        }
    }
}

/// Norms near 1, biases near 0, variances positive, and matrices that keep the size of what goes through them.
fn centre_and_spread(name: &str, dims: &[usize]) -> (f32, f32) {
    let inputs: usize = dims.iter().skip(1).product();
    match dims.len() {
        _ if name.ends_with("running_var") => (1.0, 0.5),
        0 => (1.0, 0.0),
        1 if name.ends_with("weight") => (1.0, 0.1),
        1 => (0.0, 0.02),
        // The mean square of a uniform number within ±s is s² / 3.
        _ if name.ends_with("weight") => (0.0, (3.0 / inputs.max(1) as f32).sqrt()),
        _ => (0.0, 0.02),
    }
}

/// Random codes under one scale: 7 billion numbers are quickly made so.
fn blocks(scheme: Scheme, rows: usize, cols: usize, random: &mut Random) -> Result<QuantizedBlocks> {
    let count = rows.checked_mul(cols / BLOCK).context("too many blocks")?;
    // Standard deviations of codes of 16 and of 255 values.
    let deviation = if scheme == Scheme::Q8_0 { 73.6 } else { 4.61 };
    let scale = 1.0 / (deviation * (cols.max(1) as f32).sqrt());
    let length = count.checked_mul(scheme.block_bytes()).context("too many bytes")?;
    let mut values = Vec::with_capacity(length + 8);
    while values.len() < length {
        values.extend_from_slice(&random.next().to_le_bytes());
    }
    values.truncate(length);
    let minima = if scheme == Scheme::Q4_1 { vec![f16::from_f32(-7.5 * scale); count] } else { Vec::new() };
    Ok(QuantizedBlocks::new(scheme, rows, cols, values, vec![f16::from_f32(scale); count], minima)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(name: &str, format: Format) -> (f32, f32) {
        let tensor = tensor(name, format, &[64, 256], 7).expect("a possible shape");
        let numbers = match tensor {
            StoredTensor::F32 { data, .. } => data,
            StoredTensor::F16 { data, .. } => data.into_iter().map(f16::to_f32).collect(),
            StoredTensor::Quantized(blocks) => blocks.dequantize(),
        };
        let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
        (mean, (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / numbers.len() as f32).sqrt())
    }

    #[test]
    fn matrices_keep_the_size_of_what_goes_through_them() {
        let expected = 1.0 / 16.0; // one over the root of 256 inputs
        let schemes = [Scheme::Q4_0, Scheme::Q4_1, Scheme::Q8_0].map(Format::Blocks);
        for format in [Format::F32, Format::F16].into_iter().chain(schemes) {
            let (mean, deviation) = spread("a.weight", format);
            assert!(
                mean.abs() < 0.01 && (deviation / expected - 1.0).abs() < 0.05,
                "{}: {mean} {deviation}",
                format.name()
            );
        }
    }

    #[test]
    fn the_same_seed_and_name_give_the_same_numbers() {
        let make = |name, seed| tensor(name, Format::F32, &[5, 7], seed).expect("a possible shape");
        assert_eq!(make("a", 1), make("a", 1));
        assert_ne!(make("a", 1), make("b", 1));
        assert_ne!(make("a", 1), make("a", 2));
        let blocks = |seed| tensor("m", Format::Blocks(Scheme::Q4_0), &[3, 64], seed).expect("a possible shape");
        assert_eq!(blocks(3), blocks(3));
        assert_ne!(blocks(3), blocks(4));
        assert!(tensor("m", Format::Blocks(Scheme::Q4_0), &[3, 65], 0).is_err());
    }
}
