//! The charts of one scenario: distributions of both times, what was in progress, and each run.

use anyhow::Result;
use contract::Scenario;

use super::chart::axis::{Axis, plain, time};
use super::chart::colours;
use super::chart::lines::{Lines, Series, steps};
use crate::results::Results;
use crate::totals::Totals;
use measure::analysis::format;
use measure::analysis::statistics::Quantity;
use measure::record::{Arm, Run, valid};

pub fn distribution(
    arms: &[Arm],
    all: &[Option<Totals>],
    of: Scenario,
    quantity: Quantity,
) -> Result<Option<String>> {
    let mut series = Vec::new();
    for ((arm, totals), color) in arms.iter().zip(all).zip(colours(arms)) {
        let Some(totals) = totals else { continue };
        let times = match quantity {
            Quantity::Acknowledge => &totals.acknowledge,
            Quantity::Complete => &totals.complete,
        };
        let points = steps(&times.distribution());
        series.push(Series { name: arm.name.clone(), color, dashed: false, dots: false, points });
    }
    let Some(x) = Axis::log(series.iter().flat_map(|line| line.points.iter().map(|(ms, _)| *ms)), time)
    else {
        return Ok(None);
    };
    let label = format!("{of}: share of requests by time to {}", format::quantity(quantity));
    let chart = Lines { label, x, y: Axis::shares(), series, marks: Vec::new(), bound: None };
    chart.draw().map(Some)
}

/// Of each arm the valid run with the median peak.
pub fn representatives<'a>(runs: &'a [Run], arms: &[Arm], scenario: Scenario) -> Vec<(usize, &'a Run)> {
    let median = |(at, arm): (usize, &Arm)| {
        let peak = |run: &Run| run.scenarios.get(&scenario).map(|outcome| outcome.backlog.peak);
        let mut mine: Vec<&Run> = valid(runs, &arm.name).filter(|run| peak(run).is_some()).collect();
        mine.sort_by_key(|run| peak(run));
        Some((at, *mine.get(mine.len().saturating_sub(1) / 2)?))
    };
    arms.iter().enumerate().filter_map(median).collect()
}

pub fn backlog(arms: &[Arm], runs: &[(usize, &Run)], of: Scenario) -> Result<Option<String>> {
    let colors = colours(arms);
    let line = |(at, run): &(usize, &Run)| {
        let backlog = &run.scenarios.get(&of)?.backlog;
        let step = backlog.step_ms as f64 / 1000.0;
        let points = backlog.at.iter().enumerate().map(|(at, open)| (at as f64 * step, f64::from(*open)));
        let points = points.collect();
        Some(Series { name: arms[*at].name.clone(), color: colors[*at], dashed: false, dots: false, points })
    };
    let series: Vec<Series> = runs.iter().filter_map(line).filter(|line| !line.points.is_empty()).collect();
    if series.is_empty() {
        return Ok(None);
    }
    let largest = |pick: fn(&(f64, f64)) -> f64| {
        series.iter().flat_map(|line| &line.points).map(pick).fold(0.0, f64::max)
    };
    let x = Axis::linear(largest(|(seconds, _)| *seconds), |seconds| format!("{} s", plain(seconds)));
    let y = Axis::counts(largest(|(_, open)| *open).max(1.0));
    let label = format!("{of}: workflows accepted and not yet complete, over time");
    Lines { label, x, y, series, marks: Vec::new(), bound: None }.draw().map(Some)
}

/// The medians of each run, in the order in which they were made.
pub fn runs(results: &Results, of: Scenario) -> Result<Option<String>> {
    let arms = &results.plan.arms;
    let mut series = Vec::new();
    for (quantity, name, dashed) in
        [(Quantity::Complete, "complete", false), (Quantity::Acknowledge, "acknowledge", true)]
    {
        for (arm, color) in arms.iter().zip(colours(arms)) {
            let median = |run: &Run| {
                let times = quantity.of(run.scenarios.get(&of)?);
                Some((run.slot as f64 + 1.0, times.quantile(0.5)?))
            };
            let points = valid(&results.runs, &arm.name).filter_map(median).collect();
            series.push(Series { name: format!("{} {name}", arm.name), color, dashed, dots: true, points });
        }
    }
    let Some(y) = Axis::log(series.iter().flat_map(|line| line.points.iter().map(|(_, ms)| *ms)), time)
    else {
        return Ok(None);
    };
    let label = format!("{of}: median of each run");
    let x = Axis::numbers(results.plan.order.len());
    Lines { label, x, y, series, marks: Vec::new(), bound: None }.draw().map(Some)
}
