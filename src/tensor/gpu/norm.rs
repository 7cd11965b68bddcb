//! Along an axis: sums and extrema, softmax, norms. One workgroup serves a row.

use super::recording::{Dispatch, Operand, grid};
use super::{GpuTensor, kernels, shape, word};
use crate::error::Result;
use crate::tensor::gpu::kernels::Kernel;
use crate::tensor::{DType, Reduce};

/// Rows along the last axis, and their size.
fn rows(source: &GpuTensor) -> (usize, usize) {
    let size = source.dims.last().copied().unwrap_or(1);
    (source.element_count().checked_div(size).unwrap_or(0), size)
}

/// A row kernel with equally shaped result: `params` follow the number of rows and their size.
fn by_row(
    kernel: &'static Kernel,
    source: &GpuTensor,
    [rows, size]: [usize; 2],
    weights: &[&GpuTensor],
    params: &[u32],
) -> Result<GpuTensor> {
    source.check_f32(kernel.name)?;
    let result = source.gpu().empty(&source.dims, DType::F32)?;
    if result.element_count() == 0 {
        return Ok(result);
    }
    let mut operands: Vec<Operand<'_>> = vec![source.operand()];
    operands.extend(weights.iter().map(|weight| weight.operand()));
    operands.push(result.operand());
    let mut words = vec![word(rows)?, word(size)?];
    words.extend_from_slice(params);
    source.gpu().record(&Dispatch {
        kernel,
        constants: &[],
        operands: &operands,
        params: &words,
        workgroups: grid(rows as u64, 1),
        work: 4 * (rows * size) as u64,
    })?;
    Ok(result)
}

pub(super) fn reduce(source: &GpuTensor, op: Reduce, axis: usize) -> Result<GpuTensor> {
    source.check_f32("reduce")?;
    let mut dims = source.dims.clone();
    let size = dims.remove(axis);
    if size == 0 {
        return shape::zeros(&dims, DType::F32, source.gpu());
    }
    let result = source.gpu().empty(&dims, DType::F32)?;
    let count = result.element_count();
    let inner: usize = source.dims[axis + 1..].iter().product();
    let code = match op {
        Reduce::Sum => 0,
        Reduce::Mean => 1,
        Reduce::Max => 2,
        Reduce::Min => 3,
    };
    let is_row = inner == 1;
    let mut params = vec![word(count)?, word(size)?];
    if !is_row {
        params.push(word(inner)?);
    }
    params.push(code);
    source.gpu().record(&Dispatch {
        kernel: if is_row { &kernels::REDUCE_ROW } else { &kernels::REDUCE_AXIS },
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &params,
        workgroups: grid(count as u64, if is_row { 1 } else { 64 }),
        work: (count * size) as u64,
    })?;
    Ok(result)
}

pub(super) fn argmax(source: &GpuTensor) -> Result<GpuTensor> {
    source.check_f32("argmax")?;
    let (count, size) = rows(source);
    let result = source.gpu().empty(&source.dims[..source.dims.len() - 1], DType::U32)?;
    source.gpu().record(&Dispatch {
        kernel: &kernels::ARGMAX,
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &[word(count)?, word(size)?],
        workgroups: grid(count as u64, 1),
        work: (count * size) as u64,
    })?;
    Ok(result)
}

pub(super) fn top_k(source: &GpuTensor, kept: usize) -> Result<GpuTensor> {
    source.check_f32("top_k")?;
    let (count, size) = rows(source);
    let mut dims = source.dims.clone();
    dims[source.dims.len() - 1] = kept;
    let result = source.gpu().empty(&dims, DType::U32)?;
    if kept == 0 {
        return Ok(result);
    }
    let groups = size.div_ceil(256);
    source.gpu().record(&Dispatch {
        kernel: &kernels::TOP_K,
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &[word(count)?, word(size)?, word(kept)?, word(groups)?],
        workgroups: grid((count * groups) as u64, 1),
        work: (count * size) as u64 * size as u64,
    })?;
    Ok(result)
}

pub(super) fn softmax(source: &GpuTensor) -> Result<GpuTensor> {
    let (count, size) = rows(source);
    by_row(&kernels::SOFTMAX, source, [count, size], &[], &[])
}

pub(super) fn layer_norm(source: &GpuTensor, weight: &GpuTensor, bias: &GpuTensor, eps: f32) -> Result<GpuTensor> {
    let (count, size) = rows(source);
    by_row(&kernels::LAYER_NORM, source, [count, size], &[weight, bias], &[eps.to_bits()])
}

pub(super) fn rms_norm(source: &GpuTensor, weight: &GpuTensor, eps: f32) -> Result<GpuTensor> {
    let (count, size) = rows(source);
    by_row(&kernels::RMS_NORM, source, [count, size], &[weight], &[eps.to_bits()])
}

pub(super) fn group_norm(
    source: &GpuTensor,
    groups: usize,
    weight: &GpuTensor,
    bias: &GpuTensor,
    eps: f32,
) -> Result<GpuTensor> {
    let (batch, channels) = (source.dims[0], source.dims[1]);
    let places: usize = source.dims[2..].iter().product();
    let group_channels = channels / groups;
    let params = [eps.to_bits(), word(groups)?, word(group_channels)?, word(places)?];
    let layout = [batch * groups, group_channels * places];
    by_row(&kernels::GROUP_NORM, source, layout, &[weight, bias], &params)
}
