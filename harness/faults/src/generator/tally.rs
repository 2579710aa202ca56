//! The counts of the load while it runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::client::Client;
use crate::operation_log::{Outcome, Verdict};
use stack::metrics::sum;

/// Counts of operations, except `refused` and `replayed`, which count answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub offered: u64,
    pub accepted: u64,
    /// Answers 503 with `Retry-After`, and connections refused.
    pub refused: u64,
    /// Had an attempt with an unknown outcome.
    pub unknown: u64,
    /// Of those, the ones that a repetition made definite.
    pub resolved: u64,
    /// Without a definite answer yet.
    pub open: u64,
    /// Answered 4xx.
    pub rejected: u64,
    /// Not offered, because too many of their kind were still waiting.
    pub not_offered: u64,
    /// Answers from the store of idempotency keys.
    pub replayed: u64,
    /// Repeated events that consumers recognised. A lower bound: a killed process loses its last count.
    pub duplicates: u64,
}

#[derive(Default)]
pub struct Tally {
    offered: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    resolved: AtomicU64,
    open: AtomicU64,
    rejected: AtomicU64,
    pub not_offered: AtomicU64,
    replayed: AtomicU64,
    pub duplicates: AtomicU64,
}

pub fn more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    pub fn begun(&self) {
        more(&self.offered);
        more(&self.open);
    }

    pub fn answered(&self, outcome: &Outcome, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => more(&self.accepted),
            Verdict::Rejected => more(&self.rejected),
            Verdict::Refused => more(&self.refused),
            Verdict::Failed | Verdict::Wait | Verdict::Unknown => {}
        }
        if matches!(outcome, Outcome::Status { replayed: true, .. }) {
            more(&self.replayed);
        }
    }

    pub fn became_unknown(&self) {
        more(&self.unknown);
    }

    pub fn ended(&self, was_unknown: bool, verdict: Verdict) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if was_unknown && !matches!(verdict, Verdict::Unknown | Verdict::Refused | Verdict::Wait) {
            more(&self.resolved);
        }
    }

    pub fn progress(&self) -> Progress {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            offered: read(&self.offered),
            accepted: read(&self.accepted),
            refused: read(&self.refused),
            unknown: read(&self.unknown),
            resolved: read(&self.resolved),
            open: read(&self.open),
            rejected: read(&self.rejected),
            not_offered: read(&self.not_offered),
            replayed: read(&self.replayed),
            duplicates: read(&self.duplicates),
        }
    }
}

/// `events_consumed_total{outcome="duplicate"}` of all services, summed across restarts.
#[derive(Default)]
pub struct Duplicates(HashMap<&'static str, u64>);

impl Duplicates {
    /// The increase since the last call.
    pub fn read(&mut self, client: &Client, services: &[&'static str]) -> u64 {
        let mut more = 0;
        for service in services {
            let Some(text) = client.read(service, "/metrics") else { continue };
            let now = duplicates(&text);
            let before = self.0.insert(service, now).unwrap_or(0);
            more += if now < before { now } else { now - before };
        }
        more
    }
}

fn duplicates(metrics: &str) -> u64 {
    sum(metrics, "events_consumed_total", "outcome=\"duplicate\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_duplicates_are_summed() {
        let text = "# TYPE events_consumed_total counter\n\
            events_consumed_total{outcome=\"duplicate\",queue=\"a\"} 3\n\
            events_consumed_total{outcome=\"duplicate\",queue=\"b\"} 4\n\
            events_consumed_total{outcome=\"ok\",queue=\"a\"} 100\n";
        assert_eq!(duplicates(text), 7);
    }
}
