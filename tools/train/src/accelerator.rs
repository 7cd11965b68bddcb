//! Where training computes: the processor, or one of the devices that candle knows.

use anyhow::{Context, Result};
use candle_core::Device;

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accelerator {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA card; in programs that are built with the feature `cuda`.
    Cuda,
    /// The first card of a Mac; in programs that are built with the feature `metal`.
    Metal,
}

impl Accelerator {
    /// Opens the device.
    ///
    /// # Errors
    /// If there is none, or the program was built without it.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => Device::new_cuda(0).context(
                "CUDA cannot be used: it needs an NVIDIA card, and a program built with \
                 `cargo build --release -p bubo-cli --features cuda`",
            ),
            Self::Metal => Device::new_metal(0).context(
                "Metal cannot be used: it needs a Mac, and a program built with \
                 `cargo build --release -p bubo-cli --features metal`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there_and_what_is_missing_is_named() {
        assert!(Accelerator::Cpu.open().unwrap().is_cpu());
        #[cfg(not(feature = "cuda"))]
        assert!(Accelerator::Cuda.open().unwrap_err().to_string().contains("--features cuda"));
        #[cfg(not(feature = "metal"))]
        assert!(Accelerator::Metal.open().unwrap_err().to_string().contains("--features metal"));
    }
}
