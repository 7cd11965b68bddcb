//! Tensors on two engines, which the code of the models cannot tell apart.
//!
//! - **cpu**: candle's tensors, with own kernels where candle has none that is fast enough in WebAssembly. The fallback
//!   without WebGPU, the engine that trains, and the oracle that every GPU kernel is tested against.
//! - **gpu**: wgpu with WGSL kernels. An operation records a dispatch and returns at once; only read-backs wait.
//!
//! Every function here checks shapes and then hands over to the engine, so a model meets the same errors on both.
//! Activations are f32. Weight matrices may be quantised ([`Matrix`]) and stay so in memory.

mod engine;
mod matrix;
mod options;
mod unary;

pub(crate) mod cpu;
pub mod gpu;

pub use matrix::{ConvKernel, Matrix};
pub use options::{Attention, Binary, Conv2d, DType, Padding, Pool, PoolKind, Precision, Reduce, Resize};
pub use unary::Unary;

use crate::error::{Error, Result};
use engine::EngineTensor;

/// Where tensors live and are computed.
#[derive(Debug, Clone)]
pub enum Device {
    /// Main memory and the processor.
    Cpu,
    /// A graphics adapter, through wgpu.
    Gpu(gpu::Gpu),
}

/// A dense array of f32 or u32 numbers on one engine. Cloning shares the numbers.
#[derive(Debug, Clone)]
pub struct Tensor {
    repr: Repr,
}

#[derive(Debug, Clone)]
enum Repr {
    Cpu(cpu::CpuTensor),
    Gpu(gpu::GpuTensor),
}

/// Runs one engine's function on one tensor and wraps what it returns.
macro_rules! dispatch {
    ($self:expr, $tensor:ident => $call:expr) => {
        match &$self.repr {
            Repr::Cpu($tensor) => Tensor { repr: Repr::Cpu($call?) },
            Repr::Gpu($tensor) => Tensor { repr: Repr::Gpu($call?) },
        }
    };
}

/// The same for a function of two tensors, which must live on the same engine.
macro_rules! dispatch2 {
    ($operation:literal, $first:expr, $second:expr, ($a:ident, $b:ident) => $call:expr) => {
        match (&$first.repr, &$second.repr) {
            (Repr::Cpu($a), Repr::Cpu($b)) => Tensor { repr: Repr::Cpu($call?) },
            (Repr::Gpu($a), Repr::Gpu($b)) => Tensor { repr: Repr::Gpu($call?) },
            _ => return Err(two_engines($operation)),
        }
    };
}

fn two_engines(operation: &'static str) -> Error {
    Error::shape(operation, "the operands live on different engines")
}

fn element_count(operation: &'static str, dims: &[usize]) -> Result<usize> {
    dims.iter()
        .try_fold(1usize, |count, dim| count.checked_mul(*dim))
        .ok_or_else(|| Error::shape(operation, format!("{dims:?} has too many elements")))
}

/// The shape of two operands combined as NumPy does: trailing axes aligned, an axis of 1 stretched.
fn broadcast_dims(operation: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Error::shape(operation, format!("{a:?} and {b:?} do not go together"))),
        })
        .collect()
}

impl Tensor {
    /// Makes a tensor of f32 numbers given in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] if the count does not follow from `dims`.
    pub fn from_f32(data: &[f32], dims: &[usize], device: &Device) -> Result<Self> {
        Self::check_count("from_f32", data.len(), dims)?;
        Ok(match device {
            Device::Cpu => Self { repr: Repr::Cpu(cpu::CpuTensor::from_f32(data, dims, &())?) },
            Device::Gpu(gpu) => Self { repr: Repr::Gpu(gpu::GpuTensor::from_f32(data, dims, gpu)?) },
        })
    }

    /// Makes a tensor of u32 numbers (token ids, indices) given in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] if the count does not follow from `dims`.
    pub fn from_u32(data: &[u32], dims: &[usize], device: &Device) -> Result<Self> {
        Self::check_count("from_u32", data.len(), dims)?;
        Ok(match device {
            Device::Cpu => Self { repr: Repr::Cpu(cpu::CpuTensor::from_u32(data, dims, &())?) },
            Device::Gpu(gpu) => Self { repr: Repr::Gpu(gpu::GpuTensor::from_u32(data, dims, gpu)?) },
        })
    }

    /// Makes a tensor of f32 zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it cannot be had.
    pub fn zeros(dims: &[usize], device: &Device) -> Result<Self> {
        element_count("zeros", dims)?;
        Ok(match device {
            Device::Cpu => Self { repr: Repr::Cpu(cpu::CpuTensor::zeros(dims, &())?) },
            Device::Gpu(gpu) => Self { repr: Repr::Gpu(gpu::GpuTensor::zeros(dims, gpu)?) },
        })
    }

    /// Takes a candle tensor (f32 or u32): how training joins in with its variables.
    pub fn from_candle(tensor: candle_core::Tensor) -> Self {
        Self { repr: Repr::Cpu(cpu::CpuTensor::from_candle(tensor)) }
    }

    /// The same numbers on one of candle's devices: for training there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on the GPU engine, which does not train; those of the device.
    pub fn on_candle(&self, device: &candle_core::Device) -> Result<Self> {
        match &self.repr {
            Repr::Cpu(tensor) => Ok(Self { repr: Repr::Cpu(tensor.on_candle(device)?) }),
            Repr::Gpu(_) => Err(Error::Unsupported("training from tensors on the GPU engine".into())),
        }
    }

    /// The candle tensor below a tensor of the CPU engine; `None` on the GPU.
    pub fn as_candle(&self) -> Option<&candle_core::Tensor> {
        match &self.repr {
            Repr::Cpu(tensor) => Some(tensor.candle()),
            Repr::Gpu(_) => None,
        }
    }

    fn check_count(operation: &'static str, found: usize, dims: &[usize]) -> Result<()> {
        let expected = element_count(operation, dims)?;
        if found == expected {
            Ok(())
        } else {
            Err(Error::shape(operation, format!("{dims:?} has {expected} elements, {found} were given")))
        }
    }

    /// Sizes of the axes, outermost first.
    pub fn dims(&self) -> &[usize] {
        match &self.repr {
            Repr::Cpu(tensor) => tensor.dims(),
            Repr::Gpu(tensor) => tensor.dims(),
        }
    }

    /// Sizes of the axes, of which there must be N: the first line of most `forward` functions.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not N.
    pub fn dims_of<const N: usize>(&self, operation: &'static str) -> Result<[usize; N]> {
        self.dims()
            .try_into()
            .map_err(|_| Error::shape(operation, format!("expected {N} axes, found {:?}", self.dims())))
    }

    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.dims().iter().product()
    }

    /// Type of the numbers.
    pub fn dtype(&self) -> DType {
        match &self.repr {
            Repr::Cpu(tensor) => tensor.dtype(),
            Repr::Gpu(tensor) => tensor.dtype(),
        }
    }

    /// The device on which the tensor lives.
    pub fn device(&self) -> Device {
        match &self.repr {
            Repr::Cpu(_) => Device::Cpu,
            Repr::Gpu(tensor) => Device::Gpu(tensor.gpu().clone()),
        }
    }

    /// Reads the f32 numbers back, in row-major order. On the GPU this submits what was recorded, and waits.
    ///
    /// # Errors
    /// [`Error::Shape`] for u32 numbers; [`Error::Gpu`] if the device fails or is lost.
    pub async fn to_f32(&self) -> Result<Vec<f32>> {
        self.check_dtype("to_f32", DType::F32)?;
        match &self.repr {
            Repr::Cpu(tensor) => tensor.to_f32().await,
            Repr::Gpu(tensor) => tensor.to_f32().await,
        }
    }

    /// Reads the u32 numbers back, in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] for f32 numbers; [`Error::Gpu`] if the device fails or is lost.
    pub async fn to_u32(&self) -> Result<Vec<u32>> {
        self.check_dtype("to_u32", DType::U32)?;
        match &self.repr {
            Repr::Cpu(tensor) => tensor.to_u32().await,
            Repr::Gpu(tensor) => tensor.to_u32().await,
        }
    }

    fn check_dtype(&self, operation: &'static str, expected: DType) -> Result<()> {
        if self.dtype() == expected {
            Ok(())
        } else {
            Err(Error::shape(operation, format!("expected {expected:?} numbers, found {:?}", self.dtype())))
        }
    }

    fn check_axis(&self, operation: &'static str, axis: usize) -> Result<()> {
        if axis < self.dims().len() {
            Ok(())
        } else {
            Err(Error::shape(operation, format!("{:?} has no axis {axis}", self.dims())))
        }
    }

    /// The last axis's size.
    fn last_dim(&self, operation: &'static str) -> Result<usize> {
        self.dims().last().copied().ok_or_else(|| Error::shape(operation, "a single number has no last axis"))
    }

    // ---- shape ----

    /// The same numbers in the same order under another shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the counts differ.
    pub fn reshape(&self, dims: &[usize]) -> Result<Self> {
        Self::check_count("reshape", self.element_count(), dims)?;
        Ok(dispatch!(self, t => t.reshape(dims)))
    }

    /// Reorders the axes: axis i of the result is axis `axes[i]` of `self`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `axes` is not a permutation.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.dims().len()) {
            return Err(Error::shape("permute", format!("{axes:?} does not reorder the axes of {:?}", self.dims())));
        }
        Ok(dispatch!(self, t => t.permute(axes)))
    }

    /// Swaps two axes.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist.
    pub fn transpose(&self, first: usize, second: usize) -> Result<Self> {
        self.check_axis("transpose", first.max(second))?;
        let mut axes: Vec<usize> = (0..self.dims().len()).collect();
        axes.swap(first, second);
        self.permute(&axes)
    }

    /// Keeps `len` places of `axis` from `start` on.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not exist.
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        self.check_axis("narrow", axis)?;
        if start.checked_add(len).is_none_or(|end| end > self.dims()[axis]) {
            let dims = self.dims();
            return Err(Error::shape(
                "narrow",
                format!("{len} from {start} on do not exist on axis {axis} of {dims:?}"),
            ));
        }
        Ok(dispatch!(self, t => t.narrow(axis, start, len)))
    }

    /// Puts tensors behind each other along `axis`; all other axes must be equal.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is none or they do not fit.
    pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Self> {
        let first = tensors.first().ok_or_else(|| Error::shape("concat", "no tensors were given"))?;
        first.check_axis("concat", axis)?;
        for tensor in tensors {
            let equal = |i: usize| i == axis || tensor.dims()[i] == first.dims()[i];
            if tensor.dims().len() != first.dims().len() || !(0..first.dims().len()).all(equal) {
                let (a, b) = (first.dims(), tensor.dims());
                return Err(Error::shape("concat", format!("{a:?} and {b:?} differ beside axis {axis}")));
            }
            tensor.check_dtype("concat", first.dtype())?;
        }
        let mismatch = || two_engines("concat");
        Ok(match &first.repr {
            Repr::Cpu(_) => {
                let all: Option<Vec<_>> = tensors.iter().map(|t| t.cpu()).collect();
                Self { repr: Repr::Cpu(cpu::CpuTensor::concat(&all.ok_or_else(mismatch)?, axis)?) }
            }
            Repr::Gpu(_) => {
                let all: Option<Vec<_>> = tensors.iter().map(|t| t.gpu()).collect();
                Self { repr: Repr::Gpu(gpu::GpuTensor::concat(&all.ok_or_else(mismatch)?, axis)?) }
            }
        })
    }

    /// Puts zeros before and after along `axis`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist.
    pub fn pad(&self, axis: usize, before: usize, after: usize) -> Result<Self> {
        self.check_axis("pad", axis)?;
        if before == 0 && after == 0 {
            return Ok(self.clone());
        }
        Ok(dispatch!(self, t => t.pad(axis, before, after)))
    }

    /// Stretches axes of 1 and adds axes in front, as NumPy's broadcasting does.
    ///
    /// # Errors
    /// [`Error::Shape`] if `dims` cannot be reached.
    pub fn broadcast_to(&self, dims: &[usize]) -> Result<Self> {
        if broadcast_dims("broadcast_to", self.dims(), dims)? != dims {
            return Err(Error::shape("broadcast_to", format!("{:?} does not stretch to {dims:?}", self.dims())));
        }
        Ok(dispatch!(self, t => t.broadcast_to(dims)))
    }

    /// Picks places of `axis` by index: `ids` is u32 `[n]`, the result has n in place of the axis.
    ///
    /// # Errors
    /// [`Error::Shape`] for a missing axis or ids of another form. On the CPU also for an id out of range; the GPU
    /// takes the last place instead, since it cannot tell in time.
    pub fn index_select(&self, axis: usize, ids: &Tensor) -> Result<Self> {
        self.check_axis("index_select", axis)?;
        ids.dims_of::<1>("index_select ids")?;
        ids.check_dtype("index_select ids", DType::U32)?;
        Ok(dispatch2!("index_select", self, ids, (t, ids) => t.index_select(axis, ids)))
    }

    /// Overwrites places of `axis` from `start` on with `source`, in place, for all who share this tensor: how a
    /// key-value cache of fixed capacity grows.
    ///
    /// # Errors
    /// [`Error::Shape`] if `source` does not fit there.
    pub fn write_at(&self, source: &Tensor, axis: usize, start: usize) -> Result<()> {
        self.check_axis("write_at", axis)?;
        let (dims, found) = (self.dims(), source.dims());
        let fits = dims.len() == found.len()
            && (0..dims.len()).all(|i| if i == axis { start + found[i] <= dims[i] } else { found[i] == dims[i] });
        if !fits || source.dtype() != self.dtype() {
            return Err(Error::shape(
                "write_at",
                format!("{found:?} does not fit into {dims:?} at {start} of axis {axis}"),
            ));
        }
        match (&self.repr, &source.repr) {
            (Repr::Cpu(t), Repr::Cpu(source)) => t.write_at(source, axis, start),
            (Repr::Gpu(t), Repr::Gpu(source)) => t.write_at(source, axis, start),
            _ => Err(two_engines("write_at")),
        }
    }

    // ---- element by element ----

    /// Combines two tensors element by element, broadcasting as NumPy does.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not go together.
    pub fn binary(&self, other: &Tensor, op: Binary) -> Result<Self> {
        let dims = broadcast_dims(op.name(), self.dims(), other.dims())?;
        Ok(dispatch2!("binary", self, other, (a, b) => a.binary(b, op, &dims)))
    }

    /// `self + other`, broadcast.
    ///
    /// # Errors
    /// See [`binary`](Self::binary).
    pub fn add(&self, other: &Tensor) -> Result<Self> {
        self.binary(other, Binary::Add)
    }

    /// `self − other`, broadcast.
    ///
    /// # Errors
    /// See [`binary`](Self::binary).
    pub fn sub(&self, other: &Tensor) -> Result<Self> {
        self.binary(other, Binary::Sub)
    }

    /// `self · other` element by element, broadcast.
    ///
    /// # Errors
    /// See [`binary`](Self::binary).
    pub fn mul(&self, other: &Tensor) -> Result<Self> {
        self.binary(other, Binary::Mul)
    }

    /// `self / other`, broadcast.
    ///
    /// # Errors
    /// See [`binary`](Self::binary).
    pub fn div(&self, other: &Tensor) -> Result<Self> {
        self.binary(other, Binary::Div)
    }

    /// `scale · self + shift`.
    ///
    /// # Errors
    /// Only those of the engine.
    pub fn affine(&self, scale: f32, shift: f32) -> Result<Self> {
        Ok(dispatch!(self, t => t.affine(scale, shift)))
    }

    /// Applies a function to every element.
    ///
    /// # Errors
    /// Only those of the engine.
    pub fn unary(&self, op: Unary) -> Result<Self> {
        Ok(dispatch!(self, t => t.unary(op)))
    }

    // ---- along an axis ----

    /// Sum, mean, maximum or minimum along `axis`, which is removed. An empty axis gives 0 for a sum; for the others it
    /// is an error.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist, or is empty and the result undefined.
    pub fn reduce(&self, op: Reduce, axis: usize) -> Result<Self> {
        self.check_axis("reduce", axis)?;
        if self.dims()[axis] == 0 && op != Reduce::Sum {
            return Err(Error::shape("reduce", format!("{op:?} of the empty axis {axis} of {:?}", self.dims())));
        }
        Ok(dispatch!(self, t => t.reduce(op, axis)))
    }

    /// Index (u32) of the largest element along the last axis, which is removed; the first of equals.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis is empty.
    pub fn argmax(&self) -> Result<Self> {
        if self.last_dim("argmax")? == 0 {
            return Err(Error::shape("argmax", "the last axis is empty"));
        }
        Ok(dispatch!(self, t => t.argmax()))
    }

    /// Indices (u32) of the `count` largest elements along the last axis, which becomes `count`: largest first, the
    /// first of equals first. Not a number counts as larger than all others, unless its sign is set.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis is shorter.
    pub fn top_k(&self, count: usize) -> Result<Self> {
        self.check_dtype("top_k", DType::F32)?;
        if self.last_dim("top_k")? < count {
            return Err(Error::shape("top_k", format!("the {count} largest along the last axis of {:?}", self.dims())));
        }
        Ok(dispatch!(self, t => t.top_k(count)))
    }

    /// Softmax along the last axis.
    ///
    /// # Errors
    /// [`Error::Shape`] for a single number.
    pub fn softmax(&self) -> Result<Self> {
        self.last_dim("softmax")?;
        Ok(dispatch!(self, t => t.softmax()))
    }

    /// Layer norm along the last axis: `(x − mean) / √(variance + eps) · weight + bias`; weight and bias `[dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if weight or bias are not of the last axis's size.
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Self> {
        let expected = [self.last_dim("layer_norm")?];
        if weight.dims() != expected || bias.dims() != expected {
            let (w, b) = (weight.dims(), bias.dims());
            return Err(Error::shape("layer_norm", format!("weight {w:?} and bias {b:?} for {:?}", self.dims())));
        }
        Ok(match (&self.repr, &weight.repr, &bias.repr) {
            (Repr::Cpu(t), Repr::Cpu(w), Repr::Cpu(b)) => Self { repr: Repr::Cpu(t.layer_norm(w, b, eps)?) },
            (Repr::Gpu(t), Repr::Gpu(w), Repr::Gpu(b)) => Self { repr: Repr::Gpu(t.layer_norm(w, b, eps)?) },
            _ => return Err(two_engines("layer_norm")),
        })
    }

    /// RMS norm along the last axis: `x / √(mean(x²) + eps) · weight`; weight `[dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight is not of the last axis's size.
    pub fn rms_norm(&self, weight: &Tensor, eps: f32) -> Result<Self> {
        if weight.dims() != [self.last_dim("rms_norm")?] {
            return Err(Error::shape("rms_norm", format!("weight {:?} for {:?}", weight.dims(), self.dims())));
        }
        Ok(dispatch2!("rms_norm", self, weight, (t, w) => t.rms_norm(w, eps)))
    }

    /// Group norm of `[batch, channels, ..]`: mean and variance over each group of channels and all places; weight and
    /// bias `[channels]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the channels do not divide into the groups or weight or bias have another size.
    pub fn group_norm(&self, groups: usize, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Self> {
        let channels = *self.dims().get(1).ok_or_else(|| Error::shape("group_norm", "expected a channel axis"))?;
        if groups == 0 || !channels.is_multiple_of(groups) || weight.dims() != [channels] || bias.dims() != [channels] {
            return Err(Error::shape(
                "group_norm",
                format!("{groups} groups, weight {:?} for {:?}", weight.dims(), self.dims()),
            ));
        }
        Ok(match (&self.repr, &weight.repr, &bias.repr) {
            (Repr::Cpu(t), Repr::Cpu(w), Repr::Cpu(b)) => Self { repr: Repr::Cpu(t.group_norm(groups, w, b, eps)?) },
            (Repr::Gpu(t), Repr::Gpu(w), Repr::Gpu(b)) => Self { repr: Repr::Gpu(t.group_norm(groups, w, b, eps)?) },
            _ => return Err(two_engines("group_norm")),
        })
    }

    // ---- products ----

    /// Matrix product of the last two axes, `[.., m, k] · [.., k, n]`; the axes in front must be equal.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not go together.
    pub fn matmul(&self, other: &Tensor) -> Result<Self> {
        self.batched_matmul(other, false)
    }

    /// Matrix product with the other's last two axes swapped, `[.., m, k] · [.., n, k]ᵀ`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not go together.
    pub fn matmul_transposed(&self, other: &Tensor) -> Result<Self> {
        self.batched_matmul(other, true)
    }

    fn batched_matmul(&self, other: &Tensor, transposed: bool) -> Result<Self> {
        let (a, b) = (self.dims(), other.dims());
        let mismatch =
            || Error::shape("matmul", format!("{a:?} and {b:?} (transposed: {transposed}) do not go together"));
        if a.len() < 2 || a.len() != b.len() {
            return Err(mismatch());
        }
        let (front, [m, k]) = (&a[..a.len() - 2], [a[a.len() - 2], a[a.len() - 1]]);
        let (rows, cols) = (b[b.len() - 2], b[b.len() - 1]);
        let (other_k, n) = if transposed { (cols, rows) } else { (rows, cols) };
        if front != &b[..b.len() - 2] || k != other_k {
            return Err(mismatch());
        }
        let batch: usize = front.iter().product();
        let (flat, other) = (self.reshape(&[batch, m, k])?, other.reshape(&[batch, rows, cols])?);
        let product = dispatch2!("matmul", flat, other, (a, b) => a.matmul(b, transposed));
        let mut dims = front.to_vec();
        dims.extend([m, n]);
        product.reshape(&dims)
    }

    /// `self` `[.., in]` through a linear layer: `activation(self · matrixᵀ + bias)`, `[.., out]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis is not the matrix's columns or the bias not its rows.
    pub fn linear(&self, matrix: &Matrix, bias: Option<&Tensor>, activation: Option<Unary>) -> Result<Self> {
        if self.last_dim("linear")? != matrix.cols() || bias.is_some_and(|bias| bias.dims() != [matrix.rows()]) {
            let (rows, cols, bias) = (matrix.rows(), matrix.cols(), bias.map(Tensor::dims));
            return Err(Error::shape(
                "linear",
                format!("{:?} through [{rows}, {cols}] with bias {bias:?}", self.dims()),
            ));
        }
        Ok(match (&self.repr, &matrix.repr) {
            (Repr::Cpu(t), matrix::MatrixRepr::Cpu(m)) => {
                Self { repr: Repr::Cpu(t.linear(m, Self::cpu_operand("linear", bias)?, activation)?) }
            }
            (Repr::Gpu(t), matrix::MatrixRepr::Gpu(m)) => {
                Self { repr: Repr::Gpu(t.linear(m, Self::gpu_operand("linear", bias)?, activation)?) }
            }
            _ => return Err(two_engines("linear")),
        })
    }

    /// Rows of a matrix by id: `ids` u32 `[n]` gives `[n, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`] as for [`index_select`](Self::index_select).
    pub fn embedding(matrix: &Matrix, ids: &Tensor) -> Result<Self> {
        ids.dims_of::<1>("embedding ids")?;
        ids.check_dtype("embedding ids", DType::U32)?;
        Ok(match (&matrix.repr, &ids.repr) {
            (matrix::MatrixRepr::Cpu(m), Repr::Cpu(ids)) => {
                Self { repr: Repr::Cpu(cpu::CpuTensor::embedding(m, ids)?) }
            }
            (matrix::MatrixRepr::Gpu(m), Repr::Gpu(ids)) => {
                Self { repr: Repr::Gpu(gpu::GpuTensor::embedding(m, ids)?) }
            }
            _ => return Err(two_engines("embedding")),
        })
    }

    /// Scaled dot-product attention, with the softmax computed as the keys go by.
    ///
    /// - `self`: queries `[batch, heads, query_count, dim]`
    /// - `key`, `value`: `[batch, key_heads, capacity, dim]`, `[batch, key_heads, capacity, value_dim]`; heads is a
    ///   multiple of key_heads, each of which serves that many neighbouring query heads; only the first
    ///   `options.key_count` places are read; as they are or [`kept`](Self::kept)
    ///
    /// Returns `[batch, heads, query_count, value_dim]`. A query that sees no key gives zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes, the mask or the counts do not go together.
    pub fn attention(&self, key: &Tensor, value: &Tensor, options: &Attention<'_>) -> Result<Self> {
        let [batch, heads, query_count, dim] = self.dims_of("attention query")?;
        let [key_batch, key_heads, capacity, key_dim] = key.dims_of("attention key")?;
        let [value_batch, value_heads, value_capacity, _] = value.dims_of("attention value")?;
        let numbers_a_word = if key.dtype() == DType::U32 { 2 } else { 1 };
        let fits = (key_batch, value_batch, key_dim * numbers_a_word) == (batch, batch, dim)
            && (key_heads, capacity) == (value_heads, value_capacity)
            && key_heads > 0
            && heads.is_multiple_of(key_heads)
            && options.key_count <= capacity
            && options.causal_start.is_none_or(|start| start + query_count <= options.key_count);
        if !fits {
            let (q, k, v) = (self.dims(), key.dims(), value.dims());
            let reason = format!("query {q:?}, key {k:?}, value {v:?}, {} keys in use", options.key_count);
            return Err(Error::shape("attention", reason));
        }
        let full = [batch, heads, query_count, options.key_count];
        if let Some(mask) = options.mask
            && (mask.dims().len() != 4 || broadcast_dims("attention mask", mask.dims(), &full)? != full)
        {
            return Err(Error::shape("attention", format!("mask {:?} does not stretch to {full:?}", mask.dims())));
        }
        Ok(match (&self.repr, &key.repr, &value.repr) {
            (Repr::Cpu(q), Repr::Cpu(k), Repr::Cpu(v)) => {
                let mask = Self::cpu_operand("attention", options.mask)?;
                Self { repr: Repr::Cpu(q.attention(k, v, options, mask)?) }
            }
            (Repr::Gpu(q), Repr::Gpu(k), Repr::Gpu(v)) => {
                let mask = Self::gpu_operand("attention", options.mask)?;
                Self { repr: Repr::Gpu(q.attention(k, v, options, mask)?) }
            }
            _ => return Err(two_engines("attention")),
        })
    }

    /// Keys or values as the engine keeps them for [`attention`](Self::attention) that reads them again and again: on the
    /// GPU as f16, which halves their memory, as far as the last axis is even; on the CPU as they are.
    ///
    /// What comes out can be cut, enlarged and written to along all axes but the last, and read by attention alone.
    ///
    /// # Errors
    /// [`Error::Shape`] for u32 numbers; those of the engine.
    pub fn kept(&self) -> Result<Self> {
        self.check_dtype("kept", DType::F32)?;
        Ok(dispatch!(self, t => t.kept()))
    }

    /// Multi-scale deformable attention: every query reads each level of a feature pyramid at a few places of its own.
    ///
    /// - `self`: values `[seq, heads, dim]`, the levels behind each other, each row by row
    /// - `levels`: rows and columns of each level, at least 1
    /// - `locations`: `[queries, heads, levels, points, 2]`: x and y, 0..1 from edge to edge of the level; between pixel
    ///   centres is interpolated, beside the level all is 0
    /// - `shares`: `[queries, heads, levels, points]`: weight of what is read there
    ///
    /// Returns `[queries, heads, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not go together.
    ///
    /// Source: Zhu et al. 2021 (arXiv 2010.04159), equation 3.
    pub fn deformable_attention(&self, levels: &[[usize; 2]], locations: &Tensor, shares: &Tensor) -> Result<Self> {
        let [seq, heads, _] = self.dims_of("deformable_attention values")?;
        let [queries, share_heads, level_count, points] = shares.dims_of("deformable_attention shares")?;
        let places =
            levels.iter().try_fold(0usize, |sum, [rows, columns]| sum.checked_add(rows.checked_mul(*columns)?));
        let fits = locations.dims() == [queries, heads, level_count, points, 2]
            && (share_heads, level_count, places) == (heads, levels.len(), Some(seq))
            && !levels.iter().flatten().any(|side| *side == 0);
        if !fits {
            let (values, locations, shares) = (self.dims(), locations.dims(), shares.dims());
            let reason = format!("values {values:?} of {levels:?} at {locations:?} with shares {shares:?}");
            return Err(Error::shape("deformable_attention", reason));
        }
        Ok(match (&self.repr, &locations.repr, &shares.repr) {
            (Repr::Cpu(t), Repr::Cpu(l), Repr::Cpu(s)) => {
                Self { repr: Repr::Cpu(t.deformable_attention(levels, l, s)?) }
            }
            (Repr::Gpu(t), Repr::Gpu(l), Repr::Gpu(s)) => {
                Self { repr: Repr::Gpu(t.deformable_attention(levels, l, s)?) }
            }
            _ => return Err(two_engines("deformable_attention")),
        })
    }

    /// Rotary position embedding in the half-split layout: with `x = [a, b]` along the last axis the result is
    /// `[a · cos − b · sin, b · cos + a · sin]`.
    ///
    /// - `self`: `[batch, heads, seq, dim]`, dim even
    /// - `cos`, `sin`: `[positions, dim / 2]`, radians; row `start + i` serves place i of the sequence
    ///
    /// # Errors
    /// [`Error::Shape`] if the tables are too short or of another width.
    pub fn rope(&self, cos: &Tensor, sin: &Tensor, start: usize) -> Result<Self> {
        let [_, _, seq, dim] = self.dims_of("rope")?;
        let [positions, half] = cos.dims_of("rope table")?;
        if sin.dims() != cos.dims() || half * 2 != dim || start + seq > positions {
            let reason = format!("{:?} from position {start} on with tables {:?}", self.dims(), cos.dims());
            return Err(Error::shape("rope", reason));
        }
        Ok(match (&self.repr, &cos.repr, &sin.repr) {
            (Repr::Cpu(t), Repr::Cpu(c), Repr::Cpu(s)) => Self { repr: Repr::Cpu(t.rope(c, s, start)?) },
            (Repr::Gpu(t), Repr::Gpu(c), Repr::Gpu(s)) => Self { repr: Repr::Gpu(t.rope(c, s, start)?) },
            _ => return Err(two_engines("rope")),
        })
    }

    // ---- pictures ----

    /// Convolves `[batch, channels, height, width]` with the kernel, its bias and its activation.
    ///
    /// # Errors
    /// [`Error::Shape`] if the channels differ or the padded picture is smaller than the kernel.
    pub fn conv2d(&self, kernel: &ConvKernel) -> Result<Self> {
        let [_, channels, height, width] = self.dims_of("conv2d")?;
        kernel.output_size(channels, height, width)?;
        Ok(match (&self.repr, &kernel.repr) {
            (Repr::Cpu(t), matrix::KernelRepr::Cpu(k)) => Self { repr: Repr::Cpu(t.conv2d(k)?) },
            (Repr::Gpu(t), matrix::KernelRepr::Gpu(k)) => Self { repr: Repr::Gpu(t.conv2d(k)?) },
            _ => return Err(two_engines("conv2d")),
        })
    }

    /// Transposed convolution whose stride equals its kernel, without padding: every place becomes a
    /// `stride × stride` square. `weight` is `[in, out, stride, stride]`, `bias` `[out]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight has another form.
    pub fn conv_transpose2d(&self, weight: &Tensor, bias: Option<&Tensor>, stride: usize) -> Result<Self> {
        let [_, channels, _, _] = self.dims_of("conv_transpose2d")?;
        let [input, output, kernel_height, kernel_width] = weight.dims_of("conv_transpose2d weight")?;
        let square = kernel_height == stride && kernel_width == stride && stride > 0;
        if input != channels || !square || bias.is_some_and(|bias| bias.dims() != [output]) {
            return Err(Error::shape("conv_transpose2d", format!("{:?} with weight {:?}", self.dims(), weight.dims())));
        }
        Ok(match (&self.repr, &weight.repr) {
            (Repr::Cpu(t), Repr::Cpu(w)) => {
                let bias = Self::cpu_operand("conv_transpose2d", bias)?;
                Self { repr: Repr::Cpu(t.conv_transpose2d(w, bias, stride)?) }
            }
            (Repr::Gpu(t), Repr::Gpu(w)) => {
                let bias = Self::gpu_operand("conv_transpose2d", bias)?;
                Self { repr: Repr::Gpu(t.conv_transpose2d(w, bias, stride)?) }
            }
            _ => return Err(two_engines("conv_transpose2d")),
        })
    }

    /// Maximum or mean over windows of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if no window fits.
    pub fn pool2d(&self, options: &Pool) -> Result<Self> {
        let [_, _, height, width] = self.dims_of("pool2d")?;
        options.output_size(height, width)?;
        Ok(dispatch!(self, t => t.pool2d(options)))
    }

    /// Resamples `[batch, channels, height, width]` to another height and width, without anti-aliasing.
    ///
    /// # Errors
    /// [`Error::Shape`] if a size is 0.
    pub fn resize(&self, height: usize, width: usize, mode: Resize) -> Result<Self> {
        let [_, _, from_height, from_width] = self.dims_of("resize")?;
        if [height, width, from_height, from_width].contains(&0) {
            return Err(Error::shape("resize", format!("{:?} to {height} × {width}", self.dims())));
        }
        Ok(dispatch!(self, t => t.resize(height, width, mode)))
    }

    fn cpu(&self) -> Option<&cpu::CpuTensor> {
        match &self.repr {
            Repr::Cpu(tensor) => Some(tensor),
            Repr::Gpu(_) => None,
        }
    }

    fn gpu(&self) -> Option<&gpu::GpuTensor> {
        match &self.repr {
            Repr::Gpu(tensor) => Some(tensor),
            Repr::Cpu(_) => None,
        }
    }

    fn cpu_operand<'a>(operation: &'static str, tensor: Option<&'a Tensor>) -> Result<Option<&'a cpu::CpuTensor>> {
        tensor.map(|t| t.cpu().ok_or_else(|| two_engines(operation))).transpose()
    }

    fn gpu_operand<'a>(operation: &'static str, tensor: Option<&'a Tensor>) -> Result<Option<&'a gpu::GpuTensor>> {
        tensor.map(|t| t.gpu().ok_or_else(|| two_engines(operation))).transpose()
    }
}
