//! One scenario in the report: its sentence, its charts, its tables.

use anyhow::Result;
use contract::Scenario;
use serde::Serialize;

use super::chart::{class, colours};
use super::costs::{Costs, Taken, Waiting};
use super::numbers::{bytes, digits, seconds, span};
use super::scenario_charts;
use crate::results::Results;
use crate::totals::Totals;
use measure::analysis::format;
use measure::analysis::statistics::{Analysis, Percentile, Quantity, Verdict};
use measure::record::{Arm, Run, valid};
use measure::resource_usage::Parts;

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
    totals: Totals,
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
    let all: Vec<Option<Totals>> = arms.iter().map(|arm| Totals::of(runs, &arm.name, scenario)).collect();
    let Some(fewest) = all.iter().flatten().map(|totals| totals.requests).min() else { return Ok(None) };
    let backlog = scenario_charts::representatives(runs, arms, scenario);
    let drawn: Vec<String> =
        backlog.iter().map(|(at, run)| format!("{}: run {}", arms[*at].name, run.slot + 1)).collect();
    let examples = arms.iter().flat_map(|arm| valid(runs, &arm.name));
    let examples =
        examples.filter_map(|run| run.scenarios.get(&scenario)).flat_map(|outcome| &outcome.examples);
    Ok(Some(Section {
        key: scenario.key(),
        name: scenario.to_string(),
        title: scenario.title(),
        effects: scenario.final_effects().map(|effect| effect.name).collect::<Vec<_>>().join(", "),
        sentence: format::sentence(&results.plan, analysis, scenario, fewest),
        acknowledge: scenario_charts::distribution(arms, &all, scenario, Quantity::Acknowledge)?,
        complete: scenario_charts::distribution(arms, &all, scenario, Quantity::Complete)?,
        backlog: scenario_charts::backlog(arms, &backlog, scenario)?,
        drawn: drawn.join(", "),
        runs: scenario_charts::runs(results, scenario)?,
        figures: figures(results, analysis, scenario),
        costs: arms.iter().filter_map(|arm| cost_row(runs, arm, scenario)).collect(),
        outcomes: arms.iter().zip(all).filter_map(|(arm, totals)| Some(outcome_row(arm, totals?))).collect(),
        examples: examples.take(10).cloned().collect(),
    }))
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
                what: format!("{} {}", format::quantity(quantity), format::percentile(percentile)),
                arms: cell.arms.iter().map(|arm| arm.as_ref().map_or("-".into(), format::estimate)).collect(),
                difference: gap.map(format::difference),
                verdict: gap.map_or("", format::verdict),
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

fn outcome_row(arm: &Arm, totals: Totals) -> OutcomeRow {
    let codes: Vec<String> =
        totals.unexpected.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    OutcomeRow {
        arm: arm.name.clone(),
        unexpected: totals.unexpected_total(),
        codes: codes.join(", "),
        totals,
    }
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
