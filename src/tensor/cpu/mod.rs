//! The CPU engine: candle's tensors, with kernels of its own that are fast in WebAssembly.
//!
//! A tensor that takes part in training (candle tracks it, or it lies on another of candle's devices) goes through operations
//! that candle can differentiate (`plain`); all others go through the kernels. Tensors without elements never reach either.

mod kernels;
mod plain;

use candle_core::{DType as CandleDType, Device, Storage, Tensor};

use super::engine::EngineTensor;
use super::{Attention, Binary, Conv2d, DType, Pool, PoolKind, Precision, Reduce, Resize, Unary};
use crate::bundle::QuantizedBlocks;
use crate::error::{Error, Result};
use kernels::attention::Head;
use kernels::conv::{PackedConv, Shape};
use kernels::deformable::Pyramid;
use kernels::elementwise::Smooth;
use kernels::gemm::{Finish, PackedColumns};
use kernels::norm::Norm;
use kernels::quantized::PackedMatrix;

/// A candle tensor, f32 or u32; it may be a strided view.
#[derive(Debug, Clone)]
pub(crate) struct CpuTensor(Tensor);

/// Weights of a linear layer.
#[derive(Debug)]
pub(crate) enum CpuMatrix {
    /// `[out, in]` f32.
    Dense(Tensor),
    /// Kept in blocks.
    Quantized {
        /// In the order in which they are multiplied.
        packed: PackedMatrix,
        /// Of the activations.
        precision: Precision,
    },
}

/// Whether tensors may take part in training. Pages do not train, and go without the code for it.
const TRAINS: bool = cfg!(not(target_arch = "wasm32"));

impl CpuMatrix {
    /// The same numbers, as f32, on one of candle's devices.
    pub(crate) fn on_candle(&self, device: &Device) -> Result<Self> {
        let numbers = match self {
            Self::Dense(weight) => weight.clone(),
            Self::Quantized { packed, .. } => {
                Tensor::from_vec(packed.dequantize(), (packed.rows(), packed.cols()), &Device::Cpu)?
            }
        };
        Ok(Self::Dense(numbers.to_device(device)?))
    }
}

/// Weights of a convolution.
#[derive(Debug)]
pub(crate) struct CpuKernel {
    dims: Vec<usize>,
    weights: KernelWeights,
    options: Conv2d,
}

#[derive(Debug)]
enum KernelWeights {
    /// For training.
    Plain(Tensor, Option<Tensor>),
    Packed(Box<PackedConv>),
}

/// What of an activation the products do themselves, and what is left.
fn split_activation(activation: Option<Unary>) -> (Finish, Option<Unary>) {
    match activation {
        Some(Unary::Relu) => (Finish::Clamp(0.0, f32::INFINITY), None),
        Some(Unary::Relu6) => (Finish::Clamp(0.0, 6.0), None),
        Some(Unary::Clamp(low, high)) => (Finish::Clamp(low, high), None),
        Some(Unary::LeakyRelu(slope)) => (Finish::Leaky(slope), None),
        other => (Finish::None, other),
    }
}

fn smooth(op: Unary) -> Option<Smooth> {
    Some(match op {
        Unary::Silu => Smooth::Silu,
        Unary::Sigmoid => Smooth::Sigmoid,
        Unary::Tanh => Smooth::Tanh,
        Unary::Gelu => Smooth::Gelu,
        Unary::GeluTanh => Smooth::GeluTanh,
        _ => return None,
    })
}

fn activate(numbers: &mut [f32], activation: Option<Unary>) {
    let Some(op) = activation else { return };
    match smooth(op) {
        Some(op) => kernels::elementwise::map(op, numbers),
        None => numbers.iter_mut().for_each(|x| *x = op.apply(*x)),
    }
}

fn count(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// Lets `compute` read the f32 numbers in row-major order, without copying where the tensor is dense.
fn with_f32<T>(tensor: &Tensor, compute: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let dense = tensor.contiguous()?;
    let (storage, layout) = dense.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return Err(Error::shape("cpu engine", "a foreign tensor")) };
    let start = layout.start_offset();
    Ok(compute(&storage.as_slice::<f32>()?[start..start + dense.elem_count()]))
}

/// The same for a tensor that may be missing, which gives no numbers.
fn with_optional<T>(tensor: Option<&Tensor>, compute: impl FnOnce(&[f32]) -> T) -> Result<T> {
    match tensor {
        Some(tensor) => with_f32(tensor, compute),
        None => Ok(compute(&[])),
    }
}

impl CpuTensor {
    pub(crate) fn from_candle(tensor: Tensor) -> Self {
        Self(tensor)
    }

    pub(crate) fn candle(&self) -> &Tensor {
        &self.0
    }

    fn from_vec(data: Vec<f32>, dims: &[usize]) -> Result<Self> {
        Ok(Self(Tensor::from_vec(data, dims, &Device::Cpu)?))
    }

    fn is_empty(&self) -> bool {
        self.0.elem_count() == 0
    }

    /// Zeros of that shape and of this tensor's type.
    fn zeros_like(&self, dims: &[usize]) -> Result<Self> {
        Ok(Self(Tensor::zeros(dims, self.0.dtype(), self.0.device())?))
    }

    /// The same numbers on one of candle's devices.
    pub(crate) fn on_candle(&self, device: &Device) -> Result<Self> {
        Ok(Self(self.0.to_device(device)?))
    }

    /// A copy of the numbers, changed in place.
    fn changed(&self, change: impl FnOnce(&mut [f32])) -> Result<Self> {
        let mut numbers = with_f32(&self.0, <[f32]>::to_vec)?;
        change(&mut numbers);
        Self::from_vec(numbers, self.dims())
    }

    /// Applies `compute` to every plane of `[batch, channels, height, width]`.
    fn planes(&self, to: [usize; 2], mut compute: impl FnMut(&[f32], &mut [f32])) -> Result<Self> {
        let (batch, channels, height, width) = self.0.dims4()?;
        let mut out = vec![0.0; batch * channels * to[0] * to[1]];
        with_f32(&self.0, |pixels| {
            let planes = pixels.chunks_exact((height * width).max(1));
            for (plane, out) in planes.zip(out.chunks_exact_mut((to[0] * to[1]).max(1))) {
                compute(plane, out);
            }
        })?;
        Self::from_vec(out, &[batch, channels, to[0], to[1]])
    }
}

/// Whether candle must see the operation: to differentiate it, or since no kernel here reaches the numbers.
fn tracked<'a>(tensors: impl IntoIterator<Item = &'a CpuTensor>) -> bool {
    TRAINS && tensors.into_iter().any(|tensor| tensor.0.track_op() || !tensor.0.device().is_cpu())
}

impl EngineTensor for CpuTensor {
    type Device = ();
    type Matrix = CpuMatrix;
    type Kernel = CpuKernel;

    fn from_f32(data: &[f32], dims: &[usize], (): &()) -> Result<Self> {
        Ok(Self(Tensor::from_slice(data, dims, &Device::Cpu)?))
    }

    fn from_u32(data: &[u32], dims: &[usize], (): &()) -> Result<Self> {
        Ok(Self(Tensor::from_slice(data, dims, &Device::Cpu)?))
    }

    fn zeros(dims: &[usize], (): &()) -> Result<Self> {
        Ok(Self(Tensor::zeros(dims, CandleDType::F32, &Device::Cpu)?))
    }

    fn dims(&self) -> &[usize] {
        self.0.dims()
    }

    fn dtype(&self) -> DType {
        if self.0.dtype() == CandleDType::U32 { DType::U32 } else { DType::F32 }
    }

    async fn to_f32(&self) -> Result<Vec<f32>> {
        if !self.0.device().is_cpu() {
            return Ok(self.0.flatten_all()?.to_vec1()?);
        }
        with_f32(&self.0, <[f32]>::to_vec)
    }

    async fn to_u32(&self) -> Result<Vec<u32>> {
        Ok(self.0.flatten_all()?.to_vec1()?)
    }

    fn reshape(&self, dims: &[usize]) -> Result<Self> {
        Ok(Self(self.0.reshape(dims)?))
    }

    fn permute(&self, axes: &[usize]) -> Result<Self> {
        Ok(Self(self.0.permute(axes)?))
    }

    fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        Ok(Self(self.0.narrow(axis, start, len)?))
    }

    fn concat(tensors: &[&Self], axis: usize) -> Result<Self> {
        let mut dims = tensors[0].dims().to_vec();
        dims[axis] = tensors.iter().map(|tensor| tensor.dims()[axis]).sum();
        let filled: Vec<&Tensor> = tensors.iter().filter(|tensor| !tensor.is_empty()).map(|tensor| &tensor.0).collect();
        match filled[..] {
            [] => tensors[0].zeros_like(&dims),
            [one] => Ok(Self(one.clone())),
            _ => Ok(Self(Tensor::cat(&filled, axis)?)),
        }
    }

    fn pad(&self, axis: usize, before: usize, after: usize) -> Result<Self> {
        if self.is_empty() {
            let mut dims = self.dims().to_vec();
            dims[axis] += before + after;
            return self.zeros_like(&dims);
        }
        Ok(Self(self.0.pad_with_zeros(axis, before, after)?))
    }

    fn broadcast_to(&self, dims: &[usize]) -> Result<Self> {
        Ok(Self(self.0.broadcast_as(dims)?))
    }

    fn index_select(&self, axis: usize, ids: &Self) -> Result<Self> {
        let mut dims = self.dims().to_vec();
        let (size, places) = (dims[axis], ids.0.to_vec1::<u32>()?);
        if let Some(id) = places.iter().find(|id| **id as usize >= size) {
            return Err(Error::shape("index_select", format!("index {id} on axis {axis} of {:?}", self.dims())));
        }
        dims[axis] = places.len();
        if count(&dims) == 0 {
            return self.zeros_like(&dims);
        }
        let ids = ids.0.contiguous()?.to_device(self.0.device())?;
        Ok(Self(self.0.contiguous()?.index_select(&ids, axis)?))
    }

    fn write_at(&self, source: &Self, axis: usize, start: usize) -> Result<()> {
        if source.is_empty() {
            return Ok(());
        }
        Ok(self.0.slice_set(&source.0.contiguous()?, axis, start)?)
    }

    fn binary(&self, other: &Self, op: Binary, dims: &[usize]) -> Result<Self> {
        if count(dims) == 0 {
            return self.zeros_like(dims);
        }
        let (a, b) = (&self.0, &other.0);
        Ok(Self(match op {
            Binary::Add => a.broadcast_add(b),
            Binary::Sub => a.broadcast_sub(b),
            Binary::Mul => a.broadcast_mul(b),
            Binary::Div => a.broadcast_div(b),
            Binary::Max => a.broadcast_maximum(b),
            Binary::Min => a.broadcast_minimum(b),
        }?))
    }

    fn affine(&self, scale: f32, shift: f32) -> Result<Self> {
        Ok(Self(self.0.affine(f64::from(scale), f64::from(shift))?))
    }

    fn unary(&self, op: Unary) -> Result<Self> {
        match smooth(op) {
            Some(op) if !tracked([self]) => self.changed(|x| kernels::elementwise::map(op, x)),
            _ => Ok(Self(plain::unary(&self.0, op)?)),
        }
    }

    fn reduce(&self, op: Reduce, axis: usize) -> Result<Self> {
        if self.is_empty() {
            let mut dims = self.dims().to_vec();
            dims.remove(axis);
            return self.zeros_like(&dims);
        }
        Ok(Self(match op {
            Reduce::Sum => self.0.sum(axis),
            Reduce::Mean => self.0.mean(axis),
            Reduce::Max => self.0.max(axis),
            Reduce::Min => self.0.min(axis),
        }?))
    }

    fn argmax(&self) -> Result<Self> {
        let (front, last) = self.dims().split_at(self.dims().len() - 1);
        let first_largest = |row: &[f32]| {
            let mut best = 0;
            for (at, x) in row.iter().enumerate() {
                if *x > row[best] || row[best].is_nan() && !x.is_nan() {
                    best = at;
                }
            }
            best as u32
        };
        let best: Vec<u32> = with_f32(&self.0, |x| x.chunks_exact(last[0]).map(first_largest).collect())?;
        Ok(Self(Tensor::from_vec(best, front, &Device::Cpu)?))
    }

    fn top_k(&self, kept: usize) -> Result<Self> {
        let (front, last) = self.dims().split_at(self.dims().len() - 1);
        let largest = |row: &[f32]| {
            let mut places: Vec<u32> = (0..row.len() as u32).collect();
            places.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
            places.truncate(kept);
            places
        };
        let mut dims = front.to_vec();
        dims.push(kept);
        let places: Vec<u32> = with_f32(&self.0, |x| x.chunks_exact(last[0].max(1)).flat_map(largest).collect())?;
        Ok(Self(Tensor::from_vec(places, dims, &Device::Cpu)?))
    }

    fn softmax(&self) -> Result<Self> {
        if tracked([self]) {
            return Ok(Self(candle_nn::ops::softmax(&self.0, candle_core::D::Minus1)?));
        }
        let dim = self.dims()[self.dims().len() - 1];
        self.changed(|x| kernels::norm::softmax(x, dim))
    }

    fn layer_norm(&self, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        if tracked([self, weight, bias]) {
            return Ok(Self(plain::layer_norm(&self.0, &weight.0, &bias.0, eps)?));
        }
        with_f32(&weight.0, |weight| {
            with_f32(&bias.0, |bias| self.changed(|x| kernels::norm::normalize(x, Norm::Layer { weight, bias }, eps)))?
        })?
    }

    fn rms_norm(&self, weight: &Self, eps: f32) -> Result<Self> {
        if tracked([self, weight]) {
            return Ok(Self(plain::rms_norm(&self.0, &weight.0, eps)?));
        }
        with_f32(&weight.0, |weight| {
            self.changed(|x| kernels::norm::normalize(x, Norm::RootMeanSquare { weight }, eps))
        })?
    }

    fn group_norm(&self, groups: usize, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        if tracked([self, weight, bias]) {
            return Ok(Self(plain::group_norm(&self.0, groups, &weight.0, &bias.0, eps)?));
        }
        let plane = count(&self.dims()[2..]);
        with_f32(&weight.0, |weight| {
            with_f32(&bias.0, |bias| {
                self.changed(|x| {
                    if !x.is_empty() {
                        kernels::norm::normalize(x, Norm::Group { weight, bias, groups, plane }, eps);
                    }
                })
            })?
        })?
    }

    fn matmul(&self, other: &Self, transposed: bool) -> Result<Self> {
        let (batch, m, k) = self.0.dims3()?;
        let n = other.dims()[if transposed { 1 } else { 2 }];
        if tracked([self, other]) {
            let other = if transposed { other.0.transpose(1, 2)? } else { other.0.clone() };
            return Ok(Self(self.0.contiguous()?.matmul(&other.contiguous()?)?));
        }
        let mut out = vec![0.0; batch * m * n];
        with_f32(&self.0, |a| {
            with_f32(&other.0, |b| {
                for (index, out) in out.chunks_exact_mut((m * n).max(1)).enumerate() {
                    let (a, b) = (&a[index * m * k..][..m * k], &b[index * k * n..][..k * n]);
                    if transposed {
                        kernels::dot::multiply(a, b, [n, k], &[], Finish::None, out);
                    } else {
                        PackedColumns::new(b, n, k, false).multiply(a, None, Finish::None, out);
                    }
                }
            })
        })??;
        Self::from_vec(out, &[batch, m, n])
    }

    fn kept(&self) -> Result<Self> {
        Ok(self.clone())
    }

    fn attention(&self, key: &Self, value: &Self, options: &Attention<'_>, mask: Option<&Self>) -> Result<Self> {
        if tracked([self, key, value].into_iter().chain(mask)) {
            return Ok(Self(plain::attention(&self.0, &key.0, &value.0, options, mask.map(|mask| &mask.0))?));
        }
        let (batch, heads, query_count, dim) = self.0.dims4()?;
        let (_, key_heads, capacity, value_dim) = value.0.dims4()?;
        let mut out = vec![0.0; batch * heads * query_count * value_dim];
        let full = [batch, heads, query_count, options.key_count];
        let mask = mask.map(|mask| mask.0.broadcast_as(&full)).transpose()?;
        // Read by its strides, so that a mask that serves all heads is not copied for each.
        let mask = mask.as_ref().map(Tensor::storage_and_layout);
        let mask = match &mask {
            Some((storage, layout)) => {
                let Storage::Cpu(storage) = &**storage else {
                    return Err(Error::shape("attention", "a foreign mask"));
                };
                Some((&storage.as_slice::<f32>()?[layout.start_offset()..], layout.stride()))
            }
            None => None,
        };
        let multiplications = count(&full) * (dim + value_dim);
        let Attention { scale, key_count: keys, causal_start, .. } = *options;
        let mut attend = |query: &[f32], key: &[f32], value: &[f32]| {
            kernels::for_each_piece(&mut out, query_count * value_dim, multiplications, |index, out| {
                let (at, head) = (index / heads, index % heads);
                let shared = (at * key_heads + head / (heads / key_heads)) * capacity;
                let attending = Head {
                    key: &key[shared * dim..][..capacity * dim],
                    value: &value[shared * value_dim..][..capacity * value_dim],
                    keys,
                    dim,
                    value_dim,
                    scale,
                    causal_start,
                };
                let add = |row: usize, scores: &mut [f32]| {
                    let Some((mask, stride)) = mask else { return };
                    let start = at * stride[0] + head * stride[1] + row * stride[2];
                    for (j, score) in scores.iter_mut().enumerate() {
                        *score += mask[start + j * stride[3]];
                    }
                };
                let query = &query[index * query_count * dim..][..query_count * dim];
                attending.attend(query, mask.is_some().then_some(&add as _), out);
            });
        };
        with_f32(&self.0, |q| with_f32(&key.0, |k| with_f32(&value.0, |v| attend(q, k, v))))???;
        Self::from_vec(out, &[batch, heads, query_count, value_dim])
    }

    fn deformable_attention(&self, levels: &[[usize; 2]], locations: &Self, shares: &Self) -> Result<Self> {
        if tracked([self, locations, shares]) {
            return Err(Error::Unsupported("a gradient of deformable attention".into()));
        }
        let (_, heads, dim) = self.0.dims3()?;
        let (queries, _, level_count, points) = shares.0.dims4()?;
        let mut first = 0;
        let starts = levels.iter().map(|[rows, columns]| {
            first += rows * columns;
            [*rows, *columns, first - rows * columns]
        });
        let starts: Vec<[usize; 3]> = starts.collect();
        let mut out = vec![0.0; queries * heads * dim];
        let (piece, places) = (heads * dim, heads * level_count * points);
        let multiplications = 8 * queries * places * dim;
        let mut read = |values: &[f32], locations: &[f32], shares: &[f32]| {
            let pyramid = Pyramid { values, levels: &starts, heads, dim, points };
            kernels::for_each_piece(&mut out, piece, multiplications, |query, out| {
                let at = query * places;
                pyramid.read(&locations[2 * at..][..2 * places], &shares[at..][..places], out);
            });
        };
        with_f32(&self.0, |v| with_f32(&locations.0, |l| with_f32(&shares.0, |s| read(v, l, s))))???;
        Self::from_vec(out, &[queries, heads, dim])
    }

    fn rope(&self, cos: &Self, sin: &Self, start: usize) -> Result<Self> {
        if tracked([self, cos, sin]) {
            return Ok(Self(plain::rope(&self.0, &cos.0, &sin.0, start)?));
        }
        let (_, _, seq, dim) = self.0.dims4()?;
        with_f32(&cos.0.narrow(0, start, seq)?, |cos| {
            with_f32(&sin.0.narrow(0, start, seq)?, |sin| {
                self.changed(|x| kernels::elementwise::rope(x, cos, sin, dim / 2))
            })?
        })?
    }

    fn dense_matrix(&self) -> Result<CpuMatrix> {
        Ok(CpuMatrix::Dense(self.0.clone()))
    }

    fn quantized_matrix(blocks: QuantizedBlocks, (): &()) -> Result<CpuMatrix> {
        Ok(CpuMatrix::Quantized { packed: PackedMatrix::new(blocks)?, precision: Precision::default() })
    }

    fn set_precision(matrix: &mut CpuMatrix, new: Precision) {
        if let CpuMatrix::Quantized { precision, .. } = matrix {
            *precision = new;
        }
    }

    fn linear(&self, matrix: &CpuMatrix, bias: Option<&Self>, activation: Option<Unary>) -> Result<Self> {
        let training = tracked([self].into_iter().chain(bias));
        let (front, cols) = self.dims().split_at(self.dims().len() - 1);
        let (finish, left) = split_activation(activation);
        let (rows, out) = match matrix {
            CpuMatrix::Dense(weight) if TRAINS && weight.track_op() => {
                return Ok(Self(plain::linear(&self.0, weight, bias.map(|bias| &bias.0), activation)?));
            }
            CpuMatrix::Dense(weight) if training => {
                let bias = bias.map(|bias| &bias.0);
                return Ok(Self(plain::frozen_linear(&self.0, weight.clone(), bias, activation)?));
            }
            CpuMatrix::Quantized { packed, .. } if training => {
                let weight = Tensor::from_vec(packed.dequantize(), (packed.rows(), packed.cols()), &Device::Cpu)?;
                let bias = bias.map(|bias| &bias.0);
                return Ok(Self(plain::frozen_linear(&self.0, weight, bias, activation)?));
            }
            CpuMatrix::Quantized { packed, precision: Precision::Full } => {
                let weight = Tensor::from_vec(packed.dequantize(), (packed.rows(), packed.cols()), &Device::Cpu)?;
                return Ok(Self(plain::linear(&self.0, &weight, bias.map(|bias| &bias.0), activation)?));
            }
            CpuMatrix::Dense(weight) => {
                let shape = [weight.dims()[0], cols[0]];
                let mut out = vec![0.0; count(front) * shape[0]];
                with_f32(&self.0, |x| {
                    with_f32(weight, |weight| {
                        with_optional(bias.map(|bias| &bias.0), |bias| {
                            kernels::dot::multiply(x, weight, shape, bias, finish, &mut out);
                        })
                    })
                })???;
                (shape[0], out)
            }
            CpuMatrix::Quantized { packed, precision } => {
                let mut out = vec![0.0; count(front) * packed.rows()];
                with_f32(&self.0, |x| packed.multiply(x, *precision == Precision::Exact, &mut out))?;
                with_optional(bias.map(|bias| &bias.0), |bias| kernels::elementwise::add_rows(&mut out, bias, finish))?;
                (packed.rows(), out)
            }
        };
        let mut out = out;
        activate(&mut out, left);
        let mut dims = front.to_vec();
        dims.push(rows);
        Self::from_vec(out, &dims)
    }

    fn embedding(matrix: &CpuMatrix, ids: &Self) -> Result<Self> {
        match matrix {
            CpuMatrix::Dense(weight) => Self(weight.clone()).index_select(0, ids),
            CpuMatrix::Quantized { packed, .. } => {
                let ids: Vec<u32> = ids.0.to_vec1()?;
                let mut out = vec![0.0; ids.len() * packed.cols()];
                for (at, id) in ids.iter().enumerate() {
                    if *id as usize >= packed.rows() {
                        return Err(Error::shape("embedding", format!("id {id} of {} rows", packed.rows())));
                    }
                    packed.dequantize_row(*id as usize, &mut out[at * packed.cols()..(at + 1) * packed.cols()]);
                }
                Self::from_vec(out, &[ids.len(), packed.cols()])
            }
        }
    }

    fn kernel(weight: &Self, bias: Option<&Self>, options: &Conv2d) -> Result<CpuKernel> {
        let dims = weight.dims().to_vec();
        if tracked([weight].into_iter().chain(bias)) {
            let weights = KernelWeights::Plain(weight.0.clone(), bias.map(|bias| bias.0.clone()));
            return Ok(CpuKernel { dims, weights, options: *options });
        }
        let Conv2d { stride, padding, dilation, groups, activation } = *options;
        let shape = Shape {
            out: dims[0],
            in_group: dims[1],
            groups,
            kernel: [dims[2], dims[3]],
            stride,
            dilation,
            before: [padding.top, padding.left],
            after: [padding.bottom, padding.right],
        };
        let finish = split_activation(activation).0;
        let packed = with_f32(&weight.0, |weight| {
            with_optional(bias.map(|bias| &bias.0), |bias| PackedConv::new(shape, weight, bias, finish))
        })??;
        Ok(CpuKernel { dims, weights: KernelWeights::Packed(Box::new(packed)), options: *options })
    }

    fn conv2d(&self, kernel: &CpuKernel) -> Result<Self> {
        let packed = match &kernel.weights {
            KernelWeights::Plain(..) if !TRAINS => return Err(Error::shape("conv2d", "a page does not train")),
            KernelWeights::Plain(weight, bias) => {
                return Ok(Self(plain::conv2d(&self.0, weight, bias.as_ref(), &kernel.options)?));
            }
            KernelWeights::Packed(packed) if tracked([self]) => {
                let (weight, bias) = packed.unpack();
                let weight = Tensor::from_vec(weight, kernel.dims.as_slice(), &Device::Cpu)?;
                let bias = Tensor::from_slice(bias, kernel.dims[0], &Device::Cpu)?;
                return Ok(Self(plain::conv2d(&self.0, &weight, Some(&bias), &kernel.options)?));
            }
            KernelWeights::Packed(packed) => packed,
        };
        let (batch, channels, height, width) = self.0.dims4()?;
        let size = packed.out_size([height, width]);
        let pixels = size[0] * size[1];
        let mut out = vec![0.0; batch * kernel.dims[0] * pixels];
        with_f32(&self.0, |pictures| {
            for (index, out) in out.chunks_exact_mut((kernel.dims[0] * pixels).max(1)).enumerate() {
                let picture = channels * height * width;
                packed.run(&pictures[index * picture..][..picture], [height, width], size, out);
            }
        })?;
        activate(&mut out, split_activation(kernel.options.activation).1);
        Self::from_vec(out, &[batch, kernel.dims[0], size[0], size[1]])
    }

    fn conv_transpose2d(&self, weight: &Self, bias: Option<&Self>, stride: usize) -> Result<Self> {
        let (batch, input, height, width) = self.0.dims4()?;
        let dims = [batch, weight.dims()[1], height * stride, width * stride];
        let mut out = if count(&dims) == 0 || input == 0 {
            self.zeros_like(&dims)?.0
        } else {
            self.0.contiguous()?.conv_transpose2d(&weight.0.contiguous()?, 0, 0, stride, 1)?
        };
        if let Some(bias) = bias {
            out = out.broadcast_add(&bias.0.reshape((1, (), 1, 1))?)?;
        }
        Ok(Self(out))
    }

    fn pool2d(&self, options: &Pool) -> Result<Self> {
        let (_, _, height, width) = self.0.dims4()?;
        let [rows, columns] = options.output_size(height, width)?;
        let Pool { kernel, stride, padding, kind } = *options;
        let row_windows = kernels::picture::windows(height, rows, kernel[0], stride[0], padding.top);
        let column_windows = kernels::picture::windows(width, columns, kernel[1], stride[1], padding.left);
        self.planes([rows, columns], |plane, out| {
            kernels::picture::pool(plane, width, &row_windows, &column_windows, kind == PoolKind::Mean, out);
        })
    }

    fn resize(&self, height: usize, width: usize, mode: Resize) -> Result<Self> {
        let (_, _, from_height, from_width) = self.0.dims4()?;
        if tracked([self]) {
            return Ok(Self(plain::resize(&self.0, height, width, mode)?));
        }
        if mode == Resize::Nearest {
            return self.planes([height, width], |plane, out| {
                kernels::picture::resize_nearest(plane, [from_height, from_width], [height, width], out);
            });
        }
        let corners = mode == Resize::BilinearAlignCorners;
        let rows = kernels::picture::blends(from_height, height, corners);
        let columns = kernels::picture::blends(from_width, width, corners);
        self.planes([height, width], |plane, out| {
            kernels::picture::resize(plane, from_width, &rows, &columns, out);
        })
    }
}
