//! The GPU engine: wgpu with WGSL kernels of our own. In the browser it is WebGPU; natively Vulkan, Metal or DX12.
//!
//! An operation takes buffers from the pool, appends a dispatch to the recording and returns at once; nothing waits but
//! a read-back, which submits the recording first. All of it runs in one thread, as the browser's device does.
//!
//! | file | what |
//! | --- | --- |
//! | `device` | opening an adapter, memory, submission, counters |
//! | `recording` | dispatches as data, and the checks before one is appended |
//! | `pipelines` | pipelines and bind groups, made once |
//! | `pool` | buffers, used again |
//! | `read_back` | results on their way to main memory |
//! | `footprint` | memory told from shapes |
//! | `failure` | what the device reports, for the next read-back |
//! | `self_test` | every kernel against the CPU engine |
//! | `kernels` | the WGSL files and their registry |
//! | all others | the operations, by family |

mod attention;
mod conv;
mod device;
mod elementwise;
mod failure;
mod footprint;
mod kernels;
mod matmul;
mod norm;
mod picture;
mod pipelines;
mod pool;
mod read_back;
mod recording;
mod self_test;
mod shape;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;

use std::rc::Rc;

pub use device::{Counters, Gpu, GpuInfo};
pub use footprint::Footprint;
pub use self_test::KernelFailure;

use super::engine::EngineTensor;
use super::{Attention, Binary, Conv2d, DType, Pool, Reduce, Resize, Unary};
use crate::bundle::QuantizedBlocks;
use crate::error::{Error, Result};
use pool::Storage;

/// Bytes of unused buffers that the engine keeps at most, beside those in use.
pub const MOST_KEPT_BYTES: u64 = pool::KEPT_BYTES;

/// A dense, row-major tensor in GPU memory; several may share a buffer.
#[derive(Debug, Clone)]
pub(crate) struct GpuTensor {
    storage: Rc<Storage>,
    /// Where it starts in the buffer, in bytes; a multiple of 256.
    offset: u64,
    dims: Vec<usize>,
    dtype: DType,
}

impl GpuTensor {
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.storage.gpu
    }

    fn element_count(&self) -> usize {
        self.dims.iter().product()
    }

    fn bytes(&self) -> u64 {
        self.element_count() as u64 * 4
    }

    /// The same numbers under another shape.
    fn with_dims(&self, dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), ..self.clone() }
    }

    /// Refuses u32 numbers where a kernel computes with floats.
    fn check_f32(&self, operation: &'static str) -> Result<()> {
        if self.dtype == DType::F32 { Ok(()) } else { Err(Error::shape(operation, "expected F32 numbers, found U32")) }
    }
}

/// A count as kernels take it.
fn word(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| Error::Unsupported(format!("{count} elements in one GPU tensor")))
}

impl EngineTensor for GpuTensor {
    type Device = Gpu;
    type Matrix = matmul::GpuMatrix;
    type Kernel = conv::GpuKernel;

    fn from_f32(data: &[f32], dims: &[usize], device: &Gpu) -> Result<Self> {
        device.upload(bytemuck::cast_slice(data), dims, DType::F32)
    }

    fn from_u32(data: &[u32], dims: &[usize], device: &Gpu) -> Result<Self> {
        device.upload(data, dims, DType::U32)
    }

    fn zeros(dims: &[usize], device: &Gpu) -> Result<Self> {
        shape::zeros(dims, DType::F32, device)
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    async fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(bytemuck::cast_vec(self.to_u32().await?))
    }

    async fn to_u32(&self) -> Result<Vec<u32>> {
        let mut words = self.gpu().read_back(&[self]).await?;
        Ok(words.pop().unwrap_or_default())
    }

    fn reshape(&self, dims: &[usize]) -> Result<Self> {
        Ok(self.with_dims(dims))
    }

    fn permute(&self, axes: &[usize]) -> Result<Self> {
        shape::permute(self, axes)
    }

    fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        shape::narrow(self, axis, start, len)
    }

    fn concat(tensors: &[&Self], axis: usize) -> Result<Self> {
        shape::concat(tensors, axis)
    }

    fn pad(&self, axis: usize, before: usize, after: usize) -> Result<Self> {
        shape::pad(self, axis, before, after)
    }

    fn broadcast_to(&self, dims: &[usize]) -> Result<Self> {
        shape::broadcast_to(self, dims)
    }

    fn index_select(&self, axis: usize, ids: &Self) -> Result<Self> {
        shape::index_select(self, axis, ids)
    }

    fn write_at(&self, source: &Self, axis: usize, start: usize) -> Result<()> {
        shape::write_at(self, source, axis, start)
    }

    fn binary(&self, other: &Self, op: Binary, dims: &[usize]) -> Result<Self> {
        elementwise::binary(self, other, op, dims)
    }

    fn affine(&self, scale: f32, shift: f32) -> Result<Self> {
        elementwise::affine(self, scale, shift)
    }

    fn unary(&self, op: Unary) -> Result<Self> {
        elementwise::unary(self, op)
    }

    fn reduce(&self, op: Reduce, axis: usize) -> Result<Self> {
        norm::reduce(self, op, axis)
    }

    fn argmax(&self) -> Result<Self> {
        norm::argmax(self)
    }

    fn top_k(&self, count: usize) -> Result<Self> {
        norm::top_k(self, count)
    }

    fn softmax(&self) -> Result<Self> {
        norm::softmax(self)
    }

    fn layer_norm(&self, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        norm::layer_norm(self, weight, bias, eps)
    }

    fn rms_norm(&self, weight: &Self, eps: f32) -> Result<Self> {
        norm::rms_norm(self, weight, eps)
    }

    fn group_norm(&self, groups: usize, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        norm::group_norm(self, groups, weight, bias, eps)
    }

    fn matmul(&self, other: &Self, transposed: bool) -> Result<Self> {
        matmul::matmul(self, other, transposed)
    }

    fn attention(&self, key: &Self, value: &Self, options: &Attention<'_>, mask: Option<&Self>) -> Result<Self> {
        attention::attention(self, key, value, options, mask)
    }

    fn kept(&self) -> Result<Self> {
        attention::kept(self)
    }

    fn deformable_attention(&self, levels: &[[usize; 2]], locations: &Self, shares: &Self) -> Result<Self> {
        attention::deformable_attention(self, levels, locations, shares)
    }

    fn rope(&self, cos: &Self, sin: &Self, start: usize) -> Result<Self> {
        attention::rope(self, cos, sin, start)
    }

    fn dense_matrix(&self) -> Result<Self::Matrix> {
        matmul::GpuMatrix::dense(self)
    }

    fn quantized_matrix(blocks: QuantizedBlocks, device: &Gpu) -> Result<Self::Matrix> {
        matmul::GpuMatrix::quantized(&blocks, device)
    }

    fn linear(&self, matrix: &Self::Matrix, bias: Option<&Self>, activation: Option<Unary>) -> Result<Self> {
        matmul::linear(self, matrix, bias, activation)
    }

    fn embedding(matrix: &Self::Matrix, ids: &Self) -> Result<Self> {
        matmul::embedding(matrix, ids)
    }

    fn kernel(weight: &Self, bias: Option<&Self>, options: &Conv2d) -> Result<Self::Kernel> {
        conv::GpuKernel::new(weight, bias, options)
    }

    fn conv2d(&self, kernel: &Self::Kernel) -> Result<Self> {
        conv::conv2d(self, kernel)
    }

    fn conv_transpose2d(&self, weight: &Self, bias: Option<&Self>, stride: usize) -> Result<Self> {
        conv::conv_transpose2d(self, weight, bias, stride)
    }

    fn pool2d(&self, options: &Pool) -> Result<Self> {
        picture::pool2d(self, options)
    }

    fn resize(&self, height: usize, width: usize, mode: Resize) -> Result<Self> {
        picture::resize(self, height, width, mode)
    }
}
