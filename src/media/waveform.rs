//! A sound in memory.

use crate::error::{Error, Result};

/// One channel of sound, samples in −1..1.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    samples: Vec<f32>,
    sample_rate_hz: u32,
}

impl Waveform {
    /// Takes the samples of one channel.
    ///
    /// # Errors
    /// [`Error::Input`] if there are none, the rate is 0, or a sample is not a finite number.
    pub fn new(samples: Vec<f32>, sample_rate_hz: u32) -> Result<Self> {
        if samples.is_empty() {
            return Err(Error::Input("the sound is empty; give one that lasts at least a moment".into()));
        }
        if sample_rate_hz == 0 || samples.iter().any(|sample| !sample.is_finite()) {
            return Err(Error::Input("the sound has no sample rate or samples that are not numbers".into()));
        }
        Ok(Self { samples, sample_rate_hz })
    }

    /// Samples in order of time.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// The samples alone.
    pub fn into_samples(self) -> Vec<f32> {
        self.samples
    }

    /// Samples a second.
    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
    }

    /// Length in seconds.
    pub fn duration_s(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate_hz)
    }
}
