//! A sound as ImageBind reads it in BuboGPT: clips of five seconds, each a spectrogram squeezed into 204 frames.
//!
//! Source: magic-research/bubogpt @ 17c72b5, `ImageBindAudioEvalProcessor` with torchaudio 2.0.2, torchvision 0.15.2 and
//! pytorchvideo 0.1.5, whose goldens decide.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{LogMel, MelConfig, MelRecipe, Waveform};
use crate::error::{Error, Result};

/// Numbers of all spectrograms of a sound beyond which a configuration is refused: two gigabytes.
const MOST_NUMBERS: usize = 1 << 29;

/// How a sound is cut into clips and these become spectrograms. The default is BuboGPT's for the demo, mended where
/// [`ClipMean`] and [`LastClip`] say so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipConfig {
    /// Samples a second that the network was trained with.
    pub sample_rate_hz: u32,
    /// Length of a clip; a shorter sound is repeated until it fills one.
    pub clip_s: u32,
    /// Clips of a long sound, evenly spread.
    pub clips: usize,
    /// Where the last of them ends.
    pub last_clip: LastClip,
    /// Whether the whole sound is one more clip behind the others, as in training but not in the original's demo.
    pub global_clip: bool,
    /// Mel bands.
    pub bands: usize,
    /// Frames of a spectrogram: shorter ones are filled up with zeros, longer ones squeezed.
    pub frames: usize,
    /// Whether squeezing averages all frames, as newer versions of torchvision do; the original's only looked at the
    /// two frames nearest to a place.
    pub antialias: bool,
    /// What a clip's mean is taken off from.
    pub clip_mean: ClipMean,
    /// Taken off the logarithms.
    pub mean: f32,
    /// Then they are divided by this.
    pub deviation: f32,
}

/// From what the mean of a clip is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipMean {
    /// From the clip.
    #[default]
    Clean,
    /// From the sound itself, so that it is missing where later clips overlap: the original works in place by mistake.
    /// Moves normalised numbers by up to 0.35.
    Original,
}

/// Where the last clip of a long sound ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastClip {
    /// With the sound, so that all of it is heard. In training clips lay anywhere, at the end too.
    #[default]
    End,
    /// A step before the sound does, which is never heard to its end: six clips of 35 s end at 30 s.
    Original,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 16_000,
            clip_s: 5,
            clips: 6,
            last_clip: LastClip::End,
            global_clip: false,
            bands: 128,
            frames: 204,
            antialias: false,
            clip_mean: ClipMean::Clean,
            mean: -4.268,
            deviation: 9.138,
        }
    }
}

impl ClipConfig {
    /// Samples of a clip.
    pub fn clip_samples(&self) -> usize {
        self.clip_s as usize * self.sample_rate_hz as usize
    }

    /// Where the clips of a sound of so many samples lie; the sound is at least one clip long.
    ///
    /// Starts are multiples of the exact fraction (duration − clip) / steps of the rounded duration in seconds: in the
    /// original, which takes as many steps as clips, clip 3 of 12.7 s starts at sample 61599, not 61600.
    pub fn clip_bounds(&self, samples: usize) -> Vec<Range<usize>> {
        let rate = self.sample_rate_hz.max(1);
        let spare_s = (samples as f64 / f64::from(rate) - f64::from(self.clip_s)).max(0.0);
        // spare_s = mantissa / 2^shift exactly: what is left of a duration by a whole number of seconds has at most 52
        // bits behind the point.
        let shift = 52;
        let mantissa = (spare_s * 2f64.powi(shift)) as u128;
        let steps = match self.last_clip {
            LastClip::End => self.clips.saturating_sub(1).max(1),
            LastClip::Original => self.clips.max(1),
        };
        let start = |clip: usize| ((clip as u128 * mantissa * u128::from(rate) / steps as u128) >> shift) as usize;
        (0..self.clips).map(|clip| start(clip)..start(clip) + self.clip_samples()).collect()
    }
}

/// Spectrograms of the clips of a sound, ready for the network.
#[derive(Debug, Clone, PartialEq)]
pub struct MelClips {
    /// Number of clips.
    pub clips: usize,
    /// Mel bands.
    pub bands: usize,
    /// Frames.
    pub frames: usize,
    /// `[clips, 1, bands, frames]`, normalised.
    pub numbers: Vec<f32>,
}

/// Cuts sounds into clips and makes their spectrograms.
#[derive(Debug)]
pub struct ClipMel {
    config: ClipConfig,
    mel: LogMel,
}

impl ClipMel {
    /// Prepares the spectrogram.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the configuration contradicts itself.
    pub fn new(config: ClipConfig) -> Result<Self> {
        let ClipConfig { sample_rate_hz, clip_s, clips, bands, frames, deviation, mean, .. } = config;
        let sound = (1..=192_000).contains(&sample_rate_hz)
            && (1..=60).contains(&clip_s)
            && (1..=64).contains(&clips)
            && (1..=1 << 14).contains(&frames)
            && frames.saturating_mul(bands).saturating_mul(clips + 1) <= MOST_NUMBERS
            && deviation.is_normal()
            && mean.is_finite();
        if !sound {
            return Err(Error::corrupt("configuration of sound clips", format!("{config:?}")));
        }
        let frame = sample_rate_hz as usize / 40;
        let mel = LogMel::new(MelConfig {
            sample_rate_hz,
            frame,
            hop: sample_rate_hz as usize / 100,
            fft: frame.next_power_of_two(),
            bands,
            low_hz: 20.0,
            high_hz: f64::from(sample_rate_hz) / 2.0,
            floor: f32::EPSILON,
            recipe: MelRecipe::Kaldi,
        })?;
        Ok(Self { config, mel })
    }

    /// What it was made for.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Spectrograms of a sound. One that is no longer than a clip gives a single one, since all would be equal.
    ///
    /// # Errors
    /// [`Error::Input`] if its rate is of no use.
    pub fn compute(&self, sound: &Waveform) -> Result<MelClips> {
        self.compute_channels(std::slice::from_ref(sound))
    }

    /// The same for the channels of a sound as the original reads files: a clip's mean is that of all channels, its
    /// spectrogram that of the first.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no channel, they differ in length or rate, or the rate is of no use.
    pub fn compute_channels(&self, channels: &[Waveform]) -> Result<MelClips> {
        let mut channels = self.prepared(channels)?;
        let (samples, length) = (channels[0].len(), self.config.clip_samples());
        let mut bounds = self.config.clip_bounds(samples);
        if samples == length && self.config.clip_mean == ClipMean::Clean {
            bounds.truncate(1);
        } else if self.config.global_clip {
            bounds.push(0..samples);
        }
        let mut numbers = Vec::with_capacity(bounds.len() * self.config.bands * self.config.frames);
        for bounds in &bounds {
            let mean = mean_of(&channels, bounds.clone());
            let less_mean = |sample: &f32| (f64::from(*sample) - mean) as f32;
            match self.config.clip_mean {
                ClipMean::Clean => {
                    let clip: Vec<f32> = channels[0][bounds.clone()].iter().map(less_mean).collect();
                    numbers.extend(self.fitted(&clip)?);
                }
                ClipMean::Original => {
                    for channel in &mut channels {
                        channel[bounds.clone()].iter_mut().for_each(|sample| *sample = less_mean(sample));
                    }
                    numbers.extend(self.fitted(&channels[0][bounds.clone()])?);
                }
            }
        }
        Ok(MelClips { clips: bounds.len(), bands: self.config.bands, frames: self.config.frames, numbers })
    }

    /// Channels at the network's rate, repeated until they fill a clip.
    fn prepared(&self, channels: &[Waveform]) -> Result<Vec<Vec<f32>>> {
        let first = channels.first().ok_or_else(|| Error::Input("the sound has no channel".into()))?;
        let form = |sound: &Waveform| (sound.samples().len(), sound.sample_rate_hz());
        if channels.iter().any(|channel| form(channel) != form(first)) {
            return Err(Error::Input("the channels of the sound differ in length or rate".into()));
        }
        let length = self.config.clip_samples();
        let prepare = |channel: &Waveform| {
            let samples = channel.resampled(self.config.sample_rate_hz)?.into_samples();
            let short = samples.len() <= length;
            Ok(if short { samples.iter().copied().cycle().take(length).collect() } else { samples })
        };
        channels.iter().map(prepare).collect()
    }

    /// Normalised spectrogram `[bands, frames]` of a clip whose mean is 0.
    fn fitted(&self, clip: &[f32]) -> Result<Vec<f32>> {
        let (bands, frames) = (self.config.bands, self.config.frames);
        let found = self.mel.whole_frames(clip.len());
        let spectrogram = self.mel.compute(clip, found)?; // [found, bands]
        let windows = squeeze(found, frames, self.config.antialias);
        let normalised = |x: f32| (x - self.config.mean) / self.config.deviation;
        let mut fitted = Vec::with_capacity(bands * frames);
        for band in 0..bands {
            fitted.extend(windows.iter().map(|(first, weights)| {
                let column = spectrogram[first * bands..].iter().skip(band).step_by(bands);
                normalised(column.zip(weights).map(|(x, weight)| x * weight).sum())
            }));
        }
        Ok(fitted)
    }

    /// Logarithms of the mel bands of a clip before squeezing and normalising, `[frames, bands]`: for comparison with
    /// other implementations.
    ///
    /// # Errors
    /// Only those of the transform.
    pub fn spectrogram(&self, clip: &[f32]) -> Result<Vec<f32>> {
        let mean = mean_of(&[clip.to_vec()], 0..clip.len());
        let clip: Vec<f32> = clip.iter().map(|sample| (f64::from(*sample) - mean) as f32).collect();
        self.mel.compute(&clip, self.mel.whole_frames(clip.len()))
    }
}

fn mean_of(channels: &[Vec<f32>], bounds: Range<usize>) -> f64 {
    let count = channels.len() * bounds.len();
    let sum: f64 = channels.iter().flat_map(|channel| &channel[bounds.clone()]).map(|x| f64::from(*x)).sum();
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Which of `from` frames make each of `to` frames, and their weights. Too few are filled up with frames of nothing.
fn squeeze(from: usize, to: usize, antialias: bool) -> Vec<(usize, Vec<f32>)> {
    if from <= to {
        return (0..to).map(|at| if at < from { (at, vec![1.0]) } else { (0, Vec::new()) }).collect();
    }
    let scale = from as f64 / to as f64;
    let reach = if antialias { scale } else { 1.0 };
    let window = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        let (first, end) = ((centre - reach + 0.5).max(0.0) as usize, ((centre + reach + 0.5) as usize).min(from));
        let weight = |frame: usize| (1.0 - ((frame as f64 - centre + 0.5) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        (first, (first..end).map(|frame| (weight(frame) / sum) as f32).collect())
    };
    (0..to).map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(samples: usize) -> Result<Waveform> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        Waveform::new((0..samples).map(|_| next()).collect(), 16_000)
    }

    #[test]
    fn clips_start_at_exact_fractions_and_never_leave_the_sound() {
        let config = ClipConfig::default();
        let original = ClipConfig { last_clip: LastClip::Original, ..config };
        assert_eq!(original.clip_bounds(203_200)[3], 61_599..141_599);
        for samples in [80_000, 80_001, 80_002, 100_003, 560_000, 16_000 * 3600 + 1] {
            for config in [config, original] {
                let bounds = config.clip_bounds(samples);
                assert!(bounds.len() == 6 && bounds[0].start == 0);
                assert!(bounds.iter().all(|clip| clip.len() == 80_000 && clip.end <= samples), "{samples}: {bounds:?}");
            }
            // A fraction of a sample may be lost to rounding.
            assert!(config.clip_bounds(samples)[5].end + 1 >= samples, "the end of {samples} is heard");
        }
        let starts = |config: ClipConfig| -> Vec<usize> {
            config.clip_bounds(560_000).iter().map(|clip| clip.start / 16_000).collect()
        };
        assert_eq!(starts(original), [0, 5, 10, 15, 20, 25]);
        assert_eq!(starts(config), [0, 6, 12, 18, 24, 30]);
        assert_eq!(ClipConfig { clips: 1, ..config }.clip_bounds(560_000), std::slice::from_ref(&(0..80_000)));
    }

    #[test]
    fn any_length_gives_as_many_clips_as_it_needs() -> Result<()> {
        let clips = |config: ClipConfig, samples: usize| ClipMel::new(config)?.compute(&noise(samples)?);
        let plain = ClipConfig::default();
        let whole = ClipConfig { global_clip: true, ..plain };
        let original = ClipConfig { clip_mean: ClipMean::Original, ..plain };
        for (config, samples, expected) in [
            (plain, 1, 1),
            (plain, 399, 1),
            (plain, 80_000, 1),
            (plain, 80_001, 6),
            (whole, 90_007, 7),
            (original, 5, 6),
        ] {
            let found = clips(config, samples)?;
            assert_eq!((found.clips, found.numbers.len()), (expected, expected * 128 * 204), "{samples}");
            assert!(found.numbers.iter().all(|x| x.is_finite()), "{samples}");
        }
        let short = clips(ClipConfig { clip_s: 2, ..plain }, 32_000)?;
        // 198 frames; the rest is filled up with zeros before they are normalised.
        assert_eq!(short.numbers[198..204], [(4.268f32) / 9.138; 6]);
        Ok(())
    }

    #[test]
    fn unfit_channels_and_configurations_are_refused() -> Result<()> {
        let mel = ClipMel::new(ClipConfig::default())?;
        assert!(mel.compute_channels(&[]).is_err() && mel.compute_channels(&[noise(5)?, noise(6)?]).is_err());
        for bad in [
            ClipConfig { clips: 0, ..ClipConfig::default() },
            ClipConfig { clip_s: 0, ..ClipConfig::default() },
            ClipConfig { frames: 0, ..ClipConfig::default() },
            ClipConfig { bands: 0, ..ClipConfig::default() },
            ClipConfig { deviation: 0.0, ..ClipConfig::default() },
            ClipConfig { clips: 64, frames: 1 << 14, bands: 1 << 12, ..ClipConfig::default() },
            ClipConfig { sample_rate_hz: 39, ..ClipConfig::default() },
        ] {
            assert!(ClipMel::new(bad).is_err(), "{bad:?}");
        }
        Ok(())
    }

    #[test]
    fn squeezing_keeps_a_constant_and_frames_that_fit() {
        for (from, to, antialias) in [(498, 204, false), (498, 204, true), (205, 204, false), (5, 1, true)] {
            for (first, weights) in squeeze(from, to, antialias) {
                assert!(first + weights.len() <= from);
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{from} to {to}");
            }
        }
        assert_eq!(squeeze(2, 3, false), [(0, vec![1.0]), (1, vec![1.0]), (0, vec![])]);
    }
}
