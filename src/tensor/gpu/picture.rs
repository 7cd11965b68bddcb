//! Pooling and resampling of pictures.

use super::recording::{Dispatch, grid};
use super::{GpuTensor, kernels, word};
use crate::error::{Error, Result};
use crate::tensor::{DType, Pool, PoolKind, Resize};

/// Pixels a side that the kernels' positions hold: their products stay below 2³².
const SIDE: usize = 32767;

fn check_sides(operation: &'static str, sides: &[usize]) -> Result<()> {
    match sides.iter().find(|side| **side > SIDE) {
        None => Ok(()),
        Some(side) => Err(Error::Unsupported(format!("{operation} of a picture {side} pixels wide or high"))),
    }
}

pub(super) fn pool2d(source: &GpuTensor, options: &Pool) -> Result<GpuTensor> {
    source.check_f32("pool2d")?;
    let (height, width) = (source.dims[2], source.dims[3]);
    let [rows, columns] = options.output_size(height, width)?;
    let result = source.gpu().empty(&[source.dims[0], source.dims[1], rows, columns], DType::F32)?;
    let count = result.element_count();
    let sizes = [count, height, width, rows, columns, options.kernel[0], options.kernel[1]];
    let places = [options.stride[0], options.stride[1], options.padding.top, options.padding.left];
    let mut params: Vec<u32> = sizes.into_iter().chain(places).map(word).collect::<Result<_>>()?;
    params.push(u32::from(options.kind == PoolKind::Mean));
    source.gpu().record(&Dispatch {
        kernel: &kernels::POOL2D,
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &params,
        workgroups: grid(count as u64, 64),
        work: (count * options.kernel[0] * options.kernel[1]) as u64,
    })?;
    Ok(result)
}

pub(super) fn resize(source: &GpuTensor, height: usize, width: usize, mode: Resize) -> Result<GpuTensor> {
    source.check_f32("resize")?;
    let (from_height, from_width) = (source.dims[2], source.dims[3]);
    check_sides("resize", &[height, width, from_height, from_width])?;
    if [height, width] == [from_height, from_width] {
        return Ok(source.clone());
    }
    let result = source.gpu().empty(&[source.dims[0], source.dims[1], height, width], DType::F32)?;
    let count = result.element_count();
    let code = match mode {
        Resize::Nearest => 0,
        Resize::Bilinear => 1,
        Resize::BilinearAlignCorners => 2,
    };
    source.gpu().record(&Dispatch {
        kernel: &kernels::RESIZE,
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &[word(count)?, word(from_height)?, word(from_width)?, word(height)?, word(width)?, code],
        workgroups: grid(count as u64, 64),
        work: 4 * count as u64,
    })?;
    Ok(result)
}
