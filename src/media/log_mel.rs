//! Sounds to log-mel spectrograms, as TensorFlow makes them for YAMNet and as Kaldi makes them for ImageBind.

use std::fmt;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is done to a frame before its transform, and to the spectrum after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MelRecipe {
    /// A periodic Hann window; magnitudes; the floor is added before the logarithm.
    #[default]
    Tensorflow,
    /// The frame's mean is taken off, then 0.97 of the sample before; a symmetric Hann window; powers; bands below the
    /// floor are lifted to it.
    ///
    /// Source: pytorch/audio, torchaudio/compliance/kaldi.py (`fbank`) @ v2.0.2 with `window_type="hanning"`.
    Kaldi,
}

/// How a spectrogram is made. Frames are not padded: the first starts at the first sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MelConfig {
    /// Samples a second that the sound must have.
    pub sample_rate_hz: u32,
    /// Samples of one frame, under a Hann window.
    pub frame: usize,
    /// Samples from frame to frame.
    pub hop: usize,
    /// Points of the Fourier transform, at least `frame`; the frame is filled up with zeros.
    pub fft: usize,
    /// Mel bands.
    pub bands: usize,
    /// Lower edge of the first band.
    pub low_hz: f64,
    /// Upper edge of the last band.
    pub high_hz: f64,
    /// Keeps the logarithm finite.
    pub floor: f32,
    /// What else is done.
    #[serde(default)]
    pub recipe: MelRecipe,
}

/// A ready-made transform. It works in f64: the logarithm makes the rounding of quiet bands visible, by up to 2e-3 with a
/// transform in f32.
pub struct LogMel {
    config: MelConfig,
    window: Vec<f64>,
    transform: Arc<dyn RealToComplex<f64>>,
    bands: Vec<Band>,
}

/// The triangle of one mel band over the Fourier bins from `first` on.
struct Band {
    first: usize,
    weights: Vec<f64>,
}

impl fmt::Debug for LogMel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LogMel").field("config", &self.config).finish_non_exhaustive()
    }
}

impl LogMel {
    /// Prepares window, transform and bands.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the configuration contradicts itself.
    pub fn new(config: MelConfig) -> Result<Self> {
        let MelConfig { sample_rate_hz, frame, hop, fft, bands, low_hz, high_hz, .. } = config;
        let sound = 0 < frame && frame <= fft && fft <= 1 << 16 && 0 < hop && 0 < bands && bands <= 1 << 12;
        let heard = 0.0 <= low_hz && low_hz < high_hz && high_hz <= f64::from(sample_rate_hz) / 2.0;
        if !(sound && heard) {
            return Err(Error::corrupt("mel configuration", format!("{config:?}")));
        }
        let period = match config.recipe {
            MelRecipe::Tensorflow => frame,
            MelRecipe::Kaldi => (frame - 1).max(1),
        };
        let hann = |at: usize| 0.5 - 0.5 * (std::f64::consts::TAU * at as f64 / period as f64).cos();
        Ok(Self {
            config,
            window: (0..frame).map(hann).collect(),
            transform: RealFftPlanner::new().plan_fft_forward(fft),
            bands: triangles(&config),
        })
    }

    /// Frames that lie wholly within so many samples.
    pub fn whole_frames(&self, samples: usize) -> usize {
        samples.checked_sub(self.config.frame).map_or(0, |rest| rest / self.config.hop + 1)
    }

    /// What it was made for.
    pub fn config(&self) -> &MelConfig {
        &self.config
    }

    /// Logarithms of the mel bands of `frames` frames from `samples[0]` on: `[frames, bands]`. Past the end there is
    /// silence.
    ///
    /// # Errors
    /// Only those of the transform.
    pub fn compute(&self, samples: &[f32], frames: usize) -> Result<Vec<f32>> {
        let failed = |error: realfft::FftError| Error::shape("log-mel", error.to_string());
        let mut input = self.transform.make_input_vec();
        let mut spectrum = self.transform.make_output_vec();
        let mut scratch = self.transform.make_scratch_vec();
        let mut result = Vec::with_capacity(frames * self.bands.len());
        for at in 0..frames {
            input.fill(0.0);
            let rest = samples.get(at * self.config.hop..).unwrap_or(&[]);
            for (x, sample) in input[..self.config.frame].iter_mut().zip(rest) {
                *x = f64::from(*sample);
            }
            if self.config.recipe == MelRecipe::Kaldi {
                emphasise(&mut input[..self.config.frame]);
            }
            input.iter_mut().zip(&self.window).for_each(|(x, weight)| *x *= weight);
            self.transform.process_with_scratch(&mut input, &mut spectrum, &mut scratch).map_err(failed)?;
            let strengths: Vec<f64> = match self.config.recipe {
                MelRecipe::Tensorflow => spectrum.iter().map(|bin| bin.norm()).collect(),
                MelRecipe::Kaldi => spectrum.iter().map(|bin| bin.norm_sqr()).collect(),
            };
            let floor = f64::from(self.config.floor);
            result.extend(self.bands.iter().map(|band| {
                let sum: f64 = band.weights.iter().zip(&strengths[band.first..]).map(|(w, x)| w * x).sum();
                let lifted = match self.config.recipe {
                    MelRecipe::Tensorflow => sum + floor,
                    MelRecipe::Kaldi => sum.max(floor),
                };
                lifted.ln() as f32
            }));
        }
        Ok(result)
    }
}

/// Takes off the mean, then 0.97 of the sample before; the first sample counts as its own predecessor.
fn emphasise(frame: &mut [f64]) {
    let mean = frame.iter().sum::<f64>() / frame.len() as f64;
    frame.iter_mut().for_each(|x| *x -= mean);
    for at in (0..frame.len()).rev() {
        frame[at] -= 0.97 * frame[at.saturating_sub(1)];
    }
}

/// Triangles whose edges are equally far apart on the mel scale and whose sides are straight on it. A triangle that lies
/// between two bins has no weight at all and stays at the floor: Kaldi's fourth of 128 bands does.
///
/// Source: tensorflow/tensorflow, python/ops/signal/mel_ops.py (`linear_to_mel_weight_matrix`) @ v2.15.0; its first bin
/// (constant part of the sound) has no weight; Kaldi's banks are the same.
fn triangles(config: &MelConfig) -> Vec<Band> {
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(config.low_hz), mel(config.high_hz));
    let edge = |at: usize| low + (high - low) * at as f64 / (config.bands + 1) as f64;
    let bin_mel = |bin: usize| mel(bin as f64 * f64::from(config.sample_rate_hz) / config.fft as f64);
    let weight = |band: usize, bin: usize| {
        let (from, centre, to) = (edge(band), edge(band + 1), edge(band + 2));
        let x = bin_mel(bin);
        ((x - from) / (centre - from)).min((to - x) / (to - centre)).max(0.0)
    };
    let bins = config.fft / 2 + 1;
    (0..config.bands)
        .map(|band| {
            let inside = |bin: &usize| weight(band, *bin) > 0.0;
            let first = (1..bins).find(inside).unwrap_or(0);
            let weights = (first.max(1)..bins).take_while(inside).map(|bin| weight(band, bin)).collect();
            Band { first, weights }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: MelConfig = MelConfig {
        sample_rate_hz: 16_000,
        frame: 400,
        hop: 160,
        fft: 512,
        bands: 64,
        low_hz: 125.0,
        high_hz: 7500.0,
        floor: 1e-3,
        recipe: MelRecipe::Tensorflow,
    };

    #[test]
    fn a_tone_lights_its_band() -> Result<()> {
        let mel = LogMel::new(CONFIG)?;
        let tone: Vec<f32> =
            (0..4000).map(|at| (at as f32 / 16_000.0 * 1000.0 * std::f32::consts::TAU).sin()).collect();
        let found = mel.compute(&tone, 3)?;
        assert_eq!(found.len(), 3 * 64);
        let loudest = (0..64).max_by(|a, b| found[*a].total_cmp(&found[*b])).unwrap_or(0);
        // 1000 Hz is mel 1000; bands are 40.2 mel apart and start at mel 185.
        assert!((19..=20).contains(&loudest), "{loudest}");
        Ok(())
    }

    #[test]
    fn kaldi_ignores_a_constant_and_lifts_to_the_floor() -> Result<()> {
        let mel = LogMel::new(MelConfig { recipe: MelRecipe::Kaldi, ..CONFIG })?;
        let tone = |shift: f32| -> Vec<f32> {
            (0..720).map(|at| (at as f32 / 16_000.0 * 1000.0 * std::f32::consts::TAU).sin() + shift).collect()
        };
        assert_eq!((mel.whole_frames(399), mel.whole_frames(400), mel.whole_frames(720)), (0, 1, 3));
        let (plain, shifted) = (mel.compute(&tone(0.0), 3)?, mel.compute(&tone(2.0), 3)?);
        let apart = plain.iter().zip(&shifted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-3, "{apart}");
        assert!(mel.compute(&[0.7; 400], 1)?.iter().all(|x| *x == 1e-3f32.ln()));
        Ok(())
    }

    #[test]
    fn silence_past_the_end_and_bad_configurations() -> Result<()> {
        let mel = LogMel::new(CONFIG)?;
        assert!(mel.compute(&[], 2)?.iter().all(|x| (x - 1e-3f32.ln()).abs() < 1e-6));
        for bad in [
            MelConfig { hop: 0, ..CONFIG },
            MelConfig { frame: 513, ..CONFIG },
            MelConfig { high_hz: 9000.0, ..CONFIG },
            MelConfig { low_hz: f64::NAN, ..CONFIG },
        ] {
            assert!(LogMel::new(bad).is_err(), "{bad:?}");
        }
        Ok(())
    }
}
