//! S3: product updates, each sent to three receivers, and the age of the events when they are handled.

use std::time::Duration;

use anyhow::{Context, ensure};
use contract::events::{PRODUCT_UPDATED, Queue};

use super::prelude::*;
use stack::{http, metrics, signals};

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

pub fn measure(session: &mut Session) -> Result<Vec<Measurement>> {
    let limit = session.commit(Mode::Async)?;
    session.setup(Mode::Async, &SERVICES, &Setup::default())?;
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
    let after = signals::poll(LOOK_EVERY, SETTLED_WITHIN, || {
        let now = receivers(session)?;
        let all = zip(&now, &before)
            .all(|(label, now, before)| applied(now, &label) - applied(before, &label) >= line.requests);
        Ok(all.then_some(now))
    })?;
    let after = after
        .with_context(|| format!("{} updates were accepted, a receiver lacks some of them", line.requests))?;
    let cpu = meter.end();
    let ages = zip(&after, &before)
        .filter_map(|(label, now, before)| metrics::quantile(before, now, "event_age_seconds", &label, 0.99));
    let oldest = ages.max_by(f64::total_cmp);
    ensure!(oldest.is_some() || line.requests == 0, "the receivers show no ages of events");
    Ok((Sample::of(&line, cpu), oldest.unwrap_or(0.0) * 1000.0))
}

/// Of each receiver: the label of its queue, and what it shows to Prometheus now and before.
fn zip<'a>(now: &'a [String], before: &'a [String]) -> impl Iterator<Item = (String, &'a str, &'a str)> {
    let label = |queue: &Queue| format!("queue=\"{}\"", queue.name);
    let texts = now.iter().zip(before);
    PRODUCT_UPDATED
        .destination
        .queues()
        .iter()
        .zip(texts)
        .map(move |(queue, (now, before))| (label(queue), now.as_str(), before.as_str()))
}

fn applied(text: &str, label: &str) -> u64 {
    metrics::sum(text, "events_consumed_total", label)
}

fn receivers(session: &Session) -> Result<Vec<String>> {
    let agent = http::agent(Duration::from_secs(5));
    let text = |queue: &Queue| {
        let url = session.url(Mode::Async, queue.reader.name(), "/metrics");
        Ok(http::get_once(&agent, &url)?.1)
    };
    PRODUCT_UPDATED.destination.queues().iter().map(text).collect()
}
