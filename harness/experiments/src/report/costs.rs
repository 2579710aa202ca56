//! What a variant takes: per 1000 workflows of a scenario, and as a whole while the load runs. Means over the valid
//! runs, with the lowest and the highest of them: these are totals over many requests, not times of single ones.

use contract::Scenario;
use serde::Serialize;

use measure::backlog::Backlog;
use measure::outcomes::Outcome;
use measure::record::{Cost, Run, valid};
use measure::resource_usage::Parts;

/// Over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Span {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Span {
    pub fn of(values: &[f64]) -> Option<Self> {
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        Some(Self { mean: values.iter().sum::<f64>() / values.len() as f64, low: least, high: most })
    }
}

/// Services, broker and database apart, and their sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Taken {
    pub parts: Parts,
    pub total: Span,
}

impl Taken {
    fn of(all: &[Parts]) -> Option<Self> {
        let total = Span::of(&all.iter().map(Parts::total).collect::<Vec<_>>())?;
        let sum = all.iter().fold(Parts::default(), |sum, parts| sum.zip(*parts, |a, b| a + b));
        let parts = sum.zip(Parts::default(), |sum, _| sum / all.len() as f64);
        Some(Self { parts, total })
    }
}

/// Per 1000 completed workflows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// Processor seconds.
    pub cpu: Taken,
    pub bytes: Option<Taken>,
}

impl Costs {
    pub fn of(runs: &[Run], variant: &str, scenario: Scenario) -> Option<Self> {
        let costs: Vec<&Cost> = valid(runs, variant).filter_map(|run| run.costs.get(&scenario)).collect();
        let bytes: Vec<Parts> = costs.iter().filter_map(|cost| cost.bytes).collect();
        let cpu = Taken::of(&costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>())?;
        Some(Self { cpu, bytes: Taken::of(&bytes) })
    }
}

/// Of the whole stack while the load of all scenarios ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stack {
    pub cpu: Option<Taken>,
    pub bytes: Option<Taken>,
    /// MiB.
    pub memory: Option<Taken>,
}

impl Stack {
    pub fn of(runs: &[Run], variant: &str) -> Self {
        let of = |pick: fn(&Run) -> Option<Parts>| {
            Taken::of(&valid(runs, variant).filter_map(pick).collect::<Vec<_>>())
        };
        Self {
            cpu: of(|run| run.watched.cpu),
            bytes: of(|run| run.watched.bytes),
            memory: of(|run| run.watched.memory),
        }
    }
}

/// How much was in progress at most, and how long the last of it took after the last request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Waiting {
    pub peak: Span,
    pub drain_seconds: Span,
}

impl Waiting {
    /// `None` without an outcome.
    pub fn of(outcomes: &[&Outcome]) -> Option<Self> {
        let of = |pick: fn(&Backlog) -> f64| {
            Span::of(&outcomes.iter().map(|outcome| pick(&outcome.backlog)).collect::<Vec<_>>())
        };
        Some(Self {
            peak: of(|backlog| f64::from(backlog.peak))?,
            drain_seconds: of(|backlog| backlog.drain_seconds)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use stack::Mode;

    #[test]
    fn costs_are_means_over_the_valid_runs_with_their_range() {
        let mut results = example::of(&[("sync", Mode::Sync), ("async", Mode::Async)], 3);
        // The runs 0, 3 and 4 are of sync.
        let costs = Costs::of(&results.runs, "sync", Scenario::S1).unwrap();
        assert!((costs.cpu.total.low - 2.5).abs() < 1e-9 && (costs.cpu.total.high - 2.9).abs() < 1e-9);
        assert!((costs.cpu.parts.services - 1.5).abs() < 1e-9 && costs.cpu.parts.broker == 0.0);
        if let Some(outcome) = results.runs[4].scenarios.get_mut(&Scenario::S2) {
            outcome.dropped = 1;
        }
        let costs = Costs::of(&results.runs, "sync", Scenario::S1).unwrap();
        assert!((costs.cpu.total.mean - 2.65).abs() < 1e-9);
        assert!(Costs::of(&results.runs, "none", Scenario::S1).is_none());
    }
}
