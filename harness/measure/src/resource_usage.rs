//! The machine while a load runs: processor time of services, broker, database, load generator and of everybody else,
//! bytes through their connections, memory.
//!
//! From /proc and, for bytes, from the kernel's counters of each TCP connection (`ss`). Containers are not looked
//! into: what cannot be seen is `None`, never 0.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::gauges::Gauges;
use super::stored::{not_negative, within};
use stack::{Stack, restart, state};

/// Connections that close in between lose what they carried since the last look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of one stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    pub seconds: f64,
    /// Processor seconds; `None` where processes cannot be seen (containers).
    pub cpu: Option<Parts>,
    /// Processor seconds of the load generator.
    pub k6_cpu: f64,
    /// Bytes of payload through the TCP connections of each; of the services: HTTP, the client's requests included.
    pub bytes: Option<Parts>,
    /// Memory at the end, MiB, shared pages counted once.
    pub memory: Option<Parts>,
    /// Share of all processors that went to others than the stack, k6 and this program, or was stolen: 0 to 1.
    pub others: Option<f64>,
}

/// Services, broker and database apart; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    pub services: f64,
    pub broker: f64,
    pub database: f64,
}

impl Parts {
    pub fn total(&self) -> f64 {
        self.services + self.broker + self.database
    }

    /// Each part by itself.
    pub fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            services: f(self.services, other.services),
            broker: f(self.broker, other.broker),
            database: f(self.database, other.database),
        }
    }
}

impl Watched {
    /// # Errors
    /// When a number cannot have been measured.
    pub fn check(&self) -> Result<()> {
        not_negative("the time that was watched", self.seconds)?;
        not_negative("the processor time of k6", self.k6_cpu)?;
        within("the share of other programs", self.others.unwrap_or(0.0), 0.0, 1.0)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Services,
    Broker,
    Database,
}

pub struct Watch {
    started: Instant,
    looked: Instant,
    processes: Vec<(Part, u32)>,
    ports: Vec<(Part, u16)>,
    cpu: Parts,
    me: f64,
    k6: f64,
    k6_process: Option<u32>,
    machine: Machine,
    connections: HashMap<String, Connection>,
    bytes: Option<Parts>,
    gauges: Option<Gauges>,
}

/// Of one connection: what its counters said last.
struct Connection {
    last: u64,
    seen: bool,
}

impl Watch {
    /// `gauges`: what else to look at once a second.
    pub fn start(stack: &Stack, gauges: Option<Gauges>) -> Self {
        let processes: Vec<_> = stack.pids().into_iter().map(|(name, pid)| (part(&name), pid)).collect();
        let now = Instant::now();
        let mut watch = Self {
            started: now,
            looked: now,
            ports: stack.server_ports().into_iter().map(|(name, port)| (part(name), port)).collect(),
            cpu: Parts::default(),
            me: cpu_of(std::process::id()),
            k6: 0.0,
            k6_process: None,
            machine: Machine::read(),
            connections: HashMap::new(),
            bytes: Some(Parts::default()),
            gauges,
            processes,
        };
        watch.cpu = watch.cpu_now();
        watch.look_at_connections();
        // What they carried before does not count.
        watch.bytes = watch.bytes.map(|_| Parts::default());
        watch
    }

    /// Call it often; it looks once a second. `k6`: its process, while it runs.
    pub fn tick(&mut self, k6: Option<u32>) {
        if let Some(k6) = k6 {
            self.k6 = cpu_of(k6).max(self.k6);
            self.k6_process = Some(k6);
        }
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        self.look_at_connections();
        if let Some(gauges) = &mut self.gauges {
            gauges.look(self.started.elapsed());
        }
    }

    pub fn end(mut self) -> (Watched, Option<Gauges>) {
        self.look_at_connections();
        let seconds = self.started.elapsed().as_secs_f64();
        let visible = !self.processes.is_empty();
        let cpu = self.cpu_now().zip(self.cpu, |now, before| now - before);
        // A load generator that has been waited for counts as a child of this process; one that has not, by itself.
        let k6 = self.k6_process.map_or(0.0, cpu_of);
        let ours = cpu.total() + cpu_of(std::process::id()) - self.me + k6;
        let (busy, all) = Machine::read().since(&self.machine);
        let watched = Watched {
            seconds,
            cpu: visible.then_some(cpu),
            k6_cpu: self.k6,
            bytes: self.bytes.filter(|_| visible),
            memory: visible.then(|| self.sum(memory_of)),
            others: (visible && all > 0.0).then(|| ((busy - ours) / all).clamp(0.0, 1.0)),
        };
        (watched, self.gauges)
    }

    fn sum(&self, of: impl Fn(u32) -> f64) -> Parts {
        let mut sum = Parts::default();
        for (part, pid) in &self.processes {
            *part.of(&mut sum) += restart::children(*pid).into_iter().chain([*pid]).map(&of).sum::<f64>();
        }
        sum
    }

    /// A child that has ended counts with its parent.
    fn cpu_now(&self) -> Parts {
        self.sum(cpu_of)
    }

    fn look_at_connections(&mut self) {
        let Some(mut bytes) = self.bytes.take() else { return };
        let Some(listed) = connections(&self.ports) else { return };
        self.connections.values_mut().for_each(|connection| connection.seen = false);
        for (port, name, carried) in listed {
            let Some((part, _)) = self.ports.iter().find(|(_, known)| *known == port) else { continue };
            let known = self.connections.entry(name).or_insert(Connection { last: 0, seen: true });
            // A counter that went back belongs to a new connection between the same ports.
            let before = if carried >= known.last { known.last } else { 0 };
            *part.of(&mut bytes) += (carried - before) as f64;
            *known = Connection { last: carried, seen: true };
        }
        self.connections.retain(|_, connection| connection.seen);
        self.bytes = Some(bytes);
    }
}

impl Part {
    fn of(self, parts: &mut Parts) -> &mut f64 {
        match self {
            Self::Services => &mut parts.services,
            Self::Broker => &mut parts.broker,
            Self::Database => &mut parts.database,
        }
    }
}

fn part(name: &str) -> Part {
    match name {
        "postgresql" => Part::Database,
        "rabbitmq" | "epmd" => Part::Broker,
        _ => Part::Services,
    }
}

/// Server's side of each connection to these ports: port, name, bytes both ways. `None` without `ss`.
fn connections(ports: &[(Part, u16)]) -> Option<Vec<(u16, String, u64)>> {
    let filter: Vec<String> = ports.iter().map(|(_, port)| format!("sport = :{port}")).collect();
    let mut command = Command::new("ss");
    command.args(["-HtinO", "state", "established"]).arg(format!("( {} )", filter.join(" or ")));
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().filter_map(connection).collect())
}

/// `0 0 127.0.0.1:8001 127.0.0.1:40000 cubic ... bytes_acked:12 bytes_received:34 ...`
fn connection(line: &str) -> Option<(u16, String, u64)> {
    let mut fields = line.split_whitespace();
    let (local, peer) = (fields.nth(2)?, fields.next()?);
    let port = local.rsplit_once(':')?.1.parse().ok()?;
    let carried = fields.filter_map(|field| {
        let (name, value) = field.split_once(':')?;
        ["bytes_acked", "bytes_received"].contains(&name).then(|| value.parse::<u64>().ok())?
    });
    Some((port, format!("{local} {peer}"), carried.sum()))
}

/// Processor time of the whole machine, in ticks.
pub struct Machine {
    /// Of programs and of the kernel on their behalf, and what a hypervisor took. Interrupts are left out: they
    /// are charged to nobody.
    busy: f64,
    all: f64,
}

impl Machine {
    pub fn read() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0.0);
        Self { busy: at(0) + at(1) + at(2) + at(7), all: ticks.iter().sum() }
    }

    /// Seconds of processor time: busy, and all there was.
    pub fn since(&self, before: &Self) -> (f64, f64) {
        ((self.busy - before.busy) / ticks_per_second(), (self.all - before.all) / ticks_per_second())
    }
}

/// Processor seconds of a process and of its children that have ended; 0 if it is gone.
pub fn cpu_of(pid: u32) -> f64 {
    let (own, children) = cpu_apart(pid);
    own + children
}

/// Processor seconds of a process, and of its children that have ended; 0 if it is gone.
pub fn cpu_apart(pid: u32) -> (f64, f64) {
    let stat = state::stat(pid).unwrap_or_default();
    // utime, stime, cutime, cstime: fields 14 to 17 of proc_pid_stat(5).
    let ticks: Vec<f64> =
        stat.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    let seconds = |from: usize| ticks.iter().skip(from).take(2).sum::<f64>() / ticks_per_second();
    (seconds(0), seconds(2))
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// MiB; 0 if it is gone.
fn memory_of(pid: u32) -> f64 {
    state::proportional(pid).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_with_what_it_carried_both_ways() {
        let line = "0 0 127.0.0.1:5432 127.0.0.1:40112 cubic wscale:7,7 rto:201 bytes_sent:900 bytes_acked:901 bytes_received:1200 segs_out:9";
        assert_eq!(connection(line), Some((5432, "127.0.0.1:5432 127.0.0.1:40112".into(), 2101)));
        assert_eq!(connection(""), None);
    }

    #[test]
    fn own_work_shows_as_processor_time_and_memory() {
        let before = cpu_of(std::process::id());
        let mut sum = 0_u64;
        while cpu_of(std::process::id()) < before + 0.05 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(sum > 0 && memory_of(std::process::id()) > 0.5);
        assert!(Machine::read().all > 0.0);
    }
}
