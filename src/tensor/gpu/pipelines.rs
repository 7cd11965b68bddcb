//! Pipelines and bind groups, made once each.

use std::collections::{HashMap, HashSet};

use super::kernels::{Access, Kernel};

/// Bytes of uniform parameters that a dispatch may have; also WebGPU's largest alignment of dynamic offsets.
pub(super) const PARAMS_BYTES: u64 = 256;

/// Bind groups kept; a model of thousands of layers still fits.
const BIND_GROUPS_KEPT: usize = 16384;

/// Place of a pipeline in [`Pipelines`].
pub(super) type PipelineId = usize;
/// Place of a bind group in [`BindGroups`].
pub(super) type BindGroupId = usize;

struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    kernel: &'static Kernel,
    constants: Vec<u32>,
}

/// The pipelines in use: one for each kernel and values of its constants.
pub(super) struct Pipelines {
    params_layout: wgpu::BindGroupLayout,
    storage_layouts: HashMap<&'static [Access], wgpu::BindGroupLayout>,
    modules: HashMap<&'static str, wgpu::ShaderModule>,
    ids: HashMap<(&'static str, Vec<u32>), PipelineId>,
    pipelines: Vec<Pipeline>,
}

fn entry(binding: u32, ty: wgpu::BufferBindingType, dynamic: bool, size: Option<u64>) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: dynamic,
            min_binding_size: size.and_then(wgpu::BufferSize::new),
        },
        count: None,
    }
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let uniform = entry(0, wgpu::BufferBindingType::Uniform, true, Some(PARAMS_BYTES));
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("params"), entries: &[uniform] };
        Self {
            params_layout: device.create_bind_group_layout(&descriptor),
            storage_layouts: HashMap::new(),
            modules: HashMap::new(),
            ids: HashMap::new(),
            pipelines: Vec::new(),
        }
    }

    pub(super) fn params_layout(&self) -> &wgpu::BindGroupLayout {
        &self.params_layout
    }

    fn storage_layout(&mut self, device: &wgpu::Device, bindings: &'static [Access]) -> &wgpu::BindGroupLayout {
        self.storage_layouts.entry(bindings).or_insert_with(|| {
            let entries: Vec<_> = (0..)
                .zip(bindings)
                .map(|(binding, access)| {
                    let ty = wgpu::BufferBindingType::Storage { read_only: *access == Access::Read };
                    entry(binding, ty, false, None)
                })
                .collect();
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
        })
    }

    /// The pipeline of a kernel with these values of its constants. In the browser it compiles in the background; what
    /// uses it waits on the GPU's side.
    pub(super) fn get(&mut self, device: &wgpu::Device, kernel: &'static Kernel, constants: &[u32]) -> PipelineId {
        let key = (kernel.name, constants.to_vec());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let storage_layout = self.storage_layout(device, kernel.bindings).clone();
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&self.params_layout), Some(&storage_layout)],
            immediate_size: 0,
        });
        let module = self.modules.entry(kernel.name).or_insert_with(|| {
            device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(kernel.name),
                source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
            })
        });
        let values: Vec<(&str, f64)> =
            kernel.overrides.iter().copied().zip(constants.iter().copied().map(f64::from)).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout),
            module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &values,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        let id = self.pipelines.len();
        self.pipelines.push(Pipeline { pipeline, kernel, constants: constants.to_vec() });
        self.ids.insert(key, id);
        id
    }

    pub(super) fn pipeline(&self, id: PipelineId) -> &wgpu::ComputePipeline {
        &self.pipelines[id].pipeline
    }

    /// Names of the pipelines made so far, such as `matmul(TRANSPOSED=1, BIAS=1, ACTIVATION=4)`.
    pub(super) fn names(&self) -> Vec<String> {
        self.pipelines
            .iter()
            .map(|Pipeline { kernel, constants, .. }| {
                let values: Vec<String> =
                    kernel.overrides.iter().zip(constants).map(|(name, value)| format!("{name}={value}")).collect();
                if values.is_empty() {
                    kernel.name.to_string()
                } else {
                    format!("{}({})", kernel.name, values.join(", "))
                }
            })
            .collect()
    }
}

/// A part of a buffer that a dispatch binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BufferRange {
    pub(super) id: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The bind groups in use, found by what they bind.
#[derive(Default)]
pub(super) struct BindGroups {
    ids: HashMap<(&'static [Access], Vec<BufferRange>), BindGroupId>,
    groups: Vec<wgpu::BindGroup>,
    pub(super) created: u64,
}

impl BindGroups {
    pub(super) fn get(
        &mut self,
        device: &wgpu::Device,
        pipelines: &mut Pipelines,
        kernel: &'static Kernel,
        ranges: &[BufferRange],
        buffers: &[&wgpu::Buffer],
    ) -> BindGroupId {
        let key = (kernel.bindings, ranges.to_vec());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let entries: Vec<_> = (0..)
            .zip(ranges.iter().zip(buffers))
            .map(|(binding, (range, buffer))| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: range.offset,
                    size: wgpu::BufferSize::new(range.size),
                }),
            })
            .collect();
        let layout = pipelines.storage_layout(device, kernel.bindings);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout,
            entries: &entries,
        });
        self.created += 1;
        let id = self.groups.len();
        self.groups.push(group);
        self.ids.insert(key, id);
        id
    }

    pub(super) fn group(&self, id: BindGroupId) -> &wgpu::BindGroup {
        &self.groups[id]
    }

    /// Forgets those that name a buffer that was let go, and all when there are too many. Changes the ids, so it may
    /// only run when nothing is recorded.
    pub(super) fn forget(&mut self, dropped: &HashSet<u64>) {
        if self.groups.len() > BIND_GROUPS_KEPT {
            self.ids.clear();
            self.groups.clear();
        } else if !dropped.is_empty() {
            self.ids.retain(|(_, ranges), _| ranges.iter().all(|range| !dropped.contains(&range.id)));
            let mut kept = Vec::with_capacity(self.ids.len());
            for id in self.ids.values_mut() {
                kept.push(self.groups[*id].clone());
                *id = kept.len() - 1;
            }
            self.groups = kept;
        }
    }
}
