//! What is to be done, as data, until it is submitted.

use super::kernels::{Access, Kernel};
use super::pipelines::{BindGroupId, BufferRange, PARAMS_BYTES, PipelineId};
use super::{Gpu, GpuTensor};
use crate::error::{Error, Result};

/// Dispatches in one submission at most.
const COMMANDS: usize = 1024;

/// Multiply-adds in one submission at most, about: a system resets a device that seems to hang for some seconds, and a
/// processor that plays a GPU does about 10⁹ a second.
const WORK: u64 = 1 << 31;

/// Workgroups in one dimension at most, which every WebGPU adapter allows.
pub(super) const GRID_SIDE: u32 = 65535;

/// One dispatch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub(super) pipeline: PipelineId,
    pub(super) bind_group: BindGroupId,
    /// Byte offset into the parameters.
    pub(super) params: u32,
    pub(super) workgroups: [u32; 3],
}

/// Dispatches in order, and the parameters of all of them.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) commands: Vec<Command>,
    pub(super) params: Vec<u8>,
    work: u64,
    number: u64,
}

impl Recording {
    /// Counts up with every submission.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn clear(&mut self) {
        self.commands.clear();
        self.params.clear();
        self.work = 0;
        self.number += 1;
    }

    fn push(&mut self, pipeline: PipelineId, bind_group: BindGroupId, params: &[u32], workgroups: [u32; 3]) {
        let offset = self.params.len();
        self.params.extend_from_slice(bytemuck::cast_slice(params));
        self.params.resize(offset + PARAMS_BYTES as usize, 0);
        self.commands.push(Command { pipeline, bind_group, params: offset as u32, workgroups });
    }
}

/// A buffer part that a kernel works on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) storage: &'a super::pool::Storage,
    pub(super) offset: u64,
    /// Bytes that the kernel may touch.
    pub(super) bytes: u64,
}

impl GpuTensor {
    pub(super) fn operand(&self) -> Operand<'_> {
        Operand { storage: &self.storage, offset: self.offset, bytes: self.bytes() }
    }
}

/// A kernel with all that it needs.
pub(super) struct Dispatch<'a> {
    pub(super) kernel: &'static Kernel,
    /// Values of the kernel's override constants.
    pub(super) constants: &'a [u32],
    /// The kernel's buffers, in its order.
    pub(super) operands: &'a [Operand<'a>],
    /// The words of the kernel's `Params`.
    pub(super) params: &'a [u32],
    pub(super) workgroups: [u32; 3],
    /// Multiply-adds, about.
    pub(super) work: u64,
}

/// Workgroups for `count` invocations, `size` a workgroup, folded over y (and z) where x does not suffice.
pub(super) fn grid(count: u64, size: u64) -> [u32; 3] {
    let side = u64::from(GRID_SIDE);
    let groups = count.div_ceil(size);
    let x = groups.min(side);
    let y = groups.div_ceil(x.max(1)).min(side);
    let z = groups.div_ceil((x * y).max(1));
    [x as u32, y as u32, z as u32]
}

impl Gpu {
    /// Appends a dispatch to the recording, and submits if that is full. A grid without workgroups is nothing to do.
    pub(super) fn record(&self, dispatch: &Dispatch<'_>) -> Result<()> {
        if dispatch.workgroups.contains(&0) {
            return Ok(());
        }
        let name = dispatch.kernel.name;
        if dispatch.workgroups.iter().any(|side| *side > GRID_SIDE) {
            return Err(Error::Unsupported(format!("{name} on {:?} workgroups", dispatch.workgroups)));
        }
        debug_assert_eq!(dispatch.kernel.bindings.len(), dispatch.operands.len(), "operands of {name}");
        debug_assert_eq!(dispatch.kernel.overrides.len(), dispatch.constants.len(), "constants of {name}");
        let ranges = self.ranges(dispatch)?;
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let device = &self.inner.device;
        let pipeline = state.pipelines.get(device, dispatch.kernel, dispatch.constants);
        let buffers: Vec<&wgpu::Buffer> = dispatch.operands.iter().map(|operand| &operand.storage.buffer).collect();
        let bind_group = state.bind_groups.get(device, &mut state.pipelines, dispatch.kernel, &ranges, &buffers);
        state.recording.push(pipeline, bind_group, dispatch.params, dispatch.workgroups);
        state.recording.work += dispatch.work;
        if state.recording.commands.len() >= COMMANDS || state.recording.work >= WORK {
            state.submit(&self.inner, None);
        }
        Ok(())
    }

    /// What to bind of each operand: as much as there is and the adapter allows, so that a buffer that serves tensors
    /// of many sizes needs one bind group.
    fn ranges(&self, dispatch: &Dispatch<'_>) -> Result<Vec<BufferRange>> {
        let limit = self.inner.limits.max_storage_buffer_binding_size;
        let written: Vec<u64> = dispatch
            .operands
            .iter()
            .zip(dispatch.kernel.bindings)
            .filter(|(_, access)| **access == Access::Write)
            .map(|(operand, _)| operand.storage.id)
            .collect();
        let mut ranges = Vec::with_capacity(dispatch.operands.len());
        for (operand, access) in dispatch.operands.iter().zip(dispatch.kernel.bindings) {
            let name = dispatch.kernel.name;
            if operand.bytes > limit {
                let (found, most) = (operand.bytes >> 20, limit >> 20);
                let reason = format!("{name} on a tensor of {found} MiB: this adapter binds at most {most} MiB");
                return Err(Error::Unsupported(reason));
            }
            if *access == Access::Read && written.contains(&operand.storage.id) {
                return Err(Error::Gpu(format!("{name} would read the buffer that it writes")));
            }
            let size = (operand.storage.buffer.size() - operand.offset).min(limit) & !3;
            ranges.push(BufferRange { id: operand.storage.id, offset: operand.offset, size });
        }
        Ok(ranges)
    }
}
