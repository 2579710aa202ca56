//! The machine while a load runs: processor time of services, broker, database, load generator and other programs,
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

/// What a process belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Services,
    Broker,
    Database,
    /// Idle parts of a stack.
    Rest,
}

/// Processor seconds of one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    #[serde(rename = "service")]
    pub services: f64,
    pub broker: f64,
    pub database: f64,
    /// Of the load generator.
    pub generator: f64,
    pub rest: f64,
    /// All that the processors had to give.
    pub machine: f64,
    /// Share of `machine` that went to programs other than these and this one, or was stolen: 0 to 1.
    pub others: f64,
}

/// Counts processor time by part.
pub struct Meter {
    processes: Vec<(Part, u32)>,
    before: [f64; 4],
    own: f64,
    children: f64,
    machine: Machine,
}

impl Meter {
    /// Processes must live until [`end`](Self::end). Children of this program that end meanwhile count as the load generator.
    pub fn start(processes: Vec<(Part, u32)>) -> Self {
        let (own, children) = cpu_apart(std::process::id());
        Self { before: sum(&processes, cpu_of), processes, own, children, machine: Machine::read() }
    }

    /// Adds a process that was started meanwhile: all of its time counts.
    pub fn add(&mut self, part: Part, pid: u32) {
        self.processes.push((part, pid));
    }

    pub fn end(&self) -> Cpu {
        let (busy, machine) = Machine::read().since(&self.machine);
        let now = sum(&self.processes, cpu_of);
        let [services, broker, database, rest] = [0, 1, 2, 3].map(|part| now[part] - self.before[part]);
        let (own, children) = cpu_apart(std::process::id());
        let generator = children - self.children;
        let ours = services + broker + database + rest + generator + own - self.own;
        let others = if machine > 0.0 { ((busy - ours) / machine).clamp(0.0, 1.0) } else { 0.0 };
        Cpu { services, broker, database, generator, rest, machine, others }
    }
}

/// Over the processes of each part; servers with their children, services have none.
fn sum(processes: &[(Part, u32)], of: impl Fn(u32) -> f64) -> [f64; 4] {
    let mut sum = [0.0; 4];
    for (part, pid) in processes {
        let children = if *part == Part::Services { Vec::new() } else { restart::children(*pid) };
        sum[*part as usize] += children.into_iter().chain([*pid]).map(&of).sum::<f64>();
    }
    sum
}

pub struct Watch {
    started: Instant,
    looked: Instant,
    meter: Meter,
    ports: Vec<(Part, u16)>,
    connections: HashMap<String, Connection>,
    /// `None` where connections cannot be seen.
    bytes: Option<[f64; 4]>,
    gauges: Option<Gauges>,
}

/// The last counters of one connection.
struct Connection {
    last: u64,
    seen: bool,
}

impl Watch {
    /// `gauges`: what else to look at once a second.
    pub fn start(stack: &Stack, gauges: Option<Gauges>) -> Self {
        let processes = stack.pids().into_iter().map(|(name, pid)| (part(&name), pid)).collect();
        let now = Instant::now();
        let mut watch = Self {
            started: now,
            looked: now,
            meter: Meter::start(processes),
            ports: stack.server_ports().into_iter().map(|(name, port)| (part(name), port)).collect(),
            connections: HashMap::new(),
            bytes: Some([0.0; 4]),
            gauges,
        };
        watch.look_at_connections();
        // What they carried before does not count.
        watch.bytes = watch.bytes.map(|_| [0.0; 4]);
        watch
    }

    /// Call it often; it looks once a second.
    pub fn tick(&mut self) {
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
        let (cpu, processes) = (self.meter.end(), &self.meter.processes);
        let visible = !processes.is_empty();
        let watched = Watched {
            seconds: self.started.elapsed().as_secs_f64(),
            cpu: visible.then_some(Parts {
                services: cpu.services,
                broker: cpu.broker,
                database: cpu.database,
            }),
            // `ss` counts in: a few milliseconds of each second.
            k6_cpu: cpu.generator,
            bytes: self.bytes.filter(|_| visible).map(Parts::from),
            memory: visible.then(|| sum(processes, memory_of).into()),
            others: (visible && cpu.machine > 0.0).then_some(cpu.others),
        };
        (watched, self.gauges)
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
            bytes[*part as usize] += (carried - before) as f64;
            *known = Connection { last: carried, seen: true };
        }
        self.connections.retain(|_, connection| connection.seen);
        self.bytes = Some(bytes);
    }
}

impl From<[f64; 4]> for Parts {
    fn from([services, broker, database, _]: [f64; 4]) -> Self {
        Self { services, broker, database }
    }
}

/// Of a stack's process with this name.
pub fn part(name: &str) -> Part {
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
struct Machine {
    /// Of programs and of the kernel on their behalf, and what a hypervisor took. Interrupts are left out: they
    /// belong to no process.
    busy: f64,
    all: f64,
}

impl Machine {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0.0);
        Self { busy: at(0) + at(1) + at(2) + at(7), all: ticks.iter().sum() }
    }

    /// Seconds of processor time: busy, and all there was.
    fn since(&self, before: &Self) -> (f64, f64) {
        ((self.busy - before.busy) / ticks_per_second(), (self.all - before.all) / ticks_per_second())
    }
}

/// Processor seconds of a process and of its children that have ended; 0 if it is gone.
pub fn cpu_of(pid: u32) -> f64 {
    let (own, children) = cpu_apart(pid);
    own + children
}

/// Processor seconds of a process, and of its children that have ended; 0 if it is gone.
fn cpu_apart(pid: u32) -> (f64, f64) {
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

    #[test]
    fn of_a_process_that_came_later_all_counts_and_of_one_that_was_there_what_is_new() {
        let me = std::process::id();
        let (mut late, early) = (Meter::start(Vec::new()), Meter::start(vec![(Part::Services, me)]));
        let before = cpu_of(me);
        let mut sum = 0_u64;
        while cpu_of(me) < before + 0.05 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        late.add(Part::Services, me);
        let (late, early) = (late.end(), early.end());
        assert!(sum > 0 && early.services >= 0.05 && late.services >= before + 0.05, "{late:?} {early:?}");
    }

    #[test]
    fn the_time_of_a_child_that_ended_is_the_load_generators() {
        let meter = Meter::start(Vec::new());
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
        let cpu = meter.end();
        assert!(cpu.generator >= 0.03 && cpu.machine > cpu.generator && cpu.services == 0.0, "{cpu:?}");
    }
}
