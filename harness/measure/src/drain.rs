//! After a load: waits until everything that was accepted has ended, and, before a stack ends, until the broker
//! holds nothing more. Gives up at a deadline; what is then still open is a result, not an error.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::outcomes;
use super::progress::Phase;
use super::resource_usage::Watch;
use super::samples::Answer;
use stack::{Stack, signals};

/// When the journals have every effect, the messages are acknowledged. The broker's counts follow within ten seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    pub seconds: f64,
    /// Accepted workflows without all of their final effects at the end of the wait.
    pub open: u64,
    /// Messages still in queues, and messages set aside as undeliverable.
    pub queued: u64,
    pub dead: u64,
}

/// What is waited for.
pub struct Accepted<'a> {
    pub answers: &'a [Answer],
    /// Index of their first entry in the journal.
    pub from: usize,
    /// Receivers of S3.
    pub width: usize,
}

/// Until every accepted workflow has its final effects.
pub fn wait(
    stack: &mut Stack,
    journal: &mut Journal,
    accepted: &Accepted<'_>,
    limit: Duration,
    watch: &mut Watch,
    phase: &mut Phase,
) -> Result<Drain> {
    let started = Instant::now();
    let mut drain = Drain::default();
    signals::poll(Duration::from_millis(100), limit, || {
        stack.check()?;
        watch.tick();
        journal.poll()?;
        drain.open = outcomes::open(accepted.answers, &journal.entries[accepted.from..], accepted.width);
        drain.seconds = started.elapsed().as_secs_f64();
        phase.tick(&format!("{} workflows open", drain.open));
        Ok((drain.open == 0).then_some(()))
    })?;
    Ok(drain)
}

/// Until the broker counts no messages in its working queues.
pub fn wait_for_queues(stack: &mut Stack, drain: &mut Drain, phase: &mut Phase) -> Result<()> {
    let Some(broker) = stack.broker() else { return Ok(()) };
    signals::poll(Duration::from_millis(250), COUNTED_WITHIN, || {
        stack.check()?;
        (drain.queued, drain.dead) = broker.totals()?;
        phase.tick(&format!("{} messages queued", drain.queued));
        Ok((drain.queued == 0).then_some(()))
    })?;
    Ok(())
}
