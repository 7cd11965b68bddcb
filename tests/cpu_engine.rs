//! The CPU engine's fast paths against plain definitions, on sizes that fit no tile: 0, 1, primes.

use bubo::bundle::{BLOCK, QuantizedBlocks, Scheme};
use bubo::tensor::{Device, Matrix, Precision, Tensor};
use half::f16;

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Between −1 and 1.
    fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    fn blocks(&mut self, scheme: Scheme, rows: usize, cols: usize) -> QuantizedBlocks {
        let blocks = rows * cols / BLOCK;
        let values = (0..blocks * scheme.block_bytes()).map(|_| self.bits() as u8).collect();
        let scales = (0..blocks).map(|_| f16::from_f32(self.number() * 0.1)).collect();
        let mins = if scheme == Scheme::Q4_1 { blocks } else { 0 };
        let mins = (0..mins).map(|_| f16::from_f32(self.number())).collect();
        QuantizedBlocks::new(scheme, rows, cols, values, scales, mins).unwrap()
    }
}

fn tensor(data: &[f32], dims: &[usize]) -> Tensor {
    Tensor::from_f32(data, dims, &Device::Cpu).unwrap()
}

fn read(tensor: &Tensor) -> Vec<f32> {
    pollster::block_on(tensor.to_f32()).unwrap()
}

const SCHEMES: [Scheme; 3] = [Scheme::Q4_0, Scheme::Q4_1, Scheme::Q8_0];

#[test]
fn quantized_products_are_within_the_rounding_of_activations() {
    let mut random = Random(7);
    let mut failures = Vec::new();
    for scheme in SCHEMES {
        for (count, rows, cols) in [
            (1, 1, 32),
            (1, 8, 64),
            (1, 13, 576),
            (2, 7, 96),
            (4, 16, 64),
            (5, 50, 160),
            (9, 257, 1536),
            (1, 4001, 640),
        ] {
            let blocks = random.blocks(scheme, rows, cols);
            let weight = blocks.dequantize();
            let x = random.numbers(count * cols);
            for (precision, limit) in [(Precision::Exact, 32767.0), (Precision::Fast, 127.0)] {
                let limit = if scheme == Scheme::Q8_0 { 32767.0 } else { limit };
                let matrix = Matrix::quantized(blocks.clone(), &Device::Cpu).unwrap().with_precision(precision);
                let out = read(&tensor(&x, &[count, cols]).linear(&matrix, None, None).unwrap());
                for (at, found) in out.iter().enumerate() {
                    let (x, w) = (&x[at / rows * cols..][..cols], &weight[at % rows * cols..][..cols]);
                    let (mut expected, mut allowed) = (0f64, 0f64);
                    for (x, w) in x.chunks_exact(BLOCK).zip(w.chunks_exact(BLOCK)) {
                        let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
                        // Half a step of an activation; and f32 sums of some thousand terms.
                        let step = f64::from(largest) * (0.5 / limit + 4e-6);
                        allowed += w.iter().map(|w| f64::from(w.abs()) * step).sum::<f64>();
                        expected += x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
                    }
                    if (f64::from(*found) - expected).abs() > allowed {
                        failures.push(format!(
                            "{scheme:?} {precision:?} {count}×{rows}×{cols} at {at}: {found} for {expected} ± {allowed}"
                        ));
                        break;
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn quantized_rows_come_back_as_they_were_stored() {
    let mut random = Random(11);
    for scheme in SCHEMES {
        for (rows, cols) in [(1, 32), (8, 64), (19, 96)] {
            let blocks = random.blocks(scheme, rows, cols);
            let matrix = Matrix::quantized(blocks.clone(), &Device::Cpu).unwrap();
            let ids: Vec<u32> = (0..rows as u32).rev().collect();
            let ids = Tensor::from_u32(&ids, &[rows], &Device::Cpu).unwrap();
            let found = read(&Tensor::embedding(&matrix, &ids).unwrap());
            let expected: Vec<f32> = blocks.dequantize().chunks_exact(cols).rev().flat_map(<[f32]>::to_vec).collect();
            assert_eq!(found, expected, "{scheme:?} {rows}×{cols}");
            let beyond = Tensor::from_u32(&[rows as u32], &[1], &Device::Cpu).unwrap();
            assert!(Tensor::embedding(&matrix, &beyond).is_err());
        }
    }
}

#[test]
fn quantized_products_of_nothing_and_of_what_is_no_number() {
    let mut random = Random(13);
    for scheme in SCHEMES {
        for (count, rows, cols) in [(0, 5, 32), (3, 0, 32), (3, 5, 0), (0, 0, 0)] {
            let matrix = Matrix::quantized(random.blocks(scheme, rows, cols), &Device::Cpu).unwrap();
            let out = tensor(&random.numbers(count * cols), &[count, cols]).linear(&matrix, None, None).unwrap();
            assert_eq!((out.dims(), read(&out)), (&[count, rows][..], vec![0.0; count * rows]));
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for precision in [Precision::Exact, Precision::Fast] {
                let matrix =
                    Matrix::quantized(random.blocks(scheme, 9, 64), &Device::Cpu).unwrap().with_precision(precision);
                let mut x = random.numbers(64);
                x[40] = bad;
                let out = read(&tensor(&x, &[64]).linear(&matrix, None, None).unwrap());
                assert!(out.iter().all(|x| !x.is_finite()), "{scheme:?} {bad} {out:?}");
            }
        }
        // Numbers whose reciprocal overflows count as zeros.
        let matrix = Matrix::quantized(random.blocks(scheme, 9, 64), &Device::Cpu).unwrap();
        let out = read(&tensor(&[f32::from_bits(3); 64], &[64]).linear(&matrix, None, None).unwrap());
        assert!(out.iter().all(|x| x.abs() < 1e-30));
    }
    let blocks = QuantizedBlocks::new(Scheme::Q8_0, 1, 32, vec![1; 32], vec![f16::INFINITY], vec![]).unwrap();
    assert!(Matrix::quantized(blocks, &Device::Cpu).is_err());
}
