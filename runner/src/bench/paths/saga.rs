//! S5: order sagas whose payment fails. Asynchronous: as many as end in a second, and how long each takes while 400 a
//! second arrive. Synchronous: the customers wait out the payment's delay, so the delay says how many there can be.

use std::time::Instant;

use anyhow::Result;

use crate::bench::goal::Bound::{AtLeast, AtMost, Exactly};
use crate::bench::goal::Unit::{Count, Ms, PerSecond};
use crate::bench::goal::{Goal, Reading};
use crate::bench::lab::{Lab, SAGA_MS, Setup};
use crate::bench::sample::Sample;
use crate::bench::store::SETTLED_WITHIN;
use crate::bench::wrk::{Line, Script, Shot};
use crate::local::Mode;
use crate::measure::join::Outcome;
use crate::measure::profile::Load;
use crate::measure::scenario::Scenario;

pub const ASYNC: [Goal; 4] = [
    Goal::plain("sagas/s", PerSecond, AtLeast(500.0)),
    Goal::plain("p50 to end, 400/s", Ms, AtMost(525.0)),
    Goal::plain("p99 to end, 400/s", Ms, AtMost(650.0)),
    Goal::plain("products out of step", Count, Exactly(0.0)),
];
pub const SYNC: [Goal; 1] = [Goal::share("sagas/s", PerSecond, "c / sleeps", AtLeast(0.9))];

const SERVICES: [&str; 3] = ["orderservice", "inventoryservice", "paymentservice"];
const SYNC_CONNECTIONS: u32 = 100;
const ASYNC_CONNECTIONS: u32 = 16;
const ARRIVALS: &str = "400";
const NEWEST: &str = "SELECT coalesce(max(id), 0) FROM orderservice.orders";
const ALL_ENDED: &str = "SELECT NOT EXISTS (SELECT 1 FROM orderservice.orders WHERE status = 'pending')
     AND NOT EXISTS (SELECT 1 FROM inventoryservice.inventory WHERE reserved <> 0)";
/// What a failed payment must leave: as much as there was, and nothing held.
const OUT_OF_STEP: &str =
    "SELECT count(*) FROM inventoryservice.inventory WHERE reserved <> 0 OR stock <> seed_stock";

pub fn measure_async(lab: &mut Lab) -> Result<Vec<Reading>> {
    for service in SERVICES {
        lab.setup(Mode::Async, service, &Setup::default())?;
    }
    let most = lab.sample("s5-async, c=16", closed)?;
    let steady = lab.sample("s5-async, 400/s", open)?;
    let out_of_step = lab.store(Mode::Async)?.count(OUT_OF_STEP)?;
    Ok(vec![
        Reading::plain(most.per_second),
        Reading::plain(steady.p50_ms.unwrap_or(0.0)),
        Reading::plain(steady.p99_ms.unwrap_or(0.0)),
        Reading::plain(out_of_step as f64),
    ])
}

/// As many orders as these connections can place, until all their sagas have ended.
fn orders(lab: &mut Lab, mode: Mode, connections: u32) -> Result<Line> {
    let line = lab.wrk(&Shot {
        url: lab.url(mode, SERVICES[0], "/create_order"),
        script: Script::Order,
        args: &[],
        connections,
        seconds: lab.plan.seconds,
    })?;
    lab.store(mode)?.wait(ALL_ENDED, SETTLED_WITHIN)?;
    Ok(line)
}

/// Sagas that end in a second, from the first request until the last stock is released.
fn closed(lab: &mut Lab) -> Result<Sample> {
    let mode = Mode::Async;
    let before = lab.store(mode)?.count(NEWEST)?;
    let (meter, begun) = (lab.meter(mode, &SERVICES), Instant::now());
    let line = orders(lab, mode, ASYNC_CONNECTIONS)?;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), meter.end());
    let failed =
        format!("SELECT count(*) FROM orderservice.orders WHERE id > {before} AND status = 'failed'");
    let ended = lab.store(mode)?.count(&failed)?;
    let lost = (ended < line.requests).then(|| format!("{} accepted, {ended} ended", line.requests));
    let sample = Sample { count: ended, per_second: ended as f64 / seconds, ..Sample::of(&line, cpu) };
    Ok(sample.unless(lost))
}

/// Time to complete, as the services' journals tell it, while orders arrive at a fixed rate.
fn open(lab: &mut Lab) -> Result<Sample> {
    let load = Load::alone(Scenario::S5, ARRIVALS, lab.plan.seconds);
    let meter = lab.meter(Mode::Async, &SERVICES);
    let outcome = lab.open_load(Scenario::S5, &load)?;
    let cpu = meter.end();
    let Outcome { requests, expected, open, twice, dropped, .. } = outcome;
    let wrong = (dropped + open + twice > 0 || expected < requests).then(|| {
        format!(
            "{dropped} not offered in time, {} unexpected answers, {open} open, {twice} ended twice",
            requests - expected
        )
    });
    let sample = Sample {
        count: expected,
        per_second: expected as f64 / load.seconds as f64,
        p50_ms: outcome.complete.quantile(0.50),
        p99_ms: outcome.complete.quantile(0.99),
        cpu,
        ..Sample::default()
    };
    Ok(sample.unless(wrong))
}

pub fn measure_sync(lab: &mut Lab) -> Result<Vec<Reading>> {
    for service in SERVICES {
        lab.setup(Mode::Sync, service, &Setup::default())?;
    }
    let connections = f64::from(SYNC_CONNECTIONS);
    let found = lab.sample("s5-sync, c=100", |lab| {
        let mode = Mode::Sync;
        let before = lab.store(mode)?.count(NEWEST)?;
        let meter = lab.meter(mode, &SERVICES);
        let line = orders(lab, mode, SYNC_CONNECTIONS)?;
        let cpu = meter.end();
        let compensated =
            format!("SELECT count(*) FROM orderservice.orders WHERE id > {before} AND compensated");
        let undone = lab.store(mode)?.count(&compensated)?;
        let lost = (undone < line.requests).then(|| format!("{} answered, {undone} undone", line.requests));
        // All begin at once and wait equally long: what ends within some seconds is a whole number of times all of
        // them. The time that each takes tells the rate exactly.
        let per_second = connections * 1e6 / line.mean_us;
        // Each is answered 400, as it must be.
        let invalid = line.problem(line.requests).or(lost);
        Ok(Sample { per_second, invalid, ..Sample::of(&line, cpu) })
    })?;
    Ok(vec![Reading::of(found.per_second, connections * 1000.0 / f64::from(SAGA_MS))])
}
