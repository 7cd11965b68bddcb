//! Opening an adapter, and what is shared by all that runs on it.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::GpuTensor;
use super::failure::FailureLog;
use super::pipelines::{BindGroups, PARAMS_BYTES, Pipelines};
use super::pool::{FirstWrite, Pool, Storage};
use super::read_back::Staging;
use super::recording::Recording;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// An opened graphics adapter. Cloning shares it.
#[derive(Clone)]
pub struct Gpu {
    pub(super) inner: Rc<Inner>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.inner.adapter.name)
    }
}

pub(super) struct Inner {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    features: wgpu::Features,
    adapter: wgpu::AdapterInfo,
    pub(super) failures: FailureLog,
    /// Never held across an await, nor while a tensor is dropped.
    pub(super) state: RefCell<State>,
}

pub(super) struct State {
    pub(super) recording: Recording,
    pub(super) pipelines: Pipelines,
    pub(super) bind_groups: BindGroups,
    pub(super) pool: Pool,
    pub(super) staging: Staging,
    pub(super) counters: Counters,
    /// The parameters of a recording, and the bind group that every dispatch shares.
    params: Option<(wgpu::Buffer, wgpu::BindGroup)>,
}

/// What the GPU engine did since it was opened; differences of two readings tell what a piece of work cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Kernels recorded and submitted.
    pub dispatches: u64,
    /// Command buffers given to the queue.
    pub submits: u64,
    /// Waits for results.
    pub read_backs: u64,
    /// Bytes of results read.
    pub bytes_read: u64,
    /// Bytes of tensors and parameters written from main memory.
    pub bytes_uploaded: u64,
    /// Buffers that the pool could not serve.
    pub buffers_created: u64,
    /// Combinations of buffers bound for the first time.
    pub bind_groups_created: u64,
    /// Pipelines compiled.
    pub pipelines_created: u64,
    /// Bytes of GPU memory held by living tensors and weights, now.
    pub bytes_in_use: u64,
    /// Bytes of GPU memory held for reuse, now.
    pub bytes_free: u64,
}

impl Counters {
    /// What was done since an earlier reading; bytes in use and free are those of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            dispatches: self.dispatches - earlier.dispatches,
            submits: self.submits - earlier.submits,
            read_backs: self.read_backs - earlier.read_backs,
            bytes_read: self.bytes_read - earlier.bytes_read,
            bytes_uploaded: self.bytes_uploaded - earlier.bytes_uploaded,
            buffers_created: self.buffers_created - earlier.buffers_created,
            bind_groups_created: self.bind_groups_created - earlier.bind_groups_created,
            pipelines_created: self.pipelines_created - earlier.pipelines_created,
            bytes_in_use: self.bytes_in_use,
            bytes_free: self.bytes_free,
        }
    }
}

/// What was opened, for diagnostics and for the choice of an engine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GpuInfo {
    /// The adapter's name; browsers may hide it.
    pub name: String,
    /// `BrowserWebGpu`, `Vulkan`, `Metal` or `Dx12`.
    pub backend: String,
    /// Driver and version, where told.
    pub driver: String,
    /// Whether it is a processor that plays a GPU: correct, but slower than the CPU engine.
    pub software: bool,
    /// Largest part of a buffer that a kernel can see, in bytes.
    pub binding_bytes: u64,
    /// Largest buffer, in bytes.
    pub buffer_bytes: u64,
    /// Memory that a workgroup's invocations share, in bytes.
    pub workgroup_memory_bytes: u32,
    /// Whether subgroup operations are there.
    pub subgroups: bool,
    /// Whether kernels can compute in f16.
    pub shader_f16: bool,
    /// Kernels in use, with the values of their constants.
    pub kernels: Vec<String>,
}

impl Gpu {
    /// Opens the fastest adapter with all that it allows: its own limits, subgroups and f16 where it has them.
    ///
    /// # Errors
    /// [`Error::NoWebGpu`] if there is no adapter, it offers less than WebGPU promises, or it refuses a device.
    pub async fn open() -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        let refused = |reason: String| Error::NoWebGpu(reason);
        let adapter = instance.request_adapter(&options).await.map_err(|error| refused(error.to_string()))?;
        let (limits, info) = (adapter.limits(), adapter.get_info());
        if limits.max_compute_invocations_per_workgroup < 256
            || limits.max_storage_buffers_per_shader_stage < 8
            || limits.max_compute_workgroup_storage_size < 16 << 10
            || limits.min_storage_buffer_offset_alignment > 256
            || limits.min_uniform_buffer_offset_alignment > 256
        {
            return Err(refused(format!("{} offers less than WebGPU promises", info.name)));
        }
        let wanted = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16;
        let features = adapter.features() & wanted;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("bubo"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| refused(error.to_string()))?;
        let failures = FailureLog::default();
        failures.listen(&device);
        let state = RefCell::new(State::new(&device));
        let inner = Inner { device, queue, limits, features, adapter: info, failures, state };
        Ok(Self { inner: Rc::new(inner) })
    }

    /// What was opened, and the kernels in use so far.
    pub fn info(&self) -> GpuInfo {
        let Inner { adapter, limits, features, .. } = &*self.inner;
        GpuInfo {
            name: adapter.name.clone(),
            backend: format!("{:?}", adapter.backend),
            driver: [adapter.driver.as_str(), adapter.driver_info.as_str()].join(" ").trim().to_string(),
            software: adapter.device_type == wgpu::DeviceType::Cpu,
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            kernels: self.inner.state.borrow().pipelines.names(),
        }
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        let state = self.inner.state.borrow();
        Counters {
            buffers_created: state.pool.created + state.staging.created,
            bind_groups_created: state.bind_groups.created,
            pipelines_created: state.pipelines.names().len() as u64,
            bytes_in_use: state.pool.used_bytes,
            bytes_free: state.pool.free_bytes(),
            ..state.counters
        }
    }

    /// Submits what is recorded without waiting for it, so that the GPU starts while more is being prepared.
    pub fn submit(&self) {
        self.inner.state.borrow_mut().submit(&self.inner, None);
    }

    /// A tensor whose numbers the next recorded dispatch writes.
    pub(super) fn empty(&self, dims: &[usize], dtype: DType) -> Result<GpuTensor> {
        self.allocate(dims, dtype, FirstWrite::Recorded)
    }

    /// A tensor of numbers from main memory.
    pub(super) fn upload(&self, words: &[u32], dims: &[usize], dtype: DType) -> Result<GpuTensor> {
        let tensor = self.allocate(dims, dtype, FirstWrite::Queued)?;
        self.write(&tensor.storage.buffer, bytemuck::cast_slice(words));
        Ok(tensor)
    }

    /// A buffer of just these bytes, padded to whole words, for weights.
    pub(super) fn upload_weights(&self, bytes: &[u8]) -> Result<Rc<Storage>> {
        let size = (bytes.len() as u64).next_multiple_of(4);
        self.check_size(size)?;
        let taken = self.inner.state.borrow_mut().pool.take_exact(&self.inner.device, size);
        let storage = Rc::new(Storage::new(self, taken, false));
        let whole = bytes.len() & !3;
        self.write(&storage.buffer, &bytes[..whole]);
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.inner.queue.write_buffer(&storage.buffer, whole as u64, &last);
        }
        Ok(storage)
    }

    fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.inner.queue.write_buffer(buffer, 0, bytes);
            self.inner.state.borrow_mut().counters.bytes_uploaded += bytes.len() as u64;
        }
    }

    fn check_size(&self, bytes: u64) -> Result<()> {
        self.inner.failures.check_alive()?;
        let most = self.inner.limits.max_buffer_size;
        if bytes > most {
            let reason = format!("a tensor of {} MiB: this adapter allows {} MiB", bytes >> 20, most >> 20);
            return Err(Error::OutOfMemory(reason));
        }
        Ok(())
    }

    fn allocate(&self, dims: &[usize], dtype: DType, first_write: FirstWrite) -> Result<GpuTensor> {
        let count: u64 = dims.iter().map(|dim| *dim as u64).product();
        let bytes = count.saturating_mul(4);
        self.check_size(bytes)?;
        let mut state = self.inner.state.borrow_mut();
        let current = state.recording.number();
        let taken = state.pool.take(&self.inner.device, bytes, first_write, current);
        drop(state);
        let storage = Rc::new(Storage::new(self, taken, true));
        Ok(GpuTensor { storage, offset: 0, dims: dims.to_vec(), dtype })
    }
}

impl State {
    fn new(device: &wgpu::Device) -> Self {
        Self {
            recording: Recording::default(),
            pipelines: Pipelines::new(device),
            bind_groups: BindGroups::default(),
            pool: Pool::default(),
            staging: Staging::default(),
            counters: Counters::default(),
            params: None,
        }
    }

    /// The parameters' buffer, of at least that many bytes, and its bind group.
    fn params(&mut self, device: &wgpu::Device, bytes: u64) -> &(wgpu::Buffer, wgpu::BindGroup) {
        let large_enough = self.params.take().filter(|(buffer, _)| buffer.size() >= bytes);
        let params = large_enough.unwrap_or_else(|| {
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size: bytes.next_power_of_two().max(64 << 10),
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let binding = wgpu::BufferBinding { buffer: &buffer, offset: 0, size: wgpu::BufferSize::new(PARAMS_BYTES) };
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("params"),
                layout: self.pipelines.params_layout(),
                entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(binding) }],
            });
            self.pool.created += 1;
            self.bind_groups.created += 1;
            (buffer, group)
        });
        self.params.insert(params)
    }

    /// Hands the recording to the queue, in one pass, and then what `finish` adds.
    pub(super) fn submit(&mut self, inner: &Inner, finish: Option<&mut dyn FnMut(&mut wgpu::CommandEncoder)>) {
        if self.recording.commands.is_empty() && finish.is_none() {
            return;
        }
        let mut encoder = inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        if !self.recording.commands.is_empty() {
            let bytes = self.recording.params.len() as u64;
            self.params(&inner.device, bytes);
            if let Some((buffer, params_group)) = &self.params {
                // The queue writes in order: after the submissions that read the parameters before these.
                inner.queue.write_buffer(buffer, 0, &self.recording.params);
                self.counters.bytes_uploaded += bytes;
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                let mut current = usize::MAX;
                for command in &self.recording.commands {
                    if command.pipeline != current {
                        pass.set_pipeline(self.pipelines.pipeline(command.pipeline));
                        current = command.pipeline;
                    }
                    pass.set_bind_group(0, params_group, &[command.params]);
                    pass.set_bind_group(1, self.bind_groups.group(command.bind_group), &[]);
                    let [x, y, z] = command.workgroups;
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
        if let Some(finish) = finish {
            finish(&mut encoder);
        }
        inner.queue.submit([encoder.finish()]);
        self.counters.submits += 1;
        self.counters.dispatches += self.recording.commands.len() as u64;
        self.recording.clear();
        let dropped = self.pool.take_dropped();
        self.bind_groups.forget(&dropped);
    }
}
