//! S1: registrations, each an insert with an event in the outbox, and the welcome e-mail that follows.

use anyhow::Result;
use contract::Service;

use crate::bench::goal::Bound::AtLeast;
use crate::bench::goal::Unit::PerSecond;
use crate::bench::goal::{Goal, Reading};
use crate::bench::lab::{Lab, Setup};
use crate::bench::sample::Sample;
use crate::bench::store::SETTLED_WITHIN;
use crate::bench::wrk::{Script, Shot};
use stack::Mode;

pub const GOALS: [Goal; 1] = [Goal::share("users/s", PerSecond, "commit", AtLeast(0.25))];

pub const SERVICES: [&str; 2] = [Service::User.name(), Service::Email.name()];
const CONNECTIONS: u32 = 16;
const EMAILS: &str = "SELECT count(*) FROM emailservice.emails";

pub fn measure(lab: &mut Lab) -> Result<Vec<Reading>> {
    let limit = lab.commit(Mode::Async)?;
    for service in SERVICES {
        lab.setup(Mode::Async, service, &Setup::default())?;
    }
    let seconds = lab.plan.seconds;
    let found = lab.sample("s1-async, c=16", |lab| load(lab, seconds))?;
    Ok(vec![Reading::of(found.per_second, limit.per_second)])
}

/// Until every user has the e-mail.
pub fn load(lab: &mut Lab, seconds: u64) -> Result<Sample> {
    let mode = Mode::Async;
    lab.store(mode)?.run("TRUNCATE userservice.users; TRUNCATE emailservice.emails")?;
    let (meter, id) = (lab.meter(mode, &SERVICES), lab.load_id());
    let line = lab.wrk(&Shot {
        url: lab.url(mode, SERVICES[0], "/register"),
        script: Script::Register,
        args: &[&id],
        connections: CONNECTIONS,
        seconds,
    })?;
    let sent = lab.store(mode)?.settle(EMAILS, line.requests, SETTLED_WITHIN)?;
    let cpu = meter.end();
    let users = lab.store(mode)?.count("SELECT count(*) FROM userservice.users")?;
    let wrong = (users != sent).then(|| format!("{users} users, {sent} e-mails"));
    Ok(Sample::of(&line, cpu).unless(wrong))
}
