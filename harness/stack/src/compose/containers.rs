//! The containers of one stack, from the claim on the project's name to their removal.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use contract::Monitoring;
use contract::Service;

use super::config::{Effective, Login};
use super::watch::{Death, Watch};
use super::{Compose, answer, engine};
use crate::ports::Ports;
use crate::{Mode, StackOptions, http, signals};

/// From healthy to reachable through the gateway.
const READY_LIMIT: Duration = Duration::from_secs(60);

pub struct Containers {
    pub compose: Compose,
    pub postgres: Login,
    pub database: String,
    pub broker: Option<Login>,
    /// Containers may run.
    started: bool,
    /// Each service has answered.
    pub ready: bool,
    watch: Option<Watch>,
}

impl Containers {
    /// Also returns the ports that they will have. Nothing runs yet.
    pub fn claim(project: &str, mode: Mode, options: &StackOptions, dir: &Path) -> Result<(Self, Ports)> {
        engine()?;
        let mut compose = Compose::new(project, mode, options, dir)?;
        compose.claim()?;
        let effective = compose.config(mode)?;
        let ports = effective.ports;
        let services = Service::ALL.iter().map(|service| service.name()).zip(&ports.services);
        let monitoring = Monitoring::ALL.map(Monitoring::name).into_iter().zip(&ports.monitoring);
        let servers = [("postgres", &ports.postgres)].into_iter();
        let broker = ports.broker.as_ref().map(|broker| (broker.server.name(), &broker.client));
        compose.ports = services
            .filter(|_| !options.servers_only)
            .chain(servers)
            .chain(broker)
            .chain(monitoring)
            .map(|(name, port)| (name.to_owned(), *port))
            .collect();
        let Effective { postgres, database, broker, .. } = effective;
        Ok((Self { compose, postgres, database, broker, started: false, ready: false, watch: None }, ports))
    }

    /// Builds and starts the containers, and watches them.
    pub fn up(&mut self) -> Result<()> {
        self.started = true;
        self.compose.up()?;
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
        self.watch = Some(Watch::start(&self.compose.project, now.as_secs())?);
        Ok(())
    }

    /// Waits until each service answers 200 on `/ready` on its host port.
    pub fn wait(&mut self, services: &[u16]) -> Result<()> {
        let agent = http::agent(Duration::from_secs(2));
        let deadline = Instant::now() + READY_LIMIT;
        for (service, port) in Service::ALL.iter().zip(services) {
            loop {
                let answer = match http::get(&agent, &format!("http://127.0.0.1:{port}/ready")) {
                    Ok((200, _)) => break,
                    Ok((status, body)) => format!("{status} {body}"),
                    Err(error) => error.to_string(),
                };
                self.check()?;
                if Instant::now() > deadline {
                    bail!("{} is healthy, but not ready on port {port}: {answer}", service.name());
                }
                signals::pause(Duration::from_millis(100))?;
            }
        }
        self.ready = true;
        Ok(())
    }

    /// An error if a container of a measured stack has ended, also if the engine started it again: its figures are then invalid.
    /// The user may scale, stop and start the containers of `up`, so there it is only a message.
    pub fn check(&mut self) -> Result<()> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        while let Some(Death { service, exit_code }) = watch.take()? {
            if self.compose.fresh {
                let tail = self.compose.tail(&service);
                bail!(
                    "the container of {service} ended by itself (exit code {exit_code}); its log ends:{tail}"
                );
            }
            eprintln!(
                "study: a container of {service} ended (exit code {exit_code}); compose starts it again if it failed"
            );
        }
        Ok(())
    }

    /// Leaves them running, for `./study down`.
    pub fn leave(&mut self) {
        self.started = false;
        self.watch = None;
    }

    /// `hurry`: kills at once, without waiting for the running work of the services.
    pub fn end(&mut self, hurry: bool) -> Result<()> {
        self.watch = None;
        if self.started {
            self.compose.down(hurry)?;
            self.started = false;
        }
        Ok(())
    }

    pub fn started(&self) -> bool {
        self.started
    }
}

impl Compose {
    /// Removes the containers of a killed run if they were for that run alone; `false` if they may be in use.
    pub fn remove_left_over(&self) -> Result<bool> {
        if self.fresh {
            self.down(true)?;
        }
        Ok(self.fresh)
    }

    /// Refuses a project that is in use, and removes what a killed run left of a fresh one.
    fn claim(&self) -> Result<()> {
        let project = &self.project;
        let label = format!("label=com.docker.compose.project={project}");
        let format = "{{.State}}\t{{.Label \"com.docker.compose.project.working_dir\"}}";
        let found =
            answer(Command::new("docker").args(["ps", "--all", "--filter", &label, "--format", format]))?;
        let found: Vec<(&str, &str)> = found.lines().filter_map(|line| line.split_once('\t')).collect();
        if let Some((_, stranger)) = found.iter().find(|(_, folder)| Path::new(folder) != self.root) {
            bail!("{project} is in use, from {stranger}: end it there (docker compose -p {project} down)");
        }
        if self.fresh {
            return if found.is_empty() { Ok(()) } else { self.down(true) };
        }
        if found.iter().any(|(state, _)| *state == "running") {
            bail!("{project} runs already: end it with `docker compose -p {project} down`");
        }
        Ok(())
    }
}
