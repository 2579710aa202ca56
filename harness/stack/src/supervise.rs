//! `./study up`: starts the stacks, prints addresses and examples, and supervises the processes until it is asked to stop or
//! one of them ends. `--detach` starts a copy of this program that does the same in the background.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use rustix::process::Signal;

use super::output::say;
use super::progress::Step;
use super::state::State;
use super::{
    Layout, Mode, Stack, StackOptions, commands, not_ours, process, request, signals, stack, state_folder,
};

const IN_BACKGROUND: &str = "\nIt runs in the background: ./study status, ./study logs, ./study down.\n";

#[derive(Args)]
pub struct UpArgs {
    /// Which architecture.
    #[arg(value_name = "WHICH", value_parser = modes(), default_value = BOTH)]
    modes: Modes,

    /// Return as soon as everything is ready; `./study down` ends it.
    #[arg(long)]
    detach: bool,

    /// In containers, of the project's compose files, with Prometheus and Grafana; their volumes stay.
    #[arg(long)]
    docker: bool,

    /// With a Prometheus beside the processes, and Grafana with the boards if it is installed; containers have both.
    #[arg(long, conflicts_with = "docker")]
    monitoring: bool,

    /// Be the process that `--detach` leaves behind.
    #[arg(long, hide = true)]
    supervisor: bool,
}

/// An alias, because clap takes a `Vec` for several arguments.
type Modes = Vec<Mode>;

/// The name of a mode, or this for sync and async.
const BOTH: &str = "both";

fn modes() -> impl TypedValueParser<Value = Modes> {
    let names = Mode::ALL.map(Mode::as_str).into_iter().chain([BOTH]);
    PossibleValuesParser::new(names).map(|name| match Mode::from_str(&name, false) {
        Ok(mode) => vec![mode],
        Err(_) => Mode::COMPARED.into(),
    })
}

pub fn up(args: &UpArgs, port_offset: u16) -> Result<()> {
    let docker = args.docker.then(|| "microservices".to_owned());
    let name = if let [mode] = args.modes[..] { mode.as_str() } else { BOTH };
    let mut command = vec!["up".to_owned(), name.to_owned()];
    command.extend(args.monitoring.then(|| "--monitoring".to_owned()));
    let launch = Launch {
        layouts: args.modes.iter().copied().map(Layout::study).collect(),
        options: StackOptions { port_offset, docker, monitoring: args.monitoring, ..StackOptions::default() },
        command,
        detach: args.detach,
        supervisor: args.supervisor,
        examples: commands::examples,
    };
    launch.run()
}

/// Stacks to start, and to stay with.
pub struct Launch {
    pub layouts: Vec<Layout>,
    pub options: StackOptions,
    /// The arguments of this program that mean the same, without `--detach`, `--supervisor` and `--port-offset`.
    pub command: Vec<String>,
    /// Return as soon as everything is ready.
    pub detach: bool,
    /// Be the process that `detach` leaves behind.
    pub supervisor: bool,
    /// What to try, for people.
    pub examples: fn(&[State]) -> String,
}

impl Launch {
    pub fn run(self) -> Result<()> {
        // Containers run on without a supervisor.
        if self.detach && self.options.docker.is_none() {
            return self.in_background();
        }
        if self.supervisor {
            // A session of its own: Ctrl-C and the end of the terminal no longer reach it.
            rustix::process::setsid().context("cannot leave the terminal")?;
        }
        let stacks = stack::start_layouts(self.layouts.clone(), &self.options)?;
        if !self.supervisor {
            let states: Vec<State> = stacks.iter().map(Stack::state).collect::<Result<_>>()?;
            self.show(&states)?;
        }
        if self.detach {
            stacks.into_iter().for_each(Stack::leave);
            return say(IN_BACKGROUND);
        }
        if !self.supervisor {
            say("\nCtrl-C ends everything.\n")?;
        }
        stay(stacks)
    }

    fn show(&self, states: &[State]) -> Result<()> {
        say(&(commands::overview(states) + &(self.examples)(states)))
    }

    fn in_background(&self) -> Result<()> {
        let folder = state_folder()?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let log = folder.join(format!("supervisor-{}.log", self.command[1..].join("-")));
        let output =
            OpenOptions::new().create(true).append(true).open(&log).with_context(|| not_ours(&log))?;
        let mut from = output.metadata()?.len();
        let mut child = Command::new(std::env::current_exe()?)
            .args(&self.command)
            .args(["--supervisor", "--port-offset", &self.options.port_offset.to_string()])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the supervisor")?;
        loop {
            let ended = child.try_wait()?;
            from = copy_news(&log, from)?;
            if let Some(status) = ended {
                bail!("it did not start ({status}): see above, or {}", log.display());
            }
            let states = self.ready(&folder, child.id())?;
            if states.len() == self.layouts.len() {
                self.show(&states)?;
                return say(IN_BACKGROUND);
            }
            if let Err(interrupted) = signals::pause(Duration::from_millis(50)) {
                process::signal(child.id(), Signal::TERM);
                child.wait()?;
                return Err(interrupted);
            }
        }
    }

    /// The states that this supervisor has brought to ready.
    fn ready(&self, folder: &Path, supervisor: u32) -> Result<Vec<State>> {
        let mut ready = Vec::new();
        for layout in &self.layouts {
            ready.extend(State::read(&folder.join(&layout.name))?);
        }
        ready.retain(|state| state.ready && state.supervisor.pid == supervisor);
        Ok(ready)
    }
}

/// Until a signal arrives (success) or a child ends (an error, and the others are ended too).
fn stay(mut stacks: Vec<Stack>) -> Result<()> {
    let mut end = Ok(());
    while end.is_ok() && !signals::interrupted() {
        signals::rest(Duration::from_millis(200));
        stacks.iter_mut().for_each(request::carry_out);
        end = stacks.iter_mut().try_for_each(Stack::check);
    }
    if let Err(error) = &end {
        eprintln!("study: {error:#}");
    }
    let step = Step::start("everything ended");
    for stack in stacks {
        stack.stop()?;
    }
    step.done();
    end.map_err(|_| anyhow::anyhow!("ended everything because one process ended by itself (see above)"))
}

/// Copies what the supervisor has written since to stderr.
fn copy_news(log: &Path, from: u64) -> Result<u64> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut news = String::new();
    file.read_to_string(&mut news)?;
    eprint!("{news}");
    Ok(from + news.len() as u64)
}
