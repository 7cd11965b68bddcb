//! `bubo eval-taught`: how well a few examples teach.
//!
//! The set is a JSON file, with paths relative to the folder that is given:
//!
//! - `things`: pictures with a transparent ground; each becomes views: at some place, size, turn, mirroring and brightness
//!   on one of the `grounds`, with a box that is a little off. Some are of one kind, as two guitars are.
//! - `sounds`: each becomes views: a stretch of it, louder or softer, mixed with one of the `noises`.
//!
//! A class is taught by 1, 2, 3 and 5 views. A hit is one of its other views that is recognised; a false alarm is a view of
//! anything else, grounds and noises alone included, that is taken for it. The same seed gives the same views.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bubo::encoders::yamnet::Yamnet;
use bubo::grounding::tagger;
use bubo::grounding::taught::rule::Recogniser;
use bubo::grounding::taught::{Encoders, Lesson, Sense, Taught, sounds, things};
use bubo::media::{BoxPx, RgbImage, Waveform};
use bubo::nn::WeightLoader;
use bubo_train::random::Random;
use image::RgbaImage;
use image::imageops::{FilterType, flip_horizontal, resize};
use pollster::block_on;
use serde::{Deserialize, Serialize};

use crate::bundle;
use crate::host::CommandLine;
use crate::run::{read_image, read_sound};

/// Views of each thing and sound.
const VIEWS: usize = 8;
/// Examples that classes are taught by.
const EXAMPLES: [usize; 4] = [1, 2, 3, 5];
/// Ways to choose the examples among the views.
const CHOICES: usize = 4;
/// Size of a view of a thing.
const SIZE_PX: [u32; 2] = [480, 360];
/// Length of a view of a sound.
const VIEW_S: f64 = 2.0;

/// What is taught, and before what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// PNG files with a transparent ground.
    pub things: Vec<PathBuf>,
    /// Photographs.
    pub grounds: Vec<PathBuf>,
    /// Sound files.
    pub sounds: Vec<PathBuf>,
    /// Sound files that are heard behind them.
    pub noises: Vec<PathBuf>,
}

/// How a number of examples did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    /// What was taught from.
    pub sense: Sense,
    /// Examples of each class.
    pub examples: usize,
    /// Part of the other views that were recognised, 0..1.
    pub hits: f64,
    /// Part of the views of other things that were taken for a class, 0..1.
    pub false_alarms: f64,
    /// Cosine that one false alarm in a hundred reaches, and part of the views that reach it too.
    pub at_one_percent: (f32, f64),
}

/// A view as it is compared: its name, and features of it or of its patches.
type View = (usize, Vec<Vec<f32>>);

/// Runs a set.
///
/// # Errors
/// If a file cannot be read, the bundle cannot be taught, and those of the engine.
pub fn run(folder: &Path, set: &Path, root: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read(set).with_context(|| format!("could not read {}", set.display()))?;
    let set: Set = serde_json::from_slice(&text).with_context(|| set.display().to_string())?;
    let mut loader = bundle::open(folder, &bubo::tensor::Device::Cpu, bubo::tensor::Precision::default())?;
    let encoders = Encoders::of(loader.manifest());
    let mut lines = measured(&encoders, Sense::Picture, &picture_views(&mut loader, &set, root)?)?;
    lines.extend(measured(&encoders, Sense::Sound, &sound_views(&mut loader, &set, root)?)?);
    Ok(lines)
}

/// The lines as a table.
pub fn report(lines: &[Line]) -> String {
    let mut out = String::from("sense    examples   hits  false alarms   at 1 % false alarms\n");
    for Line { sense, examples, hits, false_alarms, at_one_percent: (cosine, there) } in lines {
        let sense = format!("{sense:?}");
        out +=
            &format!("{sense:8} {examples:8}  {hits:.3}        {false_alarms:.4}   cosine {cosine:.3}: {there:.3}\n");
    }
    out
}

/// Teaches each class by some of its views and compares all others with it. Views of no class have the highest numbers.
fn measured(encoders: &Encoders, sense: Sense, views: &[View]) -> Result<Vec<Line>> {
    let classes = views.iter().filter(|(class, _)| *class != usize::MAX).map(|(class, _)| *class).max();
    let mut lines = Vec::new();
    for examples in EXAMPLES {
        let mut own: Vec<(f32, bool)> = Vec::new();
        let mut others: Vec<(f32, bool)> = Vec::new();
        for class in 0..=classes.context("the set is empty")? {
            for choice in 0..CHOICES {
                let mut of_class: Vec<usize> = (0..views.len()).filter(|at| views[*at].0 == class).collect();
                let mut random = Random::new(5, (class * CHOICES + choice) as u64);
                let mut taught = Taught::new(encoders.clone());
                let chosen: Vec<usize> =
                    (0..examples).map(|_| of_class.swap_remove(random.below(of_class.len()))).collect();
                for at in &chosen {
                    let features = example(sense, &views[*at].1)?;
                    let (name, kind, counterexample) = ("Rex".into(), None, false);
                    taught.learn(Lesson { name, kind, sense, features, counterexample })?;
                }
                let recogniser = Recogniser::new(&taught, sense).context("one class was taught")?;
                let others_of = views.iter().enumerate().filter(|(at, _)| !chosen.contains(at)).map(|(_, view)| view);
                for (of, features) in others_of {
                    let cosines = features.iter().map(|patch| recogniser.classes()[0].cosine(patch));
                    let found = features.iter().any(|patch| !recogniser.matches(patch).is_empty());
                    let result = (cosines.fold(-1.0, f32::max), found);
                    if *of == class { own.push(result) } else { others.push(result) }
                }
            }
        }
        others.sort_by(|a, b| b.0.total_cmp(&a.0));
        let part = |list: &[(f32, bool)]| list.iter().filter(|(_, found)| *found).count() as f64 / list.len() as f64;
        let cosine = others[others.len() / 100].0;
        let there = own.iter().filter(|(own, _)| *own > cosine).count() as f64 / own.len() as f64;
        let (hits, false_alarms) = (part(&own), part(&others));
        lines.push(Line { sense, examples, hits, false_alarms, at_one_percent: (cosine, there) });
    }
    Ok(lines)
}

/// What a session would learn from a view.
fn example(sense: Sense, features: &[Vec<f32>]) -> Result<Vec<f32>> {
    let spans: Vec<[f32; 2]> = features.iter().map(|_| [0.0, 1.0]).collect();
    let features = match sense {
        Sense::Picture => features.first().cloned(),
        Sense::Sound => sounds::features_of(features, &spans, [0.0, 1.0]),
    };
    features.context("a view without features")
}

fn picture_views(loader: &mut WeightLoader, set: &Set, root: &Path) -> Result<Vec<View>> {
    let tagger = tagger::load(&block_on(loader.load_part("tagger", &mut |_| {}))?)?;
    let features = |image: &RgbImage, part: BoxPx| -> Result<Vec<Vec<f32>>> {
        let found = block_on(things::features_of(&*tagger, image, part))?;
        Ok(vec![found.context("the tagger has no features")?])
    };
    let grounds: Vec<RgbImage> = set.grounds.iter().map(|path| read_image(&root.join(path))).collect::<Result<_>>()?;
    ensure!(!grounds.is_empty(), "the set has no grounds");
    let mut views = Vec::new();
    for (class, path) in set.things.iter().enumerate() {
        let path = root.join(path);
        let thing = image::open(&path).with_context(|| format!("could not read {}", path.display()))?.into_rgba8();
        for view in 0..VIEWS {
            let mut random = Random::new(11, (class * VIEWS + view) as u64);
            let ground = &grounds[random.below(grounds.len())];
            let (image, box_px) = laid_on(&thing, ground, &mut random)?;
            views.push((class, features(&image, box_px)?));
        }
    }
    for (at, ground) in grounds.iter().enumerate() {
        for view in 0..VIEWS {
            let mut random = Random::new(13, (at * VIEWS + view) as u64);
            views.push((usize::MAX, features(ground, some_box(ground, &mut random))?));
        }
    }
    Ok(views)
}

/// A thing on a ground, and a box around it that is a little off.
fn laid_on(thing: &RgbaImage, ground: &RgbImage, random: &mut Random) -> Result<(RgbImage, BoxPx)> {
    let [width, height] = SIZE_PX;
    let raw = image::RgbImage::from_raw(ground.width() as u32, ground.height() as u32, ground.pixels().to_vec());
    let mut canvas = resize(&raw.context("a picture has its pixels")?, width, height, FilterType::Triangle);
    let fit = (width as f32 / thing.width() as f32).min(height as f32 / thing.height() as f32);
    let scale = fit * random.between(0.4, 0.85);
    let size = |side: u32| ((side as f32 * scale) as u32).max(8);
    let small = resize(thing, size(thing.width()), size(thing.height()), FilterType::Triangle);
    let small = if random.happens(0.5) { flip_horizontal(&small) } else { small };
    let small = turned(&small, random.between(-0.26, 0.26));
    let gain = random.between(0.75, 1.25);
    let left = random.below((width - small.width().min(width)) as usize + 1) as u32;
    let top = random.below((height - small.height().min(height)) as usize + 1) as u32;
    for (x, y, color) in small.enumerate_pixels() {
        let (x, y, opacity) = (x + left, y + top, f32::from(color[3]) / 255.0);
        if x < width && y < height {
            for (pixel, color) in canvas.get_pixel_mut(x, y).0.iter_mut().zip(color.0) {
                let lit = (f32::from(color) * gain).min(255.0);
                *pixel = (f32::from(*pixel) * (1.0 - opacity) + lit * opacity).round() as u8;
            }
        }
    }
    let (w, h, x, y) = (small.width() as f32, small.height() as f32, left as f32, top as f32);
    let mut off = |side: f32| side * random.between(-0.08, 0.08);
    let box_px = BoxPx { x0: x + off(w), y0: y + off(h), x1: x + w + off(w), y1: y + h + off(h) };
    let image = RgbImage::new(width as usize, height as usize, canvas.into_raw())?;
    Ok((image, box_px.clamped(width as usize, height as usize)))
}

/// A picture turned about its middle by an angle in radians, as large as it needs to be.
fn turned(image: &RgbaImage, angle: f32) -> RgbaImage {
    let (w, h) = (image.width() as f32, image.height() as f32);
    let (sin, cos) = angle.sin_cos();
    let (wide, high) = (w * cos + h * sin.abs(), w * sin.abs() + h * cos);
    RgbaImage::from_fn(wide.ceil() as u32, high.ceil() as u32, |x, y| {
        let (x, y) = (x as f32 + 0.5 - wide / 2.0, y as f32 + 0.5 - high / 2.0);
        let (x, y) = (x * cos + y * sin + w / 2.0, y * cos - x * sin + h / 2.0);
        let inside = (0.0..w).contains(&x) && (0.0..h).contains(&y);
        if inside { *image.get_pixel(x as u32, y as u32) } else { image::Rgba([0; 4]) }
    })
}

fn some_box(image: &RgbImage, random: &mut Random) -> BoxPx {
    let (w, h, part) = (image.width() as f32, image.height() as f32, random.between(0.4, 1.0));
    let (x0, y0) = (random.between(0.0, w * (1.0 - part)), random.between(0.0, h * (1.0 - part)));
    BoxPx { x0, y0, x1: x0 + w * part, y1: y0 + h * part }
}

fn sound_views(loader: &mut WeightLoader, set: &Set, root: &Path) -> Result<Vec<View>> {
    let part = block_on(loader.load_part("audio_encoder", &mut |_| {}))?;
    let labels: Vec<String> = part.json_file("audioset_labels.json")?;
    let yamnet = Yamnet::load(&part.config()?, &part.weights, &labels)?;
    let rate_hz = 16_000;
    let read = |path: &PathBuf| -> Result<Vec<f32>> {
        Ok(read_sound(&root.join(path))?.resampled(rate_hz)?.samples().to_vec())
    };
    let noises: Vec<Vec<f32>> = set.noises.iter().map(read).collect::<Result<_>>()?;
    let length = (VIEW_S * f64::from(rate_hz)) as usize;
    let features = |samples: Vec<f32>| -> Result<Vec<Vec<f32>>> {
        let heard = block_on(yamnet.listen(&Waveform::new(samples, rate_hz)?, &CommandLine::default()))?;
        let [_, _, dim] = heard.features.tokens.dims_of("features")?;
        let numbers = block_on(heard.features.tokens.to_f32())?;
        Ok(numbers.chunks_exact(dim).map(<[f32]>::to_vec).collect())
    };
    let mut views = Vec::new();
    for (class, path) in set.sounds.iter().enumerate() {
        let samples = read(path)?;
        for view in 0..VIEWS {
            let mut random = Random::new(17, (class * VIEWS + view) as u64);
            let noise = noises.get(random.below(noises.len())).cloned().unwrap_or_default();
            views.push((class, features(mixed(&samples, &noise, length, &mut random))?));
        }
    }
    for (at, noise) in noises.iter().enumerate() {
        for view in 0..VIEWS {
            let mut random = Random::new(19, (at * VIEWS + view) as u64);
            views.push((usize::MAX, features(mixed(noise, &[], length, &mut random))?));
        }
    }
    Ok(views)
}

/// A stretch of a sound, louder or softer, with noise 6 to 20 dB below it.
fn mixed(samples: &[f32], noise: &[f32], length: usize, random: &mut Random) -> Vec<f32> {
    let stretch = |samples: &[f32], random: &mut Random| {
        let start = random.below(samples.len().saturating_sub(length) + 1);
        samples[start..samples.len().min(start + length)].to_vec()
    };
    let power = |samples: &[f32]| samples.iter().map(|x| x * x).sum::<f32>() / samples.len().max(1) as f32;
    let mut own = stretch(samples, random);
    let behind = stretch(noise, random);
    let decibels = random.between(6.0, 20.0);
    let factor = (power(&own) / power(&behind).max(1e-9) / 10f32.powf(decibels / 10.0)).sqrt();
    let gain = random.between(0.4, 1.2);
    for (at, x) in own.iter_mut().enumerate() {
        *x = gain * (*x + behind.get(at).map_or(0.0, |noise| factor * noise));
    }
    own
}
