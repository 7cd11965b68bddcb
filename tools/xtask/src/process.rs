//! Running other programs: every command is shown before it runs and names itself when it fails.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// Says on standard error what is being done now; standard output stays free for results.
pub fn say(message: impl AsRef<str>) {
    eprintln!("  {}", message.as_ref());
}

/// A command line as a person would type it, for messages.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs a command to its end with its output on this terminal.
///
/// # Errors
/// The program is missing, or its exit status is not zero.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`: is it installed?", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output, trimmed. Its standard error is shown only in the error.
///
/// # Errors
/// The program is missing, its exit status is not zero, or its output is not UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command.output().with_context(|| format!("cannot start `{}`: is it installed?", shown(command)))?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        bail!("`{}` failed: {}\n{}", shown(command), result.status, said.trim());
    }
    let text = String::from_utf8(result.stdout).with_context(|| format!("`{}` wrote no text", shown(command)))?;
    Ok(text.trim().to_owned())
}

/// Whether a program of this name can be found on the search path.
pub fn exists(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| is_program(&folder, program)))
}

fn is_program(folder: &Path, program: &str) -> bool {
    folder.join(program).is_file() || (cfg!(windows) && folder.join(format!("{program}.exe")).is_file())
}

/// Whether this process may install system packages: root on a machine with apt.
pub fn can_use_apt() -> bool {
    cfg!(target_os = "linux")
        && exists("apt-get")
        && output(Command::new("id").arg("-u")).is_ok_and(|user_id| user_id == "0")
}

/// Installs Debian packages with apt, refreshing the package lists first.
///
/// # Errors
/// apt fails; its own words are on the terminal.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    say(format!("installing with apt: {}", packages.join(" ")));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
