//! What the protections and the metrics cost: the same load with and without each, one after the other in each round, of a
//! build that can do without.

use contract::Protection;

use super::clicks::{self, Clicks};
use super::prelude::*;
use super::users;

pub const GOALS: [Goal; 10] = [
    Goal::beside("clicks/s, no confirms", PerSecond, "with"),
    Goal::beside("click's CPU, no confirms", Us, "with"),
    Goal::beside("clicks/s, no metrics", PerSecond, "with"),
    Goal::beside("click's CPU, no metrics", Us, "with"),
    Goal::beside("users/s, no outbox", PerSecond, "with"),
    Goal::beside("user's CPU, no outbox", Us, "with"),
    Goal::beside("users/s, no inbox", PerSecond, "with"),
    Goal::beside("user's CPU, no inbox", Us, "with"),
    Goal::beside("users/s, no metrics", PerSecond, "with"),
    Goal::beside("user's CPU, no metrics", Us, "with"),
];

pub fn measure(session: &mut Session) -> Result<Vec<Measurement>> {
    let mut readings = Vec::new();
    let all = click(session, None)?;
    for protection in [Protection::Confirms, Protection::Metrics] {
        readings.extend(beside(&click(session, Some(protection))?, &all));
    }
    let all = user(session, None)?;
    for protection in [Protection::Outbox, Protection::Inbox, Protection::Metrics] {
        readings.extend(beside(&user(session, Some(protection))?, &all));
    }
    session.setup(Mode::Async, &users::SERVICES, &Setup::default())?;
    session.setup(Mode::Async, &[clicks::SERVICE], &Setup::default())?;
    Ok(readings)
}

fn beside(without: &Sample, with: &Sample) -> [Measurement; 2] {
    let cpu = |sample: &Sample| {
        let micros = sample.micros();
        micros.services + micros.broker + micros.database
    };
    [Measurement::of(without.per_second, with.per_second), Measurement::of(cpu(without), cpu(with))]
}

fn click(session: &mut Session, disabled: Option<Protection>) -> Result<Sample> {
    session.setup(Mode::Async, &[clicks::SERVICE], &Setup::without(disabled))?;
    let clicks = Clicks { seconds: seconds(session), ..Clicks::of(session, Mode::Async, 64) };
    session.sample(&name("clicks", disabled), |session| clicks.load(session))
}

fn user(session: &mut Session, disabled: Option<Protection>) -> Result<Sample> {
    session.setup(Mode::Async, &users::SERVICES, &Setup::without(disabled))?;
    let seconds = seconds(session);
    session.sample(&name("users", disabled), |session| users::load(session, seconds))
}

/// Many loads, none of which is judged.
fn seconds(session: &Session) -> u64 {
    (session.plan.seconds - 1).max(1)
}

fn name(what: &str, disabled: Option<Protection>) -> String {
    disabled.map_or_else(|| format!("{what}, all there"), |protection| format!("{what}, no {protection}"))
}
