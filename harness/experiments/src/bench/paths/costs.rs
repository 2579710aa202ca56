//! What the protections and the metrics cost: the same load with and without each, one after the other in each round, of a
//! build that can do without.

use anyhow::Result;
use contract::Protection;

use super::clicks::{self, Clicks};
use super::users;
use crate::bench::goal::Unit::{PerSecond, Us};
use crate::bench::goal::{Goal, Reading};
use crate::bench::lab::{Lab, Setup};
use crate::bench::sample::Sample;
use stack::Mode;

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

pub fn measure(lab: &mut Lab) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    let all = click(lab, None)?;
    for protection in [Protection::Confirms, Protection::Metrics] {
        readings.extend(beside(&click(lab, Some(protection))?, &all));
    }
    let all = user(lab, None)?;
    for protection in [Protection::Outbox, Protection::Inbox, Protection::Metrics] {
        readings.extend(beside(&user(lab, Some(protection))?, &all));
    }
    for service in users::SERVICES.into_iter().chain([clicks::SERVICE]) {
        lab.setup(Mode::Async, service, &Setup::default())?;
    }
    Ok(readings)
}

fn beside(without: &Sample, with: &Sample) -> [Reading; 2] {
    let cpu = |sample: &Sample| {
        let micros = sample.micros();
        micros.service + micros.broker + micros.database
    };
    [Reading::of(without.per_second, with.per_second), Reading::of(cpu(without), cpu(with))]
}

fn click(lab: &mut Lab, disabled: Option<Protection>) -> Result<Sample> {
    lab.setup(Mode::Async, clicks::SERVICE, &Setup::without(disabled))?;
    let clicks = Clicks { seconds: seconds(lab), ..Clicks::of(lab, Mode::Async, 64) };
    lab.sample(&name("clicks", disabled), |lab| clicks.load(lab))
}

fn user(lab: &mut Lab, disabled: Option<Protection>) -> Result<Sample> {
    for service in users::SERVICES {
        lab.setup(Mode::Async, service, &Setup::without(disabled))?;
    }
    let seconds = seconds(lab);
    lab.sample(&name("users", disabled), |lab| users::load(lab, seconds))
}

/// Many loads, none of which is judged.
fn seconds(lab: &Lab) -> u64 {
    (lab.plan.seconds - 1).max(1)
}

fn name(what: &str, disabled: Option<Protection>) -> String {
    disabled.map_or_else(|| format!("{what}, all there"), |protection| format!("{what}, no {protection}"))
}
