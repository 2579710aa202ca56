//! The services of a stack: their environment, and when they are ready.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contract::Service;
use rustix::process::Signal;

use super::layout::{Layout, Member};
use super::process::{self, Process};
use super::run_as::Account;
use super::{http, signals};

/// The same for all services of a stack.
pub struct Setting<'a> {
    pub layout: &'a Layout,
    pub programs: &'a Path,
    pub logs: &'a Path,
    /// `host:port/database` of PostgreSQL.
    pub database: &'a str,
    /// Settings with the broker's address; without a broker services call each other.
    pub broker: Option<Vec<(&'static str, String)>>,
    pub journal: Option<&'a Path>,
    pub env: &'a [(String, String)],
    pub env_of: &'a [(&'static str, String, String)],
    pub ports: &'a [u16],
}

/// Settings of the caller's shell that would point a service elsewhere; delays and the like may come from there.
const NOT_INHERITED: [&str; 18] = [
    "COMM_MODE",
    "PROFILE",
    "LISTEN_ADDR",
    "DB_SCHEMA",
    "DATABASE_URL",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
    "AMQP_URL",
    "RABBITMQ_HOST",
    "RABBITMQ_PORT",
    "RABBITMQ_USER",
    "RABBITMQ_PASSWORD",
    "RABBITMQ_VHOST",
    "KAFKA_BOOTSTRAP",
    "KAFKA_PREFIX",
];

/// `more` is environment for this start alone; it overrides all other.
pub fn start(
    service: &Member,
    port: u16,
    setting: &Setting<'_>,
    more: &[(String, String)],
) -> Result<Process> {
    let program = setting.programs.join(service.program);
    if !program.is_file() {
        bail!("{} is not built: run `cargo build --workspace`", program.display());
    }
    let mut command = Account::CALLER.command(&program, "TERM");
    set_environment(&mut command, service, port, setting);
    command.envs(more.iter().map(|(name, value)| (name, value)));
    Process::spawn(
        service.name,
        port,
        setting.logs.join(format!("{}.log", service.name)),
        Signal::TERM,
        &mut command,
    )
}

fn set_environment(command: &mut Command, service: &Member, port: u16, setting: &Setting<'_>) {
    let layout = setting.layout;
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    for variable in layout.members.iter().flat_map(|member| &member.url_variable) {
        command.env_remove(variable);
    }
    command
        .env("COMM_MODE", layout.mode.to_string())
        .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
        .env("DATABASE_URL", format!("postgres://{0}:{0}@{1}", service.login, setting.database))
        // A log file needs no colour codes.
        .env("NO_COLOR", "1");
    match &setting.broker {
        Some(settings) => _ = command.envs(settings.iter().map(|(name, value)| (name, value))),
        None => {
            for (peer, port) in layout.members.iter().zip(setting.ports) {
                let url = || format!("http://127.0.0.1:{port}");
                command.envs(peer.url_variable.iter().map(|variable| (variable, url())));
            }
        }
    }
    command.envs(layout.env.iter().map(|(name, value)| (name, value)));
    command.envs(setting.journal.map(|dir| ("JOURNAL_DIR", dir)));
    command.envs(setting.env.iter().map(|(name, value)| (name, value)));
    let own = setting.env_of.iter().filter(|(of, ..)| *of == service.name);
    command.envs(own.map(|(_, name, value)| (name, value)));
}

/// Waits until each answers 200 on `/ready`.
pub fn wait(services: &mut [Process], limit: Duration) -> Result<()> {
    let agent = http::agent(Duration::from_secs(2));
    let deadline = Instant::now() + limit;
    loop {
        let mut missing = None;
        for service in services.iter_mut() {
            service.check()?;
            if service.ready_after.is_some() {
                continue;
            }
            match http::get(&agent, &format!("http://127.0.0.1:{}/ready", service.port)) {
                Ok((200, _)) => service.ready_after = Some(service.started.elapsed()),
                Ok((status, body)) => missing = Some((service, format!("{status} {body}"))),
                Err(error) => missing = Some((service, error.to_string())),
            }
        }
        let Some((service, answer)) = missing else { return Ok(()) };
        if Instant::now() > deadline {
            let end = process::tail(&service.log, 12);
            bail!(
                "{} is not ready after {limit:?}: {answer}; its log ({}) ends:{end}",
                service.name,
                service.log.display()
            );
        }
        signals::pause(Duration::from_millis(20))?;
    }
}

/// The service that `name` means; `user` means `userservice`.
pub fn find(name: &str) -> Result<Service> {
    Service::find(name).with_context(|| {
        format!("there is no service {name}: {}", Service::ALL.map(Service::name).join(", "))
    })
}
