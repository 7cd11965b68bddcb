//! Results on their way to main memory: the only place where anything waits.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use super::{Gpu, GpuTensor};
use crate::error::{Error, Result};

/// Buffers that main memory can read, kept for the next time.
#[derive(Default)]
pub(super) struct Staging {
    free: HashMap<u64, Vec<wgpu::Buffer>>,
    pub(super) created: u64,
}

/// Free staging buffers larger than this in sum are let go.
const KEPT_BYTES: u64 = 64 << 20;

impl Staging {
    fn take(&mut self, device: &wgpu::Device, bytes: u64) -> wgpu::Buffer {
        let size = bytes.next_power_of_two().max(256);
        if let Some(buffer) = self.free.get_mut(&size).and_then(Vec::pop) {
            return buffer;
        }
        self.created += 1;
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    fn put(&mut self, buffer: wgpu::Buffer) {
        let kept: u64 = self.free.iter().map(|(size, buffers)| size * buffers.len() as u64).sum();
        if kept + buffer.size() <= KEPT_BYTES {
            self.free.entry(buffer.size()).or_default().push(buffer);
        }
    }
}

/// A value that a callback brings.
struct Arrival<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T: Send + 'static> Arrival<T> {
    fn new() -> (Self, impl FnOnce(T) + Send + 'static) {
        let slot = Arc::new(Mutex::new((None, None::<Waker>)));
        let sender = Arc::clone(&slot);
        let bring = move |value| {
            let waker = {
                let mut slot = sender.lock().unwrap_or_else(PoisonError::into_inner);
                slot.0 = Some(value);
                slot.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        (Self(slot), bring)
    }

    async fn wait(self) -> T {
        poll_fn(|context| {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Gpu {
    /// Submits what is recorded, waits, and returns the words of several tensors.
    pub(super) async fn read_back(&self, tensors: &[&GpuTensor]) -> Result<Vec<Vec<u32>>> {
        let total: u64 = tensors.iter().map(|tensor| tensor.bytes()).sum();
        if total == 0 {
            return Ok(vec![Vec::new(); tensors.len()]);
        }
        self.inner.failures.check_alive()?;
        if total > self.inner.limits.max_buffer_size {
            return Err(Error::OutOfMemory(format!("a read-back of {} MiB", total >> 20)));
        }
        let buffer = self.submit_copies(tensors, total);
        let (arrival, bring) = Arrival::new();
        buffer.slice(0..total).map_async(wgpu::MapMode::Read, bring);
        // Natively this waits until the callback was called. In the browser it does nothing and the callback comes
        // from the event loop.
        let polled = self.inner.device.poll(wgpu::PollType::wait_indefinitely());
        if let Err(error) = polled {
            self.inner.failures.take()?;
            return Err(Error::Gpu(error.to_string()));
        }
        let mapped = arrival.wait().await;
        self.inner.failures.take()?;
        mapped.map_err(|error| Error::Gpu(error.to_string()))?;
        let words = {
            let view = buffer.slice(0..total).get_mapped_range().map_err(|error| Error::Gpu(error.to_string()))?;
            let mut at = 0;
            let mut next = |tensor: &&GpuTensor| {
                let mut words = vec![0u32; tensor.element_count()];
                let bytes = tensor.bytes() as usize;
                bytemuck::cast_slice_mut(&mut words).copy_from_slice(&view[at..at + bytes]);
                at += bytes;
                words
            };
            tensors.iter().map(&mut next).collect()
        };
        buffer.unmap();
        self.inner.state.borrow_mut().staging.put(buffer);
        Ok(words)
    }

    /// Submits the recording and, behind it, copies of the tensors into one buffer.
    fn submit_copies(&self, tensors: &[&GpuTensor], total: u64) -> wgpu::Buffer {
        let mut state = self.inner.state.borrow_mut();
        let staging = state.staging.take(&self.inner.device, total);
        let mut copy = |encoder: &mut wgpu::CommandEncoder| {
            let mut at = 0;
            for tensor in tensors.iter().filter(|tensor| tensor.bytes() > 0) {
                encoder.copy_buffer_to_buffer(&tensor.storage.buffer, tensor.offset, &staging, at, tensor.bytes());
                at += tensor.bytes();
            }
        };
        state.submit(&self.inner, Some(&mut copy));
        state.counters.read_backs += 1;
        state.counters.bytes_read += total;
        staging
    }
}
