//! `down` and `status`: from another terminal, by the state files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::presets::UTF8_FULL_CONDENSED as STYLE;
use comfy_table::{CellAlignment, Table};
use contract::Monitoring;
use contract::Service;
use rustix::process::Signal;

use super::compose::Compose;
use super::output::say;
use super::progress::Step;
use super::state::{self, Entry, Identity, State, outlives};
use super::{Mode, http, modes, process, state_folder};

/// Longer than a stack waits for its services and servers.
const DOWN_LIMIT: Duration = Duration::from_secs(180);

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
    down_in(&state_folder()?)
}

/// Ends the stacks whose folders are `parent` or in it.
pub fn down_in(parent: &Path) -> Result<()> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for folder in folders()?.into_iter().filter(|folder| folder.starts_with(parent)) {
        match State::read(&folder) {
            Ok(state) => found.extend(state.map(|state| (folder, state))),
            Err(error) => {
                eprintln!("study: {error:#}");
                damaged.push(folder);
            }
        }
    }
    // A supervisor ends its processes even if its state file is damaged.
    let holders: Vec<Identity> = damaged.iter().filter_map(|folder| state::holder(folder)).collect();
    // Whether containers are left shows when they are removed.
    if holders.is_empty() && !found.iter().any(|(_, state)| state.compose.is_some() || state.alive()) {
        found.iter().map(|(folder, _)| folder).chain(&damaged).for_each(|folder| State::remove(folder));
        return say("Nothing is running.\n");
    }
    let step = Step::start("everything ended");
    // Both modes may have the same supervisor, and a second signal would make it kill at once.
    let supervisors: HashSet<Identity> =
        found.iter().map(|(_, state)| state.supervisor).chain(holders).collect();
    for supervisor in supervisors.iter().filter(|supervisor| supervisor.alive()) {
        process::signal(supervisor.pid, Signal::TERM);
    }
    wait_for_end(&mut supervisors.into_iter(), DOWN_LIMIT)?;
    for (folder, state) in &found {
        end_orphans(state)?;
        if let Some(compose) = state.compose.as_ref().filter(|_| State::path(folder).is_file()) {
            compose.down(false)?;
        }
        State::remove(folder);
    }
    damaged.iter().for_each(|folder| State::remove(folder));
    step.done();
    Ok(())
}

/// Ends the processes of a supervisor that was killed: services first, then the servers they need.
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
    match outlives(processes, limit)? {
        Some(Identity { pid, .. }) => bail!("pid {pid} does not end; `kill -9 {pid}` forces it"),
        None => Ok(()),
    }
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
        if let Some(compose) = &state.compose {
            say(&containers(state.mode, compose)?)?;
            continue;
        }
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
                state.name.clone(),
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
            "{table}\nThe services of {} together: {resident:.1} MiB resident, {once:.1} MiB with shared pages counted \
             once; the last was ready after {slowest} ms.\n",
            state.name
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns of the other table that the engine knows.
fn containers(mode: Mode, compose: &Compose) -> Result<String> {
    let mut table = table(["container", "mode", "port", "state"]);
    for container in compose.containers()? {
        let port = compose.ports.iter().find(|(name, _)| *name == container.service);
        table.add_row([
            container.service.clone(),
            mode.to_string(),
            port.map(|(_, port)| port.to_string()).unwrap_or_default(),
            container.condition(),
        ]);
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(format!(
        "{table}\nContainers of the project {}; `docker stats` shows their memory.\n",
        compose.project
    ))
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

/// Addresses of all servers and services.
pub fn overview(states: &[State]) -> String {
    let mut ports: Vec<(&str, HashMap<&str, u16>)> = Vec::new();
    for state in states {
        for (service, port) in state.services() {
            match ports.iter_mut().find(|(name, _)| *name == service) {
                Some((_, known)) => _ = known.insert(&state.name, port),
                None => ports.push((service, HashMap::from([(state.name.as_str(), port)]))),
            }
        }
    }
    let mut header = vec!["service".to_owned()];
    header.extend(states.iter().map(|state| state.name.clone()));
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    for (name, known) in &ports {
        let mut row = vec![(*name).to_owned()];
        row.extend(states.iter().map(|state| {
            known.get(state.name.as_str()).map_or(String::new(), |port| format!("http://127.0.0.1:{port}"))
        }));
        table.add_row(row);
    }
    let mut text = format!("{table}\nEach has /docs, /health, /ready, /metrics.\n");
    let mut boards_are_missing = false;
    for state in states {
        text += &format!("PostgreSQL ({}): {}\n", state.name, state.database_url);
        if let Some((server, address)) = modes::broker(state.mode).zip(state.broker.as_ref()) {
            text += &match state.broker_metrics_port {
                Some(metrics) => {
                    let (login, page) = split_login(&address.admin_url);
                    format!(
                        "{} management: {page} ({login}); metrics: http://127.0.0.1:{metrics}/metrics\n",
                        server.title()
                    )
                }
                None => format!("{}: {}\n", server.title(), address.client_url),
            };
        }
        let containers = state.compose.iter().flat_map(|compose| &compose.ports);
        let processes = state.processes.iter().map(|entry| (entry.name.as_str(), entry.port));
        let ports = containers.map(|(name, port)| (name.as_str(), *port)).chain(processes);
        let monitoring: Vec<String> = ports
            .filter(|(name, _)| Monitoring::ALL.iter().any(|known| known.name() == *name))
            .map(|(name, port)| format!("{name} http://127.0.0.1:{port}"))
            .collect();
        if !monitoring.is_empty() {
            text += &format!("Monitoring ({}): {}\n", state.name, monitoring.join(", "));
        }
        boards_are_missing |= monitoring.len() == 1;
    }
    if boards_are_missing {
        text += "Grafana is not installed here: for its boards, ./study up --docker\n";
    }
    text
}

/// Requests to try on the study's services.
pub fn examples(states: &[State]) -> String {
    let mut text = "\nTry:\n".to_owned();
    for state in states {
        let services = state.services();
        let port =
            |name: &str| services.iter().find(|(service, _)| *service == name).map_or(0, |(_, port)| *port);
        let json = "-H 'content-type: application/json'";
        text += &format!(
            "  curl -i http://127.0.0.1:{}/register {json} -d '{{\"email\":\"ada@example.com\"}}'   # {}\n",
            port(Service::User.name()),
            state.mode
        );
        text += &format!(
            "  curl -i http://127.0.0.1:{}/create_order {json} -d '{{\"product_id\":1,\"quantity\":1}}'   # {}\n",
            port(Service::Order.name()),
            state.mode
        );
    }
    text
}

/// `user, password` and the URL without them.
fn split_login(url: &str) -> (String, String) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?)));
    match parts {
        Some((scheme, (login, rest))) => (login.replacen(':', ", ", 1), format!("{scheme}://{rest}")),
        None => (String::new(), url.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_is_cut_out_of_a_url() {
        let split = split_login("http://guest:guest@127.0.0.1:15672");
        assert_eq!(split, ("guest, guest".to_owned(), "http://127.0.0.1:15672".to_owned()));
    }
}
