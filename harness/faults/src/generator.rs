//! The load: clients that offer operations at a fixed rate, repeat them with the same key until the outcome is known, and record
//! everything in the operation log.
//!
//! In reading order: `plan` (which operation when), `lane` (what waits for a thread), `client` (one request), `tally`.

pub mod client;
pub mod lane;
pub mod plan;
pub mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contract::Service;
use serde_json::Value;

use super::operation_log::{Kind, Line, Operation, OperationLog, Outcome, Verdict, now_ms};
use client::Client;
use lane::Lane;
pub use plan::Random;
use stack::{Mode, signals};
pub use tally::Progress;
use tally::{Duplicates, Tally, more};

/// After the last fault, operations are repeated for this long at most.
const DRAIN_LIMIT: Duration = Duration::from_secs(150);
const PREPARE_LIMIT: Duration = Duration::from_secs(30);

/// Where the services listen.
pub struct Targets {
    pub mode: Mode,
    /// By the service's full name.
    pub urls: HashMap<&'static str, String>,
}

pub struct Load {
    shared: Arc<Shared>,
    dispatcher: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    client: Client,
    operation_log: OperationLog,
    tally: Tally,
    lanes: HashMap<(Kind, i64), Arc<Lane>>,
    products: Vec<i64>,
    not_offered: Mutex<BTreeMap<Kind, u64>>,
    stop: AtomicBool,
    /// The number of the operation that comes next.
    next: AtomicU64,
    /// Why the operation log could not be written: the run is then invalid.
    broken: Mutex<Option<String>>,
}

impl Load {
    /// Prepares the load and starts it. `rate`: operations per second.
    pub fn start(targets: Targets, seed: u64, rate: f64, operation_log: &Path) -> Result<Load> {
        let Targets { mode, urls } = targets;
        let operation_log = OperationLog::create(operation_log)?;
        operation_log.write(&Line::Begin { at_ms: now_ms(), mode, seed, rate })?;
        let mut shared = Shared {
            client: Client::new(mode, urls),
            operation_log,
            tally: Tally::default(),
            lanes: HashMap::new(),
            products: Vec::new(),
            not_offered: Mutex::default(),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(plan::FIRST),
            broken: Mutex::default(),
        };
        for operation in plan::preparation() {
            let created = operation.kind == Kind::CreateProduct;
            let body = shared.until_accepted(operation, PREPARE_LIMIT)?;
            if created {
                shared.products.push(body["id"].as_i64().context("a product without an id was created")?);
            }
        }
        let kinds = [Kind::Click, Kind::Register, Kind::Pay, Kind::Order, Kind::Report, Kind::Invalid];
        let lanes = kinds.map(|kind| (kind, 0)).into_iter();
        let lanes = lanes.chain(shared.products.iter().map(|product| (Kind::Update, *product)));
        shared.lanes = lanes.map(|lane| (lane, Arc::new(Lane::new(lane::threads(lane.0))))).collect();

        let shared = Arc::new(shared);
        let mut workers = Vec::new();
        for ((kind, _), lane) in &shared.lanes {
            for _ in 0..lane::threads(*kind) {
                let (shared, lane) = (Arc::clone(&shared), Arc::clone(lane));
                workers.push(std::thread::spawn(move || shared.work(&lane)));
            }
        }
        if mode.has_broker() {
            let shared = Arc::clone(&shared);
            workers.push(std::thread::spawn(move || shared.count_duplicates()));
        }
        let dispatching = Arc::clone(&shared);
        let dispatcher = Some(std::thread::spawn(move || dispatching.dispatch(seed, rate)));
        Ok(Load { shared, dispatcher, workers })
    }

    pub fn progress(&self) -> Progress {
        self.shared.tally.progress()
    }

    /// Adds a line about a fault to the operation log.
    pub fn note_fault(&self, text: &str) {
        self.shared.note(&Line::Fault { at_ms: now_ms(), text: text.into() });
    }

    /// After the last fault: offers no new operations, repeats the open ones until every answer is definite or the limit is reached,
    /// and updates each product a last time.
    pub fn finish(mut self) -> Result<Progress> {
        let (shared, workers) = (Arc::clone(&self.shared), std::mem::take(&mut self.workers));
        shared.stop.store(true, Ordering::Relaxed);
        if let Some(dispatcher) = self.dispatcher.take() {
            dispatcher.join().ok().context("the load's clock panicked")?;
        }
        shared.lanes.values().for_each(|lane| lane.drain());
        let deadline = Instant::now() + DRAIN_LIMIT;
        while workers.iter().any(|worker| !worker.is_finished()) {
            if Instant::now() > deadline || signals::interrupted() {
                shared.lanes.values().for_each(|lane| lane.abandon());
            }
            signals::rest(Duration::from_millis(50));
        }
        for worker in workers {
            worker.join().ok().context("a client of the load panicked")?;
        }
        shared.update_a_last_time()?;
        let not_offered = shared.not_offered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shared.operation_log.write(&Line::End { at_ms: now_ms(), not_offered })?;
        if let Some(error) = shared.broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bail!("the operation log is not complete, so nothing can be said: {error}");
        }
        Ok(shared.tally.progress())
    }
}

/// After an error the threads end soon.
impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.lanes.values().for_each(|lane| lane.abandon());
    }
}

impl Shared {
    fn note(&self, line: &Line) {
        if let Err(error) = self.operation_log.write(line) {
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("{error:#}"));
        }
    }

    /// Offers operation n at n / rate seconds after the first, independently of the answers.
    fn dispatch(&self, seed: u64, rate: f64) {
        let began = Instant::now();
        let mut id = plan::FIRST;
        while !self.stop.load(Ordering::Relaxed) && !signals::interrupted() {
            let due = Duration::from_secs_f64((id - plan::FIRST) as f64 / rate.max(0.1));
            if let Some(early) = due.checked_sub(began.elapsed()) {
                signals::rest(early.min(Duration::from_millis(100)));
                continue;
            }
            let operation = plan::operation(seed, id, &self.products);
            let kind = operation.kind;
            if !self.lane(&operation).is_some_and(|lane| lane.offer(operation)) {
                more(&self.tally.not_offered);
                let mut counts = self.not_offered.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(kind).or_default() += 1;
            }
            id += 1;
            self.next.store(id, Ordering::Relaxed);
        }
        self.lanes.values().filter(|_| signals::interrupted()).for_each(|lane| lane.abandon());
    }

    fn lane(&self, operation: &Operation) -> Option<&Lane> {
        let product = match operation.kind {
            Kind::Update => operation.path.rsplit('/').next()?.parse().ok()?,
            _ => 0,
        };
        self.lanes.get(&(operation.kind, product)).map(AsRef::as_ref)
    }

    fn work(&self, lane: &Lane) {
        while let Some(mut job) = lane.next() {
            if job.attempts == 0 {
                self.tally.begun();
            }
            job.attempts += 1;
            let (outcome, verdict) = self.attempt(&job.operation, job.attempts);
            self.tally.answered(&outcome, verdict);
            if verdict == Verdict::Unknown && !job.unknown {
                job.unknown = true;
                self.tally.became_unknown();
            }
            let definite = matches!(verdict, Verdict::Accepted | Verdict::Failed | Verdict::Rejected);
            if definite || !job.operation.repeatable() {
                self.tally.ended(job.unknown, verdict);
            } else {
                lane.again(job, verdict);
            }
        }
    }

    fn attempt(&self, operation: &Operation, attempt: u32) -> (Outcome, Verdict) {
        let (id, first) = (operation.id, attempt == 1);
        self.note(&Line::Requested {
            at_ms: now_ms(),
            id,
            attempt,
            operation: first.then(|| operation.clone()),
        });
        let outcome = self.client.ask(operation);
        self.note(&Line::Answered { at_ms: now_ms(), id, attempt, outcome: outcome.clone() });
        let verdict = outcome.verdict(operation.kind);
        (outcome, verdict)
    }

    /// Repeats an operation until it is accepted, and returns the body of the answer.
    fn until_accepted(&self, operation: Operation, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        let mut job = 0;
        self.tally.begun();
        loop {
            job += 1;
            let (outcome, verdict) = self.attempt(&operation, job);
            self.tally.answered(&outcome, verdict);
            if let (Verdict::Accepted, Outcome::Status { body, .. }) = (verdict, &outcome) {
                self.tally.ended(false, verdict);
                return Ok(body.clone());
            }
            if verdict == Verdict::Rejected || Instant::now() > deadline {
                bail!("{} {} is not accepted: {outcome:?}", operation.service, operation.path);
            }
            signals::pause(Duration::from_millis(500))?;
        }
    }

    /// Gives each receiver the chance to learn the last version. An update is repeated while its answer warns that a receiver was
    /// not notified.
    fn update_a_last_time(&self) -> Result<()> {
        for product in &self.products {
            for _ in 0..10 {
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                let body = self.until_accepted(plan::update(id, *product), PREPARE_LIMIT)?;
                if body.get("warnings").is_none() {
                    break;
                }
                signals::pause(Duration::from_secs(1))?;
            }
        }
        Ok(())
    }

    fn count_duplicates(&self) {
        let mut duplicates = Duplicates::default();
        let services = Service::ALL.map(Service::name);
        loop {
            let last = self.stop.load(Ordering::Relaxed) || signals::interrupted();
            let more = duplicates.read(&self.client, &services);
            self.tally.duplicates.fetch_add(more, Ordering::Relaxed);
            if last {
                return;
            }
            for _ in 0..20 {
                if !self.stop.load(Ordering::Relaxed) {
                    signals::rest(Duration::from_millis(100));
                }
            }
        }
    }
}
