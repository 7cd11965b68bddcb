//! `bubo teach`: one more example for a name.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use bubo::session::{Scene, Session, Subject, Teaching};
use bubo::tensor::Device;
use clap::Args;
use pollster::block_on;

use crate::host::CommandLine;
use crate::run::{import_taught, open_session, read_image, read_sound};

/// Arguments of the command.
#[derive(Args)]
pub struct Teach {
    /// Folder of the bundle.
    #[arg(long, default_value = "bundles/bubo-mini")]
    bundle: PathBuf,
    /// The file, which is made if it is not there.
    #[arg(long)]
    taught: PathBuf,
    /// What it is called: `Rex` or `our doorbell` for one single thing, `thermos` for a kind of thing.
    #[arg(long)]
    name: String,
    /// The broader kind, for example `dog`.
    #[arg(long)]
    kind: Option<String>,
    /// A picture that shows it.
    #[arg(long, required_unless_present = "audio", conflicts_with = "audio")]
    image: Option<PathBuf>,
    /// A sound of it.
    #[arg(long)]
    audio: Option<PathBuf>,
    /// Only this thing of the picture, by what it is called without the lesson: the surest of them.
    #[arg(long, requires = "image")]
    thing: Option<String>,
    /// Only this part of the picture: left, top, right, bottom in pixels.
    #[arg(long = "box", requires = "image", conflicts_with = "thing", value_delimiter = ',')]
    part: Vec<f32>,
    /// Only this stretch of the sound: begin and end in seconds.
    #[arg(long, requires = "audio", value_delimiter = ',')]
    span: Vec<f32>,
    /// It shows what the name is not for.
    #[arg(long)]
    not: bool,
}

impl Teach {
    /// Runs the command.
    ///
    /// # Errors
    /// If a file cannot be read or written, and those of the session.
    pub fn run(&self) -> Result<()> {
        let session = block_on(open_session(&self.bundle, Device::Cpu))?;
        if self.taught.exists() {
            block_on(import_taught(&session, &self.taught))?;
        }
        let subject = block_on(self.subject(&session))?;
        let (name, kind, counterexample) = (self.name.clone(), self.kind.clone(), self.not);
        let teaching = Teaching { name, kind, subject, counterexample };
        let list = block_on(session.teach(&teaching, &CommandLine::default(), &|_| {}))?;
        let json = session.export_taught(None)?;
        std::fs::write(&self.taught, json).with_context(|| format!("could not write {}", self.taught.display()))?;
        for class in list.classes {
            let kind = class.kind.map(|kind| format!(", {kind}")).unwrap_or_default();
            println!("{}{kind}: {} examples, {} counterexamples", class.name, class.examples, class.counterexamples);
        }
        Ok(())
    }

    /// Shows the session the picture or the sound, and finds what is meant in it.
    async fn subject(&self, session: &Session) -> Result<Subject> {
        let host = CommandLine::default();
        if let Some(path) = &self.audio {
            session.add_audio(&read_sound(path)?, &host, &|_| {}).await?;
            return match self.span[..] {
                [] => Ok(Subject::Sound),
                [start_s, end_s] => Ok(Subject::Span([start_s, end_s])),
                _ => bail!("--span takes begin and end, as in 0.5,2"),
            };
        }
        let path = self.image.as_deref().context("give --image or --audio")?;
        let scene = session.add_image(&read_image(path)?, &host, &|_| {}).await?;
        if let Some(thing) = &self.thing {
            return thing_called(&scene, thing).map(Subject::Thing);
        }
        if self.part.is_empty() {
            return Ok(Subject::Picture);
        }
        ensure!(self.part.len() == 4, "--box takes left, top, right and bottom, as in 10,20,200,180");
        Ok(Subject::Box([self.part[0], self.part[1], self.part[2], self.part[3]].into()))
    }
}

fn thing_called(scene: &Scene, name: &str) -> Result<usize> {
    let called = |thing: &bubo::grounding::Thing| thing.tag == name || thing.aliases.iter().any(|alias| alias == name);
    scene.things.iter().position(called).with_context(|| {
        let tags: Vec<&str> = scene.things.iter().map(|thing| thing.tag.as_str()).collect();
        format!("the picture shows no {name:?}; it shows: {}", tags.join(", "))
    })
}
