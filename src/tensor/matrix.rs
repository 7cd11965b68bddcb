//! Weights in the form in which each engine applies them fastest.

use super::engine::EngineTensor;
use super::options::window_count;
use super::{Conv2d, Device, Precision, Repr, Tensor, cpu, gpu};
use crate::bundle::QuantizedBlocks;
use crate::error::{Error, Result};

/// A linear layer's or embedding's weights, `[rows, cols]` = `[out, in]`: float or block-quantised.
#[derive(Debug)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    pub(super) repr: MatrixRepr,
}

#[derive(Debug)]
pub(super) enum MatrixRepr {
    Cpu(<cpu::CpuTensor as EngineTensor>::Matrix),
    Gpu(<gpu::GpuTensor as EngineTensor>::Matrix),
}

impl Matrix {
    /// A matrix of f32 numbers.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the tensor has two axes.
    pub fn dense(weight: &Tensor) -> Result<Self> {
        let [rows, cols] = weight.dims_of("matrix")?;
        let repr = match &weight.repr {
            Repr::Cpu(tensor) => MatrixRepr::Cpu(tensor.dense_matrix()?),
            Repr::Gpu(tensor) => MatrixRepr::Gpu(tensor.dense_matrix()?),
        };
        Ok(Self { rows, cols, repr })
    }

    /// A quantised matrix, which stays quantised on the device.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it does not fit there.
    pub fn quantized(blocks: QuantizedBlocks, device: &Device) -> Result<Self> {
        let (rows, cols) = (blocks.rows(), blocks.cols());
        let repr = match device {
            Device::Cpu => MatrixRepr::Cpu(cpu::CpuTensor::quantized_matrix(blocks, &())?),
            Device::Gpu(gpu) => MatrixRepr::Gpu(gpu::GpuTensor::quantized_matrix(blocks, gpu)?),
        };
        Ok(Self { rows, cols, repr })
    }

    /// The same matrix, multiplied with activations of that precision. A dense matrix and the GPU always take f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        match &mut self.repr {
            MatrixRepr::Cpu(matrix) => cpu::CpuTensor::set_precision(matrix, precision),
            MatrixRepr::Gpu(matrix) => gpu::GpuTensor::set_precision(matrix, precision),
        }
        self
    }

    /// The same matrix, as f32, on one of candle's devices: for training there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on the GPU engine, which does not train; those of the device.
    pub fn on_candle(&self, device: &candle_core::Device) -> Result<Self> {
        let repr = match &self.repr {
            MatrixRepr::Cpu(matrix) => MatrixRepr::Cpu(matrix.on_candle(device)?),
            MatrixRepr::Gpu(_) => return Err(Error::Unsupported("training from weights on the GPU engine".into())),
        };
        Ok(Self { rows: self.rows, cols: self.cols, repr })
    }

    /// Outputs of the layer, or number of embeddings.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of the layer, or width of an embedding.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// A convolution: weights, bias, step, padding and activation.
#[derive(Debug)]
pub struct ConvKernel {
    channels: usize,
    size: [usize; 2],
    options: Conv2d,
    pub(super) repr: KernelRepr,
}

#[derive(Debug)]
pub(super) enum KernelRepr {
    Cpu(<cpu::CpuTensor as EngineTensor>::Kernel),
    Gpu(<gpu::GpuTensor as EngineTensor>::Kernel),
}

impl ConvKernel {
    /// Prepares a convolution: `weight` `[out, in / groups, kernel_height, kernel_width]`, `bias` `[out]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bias or the groups do not fit.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, options: Conv2d) -> Result<Self> {
        let [out, in_group, kernel_height, kernel_width] = weight.dims_of("conv2d weight")?;
        let groups = options.groups;
        if groups == 0 || !out.is_multiple_of(groups) || bias.is_some_and(|bias| bias.dims() != [out]) {
            let reason = format!("weight {:?}, bias {:?}, {groups} groups", weight.dims(), bias.map(Tensor::dims));
            return Err(Error::shape("conv2d", reason));
        }
        let repr = match &weight.repr {
            Repr::Cpu(w) => {
                let bias = Tensor::cpu_operand("conv2d", bias)?;
                KernelRepr::Cpu(cpu::CpuTensor::kernel(w, bias, &options)?)
            }
            Repr::Gpu(w) => {
                let bias = Tensor::gpu_operand("conv2d", bias)?;
                KernelRepr::Gpu(gpu::GpuTensor::kernel(w, bias, &options)?)
            }
        };
        Ok(Self { channels: in_group * groups, size: [kernel_height, kernel_width], options, repr })
    }

    /// Rows and columns of the result for a picture of that size.
    ///
    /// # Errors
    /// [`Error::Shape`] if the channels differ or the padded picture is smaller than the kernel.
    pub fn output_size(&self, channels: usize, height: usize, width: usize) -> Result<[usize; 2]> {
        if channels != self.channels {
            return Err(Error::shape("conv2d", format!("expected {} channels, found {channels}", self.channels)));
        }
        let Conv2d { stride, padding, dilation, .. } = self.options;
        let (rows, columns) = (padding.top + padding.bottom, padding.left + padding.right);
        Ok([
            window_count("conv2d", height, rows, self.size[0], stride[0], dilation[0])?,
            window_count("conv2d", width, columns, self.size[1], stride[1], dilation[1])?,
        ])
    }
}
