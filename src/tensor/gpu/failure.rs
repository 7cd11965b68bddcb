//! What went wrong on the device since the last read-back.

use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};

#[derive(Debug, Default)]
struct Reports {
    /// The first fault since the last read-back.
    first: Option<Fault>,
    /// Why the device is gone; stays.
    lost: Option<String>,
}

#[derive(Debug)]
enum Fault {
    OutOfMemory(String),
    Other(String),
}

/// Collects the errors that the device reports at any time, for the next read-back to return.
#[derive(Debug, Clone, Default)]
pub(super) struct FailureLog(Arc<Mutex<Reports>>);

impl FailureLog {
    /// Makes the device report here instead of panicking.
    pub(super) fn listen(&self, device: &wgpu::Device) {
        let log = self.clone();
        device.on_uncaptured_error(Arc::new(move |error| log.report(&error)));
        let log = self.clone();
        device.set_device_lost_callback(move |reason, message| {
            log.with(|reports| reports.lost = Some(format!("the device was lost ({reason:?}): {message}")));
        });
    }

    fn report(&self, error: &wgpu::Error) {
        let fault = match error {
            wgpu::Error::OutOfMemory { source } => Fault::OutOfMemory(source.to_string()),
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                Fault::Other(description.clone())
            }
        };
        self.with(|reports| {
            reports.first.get_or_insert(fault);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Reports) -> T) -> T {
        // The log stays meaningful even if a reporter panicked.
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Fails if something was reported; a lost device is reported every time, all else once.
    pub(super) fn take(&self) -> Result<()> {
        self.with(|reports| match (&reports.lost, reports.first.take()) {
            (Some(lost), _) => Err(Error::Gpu(lost.clone())),
            (None, Some(Fault::OutOfMemory(message))) => Err(Error::OutOfMemory(message)),
            (None, Some(Fault::Other(message))) => Err(Error::Gpu(message)),
            (None, None) => Ok(()),
        })
    }

    /// Fails if the device is gone.
    pub(super) fn check_alive(&self) -> Result<()> {
        self.with(|reports| reports.lost.clone().map_or(Ok(()), |lost| Err(Error::Gpu(lost))))
    }
}
