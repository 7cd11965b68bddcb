//! YAMNet: what a sound is, patch by patch, in 521 classes of AudioSet.
//!
//! MobileNet v1 (Howard et al. 2017) on log-mel spectrograms; tensorflow/models, research/audioset/yamnet. Weight names
//! are the layers' paths in the checkpoint, `layer1.fused` to `layer14.pointwise_conv`, batch norms folded.

use serde::Deserialize;

use super::{AudioEncoder, Features};
use crate::error::Result;
use crate::host::Host;
use crate::media::{LogMel, MelConfig, Waveform};
use crate::nn::{Conv, Linear, Weights};
use crate::tensor::{Conv2d, Device, Padding, Reduce, Tensor, Unary};

/// Patches that go through the network at once: keeps memory small and lets a page breathe.
const BATCH: usize = 8;
/// A sound is made so many times louder at the most: in silence there is nothing to hear.
const MOST_GAIN: f32 = 30.0;
/// Longer sounds are heard with gaps rather than for minutes.
const MOST_PATCHES: usize = 128;
/// Sounds of more patches are heard at their own speed only: what is heard for long evens out by itself.
const MOST_PATCHES_AT_SPEEDS: usize = 40;
/// Other speeds that make sense: an octave each way.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;
/// Each speed takes as long as hearing the sound at its own.
const MOST_SPEEDS: usize = 8;

/// Shape of the network and of its input.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// The spectrogram.
    pub mel: MelConfig,
    /// Frames of a patch.
    pub patch_frames: usize,
    /// Samples from patch to patch.
    pub patch_hop: usize,
    /// A sound is heard a second time with the loudest stretch of a patch's length at this root mean square, full scale
    /// being 1; none hears it once, as the original does.
    #[serde(default)]
    pub level: Option<f32>,
    /// A sound of up to 40 patches is heard as often again at each of these speeds, up to eight from 0.5 to 2, its pitch
    /// rising and falling with them as a record's does; 1 is its own.
    #[serde(default)]
    pub speeds: Vec<f32>,
    /// Channels of the first convolution.
    pub stem: usize,
    /// Step and channels of each pair of depthwise and pointwise convolution.
    pub layers: Vec<(usize, usize)>,
    /// Number of classes.
    pub classes: usize,
}

/// A class that was heard for a while.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SoundTag {
    /// AudioSet's name of the class, for example `Moo`.
    pub label: String,
    /// Highest confidence of that while, 0..1.
    pub score: f32,
    /// Begin, in seconds.
    pub start_s: f32,
    /// End, in seconds.
    pub end_s: f32,
}

/// What is heard in a sound.
#[derive(Debug)]
pub struct Heard {
    /// `[1, patches, channels]`: one feature vector a patch.
    pub features: Features,
    /// Logits `[patches, classes]`, row-major; of all hearings together.
    pub logits: Vec<f32>,
    /// Begin of each patch in seconds.
    pub starts_s: Vec<f32>,
    /// Length of a patch in seconds.
    pub patch_s: f32,
}

/// The network with its spectrogram.
#[derive(Debug)]
pub struct Yamnet {
    config: Config,
    device: Device,
    mel: LogMel,
    convolutions: Vec<Conv>,
    classifier: Linear,
    labels: Vec<String>,
}

impl Yamnet {
    /// Takes the weights; `labels` names the classes in order.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] if a weight is missing or has another shape, or the labels are not one a class;
    /// [`crate::Error::Corrupt`] if the configuration contradicts itself.
    pub fn load(config: &Config, weights: &Weights, labels: &[String]) -> Result<Self> {
        if let Some(level) = config.level.filter(|level| !(*level > 0.0 && *level <= 1.0)) {
            return Err(crate::Error::corrupt(
                "yamnet configuration",
                format!("level {level} is not above 0 and up to 1"),
            ));
        }
        if let Some(speed) = config.speeds.iter().find(|speed| !SPEEDS.contains(*speed)) {
            return Err(crate::Error::corrupt(
                "yamnet configuration",
                format!("speed {speed} is not from {} to {}", SPEEDS.start(), SPEEDS.end()),
            ));
        }
        if config.speeds.len() > MOST_SPEEDS {
            return Err(crate::Error::corrupt(
                "yamnet configuration",
                format!("{} speeds, where up to {MOST_SPEEDS} can be", config.speeds.len()),
            ));
        }
        if labels.len() != config.classes {
            return Err(crate::Error::Weights {
                name: weights.full_name("labels"),
                expected: format!("{} labels", config.classes),
                found: format!("{}", labels.len()),
            });
        }
        let activation = Some(Unary::Relu);
        let mut size = [config.patch_frames, config.mel.bands];
        // TensorFlow's padding, as the checkpoint's own graph has it: nothing above and left where the step is 2.
        let mut spatial = |stride: usize, groups: usize| {
            let padding = Padding::same(size, [3; 2], [stride; 2]);
            size = size.map(|side| side.div_ceil(stride.max(1)));
            Conv2d { stride: [stride; 2], padding, groups, activation, ..Conv2d::default() }
        };
        let layer = |number: usize, name: &str| weights.pp(format!("layer{number}")).pp(name);
        let mut convolutions = vec![Conv::load(&layer(1, "fused"), 1, config.stem, 3, spatial(2, 1))?];
        let mut channels = config.stem;
        for (at, (stride, output)) in config.layers.iter().enumerate() {
            let depthwise = spatial(*stride, channels);
            convolutions.push(Conv::load(&layer(at + 2, "depthwise_conv"), channels, channels, 3, depthwise)?);
            let pointwise = Conv2d { activation, ..Conv2d::default() };
            convolutions.push(Conv::load(&layer(at + 2, "pointwise_conv"), channels, *output, 1, pointwise)?);
            channels = *output;
        }
        let classifier = weights.pp("classifier");
        Ok(Self {
            config: config.clone(),
            device: classifier.tensor("bias", &[config.classes])?.device(),
            mel: LogMel::new(config.mel)?,
            convolutions,
            classifier: Linear::load(&classifier, channels, config.classes)?,
            labels: labels.to_vec(),
        })
    }

    /// Names of the classes, in order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Log-mel patches `[patches, 1, patch_frames, bands]` and the first sample of each. The sound is brought to the
    /// configured rate. One that is shorter than a patch is filled up with silence; a tail that no patch covers gets one
    /// that ends with the sound, since the step into silence is heard as a sound of its own.
    ///
    /// # Errors
    /// [`crate::Error::Input`] if the sound's rate is of no use.
    pub fn patches(&self, sound: &Waveform) -> Result<(Tensor, Vec<usize>)> {
        let sound = sound.resampled(self.config.mel.sample_rate_hz)?;
        let starts = self.patch_starts(sound.samples());
        Ok((self.patches_at(sound.samples(), &starts)?, starts))
    }

    /// First samples of the patches that a sound is cut into.
    fn patch_starts(&self, samples: &[f32]) -> Vec<usize> {
        patch_starts(samples.len(), self.patch_samples(), self.config.patch_hop.max(1))
    }

    /// Log-mel patches `[starts, 1, patch_frames, bands]` that begin at these samples.
    fn patches_at(&self, samples: &[f32], starts: &[usize]) -> Result<Tensor> {
        let (frames, bands) = (self.config.patch_frames, self.config.mel.bands);
        let length = self.patch_samples();
        let mut numbers = Vec::with_capacity(starts.len() * frames * bands);
        for start in starts {
            let end = (start + length).min(samples.len());
            numbers.extend(self.mel.compute(&samples[*start..end], frames)?);
        }
        Tensor::from_f32(&numbers, &[starts.len(), 1, frames, bands], &self.device)
    }

    /// Samples that a patch sees.
    fn patch_samples(&self) -> usize {
        self.config.patch_frames.saturating_sub(1) * self.config.mel.hop + self.config.mel.frame
    }

    /// The result of every convolution, `[patches, 1, patch_frames, bands]` to `[patches, channels, rows, columns]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn layer_outputs(&self, patches: &Tensor) -> Result<Vec<Tensor>> {
        let mut outputs: Vec<Tensor> = Vec::with_capacity(self.convolutions.len());
        for convolution in &self.convolutions {
            outputs.push(convolution.forward(outputs.last().unwrap_or(patches))?);
        }
        Ok(outputs)
    }

    /// Features of patches: `[patches, 1, patch_frames, bands]` to `[patches, channels]`.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn features(&self, patches: &Tensor) -> Result<Tensor> {
        let mut x = patches.clone();
        for convolution in &self.convolutions {
            x = convolution.forward(&x)?;
        }
        let [count, channels, rows, columns] = x.dims_of("yamnet")?;
        x.reshape(&[count, channels, rows * columns])?.reduce(Reduce::Mean, 2) // [patches, channels]
    }

    /// Features `[patches, channels]` to logits `[patches, classes]`; their sigmoids are the confidences.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        self.classifier.forward(features)
    }

    /// Features and classes of a whole sound, a few patches at a time. Features are those of the sound as it is. The classes
    /// are the surer ones of that and, where one is configured, of the sound at that level; and where speeds are
    /// configured, the means of that over its own and those.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] if `host` says so, and those of the engine.
    pub async fn listen(&self, sound: &Waveform, host: &dyn Host) -> Result<Heard> {
        let rate_hz = self.config.mel.sample_rate_hz;
        let sound = sound.resampled(rate_hz)?;
        let samples = sound.samples();
        let starts = self.patch_starts(samples);
        let (features, mut logits) = self.hear(samples, &starts, host).await?;
        if !self.config.speeds.is_empty() && starts.len() <= MOST_PATCHES_AT_SPEEDS {
            let mut hearings = vec![logits];
            for speed in &self.config.speeds {
                let other = at_speed(&sound, *speed)?;
                let other = other.samples();
                let starts = starts_at_speed(&starts, self.patch_samples(), [samples.len(), other.len()]);
                hearings.push(self.hear(other, &starts, host).await?.1);
            }
            logits = mean_confidences(&hearings);
        }
        let [count, channels] = features.dims_of("yamnet features")?;
        Ok(Heard {
            features: Features { tokens: features.reshape(&[1, count, channels])? },
            logits,
            starts_s: starts.iter().map(|start| *start as f32 / rate_hz as f32).collect(),
            patch_s: self.patch_samples() as f32 / rate_hz as f32,
        })
    }

    /// Features `[starts, channels]` of the patches, and their logits as loud as they are or, where one is configured, at
    /// that level, whichever are higher.
    async fn hear(&self, samples: &[f32], starts: &[usize], host: &dyn Host) -> Result<(Tensor, Vec<f32>)> {
        let (features, mut logits) = self.hear_once(samples, starts, host).await?;
        if let Some(level) = self.config.level {
            let gain = gain_to(level, samples, self.patch_samples());
            let samples: Vec<f32> = samples.iter().map(|sample| gain * sample).collect();
            let (_, again) = self.hear_once(&samples, starts, host).await?;
            logits.iter_mut().zip(again).for_each(|(logit, again)| *logit = logit.max(again));
        }
        Ok((features, logits))
    }

    /// Features `[starts, channels]` and logits of the patches. The logits are read back once, so that a GPU is not waited
    /// for between batches.
    async fn hear_once(&self, samples: &[f32], starts: &[usize], host: &dyn Host) -> Result<(Tensor, Vec<f32>)> {
        let mut features = Vec::with_capacity(starts.len().div_ceil(BATCH));
        for starts in starts.chunks(BATCH) {
            host.breathe().await?;
            features.push(self.features(&self.patches_at(samples, starts)?)?);
        }
        let features = Tensor::concat(&features.iter().collect::<Vec<_>>(), 0)?;
        let logits = self.logits(&features)?.to_f32().await?;
        Ok((features, logits))
    }

    /// The mean confidence of each class over the sound, 0..1, in the order of [`labels`](Self::labels).
    pub fn means(&self, heard: &Heard) -> Vec<f32> {
        let classes = self.labels.len();
        let mut means = vec![0.0; classes];
        for patch in heard.logits.chunks_exact(classes) {
            means.iter_mut().zip(patch).for_each(|(mean, logit)| *mean += Unary::Sigmoid.apply(*logit));
        }
        let patches = heard.starts_s.len().max(1) as f32;
        means.iter_mut().for_each(|mean| *mean /= patches);
        means
    }

    /// Classes that reach `threshold` (0..1), each for as long as neighbouring patches have it; the most confident
    /// first, at most `most`.
    pub fn tags(&self, heard: &Heard, sound: &Waveform, threshold: f32, most: usize) -> Vec<SoundTag> {
        let classes = self.labels.len();
        let end_s = sound.duration_s() as f32;
        let score = |patch: usize, class: usize| Unary::Sigmoid.apply(heard.logits[patch * classes + class]);
        let mut tags: Vec<SoundTag> = Vec::new();
        for (class, label) in self.labels.iter().enumerate() {
            let mut open: Option<SoundTag> = None;
            for (patch, start_s) in heard.starts_s.iter().enumerate() {
                let score = score(patch, class);
                if score < threshold {
                    tags.extend(open.take());
                    continue;
                }
                let tag = open.get_or_insert_with(|| SoundTag {
                    label: label.clone(),
                    score,
                    start_s: *start_s,
                    end_s: *start_s,
                });
                tag.score = tag.score.max(score);
                tag.end_s = (start_s + heard.patch_s).min(end_s);
            }
            tags.extend(open);
        }
        tags.sort_by(|a, b| b.score.total_cmp(&a.score));
        tags.truncate(most);
        tags
    }
}

impl AudioEncoder for Yamnet {
    /// One token a patch.
    fn encode(&self, sound: &Waveform) -> Result<Features> {
        let (patches, _) = self.patches(sound)?;
        let features = self.features(&patches)?;
        let [count, channels] = features.dims_of("yamnet features")?;
        Ok(Features { tokens: features.reshape(&[1, count, channels])? })
    }
}

/// What brings the loudest `length` samples to that root mean square.
fn gain_to(level: f32, samples: &[f32], length: usize) -> f32 {
    let power = |part: &[f32]| part.iter().map(|sample| sample * sample).sum::<f32>() / part.len() as f32;
    let loudest = samples.chunks(length.max(1)).map(power).fold(0.0, f32::max).sqrt();
    (level / loudest).min(MOST_GAIN)
}

/// The sound as a record player plays it at that speed, at the same sample rate.
fn at_speed(sound: &Waveform, speed: f32) -> Result<Waveform> {
    let rate_hz = sound.sample_rate_hz();
    // Tens of hertz have a divisor in common with any rate that is configured: resampling needs few filters then.
    let played_hz = (rate_hz as f32 * speed / 10.0).round() as u32 * 10;
    Waveform::new(sound.samples().to_vec(), played_hz)?.resampled(rate_hz)
}

/// First samples of patches of `length` in a sound at another speed, around the same moments as those in the sound itself;
/// `counts` are the samples of the sound and of the other one.
fn starts_at_speed(starts: &[usize], length: usize, counts: [usize; 2]) -> Vec<usize> {
    let [own, other] = counts;
    let stretch = other as f64 / own.max(1) as f64;
    let start = |start: &usize| {
        let centre = (*start as f64 + length.min(own) as f64 / 2.0) * stretch;
        // Numbers below 0 become 0.
        ((centre - length as f64 / 2.0) as usize).min(other.saturating_sub(length))
    };
    starts.iter().map(start).collect()
}

/// The logits of the mean confidences of hearings.
fn mean_confidences(hearings: &[Vec<f32>]) -> Vec<f32> {
    let Some(first) = hearings.first() else { return Vec::new() };
    let mean = |at: usize| {
        let sum: f32 = hearings.iter().map(|logits| Unary::Sigmoid.apply(logits[at])).sum();
        let mean = sum / hearings.len() as f32;
        // Neither end has a finite logit.
        let mean = mean.clamp(f32::MIN_POSITIVE, 1.0 - f32::EPSILON);
        (mean / (1.0 - mean)).ln()
    };
    (0..first.len()).map(mean).collect()
}

/// First samples of the patches of `length` samples, `hop` apart or, for long sounds, a multiple of that.
fn patch_starts(samples: usize, length: usize, hop: usize) -> Vec<usize> {
    let wanted = samples.saturating_sub(length).div_ceil(hop) + 1;
    let hop = hop * wanted.div_ceil(MOST_PATCHES);
    let mut starts: Vec<usize> = (0..).map(|at| at * hop).take_while(|start| start + length <= samples).collect();
    let covered = starts.last().map_or(0, |start| start + length);
    // A fifth of a patch is long enough to hold a sound of its own.
    if starts.is_empty() || samples - covered > length / 5 {
        starts.push(samples.saturating_sub(length));
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_brought_to_a_level() {
        let loud: Vec<f32> = [0.01, 0.5, 0.1].iter().flat_map(|level| [*level, -*level].repeat(50)).collect();
        assert!((gain_to(0.02, &loud, 100) - 0.04).abs() < 1e-6, "the second hundred is the loudest");
        assert_eq!(gain_to(0.02, &[1e-6; 10], 100), MOST_GAIN);
        assert_eq!(gain_to(0.02, &[0.0; 10], 100), MOST_GAIN, "silence stays silent");
    }

    #[test]
    fn configurations_of_no_use_are_refused() {
        let refused = |level: Option<f32>, speeds: &[f32]| {
            let config = serde_json::json!({
                "mel": {"sample_rate_hz": 16_000, "frame": 400, "hop": 160, "fft": 512, "bands": 64, "low_hz": 125.0,
                    "high_hz": 7500.0, "floor": 0.001},
                "patch_frames": 96, "patch_hop": 7800, "level": level, "speeds": speeds, "stem": 32, "layers": [],
                "classes": 1,
            });
            let config: Config = serde_json::from_value(config).unwrap();
            Yamnet::load(&config, &Weights::new(crate::nn::WeightMap::default()), &["Bark".into()]).unwrap_err()
        };
        for (level, speeds, reason) in
            [(Some(0.0), vec![], "level 0"), (None, vec![1.0, 0.1], "speed 0.1"), (None, vec![1.0; 9], "9 speeds")]
        {
            let error = refused(level, &speeds);
            assert!(error.code() == "corrupt" && error.to_string().contains(reason), "{error}");
        }
        assert_ne!(refused(Some(0.04), &[0.5, 2.0]).code(), "corrupt", "only the weights are missing");
    }

    #[test]
    fn sounds_play_at_other_speeds_as_records_do() {
        let tone = |hz: f32, count: usize| -> Vec<f32> {
            (0..count).map(|at| (at as f32 * hz * std::f32::consts::TAU / 16_000.0).sin()).collect()
        };
        let sound = Waveform::new(tone(500.0, 16_000), 16_000).unwrap();
        for (speed, hz) in [(0.87, 435.0), (1.15, 575.0)] {
            let other = at_speed(&sound, speed).unwrap();
            assert_eq!(other.sample_rate_hz(), 16_000);
            let count = other.samples().len();
            assert!((count as f32 - 16_000.0 / speed).abs() < 2.0, "{count} samples at speed {speed}");
            let expected = tone(hz, count);
            let inside = 100..count - 100;
            let difference = other.samples()[inside.clone()].iter().zip(&expected[inside]).map(|(a, b)| (a - b).abs());
            assert!(difference.fold(0.0, f32::max) < 0.02, "speed {speed}");
        }
    }

    #[test]
    fn patches_at_other_speeds_are_around_the_same_moments() {
        assert_eq!(starts_at_speed(&[0, 7_800], 15_600, [23_400, 46_800]), [7_800, 23_400], "at half the speed");
        assert_eq!(starts_at_speed(&[0, 7_800], 15_600, [23_400, 15_600]), [0, 0], "there is but one patch left");
        assert_eq!(starts_at_speed(&[0], 15_600, [1_000, 2_000]), [0], "shorter than a patch");
    }

    #[test]
    fn hearings_count_alike() {
        let logit = |p: f32| (p / (1.0 - p)).ln();
        let mean = mean_confidences(&[vec![logit(0.9), logit(0.2), 100.0], vec![logit(0.1), logit(0.4), 100.0]]);
        assert!((mean[0]).abs() < 1e-5 && (mean[1] - logit(0.3)).abs() < 1e-5, "{mean:?}");
        assert!(mean[2].is_finite() && mean[2] > 15.0);
        assert!(mean_confidences(&[vec![-200.0]])[0].is_finite());
        assert!(mean_confidences(&[]).is_empty());
    }

    #[test]
    fn patches_cover_any_length() {
        assert_eq!(patch_starts(1, 15_600, 7_800), [0]);
        assert_eq!(patch_starts(15_600, 15_600, 7_800), [0]);
        assert_eq!(patch_starts(16_000, 15_600, 7_800), [0]);
        assert_eq!(patch_starts(21_120, 15_600, 7_800), [0, 5_520]);
        assert_eq!(patch_starts(40_000, 15_600, 7_800), [0, 7_800, 15_600, 23_400]);
        let long = patch_starts(16_000 * 3600, 15_600, 7_800);
        assert!(
            long.len() <= MOST_PATCHES + 1 && long.last().is_some_and(|start| *start < 16_000 * 3600),
            "{}",
            long.len()
        );
    }
}
