//! Operations that move numbers without changing them. All but the selection by index are one kernel: a copy between
//! two strided layouts.

use std::rc::Rc;

use super::recording::{Dispatch, grid};
use super::{Gpu, GpuTensor, kernels, word};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Axes that the strided kernels take, after neighbours that lie dense were merged.
pub(super) const AXES: usize = 8;

/// Axes with the steps of several layouts along each.
#[derive(Debug, PartialEq)]
pub(super) struct Layout<const N: usize> {
    pub(super) dims: Vec<usize>,
    pub(super) strides: [Vec<usize>; N],
}

impl<const N: usize> Layout<N> {
    /// Drops axes of 1 and merges neighbours along which every layout is dense.
    pub(super) fn merged(dims: &[usize], strides: [&[usize]; N]) -> Self {
        let mut merged = Self { dims: Vec::new(), strides: [const { Vec::new() }; N] };
        for (axis, size) in dims.iter().enumerate().filter(|(_, size)| **size != 1) {
            let continues =
                !merged.dims.is_empty() && (0..N).all(|i| merged.strides[i].last() == Some(&(strides[i][axis] * size)));
            if continues {
                if let Some(last) = merged.dims.last_mut() {
                    *last *= size;
                }
                for (merged, strides) in merged.strides.iter_mut().zip(strides) {
                    if let Some(last) = merged.last_mut() {
                        *last = strides[axis];
                    }
                }
            } else {
                merged.dims.push(*size);
                for (merged, strides) in merged.strides.iter_mut().zip(strides) {
                    merged.push(strides[axis]);
                }
            }
        }
        merged
    }

    /// The words of `dims` and of each layout's strides, as the kernels declare them.
    pub(super) fn words(&self, operation: &'static str) -> Result<Vec<u32>> {
        if self.dims.len() > AXES {
            return Err(Error::Unsupported(format!("{operation} over {} axes on the GPU", self.dims.len())));
        }
        let mut words = Vec::with_capacity(AXES * (N + 1));
        for values in std::iter::once(&self.dims).chain(&self.strides) {
            for axis in 0..AXES {
                words.push(word(values.get(axis).copied().unwrap_or(0))?);
            }
        }
        Ok(words)
    }
}

/// Steps of a dense row-major tensor.
pub(super) fn dense_strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Steps of a tensor stretched to `dims`: 0 along stretched and added axes.
pub(super) fn broadcast_strides(from: &[usize], dims: &[usize]) -> Vec<usize> {
    let (strides, added) = (dense_strides(from), dims.len() - from.len());
    (0..dims.len())
        .map(|axis| match axis.checked_sub(added) {
            Some(axis) if from[axis] != 1 => strides[axis],
            _ => 0,
        })
        .collect()
}

/// A place in a tensor and steps from there.
struct View<'a> {
    tensor: &'a GpuTensor,
    start: usize,
    strides: &'a [usize],
}

/// Copies the elements of `dims` from one view to another.
fn copy(operation: &'static str, dims: &[usize], source: &View<'_>, target: &View<'_>) -> Result<()> {
    let layout = Layout::merged(dims, [source.strides, target.strides]);
    let count: usize = dims.iter().product();
    let rank = layout.dims.len();
    let mut params = vec![word(count)?, word(rank)?, word(source.start)?, word(target.start)?];
    params.extend(layout.words(operation)?);
    target.tensor.gpu().record(&Dispatch {
        kernel: &kernels::COPY,
        constants: &[],
        operands: &[source.tensor.operand(), target.tensor.operand()],
        params: &params,
        workgroups: grid(count as u64, 256),
        work: count as u64,
    })
}

/// A tensor of zeros.
pub(super) fn zeros(dims: &[usize], dtype: DType, gpu: &Gpu) -> Result<GpuTensor> {
    let result = gpu.empty(dims, dtype)?;
    let count = result.element_count();
    gpu.record(&Dispatch {
        kernel: &kernels::FILL,
        constants: &[],
        operands: &[result.operand()],
        params: &[word(count)?, 0],
        workgroups: grid(count as u64, 256),
        work: count as u64,
    })?;
    Ok(result)
}

pub(super) fn permute(source: &GpuTensor, axes: &[usize]) -> Result<GpuTensor> {
    let source_strides = dense_strides(&source.dims);
    let dims: Vec<usize> = axes.iter().map(|axis| source.dims[*axis]).collect();
    let moved: Vec<usize> = axes.iter().copied().filter(|axis| source.dims[*axis] != 1).collect();
    if moved.is_sorted() {
        // Only axes of 1 change places.
        return Ok(source.with_dims(&dims));
    }
    let strides: Vec<usize> = axes.iter().map(|axis| source_strides[*axis]).collect();
    let result = source.gpu().empty(&dims, source.dtype)?;
    let target = View { tensor: &result, start: 0, strides: &dense_strides(&dims) };
    copy("permute", &dims, &View { tensor: source, start: 0, strides: &strides }, &target)?;
    Ok(result)
}

pub(super) fn narrow(source: &GpuTensor, axis: usize, start: usize, len: usize) -> Result<GpuTensor> {
    let strides = dense_strides(&source.dims);
    let mut dims = source.dims.clone();
    dims[axis] = len;
    let skipped = start * strides[axis];
    let is_outermost = source.dims[..axis].iter().all(|dim| *dim == 1);
    if is_outermost && (skipped * 4).is_multiple_of(256) {
        let offset = source.offset + skipped as u64 * 4;
        // An empty remainder at the very end would start beyond the buffer.
        if offset < source.storage.buffer.size() {
            return Ok(GpuTensor { offset, dims, ..source.clone() });
        }
    }
    let result = source.gpu().empty(&dims, source.dtype)?;
    let target = View { tensor: &result, start: 0, strides: &dense_strides(&dims) };
    copy("narrow", &dims, &View { tensor: source, start: skipped, strides: &strides }, &target)?;
    Ok(result)
}

pub(super) fn concat(tensors: &[&GpuTensor], axis: usize) -> Result<GpuTensor> {
    let filled: Vec<&GpuTensor> = tensors.iter().copied().filter(|tensor| tensor.dims[axis] > 0).collect();
    let first = match filled[..] {
        [] => tensors[0],
        [only] => return Ok(only.clone()),
        [first, ..] => first,
    };
    let mut dims = first.dims.clone();
    dims[axis] = filled.iter().map(|tensor| tensor.dims[axis]).sum();
    let result = first.gpu().empty(&dims, first.dtype)?;
    let mut start = 0;
    for tensor in filled {
        write_at(&result, tensor, axis, start)?;
        start += tensor.dims[axis];
    }
    Ok(result)
}

pub(super) fn pad(source: &GpuTensor, axis: usize, before: usize, after: usize) -> Result<GpuTensor> {
    let mut dims = source.dims.clone();
    dims[axis] += before + after;
    let result = zeros(&dims, source.dtype, source.gpu())?;
    write_at(&result, source, axis, before)?;
    Ok(result)
}

pub(super) fn broadcast_to(source: &GpuTensor, dims: &[usize]) -> Result<GpuTensor> {
    if source.element_count() == dims.iter().product::<usize>() {
        return Ok(source.with_dims(dims));
    }
    let result = source.gpu().empty(dims, source.dtype)?;
    let strides = broadcast_strides(&source.dims, dims);
    let target = View { tensor: &result, start: 0, strides: &dense_strides(dims) };
    copy("broadcast_to", dims, &View { tensor: source, start: 0, strides: &strides }, &target)?;
    Ok(result)
}

pub(super) fn write_at(target: &GpuTensor, source: &GpuTensor, axis: usize, start: usize) -> Result<()> {
    let copied;
    let source = if Rc::ptr_eq(&source.storage, &target.storage) {
        // A kernel cannot read the buffer that it writes.
        copied = duplicate(source)?;
        &copied
    } else {
        source
    };
    let target_strides = dense_strides(&target.dims);
    let source_view = View { tensor: source, start: 0, strides: &dense_strides(&source.dims) };
    let view = View { tensor: target, start: start * target_strides[axis], strides: &target_strides };
    copy("write_at", &source.dims, &source_view, &view)
}

fn duplicate(source: &GpuTensor) -> Result<GpuTensor> {
    let result = source.gpu().empty(&source.dims, source.dtype)?;
    let strides = dense_strides(&source.dims);
    let target = View { tensor: &result, start: 0, strides: &strides };
    copy("copy", &source.dims, &View { tensor: source, start: 0, strides: &strides }, &target)?;
    Ok(result)
}

pub(super) fn index_select(source: &GpuTensor, axis: usize, ids: &GpuTensor) -> Result<GpuTensor> {
    let mut dims = source.dims.clone();
    let size = dims[axis];
    dims[axis] = ids.dims[0];
    let result = source.gpu().empty(&dims, source.dtype)?;
    let count = result.element_count();
    if size == 0 && count > 0 {
        return Err(Error::shape("index_select", "an empty axis has no places"));
    }
    let inner: usize = dims[axis + 1..].iter().product();
    source.gpu().record(&Dispatch {
        kernel: &kernels::INDEX_SELECT,
        constants: &[],
        operands: &[source.operand(), ids.operand(), result.operand()],
        params: &[word(count)?, word(inner)?, word(ids.dims[0])?, 0, word(size)?, word(size)?],
        workgroups: grid(count as u64, 256),
        work: count as u64,
    })?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_merge_where_all_are_dense() {
        let dims = [2, 1, 3, 4];
        let dense = dense_strides(&dims);
        let merged = Layout::merged(&dims, [&dense, &dense]);
        assert_eq!(merged, Layout { dims: vec![24], strides: [vec![1], vec![1]] });
        // The second operand is stretched along the first axis.
        let stretched = broadcast_strides(&[3, 4], &dims);
        let merged = Layout::merged(&dims, [&dense, &stretched]);
        assert_eq!(merged, Layout { dims: vec![2, 12], strides: [vec![12, 1], vec![0, 1]] });
        // Two stretched axes merge into one.
        let merged = Layout::merged(&[5, 7], [&broadcast_strides(&[1, 1], &[5, 7])]);
        assert_eq!(merged, Layout { dims: vec![35], strides: [vec![0]] });
    }
}
