//! `bubo run`: one question about a picture and a sound, natively.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bubo::canvas::{Look, Overlay, paint};
use bubo::media::{RgbImage, decode};
use bubo::session::{AskOptions, Event, Session, ShownThing};
use bubo::tensor::{Device, Precision};

use crate::bundle;
use crate::host::CommandLine;

/// What `bubo run` is asked to do.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Picture file.
    pub image: Option<PathBuf>,
    /// Sound file.
    pub audio: Option<PathBuf>,
    /// The question; without one the picture and the sound are only looked at and listened to.
    pub question: Option<String>,
    /// Where the picture with its things outlined is written, as PNG.
    pub overlay: Option<PathBuf>,
    /// Whether one JSON object is printed instead of words.
    pub json: bool,
    /// What was taught, as a document.
    pub taught: Option<PathBuf>,
    /// How the question is answered.
    pub options: AskOptions,
}

/// Loads a bundle into a new session.
///
/// # Errors
/// If the bundle cannot be read or does not fit the device.
pub async fn open_session(folder: &Path, device: Device) -> anyhow::Result<Session> {
    let mut loader = bundle::open(folder, &device, Precision::default())?;
    let session = Session::new(device);
    session.load(&mut loader, &|_| {}).await?;
    Ok(session)
}

/// Runs the request and prints what comes.
///
/// # Errors
/// If a file cannot be read or is not what it should be, in words that say what to do.
pub async fn run(request: &Request, device: Device) -> anyhow::Result<()> {
    let image = request.image.as_deref().map(read_image).transpose()?;
    let sound = request.audio.as_deref().map(read_sound).transpose()?;
    let session = open_session(&request.bundle, device).await?;
    let host = CommandLine::default();
    if let Some(path) = &request.taught {
        import_taught(&session, path).await?;
    }
    let quiet = request.json;
    let tell = |event: Event| {
        if !quiet {
            print_event(&event);
        }
    };
    if let Some(image) = &image {
        session.add_image(image, &host, &tell).await?;
    }
    if let Some(sound) = &sound {
        session.add_audio(sound, &host, &tell).await?;
    }
    let answer = match &request.question {
        Some(question) => Some(session.ask(question, &request.options, &host, &tell).await?),
        None => None,
    };
    if let (Some(path), Some(image), Some(scene)) = (&request.overlay, &image, session.scene()) {
        let size = [image.height(), image.width()];
        let overlay = match &answer {
            Some(answer) => Overlay::answer(&scene.things, &answer.entities, None, size, Look::default()),
            None => Overlay::preview(&scene.things, size, Look::default()),
        };
        write_png(path, &paint(image, &scene.things, &overlay)?)?;
    }
    if quiet {
        let export = match answer {
            Some(answer) => answer,
            None => session.look(),
        };
        println!("{}", serde_json::to_string(&export)?);
    }
    Ok(())
}

/// Adds what a file holds to what is taught.
///
/// # Errors
/// If it cannot be read, is no such document, or is one of another encoder.
pub async fn import_taught(session: &Session, path: &Path) -> anyhow::Result<()> {
    let json = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let imported = session.import_taught(&json, &CommandLine::default(), &|_| {}).await;
    imported.with_context(|| path.display().to_string()).map(|_| ())
}

/// A picture file, decoded.
///
/// # Errors
/// If it cannot be read or is no picture.
pub fn read_image(path: &Path) -> anyhow::Result<RgbImage> {
    let file = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    decode::decode_image(&file).with_context(|| format!("{}", path.display()))
}

/// A sound file, decoded.
///
/// # Errors
/// If it cannot be read or is no sound.
pub fn read_sound(path: &Path) -> anyhow::Result<bubo::media::Waveform> {
    let file = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let name = path.file_name().and_then(|name| name.to_str());
    decode::decode_sound(file, name).with_context(|| format!("{}", path.display()))
}

fn write_png(path: &Path, image: &RgbImage) -> anyhow::Result<()> {
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    image::save_buffer_with_format(path, image.pixels(), width, height, image::ColorType::Rgb8, image::ImageFormat::Png)
        .with_context(|| format!("could not write {}", path.display()))
}

/// Words for people; the answer itself goes to standard output, the rest to standard error.
fn print_event(event: &Event) {
    match event {
        Event::Things { things, r#final: true } => {
            for ShownThing { tag, aliases, score, box_px, taught, .. } in things {
                let [x0, y0, x1, y1] = <[f32; 4]>::from(*box_px).map(f32::round);
                let also = if aliases.is_empty() { String::new() } else { format!(" ({})", aliases.join(", ")) };
                let by = if *taught { ", taught" } else { "" };
                eprintln!("seen   {score:.2}  {tag}{also} at {x0}, {y0} to {x1}, {y1}{by}");
            }
        }
        Event::Sounds { sounds } => {
            for sound in sounds {
                let by = if sound.taught { ", taught" } else { "" };
                eprintln!(
                    "heard  {:.2}  {} from {:.1} s to {:.1} s{by}",
                    sound.score, sound.tag, sound.start_s, sound.end_s
                );
            }
        }
        Event::Token { text } => {
            print!("{text}");
            // What cannot be flushed comes with the rest.
            let _ = std::io::stdout().flush();
        }
        Event::Entity(entity) => eprint!("\n{:?} means things {:?}", entity.phrase, entity.things),
        Event::Done { .. } => println!(),
        _ => {}
    }
}
