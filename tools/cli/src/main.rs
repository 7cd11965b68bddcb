//! The `bubo` command.

use std::path::PathBuf;

use bubo::tensor::gpu::Gpu;
use bubo::tensor::{Device, Precision};
use bubo_cli::bench;
use bubo_cli::golden::{self, Golden};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "bubo", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
    /// Measure how fast the language model reads and answers.
    Bench {
        /// Bundle, or a checkpoint of the language model.
        bundle: PathBuf,
        /// Engine to run on.
        #[arg(long, value_enum, default_value_t = Engine::Cpu)]
        device: Engine,
        /// Keep activations exact on the CPU, instead of rounding them to 8 bits.
        #[arg(long)]
        exact: bool,
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
        Ok(match self {
            Engine::Cpu => Device::Cpu,
            Engine::Gpu => Device::Gpu(pollster::block_on(Gpu::open())?),
        })
    }
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    match Cli::parse().command {
        Command::Golden { file, device, bundle, json } => {
            let device = device.open()?;
            let golden = Golden::read(&file)?;
            let differences = golden::run(&golden, &device, bundle.as_deref())?;
            let pass = differences.iter().all(golden::Difference::passes);
            if json {
                let name = golden.component();
                println!("{}", serde_json::json!({ "component": name, "pass": pass, "differences": differences }));
            } else {
                for difference in &differences {
                    let verdict = if difference.passes() { "ok" } else { "TOO FAR" };
                    println!(
                        "{:40} {:.3e}  (≤ {:.1e})  {verdict}",
                        difference.name, difference.max_abs, difference.tolerance
                    );
                }
            }
            Ok(std::process::ExitCode::from(u8::from(!pass)))
        }
        Command::Bench { bundle, device, exact, tokens, json } => {
            let precision = if exact { Precision::Exact } else { Precision::Fast };
            let turns = bench::language(&bundle, &device.open()?, precision, tokens)?;
            if json {
                println!("{}", serde_json::json!({ "turns": turns }));
            } else {
                turns.iter().for_each(|turn| println!("{turn}"));
            }
            Ok(std::process::ExitCode::SUCCESS)
        }
    }
}
