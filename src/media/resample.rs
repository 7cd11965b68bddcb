//! Sounds at another sample rate.

use super::Waveform;
use crate::error::{Error, Result};

/// Zero crossings of the sinc on each side, torchaudio's default.
const LOWPASS_WIDTH: f64 = 6.0;
/// Cut-off as a part of the lower rate's limit, torchaudio's default.
const ROLLOFF: f64 = 0.99;
/// Filters beyond this many taps in all are refused: rates without a common divisor, of no real recorder.
const MOST_TAPS: usize = 1 << 24;

impl Waveform {
    /// The sound at `rate_hz`, low-passed by a windowed sinc (Hann window, 6 zero crossings, roll-off 0.99);
    /// `ceil(samples · rate / old rate)` samples. Within 1e-5 of torchaudio's `resample` with its defaults.
    ///
    /// # Errors
    /// [`Error::Input`] if the rate is 0 or the two rates have no useful common divisor.
    ///
    /// Source: pytorch/audio, torchaudio/functional/functional.py (`_get_sinc_resample_kernel`) @ v2.0.1.
    pub fn resampled(&self, rate_hz: u32) -> Result<Self> {
        let old_hz = self.sample_rate_hz();
        if rate_hz == old_hz {
            return Ok(self.clone());
        }
        let divisor = greatest_common_divisor(rate_hz.into(), old_hz.into()).max(1);
        let (old, new) = (u64::from(old_hz) / divisor, u64::from(rate_hz) / divisor);
        let base = old.min(new) as f64 * ROLLOFF;
        let width = (LOWPASS_WIDTH * old as f64 / base).ceil();
        if new == 0 || (2.0 * width + 2.0) * new as f64 > MOST_TAPS as f64 {
            return Err(Error::Input(format!(
                "a sound of {old_hz} samples a second cannot be brought to {rate_hz}; give one at 16000, 44100 or 48000"
            )));
        }
        let phases: Vec<Phase> = (0..new).map(|phase| Phase::new(phase, old, new, base)).collect();
        let samples = self.samples();
        let count = (samples.len() as u64 * new).div_ceil(old);
        let sample = |at: u64| phases[(at % new) as usize].apply(samples, (at / new * old) as i64);
        Self::new((0..count).map(sample).collect(), rate_hz)
    }
}

/// The filter of one position of new samples between old ones.
struct Phase {
    /// First tap, counted from the old sample at or before.
    first: i64,
    taps: Vec<f32>,
}

impl Phase {
    fn new(phase: u64, old: u64, new: u64, base: f64) -> Self {
        // Seconds are measured in `old` samples; the new sample lies `phase / new` of that after the old one.
        let place = phase as f64 / new as f64 * old as f64;
        let reach = LOWPASS_WIDTH * old as f64 / base;
        let (first, last) = ((place - reach).ceil() as i64, (place + reach).floor() as i64);
        let tap = |at: i64| {
            let t = ((at as f64 - place) / old as f64 * base).clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH);
            let window = (t * std::f64::consts::PI / LOWPASS_WIDTH / 2.0).cos().powi(2);
            let angle = t * std::f64::consts::PI;
            let sinc = if angle == 0.0 { 1.0 } else { angle.sin() / angle };
            (sinc * window * base / old as f64) as f32
        };
        Self { first, taps: (first..=last).map(tap).collect() }
    }

    /// The new sample whose old one is `start`; outside the sound there is silence.
    fn apply(&self, samples: &[f32], start: i64) -> f32 {
        let from = start + self.first;
        let skip = usize::try_from(-from).unwrap_or(0).min(self.taps.len());
        let begin = usize::try_from(from.max(0)).unwrap_or(usize::MAX).min(samples.len());
        self.taps[skip..].iter().zip(&samples[begin..]).map(|(tap, sample)| tap * sample).sum()
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone well below both limits stays the same tone, away from the ends.
    #[test]
    fn keeps_tones() -> Result<()> {
        for (from, to) in [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (22_050, 16_000), (16_000, 44_100)] {
            let tone =
                |rate: u32, at: usize| (at as f64 / f64::from(rate) * 1000.0 * std::f64::consts::TAU).sin() as f32;
            let sound = Waveform::new((0..from as usize / 2).map(|at| tone(from, at)).collect(), from)?;
            let found = sound.resampled(to)?;
            assert_eq!(found.samples().len(), (from as usize / 2 * to as usize).div_ceil(from as usize));
            let middle = found.samples().len() / 4..found.samples().len() * 3 / 4;
            for at in middle {
                assert!((found.samples()[at] - tone(to, at)).abs() < 2e-3, "{from} to {to} at {at}");
            }
        }
        Ok(())
    }

    #[test]
    fn short_sounds_and_odd_rates() -> Result<()> {
        assert_eq!(Waveform::new(vec![1.0], 44_100)?.resampled(16_000)?.samples().len(), 1);
        assert_eq!(Waveform::new(vec![0.5; 3], 16_000)?.resampled(16_000)?.samples(), [0.5; 3]);
        assert!(Waveform::new(vec![1.0], 4_000_000_007)?.resampled(16_000).is_err());
        assert!(Waveform::new(vec![1.0], 16_000)?.resampled(0).is_err());
        Ok(())
    }
}
