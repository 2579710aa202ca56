//! A load generator as a child process, which runs to its end while the stacks are checked.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stack::process::KillOnDrop;
use stack::signals;

/// Waits for the end of a program; `tick` is called every `every`.
pub fn wait(
    child: &mut KillOnDrop,
    every: Duration,
    mut tick: impl FnMut() -> Result<()>,
) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(status);
        }
        tick()?;
        signals::pause(every)?;
    }
}

/// What it wrote to standard output, which must be short; `tick` is called now and then.
///
/// # Errors
/// When its exit status is not 0; the message ends with its last line.
pub fn output(command: &mut Command, name: &str, tick: impl FnMut() -> Result<()>) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = KillOnDrop(command.spawn().with_context(|| format!("cannot start {name}"))?);
    let status = wait(&mut child, Duration::from_millis(20), tick)?;
    let (mut output, mut said) = (String::new(), String::new());
    child.0.stdout.take().context("no standard output")?.read_to_string(&mut output)?;
    child.0.stderr.take().context("no standard error")?.read_to_string(&mut said)?;
    if !status.success() {
        let last = said.lines().next_back().or(output.lines().next_back()).unwrap_or("no message");
        bail!("{name} ended with {status}: {last}");
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_named_with_its_last_words() {
        let run = |script: &str| output(Command::new("sh").args(["-c", script]), "it", || Ok(()));
        assert_eq!(run("echo 1; echo 2").unwrap(), "1\n2\n");
        let error = run("echo a; echo b >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("it ended with") && error.ends_with(": b"), "{error}");
    }
}
