//! The figures that readers of such comparisons look for, each per scenario and with what it usually gets wrong.

use anyhow::Result;
use contract::Scenario;
use plotters::style::RGBColor;
use serde::Serialize;

use super::chart::bars::{self, Bar, Group};
use super::chart::{colours, heat};
use super::littles_law;
use super::numbers::{digits, never_in, percent};
use crate::results::Results;
use crate::totals::Totals;
use measure::analysis::format;
use measure::analysis::statistics::{Analysis, Percentile, Quantity, Verdict};
use measure::times::short;

#[derive(Serialize)]
pub struct Classic {
    /// Per scenario: name and chart.
    latency: Vec<(String, String)>,
    throughput: Option<String>,
    errors: Option<String>,
    success: Option<String>,
    heat: Option<String>,
}

pub fn classic(results: &Results, analysis: &Analysis) -> Result<Classic> {
    let mut latency = Vec::new();
    for scenario in Scenario::ALL {
        latency.extend(
            percentiles(results, analysis, scenario)?
                .map(|svg| (format!("{scenario}: {}.", scenario.title()), svg)),
        );
    }
    let plan = &results.plan;
    Ok(Classic {
        latency,
        throughput: rows(results, "completed per second", |scenario, totals| {
            let share = totals.complete.count() as f64 / totals.requests.max(1) as f64;
            let offered = littles_law::offered(plan, scenario, totals.requests, totals.runs);
            (share, offered.map_or("-".into(), |rate| format!("{}/s", digits(rate * share))))
        })?,
        errors: rows(results, "error rate", |_, totals| {
            let (wrong, all) = (totals.unexpected_total(), totals.requests);
            let share = wrong as f64 / all.max(1) as f64;
            match wrong {
                0 => (0.0, format!("0 of {all}, so below {}", percent(never_in(all)))),
                _ => (share, format!("{} ({wrong} of {all})", percent(share))),
            }
        })?,
        success: rows(results, "completed of all requests", |_, totals| {
            let share = totals.complete.count() as f64 / totals.requests.max(1) as f64;
            (share, percent(share))
        })?,
        heat: heat_map(results, analysis)?,
    })
}

fn legend(results: &Results) -> Vec<(String, RGBColor)> {
    let arms = &results.plan.arms;
    arms.iter().zip(colours(arms)).map(|(arm, color)| (arm.name.clone(), color)).collect()
}

/// One row for each arm in each scenario.
fn rows(
    results: &Results,
    what: &str,
    of: impl Fn(Scenario, &Totals) -> (f64, String),
) -> Result<Option<String>> {
    let arms = legend(results);
    let mut groups = Vec::new();
    for scenario in Scenario::ALL {
        let bar = |(name, color): &(String, RGBColor)| {
            let (share, value) = of(scenario, &Totals::of(&results.runs, name, scenario)?);
            Some(Bar { color: *color, parts: vec![share], value })
        };
        let bars: Vec<Bar> = arms.iter().filter_map(bar).collect();
        if !bars.is_empty() {
            groups.push(Group { title: scenario.to_string(), bars });
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    bars::draw(what, &arms, &groups).map(Some)
}

fn percentiles(results: &Results, analysis: &Analysis, scenario: Scenario) -> Result<Option<String>> {
    let arms = legend(results);
    let mut groups = Vec::new();
    for quantity in Quantity::ALL {
        for percentile in Percentile::ALL {
            let Some(cell) = analysis.cell(scenario, quantity, percentile) else { continue };
            let bars = arms.iter().zip(&cell.arms).filter_map(|((_, color), figure)| {
                let ms = figure.as_ref()?.ms;
                Some(Bar { color: *color, parts: vec![ms], value: short(Some(ms)) })
            });
            let title = format!("{} {}", format::short_quantity(quantity), format::percentile(percentile));
            groups.push(Group { title, bars: bars.collect() });
        }
    }
    let bars = || groups.iter().flat_map(|group| &group.bars);
    let longest = bars().flat_map(|bar| &bar.parts).copied().fold(0.0, f64::max);
    if longest <= 0.0 {
        return Ok(None);
    }
    for bar in groups.iter_mut().flat_map(|group| &mut group.bars) {
        bar.parts.iter_mut().for_each(|part| *part /= longest);
    }
    bars::draw(&format!("{scenario}: percentiles of both times"), &arms, &groups).map(Some)
}

/// How many times sooner the better arm is; only where there are differences to judge.
fn heat_map(results: &Results, analysis: &Analysis) -> Result<Option<String>> {
    if analysis.cells.iter().all(|cell| cell.difference.is_none()) {
        return Ok(None);
    }
    let colors = colours(&results.plan.arms);
    let mut columns = Vec::new();
    for name in Quantity::ALL.map(format::short_quantity) {
        columns
            .extend(Percentile::ALL.map(|percentile| format!("{name} {}", format::percentile(percentile))));
    }
    let mut all = Vec::new();
    for scenario in Scenario::ALL {
        let figures =
            Quantity::ALL.into_iter().flat_map(|of| Percentile::ALL.map(|percentile| (of, percentile)));
        let cells = figures.map(|(quantity, percentile)| {
            let nothing = heat::Cell { text: "-".into(), color: None };
            let Some(cell) = analysis.cell(scenario, quantity, percentile) else { return nothing };
            let ([Some(a), Some(b)], Some(gap)) = (&cell.arms[..], &cell.difference) else { return nothing };
            let better = match gap.verdict {
                Verdict::None => return heat::Cell { text: "=".into(), color: None },
                Verdict::Lower => colors[1],
                Verdict::Higher => colors[0],
            };
            let ratio = a.ms.max(b.ms) / a.ms.min(b.ms).max(0.001);
            let text = format::factor(a.ms, b.ms).replace(" times", "×");
            heat::Cell { text, color: Some((better, (ratio.log10() / 2.0).min(1.0))) }
        });
        all.push((scenario.to_string(), cells.collect::<Vec<_>>()));
    }
    all.retain(|(_, cells)| cells.iter().any(|cell| cell.text != "-"));
    heat::draw("which arm is sooner, and how many times", &columns, &all).map(Some)
}
