//! Injects the faults of the schedule, one at a time, and records their impact. Runs on the thread that started the stack: the
//! processes end with that thread.
//!
//! The faults themselves: `processes`, `servers`, `queues`.

mod processes;
mod queues;
mod servers;

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use contract::Service;
use serde::Serialize;

use super::generator::{Load, Random};
use super::probe::{Prober, Watch};
use super::progress::Progress;
use super::proxy::{Condition, Proxy};
use super::schedule::{Action, Planned};
use super::topology::{self, DATABASE};
use stack::broker::{Alarm, Broker};
use stack::{Mode, Stack, signals};

/// After it, the system counts as not recovered.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// One injected fault. Times are seconds since the load began.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultRecord {
    /// As in the catalogue.
    pub name: String,
    /// A service, a server, a link or a queue.
    pub target: String,
    /// The drawn parameters, and the result.
    pub detail: String,
    pub began: f64,
    /// When it was lifted: the process runs again, the network flows again.
    pub ended: f64,
    /// How long `/ready` of an affected service was not 200, from the first to the last such answer.
    pub unavailable_seconds: f64,
    /// From `ended` until every affected service is ready and a request has been accepted; `None` if the limit was exceeded.
    pub recovered_after_seconds: Option<f64>,
    /// Service processes that were killed, or aborted at a failpoint.
    pub kills: u32,
    /// Of a backlog: events that were applied per second once the consumer ran again.
    pub drained_per_second: Option<f64>,
}

/// What the injection of a fault returns.
#[derive(Default)]
struct Impact {
    detail: String,
    kills: u32,
    drained_per_second: Option<f64>,
}

impl Impact {
    fn of(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::default() }
    }

    fn killed(detail: impl Into<String>) -> Self {
        Self { kills: 1, ..Self::of(detail) }
    }
}

/// The faults of a run, for the checker.
#[derive(Default)]
pub struct FaultLog {
    pub records: Vec<FaultRecord>,
    /// Queue and message id.
    pub poison: Vec<(String, String)>,
    /// Services that ended without being asked to.
    pub crashes: Vec<String>,
    /// Services that were asked to stop, and those that did not stop in order.
    pub stops: u64,
    pub disorderly: Vec<String>,
    pub last_ended: Option<SystemTime>,
}

pub struct Nemesis<'a> {
    stack: &'a mut Stack,
    load: &'a Load,
    proxy: &'a Proxy,
    prober: &'a Prober,
    show: &'a Progress,
    broker: Option<Box<dyn Broker>>,
    /// For the message ids of poison.
    random: Random,
    began: Instant,
    /// The running fault, for the progress line.
    current: String,
    fault_log: FaultLog,
}

impl<'a> Nemesis<'a> {
    pub fn new(
        stack: &'a mut Stack,
        load: &'a Load,
        proxy: &'a Proxy,
        (prober, show): (&'a Prober, &'a Progress),
        (seed, began): (u64, Instant),
    ) -> Result<Self> {
        let broker = stack.broker();
        let random = Random::new(seed, 1);
        let current = "load".to_owned();
        let fault_log = FaultLog::default();
        let mut nemesis =
            Self { stack, load, proxy, prober, show, broker, random, began, current, fault_log };
        for service in Service::ALL {
            nemesis.mark_up(service.name())?;
        }
        Ok(nemesis)
    }

    pub fn fault_log(self) -> FaultLog {
        self.fault_log
    }

    /// Waits, injects a fault, lifts it, and waits until the system has recovered.
    pub fn inject(&mut self, planned: &Planned) -> Result<()> {
        self.current = "load".to_owned();
        self.wait(planned.rest)?;
        self.restart_ended()?;
        let (name, (target, services)) =
            (planned.fault.name(), target_of(self.stack.mode(), &planned.action));
        self.current = format!("{name}, {target}");
        self.load.note_fault(&format!("{name}, {target}: begins"));
        let watch = Watch::start(services.iter().map(|service| self.stack.url(service)).collect());
        let began = self.seconds();
        let impact = self.act(&planned.action)?;
        let (lifted, ended) = (Instant::now(), self.seconds());
        self.fault_log.last_ended = Some(SystemTime::now());
        self.load.note_fault(&format!("{name}, {target}: lifted"));
        let recovered_after_seconds = self.recovered(&watch, lifted)?;
        let record = FaultRecord {
            name,
            target,
            detail: impact.detail,
            began,
            ended,
            unavailable_seconds: watch.unavailable_seconds(),
            recovered_after_seconds,
            kills: impact.kills,
            drained_per_second: impact.drained_per_second,
        };
        self.show.line(&line(&record));
        self.fault_log.records.push(record);
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<Impact> {
        match *action {
            Action::Kill { service, down } => self.kill(service, down),
            Action::Failpoint { service, point, passing } => self.failpoint(service, point, passing),
            Action::Pause { service, seconds } => self.pause(service, seconds),
            Action::Restart { service } => self.restart(service),
            Action::Duplicates { seconds } => self.duplicates(seconds),
            Action::BrokerKill { down } => self.broker_kill(down),
            Action::BrokerMemory { seconds } => self.alarm(Alarm::Memory, seconds),
            Action::BrokerDisk { seconds } => self.alarm(Alarm::Disk, seconds),
            Action::ConnectionsClosed => self.connections_closed(),
            Action::DatabaseKill => self.database_kill(),
            Action::BackendsTerminated { service } => self.backends_terminated(service),
            Action::MissingQueue { queue, seconds } => self.missing_queue(queue, seconds),
            Action::QueueDeleted { queue } => self.queue_deleted(queue),
            Action::Poison => self.poison(),
            Action::Backlog { queue, seconds } => self.backlog(queue, seconds),
            Action::NetCut { link, seconds } => self.net(link, Condition::Cut, seconds),
            Action::NetBlackhole { link, seconds } => self.net(link, Condition::Blackhole, seconds),
            Action::NetDelay { link, seconds, ms } => {
                self.net(link, Condition::Delay(Duration::from_millis(ms)), seconds)
            }
            Action::NetReset { link, seconds } => self.net_resets(link, seconds),
            Action::None { seconds } => self.wait(seconds).map(|()| Impact::of(format!("{seconds:.0} s"))),
        }
    }

    /// Seconds until all affected services are ready and a request was accepted.
    fn recovered(&mut self, watch: &Watch, lifted: Instant) -> Result<Option<f64>> {
        let accepted = self.load.progress().accepted;
        while !watch.ready_since(lifted) || self.load.progress().accepted == accepted {
            if lifted.elapsed() > RECOVERY_LIMIT {
                return Ok(None);
            }
            self.wait(POLL.as_secs_f64())?;
            self.restart_ended()?;
        }
        Ok(Some(lifted.elapsed().as_secs_f64()))
    }

    /// Records each service that ended without being asked to, and starts it again. An error if a server did so.
    fn restart_ended(&mut self) -> Result<()> {
        self.stack.check_servers()?;
        for ended in self.stack.ended()? {
            let at = self.seconds();
            self.fault_log.crashes.push(format!(
                "{at:.1} s, during or after {}: {} ended by itself ({}); its log ends:{}",
                self.current, ended.name, ended.status, ended.log_tail
            ));
            self.show.line(&format!("{} ended by itself ({})", ended.name, ended.status));
            self.prober.down(&ended.name);
            self.start(&ended.name, &[])?;
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Ends early, with an error, on Ctrl-C.
    fn wait(&self, seconds: f64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            let progress = self.load.progress();
            self.show.now(&format!(
                "{} faults done, {} accepted; now: {}",
                self.fault_log.records.len(),
                progress.accepted,
                self.current
            ));
            let left = until.saturating_duration_since(Instant::now());
            signals::pause(left.min(POLL))?;
            if left <= POLL {
                return Ok(());
            }
        }
    }
}

fn line(record: &FaultRecord) -> String {
    let FaultRecord { name, target, detail, began, unavailable_seconds, recovered_after_seconds, .. } =
        record;
    let recovered = match recovered_after_seconds {
        Some(seconds) => format!("recovered after {seconds:.1} s"),
        None => "NOT RECOVERED".to_owned(),
    };
    format!("{began:7.1} s  {name:<19} {target}: {detail}; not ready {unavailable_seconds:.1} s, {recovered}")
}

/// The target of a fault, and the services that it affects.
fn target_of(mode: Mode, action: &Action) -> (String, Vec<&'static str>) {
    let all = || Service::ALL.map(Service::name).to_vec();
    match *action {
        Action::Kill { service, .. }
        | Action::Failpoint { service, .. }
        | Action::Pause { service, .. }
        | Action::Restart { service }
        | Action::BackendsTerminated { service: Some(service) } => (service.to_owned(), vec![service]),
        Action::MissingQueue { queue, .. } | Action::QueueDeleted { queue } => {
            (queue.name.to_owned(), vec![queue.writer, queue.reader])
        }
        Action::Backlog { queue, .. } => (queue.name.to_owned(), vec![queue.reader]),
        Action::NetCut { link, .. }
        | Action::NetReset { link, .. }
        | Action::NetDelay { link, .. }
        | Action::NetBlackhole { link, .. } => (format!("{} -> {}", link.from, link.to), vec![link.from]),
        Action::DatabaseKill => (DATABASE.to_owned(), all()),
        Action::BrokerKill { .. }
        | Action::BrokerMemory { .. }
        | Action::BrokerDisk { .. }
        | Action::ConnectionsClosed => (topology::broker(mode).unwrap_or_default().to_owned(), all()),
        Action::BackendsTerminated { service: None }
        | Action::Duplicates { .. }
        | Action::Poison
        | Action::None { .. } => ("all services".to_owned(), all()),
    }
}
