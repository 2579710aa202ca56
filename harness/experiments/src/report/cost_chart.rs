//! The cost of 1000 workflows as a chart for each scenario.

use anyhow::Result;
use contract::Scenario;

use super::chart::bars::{self, Bar, Group};
use super::chart::colours;
use super::costs::{Costs, Taken};
use super::numbers::{bytes, seconds};
use crate::results::Results;
use measure::resource_usage::Parts;

/// Title and chart of each scenario whose cost was measured.
pub fn charts(results: &Results) -> Result<Vec<(String, String)>> {
    let mut charts = Vec::new();
    for scenario in Scenario::ALL {
        let title = format!("{scenario}: {}.", scenario.title());
        charts.extend(chart(results, scenario)?.map(|svg| (title, svg)));
    }
    Ok(charts)
}

fn chart(results: &Results, scenario: Scenario) -> Result<Option<String>> {
    let arms = &results.plan.arms;
    let costs: Vec<Option<Costs>> =
        arms.iter().map(|arm| Costs::of(&results.runs, &arm.name, scenario)).collect();
    let mut groups = Vec::new();
    for (title, pick, show) in [
        ("CPU", (|costs| Some(&costs.cpu)) as fn(&Costs) -> Option<&Taken>, seconds as fn(f64) -> String),
        ("bytes", |costs| costs.bytes.as_ref(), bytes),
    ] {
        let taken: Vec<Option<&Taken>> = costs.iter().map(|costs| costs.as_ref().and_then(pick)).collect();
        let largest = taken.iter().flatten().map(|taken| taken.total.mean).fold(0.0, f64::max);
        let bar = |(taken, color): (&Option<&Taken>, plotters::style::RGBColor)| {
            let taken = (*taken)?;
            let Parts { services, broker, database } = taken.parts;
            let parts = [services, broker, database].map(|part| part / largest.max(f64::MIN_POSITIVE));
            Some(Bar { color, parts: parts.into(), value: show(taken.total.mean) })
        };
        let group: Vec<_> = taken.iter().zip(colours(arms)).filter_map(bar).collect();
        if !group.is_empty() {
            groups.push(Group { title: title.into(), bars: group });
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    let names: Vec<_> =
        arms.iter().zip(colours(arms)).map(|(arm, color)| (arm.name.clone(), color)).collect();
    bars::draw(&format!("{scenario}: cost of 1000 workflows"), &names, &groups).map(Some)
}
