//! Little's law: the mean number in progress is the arrival rate times the mean time in the system. The times come
//! from k6 (sync) and the journals (async), the number from gauges and queues, so each checks the other.

use contract::Scenario;
use serde::Serialize;

use super::costs::Span;
use measure::load_profile::per_second;
use measure::record::{Plan, Run, Variant, valid};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Little {
    pub scenario: Scenario,
    #[serde(rename = "arm")]
    pub variant: String,
    /// Arrivals per second x mean seconds, and what was seen; means over the valid runs.
    pub by_law: f64,
    pub seen: f64,
    /// Seen by law, of each run.
    pub ratio: Span,
}

pub fn of(plan: &Plan, runs: &[Run]) -> Vec<Little> {
    let pairs = Scenario::ALL
        .into_iter()
        .flat_map(|scenario| plan.variants.iter().map(move |variant| (scenario, variant)));
    pairs.filter_map(|(scenario, variant)| one(plan, runs, variant, scenario)).collect()
}

/// Requests per second while the load runs steadily: not their count by its length, which has one more of them than
/// there are intervals.
pub fn offered(plan: &Plan, scenario: Scenario, requests: u64, runs: usize) -> Option<f64> {
    let load = &plan.load;
    match &load.burst {
        None => per_second(load.rates.get(&scenario)?).ok(),
        Some(_) => Some(requests as f64 / (load.seconds as f64 * runs as f64)),
    }
}

fn one(plan: &Plan, runs: &[Run], variant: &Variant, scenario: Scenario) -> Option<Little> {
    let both: Vec<(f64, f64)> = valid(runs, &variant.name)
        .filter_map(|run| {
            let outcome = run.scenarios.get(&scenario)?;
            // With a broker a message is in its queue until the work is done.
            let times = if run.mode.has_broker() { &outcome.complete } else { &outcome.acknowledge };
            let accepted = outcome.expected as f64 / outcome.requests as f64;
            let rate = offered(plan, scenario, outcome.requests, 1)? * accepted;
            let by_law = rate * times.mean()? / 1000.0;
            // Not where no answer was the expected one.
            (by_law > 0.0).then_some((by_law, *run.in_progress.get(&scenario)?))
        })
        .collect();
    let mean = |of: fn(&(f64, f64)) -> f64| both.iter().map(of).sum::<f64>() / both.len() as f64;
    let ratios: Vec<f64> = both.iter().map(|(by_law, seen)| seen / by_law).collect();
    Some(Little {
        scenario,
        variant: variant.name.clone(),
        ratio: Span::of(&ratios)?,
        by_law: mean(|(by_law, _)| *by_law),
        seen: mean(|(_, seen)| *seen),
    })
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use measure::times::Times;
    use stack::Mode;

    #[test]
    fn the_number_in_progress_is_rate_times_time() {
        let mut results = example::of(&[("sync", Mode::Sync)], 1);
        let outcome = results.runs[0].scenarios.get_mut(&Scenario::S1).unwrap();
        outcome.acknowledge = Times::of([400_000, 600_000]);
        let little = one(&results.plan, &results.runs, &results.plan.variants[0], Scenario::S1).unwrap();
        assert!((little.by_law - 2.5).abs() < 1e-9 && (little.ratio.mean - 2.6 / 2.5).abs() < 1e-9);
        assert_eq!(of(&results.plan, &results.runs).len(), 3);
        // Every answer failed a check: by the law nothing was in progress, and there is no ratio.
        results.runs[0].scenarios.get_mut(&Scenario::S1).unwrap().expected = 0;
        assert_eq!(one(&results.plan, &results.runs, &results.plan.variants[0], Scenario::S1), None);
    }
}
