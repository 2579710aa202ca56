//! S6: clicks against the broker, the bare server and the database; the same over more connections and with larger bodies.

use super::prelude::*;

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
    Goal::share("clicks/s, c=256", PerSecond, "c=16", AtLeast(1.0))
        .from("more connections must not lower the rate"),
    Goal::beside("clicks/s, c=64", PerSecond, "c=16"),
];
pub const BODY: [Goal; 1] = [Goal::share("clicks/s, 1 KiB", PerSecond, "100 B", AtLeast(0.88))
    .from("own target for the share of the rate with 100 B")];

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
    pub fn of(session: &Session, mode: Mode, connections: u32) -> Self {
        Self { mode, connections, seconds: session.plan.seconds, longer: 0 }
    }

    pub fn load(self, session: &mut Session) -> Result<Sample> {
        let Self { mode, connections, seconds, longer } = self;
        // Each load finds the same table, whatever came before.
        session.store(mode)?.run("TRUNCATE analyticsservice.clicks")?;
        let meter = session.meter(mode, &[SERVICE]);
        let line = session.wrk(&LoadSpec {
            url: session.url(mode, SERVICE, "/track_click"),
            script: Script::Click,
            args: &[&longer.to_string()],
            connections,
            seconds,
        })?;
        let stored = session.store(mode)?.settle(COUNT, line.requests, SETTLED_WITHIN)?;
        let cpu = meter.end();
        // wrk does not wait for the answers to its last requests.
        let most = line.requests + u64::from(connections);
        let twice = (stored > most).then(|| format!("{} clicks answered, {stored} stored", line.requests));
        Ok(Sample::of(&line, cpu).unless(twice))
    }
}

pub const COUNT: &str = "SELECT count(*) FROM analyticsservice.clicks";

fn plain(session: &mut Session, connections: u32) -> Result<Sample> {
    session.setup(Mode::Async, &[SERVICE], &Setup::default())?;
    let clicks = Clicks::of(session, Mode::Async, connections);
    session.sample(&format!("s6-async, c={connections}"), |session| clicks.load(session))
}

fn service_and_broker(sample: &Sample) -> f64 {
    let micros = sample.micros();
    micros.services + micros.broker
}

pub fn s6_async(session: &mut Session) -> Result<Sample> {
    plain(session, 64)
}

pub fn measure_async(session: &mut Session) -> Result<Vec<Measurement>> {
    let (limit, found) = (session.broker()?, s6_async(session)?);
    Ok(vec![
        Measurement::of(found.per_second, limit.per_second),
        Measurement::plain(found.p99_ms.unwrap_or(0.0)),
        Measurement::plain(service_and_broker(&found)),
    ])
}

pub fn packed(session: &mut Session) -> Result<Vec<Measurement>> {
    let limit = session.http(256)?;
    session.setup(Mode::Async, &[SERVICE], &Setup::with("CLICK_PACKING", "on"))?;
    let clicks = Clicks::of(session, Mode::Async, 256);
    let found = session.sample("s6-packed, c=256", |session| clicks.load(session))?;
    Ok(vec![
        Measurement::of(found.per_second, limit.per_second),
        Measurement::plain(found.p99_ms.unwrap_or(0.0)),
        Measurement::plain(service_and_broker(&found)),
    ])
}

pub fn measure_sync(session: &mut Session) -> Result<Vec<Measurement>> {
    committed(session, "s6-sync, c=64", &Setup::default())
}

pub fn grouped(session: &mut Session) -> Result<Vec<Measurement>> {
    committed(session, "s6-grouped, c=64", &Setup::with("CLICK_PACKING", "on"))
}

fn committed(session: &mut Session, name: &str, setup: &Setup) -> Result<Vec<Measurement>> {
    let limit = session.commit(Mode::Sync)?;
    session.setup(Mode::Sync, &[SERVICE], setup)?;
    let clicks = Clicks::of(session, Mode::Sync, 64);
    let found = session.sample(name, |session| clicks.load(session))?;
    Ok(vec![Measurement::of(found.per_second, limit.per_second)])
}

pub fn connections(session: &mut Session) -> Result<Vec<Measurement>> {
    let [few, some, many] = [plain(session, 16)?, plain(session, 64)?, plain(session, 256)?];
    Ok(vec![
        Measurement::of(many.per_second, few.per_second),
        Measurement::of(some.per_second, few.per_second),
    ])
}

pub fn body(session: &mut Session) -> Result<Vec<Measurement>> {
    session.setup(Mode::Async, &[SERVICE], &Setup::default())?;
    let mut load = |name: &str, longer: u32| {
        let clicks = Clicks { longer, ..Clicks::of(session, Mode::Async, 64) };
        session.sample(name, |session| clicks.load(session))
    };
    let (small, large) = (load("s6-async, 100 B", BODY_100_B)?, load("s6-async, 1 KiB", BODY_1_KIB)?);
    Ok(vec![Measurement::of(large.per_second, small.per_second)])
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
