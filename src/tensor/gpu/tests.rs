//! What the public interface cannot reach on a healthy adapter: matrices in parts, and a lost device.

use super::matmul::{GpuMatrix, embedding, linear};
use super::*;
use crate::bundle::Scheme;

fn open() -> Option<Gpu> {
    if std::env::var_os("BUBO_SKIP_GPU").is_some_and(|value| value == "1") {
        eprintln!("\n*** BUBO_SKIP_GPU=1: THE GPU ENGINE WAS NOT TESTED ***\n");
        return None;
    }
    Some(pollster::block_on(Gpu::open()).expect("GPU tests need an adapter; BUBO_SKIP_GPU=1 skips them"))
}

fn read(tensor: &GpuTensor) -> Vec<f32> {
    pollster::block_on(tensor.to_f32()).expect("a read-back")
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 13) % 257) as f32 / 128.0 - 1.0).collect()
}

#[test]
fn a_matrix_split_by_rows_gives_what_the_whole_one_does() {
    let Some(gpu) = open() else { return };
    let (rows, cols) = (201, 32);
    let values = (0..rows * cols).map(|i| (i * 31 % 251) as u8).collect();
    let scales = numbers(rows).into_iter().map(half::f16::from_f32).collect();
    let blocks = QuantizedBlocks::new(Scheme::Q8_0, rows, cols, values, scales, Vec::new()).expect("blocks");
    let weight = GpuTensor::from_f32(&numbers(rows * cols), &[rows, cols], &gpu).expect("weights");
    // Room for 64 rows: parts of 64, 64, 64 and 9.
    let pairs = [
        (GpuMatrix::dense(&weight), Ok(GpuMatrix::dense_in_parts(&weight, 64 * 128 + 100))),
        (GpuMatrix::quantized(&blocks, &gpu), GpuMatrix::quantized_in_parts(&blocks, &gpu, 64 * 32 + 5)),
    ];
    let bias = GpuTensor::from_f32(&numbers(rows), &[rows], &gpu).expect("a bias");
    let ids = GpuTensor::from_u32(&[0, 63, 64, 191, 192, 200, 9999], &[7], &gpu).expect("ids");
    for (whole, split) in pairs {
        let (whole, split) = (whole.expect("a matrix"), split.expect("a matrix"));
        for count in [1, 5] {
            let x = GpuTensor::from_f32(&numbers(count * cols), &[count, cols], &gpu).expect("an input");
            let through = |m| read(&linear(&x, m, Some(&bias), Some(Unary::Relu)).expect("recorded"));
            assert_eq!(through(&whole), through(&split), "{count} vectors");
        }
        let rows_of = |m| read(&embedding(m, &ids).expect("recorded"));
        assert_eq!(rows_of(&whole), rows_of(&split));
    }
}

#[test]
fn a_lost_device_is_an_error_every_time() {
    let Some(gpu) = open() else { return };
    let x = GpuTensor::from_f32(&[1.0; 64], &[64], &gpu).expect("an input");
    gpu.inner.device.destroy();
    for _ in 0..2 {
        let result = x.affine(2.0, 0.0).map(|y| pollster::block_on(y.to_f32()));
        let error = result.and_then(|read| read).expect_err("the device is gone");
        assert!(matches!(error, Error::Gpu(_)), "{error}");
    }
}

#[test]
fn a_fault_is_reported_once_and_the_engine_goes_on() {
    let Some(gpu) = open() else { return };
    let x = GpuTensor::from_f32(&[1.0; 64], &[64], &gpu).expect("an input");
    // A buffer that may be mapped for reading and used as storage is against the rules.
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE;
    drop(gpu.inner.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 256,
        usage,
        mapped_at_creation: false,
    }));
    let error = pollster::block_on(x.to_f32()).expect_err("the fault");
    assert!(matches!(error, Error::Gpu(_)), "{error}");
    assert_eq!(read(&x), [1.0; 64]);
}
