//! Which variables of the caller's shell reach the programs that are started. Services take their settings from it and ignore
//! the rest; servers and the load get none of it, because it may be meant for other servers.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

/// Variables that any program needs to run.
const NEEDED: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR"];

/// Only these, and a locale that every machine has.
pub fn only_needed(command: &mut Command) -> &mut Command {
    command.env_clear();
    command.envs(NEEDED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("LC_ALL", "C.UTF-8")
}

/// Executes this program again, in the same process, without the variables of `psql`; returns at once where there are none. The
/// client for PostgreSQL would use them for whatever a URL leaves out.
pub fn clear() -> Result<()> {
    let names = std::env::vars_os().map(|(name, _)| name);
    let foreign: Vec<OsString> = names.filter(|name| name.to_string_lossy().starts_with("PG")).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let mut command = Command::new(std::env::current_exe().context("this program is not found")?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    for name in &foreign {
        command.env_remove(name);
    }
    Err(command.exec()).context("cannot begin without the variables PG...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gets_nothing_of_the_callers_shell() {
        let mut command = Command::new("env");
        // As if they stood in the shell.
        command.env("PGDATA", "/x").env("RABBITMQ_NODENAME", "x@y").env("ERL_FLAGS", "-x").env("LANG", "x");
        let output = only_needed(&mut command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert!(names.contains(&"PATH") && names.contains(&"LC_ALL"), "{names:?}");
        assert!(names.iter().all(|name| *name == "LC_ALL" || NEEDED.contains(name)), "{names:?}");
    }
}
