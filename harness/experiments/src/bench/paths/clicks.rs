//! S6: clicks against the broker, the bare server and the database; the same over more connections and with larger bodies.

use anyhow::Result;
use contract::Service;

use crate::bench::goal::Bound::{AtLeast, AtMost};
use crate::bench::goal::Unit::{Ms, PerSecond, Us};
use crate::bench::goal::{Goal, Reading};
use crate::bench::lab::{Lab, Setup};
use crate::bench::sample::Sample;
use crate::bench::store::SETTLED_WITHIN;
use crate::bench::wrk::{Script, Shot};
use stack::Mode;

pub const SERVICE: &str = Service::Analytics.name();

pub const ASYNC: [Goal; 3] = [
    Goal::share("clicks/s", PerSecond, "broker", AtLeast(0.85)),
    Goal::plain("p99", Ms, AtMost(10.0)),
    Goal::plain("CPU, service and broker", Us, AtMost(70.0)),
];
pub const PACKED: [Goal; 3] = [
    Goal::share("clicks/s", PerSecond, "http", AtLeast(0.55)),
    Goal::plain("p99", Ms, AtMost(15.0)),
    Goal::plain("CPU, service and broker", Us, AtMost(45.0)),
];
pub const SYNC: [Goal; 1] = [Goal::share("clicks/s", PerSecond, "commit", AtLeast(0.8))];
pub const GROUPED: [Goal; 1] = [Goal::share("clicks/s", PerSecond, "commit", AtLeast(3.0))];
pub const CONNECTIONS: [Goal; 2] = [
    Goal::share("clicks/s, c=256", PerSecond, "c=16", AtLeast(1.0)),
    Goal::beside("clicks/s, c=64", PerSecond, "c=16"),
];
pub const BODY: [Goal; 1] = [Goal::share("clicks/s, 1 KiB", PerSecond, "100 B", AtLeast(0.88))];

/// Characters beyond the plain page that make a body so long.
const BODY_100_B: u32 = 60;
const BODY_1_KIB: u32 = 984;

/// Clicks for some seconds, and the time until all of them are stored.
#[derive(Clone, Copy)]
pub struct Clicks {
    pub mode: Mode,
    pub connections: u32,
    pub seconds: u64,
    /// Characters of the page beyond the plain one.
    pub longer: u32,
}

impl Clicks {
    pub fn of(lab: &Lab, mode: Mode, connections: u32) -> Self {
        Self { mode, connections, seconds: lab.plan.seconds, longer: 0 }
    }

    pub fn load(self, lab: &mut Lab) -> Result<Sample> {
        let Self { mode, connections, seconds, longer } = self;
        // Each load finds the same table, whatever came before.
        lab.store(mode)?.run("TRUNCATE analyticsservice.clicks")?;
        let meter = lab.meter(mode, &[SERVICE]);
        let line = lab.wrk(&Shot {
            url: lab.url(mode, SERVICE, "/track_click"),
            script: Script::Click,
            args: &[&longer.to_string()],
            connections,
            seconds,
        })?;
        let stored = lab.store(mode)?.settle(COUNT, line.requests, SETTLED_WITHIN)?;
        let cpu = meter.end();
        // wrk does not wait for the answers to its last requests.
        let most = line.requests + u64::from(connections);
        let twice = (stored > most).then(|| format!("{} clicks answered, {stored} stored", line.requests));
        Ok(Sample::of(&line, cpu).unless(twice))
    }
}

pub const COUNT: &str = "SELECT count(*) FROM analyticsservice.clicks";

fn plain(lab: &mut Lab, connections: u32) -> Result<Sample> {
    lab.setup(Mode::Async, SERVICE, &Setup::default())?;
    let clicks = Clicks::of(lab, Mode::Async, connections);
    lab.sample(&format!("s6-async, c={connections}"), |lab| clicks.load(lab))
}

fn service_and_broker(sample: &Sample) -> f64 {
    let micros = sample.micros();
    micros.service + micros.broker
}

pub fn s6_async(lab: &mut Lab) -> Result<Sample> {
    plain(lab, 64)
}

pub fn measure_async(lab: &mut Lab) -> Result<Vec<Reading>> {
    let (limit, found) = (lab.broker()?, s6_async(lab)?);
    Ok(vec![
        Reading::of(found.per_second, limit.per_second),
        Reading::plain(found.p99_ms.unwrap_or(0.0)),
        Reading::plain(service_and_broker(&found)),
    ])
}

pub fn packed(lab: &mut Lab) -> Result<Vec<Reading>> {
    let limit = lab.http(256)?;
    lab.setup(Mode::Async, SERVICE, &Setup::with("CLICK_PACKING", "on"))?;
    let clicks = Clicks::of(lab, Mode::Async, 256);
    let found = lab.sample("s6-packed, c=256", |lab| clicks.load(lab))?;
    Ok(vec![
        Reading::of(found.per_second, limit.per_second),
        Reading::plain(found.p99_ms.unwrap_or(0.0)),
        Reading::plain(service_and_broker(&found)),
    ])
}

pub fn measure_sync(lab: &mut Lab) -> Result<Vec<Reading>> {
    committed(lab, "s6-sync, c=64", &Setup::default())
}

pub fn grouped(lab: &mut Lab) -> Result<Vec<Reading>> {
    committed(lab, "s6-grouped, c=64", &Setup::with("CLICK_PACKING", "on"))
}

fn committed(lab: &mut Lab, name: &str, setup: &Setup) -> Result<Vec<Reading>> {
    let limit = lab.commit(Mode::Sync)?;
    lab.setup(Mode::Sync, SERVICE, setup)?;
    let clicks = Clicks::of(lab, Mode::Sync, 64);
    let found = lab.sample(name, |lab| clicks.load(lab))?;
    Ok(vec![Reading::of(found.per_second, limit.per_second)])
}

pub fn connections(lab: &mut Lab) -> Result<Vec<Reading>> {
    let [few, some, many] = [plain(lab, 16)?, plain(lab, 64)?, plain(lab, 256)?];
    Ok(vec![Reading::of(many.per_second, few.per_second), Reading::of(some.per_second, few.per_second)])
}

pub fn body(lab: &mut Lab) -> Result<Vec<Reading>> {
    lab.setup(Mode::Async, SERVICE, &Setup::default())?;
    let mut load = |name: &str, longer: u32| {
        let clicks = Clicks { longer, ..Clicks::of(lab, Mode::Async, 64) };
        lab.sample(name, |lab| clicks.load(lab))
    };
    let (small, large) = (load("s6-async, 100 B", BODY_100_B)?, load("s6-async, 1 KiB", BODY_1_KIB)?);
    Ok(vec![Reading::of(large.per_second, small.per_second)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_long_as_their_names_say() {
        let length = |longer: u32| {
            let page = format!("/products/123{}", "x".repeat(longer as usize));
            format!(r#"{{"user_id":12345,"page":"{page}"}}"#).len()
        };
        assert_eq!((length(BODY_100_B), length(BODY_1_KIB)), (100, 1024));
    }
}
