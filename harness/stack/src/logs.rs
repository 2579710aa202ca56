//! `./study logs`: of processes from their files, of containers from compose.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use contract::Monitoring;

use super::compose::{Compose, plain};
use super::log_format::readable;
use super::output::say;
use super::process::KillOnDrop;
use super::state::State;
use super::{Mode, modes, services, signals, state_folder};

#[derive(Args)]
pub struct LogsArgs {
    /// A service (`user` or `userservice`), `postgresql` or `rabbitmq`, of containers also `gateway`, `prometheus`,
    /// `grafana` or `cadvisor`; all services by default.
    service: Option<String>,

    /// Go on with what comes, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,

    /// Of one architecture only.
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// Begin with the last N lines of each.
    #[arg(short = 'n', long, default_value_t = 40, value_name = "N")]
    lines: usize,

    /// Unformatted, for programs.
    #[arg(long)]
    json: bool,
}

/// Where logs are.
#[derive(Default)]
pub struct Sources {
    /// Of processes: mode, name, file.
    pub files: Vec<(Mode, String, PathBuf)>,
    pub containers: Vec<(Mode, Compose)>,
}

pub fn logs(args: &LogsArgs) -> Result<()> {
    let names = names(args.service.as_deref())?;
    let Sources { files, containers } = sources(args.mode, &names)?;
    let mut files: Vec<(String, PathBuf)> =
        files.into_iter().map(|(mode, name, file)| (format!("{mode} {name}"), file)).collect();
    let several = containers.len() > 1 || !files.is_empty();
    let mut shown = Vec::new();
    for (mode, compose) in containers {
        let label = if several { format!("{mode} ") } else { String::new() };
        let log = Shown::start(label, of_containers(&compose, &names, args), args.json)?;
        if args.follow { shown.push(log) } else { log.finish()? }
    }
    // One file needs no names before its lines.
    let mut files: Vec<(String, PathBuf, u64)> = match &mut files[..] {
        [(_, file)] if shown.is_empty() => vec![(String::new(), file.clone(), 0)],
        _ => files.into_iter().map(|(label, file)| (format!("{label:<22} | "), file, 0)).collect(),
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

/// The logs of the processes or containers with these names, of all modes if none is given.
pub fn sources(mode: Option<Mode>, names: &[&str]) -> Result<Sources> {
    let root = state_folder()?;
    let mut found = Sources::default();
    for mode in Mode::ALL.into_iter().filter(|of| mode.is_none_or(|wanted| wanted == *of)) {
        let folder = root.join(mode.to_string());
        if let Some(compose) = State::read(&folder)?.and_then(|state| state.compose) {
            found.containers.push((mode, compose));
            continue;
        }
        let file = |name: &&str| (mode, (*name).to_owned(), folder.join(format!("logs/{name}.log")));
        found.files.extend(names.iter().map(file).filter(|(.., file)| file.is_file()));
    }
    if found.files.is_empty() && found.containers.is_empty() {
        bail!("no logs yet: `./study up` writes them");
    }
    Ok(found)
}

/// The names of the log files.
fn names(service: Option<&str>) -> Result<Vec<&str>> {
    Ok(match service {
        Some("postgres" | "postgresql") => vec!["postgresql"],
        Some("gateway") => vec!["gateway"],
        Some(name) if is_server(name) => vec![name],
        Some(service) => vec![services::find(service)?.name()],
        None => contract::Service::ALL.map(contract::Service::name).to_vec(),
    })
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
