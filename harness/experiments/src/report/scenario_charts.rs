//! The charts of one scenario: distributions of both times, what was in progress, each run, and what 1000 workflows cost.

use anyhow::Result;
use plotters::style::RGBColor;

use super::chart::axis::{Axis, plain, time};
use super::chart::bars::{self, Bar, Group};
use super::chart::lines::{Lines, Series, distributions};
use super::costs::{Costs, Taken};
use super::model::{Model, ScenarioFigures, VariantInScenario};
use super::numbers::{bytes, seconds};
use measure::analysis::format;
use measure::analysis::statistics::Quantity;
use measure::record::{Run, valid};
use measure::resource_usage::Parts;

pub fn distribution(of: &ScenarioFigures, quantity: Quantity) -> Result<Option<String>> {
    let times = of.variants.iter().map(|variant| {
        let times = match quantity {
            Quantity::Acknowledge => &variant.totals.acknowledge,
            Quantity::Complete => &variant.totals.complete,
        };
        (variant.name.as_str(), variant.colour, times)
    });
    distributions(format!("{}: share of requests by time to {}", of.name, format::quantity(quantity)), times)
}

/// Of each variant the valid run with the median peak.
pub fn representatives<'a>(
    runs: &'a [Run],
    of: &'a ScenarioFigures,
) -> Vec<(&'a VariantInScenario, &'a Run)> {
    let median = |variant: &'a VariantInScenario| {
        let peak = |run: &Run| run.scenarios.get(&of.scenario).map(|outcome| outcome.backlog.peak);
        let mut mine: Vec<&Run> = valid(runs, &variant.name).filter(|run| peak(run).is_some()).collect();
        mine.sort_by_key(|run| peak(run));
        Some((variant, *mine.get(mine.len().saturating_sub(1) / 2)?))
    };
    of.variants.iter().filter_map(median).collect()
}

pub fn backlog(of: &ScenarioFigures, runs: &[(&VariantInScenario, &Run)]) -> Result<Option<String>> {
    let line = |(variant, run): &(&VariantInScenario, &Run)| {
        let backlog = &run.scenarios.get(&of.scenario)?.backlog;
        let step = backlog.step_ms as f64 / 1000.0;
        let points = backlog.at.iter().enumerate().map(|(at, open)| (at as f64 * step, f64::from(*open)));
        Some(Series::solid(&variant.name, variant.colour, points.collect()))
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
    let label = format!("{}: workflows accepted and not yet complete, over time", of.name);
    Lines::new(label, x, y, series).draw().map(Some)
}

/// The medians of each run, in the order in which they were made.
pub fn runs(model: &Model<'_>, of: &ScenarioFigures) -> Result<Option<String>> {
    let mut series = Vec::new();
    for (quantity, name, dashed) in
        [(Quantity::Complete, "complete", false), (Quantity::Acknowledge, "acknowledge", true)]
    {
        for variant in &model.variants {
            let median = |run: &Run| {
                let times = quantity.of(run.scenarios.get(&of.scenario)?);
                Some((run.index as f64 + 1.0, times.quantile(0.5)?))
            };
            let points = valid(&model.results.runs, &variant.name).filter_map(median).collect();
            let name = format!("{} {name}", variant.name);
            series.push(Series { dashed, dots: true, ..Series::solid(&name, variant.colour, points) });
        }
    }
    let Some(y) = Axis::log(Series::values(&series), time) else { return Ok(None) };
    let x = Axis::numbers(model.results.plan.order.len());
    Lines::new(format!("{}: median of each run", of.name), x, y, series).draw().map(Some)
}

pub fn cost(model: &Model<'_>, of: &ScenarioFigures) -> Result<Option<String>> {
    let mut groups = Vec::new();
    for (title, pick, show) in [
        ("CPU", (|costs| Some(&costs.cpu)) as fn(&Costs) -> Option<&Taken>, seconds as fn(f64) -> String),
        ("bytes", |costs| costs.bytes.as_ref(), bytes),
    ] {
        let taken: Vec<(&Taken, RGBColor)> = of
            .variants
            .iter()
            .filter_map(|variant| Some((pick(variant.costs.as_ref()?)?, variant.colour)))
            .collect();
        let largest = taken.iter().map(|(taken, _)| taken.total.mean).fold(0.0, f64::max);
        let bar = |(taken, color): &(&Taken, RGBColor)| {
            let Parts { services, broker, database } = taken.parts;
            let parts = [services, broker, database].map(|part| part / largest.max(f64::MIN_POSITIVE));
            Bar { color: *color, parts: parts.into(), value: show(taken.total.mean) }
        };
        groups.push(Group { title: title.into(), bars: taken.iter().map(bar).collect() });
    }
    bars::draw(&format!("{}: cost of 1000 workflows", of.name), &model.legend(), groups)
}
