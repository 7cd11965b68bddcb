//! The CPU engine's fast paths against plain definitions, on sizes that fit no tile: 0, 1, primes.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is the message")]

use bubo::bundle::{BLOCK, QuantizedBlocks, Scheme};
use bubo::tensor::{
    Attention, Conv2d, ConvKernel, Device, Matrix, Padding, Pool, PoolKind, Precision, Reduce, Resize, Tensor, Unary,
};
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

/// The same numbers as a variable of candle's, so that operations go through those that can be differentiated.
fn tracked(tensor: &Tensor) -> Tensor {
    let variable = candle_core::Var::from_tensor(tensor.as_candle().unwrap()).unwrap();
    Tensor::from_candle(variable.as_tensor().clone())
}

/// Says where two results differ by more than `tolerance` times the larger of 1 and the expected number.
fn difference(name: &str, found: &Tensor, expected: &Tensor, tolerance: f32) -> Option<String> {
    if found.dims() != expected.dims() {
        return Some(format!("{name}: {:?} for {:?}", found.dims(), expected.dims()));
    }
    let (found, expected) = (read(found), read(expected));
    let wrong = |i: &usize| {
        let (a, b) = (found[*i], expected[*i]);
        a != b && (a - b).abs() > tolerance * b.abs().max(1.0) || a.is_nan() != b.is_nan()
    };
    (0..found.len()).find(wrong).map(|i| format!("{name} at {i}: {} for {}", found[i], expected[i]))
}

#[test]
fn kernels_equal_the_differentiable_operations() {
    let mut random = Random(17);
    let mut failures: Vec<Option<String>> = Vec::new();
    for dim in [1, 2, 7, 8, 9, 31, 64, 577] {
        for rows in [1, 3, 8] {
            let numbers: Vec<f32> = random.numbers(rows * dim).iter().map(|x| x * 6.0).collect();
            let x = tensor(&numbers, &[rows, dim]);
            let (weight, bias) = (tensor(&random.numbers(dim), &[dim]), tensor(&random.numbers(dim), &[dim]));
            let t = tracked(&x);
            let name = format!("{rows}×{dim}");
            let mut check = |op: &str, a: Tensor, b: Tensor| {
                failures.push(difference(&format!("{op} {name}"), &a, &b, 1e-5));
            };
            check("softmax", x.softmax().unwrap(), t.softmax().unwrap());
            check("rms_norm", x.rms_norm(&weight, 1e-5).unwrap(), t.rms_norm(&weight, 1e-5).unwrap());
            if dim > 2 {
                // Of two numbers, or one, the variance may be all rounding.
                let (a, b) = (x.layer_norm(&weight, &bias, 1e-5), t.layer_norm(&weight, &bias, 1e-5));
                check("layer_norm", a.unwrap(), b.unwrap());
            }
            use Unary::*;
            for op in [Silu, Sigmoid, Tanh, Gelu, GeluTanh, Relu, Relu6, LeakyRelu(0.1), Clamp(-1.0, 2.0)] {
                check(&format!("{op:?}"), x.unary(op).unwrap(), t.unary(op).unwrap());
                let applied: Vec<f32> = numbers.iter().map(|x| op.apply(*x)).collect();
                check(&format!("{op:?} by definition"), x.unary(op).unwrap(), tensor(&applied, &[rows, dim]));
            }
        }
    }
    for (batch, channels, groups, plane) in [(1, 4, 2, 9), (2, 6, 3, 1), (2, 6, 1, 35), (1, 8, 8, 64)] {
        let x = tensor(&random.numbers(batch * channels * plane), &[batch, channels, plane]);
        let (w, b) = (tensor(&random.numbers(channels), &[channels]), tensor(&random.numbers(channels), &[channels]));
        let (found, expected) = (x.group_norm(groups, &w, &b, 1e-5), tracked(&x).group_norm(groups, &w, &b, 1e-5));
        failures.push(difference("group_norm", &found.unwrap(), &expected.unwrap(), 1e-4));
    }
    for (seq, dim, start) in [(1, 2, 0), (1, 64, 5), (7, 6, 3), (3, 32, 0)] {
        let x = tensor(&random.numbers(2 * 3 * seq * dim), &[2, 3, seq, dim]);
        let table = |random: &mut Random| tensor(&random.numbers(10 * dim / 2), &[10, dim / 2]);
        let (cos, sin) = (table(&mut random), table(&mut random));
        let (found, expected) = (x.rope(&cos, &sin, start), tracked(&x).rope(&cos, &sin, start));
        failures.push(difference("rope", &found.unwrap(), &expected.unwrap(), 1e-6));
    }
    for (m, k, n) in [(1, 1, 1), (1, 64, 33), (2, 7, 5), (5, 100, 17), (16, 8, 16), (37, 65, 41), (70, 3, 2)] {
        let (a, b) = (tensor(&random.numbers(2 * m * k), &[2, m, k]), tensor(&random.numbers(2 * k * n), &[2, k, n]));
        let b_transposed = b.transpose(1, 2).unwrap();
        let expected = tracked(&a).matmul(&b).unwrap();
        failures.push(difference(&format!("matmul {m}×{k}×{n}"), &a.matmul(&b).unwrap(), &expected, 1e-5));
        let found = a.matmul_transposed(&b_transposed).unwrap();
        failures.push(difference(&format!("matmul_transposed {m}×{k}×{n}"), &found, &expected, 1e-5));
        let weight = b_transposed.narrow(0, 1, 1).unwrap().reshape(&[n, k]).unwrap();
        let (matrix, bias) = (Matrix::dense(&weight).unwrap(), tensor(&random.numbers(n), &[n]));
        for activation in [None, Some(Unary::Relu), Some(Unary::LeakyRelu(0.2)), Some(Unary::Gelu)] {
            let found = a.linear(&matrix, Some(&bias), activation).unwrap();
            let expected = tracked(&a).linear(&matrix, Some(&bias), activation).unwrap();
            failures.push(difference(&format!("linear {m}×{k}×{n} {activation:?}"), &found, &expected, 1e-5));
        }
    }
    let failures: Vec<String> = failures.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn attention_equals_its_definition() {
    let mut random = Random(19);
    let mut failures = Vec::new();
    struct Case {
        heads: [usize; 2],
        queries: usize,
        keys: usize,
        capacity: usize,
        dims: [usize; 2],
        causal_start: Option<usize>,
        mask: Option<[usize; 4]>,
    }
    let case = |heads, queries, keys, capacity, dims, causal_start, mask| Case {
        heads,
        queries,
        keys,
        capacity,
        dims,
        causal_start,
        mask,
    };
    for case in [
        case([1, 1], 1, 1, 1, [1, 1], None, None),
        case([9, 3], 1, 37, 64, [64, 64], Some(36), None),
        case([9, 3], 5, 21, 32, [64, 64], Some(16), None),
        case([4, 2], 70, 75, 80, [16, 40], Some(5), None),
        case([2, 2], 17, 13, 13, [8, 5], None, None),
        case([2, 1], 11, 9, 10, [7, 33], None, Some([1, 1, 11, 9])),
        case([2, 2], 3, 9, 9, [8, 8], None, Some([2, 1, 1, 9])),
        case([2, 2], 65, 66, 66, [8, 8], Some(1), Some([1, 2, 65, 66])),
    ] {
        let Case { heads: [heads, key_heads], queries, keys, capacity, dims: [dim, value_dim], .. } = case;
        let q = tensor(&random.numbers(2 * heads * queries * dim), &[2, heads, queries, dim]);
        let k = tensor(&random.numbers(2 * key_heads * capacity * dim), &[2, key_heads, capacity, dim]);
        let v = tensor(&random.numbers(2 * key_heads * capacity * value_dim), &[2, key_heads, capacity, value_dim]);
        let mask = case.mask.map(|dims| {
            let mut numbers = random.numbers(dims.iter().product());
            numbers.iter_mut().skip(1).step_by(3).for_each(|x| *x = f32::NEG_INFINITY);
            tensor(&numbers, &dims)
        });
        let options = Attention { scale: 0.3, key_count: keys, causal_start: case.causal_start, mask: mask.as_ref() };
        let found = q.attention(&k, &v, &options).unwrap();
        let expected = tracked(&q).attention(&k, &v, &options).unwrap();
        failures.extend(difference(&format!("{heads} heads {queries}×{keys}×{dim}"), &found, &expected, 1e-5));
    }
    assert!(failures.is_empty(), "{failures:#?}");
    // A query that sees nothing gives zeros.
    let (q, mask) = (tensor(&[1.0; 4], &[1, 1, 2, 2]), tensor(&[f32::NEG_INFINITY, 0.0], &[1, 1, 2, 1]));
    let options = Attention { scale: 1.0, key_count: 2, causal_start: None, mask: Some(&mask) };
    assert_eq!(read(&q.attention(&q, &q, &options).unwrap()), [0.0, 0.0, 1.0, 1.0]);
}

/// The definition, in f64.
fn convolve(x: &Tensor, weight: &Tensor, bias: &[f32], options: &Conv2d, size: [usize; 2]) -> Tensor {
    let [batch, channels, height, width] = x.dims_of("x").unwrap();
    let [out, in_group, kernel_height, kernel_width] = weight.dims_of("weight").unwrap();
    let (pixels, weights) = (read(x), read(weight));
    let mut result = Vec::new();
    for (b, o, row, column) in (0..batch * out * size[0] * size[1])
        .map(|i| (i / (out * size[0] * size[1]), i / (size[0] * size[1]) % out, i / size[1] % size[0], i % size[1]))
    {
        let mut sum = f64::from(bias[o]);
        for (c, ky, kx) in (0..in_group * kernel_height * kernel_width)
            .map(|i| (i / (kernel_height * kernel_width), i / kernel_width % kernel_height, i % kernel_width))
        {
            let y = (row * options.stride[0] + ky * options.dilation[0]).wrapping_sub(options.padding.top);
            let x = (column * options.stride[1] + kx * options.dilation[1]).wrapping_sub(options.padding.left);
            if y < height && x < width {
                let channel = o / (out / options.groups) * in_group + c;
                let pixel = pixels[((b * channels + channel) * height + y) * width + x];
                let weight = weights[((o * in_group + c) * kernel_height + ky) * kernel_width + kx];
                sum += f64::from(pixel) * f64::from(weight);
            }
        }
        result.push(options.activation.map_or(sum as f32, |op| op.apply(sum as f32)));
    }
    tensor(&result, &[batch, out, size[0], size[1]])
}

#[test]
fn convolutions_equal_their_definition() {
    let mut random = Random(23);
    let mut failures = Vec::new();
    let pad = |top, left, bottom, right| Padding { top, left, bottom, right };
    // Batch, input, output channels; height, width; kernel; stride; dilation; padding; groups.
    type Case = ([usize; 3], [usize; 2], [usize; 2], [usize; 2], [usize; 2], Padding, usize);
    let cases: [Case; 24] = [
        ([1, 1, 1], [1, 1], [1, 1], [1, 1], [1, 1], pad(0, 0, 0, 0), 1),
        ([2, 3, 5], [7, 7], [1, 1], [1, 1], [1, 1], pad(0, 0, 0, 0), 1),
        ([1, 6, 9], [4, 8], [1, 1], [1, 1], [1, 1], pad(0, 0, 0, 0), 3),
        ([1, 4, 4], [5, 9], [1, 1], [2, 2], [1, 1], pad(0, 0, 0, 0), 1),
        ([1, 3, 16], [40, 40], [3, 3], [1, 1], [1, 1], Padding::all(1), 1),
        ([1, 16, 17], [13, 21], [3, 3], [1, 1], [1, 1], Padding::all(1), 1),
        ([2, 5, 3], [20, 20], [3, 3], [1, 1], [8, 8], Padding::all(8), 1),
        ([1, 5, 4], [5, 5], [3, 3], [1, 1], [8, 8], Padding::all(8), 1),
        ([1, 3, 32], [23, 22], [3, 3], [2, 2], [1, 1], pad(0, 0, 1, 1), 1),
        ([1, 3, 8], [23, 22], [3, 3], [2, 2], [1, 1], Padding::all(1), 1),
        ([1, 2, 4], [19, 31], [5, 3], [3, 2], [2, 1], pad(1, 2, 3, 4), 1),
        ([1, 2, 4], [11, 12], [3, 5], [1, 3], [1, 2], pad(2, 1, 0, 3), 2),
        ([1, 8, 8], [9, 10], [3, 3], [1, 1], [1, 1], pad(1, 0, 1, 2), 2),
        ([2, 7, 7], [14, 14], [3, 3], [1, 1], [1, 1], Padding::all(1), 7),
        ([1, 4, 4], [15, 17], [5, 5], [2, 2], [1, 1], pad(1, 1, 2, 2), 4),
        ([1, 3, 6], [9, 33], [3, 3], [1, 1], [2, 2], Padding::all(2), 3),
        ([1, 3, 3], [2, 2], [5, 5], [3, 3], [1, 1], Padding::all(2), 3),
        ([1, 2, 2], [3, 3], [3, 3], [1, 1], [1, 1], pad(0, 0, 0, 0), 1),
        ([1, 3, 5], [32, 32], [16, 16], [16, 16], [1, 1], pad(0, 0, 0, 0), 1),
        ([0, 3, 5], [4, 4], [3, 3], [1, 1], [1, 1], pad(0, 0, 0, 0), 1),
        ([1, 3, 0], [4, 4], [3, 3], [1, 1], [1, 1], pad(0, 0, 0, 0), 1),
        ([1, 0, 2], [4, 4], [3, 3], [1, 1], [1, 1], Padding::all(1), 1),
        ([1, 2, 2], [0, 4], [3, 3], [1, 1], [1, 1], Padding::all(2), 1),
        ([1, 2, 2], [4, 0], [3, 3], [1, 1], [1, 1], Padding::all(2), 2),
    ];
    for (index, ([batch, input, out], [height, width], kernel, stride, dilation, padding, groups)) in
        cases.into_iter().enumerate()
    {
        for activation in [None, Some(Unary::Relu6), Some(Unary::LeakyRelu(0.1)), Some(Unary::Silu)] {
            let options = Conv2d { stride, padding, dilation, groups, activation };
            let x = tensor(&random.numbers(batch * input * height * width), &[batch, input, height, width]);
            let dims = [out, input / groups, kernel[0], kernel[1]];
            let weight = tensor(&random.numbers(dims.iter().product()), &dims);
            let bias = random.numbers(out);
            let prepared = ConvKernel::new(&weight, Some(&tensor(&bias, &[out])), options).unwrap();
            let size = prepared.output_size(input, height, width).unwrap();
            let found = x.conv2d(&prepared).unwrap();
            let expected = convolve(&x, &weight, &bias, &options, size);
            failures.extend(difference(&format!("case {index} {activation:?}"), &found, &expected, 1e-5));
            if stride[0] == stride[1] && dilation[0] == dilation[1] && found.element_count() * input * height > 0 {
                let plain = tracked(&x).conv2d(&prepared).unwrap();
                failures.extend(difference(&format!("case {index} {activation:?} plain"), &plain, &expected, 1e-5));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn resizing_and_pooling_equal_candle_and_their_definition() {
    let mut random = Random(29);
    let mut failures = Vec::new();
    for (from, to) in [([1, 1], [3, 2]), ([5, 7], [11, 3]), ([10, 10], [20, 20]), ([9, 4], [1, 1]), ([13, 8], [13, 8])]
    {
        let x = tensor(&random.numbers(6 * from[0] * from[1]), &[2, 3, from[0], from[1]]);
        for mode in [Resize::Bilinear, Resize::BilinearAlignCorners, Resize::Nearest] {
            let found = x.resize(to[0], to[1], mode).unwrap();
            let expected = tracked(&x).resize(to[0], to[1], mode).unwrap();
            failures.extend(difference(&format!("{mode:?} {from:?} to {to:?}"), &found, &expected, 1e-5));
        }
    }
    for (height, width, kernel, stride, padding) in [
        (4, 6, [2, 2], [2, 2], Padding::default()),
        (7, 5, [3, 3], [2, 2], Padding { top: 1, left: 1, bottom: 2, right: 1 }),
        (1, 1, [1, 1], [1, 1], Padding::default()),
        (9, 11, [3, 2], [1, 3], Padding::all(1)),
    ] {
        let numbers = random.numbers(2 * height * width);
        let x = tensor(&numbers, &[1, 2, height, width]);
        for kind in [PoolKind::Max, PoolKind::Mean] {
            let options = Pool { kind, kernel, stride, padding };
            let [rows, columns] = options.output_size(height, width).unwrap();
            let mut expected = Vec::new();
            for (plane, row, column) in
                (0..2 * rows * columns).map(|i| (i / (rows * columns), i / columns % rows, i % columns))
            {
                let inside: Vec<f32> = (0..kernel[0] * kernel[1])
                    .map(|i| (row * stride[0] + i / kernel[1], column * stride[1] + i % kernel[1]))
                    .map(|(y, x)| (y.wrapping_sub(padding.top), x.wrapping_sub(padding.left)))
                    .filter(|(y, x)| *y < height && *x < width)
                    .map(|(y, x)| numbers[(plane * height + y) * width + x])
                    .collect();
                expected.push(match kind {
                    PoolKind::Max => inside.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                    PoolKind::Mean => inside.iter().sum::<f32>() / inside.len() as f32,
                });
            }
            let expected = tensor(&expected, &[1, 2, rows, columns]);
            failures.extend(difference(&format!("{options:?}"), &x.pool2d(&options).unwrap(), &expected, 1e-6));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn nothing_goes_in_and_nothing_comes_out() {
    let dims = |t: Tensor| t.dims().to_vec();
    let empty = |dims: &[usize]| Tensor::zeros(dims, &Device::Cpu).unwrap();
    let x = empty(&[2, 0, 3]);
    assert_eq!(dims(x.permute(&[2, 0, 1]).unwrap()), [3, 2, 0]);
    assert_eq!(dims(x.reshape(&[0, 6]).unwrap()), [0, 6]);
    assert_eq!(dims(x.narrow(2, 1, 2).unwrap()), [2, 0, 2]);
    assert_eq!(dims(Tensor::concat(&[&x, &x], 1).unwrap()), [2, 0, 3]);
    assert_eq!(dims(Tensor::concat(&[&x, &empty(&[2, 4, 3])], 1).unwrap()), [2, 4, 3]);
    assert_eq!(read(&x.pad(1, 1, 0).unwrap()), [0.0; 6]);
    assert_eq!(dims(x.broadcast_to(&[5, 2, 0, 3]).unwrap()), [5, 2, 0, 3]);
    let ids = Tensor::from_u32(&[], &[0], &Device::Cpu).unwrap();
    assert_eq!(dims(empty(&[4, 3]).index_select(0, &ids).unwrap()), [0, 3]);
    empty(&[4, 3]).write_at(&empty(&[0, 3]), 0, 2).unwrap();
    assert_eq!(dims(x.add(&empty(&[3])).unwrap()), [2, 0, 3]);
    assert_eq!(dims(x.affine(2.0, 1.0).unwrap()), [2, 0, 3]);
    assert_eq!(dims(x.unary(Unary::Gelu).unwrap()), [2, 0, 3]);
    assert_eq!(dims(x.unary(Unary::Sqrt).unwrap()), [2, 0, 3]);
    assert_eq!(read(&x.reduce(Reduce::Sum, 1).unwrap()), [0.0; 6]);
    assert_eq!(dims(x.reduce(Reduce::Max, 2).unwrap()), [2, 0]);
    assert_eq!(dims(x.argmax().unwrap()), [2, 0]);
    assert_eq!(dims(x.softmax().unwrap()), [2, 0, 3]);
    assert_eq!(dims(empty(&[2, 0]).softmax().unwrap()), [2, 0]);
    let (weight, none) = (empty(&[3]), empty(&[0]));
    assert_eq!(dims(x.layer_norm(&weight, &weight, 1e-5).unwrap()), [2, 0, 3]);
    assert_eq!(dims(empty(&[2, 0]).rms_norm(&none, 1e-5).unwrap()), [2, 0]);
    assert_eq!(dims(empty(&[2, 3, 0]).group_norm(3, &weight, &weight, 1e-5).unwrap()), [2, 3, 0]);
    assert_eq!(read(&empty(&[2, 0]).matmul(&empty(&[0, 3])).unwrap()), [0.0; 6]);
    assert_eq!(dims(empty(&[0, 2]).matmul(&empty(&[2, 3])).unwrap()), [0, 3]);
    assert_eq!(read(&empty(&[2, 0]).matmul_transposed(&empty(&[3, 0])).unwrap()), [0.0; 6]);
    let matrix = Matrix::dense(&empty(&[3, 0])).unwrap();
    let bias = tensor(&[1.0, -2.0, 3.0], &[3]);
    let out = empty(&[2, 0]).linear(&matrix, Some(&bias), Some(Unary::Relu)).unwrap();
    assert_eq!(read(&out), [1.0, 0.0, 3.0, 1.0, 0.0, 3.0]);
    let heads = empty(&[1, 2, 0, 4]);
    let options = Attention { scale: 1.0, key_count: 0, causal_start: None, mask: None };
    assert_eq!(dims(heads.attention(&heads, &heads, &options).unwrap()), [1, 2, 0, 4]);
    assert_eq!(read(&empty(&[1, 2, 1, 4]).attention(&heads, &heads, &options).unwrap()), [0.0; 8]);
    assert_eq!(dims(heads.rope(&empty(&[3, 2]), &empty(&[3, 2]), 1).unwrap()), [1, 2, 0, 4]);
    let options = Pool { kind: PoolKind::Max, kernel: [2, 2], stride: [2, 2], padding: Padding::default() };
    assert_eq!(dims(empty(&[0, 2, 4, 4]).pool2d(&options).unwrap()), [0, 2, 2, 2]);
    assert_eq!(dims(empty(&[0, 2, 4, 4]).resize(3, 3, Resize::Bilinear).unwrap()), [0, 2, 3, 3]);
    assert_eq!(dims(empty(&[1, 2, 0, 4]).conv_transpose2d(&empty(&[2, 3, 2, 2]), None, 2).unwrap()), [1, 3, 0, 8]);
}

#[test]
fn what_is_no_number_stays_so_and_nothing_panics() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let x = tensor(&[0.5, bad, -1.0, 2.0, 3.0, 0.0, 1.0, 9.0, -4.0], &[1, 1, 3, 3]);
        let flat = x.reshape(&[1, 9]).unwrap();
        let ones = tensor(&[1.0; 9], &[9]);
        let results = [
            flat.layer_norm(&ones, &ones, 1e-5).unwrap(),
            flat.rms_norm(&ones, 1e-5).unwrap(),
            flat.linear(&Matrix::dense(&flat).unwrap(), None, Some(Unary::Tanh)).unwrap(),
            x.conv2d(&ConvKernel::new(&x, None, Conv2d::default()).unwrap()).unwrap(),
        ];
        for (index, result) in results.iter().enumerate() {
            let lost = bad.is_nan() && !read(result).iter().any(|x| x.is_nan());
            assert!(!lost, "result {index}: {:?}", read(result));
        }
        flat.softmax().unwrap();
        flat.argmax().unwrap();
        x.resize(5, 2, Resize::BilinearAlignCorners).unwrap();
        for op in [Unary::Silu, Unary::Sigmoid, Unary::Tanh, Unary::Gelu, Unary::GeluTanh] {
            let lost = bad.is_nan() && !read(&flat.unary(op).unwrap())[1].is_nan();
            assert!(!lost, "{op:?}");
        }
    }
}
