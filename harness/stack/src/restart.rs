//! One process of a stack at a time, while the others run on: stopped, killed, paused, started again.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::broker::{Alarm, BrokerPorts};
use super::process::{self, Process};
use super::stack::{SERVER_LIMIT, Stack};
use super::state::{self, Identity};
use super::{postgres, signals};

/// A service that ended without being asked to.
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

    /// SIGKILL. The process has ended when this returns.
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

    /// The folder of the binaries of services that are started from now on.
    pub fn use_programs(&mut self, programs: PathBuf) {
        self.programs = programs;
    }

    /// SIGSTOP: the process keeps its connections and its memory, and does nothing.
    pub fn hold(&mut self, name: &str) -> Result<()> {
        self.running(name).map(|process| process::signal(process.pid(), Signal::STOP))
    }

    /// SIGCONT.
    pub fn resume(&mut self, name: &str) -> Result<()> {
        self.running(name).map(|process| process::signal(process.pid(), Signal::CONT))
    }

    /// The exit status of a service that is expected to end; `None` while it runs.
    pub fn end_of(&mut self, name: &str) -> Result<Option<ExitStatus>> {
        self.running(name).map(Process::exited)
    }

    /// An error if a server has ended by itself.
    pub fn check_servers(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Process::check)
    }

    /// Services that ended without being asked to. The stack no longer counts them as its own.
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
        // Paused, so that it forks no new processes meanwhile.
        process::signal(server.pid(), Signal::STOP);
        let children = children(server.pid());
        server.kill();
        for child in &children {
            process::signal(*child, Signal::KILL);
        }
        // While one of them lives, the shared memory is in use and a start fails.
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

    fn broker_ports(&self) -> Result<&BrokerPorts> {
        self.ports.broker.as_ref().with_context(|| format!("{} mode has no broker", self.mode()))
    }

    /// SIGKILL. Its helper processes keep running.
    pub fn kill_broker(&mut self) -> Result<()> {
        let name = self.broker_ports()?.server.name();
        self.take(name)?.kill();
        self.save()
    }

    /// Returns when it takes connections.
    pub fn start_broker(&mut self) -> Result<()> {
        let ports = self.broker_ports()?;
        let mut process = ports.server.restart(&self.dir, ports, &self.logs())?;
        ports.server.wait(&mut process, ports, SERVER_LIMIT)?;
        self.servers.push(process);
        self.save()
    }

    /// Makes the broker refuse messages, or accept them again.
    pub fn set_broker_alarm(&self, alarm: Alarm, on: bool) -> Result<()> {
        let ports = self.broker_ports()?;
        ports.server.set_alarm(&self.dir, ports, alarm, on)
    }

    /// Closes the broker's connections to all clients, from its side.
    pub fn close_broker_connections(&self) -> Result<()> {
        let ports = self.broker_ports()?;
        ports.server.close_connections(&self.dir, ports)
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
