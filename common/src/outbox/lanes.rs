//! Which destinations wait, and when each is retried. A lane holds the rows of one destination that could not be sent; events
//! for other destinations pass it. The rows are in the database; this is the state that one relay keeps of its lanes.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus::PublishError;
use crate::outage::Outage;

/// The lane of rows that are sent with the next batch.
pub(super) const READY: &str = "";
/// The pause after a failure; doubled with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, and so the longest delay after a destination is available again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause if each try closes the channel, which delays all other destinations.
const LONGEST_PAUSE_AFTER_CLOSE: Duration = Duration::from_secs(60);
/// The pause while the broker or the database is unavailable.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(200);

/// The lane of a destination's rows that exceed the broker's limit. They must not block the destination's other rows.
pub(super) fn too_large(destination: &str) -> String {
    format!("{destination}{TOO_LARGE}")
}

/// The destination of a lane, and whether its rows are too large.
pub(super) fn destination(lane: &str) -> (&str, bool) {
    lane.strip_suffix(TOO_LARGE).map_or((lane, false), |destination| (destination, true))
}

const TOO_LARGE: &str = ": too large";

#[derive(Default)]
pub(super) struct Lanes {
    waits: Mutex<HashMap<String, Wait>>,
    changed: Notify,
}

/// The state of one lane.
struct Wait {
    since: Instant,
    pause: Duration,
    /// `None` while the lane is being served.
    due: Option<Instant>,
    failures: u32,
    outage: Outage,
}

impl Wait {
    fn begin() -> Wait {
        let now = Instant::now();
        Wait { since: now, pause: Duration::ZERO, due: Some(now), failures: 0, outage: Outage::default() }
    }

    fn log(&self, lane: &str, cause: impl Display) {
        if self.outage.is_new(&cause) {
            tracing::warn!(destination = destination(lane).0, %cause, "events wait in the outbox");
        }
    }
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether events for this destination wait behind others.
    pub(super) fn waits(&self, destination: &str) -> bool {
        self.lock().contains_key(destination)
    }

    /// The lane has rows. If it is new, it is served at once.
    pub(super) fn begin(&self, lane: &str) {
        let mut waits = self.lock();
        if !waits.contains_key(lane) {
            waits.insert(lane.to_owned(), Wait::begin());
            self.changed.notify_one();
        }
    }

    /// A row of the lane could not be sent.
    pub(super) fn failed(&self, lane: &str, error: &PublishError) {
        let mut waits = self.lock();
        let wait = waits.entry(lane.to_owned()).or_insert_with(Wait::begin);
        let longest = match error {
            PublishError::Closed(_) => LONGEST_PAUSE_AFTER_CLOSE,
            _ => LONGEST_PAUSE,
        };
        wait.failures += 1;
        wait.pause = (2 * wait.pause).clamp(FIRST_PAUSE, longest);
        wait.due = Some(Instant::now() + wait.pause);
        // The first such failure may be caused by another message on the connection, or by the connection itself.
        let ambiguous = matches!(error, PublishError::Unconfirmed | PublishError::Closed(_));
        if !ambiguous || wait.failures > 1 {
            wait.log(lane, error);
        }
        self.changed.notify_one();
    }

    /// Some rows of the lane were sent: the destination takes events again.
    pub(super) fn progressed(&self, lane: &str) {
        if let Some(wait) = self.lock().get_mut(lane) {
            wait.pause = Duration::ZERO;
        }
    }

    /// The rows of the lane cannot be read or deleted.
    pub(super) fn unreadable(&self, lane: &str, error: &sqlx::Error) {
        if let Some(wait) = self.lock().get(lane) {
            wait.log(lane, error);
        }
        self.postpone(lane);
    }

    /// Nothing can be sent now, to any destination.
    pub(super) fn postpone(&self, lane: &str) {
        if let Some(wait) = self.lock().get_mut(lane) {
            wait.due = Some(Instant::now() + UNAVAILABLE_PAUSE);
            self.changed.notify_one();
        }
    }

    /// The lane is empty.
    pub(super) fn ended(&self, lane: &str) {
        let Some(wait) = self.lock().remove(lane) else { return };
        if wait.outage.end() {
            let (destination, waited_seconds) = (destination(lane).0, wait.since.elapsed().as_secs_f64());
            tracing::info!(destination, waited_seconds, "events have left the outbox again");
        }
    }

    /// Takes a lane that is due. The caller owns it until it calls one of the methods above.
    pub(super) fn take_due(&self) -> Option<String> {
        let now = Instant::now();
        let mut waits = self.lock();
        let (lane, wait) = waits
            .iter_mut()
            .filter(|(_, wait)| wait.due.is_some_and(|due| due <= now))
            .min_by_key(|(_, wait)| wait.due)?;
        wait.due = None;
        Some(lane.clone())
    }

    /// Returns when a lane is due; it may return earlier.
    pub(super) async fn due(&self) {
        let next = self.lock().values().filter_map(|wait| wait.due).min();
        match next {
            Some(due) => tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.changed.notified() => {}
            },
            None => self.changed.notified().await,
        }
    }

    /// Lanes that are not being served.
    pub(super) fn all(&self) -> Vec<String> {
        self.lock().iter().filter(|(_, wait)| wait.due.is_some()).map(|(lane, _)| lane.clone()).collect()
    }
}
