//! `cargo xtask`: build, bundle, serve and test, each step one command, the same by hand and in CI.

mod archive;
mod bundle;
mod chromium;
mod demo;
mod full_size;
mod npm;
mod parts;
mod places;
mod process;
mod samples;
mod serve;
mod test;
mod tidy;
mod vulkan;
mod wasm_std;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Builds, bundles, serves and tests Bubo. Everything that is missing is fetched by name from package registries.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Build everything and serve the page: the one command to see it run
    Demo {
        /// The port of the page
        #[arg(long, default_value_t = 8000)]
        port: u16,
        /// Compile quickly, run slower
        #[arg(long)]
        fast: bool,
    },
    /// Test everything: source tree, formatting, lints, native, wasm, browser
    Test {
        /// Only these steps
        steps: Vec<test::Step>,
    },
    /// Build the wasm module and its JavaScript bindings into pkg/dist
    Web {
        /// Compile quickly, run slower: no link-time optimisation, no wasm-opt
        #[arg(long)]
        fast: bool,
    },
    /// Fetch the pretrained parts and convert them into bundles/bubo-mini
    Bundle,
    /// Serve the page as it is, without building
    Serve {
        /// The port; 0 takes a free one
        #[arg(long, default_value_t = 8000)]
        port: u16,
    },
    /// Stream the paper's system at full size, of random numbers, into headless Chromium and run every stage: 5 GB of disk
    /// for the bundle, as much again for the browser's storage, and as much main memory where a processor plays the GPU
    FullSize {
        /// Blocks of each trunk at most, where all stages run
        #[arg(long, default_value_t = 1)]
        layers: usize,
        /// Compile quickly, run slower
        #[arg(long)]
        fast: bool,
    },
    /// Check the source tree: imports, refused calls, pins, paths
    Tidy,
    /// Fetch the pretrained parts and samples into the cache; prints where they lie, as JSON
    Parts {
        /// Only this group of parts
        #[arg(long)]
        group: Option<parts::Group>,
    },
    /// Make sure that wasm can be compiled; prints the compiler to compile it with
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
        Command::Demo { port, fast } => demo::run(port, fast)?,
        Command::Test { steps } => test::run(&steps)?,
        Command::Web { fast } => web::build(if fast { &web::SIMD_FAST } else { &web::SIMD })?,
        Command::Bundle => bundle::build()?,
        Command::Serve { port } => serve::serve(port)?,
        Command::FullSize { layers, fast } => full_size::run(layers, fast)?,
        Command::Tidy => tidy::check()?,
        Command::Parts { group } => {
            let groups = group.map_or(parts::GROUPS.to_vec(), |group| vec![group]);
            println!("{}", serde_json::to_string_pretty(&parts::fetch(&groups)?)?);
        }
        Command::WasmStd => match wasm_std::provide()? {
            Some(compiler) => println!("{}", compiler.display()),
            None => println!("rustc"),
        },
    }
    Ok(())
}
