//! The CPU engine: candle's tensors.
//!
//! A tensor that takes part in training (candle tracks it) goes through operations that candle can differentiate; all
//! others may take the faster paths.

mod kernels;

use candle_core::{D, DType as CandleDType, Device, Storage, Tensor};

use super::engine::EngineTensor;
use super::{Attention, Binary, Conv2d, DType, Pool, PoolKind, Precision, Reduce, Resize, Unary};
use crate::bundle::QuantizedBlocks;
use crate::error::{Error, Result};
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

/// Weights of a convolution.
#[derive(Debug)]
pub(crate) struct CpuKernel {
    weight: Tensor,
    bias: Option<Tensor>,
    options: Conv2d,
}

impl CpuTensor {
    pub(crate) fn from_candle(tensor: Tensor) -> Self {
        Self(tensor)
    }

    pub(crate) fn candle(&self) -> &Tensor {
        &self.0
    }

    /// Lets `compute` read the f32 numbers in row-major order, without copying where the tensor is dense.
    fn with_f32<T>(&self, compute: impl FnOnce(&[f32]) -> T) -> Result<T> {
        let dense = self.0.contiguous()?;
        let (storage, layout) = dense.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { return Err(Error::shape("cpu engine", "a foreign tensor")) };
        let start = layout.start_offset();
        Ok(compute(&storage.as_slice::<f32>()?[start..start + dense.elem_count()]))
    }

    fn from_vec(data: Vec<f32>, dims: &[usize]) -> Result<Self> {
        Ok(Self(Tensor::from_vec(data, dims, &Device::Cpu)?))
    }
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
        self.with_f32(<[f32]>::to_vec)
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
        let tensors: Vec<&Tensor> = tensors.iter().map(|tensor| &tensor.0).collect();
        Ok(Self(Tensor::cat(&tensors, axis)?))
    }

    fn pad(&self, axis: usize, before: usize, after: usize) -> Result<Self> {
        Ok(Self(self.0.pad_with_zeros(axis, before, after)?))
    }

    fn broadcast_to(&self, dims: &[usize]) -> Result<Self> {
        Ok(Self(self.0.broadcast_as(dims)?))
    }

    fn index_select(&self, axis: usize, ids: &Self) -> Result<Self> {
        Ok(Self(self.0.contiguous()?.index_select(&ids.0, axis)?))
    }

    fn write_at(&self, source: &Self, axis: usize, start: usize) -> Result<()> {
        Ok(self.0.slice_set(&source.0.contiguous()?, axis, start)?)
    }

    fn binary(&self, other: &Self, op: Binary, _dims: &[usize]) -> Result<Self> {
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
        let x = &self.0;
        Ok(Self(match op {
            Unary::Relu => x.relu(),
            Unary::Relu6 => x.clamp(0f32, 6f32),
            Unary::LeakyRelu(slope) => candle_nn::ops::leaky_relu(x, f64::from(slope)),
            Unary::Gelu => x.gelu_erf(),
            Unary::GeluTanh => x.gelu(),
            Unary::Silu => x.silu(),
            Unary::Sigmoid => candle_nn::ops::sigmoid(x),
            Unary::Tanh => x.tanh(),
            Unary::Exp => x.exp(),
            Unary::Ln => x.log(),
            Unary::Sqrt => x.sqrt(),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Abs => x.abs(),
            Unary::Neg => x.neg(),
            Unary::Clamp(low, high) => x.clamp(low, high),
        }?))
    }

    fn reduce(&self, op: Reduce, axis: usize) -> Result<Self> {
        Ok(Self(match op {
            Reduce::Sum => self.0.sum(axis),
            Reduce::Mean => self.0.mean(axis),
            Reduce::Max => self.0.max(axis),
            Reduce::Min => self.0.min(axis),
        }?))
    }

    fn argmax(&self) -> Result<Self> {
        Ok(Self(self.0.argmax(D::Minus1)?))
    }

    fn softmax(&self) -> Result<Self> {
        Ok(Self(if self.0.track_op() {
            candle_nn::ops::softmax(&self.0, D::Minus1)?
        } else {
            candle_nn::ops::softmax_last_dim(&self.0.contiguous()?)?
        }))
    }

    fn layer_norm(&self, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        let centred = self.0.broadcast_sub(&self.0.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + f64::from(eps))?.sqrt()?)?;
        Ok(Self(normed.broadcast_mul(&weight.0)?.broadcast_add(&bias.0)?))
    }

    fn rms_norm(&self, weight: &Self, eps: f32) -> Result<Self> {
        let mean_square = self.0.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = self.0.broadcast_div(&(mean_square + f64::from(eps))?.sqrt()?)?;
        Ok(Self(normed.broadcast_mul(&weight.0)?))
    }

    fn group_norm(&self, groups: usize, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        let dims = self.dims();
        let (batch, channels) = (dims[0], dims[1]);
        let grouped = self.0.reshape((batch, groups, ()))?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + f64::from(eps))?.sqrt()?)?.reshape((batch, channels, ()))?;
        let (weight, bias) = (weight.0.reshape((1, channels, 1))?, bias.0.reshape((1, channels, 1))?);
        Ok(Self(normed.broadcast_mul(&weight)?.broadcast_add(&bias)?.reshape(dims)?))
    }

    fn matmul(&self, other: &Self, transposed: bool) -> Result<Self> {
        let other = if transposed { other.0.transpose(1, 2)? } else { other.0.clone() };
        Ok(Self(self.0.contiguous()?.matmul(&other.contiguous()?)?))
    }

    fn attention(&self, key: &Self, value: &Self, options: &Attention<'_>, mask: Option<&Self>) -> Result<Self> {
        let (batch, heads, query_count, _) = self.0.dims4()?;
        let key_count = options.key_count;
        // Query heads that share a key head stand behind each other, so grouping them needs no copy of the keys.
        let repeat = |t: &Tensor| -> Result<Tensor> {
            let (batch, key_heads, _, dim) = t.dims4()?;
            let t = t.narrow(2, 0, key_count)?.unsqueeze(2)?;
            let t = t.broadcast_as((batch, key_heads, heads / key_heads, key_count, dim))?;
            Ok(t.contiguous()?.reshape((batch * heads, key_count, dim))?)
        };
        let query = self.0.contiguous()?.reshape((batch * heads, query_count, ()))?;
        let scores = (query.matmul(&repeat(&key.0)?.transpose(1, 2)?.contiguous()?)? * f64::from(options.scale))?;
        let mut scores = scores.reshape((batch, heads, query_count, key_count))?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(&mask.0)?;
        }
        if let Some(start) = options.causal_start {
            let hidden: Vec<f32> = (0..query_count)
                .flat_map(|i| (0..key_count).map(move |j| if j > start + i { f32::NEG_INFINITY } else { 0.0 }))
                .collect();
            scores = scores.broadcast_add(&Tensor::from_vec(hidden, (query_count, key_count), &Device::Cpu)?)?;
        }
        let shares = candle_nn::ops::softmax(&scores, D::Minus1)?.reshape((batch * heads, query_count, key_count))?;
        Ok(Self(shares.matmul(&repeat(&value.0)?)?.reshape((batch, heads, query_count, ()))?))
    }

    fn rope(&self, cos: &Self, sin: &Self, start: usize) -> Result<Self> {
        let (_, _, seq, dim) = self.0.dims4()?;
        let (a, b) = (self.0.narrow(3, 0, dim / 2)?, self.0.narrow(3, dim / 2, dim / 2)?);
        let (cos, sin) = (cos.0.narrow(0, start, seq)?, sin.0.narrow(0, start, seq)?);
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Ok(Self(Tensor::cat(&[first, second], 3)?))
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
        let dims = self.dims();
        let (front, cols) = (&dims[..dims.len() - 1], dims[dims.len() - 1]);
        let count: usize = front.iter().product();
        let (rows, out) = match matrix {
            CpuMatrix::Dense(weight) => (weight.dims()[0], self.0.reshape((count, cols))?.matmul(&weight.t()?)?),
            CpuMatrix::Quantized { packed, precision } if self.0.track_op() || *precision == Precision::Full => {
                // The oracle, or a frozen matrix through which gradients flow.
                let weight = Tensor::from_vec(packed.dequantize(), (packed.rows(), packed.cols()), &Device::Cpu)?;
                (packed.rows(), self.0.reshape((count, cols))?.matmul(&weight.t()?)?)
            }
            CpuMatrix::Quantized { packed, precision } => {
                let mut out = vec![0.0; count * packed.rows()];
                self.with_f32(|x| packed.multiply(x, *precision == Precision::Exact, &mut out))?;
                (packed.rows(), Tensor::from_vec(out, (count, packed.rows()), &Device::Cpu)?)
            }
        };
        let out = bias.map_or(Ok(out.clone()), |bias| out.broadcast_add(&bias.0))?;
        let mut out_dims = front.to_vec();
        out_dims.push(rows);
        let out = Self(out.reshape(out_dims)?);
        activation.map_or(Ok(out.clone()), |op| out.unary(op))
    }

    fn embedding(matrix: &CpuMatrix, ids: &Self) -> Result<Self> {
        match matrix {
            CpuMatrix::Dense(weight) => Ok(Self(weight.contiguous()?.index_select(&ids.0, 0)?)),
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
        Ok(CpuKernel { weight: weight.0.clone(), bias: bias.map(|bias| bias.0.clone()), options: *options })
    }

    fn conv2d(&self, kernel: &CpuKernel) -> Result<Self> {
        let Conv2d { stride, padding, dilation, groups, activation } = kernel.options;
        if stride[0] != stride[1] || dilation[0] != dilation[1] {
            return Err(Error::Unsupported("a convolution whose step or dilation differs by axis".into()));
        }
        let padded = self.0.pad_with_zeros(2, padding.top, padding.bottom)?;
        let padded = padded.pad_with_zeros(3, padding.left, padding.right)?;
        let mut out = padded.conv2d(&kernel.weight, 0, stride[0], dilation[0], groups)?;
        if let Some(bias) = &kernel.bias {
            out = out.broadcast_add(&bias.reshape((1, (), 1, 1))?)?;
        }
        activation.map_or(Ok(Self(out.clone())), |op| Self(out).unary(op))
    }

    fn conv_transpose2d(&self, weight: &Self, bias: Option<&Self>, stride: usize) -> Result<Self> {
        let mut out = self.0.conv_transpose2d(&weight.0, 0, 0, stride, 1)?;
        if let Some(bias) = bias {
            out = out.broadcast_add(&bias.0.reshape((1, (), 1, 1))?)?;
        }
        Ok(Self(out))
    }

    fn pool2d(&self, options: &Pool) -> Result<Self> {
        let (batch, channels, height, width) = self.0.dims4()?;
        let [rows, columns] = options.output_size(height, width)?;
        let window = |at: usize, axis: usize, size: usize, before: usize| {
            let start = at * options.stride[axis];
            start.saturating_sub(before)..(start + options.kernel[axis]).saturating_sub(before).min(size)
        };
        let out = self.with_f32(|pixels| {
            let mut out = Vec::with_capacity(batch * channels * rows * columns);
            for plane in pixels.chunks_exact((height * width).max(1)) {
                for row in 0..rows {
                    let ys = window(row, 0, height, options.padding.top);
                    for column in 0..columns {
                        let xs = window(column, 1, width, options.padding.left);
                        let inside = ys.clone().flat_map(|y| &plane[y * width + xs.start..y * width + xs.end]);
                        out.push(match options.kind {
                            PoolKind::Max => inside.copied().fold(f32::NEG_INFINITY, f32::max),
                            PoolKind::Mean => inside.sum::<f32>() / (ys.len() * xs.len()) as f32,
                        });
                    }
                }
            }
            out
        })?;
        Self::from_vec(out, &[batch, channels, rows, columns])
    }

    fn resize(&self, height: usize, width: usize, mode: Resize) -> Result<Self> {
        Ok(Self(match mode {
            Resize::Nearest => self.0.upsample_nearest2d(height, width)?,
            Resize::Bilinear => self.0.upsample_bilinear2d(height, width, false)?,
            Resize::BilinearAlignCorners => self.0.upsample_bilinear2d(height, width, true)?,
        }))
    }
}
