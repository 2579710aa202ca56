//! Limits how often a worker starts a cycle. A cycle costs the same for one item as for twenty, so under load items wait a few
//! milliseconds and share a cycle.

use std::time::Duration;

use tokio::time::Instant;

/// Under load, a cycle begins this long after the previous one.
const INTERVAL: Duration = Duration::from_millis(8);
/// Cycles without a wait after an idle time, so that sporadic items never wait.
const BURST: u32 = 20;

/// The generic cell rate algorithm (ITU-T I.371) for the cycles of one worker.
pub(crate) struct Throttle {
    due: Instant,
}

impl Throttle {
    pub(crate) fn new() -> Throttle {
        Throttle { due: Instant::now() }
    }

    /// Returns when the next cycle may begin.
    pub(crate) async fn cycle(&mut self) {
        let now = Instant::now();
        let burst_since = now.checked_sub(INTERVAL * BURST).unwrap_or(now);
        self.due = self.due.max(burst_since) + INTERVAL;
        if self.due > now {
            tokio::time::sleep_until(self.due).await;
        }
    }
}
