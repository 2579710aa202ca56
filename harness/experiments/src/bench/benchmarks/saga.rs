//! S5: order sagas whose payment fails. Asynchronous: as many as end in a second, and how long each takes while 400 a
//! second arrive. Synchronous: the customers wait out the payment's delay, so the delay says how many there can be.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::prelude::*;
use crate::bench::session::SAGA_MS;
use crate::bench::wrk::Summary;
use measure::journal::Entry;
use measure::times::Times;
use stack::signals;

pub const ASYNC: [Goal; 4] = [
    Goal::plain("sagas/s", PerSecond, AtLeast(500.0)),
    Goal::plain("p50 to end, 400/s", Ms, AtMost(525.0))
        .from("500 ms of the payment, and 25 ms as own target"),
    Goal::plain("p99 to end, 400/s", Ms, AtMost(650.0))
        .from("500 ms of the payment, and 150 ms as own target"),
    Goal::plain("products out of step", Count, Exactly(0.0))
        .from("docs/RELIABILITY.md: a failed saga returns the stock"),
];
pub const SYNC: [Goal; 1] = [Goal::share("sagas/s", PerSecond, "c / sleeps", AtLeast(0.9))
    .from("own target for the share of what the payments allow")];

const SERVICES: [&str; 3] = [Service::Order.name(), Service::Inventory.name(), Service::Payment.name()];
const SYNC_CONNECTIONS: u32 = 100;
const ASYNC_CONNECTIONS: u32 = 16;
const ARRIVALS: &str = "400";
/// As many as may wait for their answer while the rate is kept.
const OPEN_CONNECTIONS: u32 = 64;
/// The order has ended, and its stock is released.
const EFFECTS: usize = 2;
/// Services write their journals ten times a second.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);
const NEWEST: &str = "SELECT coalesce(max(id), 0) FROM orderservice.orders";
const ALL_ENDED: &str = "SELECT NOT EXISTS (SELECT 1 FROM orderservice.orders WHERE status = 'pending')
     AND NOT EXISTS (SELECT 1 FROM inventoryservice.inventory WHERE reserved <> 0)";
/// What a failed payment must leave: as much as there was, and nothing held.
const OUT_OF_STEP: &str =
    "SELECT count(*) FROM inventoryservice.inventory WHERE reserved <> 0 OR stock <> seed_stock";

pub fn measure_async(session: &mut Session) -> Result<Vec<Measurement>> {
    session.setup(Mode::Async, &SERVICES, &Setup::default())?;
    let most = session.sample("s5-async, c=16", closed)?;
    let steady = session.sample("s5-async, 400/s", open)?;
    let out_of_step = session.store(Mode::Async)?.count(OUT_OF_STEP)?;
    Ok(vec![
        Measurement::plain(most.per_second),
        Measurement::plain(steady.p50_ms.unwrap_or(0.0)),
        Measurement::plain(steady.p99_ms.unwrap_or(0.0)),
        Measurement::plain(out_of_step as f64),
    ])
}

/// As many orders as these connections can place, until all their sagas have ended.
fn orders(session: &mut Session, mode: Mode, connections: u32) -> Result<Summary> {
    let line = session.wrk(&LoadSpec {
        url: session.url(mode, SERVICES[0], "/create_order"),
        script: Script::Order,
        args: &[],
        connections,
        seconds: session.plan.seconds,
    })?;
    session.store(mode)?.wait(ALL_ENDED, SETTLED_WITHIN)?;
    Ok(line)
}

/// Sagas that end in a second, from the first request until the last stock is released.
fn closed(session: &mut Session) -> Result<Sample> {
    let mode = Mode::Async;
    let before = session.store(mode)?.count(NEWEST)?;
    let (meter, begun) = (session.meter(mode, &SERVICES), Instant::now());
    let line = orders(session, mode, ASYNC_CONNECTIONS)?;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), meter.end());
    let failed =
        format!("SELECT count(*) FROM orderservice.orders WHERE id > {before} AND status = 'failed'");
    let ended = session.store(mode)?.count(&failed)?;
    let lost = (ended < line.requests).then(|| format!("{} accepted, {ended} ended", line.requests));
    let sample = Sample { count: ended, per_second: ended as f64 / seconds, ..Sample::of(&line, cpu) };
    Ok(sample.unless(lost))
}

/// Time to complete while orders arrive at a fixed rate: from when an order was due until its last effect in the journals.
fn open(session: &mut Session) -> Result<Sample> {
    let mode = Mode::Async;
    session.side(mode)?.journal.poll()?;
    let from = session.side(mode)?.journal.entries.len();
    let (meter, ids) = (session.meter(mode, &SERVICES), session.load_id());
    let (ids, file) = (format!("{ids}-"), session.scratch.join("due"));
    let line = session.wrk(&LoadSpec {
        url: session.url(mode, SERVICES[0], "/create_order"),
        script: Script::Order,
        args: &[ARRIVALS, &ids, &file.to_string_lossy()],
        connections: OPEN_CONNECTIONS,
        seconds: session.plan.seconds,
    })?;
    session.store(mode)?.wait(ALL_ENDED, SETTLED_WITHIN)?;
    let cpu = meter.end();
    let due = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let journal = &mut session.side(mode)?.journal;
    let mut times = Times::default();
    signals::poll(Duration::from_millis(50), WRITTEN_WITHIN, || {
        journal.poll()?;
        times = ended(&due, &ids, &journal.entries[from..])?;
        Ok((times.count() >= line.requests).then_some(()))
    })?;
    let offered = ARRIVALS.parse::<u64>()? * session.plan.seconds;
    let wrong = (times.count() < line.requests || line.requests * 100 < offered * 98)
        .then(|| format!("of {offered} offered {} were accepted, {} ended", line.requests, times.count()));
    let sample =
        Sample { p50_ms: times.quantile(0.50), p99_ms: times.quantile(0.99), ..Sample::of(&line, cpu) };
    Ok(sample.unless(wrong))
}

/// How long each order took that had every effect exactly once.
fn ended(due: &str, ids: &str, entries: &[Entry]) -> Result<Times> {
    let mut effects: HashMap<&str, (usize, i64)> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.workflow.starts_with(ids)) {
        let (count, last) = effects.entry(&entry.workflow).or_default();
        *count += 1;
        *last = entry.done_us.max(*last);
    }
    let mut times = Vec::new();
    for line in due.lines() {
        let (id, due) = line.split_once(' ').with_context(|| format!("no order: {line}"))?;
        let due: i64 = due.parse().with_context(|| format!("no time: {line}"))?;
        if let Some((EFFECTS, last)) = effects.get(id) {
            times.push(u64::try_from(last - due).unwrap_or(0));
        }
    }
    Ok(Times::of(times))
}

pub fn measure_sync(session: &mut Session) -> Result<Vec<Measurement>> {
    session.setup(Mode::Sync, &SERVICES, &Setup::default())?;
    let connections = f64::from(SYNC_CONNECTIONS);
    let found = session.sample("s5-sync, c=100", |session| {
        let mode = Mode::Sync;
        let before = session.store(mode)?.count(NEWEST)?;
        let meter = session.meter(mode, &SERVICES);
        let line = orders(session, mode, SYNC_CONNECTIONS)?;
        let cpu = meter.end();
        let compensated =
            format!("SELECT count(*) FROM orderservice.orders WHERE id > {before} AND compensated");
        let undone = session.store(mode)?.count(&compensated)?;
        let lost = (undone < line.requests).then(|| format!("{} answered, {undone} undone", line.requests));
        // All begin at once and wait equally long: what ends within some seconds is a whole number of times all of
        // them. The rate follows exactly from the time that each takes.
        let per_second = connections * 1e6 / line.mean_us;
        // Each is answered 400, as it must be.
        let invalid = line.problem(line.requests).or(lost);
        Ok(Sample { per_second, invalid, ..Sample::of(&line, cpu) })
    })?;
    Ok(vec![Measurement::of(found.per_second, connections * 1000.0 / f64::from(SAGA_MS))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_ended_when_each_effect_happened_once() {
        let entry = |workflow: &str, done_us| Entry {
            workflow: workflow.into(),
            scenario: "s5".into(),
            effect: "order".into(),
            outcome: "failed".into(),
            accepted_us: 0,
            done_us,
        };
        let entries = [
            entry("a-1", 504_000),
            entry("a-1", 502_000),
            entry("a-2", 509_000),
            entry("b-3", 1_000),
            entry("b-3", 1_000),
            entry("a-4", 700_000),
            entry("a-4", 700_000),
            entry("a-4", 700_000),
        ];
        let due = "a-1 1000\na-2 1000\na-3 1000\na-4 1000\n";
        let times = ended(due, "a-", &entries).unwrap();
        assert_eq!((times.count(), times.quantile(0.5).unwrap().round()), (1, 503.0));
        assert!(ended("a-1\n", "a-", &entries).is_err());
    }
}
