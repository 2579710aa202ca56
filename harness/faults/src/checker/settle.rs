//! Waits until no work is left in services, outboxes and queues, so that the stores are final.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::read::{self, Databases};
use super::{RunArtifacts, operation_log};
use stack::broker::Broker;
use stack::signals;

const LIMIT: Duration = Duration::from_secs(240);
/// How long nothing must be left, in addition to the age of the broker's counts.
const QUIET: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(500);
/// Work that has not changed for this long, with no message in a queue, will not end: services resume what a crash interrupted
/// (orders after 15 s, without events reports after 90 s).
const STUCK_EVENTS: Duration = Duration::from_secs(45);
const STUCK_CALLS: Duration = Duration::from_secs(120);

/// The end of the wait.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settled {
    pub seconds: f64,
    /// From when no order was pending, in milliseconds since the Unix epoch.
    pub orders_ended_ms: Option<u64>,
    /// Work that was left at the limit.
    pub left: Vec<String>,
}

/// Takes at most 4 minutes: work that is left then is in the result, and breaks an invariant.
pub fn settle(artifacts: &RunArtifacts, on_progress: &dyn Fn(&str)) -> Result<Settled> {
    let began = Instant::now();
    let mut settled = Settled::default();
    let mut databases = Databases::connect(artifacts)?;
    let broker = artifacts.broker.as_deref();
    let quiet = QUIET + broker.map_or(Duration::ZERO, Broker::count_lag);
    let stuck = if broker.is_some() { STUCK_EVENTS } else { STUCK_CALLS };
    let mut quiet_since = None;
    let mut unchanged = (Vec::new(), Instant::now());
    loop {
        let open = databases.open()?;
        match open.iter().any(|(what, _)| *what == "orders pending") {
            true => settled.orders_ended_ms = None,
            false => {
                settled.orders_ended_ms.get_or_insert_with(operation_log::now_ms);
            }
        }
        let mut left: Vec<String> = open.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let waiting =
            read::queues(artifacts)?.into_iter().filter(|queue| !queue.is_dead() && queue.messages > 0);
        let stored = left.len();
        left.extend(waiting.map(|queue| format!("{} messages in {}", queue.messages, queue.name)));
        if left != unchanged.0 || left.len() > stored {
            unchanged = (left.clone(), Instant::now());
        }
        settled.seconds = began.elapsed().as_secs_f64();
        if left.is_empty() {
            if quiet_since.get_or_insert_with(Instant::now).elapsed() >= quiet {
                return Ok(settled);
            }
        } else {
            quiet_since = None;
        }
        if began.elapsed() > LIMIT || (!left.is_empty() && unchanged.1.elapsed() > stuck) {
            settled.left = left;
            return Ok(settled);
        }
        on_progress(if left.is_empty() { "at rest, is it for good?" } else { &left[0] });
        signals::pause(POLL)?;
    }
}
