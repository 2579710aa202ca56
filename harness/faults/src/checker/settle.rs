//! Waits until everything is at rest: only then do the stores say what came of the run.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::read::{self, Databases};
use super::{Evidence, ledger};
use stack::broker::Broker;
use stack::signals;

const LIMIT: Duration = Duration::from_secs(240);
/// For which nothing must be on its way, beyond the age of the broker's counts.
const QUIET: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(500);
/// What has not changed for this long while no message is on its way never will: services take up again what a crash left
/// (orders after 15 s, in sync mode reports after 90 s).
const STUCK_EVENTS: Duration = Duration::from_secs(45);
const STUCK_CALLS: Duration = Duration::from_secs(120);

/// How the system came to rest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settled {
    pub seconds: f64,
    /// When no order was pending any more, in milliseconds since the Unix epoch.
    pub orders_ended_ms: Option<u64>,
    /// What did not come to rest within the limit.
    pub left: Vec<String>,
}

/// Bounded by 4 minutes: what does not come to rest is in the result, and the checker finds it.
pub fn settle(evidence: &Evidence, on_progress: &dyn Fn(&str)) -> Result<Settled> {
    let began = Instant::now();
    let mut settled = Settled::default();
    let mut databases = Databases::connect(evidence)?;
    let broker = evidence.broker.as_deref();
    let quiet = QUIET + broker.map_or(Duration::ZERO, Broker::count_lag);
    let stuck = if broker.is_some() { STUCK_EVENTS } else { STUCK_CALLS };
    let mut quiet_since = None;
    let mut unchanged = (Vec::new(), Instant::now());
    loop {
        let open = databases.open()?;
        match open.iter().any(|(what, _)| *what == "orders pending") {
            true => settled.orders_ended_ms = None,
            false => {
                settled.orders_ended_ms.get_or_insert_with(ledger::now_ms);
            }
        }
        let mut left: Vec<String> = open.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let waiting =
            read::queues(evidence)?.into_iter().filter(|queue| !queue.is_dead() && queue.messages > 0);
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
