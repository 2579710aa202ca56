//! S1: registrations, each an insert with an event in the outbox, and the welcome e-mail that follows.

use super::prelude::*;

pub const GOALS: [Goal; 1] = [Goal::share("users/s", PerSecond, "commit", AtLeast(0.25))];

pub const SERVICES: [&str; 2] = [Service::User.name(), Service::Email.name()];
const CONNECTIONS: u32 = 16;
const EMAILS: &str = "SELECT count(*) FROM emailservice.emails";

pub fn measure(session: &mut Session) -> Result<Vec<Measurement>> {
    let limit = session.commit(Mode::Async)?;
    session.setup(Mode::Async, &SERVICES, &Setup::default())?;
    let seconds = session.plan.seconds;
    let found = session.sample("s1-async, c=16", |session| load(session, seconds))?;
    Ok(vec![Measurement::of(found.per_second, limit.per_second)])
}

/// Until every user has the e-mail.
pub fn load(session: &mut Session, seconds: u64) -> Result<Sample> {
    let mode = Mode::Async;
    session.store(mode)?.run("TRUNCATE userservice.users; TRUNCATE emailservice.emails")?;
    let (meter, id) = (session.meter(mode, &SERVICES), session.load_id());
    let line = session.wrk(&LoadSpec {
        url: session.url(mode, SERVICES[0], "/register"),
        script: Script::Register,
        args: &[&id],
        connections: CONNECTIONS,
        seconds,
    })?;
    let sent = session.store(mode)?.settle(EMAILS, line.requests, SETTLED_WITHIN)?;
    let cpu = meter.end();
    let users = session.store(mode)?.count("SELECT count(*) FROM userservice.users")?;
    let wrong = (users != sent).then(|| format!("{users} users, {sent} e-mails"));
    Ok(Sample::of(&line, cpu).unless(wrong))
}
