//! `bubo stages`: each network of a bundle alone, on a picture, a sound and a prompt.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bubo::media::{RgbImage, Waveform};
use bubo::session::stages::{StageOptions, StageReport};
use bubo::tensor::Device;
use clap::Args;

use crate::host::CommandLine;
use crate::run::{open_session, read_image, read_sound};

/// `bubo stages`.
#[derive(Args)]
pub struct Stages {
    /// Folder of the bundle, whose models are those of the paper's system.
    #[arg(long)]
    bundle: PathBuf,
    /// Only these, for example `segmenter,language`; a Q-Former needs its encoder.
    #[arg(long, value_delimiter = ',')]
    stages: Vec<String>,
    /// Picture; a drawn one if not given.
    #[arg(long)]
    image: Option<PathBuf>,
    /// Sound; a drawn one if not given.
    #[arg(long)]
    audio: Option<PathBuf>,
    /// What the language model is asked.
    #[arg(long, default_value = "What is it?")]
    question: String,
    /// What it is told before; the bundle's own system text if not given.
    #[arg(long)]
    system: Option<String>,
    /// Tokens of its answer.
    #[arg(long, default_value_t = 4)]
    tokens: usize,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

impl Stages {
    /// Runs the stages and prints how each went; numbers that are not finite are exit code 1.
    ///
    /// # Errors
    /// If the bundle, the picture or the sound cannot be read, or a stage fails.
    pub fn run(&self, device: Device) -> Result<ExitCode> {
        let options = StageOptions {
            stages: self.stages.clone(),
            question: self.question.clone(),
            system: self.system.clone(),
            tokens: self.tokens,
            ..StageOptions::default()
        };
        let image = self.image.as_deref().map_or_else(drawn_image, read_image)?;
        let sound = self.audio.as_deref().map_or_else(drawn_sound, read_sound)?;
        let session = pollster::block_on(open_session(&self.bundle, device))?;
        let reports = RefCell::new(Vec::new());
        let tell = |report: &StageReport| {
            if !self.json {
                println!("{}", line(report));
            }
            reports.borrow_mut().push(report.clone());
        };
        let host = CommandLine::default();
        pollster::block_on(session.run_stages(&options, Some(&image), Some(&sound), &host, &tell))?;
        let reports = reports.into_inner();
        if self.json {
            println!("{}", serde_json::json!({ "stages": reports }));
        }
        let finite = reports.iter().flat_map(|report| &report.outputs).all(|output| output.finite);
        Ok(ExitCode::from(u8::from(!finite)))
    }
}

/// A picture that is alike everywhere: 480 by 360 pixels of colours that run into each other.
///
/// # Errors
/// None.
pub fn drawn_image() -> Result<RgbImage> {
    let (width, height) = (480, 360);
    let pixel = |at: usize| {
        let (x, y) = (at % width, at / width);
        [x * 255 / width, y * 255 / height, (x * 7 + y * 3) % 256].map(|value| value as u8)
    };
    Ok(RgbImage::new(width, height, (0..width * height).flat_map(pixel).collect())?)
}

/// A sound that is alike everywhere: six seconds of a tone.
///
/// # Errors
/// None.
pub fn drawn_sound() -> Result<Waveform> {
    let samples = (0..16_000 * 6).map(|at| (at as f32 * 0.2).sin() * 0.3).collect();
    Ok(Waveform::new(samples, 16_000)?)
}

/// How a stage went, in words.
fn line(report: &StageReport) -> String {
    let mut line = format!("{:<14} {:>9.2} s", report.stage, report.elapsed_ms / 1e3);
    if let Some(gpu) = &report.gpu {
        line += &format!("  {:>6} dispatches", gpu.dispatches);
    }
    for output in &report.outputs {
        let finite = if output.finite { "finite" } else { "NOT FINITE" };
        line += &format!("  {} {:?} {finite}, rms {:.3}", output.name, output.dims, output.rms);
    }
    if let Some(spoken) = &report.spoken {
        let (read_s, decode_s) = (spoken.read_ms / 1e3, spoken.decode_ms / 1e3);
        let count = spoken.token_ids.len();
        line += &format!("  read {} in {read_s:.2} s, {count} tokens in {decode_s:.2} s", spoken.prompt_tokens);
    }
    line
}
