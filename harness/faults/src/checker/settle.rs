//! Waits until everything is at rest: only then do the stores say what came of the run.

use std::time::{Duration, Instant};

use anyhow::Result;
use contract::events::{UNROUTED_QUEUE, of_dead_letters};
use serde::Serialize;

use super::read::{Databases, Queues};
use super::{Evidence, ledger};
use stack::signals;

const LIMIT: Duration = Duration::from_secs(240);
/// The broker counts its messages every five seconds.
const QUIET: Duration = Duration::from_secs(7);
const POLL: Duration = Duration::from_millis(500);
/// What has not changed for this long while no message is on its way never will: services take up again what a crash left
/// (orders after 15 s, in sync mode reports after 90 s).
const STUCK_ASYNC: Duration = Duration::from_secs(45);
const STUCK_SYNC: Duration = Duration::from_secs(120);

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
    let queues = Queues::of(evidence);
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
        let waiting = queues.list()?.into_iter().filter(|(queue, _)| !set_aside(queue));
        let stored = left.len();
        left.extend(waiting.filter(|(_, n)| *n > 0).map(|(queue, n)| format!("{n} messages in {queue}")));
        if left != unchanged.0 || left.len() > stored {
            unchanged = (left.clone(), Instant::now());
        }
        settled.seconds = began.elapsed().as_secs_f64();
        if left.is_empty() {
            if quiet_since.get_or_insert_with(Instant::now).elapsed() >= queues.lag() {
                return Ok(settled);
            }
        } else {
            quiet_since = None;
        }
        let stuck = if queues.known() { STUCK_ASYNC } else { STUCK_SYNC };
        if began.elapsed() > LIMIT || (!left.is_empty() && unchanged.1.elapsed() > stuck) {
            settled.left = left;
            return Ok(settled);
        }
        on_progress(if left.is_empty() { "at rest, is it for good?" } else { &left[0] });
        signals::pause(POLL)?;
    }
}

/// Nobody reads these.
fn set_aside(queue: &str) -> bool {
    of_dead_letters(queue).is_some() || queue == UNROUTED_QUEUE
}

impl Queues {
    /// How long nothing must be seen before it is believed.
    fn lag(&self) -> Duration {
        if self.known() { QUIET } else { Duration::from_secs(1) }
    }
}
