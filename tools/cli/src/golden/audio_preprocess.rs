//! Sounds as BuboGPT's ImageBind hears them, against the original's processor.

use std::path::Path;

use anyhow::{Result, ensure};
use bubo::media::{ClipConfig, ClipMean, ClipMel, LastClip, MelClips, Waveform};
use bubo::tensor::Device;

use super::{Difference, Golden, tolerance};

/// What 99.9 % of the numbers must keep.
const MOSTLY: f64 = 5e-4;
/// Share of numbers that may be further off.
const OUTLIERS: f64 = 1e-3;

/// Runs an `audio_preprocess_*` golden.
///
/// # Errors
/// If an array is missing or the sound is refused.
pub fn run(golden: &Golden, device: &Device, _bundle: Option<&Path>) -> Result<Vec<Difference>> {
    let allowed = tolerance(golden.component(), device);
    // The goldens' clips lie where the original's do.
    let placed = ClipConfig { last_clip: LastClip::Original, ..ClipConfig::default() };
    let original = ClipMel::new(ClipConfig { clip_mean: ClipMean::Original, ..placed })?;
    let clean = ClipMel::new(placed)?;
    let rate_hz = golden.u32("in.sample_rate")?[0];
    if golden.contains("in.pcm") {
        let sound = Waveform::new(mono_of_pcm(golden)?, rate_hz)?;
        return compare(golden, "out.mel", &original.compute(&sound)?, 0, allowed);
    }
    let [channels, samples] = *golden.dims("in.waveform")? else { anyhow::bail!("in.waveform has not two axes") };
    let numbers = golden.f32("in.waveform")?;
    let channels: Vec<Waveform> = numbers
        .chunks_exact(samples)
        .take(channels)
        .map(|channel| Waveform::new(channel.to_vec(), rate_hz))
        .collect::<bubo::Result<_>>()?;

    let mut found = compare(golden, "out.mel", &original.compute_channels(&channels)?, 0, allowed)?;
    if golden.contains("out.mel_mono") {
        found.extend(compare(golden, "out.mel_mono", &clean.compute(&mean(&channels)?)?, 0, allowed)?);
    }
    let resampled = channels[0].resampled(16_000)?;
    if golden.contains("mid.resampled_ch0") {
        found.push(golden.compare_f32("mid.resampled_ch0", resampled.samples(), 1e-5)?);
    }
    let length = resampled.samples().len().max(clean.config().clip_samples());
    let bounds: Vec<f32> =
        clean.config().clip_bounds(length).iter().flat_map(|clip| [clip.start as f32, clip.end as f32]).collect();
    found.push(golden.compare_f32("mid.clip_bounds", &bounds, 0.0)?);
    if golden.contains("mid.mel_pure_clip5") {
        found.extend(compare(golden, "mid.mel_pure_clip5", &clean.compute_channels(&channels)?, 5, allowed)?);
    }
    if golden.contains("mid.fbank_clip0") {
        let clip: Vec<f32> = resampled.samples().iter().copied().cycle().take(length).collect();
        // In logarithms, before they are divided by the deviation.
        let deviation = f64::from(clean.config().deviation);
        let spectrogram = clean.spectrogram(&clip)?;
        found.push(golden.compare_f32("mid.fbank_clip0", &spectrogram, allowed * deviation)?);
    }
    if golden.contains("mid.antialias_clip0") {
        let smooth = ClipMel::new(ClipConfig { antialias: true, ..placed })?;
        found.extend(compare(golden, "mid.antialias_clip0", &smooth.compute_channels(&channels)?, 0, allowed)?);
    }
    Ok(found)
}

/// Samples of 16 bits as the original's web page reads them: divided by 32767, channels averaged.
fn mono_of_pcm(golden: &Golden) -> Result<Vec<f32>> {
    let channels = golden.dims("in.pcm")?.get(1).copied().unwrap_or(1);
    let mono = |samples: &[i64]| samples.iter().map(|x| *x as f64 / 32_767.0).sum::<f64>() / channels as f64;
    Ok(golden.i64("in.pcm")?.chunks_exact(channels).map(|samples| mono(samples) as f32).collect())
}

fn mean(channels: &[Waveform]) -> Result<Waveform> {
    let at = |at: usize| channels.iter().map(|channel| channel.samples()[at]).sum::<f32>() / channels.len() as f32;
    Ok(Waveform::new((0..channels[0].samples().len()).map(at).collect(), channels[0].sample_rate_hz())?)
}

/// The largest difference, and the one that all but a thousandth stay below; of one clip where the golden holds one.
fn compare(golden: &Golden, name: &str, found: &MelClips, first: usize, allowed: f64) -> Result<Vec<Difference>> {
    let expected = golden.f32(name)?;
    let start = first * found.bands * found.frames;
    ensure!(found.numbers.len() >= start + expected.len(), "{name}: only {} clips", found.clips);
    let found = &found.numbers[start..start + expected.len()];
    let mut apart: Vec<f64> = expected.iter().zip(found).map(|(a, b)| f64::from((a - b).abs())).collect();
    apart.sort_by(f64::total_cmp);
    let mostly = apart[((apart.len() - 1) as f64 * (1.0 - OUTLIERS)) as usize];
    Ok(vec![
        golden.compare_f32(name, found, allowed)?,
        Difference { name: format!("{name} (99.9 %)"), max_abs: mostly, tolerance: MOSTLY },
    ])
}
