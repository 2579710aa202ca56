//! One process of a stack at a time, while the others go on: ended, held, started again. For whoever tests what
//! happens then.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::process::{self, Process};
use super::stack::{SERVER_LIMIT, Stack};
use super::state::{self, Identity};
use super::{postgres, rabbitmq, signals};

/// What a service that ended by itself left behind.
pub struct Ended {
    pub name: String,
    pub status: ExitStatus,
    pub log_tail: String,
}

impl Stack {
    fn running(&mut self, name: &str) -> Result<&mut Process> {
        let mut all = self.services.iter_mut().chain(&mut self.servers);
        all.find(|process| process.name == name).with_context(|| format!("{name} does not run"))
    }

    fn take(&mut self, name: &str) -> Result<Process> {
        for processes in [&mut self.services, &mut self.servers] {
            if let Some(at) = processes.iter().position(|process| process.name == name) {
                return Ok(processes.remove(at));
            }
        }
        bail!("{name} does not run")
    }

    pub fn pid(&mut self, name: &str) -> Result<u32> {
        self.running(name).map(|process| process.pid())
    }

    /// SIGKILL. It is gone when this returns.
    pub fn kill_service(&mut self, name: &str) -> Result<()> {
        self.take(name)?.kill();
        self.save()
    }

    /// SIGTERM, and SIGKILL to what still runs after `limit`; how it ended.
    pub fn stop_service(&mut self, name: &str, limit: Duration) -> Result<Option<ExitStatus>> {
        let mut process = self.take(name)?;
        process.ask_to_stop();
        process.wait_or_kill(limit);
        self.save()?;
        Ok(process.exited())
    }

    /// Starts a service that does not run, with `more` environment; does not wait for it.
    pub fn start_again(&mut self, name: &str, more: &[(String, String)]) -> Result<()> {
        let started = self.start_service(name, more)?;
        self.services.push(started);
        self.save()
    }

    /// Where the binaries are of services that are started from now on.
    pub fn use_programs(&mut self, programs: PathBuf) {
        self.programs = programs;
    }

    /// SIGSTOP: it keeps its connections and its memory, and does nothing.
    pub fn hold(&mut self, name: &str) -> Result<()> {
        self.running(name).map(|process| process::signal(process.pid(), Signal::STOP))
    }

    /// SIGCONT.
    pub fn resume(&mut self, name: &str) -> Result<()> {
        self.running(name).map(|process| process::signal(process.pid(), Signal::CONT))
    }

    /// How a service ended that is expected to; `None` while it runs.
    pub fn end_of(&mut self, name: &str) -> Result<Option<ExitStatus>> {
        self.running(name).map(Process::exited)
    }

    /// An error if a server has ended by itself.
    pub fn check_servers(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Process::check)
    }

    /// Services that have ended although nobody asked them to; they are no longer this stack's.
    pub fn ended(&mut self) -> Result<Vec<Ended>> {
        let mut ended = Vec::new();
        let mut at = 0;
        while at < self.services.len() {
            let Some(status) = self.services[at].exited() else {
                at += 1;
                continue;
            };
            let process = self.services.remove(at);
            ended.push(Ended {
                log_tail: process::tail(&process.log, 12),
                name: process.name.clone(),
                status,
            });
        }
        if !ended.is_empty() {
            self.save()?;
        }
        Ok(ended)
    }

    /// SIGKILL to the server and all its processes, each of which leads a group of its own.
    pub fn kill_database(&mut self) -> Result<()> {
        let mut server = self.take("postgresql")?;
        // Held, so that it makes no new ones meanwhile.
        process::signal(server.pid(), Signal::STOP);
        let children = children(server.pid());
        server.kill();
        for child in &children {
            process::signal(*child, Signal::KILL);
        }
        // A start finds the shared memory in use as long as one of them lives.
        while children.iter().any(|child| Identity::of(*child).is_some()) {
            signals::pause(Duration::from_millis(5))?;
        }
        self.save()
    }

    /// Returns when it answers.
    pub fn start_database(&mut self) -> Result<()> {
        let log = self.logs().join("postgresql.log");
        let durable = !self.options.servers_only;
        let mut server = postgres::start(&self.dir, self.ports.postgres, log, durable)?;
        postgres::wait(&mut server, SERVER_LIMIT)?;
        self.servers.push(server);
        self.save()
    }

    /// SIGKILL. Its port mapper lives on.
    pub fn kill_broker(&mut self) -> Result<()> {
        self.take("rabbitmq")?.kill();
        self.save()
    }

    /// Returns when it takes connections.
    pub fn start_broker(&mut self) -> Result<()> {
        let ports = self.ports.rabbitmq.clone().context("sync mode has no broker")?;
        let mut server = rabbitmq::start_broker(&self.dir, &ports, &self.logs())?;
        rabbitmq::wait(&mut server, &ports, SERVER_LIMIT)?;
        self.servers.push(server);
        self.save()
    }

    /// `rabbitmqctl` with these arguments.
    pub fn control_broker(&self, args: &[&str]) -> Result<()> {
        let ports = self.ports.rabbitmq.as_ref().context("sync mode has no broker")?;
        rabbitmq::control(&self.dir, ports, args)
    }
}

pub fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    state::stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_among_the_children_of_its_parent() {
        let me = std::process::id();
        let parent = parent_of(me).unwrap();
        assert!(children(parent).contains(&me));
        assert!(!children(me).contains(&parent));
    }
}
