//! The GPU engine: wgpu with WGSL kernels of our own. In the browser it is WebGPU; natively Vulkan, Metal or DX12.

use super::engine::EngineTensor;
use super::{Attention, Binary, Conv2d, DType, Pool, Reduce, Resize, Unary};
use crate::bundle::QuantizedBlocks;
use crate::error::{Error, Result};

/// A graphics adapter that was opened.
#[derive(Debug, Clone)]
pub struct Gpu(());

/// A tensor in GPU memory.
#[derive(Debug, Clone)]
pub(crate) struct GpuTensor {
    gpu: Gpu,
}

impl GpuTensor {
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}

fn missing<T>() -> Result<T> {
    Err(Error::NoWebGpu("not built yet".into()))
}

#[allow(unused_variables, reason = "replaced by the engine in the next change")]
impl EngineTensor for GpuTensor {
    type Device = Gpu;
    type Matrix = ();
    type Kernel = ();

    fn from_f32(data: &[f32], dims: &[usize], device: &Self::Device) -> Result<Self> {
        missing()
    }
    fn from_u32(data: &[u32], dims: &[usize], device: &Self::Device) -> Result<Self> {
        missing()
    }
    fn zeros(dims: &[usize], device: &Self::Device) -> Result<Self> {
        missing()
    }
    fn dims(&self) -> &[usize] {
        &[]
    }
    fn dtype(&self) -> DType {
        DType::F32
    }
    async fn to_f32(&self) -> Result<Vec<f32>> {
        missing()
    }
    async fn to_u32(&self) -> Result<Vec<u32>> {
        missing()
    }
    fn reshape(&self, dims: &[usize]) -> Result<Self> {
        missing()
    }
    fn permute(&self, axes: &[usize]) -> Result<Self> {
        missing()
    }
    fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        missing()
    }
    fn concat(tensors: &[&Self], axis: usize) -> Result<Self> {
        missing()
    }
    fn pad(&self, axis: usize, before: usize, after: usize) -> Result<Self> {
        missing()
    }
    fn broadcast_to(&self, dims: &[usize]) -> Result<Self> {
        missing()
    }
    fn index_select(&self, axis: usize, ids: &Self) -> Result<Self> {
        missing()
    }
    fn write_at(&self, source: &Self, axis: usize, start: usize) -> Result<()> {
        missing()
    }
    fn binary(&self, other: &Self, op: Binary, dims: &[usize]) -> Result<Self> {
        missing()
    }
    fn affine(&self, scale: f32, shift: f32) -> Result<Self> {
        missing()
    }
    fn unary(&self, op: Unary) -> Result<Self> {
        missing()
    }
    fn reduce(&self, op: Reduce, axis: usize) -> Result<Self> {
        missing()
    }
    fn argmax(&self) -> Result<Self> {
        missing()
    }
    fn softmax(&self) -> Result<Self> {
        missing()
    }
    fn layer_norm(&self, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        missing()
    }
    fn rms_norm(&self, weight: &Self, eps: f32) -> Result<Self> {
        missing()
    }
    fn group_norm(&self, groups: usize, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        missing()
    }
    fn matmul(&self, other: &Self, transposed: bool) -> Result<Self> {
        missing()
    }
    fn attention(&self, key: &Self, value: &Self, options: &Attention<'_>, mask: Option<&Self>) -> Result<Self> {
        missing()
    }
    fn rope(&self, cos: &Self, sin: &Self, start: usize) -> Result<Self> {
        missing()
    }
    fn dense_matrix(&self) -> Result<Self::Matrix> {
        missing()
    }
    fn quantized_matrix(blocks: QuantizedBlocks, device: &Self::Device) -> Result<Self::Matrix> {
        missing()
    }
    fn linear(&self, matrix: &Self::Matrix, bias: Option<&Self>, activation: Option<Unary>) -> Result<Self> {
        missing()
    }
    fn embedding(matrix: &Self::Matrix, ids: &Self) -> Result<Self> {
        missing()
    }
    fn kernel(weight: &Self, bias: Option<&Self>, options: &Conv2d) -> Result<Self::Kernel> {
        missing()
    }
    fn conv2d(&self, kernel: &Self::Kernel) -> Result<Self> {
        missing()
    }
    fn conv_transpose2d(&self, weight: &Self, bias: Option<&Self>, stride: usize) -> Result<Self> {
        missing()
    }
    fn pool2d(&self, options: &Pool) -> Result<Self> {
        missing()
    }
    fn resize(&self, height: usize, width: usize, mode: Resize) -> Result<Self> {
        missing()
    }
}
