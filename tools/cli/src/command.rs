//! Arguments and flow of the longer commands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use bubo::bundle::{Manifest, Scheme};
use bubo::tensor::gpu::Gpu;
use clap::{Args, ValueEnum};

use crate::bundle;
use crate::convert::gguf::Gguf;
use crate::convert::models::Shapes;
use crate::convert::quantize::{Fit, Target};
use crate::convert::source::Source;
use crate::convert::{gguf_llama, mapping, shape_list};
use crate::plan::{self, Adapter};
use crate::synth;

/// `bubo convert`.
#[derive(Args)]
pub struct Convert {
    /// Checkpoint files or folders; several that belong together make parts that need two.
    #[arg(required_unless_present = "check")]
    sources: Vec<PathBuf>,
    /// Check names and shapes only, of a list (JSON), a checkpoint or a GGUF file, against the models: nothing is written.
    #[arg(long, conflicts_with = "out")]
    check: Option<PathBuf>,
    /// What kind of checkpoint the list is of, where names alone do not tell.
    #[arg(long, requires = "check")]
    kind: Option<String>,
    /// One of bubo-mini's parts, from its package: tagger, detector, segmenter, audio_encoder, text_embedder, language.
    #[arg(long)]
    part: Option<String>,
    /// Folder of the bundle.
    #[arg(long, required_unless_present = "check")]
    out: Option<PathBuf>,
    /// Name of the bundle.
    #[arg(long, default_value = "bubogpt-7b")]
    name: String,
    /// Quantise float matrices whose columns are a multiple of 32.
    #[arg(long, value_enum)]
    quantize: Option<Blocks>,
    /// Behave as BuboGPT does where it was mended on purpose; docs/options.md tells where.
    #[arg(long, conflicts_with = "part")]
    original: bool,
    /// Take scales from each block's range, as GGML does, instead of fitting them by least squares.
    #[arg(long, requires = "quantize")]
    by_range: bool,
}

/// Schemes of quantised matrices.
#[derive(Clone, Copy, ValueEnum)]
pub enum Blocks {
    /// 4 bits, symmetric.
    #[value(name = "q4_0")]
    Q4_0,
    /// 4 bits with minima.
    #[value(name = "q4_1")]
    Q4_1,
    /// 8 bits, symmetric.
    #[value(name = "q8_0")]
    Q8_0,
}

impl Blocks {
    /// The scheme as bundles have it.
    pub fn scheme(self) -> Scheme {
        match self {
            Blocks::Q4_0 => Scheme::Q4_0,
            Blocks::Q4_1 => Scheme::Q4_1,
            Blocks::Q8_0 => Scheme::Q8_0,
        }
    }
}

impl Convert {
    /// Runs the command; a check that fails is exit code 1.
    ///
    /// # Errors
    /// If something cannot be read, converted or written.
    pub fn run(&self) -> Result<ExitCode> {
        if let Some(path) = &self.check {
            return check(path, self.kind.as_deref());
        }
        let out = self.out.as_deref().context("--out names the folder of the bundle")?;
        let fit = if self.by_range { Fit::Range } else { Fit::LeastSquares };
        let target = self.quantize.map(|blocks| Target { scheme: blocks.scheme(), fit });
        let manifest = match &self.part {
            None => {
                let report = &mut |step: &str| eprintln!("{step}");
                bundle::convert_public(&self.sources, out, &self.name, target, self.original, report)?
            }
            Some(part) => {
                let [source] = self.sources.as_slice() else { anyhow::bail!("--part takes one source") };
                bundle::convert_one(part, source, out, target)?
            }
        };
        summary(&manifest, out, "built");
        Ok(ExitCode::SUCCESS)
    }
}

/// Sorts and checks names and shapes, prints the report, and says by the exit code whether all is as it should be.
fn check(path: &Path, kind: Option<&str>) -> Result<ExitCode> {
    let ends_in = |kind: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind));
    if ends_in("gguf") {
        ensure!(kind.is_none_or(|kind| kind == "gguf"), "a GGUF file is of the kind gguf");
        let checked = gguf_llama::check(&Gguf::open(path)?)?;
        print(&checked.report());
        return Ok(verdict(checked.passes()));
    }
    let shapes: Shapes = if ends_in("json") {
        shape_list::read(path)?
    } else {
        Source::open(path)?.tensors().map(|(name, info)| (name.to_owned(), info.dims.clone())).collect()
    };
    let checkpoint = match kind {
        Some(kind) => mapping::checkpoint(kind)?,
        None => mapping::recognise(&shapes)?,
    };
    let mapping = mapping::map(checkpoint, &shapes);
    let checked = mapping.check()?;
    let passes = mapping.passes() && checked.iter().all(mapping::Checked::passes);
    print(&mapping.report(&checked));
    Ok(verdict(passes))
}

fn verdict(passes: bool) -> ExitCode {
    println!("{}", if passes { "passes" } else { "does not pass" });
    ExitCode::from(u8::from(!passes))
}

/// `bubo plan`.
#[derive(Args)]
pub struct Plan {
    /// Folder of a bundle, or its bundle.json.
    bundle: PathBuf,
    /// Limits to hold against it: `minimum`, `1gib`, `2gib`, `4gib` as browsers hand them out, or `real` for this machine's.
    #[arg(long, default_value = "minimum")]
    adapter: String,
    /// Positions of a conversation; the bundle's own if not given.
    #[arg(long)]
    context: Option<usize>,
    /// Load the bundle on this machine's adapter, and say how far its memory is from the plan.
    #[arg(long)]
    measure: bool,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Runs the command; limits that do not suffice are exit code 1.
    ///
    /// # Errors
    /// If the manifest cannot be read, or there is no such adapter.
    pub fn run(&self) -> Result<ExitCode> {
        let gpu = (self.measure || self.adapter == "real").then(|| pollster::block_on(Gpu::open())).transpose()?;
        let adapter = match (&gpu, self.adapter.as_str()) {
            (Some(gpu), _) => gpu.info().into(),
            (None, preset) => Adapter::preset(preset)?,
        };
        let plan = plan::plan(&self.bundle, adapter, self.context)?;
        if self.json {
            println!("{}", serde_json::to_string(&plan)?);
        } else {
            print(&plan.to_text());
        }
        if let Some(gpu) = gpu.filter(|_| self.measure) {
            ensure!(self.bundle.is_dir(), "--measure needs the bundle's folder");
            let measured = plan::measure(&self.bundle, &gpu)?;
            let off = (plan.weight_bytes as f64 / measured as f64 - 1.0) * 100.0;
            eprintln!("measured: {:.1} MiB; the plan is off by {off:+.2} %", measured as f64 / f64::from(1 << 20));
        }
        Ok(ExitCode::from(u8::from(!plan.obstacles.is_empty())))
    }
}

/// `bubo synth`.
#[derive(Args)]
pub struct Synth {
    /// Folder of the new bundle.
    #[arg(long)]
    out: PathBuf,
    /// The segmenter: mobile_sam, sam_vit_b, sam_vit_l or sam_vit_h.
    #[arg(long, default_value = "mobile_sam")]
    segmenter: String,
    /// Only these parts, for example `language,segmenter`.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
    /// Blocks of each trunk at most, at full width.
    #[arg(long)]
    layers: Option<usize>,
    /// A few thousand numbers a part, for tests.
    #[arg(long)]
    tiny: bool,
    /// How matrices are stored.
    #[arg(long, value_enum, default_value = "q4_0")]
    quantize: Blocks,
    /// The same number gives the same bundle.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Make it like the bundle in this folder instead: its parts, shapes, formats and small files.
    #[arg(long, conflicts_with_all = ["segmenter", "parts", "layers", "tiny", "quantize"])]
    like: Option<PathBuf>,
}

impl Synth {
    /// Runs the command.
    ///
    /// # Errors
    /// If it asks for what does not exist, or the disk is full.
    pub fn run(&self) -> Result<ExitCode> {
        let manifest = match &self.like {
            Some(folder) => synth::synth_like(folder, &self.out, self.seed)?,
            None => {
                let request = synth::Request {
                    segmenter: self.segmenter.clone(),
                    parts: self.parts.clone(),
                    layers: self.layers,
                    tiny: self.tiny,
                    scheme: Some(self.quantize.scheme()),
                    seed: self.seed,
                };
                synth::synth(&request, &self.out, &mut |step| eprintln!("{step}"))?
            }
        };
        summary(&manifest, &self.out, "built");
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints text that may be long; a reader that closes early (`| head`) is no error.
pub fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints in one line what a bundle holds.
pub fn summary(manifest: &Manifest, out: &Path, what: &str) {
    println!(
        "{}: {what} in {}: {} parts, {} tensors, {} shards, {:.1} MB",
        manifest.name,
        out.display(),
        manifest.parts.len(),
        manifest.tensors.len(),
        manifest.shards.len(),
        manifest.total_bytes() as f64 / 1e6
    );
}
