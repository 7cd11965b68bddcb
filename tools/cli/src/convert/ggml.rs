//! GGML's interleaved blocks to our separate values, scales and minima, and back; no bit changes either way.
//!
//! A GGML block is its scale (f16), for Q4_1 its minimum (f16), then its values.
//!
//! Source of the layout: ggml-org/ggml, src/ggml-common.h, `block_q4_0`, `block_q4_1`, `block_q8_0`.

use anyhow::ensure;
use bubo::bundle::{QuantizedBlocks, Scheme};
use half::f16;

/// Bytes in front of a block's values: scale and, for some, minimum.
pub fn front_bytes(scheme: Scheme) -> usize {
    if scheme == Scheme::Q4_1 { 4 } else { 2 }
}

/// Parts the blocks of a matrix `[rows, cols]` into values, scales and minima.
///
/// # Errors
/// If the bytes are not those of such a matrix.
pub fn from_ggml(scheme: Scheme, rows: usize, cols: usize, bytes: &[u8]) -> anyhow::Result<QuantizedBlocks> {
    let front = front_bytes(scheme);
    let blocks = bytes.chunks_exact(front + scheme.block_bytes());
    ensure!(blocks.remainder().is_empty(), "{} bytes are no whole number of {} blocks", bytes.len(), scheme.name());
    let (mut values, mut scales, mut mins) = (Vec::new(), Vec::new(), Vec::new());
    values.reserve_exact(blocks.len() * scheme.block_bytes());
    for block in blocks {
        scales.push(f16::from_le_bytes([block[0], block[1]]));
        if scheme == Scheme::Q4_1 {
            mins.push(f16::from_le_bytes([block[2], block[3]]));
        }
        values.extend_from_slice(&block[front..]);
    }
    Ok(QuantizedBlocks::new(scheme, rows, cols, values, scales, mins)?)
}

/// Puts scale, minimum and values of each block together again.
pub fn to_ggml(blocks: &QuantizedBlocks) -> Vec<u8> {
    let scheme = blocks.scheme();
    let mut bytes = Vec::with_capacity(blocks.scales().len() * (front_bytes(scheme) + scheme.block_bytes()));
    for (i, (scale, values)) in blocks.scales().iter().zip(blocks.values().chunks(scheme.block_bytes())).enumerate() {
        bytes.extend(scale.to_le_bytes());
        if let Some(min) = blocks.mins().get(i) {
            bytes.extend(min.to_le_bytes());
        }
        bytes.extend_from_slice(values);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::*;

    /// candle quantises and dequantises as GGML does; its bytes go here and back, and give the same numbers.
    #[test]
    fn candle_s_blocks_come_back_bit_by_bit() {
        let (rows, cols) = (7, 160);
        let data: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 173.0).collect();
        let tensor = Tensor::from_slice(&data, (rows, cols), &Device::Cpu).expect("a matrix");
        for (scheme, dtype) in
            [(Scheme::Q4_0, GgmlDType::Q4_0), (Scheme::Q4_1, GgmlDType::Q4_1), (Scheme::Q8_0, GgmlDType::Q8_0)]
        {
            let original = QTensor::quantize(&tensor, dtype).expect("it can be quantised");
            let bytes = original.data().expect("its bytes can be read");
            let blocks = from_ggml(scheme, rows, cols, &bytes).expect("they are blocks");
            assert_eq!(to_ggml(&blocks), *bytes, "{}", scheme.name());
            let numbers = original.dequantize(&Device::Cpu).expect("it can be dequantised");
            let numbers = numbers.flatten_all().and_then(|numbers| numbers.to_vec1::<f32>()).expect("f32 numbers");
            for (found, expected) in blocks.dequantize().iter().zip(&numbers) {
                // Q4_0 is scale · (nibble − 8) there and scale · nibble − 8 · scale here.
                assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} against {expected}");
            }
            assert!(from_ggml(scheme, rows, cols, &bytes[1..]).is_err());
            assert!(from_ggml(scheme, rows + 1, cols, &bytes).is_err());
        }
    }
}
