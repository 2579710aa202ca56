//! The figures that readers of such comparisons look for, each per scenario and with what it usually gets wrong.

use anyhow::Result;
use serde::Serialize;

use super::chart::bars::{self, Bar, Group};
use super::chart::heat;
use super::littles_law;
use super::model::{Model, ScenarioFigures};
use super::numbers::{digits, never_in, percent};
use crate::totals::Totals;
use measure::analysis::format;
use measure::analysis::statistics::{Cell, Percentile, Quantity, Verdict};
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

pub fn classic(model: &Model<'_>) -> Result<Classic> {
    let mut latency = Vec::new();
    for of in &model.scenarios {
        latency.extend(percentiles(model, of)?.map(|svg| (of.caption(), svg)));
    }
    let completed = |totals: &Totals| totals.complete.count() as f64 / totals.requests.max(1) as f64;
    Ok(Classic {
        latency,
        throughput: rows(model, "completed per second", |of, totals| {
            let offered =
                littles_law::offered(&model.results.plan, of.scenario, totals.requests, totals.runs);
            let share = completed(totals);
            (share, offered.map_or("-".into(), |rate| format!("{}/s", digits(rate * share))))
        })?,
        errors: rows(model, "error rate", |_, totals| {
            let (wrong, all) = (totals.unexpected_total(), totals.requests);
            let share = wrong as f64 / all.max(1) as f64;
            match wrong {
                0 => (0.0, format!("0 of {all}, so below {}", percent(never_in(all)))),
                _ => (share, format!("{} ({wrong} of {all})", percent(share))),
            }
        })?,
        success: rows(model, "completed of all requests", |_, totals| {
            (completed(totals), percent(completed(totals)))
        })?,
        heat: heat_map(model)?,
    })
}

/// One row for each variant in each scenario.
fn rows(
    model: &Model<'_>,
    what: &str,
    show: impl Fn(&ScenarioFigures, &Totals) -> (f64, String),
) -> Result<Option<String>> {
    let group = |of: &ScenarioFigures| {
        let bars = of.variants.iter().map(|variant| {
            let (share, value) = show(of, &variant.totals);
            Bar { color: variant.colour, parts: vec![share], value }
        });
        Group { title: of.name.clone(), bars: bars.collect() }
    };
    bars::draw(what, &model.legend(), model.scenarios.iter().map(group).collect())
}

fn percentiles(model: &Model<'_>, of: &ScenarioFigures) -> Result<Option<String>> {
    let cells: Vec<&Cell> = model.analysis.of(of.scenario).collect();
    let longest =
        cells.iter().flat_map(|cell| &cell.variants).flatten().map(|figure| figure.ms).fold(0.0, f64::max);
    if longest <= 0.0 {
        return Ok(None);
    }
    let group = |cell: &&Cell| {
        let bars = model.variants.iter().zip(&cell.variants).filter_map(|(variant, figure)| {
            let ms = figure.as_ref()?.ms;
            Some(Bar { color: variant.colour, parts: vec![ms / longest], value: short(Some(ms)) })
        });
        Group { title: format::short_name(cell.quantity, cell.percentile), bars: bars.collect() }
    };
    let groups = cells.iter().map(group).collect();
    bars::draw(&format!("{}: percentiles of both times", of.name), &model.legend(), groups)
}

/// How many times sooner the better variant is; only where there are differences to judge.
fn heat_map(model: &Model<'_>) -> Result<Option<String>> {
    if model.analysis.judged().next().is_none() {
        return Ok(None);
    }
    let columns: Vec<(Quantity, Percentile)> = Quantity::ALL
        .into_iter()
        .flat_map(|quantity| Percentile::ALL.map(|percentile| (quantity, percentile)))
        .collect();
    let cell = |of: &ScenarioFigures, (quantity, percentile): &(Quantity, Percentile)| {
        let cell = model.analysis.cell(of.scenario, *quantity, *percentile)?;
        let ([Some(a), Some(b)], Some(gap)) = (&cell.variants[..], &cell.difference) else { return None };
        let better = match gap.verdict {
            Verdict::None => return Some(heat::Cell { text: "=".into(), color: None }),
            Verdict::Lower => model.variants[1].colour,
            Verdict::Higher => model.variants[0].colour,
        };
        let ratio = a.ms.max(b.ms) / a.ms.min(b.ms).max(0.001);
        let text = format::factor(a.ms, b.ms).replace(" times", "×");
        Some(heat::Cell { text, color: Some((better, (ratio.log10() / 2.0).min(1.0))) })
    };
    let row = |of: &ScenarioFigures| {
        let cells: Vec<Option<heat::Cell>> = columns.iter().map(|column| cell(of, column)).collect();
        let nothing = || heat::Cell { text: "-".into(), color: None };
        cells
            .iter()
            .any(Option::is_some)
            .then(|| (of.name.clone(), cells.into_iter().map(|cell| cell.unwrap_or_else(nothing)).collect()))
    };
    let rows: Vec<(String, Vec<heat::Cell>)> = model.scenarios.iter().filter_map(row).collect();
    let columns: Vec<String> = columns.iter().map(|(of, at)| format::short_name(*of, *at)).collect();
    heat::draw("which variant is sooner, and how many times", &columns, &rows).map(Some)
}
