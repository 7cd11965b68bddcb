//! Every GPU kernel against the CPU engine, on sizes that meet all edges: 0, 1, primes, beyond a workgroup.
//!
//! Needs a Vulkan (or Metal, or DX12) adapter; Mesa's lavapipe will do. `BUBO_SKIP_GPU=1` skips, and says so.

use bubo::bundle::{BLOCK, QuantizedBlocks, Scheme};
use bubo::tensor::gpu::Gpu;
use bubo::tensor::{
    Attention, Binary, Conv2d, ConvKernel, DType, Device, Matrix, Padding, Pool, PoolKind, Precision, Reduce, Resize,
    Tensor, Unary,
};
use bubo::{Error, Result};
use half::f16;

/// The adapter, or `None` where skipping was asked for.
fn open() -> Option<Gpu> {
    if std::env::var_os("BUBO_SKIP_GPU").is_some_and(|value| value == "1") {
        eprintln!("\n*** BUBO_SKIP_GPU=1: GPU KERNELS WERE NOT TESTED ***\n");
        return None;
    }
    let gpu = pollster::block_on(Gpu::open()).expect(
        "GPU tests need an adapter: install mesa-vulkan-drivers (and set VK_ICD_FILENAMES to lvp_icd.*.json), \
         or set BUBO_SKIP_GPU=1 to skip them",
    );
    Some(gpu)
}

/// A linear congruential generator: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Within −1 .. 1.
    fn f32s(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32 / (1u32 << 30) as f32 - 1.0).collect()
    }
}

/// Makes inputs on one of the engines; seeded, so that both get the same.
struct Make<'a> {
    device: &'a Device,
    random: Random,
}

impl Make<'_> {
    fn f32s(&mut self, dims: &[usize]) -> Tensor {
        let numbers = self.random.f32s(dims.iter().product());
        Tensor::from_f32(&numbers, dims, self.device).expect("an input")
    }

    fn given(&self, numbers: &[f32], dims: &[usize]) -> Tensor {
        Tensor::from_f32(numbers, dims, self.device).expect("an input")
    }

    fn ids(&self, ids: &[u32]) -> Tensor {
        Tensor::from_u32(ids, &[ids.len()], self.device).expect("ids")
    }

    fn random_ids(&mut self, count: usize, below: usize) -> Tensor {
        let ids: Vec<u32> = (0..count).map(|_| self.random.next() % below as u32).collect();
        self.ids(&ids)
    }

    fn quantized(&mut self, scheme: Scheme, rows: usize, cols: usize) -> Matrix {
        let blocks = rows * cols / BLOCK;
        let f16s = |numbers: Vec<f32>| numbers.into_iter().map(f16::from_f32).collect();
        let scales = f16s(self.random.f32s(blocks));
        let mins = f16s(self.random.f32s(if scheme == Scheme::Q4_1 { blocks } else { 0 }));
        let values = (0..blocks * scheme.block_bytes()).map(|_| (self.random.next() >> 7) as u8).collect();
        let blocks = QuantizedBlocks::new(scheme, rows, cols, values, scales, mins).expect("well-formed blocks");
        // The oracle multiplies in f32, as the GPU does.
        Matrix::quantized(blocks, self.device).expect("a matrix").with_precision(Precision::Full)
    }
}

type Run = Box<dyn Fn(&mut Make<'_>) -> Result<Vec<Tensor>>>;

/// A case: its name, what it computes, and the largest difference allowed, relative to the largest number of the
/// result (at least 1).
struct Case {
    name: String,
    tolerance: f32,
    run: Run,
}

fn case(name: impl Into<String>, tolerance: f32, run: impl Fn(&mut Make<'_>) -> Result<Vec<Tensor>> + 'static) -> Case {
    Case { name: name.into(), tolerance, run: Box::new(run) }
}

/// Moving and comparing numbers is exact.
const EXACT: f32 = 0.0;
/// One or two roundings.
const ROUNDING: f32 = 5e-7;
/// Functions that WGSL lets differ in the last bits, and sums of up to some hundred numbers in another order.
const SUMS: f32 = 1e-5;

fn compare(case: &Case, expected: &Tensor, found: &Tensor) -> Option<String> {
    if expected.dims() != found.dims() || expected.dtype() != found.dtype() {
        return Some(format!("expected {:?}, found {:?}", expected.dims(), found.dims()));
    }
    if expected.dtype() == DType::U32 {
        let read = |t: &Tensor| pollster::block_on(t.to_u32()).expect("a read-back");
        let (expected, found) = (read(expected), read(found));
        return (expected != found).then(|| format!("expected {expected:?}, found {found:?}"));
    }
    let read = |t: &Tensor| pollster::block_on(t.to_f32());
    let expected = read(expected).expect("the CPU engine's numbers");
    let found = match read(found) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let size = expected.iter().fold(1f32, |size, x| size.max(x.abs()));
    let close = |a: f32, b: f32| (a - b).abs() <= case.tolerance * size; // not so for NaN
    let wrong = |(a, b): (&f32, &f32)| !close(*a, *b);
    let count = expected.iter().zip(&found).filter(|pair| wrong(*pair)).count();
    let place = expected.iter().zip(&found).position(wrong)?;
    let (a, b) = (expected[place], found[place]);
    Some(format!("{count} of {} differ, first {place}: expected {a}, found {b}", expected.len()))
}

/// Runs all cases on both engines and reports every failing one.
fn check(cases: Vec<Case>) {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu);
    let mut failures = Vec::new();
    let run = |case: &Case, device: &Device| (case.run)(&mut Make { device, random: Random(7) });
    for case in &cases {
        let expected = run(case, &Device::Cpu);
        let found = run(case, &device);
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                assert_eq!(expected.len(), found.len());
                for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
                    if let Some(reason) = compare(case, expected, found) {
                        failures.push(format!("{} (result {i}): {reason}", case.name));
                    }
                }
            }
            // candle refuses some empty tensors; there is nothing to compare.
            (Err(_), Ok(found)) if found.iter().all(|tensor| tensor.element_count() == 0) => {}
            (expected, found) => {
                let told = |result: Result<Vec<Tensor>>| {
                    result.map(|_| "a result").map_err(|e| e.to_string().lines().next().map(str::to_string))
                };
                failures.push(format!("{}: CPU {:?}, GPU {:?}", case.name, told(expected), told(found)));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn moving_numbers() {
    let mut cases = vec![
        case("zeros", EXACT, |make| {
            // A used buffer comes back from the pool and must be zero again.
            drop(make.f32s(&[300]).affine(1.0, 1.0)?);
            Ok(vec![Tensor::zeros(&[300], make.device)?, Tensor::zeros(&[0, 3], make.device)?])
        }),
        case("u32 numbers move unchanged", EXACT, |make| {
            // Among them patterns that are denormal floats and NaNs.
            let words = [0, 1, 0x7FC0_0001, 0xFFFF_FFFF, 0x8000_0001, 12];
            Ok(vec![Tensor::from_u32(&words, &[2, 3], make.device)?.permute(&[1, 0])?])
        }),
        case("write_at in place, for all who share", EXACT, |make| {
            let cache = Tensor::zeros(&[2, 3, 11, 5], make.device)?;
            let shared = cache.reshape(&[6, 11, 5])?;
            cache.write_at(&make.f32s(&[2, 3, 4, 5]), 2, 0)?;
            cache.write_at(&make.f32s(&[2, 3, 1, 5]), 2, 10)?;
            cache.write_at(&make.f32s(&[2, 3, 0, 5]), 2, 11)?;
            Ok(vec![shared, cache])
        }),
        case("write_at from itself", EXACT, |make| {
            let rows = make.f32s(&[8, 64]);
            rows.write_at(&rows.narrow(0, 5, 2)?.affine(1.0, 0.0)?, 0, 1)?;
            Ok(vec![rows])
        }),
        case("a narrowed view works as any tensor", EXACT, |make| {
            let rows = make.f32s(&[9, 64]);
            let view = rows.narrow(0, 3, 5)?;
            Ok(vec![view.permute(&[1, 0])?, view.narrow(1, 7, 3)?, view.narrow(0, 5, 0)?, view])
        }),
        case("a row at a place that cannot be bound", EXACT, |make| Ok(vec![make.f32s(&[9, 3]).narrow(0, 4, 2)?])),
        case("a broadcast view", EXACT, |make| {
            let x = make.f32s(&[3, 1, 5]);
            Ok(vec![x.broadcast_to(&[2, 3, 4, 5])?, x.broadcast_to(&[3, 0, 5])?, x.broadcast_to(&[1, 3, 1, 5])?])
        }),
        case("concat", EXACT, |make| {
            let (a, b, c) = (make.f32s(&[2, 3, 5]), make.f32s(&[2, 0, 5]), make.f32s(&[2, 7, 5]));
            Ok(vec![Tensor::concat(&[&a, &b, &c], 1)?, Tensor::concat(&[&a], 0)?, Tensor::concat(&[&a, &a], 2)?])
        }),
        case("index_select", EXACT, |make| {
            let (x, ids) = (make.f32s(&[3, 7, 5]), make.random_ids(11, 3));
            let (none, many) = (make.ids(&[]), make.random_ids(700, 7));
            Ok(vec![
                x.index_select(0, &ids)?,
                x.index_select(2, &ids)?,
                x.index_select(1, &none)?,
                x.index_select(1, &many)?,
            ])
        }),
    ];
    for axes in [vec![0], vec![1, 0], vec![2, 0, 1], vec![0, 2, 1, 3], vec![3, 2, 1, 0], vec![5, 1, 3, 0, 2, 4]] {
        cases.push(case(format!("permute {axes:?}"), EXACT, move |make| {
            let dims: Vec<usize> = [3, 2, 5, 1, 7, 2][..axes.len()].to_vec();
            Ok(vec![make.f32s(&dims).permute(&axes)?])
        }));
    }
    for (axis, start, len) in [(0, 1, 2), (1, 2, 3), (2, 0, 7), (1, 5, 0)] {
        cases.push(case(format!("narrow axis {axis}"), EXACT, move |make| {
            Ok(vec![make.f32s(&[3, 5, 7]).narrow(axis, start, len)?])
        }));
        cases.push(case(format!("pad axis {axis}"), EXACT, move |make| {
            Ok(vec![make.f32s(&[3, 5, 7]).pad(axis, start, len)?, make.f32s(&[3, 0, 7]).pad(axis, start, len)?])
        }));
    }
    check(cases);
}

#[test]
fn element_by_element() {
    let mut cases = Vec::new();
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
        let shapes: [(&[usize], &[usize]); 8] = [
            (&[1], &[1]),
            (&[], &[3]),
            (&[257], &[257]),
            (&[3, 5], &[5]),
            (&[3, 1, 5], &[7, 1]),
            (&[1, 4, 1], &[2, 1, 3]),
            (&[2, 3, 1, 5, 1, 2], &[3, 4, 1, 3, 2]),
            (&[0, 5], &[1, 5]),
        ];
        for (a, b) in shapes {
            // Division: WGSL allows 2.5 units in the last place.
            cases.push(case(format!("{op:?} {a:?} {b:?}"), ROUNDING, move |make| {
                let (first, mut second) = (make.f32s(a), make.f32s(b));
                if op == Binary::Div {
                    second = second.affine(0.5, 1.5)?;
                }
                Ok(vec![first.binary(&second, op)?])
            }));
        }
    }
    for count in [0, 1, 255, 256, 257, 70_001] {
        cases.push(case(format!("affine {count}"), ROUNDING, move |make| {
            Ok(vec![make.f32s(&[count]).affine(-1.5, 0.25)?])
        }));
    }
    let everywhere = [
        Unary::Relu,
        Unary::Relu6,
        Unary::LeakyRelu(0.1),
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Silu,
        Unary::Sigmoid,
        Unary::Tanh,
        Unary::Sin,
        Unary::Cos,
        Unary::Abs,
        Unary::Neg,
        Unary::Clamp(-0.5, 2.0),
    ];
    for op in everywhere {
        // 1e-6 absolute near 0, as asked of the GELU; relative beyond.
        cases.push(case(format!("{op:?}"), 1e-6, move |make| {
            let small = make.f32s(&[1031]);
            let tiny = small.affine(1e-3, 0.0)?;
            let (wide, far) = (small.affine(9.0, 0.0)?, small.affine(100.0, 0.0)?);
            Ok(vec![tiny.unary(op)?, small.unary(op)?, wide.unary(op)?, far.unary(op)?])
        }));
    }
    for op in [Unary::Exp, Unary::Ln, Unary::Sqrt] {
        // WGSL allows e^x 3 + 2|x| units in the last place.
        cases.push(case(format!("{op:?}"), 3e-6, move |make| {
            Ok(vec![make.f32s(&[1031]).affine(4.0, 4.001)?.unary(op)?])
        }));
    }
    check(cases);
}

#[test]
fn gelu_is_right_to_a_millionth_everywhere() {
    let Some(gpu) = open() else { return };
    let numbers: Vec<f32> = (-12_000..=12_000).map(|i| i as f32 / 1000.0).collect();
    let x = Tensor::from_f32(&numbers, &[numbers.len()], &Device::Gpu(gpu)).expect("an input");
    let found = pollster::block_on(x.unary(Unary::Gelu).expect("recorded").to_f32()).expect("a read-back");
    let worst = numbers.iter().zip(&found).map(|(x, y)| (Unary::Gelu.apply(*x) - y).abs()).fold(0f32, f32::max);
    assert!(worst <= 1e-6, "the worst difference is {worst}");
}

#[test]
fn along_an_axis() {
    let mut cases = Vec::new();
    for dims in [[1, 1, 1], [3, 5, 7], [2, 131, 3], [1, 2, 5003], [7, 64, 65], [2, 3, 0]] {
        for axis in 0..3 {
            for op in [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min] {
                if dims[axis] > 0 {
                    cases.push(case(format!("{op:?} of axis {axis} of {dims:?}"), SUMS, move |make| {
                        Ok(vec![make.f32s(&dims).reduce(op, axis)?])
                    }));
                }
            }
        }
        if dims[2] > 0 {
            cases.push(case(format!("argmax {dims:?}"), EXACT, move |make| Ok(vec![make.f32s(&dims).argmax()?])));
            cases.push(case(format!("softmax {dims:?}"), SUMS, move |make| {
                let x = make.f32s(&dims).affine(20.0, 0.0)?;
                Ok(vec![x.softmax()?])
            }));
            cases.push(case(format!("layer_norm {dims:?}"), 2.0 * SUMS, move |make| {
                let (x, weight, bias) = (make.f32s(&dims), make.f32s(&dims[2..]), make.f32s(&dims[2..]));
                Ok(vec![x.affine(2.0, 5.0)?.layer_norm(&weight, &bias, 1e-5)?])
            }));
            cases.push(case(format!("rms_norm {dims:?}"), SUMS, move |make| {
                Ok(vec![make.f32s(&dims).rms_norm(&make.f32s(&dims[2..]), 1e-5)?])
            }));
        }
    }
    cases.push(case("sum of an empty axis", EXACT, |make| Ok(vec![make.f32s(&[3, 0, 2]).reduce(Reduce::Sum, 1)?])));
    cases.push(case("argmax takes the first of equals", EXACT, |make| {
        let mut numbers = vec![0.0; 3 * 600];
        for place in [17, 273, 599, 600 + 256, 600 + 255, 1200] {
            numbers[place] = 1.0;
        }
        Ok(vec![make.given(&numbers, &[3, 600]).argmax()?])
    }));
    for (dims, kept) in [(vec![1], 1), (vec![3, 5], 2), (vec![0, 5], 3), (vec![2, 1031], 900), (vec![3, 257], 0)] {
        cases.push(case(format!("top_k {kept} of {dims:?}"), EXACT, move |make| {
            let numbers = make.f32s(&dims);
            // Of few different numbers most are equal.
            let equals: Vec<f32> =
                (0..numbers.element_count()).map(|_| (make.random.next() % 7) as f32 - 3.0).collect();
            Ok(vec![numbers.top_k(kept)?, make.given(&equals, &dims).top_k(kept)?])
        }));
    }
    cases.push(case("top_k of what is beyond numbers", EXACT, |make| {
        let numbers = [0.0, f32::NEG_INFINITY, -0.0, f32::INFINITY, 1e-40, -1e-40, f32::NAN, f32::MIN, f32::MAX];
        Ok(vec![make.given(&numbers, &[9]).top_k(9)?])
    }));
    for (dims, groups) in [([1, 1, 1, 1], 1), ([2, 6, 5, 7], 3), ([1, 32, 13, 17], 32), ([1, 4, 40, 41], 1)] {
        cases.push(case(format!("group_norm {dims:?} in {groups}"), 2.0 * SUMS, move |make| {
            let (weight, bias) = (make.f32s(&dims[1..2]), make.f32s(&dims[1..2]));
            Ok(vec![make.f32s(&dims).affine(1.0, 2.0)?.group_norm(groups, &weight, &bias, 1e-5)?])
        }));
    }
    check(cases);
}

#[test]
fn products() {
    let mut cases = Vec::new();
    let sizes = [
        [1, 1, 1, 1],
        [1, 1, 64, 37],
        [2, 5, 7, 3],
        [3, 32, 32, 32],
        [1, 33, 129, 65],
        [1, 67, 300, 2],
        [0, 3, 3, 3],
        [2, 0, 3, 3],
        [2, 3, 0, 3],
        [2, 3, 3, 0],
    ];
    for [batch, m, k, n] in sizes {
        cases.push(case(format!("matmul [{batch}, {m}, {k}] · [{k}, {n}]"), SUMS, move |make| {
            let a = make.f32s(&[batch, m, k]);
            let (b, c) = (make.f32s(&[batch, k, n]), make.f32s(&[batch, n, k]));
            Ok(vec![a.matmul(&b)?, a.matmul_transposed(&c)?])
        }));
    }
    for count in [0, 1, 2, 3, 4, 33, 70] {
        for (rows, cols) in [(1, 1), (37, 19), (65, 128), (5, 300), (0, 7)] {
            for activation in [None, Some(Unary::Gelu), Some(Unary::Clamp(-0.5, 0.75))] {
                cases.push(case(format!("linear {count} × [{rows}, {cols}] {activation:?}"), SUMS, move |make| {
                    let matrix = Matrix::dense(&make.f32s(&[rows, cols]))?;
                    let (x, bias) = (make.f32s(&[count, cols]), make.f32s(&[rows]));
                    Ok(vec![x.linear(&matrix, Some(&bias), activation)?, x.linear(&matrix, None, activation)?])
                }));
            }
        }
    }
    check(cases);
}

#[test]
fn quantised_products() {
    let mut cases = Vec::new();
    for scheme in [Scheme::Q4_0, Scheme::Q4_1, Scheme::Q8_0] {
        for count in [0, 1, 3, 4, 37] {
            for (rows, cols) in [(1, 32), (37, 64), (66, 576), (5, 1536), (0, 32)] {
                // Scales are up to 1 and values up to 128: sums of some thousands, relative to which this is.
                let name = format!("{} linear {count} × [{rows}, {cols}]", scheme.name());
                cases.push(case(name, SUMS, move |make| {
                    let matrix = make.quantized(scheme, rows, cols);
                    let (x, bias) = (make.f32s(&[2, count, cols]), make.f32s(&[rows]));
                    let front = x.narrow(0, 1, 1)?.reshape(&[count, cols])?;
                    Ok(vec![
                        x.linear(&matrix, Some(&bias), Some(Unary::Silu))?,
                        front.linear(&matrix, None, None)?,
                        front.linear(&matrix, Some(&bias), None)?,
                    ])
                }));
            }
        }
        // A product and a sum: fused or not.
        cases.push(case(format!("{} embedding", scheme.name()), ROUNDING, move |make| {
            let matrix = make.quantized(scheme, 61, 96);
            let (ids, none) = (make.random_ids(77, 61), make.ids(&[]));
            Ok(vec![Tensor::embedding(&matrix, &ids)?, Tensor::embedding(&matrix, &none)?])
        }));
    }
    cases.push(case("dense embedding", EXACT, |make| {
        let matrix = Matrix::dense(&make.f32s(&[61, 17]))?;
        let ids = make.random_ids(77, 61);
        Ok(vec![Tensor::embedding(&matrix, &ids)?])
    }));
    check(cases);
}

#[test]
fn convolutions() {
    let base = Conv2d::default();
    let uneven = Padding { top: 1, left: 0, bottom: 2, right: 3 };
    let options: Vec<(&str, [usize; 4], [usize; 4], Conv2d)> = vec![
        ("1 × 1", [2, 5, 7, 3], [9, 5, 1, 1], base),
        ("1 × 1, step 2", [1, 5, 7, 5], [3, 5, 1, 1], Conv2d { stride: [2, 2], ..base }),
        ("1 × 1, padded", [1, 5, 7, 5], [3, 5, 1, 1], Conv2d { padding: Padding::all(1), ..base }),
        ("3 × 3", [2, 3, 11, 13], [5, 3, 3, 3], Conv2d { padding: Padding::all(1), ..base }),
        ("3 × 3, large", [1, 3, 37, 41], [6, 3, 3, 3], Conv2d { padding: Padding::all(1), ..base }),
        ("3 × 3, uneven", [1, 3, 12, 9], [4, 3, 3, 3], Conv2d { stride: [2, 2], padding: uneven, ..base }),
        ("5 × 2", [1, 2, 9, 8], [3, 2, 5, 2], base),
        ("dilated", [1, 4, 17, 19], [4, 4, 3, 3], Conv2d { dilation: [2, 2], padding: Padding::all(2), ..base }),
        ("groups", [2, 6, 9, 7], [9, 2, 3, 3], Conv2d { groups: 3, padding: Padding::all(1), ..base }),
        ("1 × 1, groups", [2, 6, 9, 7], [4, 3, 1, 1], Conv2d { groups: 2, ..base }),
        ("depthwise", [2, 7, 9, 11], [7, 1, 3, 3], Conv2d { groups: 7, padding: Padding::all(1), ..base }),
        ("depthwise ×2", [1, 3, 9, 11], [6, 1, 5, 5], Conv2d { groups: 3, padding: uneven, stride: [2, 2], ..base }),
        ("depthwise, dilated", [1, 3, 9, 11], [3, 1, 3, 3], Conv2d { groups: 3, dilation: [3, 3], ..base }),
        ("16 × 16 patches", [1, 3, 32, 48], [8, 3, 16, 16], Conv2d { stride: [16, 16], ..base }),
        ("no pictures", [0, 3, 5, 5], [2, 3, 3, 3], base),
        ("no outputs", [1, 3, 5, 5], [0, 3, 3, 3], base),
    ];
    let mut cases = Vec::new();
    for (name, source, weight, options) in options {
        for activation in [None, Some(Unary::Relu6), Some(Unary::LeakyRelu(0.1)), Some(Unary::Silu)] {
            let options = Conv2d { activation, ..options };
            // Up to 768 products a result.
            cases.push(case(format!("conv2d {name} {activation:?}"), SUMS, move |make| {
                let (x, weight, bias) = (make.f32s(&source), make.f32s(&weight), make.f32s(&weight[..1]));
                let with = ConvKernel::new(&weight, Some(&bias), options)?;
                let without = ConvKernel::new(&weight, None, options)?;
                Ok(vec![x.conv2d(&with)?, x.conv2d(&without)?])
            }));
        }
    }
    for (source, outputs, stride) in
        [([1, 1, 1, 1], 1, 1), ([2, 5, 3, 7], 3, 2), ([1, 3, 5, 4], 7, 4), ([0, 3, 5, 4], 7, 2)]
    {
        cases.push(case(format!("conv_transpose2d {source:?} × {stride}"), SUMS, move |make| {
            let (x, weight) = (make.f32s(&source), make.f32s(&[source[1], outputs, stride, stride]));
            let bias = make.f32s(&[outputs]);
            Ok(vec![x.conv_transpose2d(&weight, Some(&bias), stride)?, x.conv_transpose2d(&weight, None, stride)?])
        }));
    }
    check(cases);
}

#[test]
fn convolutions_whose_steps_differ_by_axis() {
    // The CPU engine may not have these; a loop over all taps is the definition.
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu);
    let (stride, dilation) = ([1, 3], [2, 1]);
    let padding = Padding { top: 2, left: 1, bottom: 0, right: 1 };
    for groups in [1, 3] {
        let [inputs, outputs, height, width] = [3, 6, 8, 11];
        let group_inputs = inputs / groups;
        let mut random = Random(3);
        let (pixels, weights) = (random.f32s(inputs * height * width), random.f32s(outputs * group_inputs * 9));
        let (rows, columns) = ((height + 2 - 5) + 1, (width + 2 - 3) / 3 + 1);
        let mut expected = Vec::new();
        for out in 0..outputs {
            let group = out / (outputs / groups);
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                let mut total = 0.0;
                for (input, (i, j)) in (0..group_inputs).flat_map(|c| (0..9).map(move |tap| (c, (tap / 3, tap % 3)))) {
                    let y = (row * stride[0] + i * dilation[0]).checked_sub(padding.top).filter(|y| *y < height);
                    let x = (column * stride[1] + j * dilation[1]).checked_sub(padding.left).filter(|x| *x < width);
                    if let (Some(y), Some(x)) = (y, x) {
                        let pixel = pixels[((group * group_inputs + input) * height + y) * width + x];
                        total += pixel * weights[(out * group_inputs + input) * 9 + i * 3 + j];
                    }
                }
                expected.push(total);
            }
        }
        let x = Tensor::from_f32(&pixels, &[1, inputs, height, width], &device).expect("an input");
        let weight = Tensor::from_f32(&weights, &[outputs, group_inputs, 3, 3], &device).expect("weights");
        let options = Conv2d { stride, dilation, padding, groups, activation: None };
        let result = x.conv2d(&ConvKernel::new(&weight, None, options).expect("a kernel")).expect("recorded");
        assert_eq!(result.dims(), [1, outputs, rows, columns]);
        let found = pollster::block_on(result.to_f32()).expect("a read-back");
        let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst <= SUMS, "{groups} groups: the worst difference is {worst}");
    }
}

#[test]
fn pictures() {
    let mut cases = Vec::new();
    let uneven = Padding { top: 1, left: 0, bottom: 2, right: 1 };
    for kind in [PoolKind::Max, PoolKind::Mean] {
        let all = [
            ([1, 1, 1, 1], [1, 1], [1, 1], Padding::default()),
            ([2, 3, 9, 11], [2, 2], [2, 2], Padding::default()),
            ([1, 5, 9, 11], [3, 3], [2, 2], Padding::all(1)),
            ([1, 2, 8, 7], [3, 2], [2, 1], uneven),
            ([1, 300, 7, 7], [7, 7], [7, 7], Padding::default()),
            ([0, 3, 5, 5], [2, 2], [2, 2], Padding::default()),
        ];
        for (dims, kernel, stride, padding) in all {
            let padding = if kernel == [3, 2] { Padding { bottom: 2, right: 1, ..padding } } else { padding };
            cases.push(case(format!("{kind:?} pool {kernel:?} of {dims:?}"), SUMS, move |make| {
                Ok(vec![make.f32s(&dims).pool2d(&Pool { kind, kernel, stride, padding })?])
            }));
        }
    }
    for mode in [Resize::Nearest, Resize::Bilinear, Resize::BilinearAlignCorners] {
        for (dims, [height, width]) in [
            ([1, 1, 1, 1], [3, 5]),
            ([2, 3, 5, 7], [10, 14]),
            ([1, 2, 13, 11], [4, 5]),
            ([1, 2, 5, 7], [1, 1]),
            ([1, 2, 5, 7], [5, 9]),
            ([1, 1, 17, 31], [320, 211]),
            ([1, 2, 6, 4], [6, 4]),
        ] {
            cases.push(case(format!("{mode:?} resize {dims:?} to {height} × {width}"), SUMS, move |make| {
                Ok(vec![make.f32s(&dims).resize(height, width, mode)?])
            }));
        }
    }
    check(cases);
}

#[test]
fn attention() {
    let mut cases = Vec::new();
    // batch, heads, key heads, queries, keys in use, capacity, dim, value dim
    for sizes in [
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 3, 3, 5, 5, 5, 16, 16],
        [2, 4, 2, 7, 63, 64, 8, 5],
        [1, 9, 3, 1, 130, 200, 64, 64],
        [1, 6, 1, 3, 65, 70, 88, 88],
        [2, 3, 3, 67, 67, 67, 208, 80],
        [1, 2, 1, 2, 9, 9, 7, 300],
        [1, 2, 2, 0, 5, 5, 8, 8],
        [1, 2, 2, 70, 70, 70, 20, 20],
        [2, 4, 2, 16, 64, 64, 16, 16],
        [1, 6, 3, 33, 131, 140, 88, 88],
        [3, 2, 2, 8, 49, 49, 32, 32],
        [1, 1, 1, 17, 17, 17, 1, 130],
        [1, 2, 2, 9, 300, 300, 192, 300],
        [1, 4, 4, 229, 230, 230, 16, 16],
    ] {
        let [batch, heads, key_heads, queries, keys, capacity, dim, value_dim] = sizes;
        for masking in ["none", "causal", "full mask", "row mask", "key mask", "both"] {
            cases.push(case(format!("attention {sizes:?}, {masking}"), SUMS, move |make| {
                let query = make.f32s(&[batch, heads, queries, dim]);
                let key = make.f32s(&[batch, key_heads, capacity, dim]);
                let value = make.f32s(&[batch, key_heads, capacity, value_dim]);
                let causal_start = (masking == "causal" || masking == "both").then_some(keys - queries);
                let mask_dims = match masking {
                    "full mask" => Some([batch, heads, queries, keys]),
                    "row mask" => Some([batch, 1, queries, keys]),
                    "key mask" | "both" => Some([1, 1, 1, keys]),
                    _ => None,
                };
                let mask = mask_dims.map(|dims| {
                    let mut numbers = make.random.f32s(dims.iter().product());
                    // Every third key but the first is hidden.
                    for (i, number) in numbers.iter_mut().enumerate() {
                        if (i % keys) % 3 == 1 {
                            *number = f32::NEG_INFINITY;
                        }
                    }
                    make.given(&numbers, &dims)
                });
                let options =
                    Attention { scale: (dim as f32).powf(-0.5), key_count: keys, causal_start, mask: mask.as_ref() };
                Ok(vec![query.attention(&key, &value, &options)?])
            }));
        }
    }
    for (dims, start) in [([1, 1, 1, 2], 0), ([2, 3, 5, 64], 4), ([1, 9, 1, 14], 8), ([1, 2, 0, 8], 3)] {
        cases.push(case(format!("rope {dims:?} from {start}"), ROUNDING, move |make| {
            let (cos, sin) = (make.f32s(&[9, dims[3] / 2]), make.f32s(&[9, dims[3] / 2]));
            Ok(vec![make.f32s(&dims).rope(&cos, &sin, start)?])
        }));
    }
    check(cases);
}

/// Keys and values that the engine keeps: the GPU as f16, so these have only numbers that f16 holds. What other numbers
/// lose is told by the next test.
#[test]
fn attention_to_what_is_kept() {
    let mut cases = Vec::new();
    // heads, key heads, queries, keys in use, capacity, dim, value dim
    for sizes in [
        [1, 1, 1, 1, 2, 2, 2],
        [3, 3, 5, 5, 5, 16, 16],
        [9, 3, 1, 130, 200, 64, 64],
        [6, 1, 3, 65, 70, 88, 34],
        [2, 1, 2, 9, 9, 7, 300],
        [2, 2, 33, 131, 140, 130, 5],
        [4, 2, 16, 64, 64, 18, 18],
    ] {
        let [heads, key_heads, queries, keys, capacity, dim, value_dim] = sizes;
        cases.push(case(format!("attention to kept {sizes:?}"), SUMS, move |make| {
            let query = make.f32s(&[1, heads, queries, dim]);
            let mut kept = |dim: usize| -> Result<Tensor> {
                let dims = [1, key_heads, capacity, dim];
                let numbers = make.random.f32s(dims.iter().product());
                let halves: Vec<f32> = numbers.into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
                let whole = Tensor::from_f32(&halves, &dims, make.device)?;
                // As a cache grows: a first part with room behind it, then the rest is written there.
                let (first, rest) = (capacity / 2, capacity - capacity / 2);
                let room = whole.narrow(2, 0, first.max(1))?.kept()?.pad(2, 0, capacity - first.max(1))?;
                room.write_at(&whole.narrow(2, first, rest)?.kept()?, 2, first)?;
                Ok(room)
            };
            let (key, value) = (kept(dim)?, kept(value_dim)?);
            let causal_start = Some(keys - queries);
            let options = Attention { scale: 0.2, key_count: keys, causal_start, mask: None };
            Ok(vec![query.attention(&key, &value, &options)?])
        }));
    }
    check(cases);
}

#[test]
fn what_is_kept_on_the_gpu_is_rounded_to_f16() {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu);
    let mut make = Make { device: &device, random: Random(9) };
    let mut numbers: Vec<f32> = make.random.f32s(77).iter().map(|x| x * 100.0).collect();
    numbers.extend([0.0, 1e-30, 7e4, -1e30, 65504.0]);
    let kept = make.given(&numbers, &[1, 41, 2]).kept().expect("recorded");
    assert_eq!((kept.dims(), kept.dtype()), (&[1, 41, 1][..], DType::U32));
    let words = pollster::block_on(kept.to_u32()).expect("a read-back");
    let halves =
        words.iter().flat_map(|word| [*word as u16, (*word >> 16) as u16]).map(|bits| f16::from_bits(bits).to_f32());
    for (number, half) in numbers.iter().zip(halves) {
        let number = number.clamp(-65504.0, 65504.0);
        // WGSL lets either neighbour be taken: 2⁻¹⁰ of the number, and below 2⁻¹⁴ steps of 2⁻²⁴, or nothing.
        let allowed = (number.abs() / 1024.0).max(6.2e-5);
        assert!((number - half).abs() <= allowed, "{number} became {half}");
    }
    let odd = make.f32s(&[2, 3]);
    assert_eq!(odd.kept().expect("as it is").dtype(), DType::F32, "an odd axis stays as it is");
}

#[test]
fn a_query_that_sees_no_key_gives_zeros() {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu);
    let mut make = Make { device: &device, random: Random(1) };
    let (query, key) = (make.f32s(&[1, 1, 2, 4]), make.f32s(&[1, 1, 3, 4]));
    let mask = make.given(&[f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, 0.0, 0.0], &[1, 1, 2, 3]);
    let options = Attention { scale: 0.5, key_count: 3, causal_start: None, mask: Some(&mask) };
    let result = query.attention(&key, &key, &options).expect("recorded");
    let none = Attention { key_count: 0, mask: None, ..options };
    let nothing = query.attention(&key, &key, &none).expect("recorded");
    let found = pollster::block_on(result.to_f32()).expect("a read-back");
    assert_eq!(found[..4], [0.0; 4]);
    assert!(found[4..].iter().all(|x| x.is_finite() && *x != 0.0));
    assert_eq!(pollster::block_on(nothing.to_f32()).expect("a read-back"), [0.0; 8]);
}

#[test]
fn an_id_out_of_range_takes_the_last_place() {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu);
    let mut make = Make { device: &device, random: Random(1) };
    let (table, ids) = (make.f32s(&[5, 3]), make.ids(&[4, 5, u32::MAX]));
    let picked = pollster::block_on(table.index_select(0, &ids).expect("recorded").to_f32()).expect("a read-back");
    assert_eq!(picked[..3], picked[3..6]);
    assert_eq!(picked[..3], picked[6..]);
    let matrix = make.quantized(Scheme::Q8_0, 5, 32);
    let rows = pollster::block_on(Tensor::embedding(&matrix, &ids).expect("recorded").to_f32()).expect("a read-back");
    assert_eq!(rows[..32], rows[32..64]);
}

#[test]
fn nothing_is_allocated_once_warm() {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu.clone());
    let mut make = Make { device: &device, random: Random(5) };
    let matrices: Vec<Matrix> = (0..3).map(|_| make.quantized(Scheme::Q4_0, 64, 64)).collect();
    let (weight, cache) = (make.f32s(&[64]), Tensor::zeros(&[1, 1, 64, 64], &device).expect("a cache"));
    let step = |place: usize| -> Result<u32> {
        let ids = Tensor::from_u32(&[place as u32], &[1], &device)?;
        let mut x = Tensor::embedding(&matrices[0], &ids)?;
        for matrix in &matrices {
            let normed = x.rms_norm(&weight, 1e-5)?.linear(matrix, None, Some(Unary::Silu))?;
            cache.write_at(&normed.reshape(&[1, 1, 1, 64])?, 2, place)?;
            let query = normed.reshape(&[1, 1, 1, 64])?;
            let options = Attention { scale: 0.125, key_count: place + 1, causal_start: Some(place), mask: None };
            x = x.add(&query.attention(&cache, &cache, &options)?.reshape(&[1, 64])?)?;
        }
        Ok(pollster::block_on(x.argmax()?.to_u32())?[0])
    };
    for place in 0..3 {
        step(place).expect("a warm-up step");
    }
    let before = gpu.counters();
    for place in 3..13 {
        step(place).expect("a step");
    }
    let after = gpu.counters();
    assert_eq!(after.buffers_created, before.buffers_created, "buffers");
    assert_eq!(after.bind_groups_created, before.bind_groups_created, "bind groups");
    assert_eq!(after.pipelines_created, before.pipelines_created, "pipelines");
    assert_eq!(after.submits - before.submits, 10, "submits");
    assert_eq!(after.read_backs - before.read_backs, 10, "read-backs");
    assert_eq!(after.bytes_read - before.bytes_read, 40, "bytes read");
    assert_eq!(after.dispatches - before.dispatches, 10 * (1 + 3 * 5 + 1), "dispatches");
}

#[test]
fn deformable_attention() {
    let mut cases = Vec::new();
    for (queries, heads, dim, points) in [(1, 1, 1, 1), (67, 3, 5, 4), (13, 8, 32, 4), (0, 2, 3, 1), (5, 2, 7, 0)] {
        for levels in [vec![[1, 1]], vec![[5, 7]], vec![[13, 17], [7, 9], [4, 5], [2, 3]], vec![[1, 31], [3, 1]]] {
            // A place is a sum of roundings in the size of the level, and neighbours differ by up to 2.
            cases.push(case(
                format!("{queries} · {heads} · {dim} · {points} on {levels:?}"),
                2.0 * SUMS,
                move |make| {
                    let seq = levels.iter().map(|[rows, columns]| rows * columns).sum();
                    let values = make.f32s(&[seq, heads, dim]);
                    let shares = make.f32s(&[queries, heads, levels.len(), points]);
                    // From within, from beside, and from far away.
                    let locations = make.f32s(&[queries, heads, levels.len(), points, 2]);
                    let (near, far) = (locations.affine(0.8, 0.5)?, locations.affine(1e30, 0.0)?);
                    Ok(vec![
                        values.deformable_attention(&levels, &near, &shares)?,
                        values.deformable_attention(&levels, &far, &shares)?,
                    ])
                },
            ));
        }
    }
    check(cases);
}

#[test]
fn many_operations_are_submitted_in_parts_and_stay_in_order() {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu.clone());
    let mut x = Tensor::from_f32(&[0.0; 100], &[100], &device).expect("an input");
    for i in 0..3000 {
        x = x.affine(1.0, if i % 2 == 0 { 2.0 } else { -1.0 }).expect("recorded");
    }
    // An upload between recorded operations must not overwrite what they still use.
    let other = Tensor::from_f32(&[7.0; 100], &[100], &device).expect("an input");
    let (x, other) = (x.add(&other).expect("recorded"), other);
    assert_eq!(pollster::block_on(x.to_f32()).expect("a read-back"), [1507.0; 100]);
    assert_eq!(pollster::block_on(other.to_f32()).expect("a read-back"), [7.0; 100]);
    assert!(gpu.counters().submits >= 4);
}

#[test]
fn uploads_do_not_overwrite_what_is_recorded() {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu);
    let mut sums = Vec::new();
    for i in 0..50 {
        // The uploaded tensor is dropped at once, and its buffer free, while its use is only recorded.
        let uploaded = Tensor::from_f32(&[i as f32; 64], &[64], &device).expect("an input");
        sums.push(uploaded.affine(1.0, 0.5).expect("recorded"));
    }
    for (i, sum) in sums.iter().enumerate() {
        assert_eq!(pollster::block_on(sum.to_f32()).expect("a read-back"), [i as f32 + 0.5; 64]);
    }
}

#[test]
fn too_large_is_an_error_and_not_a_panic() {
    let Some(gpu) = open() else { return };
    let device = Device::Gpu(gpu.clone());
    let elements = gpu.info().buffer_bytes as usize / 4 + 1024;
    let error = Tensor::zeros(&[elements], &device).expect_err("more than a buffer holds");
    assert!(matches!(error, Error::OutOfMemory(_) | Error::Unsupported(_)), "{error}");
    // The engine goes on.
    let x = Tensor::from_f32(&[1.0, 2.0], &[2], &device).expect("an input").affine(2.0, 0.0).expect("recorded");
    assert_eq!(pollster::block_on(x.to_f32()).expect("a read-back"), [2.0, 4.0]);
}

#[test]
fn the_self_test_passes() {
    let Some(gpu) = open() else { return };
    let start = std::time::Instant::now();
    let failures = pollster::block_on(gpu.self_test()).expect("a working device");
    let cold = start.elapsed();
    let start = std::time::Instant::now();
    pollster::block_on(gpu.self_test()).expect("a working device");
    let info = gpu.info();
    println!("self-test on {}: {cold:?} with compilation, {:?} without", info.name, start.elapsed());
    println!("{} kernels in use, {:?}", info.kernels.len(), gpu.counters());
    assert!(failures.is_empty(), "{failures:#?}");
}
