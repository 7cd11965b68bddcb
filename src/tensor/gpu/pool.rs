//! Buffers, used again instead of made again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::Gpu;

/// Bytes of unused buffers that are kept.
pub(super) const KEPT_BYTES: u64 = 512 << 20;

/// Smallest buffer, also WebGPU's alignment of offsets.
const SMALLEST: u64 = 256;

/// Rounds up to one of eight sizes an octave, so that at most an eighth is wasted and sizes meet again.
pub(super) fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(SMALLEST);
    let step = (bytes.next_power_of_two() / 16).max(SMALLEST);
    bytes.next_multiple_of(step)
}

/// What a buffer of weights takes: whole words, and not less than the smallest buffer.
pub(super) fn exact_size(bytes: u64) -> u64 {
    bytes.max(SMALLEST).next_multiple_of(4)
}

/// A buffer in GPU memory, returned to its pool when the last tensor that uses it goes.
pub(super) struct Storage {
    pub(super) gpu: Gpu,
    pub(super) buffer: wgpu::Buffer,
    pub(super) id: u64,
    kept: bool,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer {} of {} bytes", self.id, self.buffer.size())
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Nothing drops a tensor while it holds the state; if that ever changed, the buffer would merely not be kept.
        if let Ok(mut state) = self.gpu.inner.state.try_borrow_mut() {
            let recording = state.recording.number();
            let free = Free { buffer: self.buffer.clone(), last_use: recording };
            state.pool.put(self.id, free, self.kept);
        }
    }
}

struct Free {
    buffer: wgpu::Buffer,
    /// The recording during which it was given back: until that is submitted, the recording may still use it.
    last_use: u64,
}

/// Unused buffers by size, and the numbers of those that were let go.
#[derive(Default)]
pub(super) struct Pool {
    /// By size, then by number: the lowest is taken first, so that equal pieces of work get equal buffers, and the bind
    /// groups of the last time serve again.
    free: HashMap<u64, BTreeMap<u64, Free>>,
    free_bytes: u64,
    next_id: u64,
    dropped: HashSet<u64>,
    pub(super) created: u64,
    pub(super) used_bytes: u64,
}

/// How a buffer will first be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstWrite {
    /// By a recorded dispatch: after everything recorded so far.
    Recorded,
    /// By the queue: before everything recorded and not yet submitted, so such a recording must not use it.
    Queued,
}

impl Pool {
    /// A buffer of at least that many bytes, from the pool if it has one. `current` is the recording's number.
    pub(super) fn take(
        &mut self,
        device: &wgpu::Device,
        bytes: u64,
        first_write: FirstWrite,
        current: u64,
    ) -> (wgpu::Buffer, u64) {
        let size = size_class(bytes);
        self.used_bytes += size;
        if let Some(free) = self.free.get_mut(&size) {
            let usable = |free: &Free| first_write == FirstWrite::Recorded || free.last_use < current;
            let found = free.iter().find(|(_, free)| usable(free)).map(|(id, _)| *id);
            if let Some((id, found)) = found.and_then(|id| free.remove_entry(&id)) {
                self.free_bytes -= size;
                return (found.buffer, id);
            }
        }
        self.create(device, size)
    }

    /// A buffer of just that size, for weights.
    pub(super) fn take_exact(&mut self, device: &wgpu::Device, bytes: u64) -> (wgpu::Buffer, u64) {
        let size = exact_size(bytes);
        self.used_bytes += size;
        self.create(device, size)
    }

    fn create(&mut self, device: &wgpu::Device, size: u64) -> (wgpu::Buffer, u64) {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        let buffer =
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        self.created += 1;
        self.next_id += 1;
        (buffer, self.next_id)
    }

    fn put(&mut self, id: u64, free: Free, kept: bool) {
        let size = free.buffer.size();
        self.used_bytes -= size;
        if kept && self.free_bytes + size <= KEPT_BYTES {
            self.free_bytes += size;
            self.free.entry(size).or_default().insert(id, free);
        } else {
            self.dropped.insert(id);
        }
    }

    /// Numbers of buffers let go since the last call; bind groups that name them keep their memory alive.
    pub(super) fn take_dropped(&mut self) -> HashSet<u64> {
        std::mem::take(&mut self.dropped)
    }

    /// Bytes held but unused.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }
}

impl Storage {
    pub(super) fn new(gpu: &Gpu, (buffer, id): (wgpu::Buffer, u64), kept: bool) -> Self {
        Self { gpu: gpu.clone(), buffer, id, kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_hold_the_bytes_and_waste_little() {
        for bytes in [0, 1, 255, 256, 257, 4000, 4096, 4097, 100_000, 113_246_208, (1 << 27) + 4] {
            let size = size_class(bytes);
            assert!(size >= bytes && size.is_multiple_of(SMALLEST), "{bytes} in {size}");
            assert!(size - bytes <= (bytes / 8).max(SMALLEST), "{bytes} in {size}");
            assert_eq!(size_class(size), size);
        }
    }
}
