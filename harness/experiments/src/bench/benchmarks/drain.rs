//! Clicks that wait: the queue is filled while analyticsservice is stopped, then it is started again and stores them.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::clicks::{COUNT, SERVICE, s6_async};
use super::prelude::*;
use crate::bench::baseline::Limit;
use measure::resource_usage::{Part, cpu_of};
use stack::{restart, state};

pub const DRAIN: [Goal; 3] = [
    Goal::share("rows/s stored", PerSecond, "filling", AtLeast(1.2))
        .from("a backlog must shrink while clicks arrive; own margin"),
    Goal::share("rows/s stored", PerSecond, "s6-async", AtLeast(1.0))
        .from("the consumer must keep up with the service"),
    Goal::beside("rows/s stored", PerSecond, "bulk"),
];
pub const MILLION: [Goal; 5] = [
    Goal::share("clicks/s, last fifth", PerSecond, "first", AtLeast(0.75))
        .from("own target: a long queue must not slow the broker"),
    Goal::share("CPU, broker, last fifth", Us, "first", AtMost(1.25))
        .from("own target: a long queue must not slow the broker"),
    Goal::plain("broker's memory, more", MiB, AtMost(300.0)),
    Goal::share("rows stored", Count, "published", Exactly(1.0))
        .from("docs/RELIABILITY.md: each accepted click is stored once"),
    Goal::beside("rows/s stored", PerSecond, "bulk"),
];

/// For a queue that is stored at a hundredth of the usual rate.
const DRAINED_WITHIN: Duration = Duration::from_secs(300);
/// The number of rows, and the seconds from the first to the last by the database's clock.
const STORED: &str = "SELECT count(*), extract(epoch FROM max(stored_at) - min(stored_at))::float8
     FROM analyticsservice.clicks";

/// What a queue was filled with, and what it took.
struct Filled {
    limit: Limit,
    /// MiB that the broker took more afterwards.
    memory: f64,
    /// Processor seconds of the broker in the first and in the last fifth.
    cpu: (f64, f64),
}

pub fn drain(session: &mut Session) -> Result<Vec<Measurement>> {
    let (bulk, direct) = (session.bulk()?, s6_async(session)?);
    let (count, mut filled) = (session.plan.fill, None);
    let stored = session.sample("drain", |session| {
        filled = Some(fill(session, count, "fill")?);
        empty(session, count)
    })?;
    let filled = filled.context("nothing was filled")?.limit;
    Ok(vec![
        Measurement::of(stored.per_second, filled.per_second),
        Measurement::of(stored.per_second, direct.per_second),
        Measurement::of(stored.per_second, bulk.per_second),
    ])
}

pub fn million(session: &mut Session) -> Result<Vec<Measurement>> {
    let (bulk, count) = (session.bulk()?, session.plan.many);
    let mut filled = None;
    let stored = session.sample("million, stored", |session| {
        filled = Some(fill(session, count, "million, filled")?);
        empty(session, count)
    })?;
    let Filled { limit, memory, cpu: (first, last), .. } = filled.context("nothing was filled")?;
    let (first_rate, last_rate) = limit.fifths.first().zip(limit.fifths.last()).context("no fifths")?;
    let fifth = count as f64 / limit.fifths.len() as f64;
    Ok(vec![
        Measurement::of(*last_rate, *first_rate),
        Measurement::of(last * 1e6 / fifth, first * 1e6 / fifth),
        Measurement::plain(memory),
        Measurement::of(stored.count as f64, count as f64),
        Measurement::of(stored.per_second, bulk.per_second),
    ])
}

/// Without a consumer. The sample is kept as `name`.
fn fill(session: &mut Session, count: u64, name: &str) -> Result<Filled> {
    session.setup(Mode::Async, &[SERVICE], &Setup::default())?;
    session.stop_service(Mode::Async, SERVICE)?;
    session.store(Mode::Async)?.run("TRUNCATE analyticsservice.clicks")?;
    let args = ["fill", "--queue", "click_tracked_queue", "--in-flight", "256", "--url"];
    let args = args.map(ToOwned::to_owned);
    let args = [&args[..], &[session.amqp_url()?, "--count".into(), count.to_string()]].concat();

    let broker = session.side(Mode::Async)?.stack.pid("rabbitmq")?;
    let (before, meter) = (memory(broker), session.meter(Mode::Async, &[]));
    let begun = Instant::now();
    let mut course = vec![(0.0, cpu_of(broker))];
    let limit = session.baseline(&args, || course.push((begun.elapsed().as_secs_f64(), cpu_of(broker))))?;
    course.push((begun.elapsed().as_secs_f64(), cpu_of(broker)));
    session.keep(name, limit.sample(meter.end()));
    let cpu = first_and_last(&limit.fifths, count as f64, &course);
    Ok(Filled { limit, memory: memory(broker) - before, cpu })
}

/// From the first row until nothing is left.
fn empty(session: &mut Session, count: u64) -> Result<Sample> {
    // It begins before it is ready.
    let mut meter = session.meter(Mode::Async, &[]);
    session.start_service(Mode::Async, SERVICE, &Setup::default())?;
    meter.add(Part::Services, session.side(Mode::Async)?.stack.pid(SERVICE)?);
    let store = session.store(Mode::Async)?;
    store.settle(COUNT, count, DRAINED_WITHIN)?;
    let (stored, seconds): (i64, f64) = store.row(STORED)?;
    let stored = stored.unsigned_abs();
    let sample =
        Sample { count: stored, per_second: stored as f64 / seconds, cpu: meter.end(), ..Sample::default() };
    Ok(sample.unless((stored != count).then(|| format!("{count} clicks published, {stored} stored"))))
}

/// MiB of the broker, which is the first of its processes.
fn memory(broker: u32) -> f64 {
    restart::children(broker).into_iter().chain([broker]).filter_map(state::resident).sum()
}

/// Processor seconds in the first and in the last fifth of a fill, from what was read in its course (seconds since its
/// begin, processor seconds). `rates`: of each fifth of `count`.
fn first_and_last(rates: &[f64], count: f64, course: &[(f64, f64)]) -> (f64, f64) {
    let fifth = count / rates.len().max(1) as f64;
    let end = course.last().map_or(0.0, |(at, _)| *at);
    let length = |rate: Option<&f64>| rate.map_or(0.0, |rate| fifth / rate);
    let (first, last) = (length(rates.first()), length(rates.last()));
    // The program needs a moment to begin: its fifths end with the course.
    let begin = end - rates.iter().map(|rate| fifth / rate).sum::<f64>();
    let at = |seconds| between(course, seconds);
    (at(begin + first) - at(begin), at(end) - at(end - last))
}

/// What a course came to at a moment: on the line between what was read before and after.
fn between(course: &[(f64, f64)], at: f64) -> f64 {
    let after = course.partition_point(|(known, _)| *known < at);
    match (after.checked_sub(1).and_then(|before| course.get(before)), course.get(after)) {
        (Some((from, low)), Some((to, high))) => low + (high - low) * (at - from) / (to - from),
        (Some((_, only)), None) | (None, Some((_, only))) => *only,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_time_is_cut_at_the_ends_of_the_fifths() {
        // 1 s until it begins; then five fifths of 2, 2, 2, 2 and 4 s, at 1, 1, 1, 1 and 3 CPU seconds a second.
        let course: Vec<(f64, f64)> = (0..=26)
            .map(|half| f64::from(half) / 2.0)
            .map(|at| (at, (at - 1.0).clamp(0.0, 8.0) + 3.0 * (at - 9.0).max(0.0)))
            .collect();
        let (first, last) = first_and_last(&[100.0, 100.0, 100.0, 100.0, 50.0], 1000.0, &course);
        assert!((first - 2.0).abs() < 1e-9 && (last - 12.0).abs() < 1e-9, "{first} {last}");
    }

    #[test]
    fn between_two_readings_is_a_line() {
        let course = [(0.0, 1.0), (2.0, 3.0)];
        assert_eq!([-1.0, 0.5, 2.0, 9.0].map(|at| between(&course, at)), [1.0, 1.5, 3.0, 3.0]);
    }
}
