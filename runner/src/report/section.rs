//! One scenario in the report: its sentence, its charts, its tables.

use anyhow::Result;
use serde::Serialize;

use super::chart::axis::{Axis, plain, time};
use super::chart::lines::{Lines, Series, steps};
use super::chart::{class, colours};
use super::costs::{Costs, Taken, Waiting};
use super::numbers::{bytes, digits, seconds, span};
use super::results::Results;
use super::sums::{Sums, valid};
use crate::compare::statistics::{Analysis, Percentile, Quantity, Verdict};
use crate::compare::words;
use crate::measure::record::{Arm, Parts, Run};
use crate::measure::scenario::{RECEIVERS, Scenario};

#[derive(Serialize)]
pub struct Section {
    key: &'static str,
    name: String,
    title: &'static str,
    effects: String,
    sentence: Option<String>,
    acknowledge: Option<String>,
    complete: Option<String>,
    backlog: Option<String>,
    /// Whose backlog is drawn.
    drawn: String,
    runs: Option<String>,
    figures: Vec<FigureRow>,
    outcomes: Vec<OutcomeRow>,
    costs: Vec<CostRow>,
    examples: Vec<String>,
}

#[derive(Serialize)]
struct FigureRow {
    what: String,
    arms: Vec<String>,
    difference: Option<String>,
    verdict: &'static str,
    /// Of the better arm; empty if there is none.
    class: &'static str,
}

#[derive(Serialize)]
struct OutcomeRow {
    arm: String,
    sums: Sums,
    unexpected: u64,
    codes: String,
}

#[derive(Serialize)]
struct CostRow {
    arm: String,
    cpu: Option<[String; 4]>,
    bytes: Option<[String; 4]>,
    peak: String,
    drain: String,
}

/// `None` if no valid run has it.
pub fn section(results: &Results, analysis: &Analysis, scenario: Scenario) -> Result<Option<Section>> {
    let (arms, runs) = (&results.plan.arms, &results.runs);
    let all: Vec<Option<Sums>> = arms.iter().map(|arm| Sums::of(runs, &arm.name, scenario)).collect();
    let Some(fewest) = all.iter().flatten().map(|sums| sums.requests).min() else { return Ok(None) };
    let backlog = representatives(runs, arms, scenario);
    let drawn: Vec<String> =
        backlog.iter().map(|(at, run)| format!("{}: run {}", arms[*at].name, run.slot + 1)).collect();
    let examples = arms.iter().flat_map(|arm| valid(runs, &arm.name));
    let examples =
        examples.filter_map(|run| run.scenarios.get(&scenario)).flat_map(|outcome| &outcome.examples);
    Ok(Some(Section {
        key: scenario.key(),
        name: scenario.to_string(),
        title: scenario.title(),
        effects: scenario.final_effects(RECEIVERS.len()).join(", "),
        sentence: words::sentence(&results.plan, analysis, scenario, fewest),
        acknowledge: distribution(arms, &all, scenario, Quantity::Acknowledge)?,
        complete: distribution(arms, &all, scenario, Quantity::Complete)?,
        backlog: backlog_chart(arms, &backlog, scenario)?,
        drawn: drawn.join(", "),
        runs: runs_chart(results, scenario)?,
        figures: figures(results, analysis, scenario),
        costs: arms.iter().filter_map(|arm| cost_row(runs, arm, scenario)).collect(),
        outcomes: arms.iter().zip(all).filter_map(|(arm, sums)| Some(outcome_row(arm, sums?))).collect(),
        examples: examples.take(10).cloned().collect(),
    }))
}

fn distribution(
    arms: &[Arm],
    all: &[Option<Sums>],
    of: Scenario,
    quantity: Quantity,
) -> Result<Option<String>> {
    let mut series = Vec::new();
    for ((arm, sums), color) in arms.iter().zip(all).zip(colours(arms)) {
        let Some(sums) = sums else { continue };
        let times = match quantity {
            Quantity::Acknowledge => &sums.acknowledge,
            Quantity::Complete => &sums.complete,
        };
        let points = steps(&times.distribution());
        series.push(Series { name: arm.name.clone(), color, dashed: false, dots: false, points });
    }
    let Some(x) = Axis::log(series.iter().flat_map(|line| line.points.iter().map(|(ms, _)| *ms)), time)
    else {
        return Ok(None);
    };
    let label = format!("{of}: share of requests by time to {}", words::quantity(quantity));
    let chart = Lines { label, x, y: Axis::shares(), series, marks: Vec::new(), bound: None };
    chart.draw().map(Some)
}

/// Of each arm the valid run with the median peak.
fn representatives<'a>(runs: &'a [Run], arms: &[Arm], scenario: Scenario) -> Vec<(usize, &'a Run)> {
    let median = |(at, arm): (usize, &Arm)| {
        let peak = |run: &Run| run.scenarios.get(&scenario).map(|outcome| outcome.backlog.peak);
        let mut mine: Vec<&Run> = valid(runs, &arm.name).filter(|run| peak(run).is_some()).collect();
        mine.sort_by_key(|run| peak(run));
        Some((at, *mine.get(mine.len().saturating_sub(1) / 2)?))
    };
    arms.iter().enumerate().filter_map(median).collect()
}

fn backlog_chart(arms: &[Arm], runs: &[(usize, &Run)], of: Scenario) -> Result<Option<String>> {
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
fn runs_chart(results: &Results, of: Scenario) -> Result<Option<String>> {
    let arms = &results.plan.arms;
    let mut series = Vec::new();
    for (quantity, name, dashed) in
        [(Quantity::Complete, "done", false), (Quantity::Acknowledge, "ack", true)]
    {
        for (arm, color) in arms.iter().zip(colours(arms)) {
            let median = |run: &Run| {
                let outcome = run.scenarios.get(&of)?;
                let times = match quantity {
                    Quantity::Acknowledge => &outcome.acknowledge,
                    Quantity::Complete => &outcome.complete,
                };
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

fn figures(results: &Results, analysis: &Analysis, scenario: Scenario) -> Vec<FigureRow> {
    let mut rows = Vec::new();
    let colors = colours(&results.plan.arms);
    let name = |at: usize| colors.get(at).map_or("", |color| class(*color));
    for quantity in Quantity::ALL {
        for percentile in Percentile::ALL {
            let Some(cell) = analysis.cell(scenario, quantity, percentile) else { continue };
            let gap = cell.difference.as_ref();
            rows.push(FigureRow {
                what: format!("{} {}", words::quantity(quantity), words::percentile(percentile)),
                arms: cell.arms.iter().map(|arm| arm.as_ref().map_or("-".into(), words::estimate)).collect(),
                difference: gap.map(words::difference),
                verdict: gap.map_or("", words::verdict),
                class: match gap.map(|gap| gap.verdict) {
                    Some(Verdict::Lower) => name(1),
                    Some(Verdict::Higher) => name(0),
                    _ => "",
                },
            });
        }
    }
    rows
}

fn outcome_row(arm: &Arm, sums: Sums) -> OutcomeRow {
    let codes: Vec<String> =
        sums.unexpected.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    OutcomeRow { arm: arm.name.clone(), unexpected: sums.unexpected_total(), codes: codes.join(", "), sums }
}

fn cost_row(runs: &[Run], arm: &Arm, scenario: Scenario) -> Option<CostRow> {
    let waiting = Waiting::of(runs, &arm.name, scenario)?;
    let costs = Costs::of(runs, &arm.name, scenario);
    let shown = |taken: &Taken, show: fn(f64) -> String| {
        let Parts { services, broker, database } = taken.parts;
        [show(services), show(broker), show(database), span(&taken.total, show)]
    };
    Some(CostRow {
        arm: arm.name.clone(),
        cpu: costs.as_ref().map(|costs| shown(&costs.cpu, seconds)),
        bytes: costs.as_ref().and_then(|costs| costs.bytes.as_ref()).map(|taken| shown(taken, bytes)),
        peak: span(
            &waiting.peak,
            |peak| if peak.fract() == 0.0 { format!("{peak:.0}") } else { digits(peak) },
        ),
        drain: span(&waiting.drain_seconds, seconds),
    })
}
