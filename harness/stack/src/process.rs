//! A child process with its own process group (so that the terminal's Ctrl-C does not reach it), its log file, and its end in two
//! steps: the stop signal, then SIGKILL.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::log_format::readable;
use super::run_as::Account;
use super::{http, not_ours, signals};

/// How often the end of a process is checked.
const POLL: Duration = Duration::from_millis(20);

pub struct Process {
    pub name: String,
    pub port: u16,
    pub log: PathBuf,
    pub started: Instant,
    /// Set when it first answers as ready.
    pub ready_after: Option<Duration>,
    /// Asks it to end: SIGTERM, but SIGINT for PostgreSQL, which else waits for its clients to go.
    stop: Signal,
    child: Child,
}

impl Process {
    /// Appends its output to `log`, so the output of an earlier process with this name stays.
    pub fn spawn(name: &str, port: u16, log: PathBuf, stop: Signal, command: &mut Command) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&log).with_context(|| not_ours(&log))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!("cannot start {name} (is `setpriv`, of the package util-linux, there?)")
            })?;
        let started = Instant::now();
        Ok(Self { name: name.to_owned(), port, log, started, ready_after: None, stop, child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stop_signal(&self) -> Signal {
        self.stop
    }

    /// `Some` once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error that names it and shows the end of its log, if it has ended.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.exited() else { return Ok(()) };
        anyhow::bail!(
            "{} ended by itself ({status}); its log ({}) ends:{}",
            self.name,
            self.log.display(),
            tail(&self.log, 12)
        )
    }

    /// Waits until `url` answers 200; `called` is its name for people.
    pub fn wait_for(&mut self, called: &str, url: &str, limit: Duration) -> Result<()> {
        let agent = http::agent(Duration::from_secs(2));
        let deadline = Instant::now() + limit;
        while !matches!(http::get(&agent, url), Ok((200, _))) {
            self.check()?;
            if Instant::now() > deadline {
                anyhow::bail!("{called} is not ready after {limit:?}; its log ends:{}", tail(&self.log, 12));
            }
            signals::pause(Duration::from_millis(50))?;
        }
        self.ready_after = Some(self.started.elapsed());
        Ok(())
    }

    pub fn ask_to_stop(&mut self) {
        if self.exited().is_none() {
            signal(self.pid(), self.stop);
        }
    }

    /// Waits until it has ended, by force after `limit` or as soon as a second signal came in.
    pub fn wait_or_kill(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.exited().is_none() {
            if Instant::now() >= deadline || signals::received() > 1 {
                return self.kill();
            }
            signals::rest(POLL);
        }
    }

    pub fn kill(&mut self) {
        signal_group(self.pid(), Signal::KILL);
        if let Err(error) = self.child.wait() {
            eprintln!("study: cannot wait for the end of {}: {error}", self.name);
        }
    }
}

/// Ends the process, so that a panic does not leave it behind.
impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.kill();
        }
    }
}

/// A child in a process group of its own, which is killed with its group unless it has ended.
pub struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            signal_group(self.0.id(), Signal::KILL);
            self.0.wait().ok();
        }
    }
}

/// Sends a signal to a process; one that has ended is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

pub fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process_group(pid, signal).ok();
    }
}

/// The last lines of a log, indented, each on its own line; of a panic its message instead of its backtrace.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let panic = all.iter().rposition(|line| line.contains("panicked at"));
    let from = panic.unwrap_or(all.len().saturating_sub(lines));
    let shown = all[from..].iter().take(lines).take_while(|line| !line.starts_with("stack backtrace"));
    shown.map(|line| format!("\n    {}", readable(line))).collect()
}

/// The file `name` in one of the folders of PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A cargo command in the project's folder, to be given to [`run_to_end`].
pub fn cargo(root: &Path) -> Command {
    let mut command = Account::CALLER.command(Path::new("cargo"), "TERM");
    command.current_dir(root);
    command
}

/// Runs a command until it ends. A signal to this process is passed to the command's whole process group; the error is then
/// [`signals::Interrupted`].
pub fn run_to_end(command: &mut Command) -> Result<ExitStatus> {
    let name = command.get_args().last().unwrap_or_default().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", name.display()))?;
    let mut forced_at = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return if signals::interrupted() { Err(signals::Interrupted.into()) } else { Ok(status) };
        }
        if signals::interrupted() {
            let force = *forced_at.get_or_insert_with(|| {
                signal_group(child.id(), Signal::INT);
                Instant::now() + Duration::from_secs(10)
            });
            if Instant::now() > force || signals::received() > 1 {
                signal_group(child.id(), Signal::KILL);
            }
        }
        signals::rest(POLL);
    }
}

/// The exit code of a child as one of this program; 1 if a signal ended it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
