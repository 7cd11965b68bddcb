//! How the original varies pictures and sounds in training, before the frozen encoders see them.
//!
//! Source: bubogpt-spec 2.1, 3.3 and 7.6; torchvision 0.15.2, `RandomResizedCrop`; SpecAugment++ (Wang et al. 2021,
//! arXiv 2103.16858) in its `mixture` mode.

use anyhow::Result;
use bubo::media::{ClipConfig, ClipMean, ClipMel, CropPx, Filter, MelClips, RgbImage, Waveform};

use crate::random::Random;

/// Part of a picture's area that is kept, and width by height of that part.
const AREA: [f32; 2] = [0.5, 1.0];
const ASPECT: [f32; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// Tries to find a part within the picture.
const TRIES: usize = 10;
/// Stripes along each axis of a spectrogram, and what their widths stay below: frames, then bands.
const STRIPES: usize = 2;
const STRIPE_WIDTHS: [usize; 2] = [12, 7];

/// A random part of a picture as a square of `side` pixels.
///
/// # Errors
/// If the side is 0 or too large.
pub fn crop(image: &RgbImage, side: usize, random: &mut Random) -> Result<RgbImage> {
    let (width, height) = (image.width() as f32, image.height() as f32);
    let mut part = None;
    for _ in 0..TRIES {
        let area = width * height * random.between(AREA[0], AREA[1]);
        let aspect = random.between(ASPECT[0].ln(), ASPECT[1].ln()).exp();
        let size = [(area * aspect).sqrt().round() as usize, (area / aspect).sqrt().round() as usize];
        if (1..=image.width()).contains(&size[0]) && (1..=image.height()).contains(&size[1]) {
            let left = random.below(image.width() - size[0] + 1);
            let top = random.below(image.height() - size[1] + 1);
            part = Some(CropPx { left, top, width: size[0], height: size[1] });
            break;
        }
    }
    // A picture that is too long for any: its middle, as long as it may be.
    let middle = || {
        let size = [(height * ASPECT[1]).round().min(width) as usize, (width / ASPECT[0]).round().min(height) as usize];
        let [width, height] = size.map(|size| size.max(1));
        let (left, top) = ((image.width() - width) / 2, (image.height() - height) / 2);
        CropPx { left, top, width, height }
    };
    Ok(image.resized(part.unwrap_or_else(middle), side, side, Filter::Bicubic)?)
}

/// Spectrograms of clips at random places of a sound, in the order of time, and of the whole sound, with stripes of
/// each mixed into another; a sound that fills no more than a clip gives a single one.
///
/// # Errors
/// If the sound's rate is of no use, or the configuration contradicts itself.
pub fn clips(sound: &Waveform, config: &ClipConfig, random: &mut Random) -> Result<MelClips> {
    let config = ClipConfig { clip_mean: ClipMean::Clean, global_clip: false, ..*config };
    let mel = ClipMel::new(config)?;
    let sound = sound.resampled(config.sample_rate_hz)?;
    let length = config.clip_samples();
    let Some(spare) = sound.samples().len().checked_sub(length).filter(|spare| *spare > 0) else {
        return Ok(mel.compute(&sound)?);
    };
    let mut starts: Vec<usize> = (0..config.clips).map(|_| random.below(spare + 1)).collect();
    starts.sort_unstable();
    let mut numbers = Vec::new();
    for start in starts {
        let clip = Waveform::new(sound.samples()[start..start + length].to_vec(), config.sample_rate_hz)?;
        numbers.extend(mel.compute(&clip)?.numbers);
    }
    let whole = ClipMel::new(ClipConfig { global_clip: true, clips: 1, ..config })?.compute(&sound)?;
    let size = whole.bands * whole.frames;
    numbers.extend(&whole.numbers[size..]);
    let mut clips = MelClips { clips: config.clips + 1, numbers, ..whole };
    mix_stripes(&mut clips, random);
    Ok(clips)
}

/// Stripes of frames, then of bands, become the mean of themselves and of those of another clip of the same sound.
fn mix_stripes(clips: &mut MelClips, random: &mut Random) {
    let MelClips { clips: count, bands, frames, .. } = *clips;
    for (axis, (total, most)) in [frames, bands].into_iter().zip(STRIPE_WIDTHS).enumerate() {
        let mut others: Vec<usize> = (0..count).collect();
        (1..count).rev().for_each(|at| others.swap(at, random.below(at + 1)));
        let before = clips.numbers.clone();
        for (clip, other) in others.into_iter().enumerate() {
            for _ in 0..STRIPES {
                let width = random.below(most.min(total));
                let first = random.below(total - width);
                for at in 0..bands * frames {
                    let place = if axis == 0 { at % frames } else { at / frames };
                    if (first..first + width).contains(&place) {
                        let own = &mut clips.numbers[clip * bands * frames + at];
                        *own = (*own + before[other * bands * frames + at]) / 2.0;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_lie_within_pictures_of_any_form() {
        for (width, height) in [(40, 30), (1, 1), (300, 2), (2, 300)] {
            let pixels = (0..width * height).flat_map(|at| [(at % width) as u8, (at / width) as u8, 7]).collect();
            let image = RgbImage::new(width, height, pixels).unwrap();
            let crops: Vec<RgbImage> =
                (0..20).map(|seed| crop(&image, 8, &mut Random::new(seed, 0)).unwrap()).collect();
            assert!(crops.iter().all(|crop| (crop.width(), crop.height()) == (8, 8)));
            assert!((width, height) != (40, 30) || crops.iter().any(|crop| *crop != crops[0]), "all are equal");
        }
    }

    #[test]
    fn long_sounds_give_clips_and_the_whole_and_short_ones_one() {
        let config = ClipConfig { clip_s: 1, clips: 3, bands: 16, frames: 20, ..ClipConfig::default() };
        let sound = |seconds: f32| {
            let samples = (0..(seconds * 16_000.0) as usize).map(|at| (at as f32 * at as f32 * 1e-6).sin());
            Waveform::new(samples.collect(), 16_000).unwrap()
        };
        let of = |seconds, seed| clips(&sound(seconds), &config, &mut Random::new(seed, 0)).unwrap();
        let found = of(2.5, 1);
        assert_eq!((found.clips, found.numbers.len()), (4, 4 * 16 * 20));
        assert!(found.numbers.iter().all(|x| x.is_finite()));
        assert_ne!(found, of(2.5, 2));
        assert_eq!(found, of(2.5, 1));
        assert_eq!(of(0.7, 1), ClipMel::new(config).unwrap().compute(&sound(0.7)).unwrap());
    }

    #[test]
    fn stripes_are_means_with_another_clip() {
        let (bands, frames) = (64, 100);
        let numbers = (0..2 * bands * frames).map(|at| if at < bands * frames { 0.0 } else { 1.0 }).collect();
        let mut clips = MelClips { clips: 2, bands, frames, numbers };
        // A seed with which the two clips are swapped.
        mix_stripes(&mut clips, &mut Random::new(3, 0));
        let mixed = clips.numbers.iter().filter(|x| **x != 0.0 && **x != 1.0).count();
        assert!(mixed > 0 && mixed < clips.numbers.len() / 2, "{mixed}");
        assert!(clips.numbers.iter().all(|x| (0.0..=1.0).contains(x)));
    }
}
