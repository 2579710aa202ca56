//! `down`, `status` and `logs`: from another terminal, by what the state files say.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED as STYLE;
use comfy_table::{CellAlignment, Table};
use rustix::process::Signal;

use super::progress::Step;
use super::state::{self, Entry, Identity, State};
use super::supervise::say;
use super::{Mode, http, process, services, signals, state_folder};

/// Longer than a stack gives its services and its servers.
const DOWN_LIMIT: Duration = Duration::from_secs(180);

#[derive(Args)]
pub struct LogsArgs {
    /// A service (`user` or `userservice`), `postgresql` or `rabbitmq`; all services if not said.
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
}

/// Every folder in which a run can have left its state.
fn folders() -> Result<Vec<PathBuf>> {
    let root = state_folder()?;
    let mut folders = vec![root.clone()];
    for depth in 0..2 {
        let known = folders.clone();
        for folder in
            known.iter().filter(|folder| folder.components().count() == root.components().count() + depth)
        {
            folders
                .extend(std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    folders.retain(|folder| State::path(folder).is_file());
    Ok(folders)
}

pub fn down() -> Result<()> {
    let mut found = Vec::new();
    for folder in folders()? {
        found.extend(State::read(&folder)?.map(|state| (folder, state)));
    }
    if !found.iter().any(|(_, state)| state.alive()) {
        found.iter().for_each(|(folder, _)| State::remove(folder));
        return say("Nothing is running.\n");
    }
    let step = Step::start("everything ended");
    // Both modes may have the same one, and a second signal would mean: without waiting.
    let supervisors: HashSet<Identity> = found.iter().map(|(_, state)| state.supervisor).collect();
    for supervisor in supervisors.iter().filter(|supervisor| supervisor.alive()) {
        process::signal(supervisor.pid, Signal::TERM);
    }
    wait_for_end(&mut supervisors.into_iter(), DOWN_LIMIT)?;
    for (folder, state) in &found {
        end_orphans(state)?;
        State::remove(folder);
    }
    step.done();
    Ok(())
}

/// What a supervisor left that was itself killed: services first, then the servers they need.
fn end_orphans(state: &State) -> Result<()> {
    for service in [true, false] {
        let orphans: Vec<&Entry> = state
            .processes
            .iter()
            .filter(|entry| entry.service == service && entry.identity.alive())
            .collect();
        for orphan in &orphans {
            let signal = if orphan.stop_signal == Signal::INT.as_raw() { Signal::INT } else { Signal::TERM };
            process::signal(orphan.identity.pid, signal);
        }
        if wait_for_end(&mut orphans.iter().map(|entry| entry.identity), Duration::from_secs(60)).is_err() {
            for orphan in orphans.iter().filter(|entry| entry.identity.alive()) {
                process::signal_group(orphan.identity.pid, Signal::KILL);
            }
            wait_for_end(&mut orphans.iter().map(|entry| entry.identity), Duration::from_secs(10))?;
        }
    }
    Ok(())
}

fn wait_for_end(processes: &mut dyn Iterator<Item = Identity>, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    for process in processes {
        while process.alive() {
            if Instant::now() > deadline {
                bail!("pid {} does not end; `kill -9 {}` forces it", process.pid, process.pid);
            }
            signals::pause(Duration::from_millis(30))?;
        }
    }
    Ok(())
}

/// Exit code 3, as `systemctl status` has it, when nothing runs.
pub fn status() -> Result<ExitCode> {
    let mut states = Vec::new();
    for folder in folders()? {
        states.extend(State::read(&folder)?.filter(State::alive));
    }
    if states.is_empty() {
        say("Nothing is running. `./study up` starts it.\n")?;
        return Ok(ExitCode::from(3));
    }
    let agent = http::agent(Duration::from_secs(2));
    for state in &states {
        let mut table = table(["process", "mode", "pid", "port", "state", "MiB", "ready after"]);
        let mut total = [0.0, 0.0];
        let mut slowest = 0;
        for entry in &state.processes {
            let resident = state::resident(entry.identity.pid).filter(|_| entry.identity.alive());
            if entry.service {
                total[0] += resident.unwrap_or(0.0);
                total[1] += state::proportional(entry.identity.pid).unwrap_or(0.0);
                slowest = slowest.max(entry.ready_after_ms.unwrap_or(0));
            }
            table.add_row([
                entry.name.clone(),
                state.mode.to_string(),
                entry.identity.pid.to_string(),
                entry.port.to_string(),
                condition(&agent, entry),
                resident.map(|mib| format!("{mib:.1}")).unwrap_or_default(),
                entry.ready_after_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            ]);
        }
        for column in [2, 3, 5, 6] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let [resident, once] = total;
        say(&format!(
            "{table}\nThe ten {} services together: {resident:.1} MiB resident, {once:.1} MiB with shared pages counted \
             once; the last was ready after {slowest} ms.\n",
            state.mode
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn condition(agent: &ureq::Agent, entry: &Entry) -> String {
    if !entry.identity.alive() {
        return "ended".to_owned();
    }
    if !entry.service {
        return "running".to_owned();
    }
    match http::get(agent, &format!("http://127.0.0.1:{}/ready", entry.port)) {
        Ok((200, _)) => "ready".to_owned(),
        Ok((status, body)) => format!("not ready ({status}): {}", body.chars().take(120).collect::<String>()),
        Err(error) => format!("no answer: {error}"),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    table
}

/// Where everything is, and what to try.
pub fn overview(states: &[State]) -> String {
    let mut ports: Vec<(&str, HashMap<Mode, u16>)> = Vec::new();
    for state in states {
        for entry in state.processes.iter().filter(|entry| entry.service) {
            match ports.iter_mut().find(|(name, _)| *name == entry.name) {
                Some((_, known)) => _ = known.insert(state.mode, entry.port),
                None => ports.push((&entry.name, HashMap::from([(state.mode, entry.port)]))),
            }
        }
    }
    let mut header = vec!["service".to_owned()];
    header.extend(states.iter().map(|state| state.mode.to_string()));
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    for (name, known) in &ports {
        let mut row = vec![(*name).to_owned()];
        row.extend(states.iter().map(|state| {
            known.get(&state.mode).map_or(String::new(), |port| format!("http://127.0.0.1:{port}"))
        }));
        table.add_row(row);
    }
    let mut text = format!("{table}\nEach has /docs, /health, /ready, /metrics.\n");
    for state in states {
        text += &format!("PostgreSQL ({}): {}\n", state.mode, state.database_url);
        if let (Some(management), Some(prometheus)) = (&state.management_url, state.prometheus_port) {
            let page = management.replace("guest:guest@", "");
            text += &format!(
                "RabbitMQ management: {page} (guest, guest); metrics: http://127.0.0.1:{prometheus}/metrics\n"
            );
        }
    }
    text += "\nTry:\n";
    for state in states {
        let port = |name: &str| {
            state.processes.iter().find(|entry| entry.name == name).map_or(0, |entry| entry.port)
        };
        let json = "-H 'content-type: application/json'";
        text += &format!(
            "  curl -i http://127.0.0.1:{}/register {json} -d '{{\"email\":\"ada@example.com\"}}'   # {}\n",
            port("userservice"),
            state.mode
        );
        text += &format!(
            "  curl -i http://127.0.0.1:{}/create_order {json} -d '{{\"product_id\":1,\"quantity\":1}}'   # {}\n",
            port("orderservice"),
            state.mode
        );
    }
    text
}

pub fn logs(args: &LogsArgs) -> Result<()> {
    let root = state_folder()?;
    let name = match args.service.as_deref() {
        Some(server @ ("postgresql" | "rabbitmq" | "epmd")) => Some(server.to_owned()),
        Some(service) => Some(services::find(service)?.name.to_owned()),
        None => None,
    };
    let mut files = Vec::new();
    for mode in
        [Mode::Sync, Mode::Async].into_iter().filter(|mode| args.mode.is_none_or(|wanted| wanted == *mode))
    {
        let folder = root.join(mode.to_string()).join("logs");
        let wanted = name.as_ref().map_or_else(
            || services::SERVICES.iter().map(|service| service.name.to_owned()).collect(),
            |name| vec![name.clone()],
        );
        files.extend(
            wanted.into_iter().map(|name| (format!("{mode} {name}"), folder.join(format!("{name}.log")))),
        );
    }
    files.retain(|(_, file)| file.is_file());
    if files.is_empty() {
        bail!("no logs yet: `./study up` writes them");
    }
    // One file needs no names before its lines.
    let mut files: Vec<(String, PathBuf, u64)> = match &mut files[..] {
        [(_, file)] => vec![(String::new(), file.clone(), 0)],
        _ => files.into_iter().map(|(label, file)| (format!("{label:<22} | "), file, 0)).collect(),
    };
    for (label, file, at) in &mut files {
        let text = read_from(file, 0)?;
        *at = text.len() as u64;
        let lines: Vec<&str> = text.lines().collect();
        print_lines(label, &lines[lines.len().saturating_sub(args.lines)..])?;
    }
    while args.follow && !signals::interrupted() {
        signals::rest(Duration::from_millis(200));
        for (label, file, at) in &mut files {
            if file.metadata().map_or(0, |data| data.len()) < *at {
                // It was started anew.
                *at = 0;
            }
            let text = read_from(file, *at)?;
            // Half a line waits for its end.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            *at += whole as u64;
            print_lines(label, &text[..whole].lines().collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

fn read_from(path: &Path, at: u64) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn print_lines(label: &str, lines: &[&str]) -> Result<()> {
    say(&lines.iter().map(|line| format!("{label}{line}\n")).collect::<String>())
}
