//! Matrix products, linear layers over dense and quantised weights, and embeddings.

use std::rc::Rc;

use super::elementwise::activation_words;
use super::pool::Storage;
use super::recording::{Dispatch, GRID_SIDE, Operand, grid};
use super::{Gpu, GpuTensor, kernels, shape, word};
use crate::bundle::{QuantizedBlocks, Scheme};
use crate::error::Result;
use crate::tensor::{DType, Unary};

/// Vectors up to which a matrix is read once a vector instead of in tiles.
const MATVEC_ROWS: usize = 3;

/// A linear layer's weights, split by rows where a binding would be too large.
#[derive(Debug)]
pub(crate) struct GpuMatrix {
    gpu: Gpu,
    rows: usize,
    cols: usize,
    parts: Vec<Part>,
}

/// Neighbouring rows of a matrix.
#[derive(Debug)]
struct Part {
    first: usize,
    rows: usize,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    /// Where the rows lie in a buffer of f32.
    Dense { storage: Rc<Storage>, offset: u64 },
    /// Values, scales and minimums; the last is empty but for Q4_1.
    Quantized { scheme: Scheme, values: Rc<Storage>, scales: Rc<Storage>, minimums: Rc<Storage> },
}

/// Rows a part, so that none is larger than `limit` bytes and all start at a multiple of 256 bytes, whatever a row's
/// number of whole words is.
pub(super) fn rows_of_part(rows: usize, row_bytes: usize, limit: u64) -> usize {
    let most = (limit / row_bytes.max(1) as u64) as usize;
    if most >= rows { rows } else { (most / 64 * 64).max(1) }
}

fn whole(storage: &Storage) -> Operand<'_> {
    Operand { storage, offset: 0, bytes: storage.buffer.size() }
}

fn scheme_code(scheme: Scheme) -> u32 {
    match scheme {
        Scheme::Q4_0 => 0,
        Scheme::Q4_1 => 1,
        Scheme::Q8_0 => 2,
    }
}

impl GpuMatrix {
    /// Takes a tensor `[rows, cols]`, whose buffer it shares.
    pub(super) fn dense(weight: &GpuTensor) -> Result<Self> {
        Ok(Self::dense_in_parts(weight, weight.gpu().inner.limits.max_storage_buffer_binding_size))
    }

    pub(super) fn dense_in_parts(weight: &GpuTensor, limit: u64) -> Self {
        let gpu = weight.gpu().clone();
        let (rows, cols) = (weight.dims[0], weight.dims[1]);
        let step = rows_of_part(rows, cols * 4, limit);
        let parts = (0..rows).step_by(step.max(1)).map(|first| Part {
            first,
            rows: step.min(rows - first),
            numbers: Numbers::Dense {
                storage: Rc::clone(&weight.storage),
                offset: weight.offset + (first * cols * 4) as u64,
            },
        });
        let parts = parts.collect();
        Self { gpu, rows, cols, parts }
    }

    /// Uploads a quantised matrix as it is.
    pub(super) fn quantized(blocks: &QuantizedBlocks, gpu: &Gpu) -> Result<Self> {
        Self::quantized_in_parts(blocks, gpu, gpu.inner.limits.max_storage_buffer_binding_size)
    }

    pub(super) fn quantized_in_parts(blocks: &QuantizedBlocks, gpu: &Gpu, limit: u64) -> Result<Self> {
        let (rows, cols, scheme) = (blocks.rows(), blocks.cols(), blocks.scheme());
        let row_blocks = cols / crate::bundle::BLOCK;
        let row_bytes = row_blocks * scheme.block_bytes();
        let step = rows_of_part(rows, row_bytes, limit);
        let mut parts = Vec::new();
        for first in (0..rows).step_by(step.max(1)) {
            let held = step.min(rows - first);
            let in_blocks = first * row_blocks..(first + held) * row_blocks;
            let values = &blocks.values()[first * row_bytes..(first + held) * row_bytes];
            let minimums = if blocks.mins().is_empty() { &[] } else { &blocks.mins()[in_blocks.clone()] };
            parts.push(Part {
                first,
                rows: held,
                numbers: Numbers::Quantized {
                    scheme,
                    values: gpu.upload_weights(values)?,
                    scales: gpu.upload_weights(bytemuck::cast_slice(&blocks.scales()[in_blocks]))?,
                    minimums: gpu.upload_weights(bytemuck::cast_slice(minimums))?,
                },
            });
        }
        Ok(Self { gpu: gpu.clone(), rows, cols, parts })
    }
}

pub(super) fn matmul(first: &GpuTensor, second: &GpuTensor, transposed: bool) -> Result<GpuTensor> {
    first.check_f32("matmul")?;
    second.check_f32("matmul")?;
    let (batch, rows, inner) = (first.dims[0], first.dims[1], first.dims[2]);
    let columns = if transposed { second.dims[1] } else { second.dims[2] };
    if inner == 0 {
        return shape::zeros(&[batch, rows, columns], DType::F32, first.gpu());
    }
    let result = first.gpu().empty(&[batch, rows, columns], DType::F32)?;
    Product {
        first: first.operand(),
        second: second.operand(),
        bias: None,
        result: result.operand(),
        batch,
        rows,
        columns,
        inner,
        batch_steps: [rows * inner, inner * columns, rows * columns],
        result_row: columns,
        result_column: 0,
        transposed,
        activation: None,
    }
    .record(first.gpu())?;
    Ok(result)
}

/// Which way a bias runs along a product.
#[derive(Clone, Copy)]
pub(super) enum Bias<'a> {
    /// One number a column.
    Columns(&'a GpuTensor),
    /// One number a row.
    Rows(&'a GpuTensor),
}

/// A batched product of two dense matrices, as matmul.wgsl takes it.
pub(super) struct Product<'a> {
    pub(super) first: Operand<'a>,
    pub(super) second: Operand<'a>,
    pub(super) bias: Option<Bias<'a>>,
    pub(super) result: Operand<'a>,
    pub(super) batch: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) inner: usize,
    /// Elements from one batch to the next: of first, second and result.
    pub(super) batch_steps: [usize; 3],
    pub(super) result_row: usize,
    pub(super) result_column: usize,
    pub(super) transposed: bool,
    pub(super) activation: Option<Unary>,
}

impl Product<'_> {
    pub(super) fn record(&self, gpu: &Gpu) -> Result<()> {
        let [code, low, high] = activation_words(self.activation);
        let (bias_code, bias) = match self.bias {
            None => (0, self.first),
            Some(Bias::Columns(bias)) => (1, bias.operand()),
            Some(Bias::Rows(bias)) => (2, bias.operand()),
        };
        let [first_step, second_step, result_step] = self.batch_steps;
        for start in (0..self.batch).step_by(GRID_SIDE as usize) {
            let batch = (self.batch - start).min(GRID_SIDE as usize);
            gpu.record(&Dispatch {
                kernel: &kernels::MATMUL,
                constants: &[],
                operands: &[self.first, self.second, bias, self.result],
                params: &[
                    word(self.rows)?,
                    word(self.columns)?,
                    word(self.inner)?,
                    word(first_step)?,
                    word(second_step)?,
                    word(result_step)?,
                    word(self.result_row)?,
                    word(self.result_column)?,
                    word(start)?,
                    u32::from(self.transposed),
                    bias_code,
                    code,
                    low,
                    high,
                ],
                workgroups: [word(self.columns.div_ceil(32))?, word(self.rows.div_ceil(32))?, word(batch)?],
                work: (batch * self.rows * self.columns) as u64 * self.inner as u64,
            })?;
        }
        Ok(())
    }
}

pub(super) fn linear(
    source: &GpuTensor,
    matrix: &GpuMatrix,
    bias: Option<&GpuTensor>,
    activation: Option<Unary>,
) -> Result<GpuTensor> {
    source.check_f32("linear")?;
    let mut dims = source.dims.clone();
    let inner = dims.pop().unwrap_or(matrix.cols);
    let count: usize = dims.iter().product();
    dims.push(matrix.rows);
    let gpu = source.gpu();
    if inner == 0 {
        return linear_of_nothing(gpu, &dims, bias, activation);
    }
    let result = gpu.empty(&dims, DType::F32)?;
    if result.element_count() == 0 {
        return Ok(result);
    }
    for part in &matrix.parts {
        Linear { source, part, bias, activation, result: &result, count, inner, outputs: matrix.rows }.record(gpu)?;
    }
    Ok(result)
}

/// A layer without inputs: the bias through the activation.
fn linear_of_nothing(
    gpu: &Gpu,
    dims: &[usize],
    bias: Option<&GpuTensor>,
    activation: Option<Unary>,
) -> Result<GpuTensor> {
    let empty = match bias {
        Some(bias) => shape::broadcast_to(bias, dims)?,
        None => shape::zeros(dims, DType::F32, gpu)?,
    };
    activation.map_or(Ok(empty.clone()), |op| super::elementwise::unary(&empty, op))
}

/// `count` vectors through a part of a matrix.
struct Linear<'a> {
    source: &'a GpuTensor,
    part: &'a Part,
    bias: Option<&'a GpuTensor>,
    activation: Option<Unary>,
    result: &'a GpuTensor,
    count: usize,
    inner: usize,
    outputs: usize,
}

impl Linear<'_> {
    fn record(&self, gpu: &Gpu) -> Result<()> {
        match &self.part.numbers {
            Numbers::Dense { storage, offset } => {
                let bytes = (self.part.rows * self.inner * 4) as u64;
                let matrix = Operand { storage, offset: *offset, bytes };
                if self.count <= MATVEC_ROWS { self.matvec(gpu, matrix) } else { self.tiled(gpu, matrix) }
            }
            Numbers::Quantized { scheme, values, scales, minimums } => {
                self.quantized(gpu, *scheme, [values, scales, minimums])
            }
        }
    }

    /// The grid of the kernels that serve one vector a place of z, 4 results a workgroup.
    fn matvec_grid(&self) -> Result<[u32; 3]> {
        let [x, y, z] = grid(self.part.rows as u64, 4);
        debug_assert_eq!(z, 1, "a part has fewer than 2^34 rows");
        Ok([x, y, word(self.count)?])
    }

    fn work(&self) -> u64 {
        (self.count * self.part.rows) as u64 * self.inner as u64
    }

    fn matvec(&self, gpu: &Gpu, matrix: Operand<'_>) -> Result<()> {
        let [code, low, high] = activation_words(self.activation);
        let bias = self.bias.unwrap_or(self.source);
        let has_bias = u32::from(self.bias.is_some());
        let (columns, inner, outputs) = (word(self.part.rows)?, word(self.inner)?, word(self.outputs)?);
        gpu.record(&Dispatch {
            kernel: &kernels::MATVEC,
            constants: &[],
            operands: &[self.source.operand(), matrix, bias.operand(), self.result.operand()],
            params: &[columns, inner, outputs, word(self.part.first)?, has_bias, code, low, high],
            workgroups: self.matvec_grid()?,
            work: self.work(),
        })
    }

    fn tiled(&self, gpu: &Gpu, matrix: Operand<'_>) -> Result<()> {
        Product {
            first: self.source.operand(),
            second: matrix,
            bias: self.bias.map(Bias::Columns),
            result: self.result.operand(),
            batch: 1,
            rows: self.count,
            columns: self.part.rows,
            inner: self.inner,
            batch_steps: [0, 0, 0],
            result_row: self.outputs,
            result_column: self.part.first,
            transposed: true,
            activation: self.activation,
        }
        .record(gpu)
    }

    fn quantized(&self, gpu: &Gpu, scheme: Scheme, [values, scales, minimums]: [&Rc<Storage>; 3]) -> Result<()> {
        let [code, low, high] = activation_words(self.activation);
        let bias = self.bias.unwrap_or(self.source);
        let has_bias = u32::from(self.bias.is_some());
        let (columns, inner, outputs) = (word(self.part.rows)?, word(self.inner)?, word(self.outputs)?);
        let ends = [outputs, word(self.part.first)?, has_bias, code, low, high];
        let operands = [
            self.source.operand(),
            whole(values),
            whole(scales),
            whole(minimums),
            bias.operand(),
            self.result.operand(),
        ];
        let mut params = Vec::with_capacity(9);
        let is_matvec = self.count <= MATVEC_ROWS;
        if !is_matvec {
            params.push(word(self.count)?);
        }
        params.extend([columns, inner]);
        params.extend(ends);
        gpu.record(&Dispatch {
            kernel: if is_matvec { &kernels::QUANTIZED_MATVEC } else { &kernels::QUANTIZED_MATMUL },
            constants: &[scheme_code(scheme)],
            operands: &operands,
            params: &params,
            workgroups: if is_matvec {
                self.matvec_grid()?
            } else {
                [word(self.part.rows.div_ceil(32))?, word(self.count.div_ceil(32))?, 1]
            },
            work: self.work(),
        })
    }
}

pub(super) fn embedding(matrix: &GpuMatrix, ids: &GpuTensor) -> Result<GpuTensor> {
    let count = ids.dims[0];
    let result = matrix.gpu.empty(&[count, matrix.cols], DType::F32)?;
    for part in &matrix.parts {
        let place = [word(part.first)?, word(part.rows)?, word(matrix.rows)?];
        let elements = (count * matrix.cols) as u64;
        match &part.numbers {
            Numbers::Dense { storage, offset } => {
                let rows = Operand { storage, offset: *offset, bytes: (part.rows * matrix.cols * 4) as u64 };
                let mut params = vec![word(count * matrix.cols)?, word(matrix.cols)?, word(count)?];
                params.extend(place);
                matrix.gpu.record(&Dispatch {
                    kernel: &kernels::INDEX_SELECT,
                    constants: &[],
                    operands: &[rows, ids.operand(), result.operand()],
                    params: &params,
                    workgroups: grid(elements, 256),
                    work: elements,
                })?;
            }
            Numbers::Quantized { scheme, values, scales, minimums } => {
                let mut params = vec![word(count)?, word(matrix.cols)?];
                params.extend(place);
                matrix.gpu.record(&Dispatch {
                    kernel: &kernels::QUANTIZED_EMBEDDING,
                    constants: &[scheme_code(*scheme)],
                    operands: &[ids.operand(), whole(values), whole(scales), whole(minimums), result.operand()],
                    params: &params,
                    workgroups: grid(elements / 8, 64),
                    work: elements,
                })?;
            }
        }
    }
    Ok(result)
}
