//! Every kernel on small inputs against the CPU engine, as a page does when it starts: some adapters compute wrongly
//! and say nothing.

use super::{Gpu, GpuTensor};
use crate::bundle::{BLOCK, QuantizedBlocks, Scheme};
use crate::error::{Error, Result};
use crate::tensor::{
    Attention, Binary, Conv2d, ConvKernel, DType, Device, Matrix, Padding, Pool, PoolKind, Precision, Reduce, Resize,
    Tensor, Unary,
};

/// A case whose result differs from the CPU engine's.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct KernelFailure {
    /// The operation, as named in the self-test's table.
    pub case: &'static str,
    /// What differed.
    pub reason: String,
}

/// Numbers that look random and are the same everywhere.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    /// Within −1 .. 1.
    fn f32s(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32 / (1 << 23) as f32 - 1.0).collect()
    }
}

/// Makes a case's inputs on one engine. The same calls give the same numbers on both.
struct Inputs<'a> {
    device: &'a Device,
    numbers: Numbers,
}

impl Inputs<'_> {
    fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
        let numbers = self.numbers.f32s(dims.iter().product());
        Tensor::from_f32(&numbers, dims, self.device)
    }

    /// Numbers that f16 holds, too.
    fn halves(&mut self, dims: &[usize]) -> Result<Tensor> {
        let numbers = self.numbers.f32s(dims.iter().product()).into_iter();
        let halves: Vec<f32> = numbers.map(|number| half::f16::from_f32(number).to_f32()).collect();
        Tensor::from_f32(&halves, dims, self.device)
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        Tensor::from_u32(ids, &[ids.len()], self.device)
    }

    fn quantized(&mut self, scheme: Scheme, rows: usize, cols: usize) -> Result<Matrix> {
        let blocks = rows * cols / BLOCK;
        let mut f16s = |count| self.numbers.f32s(count).into_iter().map(half::f16::from_f32).collect::<Vec<_>>();
        let scales = f16s(blocks);
        let mins = f16s(if scheme == Scheme::Q4_1 { blocks } else { 0 });
        let values = (0..blocks * scheme.block_bytes()).map(|_| self.numbers.next() as u8).collect();
        // The oracle multiplies in f32, as the GPU does.
        let blocks = QuantizedBlocks::new(scheme, rows, cols, values, scales, mins)?;
        Ok(Matrix::quantized(blocks, self.device)?.with_precision(Precision::Full))
    }
}

type Run = fn(&mut Inputs<'_>) -> Result<Vec<Tensor>>;

/// An operation's name, and what runs it. Sizes are odd and small, so that edges of tiles are met.
const CASES: &[(&str, Run)] = &[
    ("zeros", |inputs| Ok(vec![Tensor::zeros(&[5, 3], inputs.device)?])),
    ("permute", |inputs| Ok(vec![inputs.tensor(&[2, 3, 5, 7])?.permute(&[3, 1, 0, 2])?])),
    ("narrow, concat, pad, broadcast_to", |inputs| {
        let (a, b) = (inputs.tensor(&[3, 5])?.narrow(1, 1, 3)?, inputs.tensor(&[3, 2])?);
        let joined = Tensor::concat(&[&a, &b], 1)?;
        Ok(vec![joined.pad(0, 1, 2)?, joined.reshape(&[3, 1, 5])?.broadcast_to(&[2, 3, 4, 5])?])
    }),
    ("write_at", |inputs| {
        let target = inputs.tensor(&[2, 7, 3])?;
        target.write_at(&inputs.tensor(&[2, 2, 3])?, 1, 4)?;
        Ok(vec![target])
    }),
    ("index_select", |inputs| Ok(vec![inputs.tensor(&[3, 5, 2])?.index_select(1, &inputs.ids(&[4, 0, 4, 2])?)?])),
    ("binary", |inputs| {
        let (a, b) = (inputs.tensor(&[3, 1, 5])?, inputs.tensor(&[2, 5])?);
        let all = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Max, Binary::Min];
        let mut results: Vec<Tensor> = all.into_iter().map(|op| a.binary(&b, op)).collect::<Result<_>>()?;
        results.push(a.div(&b.affine(0.25, 2.0)?)?);
        Ok(results)
    }),
    ("unary", |inputs| {
        let x = inputs.tensor(&[67])?.affine(4.0, 0.0)?;
        let all = [Unary::Relu, Unary::Relu6, Unary::LeakyRelu(0.1), Unary::Gelu, Unary::GeluTanh, Unary::Silu]
            .into_iter()
            .chain([Unary::Sigmoid, Unary::Tanh, Unary::Sin, Unary::Cos, Unary::Clamp(-1.0, 0.5)]);
        all.map(|op| x.unary(op)).collect()
    }),
    ("reduce", |inputs| {
        let x = inputs.tensor(&[3, 70, 5])?;
        let all = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min];
        let along = |axis| all.into_iter().map(move |op| (op, axis));
        along(1).chain(along(2)).map(|(op, axis)| x.reduce(op, axis)).collect()
    }),
    ("argmax", |inputs| Ok(vec![inputs.tensor(&[3, 300])?.argmax()?])),
    ("top_k", |inputs| Ok(vec![inputs.tensor(&[3, 300])?.top_k(37)?])),
    ("softmax", |inputs| Ok(vec![inputs.tensor(&[3, 131])?.affine(5.0, 0.0)?.softmax()?])),
    ("layer_norm", |inputs| {
        let x = inputs.tensor(&[3, 131])?.affine(1.0, 3.0)?;
        Ok(vec![x.layer_norm(&inputs.tensor(&[131])?, &inputs.tensor(&[131])?, 1e-5)?])
    }),
    ("rms_norm", |inputs| Ok(vec![inputs.tensor(&[3, 131])?.rms_norm(&inputs.tensor(&[131])?, 1e-5)?])),
    ("group_norm", |inputs| {
        let (weight, bias) = (inputs.tensor(&[6])?, inputs.tensor(&[6])?);
        Ok(vec![inputs.tensor(&[2, 6, 5, 7])?.group_norm(3, &weight, &bias, 1e-5)?])
    }),
    ("matmul", |inputs| {
        let (a, b, c) = (inputs.tensor(&[2, 37, 19])?, inputs.tensor(&[2, 19, 35])?, inputs.tensor(&[2, 35, 19])?);
        Ok(vec![a.matmul(&b)?, a.matmul_transposed(&c)?])
    }),
    ("linear", |inputs| {
        let (matrix, bias) = (Matrix::dense(&inputs.tensor(&[35, 19])?)?, inputs.tensor(&[35])?);
        let (one, many) = (inputs.tensor(&[1, 19])?, inputs.tensor(&[37, 19])?);
        let through = |x: &Tensor| x.linear(&matrix, Some(&bias), Some(Unary::Gelu));
        Ok(vec![through(&one)?, one.linear(&matrix, None, None)?, through(&many)?, many.linear(&matrix, None, None)?])
    }),
    ("linear q4_0", |inputs| quantized(inputs, Scheme::Q4_0)),
    ("linear q4_1", |inputs| quantized(inputs, Scheme::Q4_1)),
    ("linear q8_0", |inputs| quantized(inputs, Scheme::Q8_0)),
    ("conv2d", |inputs| {
        let dense = Conv2d { stride: [2, 2], padding: Padding::all(1), ..Conv2d::default() };
        let strip = Conv2d { activation: Some(Unary::Relu6), ..Conv2d::default() };
        let large = inputs.tensor(&[1, 3, 33, 35])?;
        Ok(vec![
            conv(inputs, [5, 3, 3, 3], dense)?,
            conv(inputs, [5, 3, 1, 1], strip)?,
            large.conv2d(&ConvKernel::new(&inputs.tensor(&[5, 3, 1, 3])?, None, strip)?)?,
            conv(inputs, [6, 1, 3, 3], Conv2d { groups: 3, ..dense })?,
        ])
    }),
    ("conv_transpose2d", |inputs| {
        let (weight, bias) = (inputs.tensor(&[3, 5, 2, 2])?, inputs.tensor(&[5])?);
        Ok(vec![inputs.tensor(&[2, 3, 5, 7])?.conv_transpose2d(&weight, Some(&bias), 2)?])
    }),
    ("pool2d", |inputs| {
        let x = inputs.tensor(&[1, 2, 7, 9])?;
        let options = |kind| Pool { kind, kernel: [3, 3], stride: [2, 2], padding: Padding::all(1) };
        Ok(vec![x.pool2d(&options(PoolKind::Max))?, x.pool2d(&options(PoolKind::Mean))?])
    }),
    ("resize", |inputs| {
        let x = inputs.tensor(&[1, 2, 5, 7])?;
        let all = [Resize::Nearest, Resize::Bilinear, Resize::BilinearAlignCorners];
        all.into_iter().map(|mode| x.resize(11, 4, mode)).collect()
    }),
    ("attention", |inputs| {
        let (query, key) = (inputs.tensor(&[1, 4, 3, 16])?, inputs.halves(&[1, 2, 80, 16])?);
        let (value, mask) = (inputs.halves(&[1, 2, 80, 16])?, inputs.tensor(&[1, 1, 3, 70])?);
        let masked = Attention { scale: 0.25, key_count: 70, causal_start: None, mask: Some(&mask) };
        let causal = Attention { causal_start: Some(67), mask: None, ..masked };
        let many = inputs.tensor(&[1, 4, 19, 16])?;
        Ok(vec![
            query.attention(&key, &value, &masked)?,
            query.attention(&key, &value, &causal)?,
            many.attention(&key, &value, &Attention { mask: None, ..masked })?,
            many.attention(&key, &value, &Attention { causal_start: Some(51), ..causal })?,
            query.attention(&key.kept()?, &value.kept()?, &causal)?,
            many.attention(&key.kept()?, &value.kept()?, &Attention { mask: None, ..masked })?,
        ])
    }),
    ("deformable_attention", |inputs| {
        let (values, shares) = (inputs.tensor(&[5 * 7 + 2 * 3, 2, 5])?, inputs.tensor(&[11, 2, 2, 3])?);
        let locations = inputs.tensor(&[11, 2, 2, 3, 2])?.affine(0.7, 0.5)?;
        Ok(vec![values.deformable_attention(&[[5, 7], [2, 3]], &locations, &shares)?])
    }),
    ("rope", |inputs| {
        let (cos, sin) = (inputs.tensor(&[9, 4])?, inputs.tensor(&[9, 4])?);
        Ok(vec![inputs.tensor(&[1, 3, 5, 8])?.rope(&cos, &sin, 2)?])
    }),
];

fn quantized(inputs: &mut Inputs<'_>, scheme: Scheme) -> Result<Vec<Tensor>> {
    let (matrix, bias) = (inputs.quantized(scheme, 37, 96)?, inputs.tensor(&[37])?);
    let (one, many) = (inputs.tensor(&[1, 96])?, inputs.tensor(&[35, 96])?);
    let through = |x: &Tensor| x.linear(&matrix, Some(&bias), Some(Unary::Relu));
    let plain = |x: &Tensor| x.linear(&matrix, None, None);
    let rows = Tensor::embedding(&matrix, &inputs.ids(&[36, 0, 5])?)?;
    Ok(vec![through(&one)?, plain(&one)?, through(&many)?, plain(&many)?, rows])
}

fn conv(inputs: &mut Inputs<'_>, dims: [usize; 4], options: Conv2d) -> Result<Tensor> {
    let (weight, bias) = (inputs.tensor(&dims)?, inputs.tensor(&[dims[0]])?);
    inputs.tensor(&[2, dims[1] * options.groups, 9, 7])?.conv2d(&ConvKernel::new(&weight, Some(&bias), options)?)
}

/// Differences up to this share of a result's largest number are rounding: up to 131 summands here, and functions that
/// WGSL lets differ in the last bits.
const TOLERANCE: f32 = 2e-5;

fn run(case: Run, device: &Device) -> Result<Vec<Tensor>> {
    case(&mut Inputs { device, numbers: Numbers(1) })
}

/// What differs between two results; `None` if nothing does.
fn difference(dtype: DType, expected: &[u32], found: &[u32]) -> Option<String> {
    if dtype == DType::U32 {
        return (expected != found).then(|| format!("expected {expected:?}, found {found:?}"));
    }
    let expected: &[f32] = bytemuck::cast_slice(expected);
    let found: &[f32] = bytemuck::cast_slice(found);
    let size = expected.iter().fold(1f32, |size, x| size.max(x.abs()));
    let close = |a: f32, b: f32| (a - b).abs() <= TOLERANCE * size; // not so for NaN
    let place = expected.iter().zip(found).position(|(a, b)| !close(*a, *b))?;
    Some(format!("element {place}: expected {}, found {}", expected[place], found[place]))
}

impl Gpu {
    /// Runs every kernel on small inputs and compares with the CPU engine; what is returned failed. An empty list
    /// means that the adapter can be trusted; with any other a caller goes on with the CPU engine.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device fails or is lost meanwhile.
    pub async fn self_test(&self) -> Result<Vec<KernelFailure>> {
        let device = Device::Gpu(self.clone());
        let mut failures = Vec::new();
        let mut computed: Vec<(&'static str, Tensor, Tensor)> = Vec::new();
        for (case, operation) in CASES {
            match (run(*operation, &Device::Cpu), run(*operation, &device)) {
                (Ok(expected), Ok(found)) => {
                    computed.extend(expected.into_iter().zip(found).map(|(expected, found)| (*case, expected, found)));
                }
                (_, Err(error)) | (Err(error), Ok(_)) => {
                    failures.push(KernelFailure { case, reason: error.to_string() });
                }
            }
        }
        let tensors: Vec<&GpuTensor> = computed.iter().filter_map(|(_, _, found)| found.gpu()).collect();
        let results = self.read_back(&tensors).await?;
        for ((case, expected, _), found) in computed.iter().zip(&results) {
            let dtype = expected.dtype();
            let expected: Vec<u32> = match dtype {
                DType::F32 => bytemuck::cast_vec(expected.to_f32().await?),
                DType::U32 => expected.to_u32().await?,
            };
            if expected.len() != found.len() {
                return Err(Error::Gpu(format!("{case}: expected {} numbers, found {}", expected.len(), found.len())));
            }
            if let Some(reason) = difference(dtype, &expected, found) {
                failures.push(KernelFailure { case, reason });
            }
        }
        Ok(failures)
    }
}
