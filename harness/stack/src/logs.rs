//! `./study logs`: of processes from their files, of containers from compose.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use contract::{Monitoring, campus};

use super::compose::{Compose, plain};
use super::log_format::readable;
use super::output::say;
use super::process::KillOnDrop;
use super::state::State;
use super::{Layout, Mode, modes, signals, state_folder};

#[derive(Args)]
pub struct LogsArgs {
    /// A service (`user` or `userservice`; of the campus lab as its compose file calls it), `postgresql` or `rabbitmq`, of containers
    /// also `gateway`, `prometheus`, `grafana` or `cadvisor`; all services by default.
    service: Option<String>,

    /// Go on with what comes, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    of: Which,

    /// Begin with the last N lines of each.
    #[arg(short = 'n', long, default_value_t = 40, value_name = "N")]
    lines: usize,

    /// Unformatted, for programs.
    #[arg(long)]
    json: bool,
}

/// Whose logs are wanted.
#[derive(Args)]
pub struct Which {
    /// Of one architecture only.
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// Of one stack of the campus lab only.
    #[arg(long, value_enum, conflicts_with = "mode")]
    campus: Option<campus::Stack>,
}

impl Which {
    /// All stacks if none is named.
    fn layouts(&self) -> Vec<Layout> {
        let lab = |stack| Layout::campus(stack, false);
        match (self.mode, self.campus) {
            (Some(mode), _) => vec![Layout::study(mode)],
            (_, Some(stack)) => vec![lab(stack)],
            _ => Mode::ALL.map(Layout::study).into_iter().chain(campus::Stack::ALL.map(lab)).collect(),
        }
    }
}

/// The logs of a stack.
pub struct Logs {
    /// Of the stack.
    pub name: String,
    pub mode: Mode,
    pub source: Source,
}

/// Where logs are.
pub enum Source {
    /// Of processes: name and file.
    Files(Vec<(String, PathBuf)>),
    Containers(Box<Compose>),
}

impl Logs {
    /// Of those of these processes that have a log in the folder `logs` of a stack.
    pub fn of_processes(layout: &Layout, logs: &Path, names: &[&str]) -> Self {
        let file = |name: &&str| ((*name).to_owned(), logs.join(format!("{name}.log")));
        let files = names.iter().map(file).filter(|(_, file)| file.is_file()).collect();
        Self { name: layout.name.clone(), mode: layout.mode, source: Source::Files(files) }
    }

    fn is_empty(&self) -> bool {
        matches!(&self.source, Source::Files(files) if files.is_empty())
    }
}

pub fn logs(args: &LogsArgs) -> Result<()> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    let mut containers = Vec::new();
    let layouts = args.of.layouts();
    if let Some(service) = &args.service
        && layouts.iter().all(|layout| names(layout, Some(service)).is_none())
    {
        let all: BTreeSet<_> = layouts.iter().flat_map(Layout::names).collect();
        bail!("there is no service {service}: {}", Vec::from_iter(all).join(", "));
    }
    let found = of_stacks(&args.of, |layout| names(layout, args.service.as_deref()))?;
    for (Logs { name, source, .. }, names) in found {
        match source {
            Source::Files(of) => {
                files.extend(of.into_iter().map(|(log, file)| (format!("{name} {log}"), file)));
            }
            Source::Containers(compose) => containers.push((name, compose, names)),
        }
    }
    let several = containers.len() > 1 || !files.is_empty();
    let mut shown = Vec::new();
    for (name, compose, names) in containers {
        let label = if several { format!("{name} ") } else { String::new() };
        let log = Shown::start(label, of_containers(&compose, &names, args), args.json)?;
        if args.follow { shown.push(log) } else { log.finish()? }
    }
    let width = files.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    // One file needs no names before its lines.
    let mut files: Vec<(String, PathBuf, u64)> = match &mut files[..] {
        [(_, file)] if shown.is_empty() => vec![(String::new(), file.clone(), 0)],
        _ => files.into_iter().map(|(label, file)| (format!("{label:<width$} | "), file, 0)).collect(),
    };
    for (label, file, at) in &mut files {
        let text = read_from(file, 0)?;
        *at = text.len() as u64;
        let lines: Vec<&str> = text.lines().collect();
        print_lines(label, &lines[lines.len().saturating_sub(args.lines)..], args.json)?;
    }
    while args.follow && !signals::interrupted() && !(files.is_empty() && shown.iter_mut().all(Shown::ended))
    {
        signals::rest(Duration::from_millis(200));
        for (label, file, at) in &mut files {
            if file.metadata().map_or(0, |data| data.len()) < *at {
                // The file was emptied by a new start.
                *at = 0;
            }
            let text = read_from(file, *at)?;
            // An incomplete line waits for its end.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            *at += whole as u64;
            print_lines(label, &text[..whole].lines().collect::<Vec<_>>(), args.json)?;
        }
    }
    Ok(())
}

/// The logs of the services of the wanted stacks.
///
/// # Errors
/// When there are none, or a state file cannot be read.
pub fn of_services(which: &Which) -> Result<Vec<Logs>> {
    let found = of_stacks(which, |layout| Some(layout.names()))?;
    Ok(found.into_iter().map(|(logs, _)| logs).collect())
}

/// The logs with the wanted names in each stack, and these names; `wanted` is `None` for a stack that has no such name.
fn of_stacks<'a>(
    which: &Which,
    wanted: impl Fn(&Layout) -> Option<Vec<&'a str>>,
) -> Result<Vec<(Logs, Vec<&'a str>)>> {
    let root = state_folder()?;
    let mut found = Vec::new();
    for layout in which.layouts() {
        let Some(names) = wanted(&layout) else { continue };
        let folder = root.join(&layout.name);
        let logs = match State::read(&folder)?.and_then(|state| state.compose) {
            Some(compose) => {
                Logs { name: layout.name, mode: layout.mode, source: Source::Containers(Box::new(compose)) }
            }
            None => Logs::of_processes(&layout, &folder.join("logs"), &names),
        };
        if !logs.is_empty() {
            found.push((logs, names));
        }
    }
    if found.is_empty() {
        bail!("no logs yet: `./study up` and `./study campus up` write them");
    }
    Ok(found)
}

/// The names of the log files of a stack; `None` if it has no such service or server.
fn names<'a>(layout: &Layout, service: Option<&'a str>) -> Option<Vec<&'a str>> {
    let Some(service) = service else { return Some(layout.names()) };
    match service {
        "postgres" | "postgresql" => Some(vec!["postgresql"]),
        "gateway" => Some(vec!["gateway"]),
        name if is_server(name) => Some(vec![name]),
        name => {
            let of_study = || layout.find(contract::Service::find(name)?.name());
            Some(vec![layout.find(name).or_else(of_study)?.1.name])
        }
    }
}

fn is_server(name: &str) -> bool {
    let mut brokers = Mode::ALL.into_iter().filter_map(modes::broker);
    brokers.any(|server| server.name() == name || server.helpers().contains(&name))
        || Monitoring::ALL.iter().any(|server| server.name() == name)
}

fn of_containers(compose: &Compose, names: &[&str], args: &LogsArgs) -> Command {
    let names: Vec<&str> =
        names.iter().map(|name| if *name == "postgresql" { "postgres" } else { name }).collect();
    compose.logs(&names, Some(args.lines), args.follow)
}

/// A `docker compose logs` whose lines are printed; it ends when this is dropped.
struct Shown {
    /// `docker` and its child compose are in one process group.
    child: KillOnDrop,
    reader: JoinHandle<Result<()>>,
}

impl Shown {
    fn start(label: String, mut command: Command, json: bool) -> Result<Self> {
        let child = command.stdout(Stdio::piped()).spawn().context("cannot run docker compose logs")?;
        let mut child = KillOnDrop(child);
        let output = child.0.stdout.take().context("docker compose logs has no standard output")?;
        let read = move || {
            for line in BufReader::new(output).split(b'\n') {
                print_lines(&label, &[plain(&String::from_utf8_lossy(&line?))], json)?;
            }
            Ok(())
        };
        Ok(Self { child, reader: std::thread::spawn(read) })
    }

    fn ended(&mut self) -> bool {
        self.reader.is_finished()
    }

    /// Until it has shown all.
    fn finish(mut self) -> Result<()> {
        while !self.ended() {
            signals::pause(Duration::from_millis(20))?;
        }
        let status = self.child.0.wait()?;
        if !status.success() {
            bail!("docker compose logs failed: see above");
        }
        Ok(())
    }
}

fn read_from(path: &Path, at: u64) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn print_lines(label: &str, lines: &[&str], json: bool) -> Result<()> {
    let shown = |line: &&str| if json { (*line).to_owned() } else { readable(line) };
    say(&lines.iter().map(|line| format!("{label}{}\n", shown(line))).collect::<String>())
}
