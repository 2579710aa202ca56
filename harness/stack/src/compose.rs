//! A whole mode in containers: the project's compose files, through `docker compose`. [`Compose`] is a project with its files and
//! variables, which is stored in state.json; [`Containers`] is one that a stack has claimed.

pub mod config;
mod containers;
mod environment;
pub mod watch;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use contract::Service;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

pub use config::Login;
pub use containers::Containers;
pub use watch::Container;

use super::process::{on_path, run_to_end, signal_group};
use super::run_as::Account;
use super::{Mode, StackOptions, modes, not_ours, project_root, signals};
use config::Effective;

/// Where the services' journals are in their containers.
const JOURNAL: &str = "/journal";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compose {
    pub project: String,
    root: PathBuf,
    files: Vec<PathBuf>,
    /// Variables of the files; override the caller's environment and `.env`.
    env: Vec<(String, String)>,
    /// The services to start; all if empty.
    services: Vec<String>,
    /// Its volumes and images go when it ends.
    fresh: bool,
    /// Host port of each service and server.
    pub ports: Vec<(String, u16)>,
}

impl Compose {
    /// `dir` is the stack's folder.
    fn new(project: &str, mode: Mode, options: &StackOptions, dir: &Path) -> Result<Self> {
        let root = project_root()?;
        let mut files = vec![root.join(format!("docker-compose-{mode}.yml"))];
        if let Some(journal) = &options.journal {
            files.push(with_journal(dir, journal)?);
        }
        let mut services = Vec::new();
        if options.fresh {
            services.push("postgres".to_owned());
            services.extend(modes::broker(mode).map(|server| server.name().to_owned()));
        }
        if options.fresh && !options.servers_only {
            services.extend(Service::ALL.iter().map(|service| service.name().to_owned()));
            services.push("gateway".to_owned());
        }
        let env = environment::of(mode, options)?;
        let project = format!("{project}-{mode}");
        Ok(Self { project, root, files, env, services, fresh: options.fresh, ports: Vec::new() })
    }

    fn tell(&self, command: &mut Command) {
        command.arg("compose").arg("--project-directory").arg(&self.root).arg("-p").arg(&self.project);
        for file in &self.files {
            command.arg("-f").arg(file);
        }
        // They would select another project, or other parts of the files.
        for name in ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"] {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    fn ask(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        self.tell(&mut command);
        answer(command.args(args))
    }

    fn config(&self, mode: Mode) -> Result<Effective> {
        let text = self.ask(&["config", "--format", "json"])?;
        Effective::parse(&text, mode, self.services.is_empty())
    }

    /// Builds, starts and waits until all are healthy. Shows the progress of compose.
    fn up(&self) -> Result<()> {
        let mut command = Account::CALLER.command(Path::new("docker"), "TERM");
        self.tell(&mut command);
        command.args(["up", "--build", "--detach", "--wait"]).args(&self.services).stdout(std::io::stderr());
        let status = run_to_end(&mut command)?;
        if !status.success() {
            bail!("docker compose could not bring up {}: see above{}", self.project, self.troubles());
        }
        Ok(())
    }

    /// The ends of the logs of containers that do not run or are unhealthy.
    fn troubles(&self) -> String {
        let containers = self.containers().unwrap_or_default();
        let bad = containers.iter().filter(|container| container.state != "created" && !container.well());
        bad.map(|container| {
            let Container { service, .. } = container;
            format!("\nstudy: {service} is {}; its log ends:{}", container.condition(), self.tail(service))
        })
        .collect()
    }

    fn tail(&self, service: &str) -> String {
        let log = self.ask(&["logs", "--no-color", "--no-log-prefix", "--tail", "12", service]);
        log.unwrap_or_default().lines().map(|line| format!("\n    {}", plain(line))).collect()
    }

    /// All containers, also those that have ended.
    pub fn containers(&self) -> Result<Vec<Container>> {
        watch::parse_ps(&self.ask(&["ps", "--all", "--format", "json"])?)
    }

    /// Stops the containers, servers last, and removes them. A second signal kills them.
    pub fn down(&self, hurry: bool) -> Result<()> {
        let mut command = Command::new("docker");
        self.tell(&mut command);
        command.args(["down", "--remove-orphans"]);
        if self.fresh {
            command.args(["--volumes", "--rmi", "local"]);
        }
        if hurry {
            command.args(["--timeout", "0"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("cannot run docker")?;
        let signals_before = signals::received();
        while child.try_wait()?.is_none() {
            if !hurry && signals::received() > signals_before.max(1) {
                // Compose is a child of `docker`.
                signal_group(child.id(), Signal::KILL);
                child.wait()?;
                return self.down(true);
            }
            signals::rest(std::time::Duration::from_millis(50));
        }
        said(&child.wait_with_output()?, "docker compose down").map(drop)
    }

    /// A command that shows the last `lines` of the logs of some services, or all of them.
    pub fn logs(&self, services: &[&str], lines: Option<usize>, follow: bool) -> Command {
        let mut command = Account::CALLER.command(Path::new("docker"), "TERM");
        self.tell(&mut command);
        let lines = lines.map_or("all".to_owned(), |lines| lines.to_string());
        command.args(["logs", "--no-color", "--tail", &lines]);
        if follow {
            command.arg("--follow");
        }
        if services.len() == 1 {
            command.arg("--no-log-prefix");
        }
        command.args(services).stdin(Stdio::null()).process_group(0);
        command
    }
}

/// A line of a log without the code for a terminal that some versions of compose put before it, even in a pipe.
pub fn plain(line: &str) -> &str {
    line.strip_prefix("\u{1b}[2K").unwrap_or(line)
}

/// The engine's version; an error of one line if this machine cannot run the containers.
pub fn engine() -> Result<String> {
    if on_path("docker").is_none() {
        bail!("docker is not installed: --docker needs Docker Engine and its compose plugin (version 2)");
    }
    answer(Command::new("docker").args(["compose", "version", "--short"]))
        .ok()
        .filter(|version| !version.trim_start_matches('v').starts_with("1."))
        .context("docker has no compose plugin: install version 2 of it (docker-compose-plugin)")?;
    let version = answer(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]));
    let version =
        version.context("the Docker engine does not answer (does it run? may this user use it?)")?;
    Ok(version.trim().to_owned())
}

/// The standard output of a short command. Ctrl-C does not reach the command, so it can end.
fn answer(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).process_group(0).output().context("cannot run docker")?;
    said(&output, "docker")
}

fn said(output: &Output, name: &str) -> Result<String> {
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}", text.trim().lines().last().unwrap_or("it does not say why"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A second compose file that puts the journals' folder into every service.
fn with_journal(dir: &Path, journal: &Path) -> Result<PathBuf> {
    // Services in containers run as a user that this machine does not know.
    fs::set_permissions(journal, Permissions::from_mode(0o777)).with_context(|| not_ours(journal))?;
    let file = dir.join("compose-journal.json");
    fs::write(&file, journal_override(journal)).with_context(|| not_ours(&file))?;
    Ok(file)
}

/// JSON is YAML; a dollar sign would begin a variable.
fn journal_override(journal: &Path) -> String {
    let source = journal.to_string_lossy().replace('$', "$$");
    let service = serde_json::json!({
        "environment": { "JOURNAL_DIR": JOURNAL },
        "volumes": [{ "type": "bind", "source": source, "target": JOURNAL }],
    });
    let services = Service::ALL.iter().map(|of| (of.name().to_owned(), service.clone()));
    serde_json::json!({ "services": serde_json::Map::from_iter(services) }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_gets_the_journal_and_a_dollar_sign_is_no_variable() {
        let text = journal_override(Path::new("/a $b/journal"));
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(file["services"].as_object().unwrap().len(), Service::ALL.len());
        assert_eq!(file["services"]["cacheservice"]["volumes"][0]["source"], "/a $$b/journal");
        assert_eq!(file["services"]["cacheservice"]["environment"]["JOURNAL_DIR"], JOURNAL);
    }

    fn of(options: &StackOptions) -> Compose {
        Compose::new("p", Mode::Async, options, Path::new("/nowhere")).unwrap()
    }

    #[test]
    fn only_what_is_needed_is_started() {
        assert!(of(&StackOptions::default()).services.is_empty());
        let compared = of(&StackOptions { fresh: true, ..StackOptions::default() });
        assert_eq!(compared.services.len(), 13);
        assert!(!compared.services.contains(&"prometheus".to_owned()));
        let servers = of(&StackOptions { fresh: true, servers_only: true, ..StackOptions::default() });
        assert_eq!(servers.services, ["postgres", "rabbitmq"]);
        let stream = StackOptions { fresh: true, servers_only: true, ..StackOptions::default() };
        let stream = Compose::new("p", Mode::Stream, &stream, Path::new("/nowhere")).unwrap();
        assert_eq!(stream.services, ["postgres", "kafka"]);
    }

    #[test]
    fn another_project_is_neither_taken_over_nor_named_by_the_environment() {
        let compose = of(&StackOptions::default());
        let mut command = Command::new("docker");
        compose.tell(&mut command);
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert!(args.windows(2).any(|pair| pair == ["-p", "p-async"]), "{args:?}");
        assert!(args.last().unwrap().ends_with("/docker-compose-async.yml"), "{args:?}");
        assert!(command.get_envs().any(|(name, value)| name == "COMPOSE_PROJECT_NAME" && value.is_none()));
    }
}
