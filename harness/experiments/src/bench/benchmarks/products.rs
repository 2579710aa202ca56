//! S3: product updates, each told to three receivers, and how old the news are when they arrive.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contract::Service;
use contract::events::{PRODUCT_UPDATED, Queue};

use crate::bench::goal::Threshold::{AtLeast, AtMost};
use crate::bench::goal::Unit::{Ms, PerSecond};
use crate::bench::goal::{Goal, Measurement};
use crate::bench::histogram::Histogram;
use crate::bench::sample::Sample;
use crate::bench::session::{Session, Setup};
use crate::bench::store::SETTLED_WITHIN;
use crate::bench::wrk::{LoadSpec, Script};
use stack::{Mode, http, metrics, signals};

pub const GOALS: [Goal; 2] = [
    Goal::share("updates/s", PerSecond, "commit", AtLeast(0.15)),
    Goal::plain("p99 age of an event", Ms, AtMost(100.0)),
];

/// The writer, then the readers.
const SERVICES: [&str; 4] =
    [Service::Product.name(), Service::Search.name(), Service::Cache.name(), Service::Analytics.name()];
const CONNECTIONS: u32 = 16;
/// So many that no update waits for another of the same product.
const PRODUCTS: u64 = 200;
const LOOK_EVERY: Duration = Duration::from_millis(20);
const NOTHING_TO_SEND: &str = "SELECT NOT EXISTS (SELECT 1 FROM productservice.outbox)";

/// What a receiver has told so far.
struct Seen {
    applied: u64,
    ages: Histogram,
}

pub fn measure(session: &mut Session) -> Result<Vec<Measurement>> {
    let limit = session.commit(Mode::Async)?;
    for service in SERVICES {
        session.setup(Mode::Async, service, &Setup::default())?;
    }
    let first = products(session)?.to_string();
    let mut age_ms = 0.0;
    let found = session.sample("s3-async, c=16", |session| {
        let (sample, oldest_ms) = load(session, &first)?;
        age_ms = oldest_ms;
        Ok(sample)
    })?;
    Ok(vec![Measurement::of(found.per_second, limit.per_second), Measurement::plain(age_ms)])
}

/// The first of so many products in a row, made if they are not there.
fn products(session: &mut Session) -> Result<u64> {
    const OWN: &str = "SELECT coalesce(min(id), 0) FROM productservice.products WHERE name LIKE 'Part %'";
    let known = session.store(Mode::Async)?.count(OWN)?;
    if known > 0 {
        return Ok(known);
    }
    let (agent, url) =
        (http::agent(Duration::from_secs(5)), session.url(Mode::Async, Service::Product.name(), "/products"));
    for number in 0..PRODUCTS {
        http::post(&agent, &url, &format!(r#"{{"name":"Part {number}","stock":1}}"#))?;
    }
    session.store(Mode::Async)?.count(OWN)
}

/// Until all three have applied all of it; also the p99 of the age of an event, of the receiver where it is highest.
fn load(session: &mut Session, first: &str) -> Result<(Sample, f64)> {
    let mode = Mode::Async;
    session.store(mode)?.wait(NOTHING_TO_SEND, SETTLED_WITHIN)?;
    let before = receivers(session)?;
    let meter = session.meter(mode, &SERVICES);
    let line = session.wrk(&LoadSpec {
        url: session.url(mode, SERVICES[0], "/"),
        script: Script::Product,
        args: &[first, &PRODUCTS.to_string()],
        connections: CONNECTIONS,
        seconds: session.plan.seconds,
    })?;
    session.store(mode)?.wait(NOTHING_TO_SEND, SETTLED_WITHIN)?;
    let deadline = Instant::now() + SETTLED_WITHIN;
    let after = loop {
        let now = receivers(session)?;
        let fewest = now.iter().zip(&before).map(|(now, before)| now.applied - before.applied).min();
        if fewest >= Some(line.requests) {
            break now;
        }
        if Instant::now() > deadline {
            bail!("{} updates were accepted, a receiver has applied {fewest:?}", line.requests);
        }
        signals::pause(LOOK_EVERY)?;
    };
    let cpu = meter.end();
    let ages =
        after.iter().zip(&before).filter_map(|(now, before)| now.ages.since(&before.ages).quantile(0.99));
    let oldest = ages.fold(0.0, f64::max);
    Ok((Sample::of(&line, cpu), oldest * 1000.0))
}

fn receivers(session: &Session) -> Result<Vec<Seen>> {
    let agent = http::agent(Duration::from_secs(5));
    let of = |queue: &Queue| {
        let service = queue.reader;
        let (_, text) = http::get_once(&agent, &session.url(Mode::Async, service.name(), "/metrics"))?;
        let label = format!("queue=\"{}\"", queue.name);
        let ages = Histogram::read(&text, "event_age_seconds", &label);
        let applied = metrics::sum(&text, "events_consumed_total", &label);
        anyhow::Ok(Seen { applied, ages: ages.with_context(|| format!("{service} tells no ages"))? })
    };
    PRODUCT_UPDATED.destination.queues().iter().map(of).collect()
}
