//! Attention and rotary positions.

use super::recording::{Dispatch, grid};
use super::shape::broadcast_strides;
use super::{GpuTensor, kernels, shape, word};
use crate::error::{Error, Result};
use crate::tensor::{Attention, DType};

/// Numbers of the widest head, as attention.wgsl has it.
const WIDEST_HEAD: usize = 512;

/// Levels of a feature pyramid, as deformable_attention.wgsl has them.
const LEVELS: usize = 8;

/// Value columns that a workgroup makes.
const COLUMNS: usize = 256;

/// Queries from which on they are served 16 at a time.
const MANY_QUERIES: usize = 8;
/// Queries of a workgroup of attention_tiled.wgsl.
const TILE: usize = 16;
/// Its lanes.
const LANES: usize = 64;

pub(super) fn attention(
    query: &GpuTensor,
    key: &GpuTensor,
    value: &GpuTensor,
    options: &Attention<'_>,
    mask: Option<&GpuTensor>,
) -> Result<GpuTensor> {
    query.check_f32("attention")?;
    let [batch, heads, query_count, dim] = [query.dims[0], query.dims[1], query.dims[2], query.dims[3]];
    let halves = [key, value].map(|kept| u32::from(kept.dtype == DType::U32));
    let value_dim = value.dims[3] << halves[1];
    let [key_heads, capacity] = [key.dims[1], key.dims[2]];
    let dims = [batch, heads, query_count, value_dim];
    if options.key_count == 0 {
        return shape::zeros(&dims, DType::F32, query.gpu());
    }
    let is_tiled = query_count >= MANY_QUERIES;
    if dim == 0 || !is_tiled && dim > WIDEST_HEAD {
        return Err(Error::Unsupported(format!("attention heads of {dim} numbers; at most {WIDEST_HEAD}")));
    }
    let result = query.gpu().empty(&dims, DType::F32)?;
    let rows = batch * heads * query_count;
    let mask_strides = match mask {
        Some(mask) => broadcast_strides(&mask.dims, &[batch, heads, query_count, options.key_count]),
        None => vec![0; 4],
    };
    let first_visible = options.causal_start.map_or(options.key_count, |start| start + 1);
    let tiles = batch * heads * query_count.div_ceil(TILE);
    let sizes = [
        if is_tiled { tiles } else { rows },
        heads,
        key_heads,
        query_count,
        options.key_count,
        capacity,
        value_dim,
        first_visible,
    ];
    let mut params: Vec<u32> = sizes.into_iter().map(word).collect::<Result<_>>()?;
    params.extend([options.scale.to_bits(), word(dim)?, u32::from(mask.is_some())]);
    for stride in mask_strides {
        params.push(word(stride)?);
    }
    let lane_columns = value_dim.div_ceil(LANES).clamp(1, COLUMNS / LANES);
    let tiled_groups = tiles * value_dim.div_ceil(LANES * lane_columns);
    let constants = [halves[0], halves[1], lane_columns as u32];
    query.gpu().record(&Dispatch {
        kernel: if is_tiled { &kernels::ATTENTION_TILED } else { &kernels::ATTENTION },
        constants: if is_tiled { &constants } else { &constants[..2] },
        operands: &[query.operand(), key.operand(), value.operand(), mask.unwrap_or(query).operand(), result.operand()],
        params: &params,
        workgroups: grid(if is_tiled { tiled_groups } else { rows * value_dim.div_ceil(COLUMNS) } as u64, 1),
        work: (rows * options.key_count) as u64 * (dim + value_dim) as u64,
    })?;
    Ok(result)
}

/// Numbers as f16, two in a word: half the memory for what attention reads again and again. An odd last axis stays as it
/// is.
pub(super) fn kept(source: &GpuTensor) -> Result<GpuTensor> {
    let mut dims = source.dims.clone();
    let Some(last) = dims.last_mut().filter(|last| last.is_multiple_of(2)) else { return Ok(source.clone()) };
    *last /= 2;
    let result = source.gpu().empty(&dims, DType::U32)?;
    let words = result.element_count();
    source.gpu().record(&Dispatch {
        kernel: &kernels::HALF_PAIRS,
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &[word(words)?],
        workgroups: grid(words as u64, 256),
        work: words as u64,
    })?;
    Ok(result)
}

pub(super) fn deformable_attention(
    values: &GpuTensor,
    levels: &[[usize; 2]],
    locations: &GpuTensor,
    shares: &GpuTensor,
) -> Result<GpuTensor> {
    values.check_f32("deformable_attention")?;
    let [heads, dim, points] = [values.dims[1], values.dims[2], shares.dims[3]];
    if levels.len() > LEVELS {
        let found = levels.len();
        return Err(Error::Unsupported(format!("deformable attention over {found} levels; at most {LEVELS}")));
    }
    let result = values.gpu().empty(&[shares.dims[0], heads, dim], DType::F32)?;
    let count = result.element_count();
    let mut params = vec![word(count)?, word(heads)?, word(dim)?, word(levels.len())?, word(points)?, 0, 0, 0];
    let mut first = 0;
    for [rows, columns] in levels {
        params.extend([word(*rows)?, word(*columns)?, word(first)?, 0]);
        first += rows * columns;
    }
    values.gpu().record(&Dispatch {
        kernel: &kernels::DEFORMABLE_ATTENTION,
        constants: &[],
        operands: &[values.operand(), locations.operand(), shares.operand(), result.operand()],
        params: &params,
        workgroups: grid(count as u64, 64),
        work: (count * levels.len() * points) as u64 * 8,
    })?;
    Ok(result)
}

pub(super) fn rope(source: &GpuTensor, cos: &GpuTensor, sin: &GpuTensor, start: usize) -> Result<GpuTensor> {
    source.check_f32("rope")?;
    let result = source.gpu().empty(&source.dims, DType::F32)?;
    let count = source.element_count() / 2;
    let (sequence, half) = (source.dims[2], source.dims[3] / 2);
    source.gpu().record(&Dispatch {
        kernel: &kernels::ROPE,
        constants: &[],
        operands: &[source.operand(), cos.operand(), sin.operand(), result.operand()],
        params: &[word(count)?, word(sequence)?, word(half)?, word(start)?],
        workgroups: grid(count as u64, 64),
        work: source.element_count() as u64,
    })?;
    Ok(result)
}
