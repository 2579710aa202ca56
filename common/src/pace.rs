//! How often work that is done in turns begins: as soon as there is some, but under load not more often than makes sense. A
//! turn costs the same for one item as for twenty, and what comes meanwhile shares the next.

use std::time::Duration;

use tokio::time::Instant;

/// Under load a turn begins this long after the one before.
const APART: Duration = Duration::from_millis(8);
/// Turns that are free after a rest: what comes now and then never waits.
const FREE: u32 = 20;

/// The turns of one worker: the generic cell rate algorithm (ITU-T I.371).
pub(crate) struct Pace {
    due: Instant,
}

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace { due: Instant::now() }
    }

    /// Returns when the next turn may begin.
    pub(crate) async fn turn(&mut self) {
        let now = Instant::now();
        let free_since = now.checked_sub(APART * FREE).unwrap_or(now);
        self.due = self.due.max(free_since) + APART;
        if self.due > now {
            tokio::time::sleep_until(self.due).await;
        }
    }
}
