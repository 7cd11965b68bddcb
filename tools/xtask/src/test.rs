//! `cargo xtask test`: everything that the project tests, step by step, with the runners' closing lines at the end.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    bundle, chromium, npm,
    parts::{self, Group},
    places, process, serve, tidy, vulkan, web,
};

/// The steps, in the order in which they run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Step {
    /// Checks of the source tree that no compiler makes
    Tidy,
    /// Formatting
    Format,
    /// Lints, warnings refused
    Lint,
    /// The bundle that the tests load
    Bundle,
    /// Unit, golden and kernel tests on this machine, GPU ones included
    Native,
    /// The wasm module
    Web,
    /// The page in headless Chromium
    Browser,
}

const ALL: [Step; 7] = [Step::Tidy, Step::Format, Step::Lint, Step::Bundle, Step::Native, Step::Web, Step::Browser];

/// The workspace in pieces, whose shared dependencies have different features: compiled together, as `--workspace`
/// does, they would need one more copy of everything.
const SELECTIONS: [&[&str]; 3] = [
    &["--package", "bubo", "--package", "bubo-cli", "--package", "bubo-train"],
    &["--package", "xtask", "--package", "qt-resources"],
    &["--package", "kernel-bench"],
];

/// How a step ended: its error if it failed, what its runner said last, and how long it took.
struct Outcome {
    step: Step,
    error: Option<anyhow::Error>,
    closing: Vec<String>,
    time: Duration,
}

/// Runs the steps, all of them if none is named; a failed step does not keep the others from running.
///
/// # Errors
/// A step failed.
pub fn run(steps: &[Step]) -> Result<()> {
    let chosen: Vec<Step> = ALL.into_iter().filter(|step| steps.is_empty() || steps.contains(step)).collect();
    let mut outcomes = Vec::new();
    for (number, &step) in chosen.iter().enumerate() {
        println!("\n[{}/{}] {step:?}", number + 1, chosen.len());
        let start = Instant::now();
        let mut closing = Vec::new();
        let error = execute(step, &mut closing).err();
        if let Some(error) = &error {
            println!("{step:?} failed: {error:#}");
        }
        println!("[{}/{}] {step:?}: {:.1} s", number + 1, chosen.len(), start.elapsed().as_secs_f64());
        outcomes.push(Outcome { step, error, closing, time: start.elapsed() });
    }
    summarize(&outcomes)
}

fn execute(step: Step, closing: &mut Vec<String>) -> Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(places::cargo());
        command.args(arguments).current_dir(places::root());
        command
    };
    match step {
        Step::Tidy => tidy::check(),
        Step::Format => process::run(&mut cargo(&["fmt", "--all", "--check"])),
        Step::Lint => SELECTIONS.iter().try_for_each(|packages| {
            let options = ["--release", "--quiet", "--all-targets"];
            process::run(cargo(&["clippy"]).args(*packages).args(options).args(["--", "-D", "warnings"]))
        }),
        Step::Bundle => bundle::build(),
        Step::Native => SELECTIONS
            .iter()
            .try_for_each(|packages| native(cargo(&["test", "--release", "--no-fail-fast"]).args(*packages), closing)),
        Step::Web => web::build(&web::SIMD).and_then(|()| web::refuse_warnings(&web::SIMD)),
        Step::Browser => browser(closing),
    }
}

fn native(tests: &mut Command, closing: &mut Vec<String>) -> Result<()> {
    parts::fetch(&[Group::Golden])?;
    tests.envs(vulkan::environment()?);
    tests.env("BUBO_PARTS", parts::folder()?).env("BUBO_BUNDLE", bundle::folder());
    watched(tests, closing, |line| line.starts_with("test result: "))
}

fn browser(closing: &mut Vec<String>) -> Result<()> {
    let folder = places::root().join("tests/browser");
    npm::install(&folder)?;
    bundle::random("bubogpt-tiny-random", &["--tiny"])?;
    let port = serve::start(serve::Site::of_checkout(), 0)?;
    let mut tests = Command::new("node");
    tests.args(["--test", "--test-concurrency=1", "--test-reporter=spec"]);
    tests.args(test_files(&folder)?).current_dir(&folder);
    tests.env("BUBO_URL", format!("http://localhost:{port}/")).env("BUBO_CHROME", chromium::provide()?);
    tests.env("BUBO_PARTS", parts::folder()?).env("BUBO_SCREENSHOTS", places::root().join("target/screenshots"));
    watched(&mut tests, closing, |line| {
        ["tests ", "pass ", "fail ", "skipped "].iter().any(|start| {
            line.trim_start_matches(|character: char| !character.is_ascii_alphanumeric()).starts_with(start)
                && line.split_whitespace().count() == 3
        })
    })
}

fn test_files(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.js") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("tests/browser has no tests");
    }
    Ok(files)
}

/// Runs a command with its output on this terminal, and keeps the lines that say how it ended.
fn watched(command: &mut Command, closing: &mut Vec<String>, is_closing: impl Fn(&str) -> bool) -> Result<()> {
    let name = process::shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{name}`"))?;
    let output = child.stdout.take().context("the runner has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if is_closing(&line) {
            closing.push(line.into_owned());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{name}`: {status}");
    }
    if closing.is_empty() {
        bail!("`{name}` ran no tests");
    }
    Ok(())
}

fn summarize(outcomes: &[Outcome]) -> Result<()> {
    println!("\nSummary");
    for outcome in outcomes {
        let verdict = if outcome.error.is_none() { "ok" } else { "FAILED" };
        println!("  {:<8} {verdict:<6} {:>7.1} s", format!("{:?}", outcome.step), outcome.time.as_secs_f64());
        for line in &outcome.closing {
            println!("             {line}");
        }
    }
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .map(|outcome| format!("{:?}", outcome.step))
        .collect();
    if failed.is_empty() {
        println!("all {} steps passed", outcomes.len());
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "));
}
