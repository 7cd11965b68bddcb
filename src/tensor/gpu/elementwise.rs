//! Functions of one and two numbers.

use super::recording::{Dispatch, grid};
use super::shape::{Layout, broadcast_strides};
use super::{GpuTensor, kernels, word};
use crate::error::Result;
use crate::tensor::{Binary, DType, Unary};

/// A function's number in shared/activation.wgsl, and its parameters. No function is number 0.
pub(super) fn activation_words(function: Option<Unary>) -> [u32; 3] {
    let (code, [low, high]) = match function {
        None => (0, [0.0, 0.0]),
        Some(Unary::Relu) => (1, [0.0, 0.0]),
        Some(Unary::Relu6) => (2, [0.0, 0.0]),
        Some(Unary::LeakyRelu(slope)) => (3, [slope, 0.0]),
        Some(Unary::Gelu) => (4, [0.0, 0.0]),
        Some(Unary::GeluTanh) => (5, [0.0, 0.0]),
        Some(Unary::Silu) => (6, [0.0, 0.0]),
        Some(Unary::Sigmoid) => (7, [0.0, 0.0]),
        Some(Unary::Tanh) => (8, [0.0, 0.0]),
        Some(Unary::Exp) => (9, [0.0, 0.0]),
        Some(Unary::Ln) => (10, [0.0, 0.0]),
        Some(Unary::Sqrt) => (11, [0.0, 0.0]),
        Some(Unary::Sin) => (12, [0.0, 0.0]),
        Some(Unary::Cos) => (13, [0.0, 0.0]),
        Some(Unary::Abs) => (14, [0.0, 0.0]),
        Some(Unary::Neg) => (15, [0.0, 0.0]),
        Some(Unary::Clamp(low, high)) => (16, [low, high]),
    };
    [code, low.to_bits(), high.to_bits()]
}

pub(super) fn unary(source: &GpuTensor, op: Unary) -> Result<GpuTensor> {
    source.check_f32("unary")?;
    let result = source.gpu().empty(&source.dims, DType::F32)?;
    let count = result.element_count();
    let [code, low, high] = activation_words(Some(op));
    source.gpu().record(&Dispatch {
        kernel: &kernels::UNARY,
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &[word(count)?, code, low, high],
        workgroups: grid(count as u64, 256),
        work: count as u64,
    })?;
    Ok(result)
}

pub(super) fn affine(source: &GpuTensor, scale: f32, shift: f32) -> Result<GpuTensor> {
    source.check_f32("affine")?;
    let result = source.gpu().empty(&source.dims, DType::F32)?;
    let count = result.element_count();
    source.gpu().record(&Dispatch {
        kernel: &kernels::AFFINE,
        constants: &[],
        operands: &[source.operand(), result.operand()],
        params: &[word(count)?, scale.to_bits(), shift.to_bits()],
        workgroups: grid(count as u64, 256),
        work: count as u64,
    })?;
    Ok(result)
}

pub(super) fn binary(first: &GpuTensor, second: &GpuTensor, op: Binary, dims: &[usize]) -> Result<GpuTensor> {
    first.check_f32(op.name())?;
    second.check_f32(op.name())?;
    let result = first.gpu().empty(dims, DType::F32)?;
    let count = result.element_count();
    let code = match op {
        Binary::Add => 0,
        Binary::Sub => 1,
        Binary::Mul => 2,
        Binary::Div => 3,
        Binary::Max => 4,
        Binary::Min => 5,
    };
    let strides = [broadcast_strides(&first.dims, dims), broadcast_strides(&second.dims, dims)];
    let layout = Layout::merged(dims, [&strides[0], &strides[1]]);
    let mut params = vec![word(count)?, word(layout.dims.len())?, code, 0];
    params.extend(layout.words(op.name())?);
    first.gpu().record(&Dispatch {
        kernel: &kernels::BINARY,
        constants: &[],
        operands: &[first.operand(), second.operand(), result.operand()],
        params: &params,
        workgroups: grid(count as u64, 256),
        work: count as u64,
    })?;
    Ok(result)
}
