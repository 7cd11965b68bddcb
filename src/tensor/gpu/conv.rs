//! Convolutions.

use super::elementwise::activation_words;
use super::matmul::{Bias, Product};
use super::recording::{Dispatch, GRID_SIDE, grid};
use super::{GpuTensor, kernels, shape, word};
use crate::error::Result;
use crate::tensor::options::window_count;
use crate::tensor::{Conv2d, DType, Padding};

/// Weights of a convolution.
#[derive(Debug)]
pub(crate) struct GpuKernel {
    form: Form,
    weight: GpuTensor,
    bias: Option<GpuTensor>,
    /// `[out, in / groups, kernel_height, kernel_width]`, as given.
    dims: [usize; 4],
    options: Conv2d,
}

/// Which kernel serves a convolution, and so how its weights are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// One pixel, one group, step 1: a matrix product; weights `[out, in]`.
    Pointwise,
    /// Every input channel alone: weights as given.
    Depthwise,
    /// All others: weights `[groups, ceil(group_outputs / 4), group_inputs, height, width, 4]`.
    Direct,
}

impl GpuKernel {
    pub(super) fn new(weight: &GpuTensor, bias: Option<&GpuTensor>, options: &Conv2d) -> Result<Self> {
        weight.check_f32("conv2d weight")?;
        let dims = [weight.dims[0], weight.dims[1], weight.dims[2], weight.dims[3]];
        let [out, group_inputs, height, width] = dims;
        let is_plain = options.stride == [1, 1] && options.padding == Padding::default();
        let form = if [height, width] == [1, 1] && options.groups == 1 && is_plain {
            Form::Pointwise
        } else if group_inputs == 1 && options.groups > 1 {
            Form::Depthwise
        } else {
            Form::Direct
        };
        let weight = if form == Form::Direct {
            let taps = group_inputs * height * width;
            let group_outputs = out / options.groups;
            let quads = group_outputs.div_ceil(4);
            let grouped = weight.with_dims(&[options.groups, group_outputs, taps]);
            let padded = match quads * 4 - group_outputs {
                0 => grouped,
                missing => shape::pad(&grouped, 1, 0, missing)?, // [groups, quads · 4, taps]
            };
            shape::permute(&padded.with_dims(&[options.groups, quads, 4, taps]), &[0, 1, 3, 2])?
        } else {
            weight.clone()
        };
        Ok(Self { form, weight, bias: bias.cloned(), dims, options: *options })
    }
}

pub(super) fn conv2d(source: &GpuTensor, kernel: &GpuKernel) -> Result<GpuTensor> {
    source.check_f32("conv2d")?;
    let Conv2d { stride, padding, dilation, .. } = kernel.options;
    let [out, _, kernel_height, kernel_width] = kernel.dims;
    let (batch, height, width) = (source.dims[0], source.dims[2], source.dims[3]);
    let rows = window_count("conv2d", height, padding.top + padding.bottom, kernel_height, stride[0], dilation[0])?;
    let columns = window_count("conv2d", width, padding.left + padding.right, kernel_width, stride[1], dilation[1])?;
    let result = source.gpu().empty(&[batch, out, rows, columns], DType::F32)?;
    if result.element_count() == 0 {
        return Ok(result);
    }
    match kernel.form {
        Form::Pointwise if source.dims[1] > 0 => pointwise(source, kernel, &result)?,
        Form::Depthwise => depthwise(source, kernel, &result)?,
        _ => direct(source, kernel, &result)?,
    }
    Ok(result)
}

/// `[out, in] · [batch, in, pixels]`.
fn pointwise(source: &GpuTensor, kernel: &GpuKernel, result: &GpuTensor) -> Result<()> {
    let [out, inputs, _, _] = kernel.dims;
    let pixels = result.dims[2] * result.dims[3];
    Product {
        first: kernel.weight.operand(),
        second: source.operand(),
        bias: kernel.bias.as_ref().map(Bias::Rows),
        result: result.operand(),
        batch: source.dims[0],
        rows: out,
        columns: pixels,
        inner: inputs,
        batch_steps: [0, inputs * pixels, out * pixels],
        result_row: pixels,
        result_column: 0,
        transposed: false,
        activation: kernel.options.activation,
    }
    .record(source.gpu())
}

/// The words that both convolution kernels' parameters share: sizes, kernel, steps, distances and padding.
fn geometry(source: &GpuTensor, kernel: &GpuKernel, result: &GpuTensor) -> Result<Vec<u32>> {
    let Conv2d { stride, padding, dilation, .. } = kernel.options;
    let [_, _, kernel_height, kernel_width] = kernel.dims;
    let sizes = [source.dims[2], source.dims[3], result.dims[2], result.dims[3], kernel_height, kernel_width];
    let steps = [stride[0], stride[1], dilation[0], dilation[1], padding.top, padding.left];
    sizes.into_iter().chain(steps).map(word).collect()
}

fn depthwise(source: &GpuTensor, kernel: &GpuKernel, result: &GpuTensor) -> Result<()> {
    let ends = activation_words(kernel.options.activation);
    let [out, _, kernel_height, kernel_width] = kernel.dims;
    let count = result.element_count();
    let mut params = vec![word(count)?];
    params.extend(geometry(source, kernel, result)?);
    let groups = kernel.options.groups;
    params.extend([word(groups)?, word(out / groups)?, u32::from(kernel.bias.is_some())]);
    params.extend(ends);
    source.gpu().record(&Dispatch {
        kernel: &kernels::DEPTHWISE_CONV2D,
        constants: &[],
        operands: &[
            source.operand(),
            kernel.weight.operand(),
            kernel.bias.as_ref().unwrap_or(&kernel.weight).operand(),
            result.operand(),
        ],
        params: &params,
        workgroups: grid(count as u64, 64),
        work: (count * kernel_height * kernel_width) as u64,
    })
}

fn direct(source: &GpuTensor, kernel: &GpuKernel, result: &GpuTensor) -> Result<()> {
    let ends = activation_words(kernel.options.activation);
    let [out, group_inputs, kernel_height, kernel_width] = kernel.dims;
    let groups = kernel.options.groups;
    let batch = source.dims[0];
    let pixels = result.dims[2] * result.dims[3];
    // Small pictures are spread over more invocations, of one pixel each.
    let pixels_each = if pixels < 1024 { 1 } else { 4 };
    let quads = groups * (out / groups).div_ceil(4);
    let counts = [word(groups)?, word(group_inputs)?, word(out / groups)?, u32::from(kernel.bias.is_some())];
    for start in (0..batch).step_by(GRID_SIDE as usize) {
        let pictures = (batch - start).min(GRID_SIDE as usize);
        let mut params = geometry(source, kernel, result)?;
        params.extend(counts);
        params.push(word(start)?);
        params.extend(ends);
        source.gpu().record(&Dispatch {
            kernel: &kernels::CONV2D,
            constants: &[pixels_each],
            operands: &[
                source.operand(),
                kernel.weight.operand(),
                kernel.bias.as_ref().unwrap_or(&kernel.weight).operand(),
                result.operand(),
            ],
            params: &params,
            workgroups: [word(pixels.div_ceil(64 * pixels_each as usize))?, word(quads)?, word(pictures)?],
            work: (pictures * out * pixels) as u64 * (group_inputs * kernel_height * kernel_width) as u64,
        })?;
    }
    Ok(())
}

pub(super) fn conv_transpose2d(
    source: &GpuTensor,
    weight: &GpuTensor,
    bias: Option<&GpuTensor>,
    stride: usize,
) -> Result<GpuTensor> {
    source.check_f32("conv_transpose2d")?;
    let (batch, inputs, height, width) = (source.dims[0], source.dims[1], source.dims[2], source.dims[3]);
    let outputs = weight.dims[1];
    let result = source.gpu().empty(&[batch, outputs, height * stride, width * stride], DType::F32)?;
    let count = result.element_count();
    source.gpu().record(&Dispatch {
        kernel: &kernels::CONV_TRANSPOSE2D,
        constants: &[],
        operands: &[source.operand(), weight.operand(), bias.unwrap_or(weight).operand(), result.operand()],
        params: &[
            word(count)?,
            word(inputs)?,
            word(outputs)?,
            word(height)?,
            word(width)?,
            word(stride)?,
            u32::from(bias.is_some()),
        ],
        workgroups: grid(count as u64, 64),
        work: (count * inputs) as u64,
    })?;
    Ok(result)
}
