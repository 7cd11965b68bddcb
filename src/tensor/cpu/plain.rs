//! The same operations in terms of candle's, which it can differentiate: what training goes through, and what the
//! kernels are tested against.

use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Storage, Tensor};

use crate::tensor::{Attention, Conv2d, Resize, Unary};

pub(super) fn unary(x: &Tensor, op: Unary) -> Result<Tensor> {
    match op {
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
    }
}

pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + f64::from(eps))?.sqrt()?)?;
    normed.broadcast_mul(weight)?.broadcast_add(bias)
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + f64::from(eps))?.sqrt()?)?.broadcast_mul(weight)
}

pub(super) fn group_norm(x: &Tensor, groups: usize, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let (batch, channels) = (x.dims()[0], x.dims()[1]);
    let grouped = x.reshape((batch, groups, ()))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + f64::from(eps))?.sqrt()?)?.reshape((batch, channels, ()))?;
    let (weight, bias) = (weight.reshape((1, channels, 1))?, bias.reshape((1, channels, 1))?);
    normed.broadcast_mul(&weight)?.broadcast_add(&bias)?.reshape(x.dims())
}

pub(super) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &Attention<'_>,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, heads, query_count, _) = query.dims4()?;
    let key_count = options.key_count;
    let repeat = |t: &Tensor| -> Result<Tensor> {
        let (batch, key_heads, _, dim) = t.dims4()?;
        let t = t.narrow(2, 0, key_count)?.unsqueeze(2)?;
        let t = t.broadcast_as((batch, key_heads, heads / key_heads, key_count, dim))?;
        t.contiguous()?.reshape((batch * heads, key_count, dim))
    };
    let query = query.contiguous()?.reshape((batch * heads, query_count, ()))?;
    let scores = (query.matmul(&repeat(key)?.transpose(1, 2)?.contiguous()?)? * f64::from(options.scale))?;
    let mut scores = scores.reshape((batch, heads, query_count, key_count))?;
    if let Some(mask) = mask {
        scores = scores.broadcast_add(mask)?;
    }
    if let Some(start) = options.causal_start {
        let hidden: Vec<f32> = (0..query_count)
            .flat_map(|i| (0..key_count).map(move |j| if j > start + i { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        scores = scores.broadcast_add(&Tensor::from_vec(hidden, (query_count, key_count), query.device())?)?;
    }
    let shares = candle_nn::ops::softmax(&scores, D::Minus1)?.reshape((batch * heads, query_count, key_count))?;
    shares.matmul(&repeat(value)?)?.reshape((batch, heads, query_count, ()))
}

pub(super) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor, start: usize) -> Result<Tensor> {
    let (_, _, seq, dim) = x.dims4()?;
    let (a, b) = (x.narrow(3, 0, dim / 2)?, x.narrow(3, dim / 2, dim / 2)?);
    let here = |table: &Tensor| table.narrow(0, start, seq)?.to_device(x.device());
    let (cos, sin) = (here(cos)?, here(sin)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], 3)
}

/// `x` `[.., cols]` times the transpose of `weight` `[rows, cols]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Option<Unary>) -> Result<Tensor> {
    let (front, cols) = x.dims().split_at(x.rank() - 1);
    let count: usize = front.iter().product();
    let mut out = x.reshape((count, cols[0]))?.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        out = out.broadcast_add(bias)?;
    }
    let mut dims = front.to_vec();
    dims.push(weight.dims()[0]);
    let out = out.reshape(dims)?;
    activation.map_or(Ok(out.clone()), |op| unary(&out, op))
}

/// A product with weights that do not learn. Candle's own product computes a gradient for either side; half of it would
/// be thrown away here, and held in memory until then.
struct FrozenProduct {
    /// `[out, in]`
    weight: Tensor,
}

impl CustomOp1 for FrozenProduct {
    fn name(&self) -> &'static str {
        "frozen-product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("a strided operand") };
        let x = Tensor::from_slice(&storage.as_slice::<f32>()?[start..end], layout.shape(), &Device::Cpu)?;
        let out = x.matmul(&self.weight.t()?)?;
        let shape = out.shape().clone();
        let (out, _) = out.storage_and_layout();
        match &*out {
            Storage::Cpu(out) => Ok((out.clone(), shape)),
            _ => candle_core::bail!("a product on another device"),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.contiguous()?.matmul(&self.weight).map(Some)
    }
}

/// As [`linear`], for a `weight` that does not learn.
pub(super) fn frozen_linear(
    x: &Tensor,
    weight: Tensor,
    bias: Option<&Tensor>,
    activation: Option<Unary>,
) -> Result<Tensor> {
    let (front, cols) = x.dims().split_at(x.rank() - 1);
    let mut dims = front.to_vec();
    dims.push(weight.dims()[0]);
    let rows = x.reshape((front.iter().product::<usize>(), cols[0]))?.contiguous()?;
    let mut out = if rows.device().is_cpu() {
        rows.apply_op1(FrozenProduct { weight })?
    } else {
        rows.matmul(&weight.to_device(rows.device())?.t()?)?
    };
    if let Some(bias) = bias {
        out = out.broadcast_add(bias)?;
    }
    let out = out.reshape(dims)?;
    activation.map_or(Ok(out.clone()), |op| unary(&out, op))
}

/// Needs the same step and dilation on both axes.
pub(super) fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, options: &Conv2d) -> Result<Tensor> {
    let Conv2d { stride, padding, dilation, groups, activation } = *options;
    if stride[0] != stride[1] || dilation[0] != dilation[1] {
        candle_core::bail!("no gradient of a convolution whose step or dilation differs by axis");
    }
    let padded = x.pad_with_zeros(2, padding.top, padding.bottom)?;
    let padded = padded.pad_with_zeros(3, padding.left, padding.right)?;
    let mut out = padded.conv2d(weight, 0, stride[0], dilation[0], groups)?;
    if let Some(bias) = bias {
        out = out.broadcast_add(&bias.reshape((1, (), 1, 1))?)?;
    }
    activation.map_or(Ok(out.clone()), |op| unary(&out, op))
}

pub(super) fn resize(x: &Tensor, height: usize, width: usize, mode: Resize) -> Result<Tensor> {
    match mode {
        Resize::Nearest => x.upsample_nearest2d(height, width),
        Resize::Bilinear => x.upsample_bilinear2d(height, width, false),
        Resize::BilinearAlignCorners => x.upsample_bilinear2d(height, width, true),
    }
}
