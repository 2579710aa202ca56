//! What the valid runs of one arm say together of one scenario: samples merged, counts added.

use std::collections::BTreeMap;

use contract::Scenario;
use serde::Serialize;

use measure::record::{Run, valid};
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
    /// `None` if no valid run of this arm has the scenario.
    pub fn of(runs: &[Run], arm: &str, scenario: Scenario) -> Option<Self> {
        let outcomes: Vec<_> = valid(runs, arm).filter_map(|run| run.scenarios.get(&scenario)).collect();
        if outcomes.is_empty() {
            return None;
        }
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
        Some(totals)
    }

    pub fn unexpected_total(&self) -> u64 {
        self.unexpected.values().sum()
    }
}
