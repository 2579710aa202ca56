//! What the valid runs of one variant say together of one scenario: samples merged, counts added.

use std::collections::BTreeMap;

use serde::Serialize;

use measure::outcomes::Outcome;
use measure::times::Times;

#[derive(Debug, Default, Serialize)]
pub struct Totals {
    pub runs: usize,
    #[serde(skip)]
    pub acknowledge: Times,
    #[serde(skip)]
    pub complete: Times,
    pub requests: u64,
    pub expected: u64,
    pub unexpected: BTreeMap<String, u64>,
    pub refused: u64,
    pub timed_out: u64,
    pub open: u64,
    pub twice: u64,
    pub unacknowledged: u64,
    pub dropped: u64,
    pub effects: BTreeMap<String, u64>,
}

impl Totals {
    /// Of some runs of one variant.
    pub fn of(outcomes: &[&Outcome]) -> Self {
        let mut totals = Self {
            runs: outcomes.len(),
            acknowledge: Times::merged(outcomes.iter().map(|outcome| &outcome.acknowledge)),
            complete: Times::merged(outcomes.iter().map(|outcome| &outcome.complete)),
            ..Self::default()
        };
        for outcome in outcomes {
            totals.requests += outcome.requests;
            totals.expected += outcome.expected;
            totals.refused += outcome.refused();
            totals.timed_out += outcome.timed_out();
            totals.open += outcome.open;
            totals.twice += outcome.twice;
            totals.unacknowledged += outcome.unacknowledged;
            totals.dropped += outcome.dropped;
            for (into, from) in
                [(&mut totals.unexpected, &outcome.unexpected), (&mut totals.effects, &outcome.effects)]
            {
                for (what, count) in from {
                    *into.entry(what.clone()).or_default() += count;
                }
            }
        }
        totals
    }

    pub fn unexpected_total(&self) -> u64 {
        self.unexpected.values().sum()
    }
}
