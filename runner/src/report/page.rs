//! The readable page: one HTML file with everything in it, charts as inline SVG, nothing loaded from anywhere.

use anyhow::{Context, Result};
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

use super::figures::{Figures, short};
use super::result::Comparison;
use super::scenario::Scenario;
use super::{chart, table};

#[derive(Serialize)]
struct Section {
    name: String,
    title: &'static str,
    effects: String,
    sentence: Option<String>,
    svg: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    mode: String,
    requests: u64,
    /// p50, p95, p99 of the time to acknowledge, then of the time to complete.
    times: Vec<String>,
    expected: u64,
    unexpected: u64,
    open: u64,
    twice: u64,
    dropped: u64,
    notes: Vec<String>,
}

pub fn render(comparison: &Comparison) -> Result<String> {
    let axis = chart::axis(comparison);
    let sentences = table::sentences(comparison);
    let mut sections = Vec::new();
    for scenario in Scenario::ALL {
        let Some(svg) = chart::draw(comparison, scenario, axis)? else { continue };
        let sentence = sentences.iter().find(|(of, _)| *of == scenario).map(|(_, text)| text.clone());
        sections.push(Section {
            name: scenario.to_string(),
            title: scenario.title(),
            effects: scenario.final_effects().join(", "),
            sentence,
            svg,
            rows: rows(comparison, scenario),
        });
    }
    let mut environment = Environment::new();
    environment
        .add_template("page.html", include_str!("page.html"))
        .context("the page's template is broken")?;
    let page = environment.get_template("page.html")?.render(context! {
        run => Serde(comparison),
        host => comparison.host.line(),
        sections => Serde(&sections),
    });
    page.context("cannot render the page")
}

fn rows(comparison: &Comparison, scenario: Scenario) -> Vec<Row> {
    let mut rows = Vec::new();
    for result in &comparison.modes {
        let Some(outcome) = result.scenarios.get(&scenario) else { continue };
        let times = [&outcome.acknowledge, &outcome.complete].into_iter();
        let times =
            times.flat_map(|Figures { p50, p95, p99, .. }| [p50, p95, p99].map(|value| short(*value)));
        let mut notes: Vec<String> =
            outcome.unexpected.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        notes.extend(outcome.examples.clone());
        rows.push(Row {
            mode: result.mode.to_string(),
            requests: outcome.requests,
            times: times.collect(),
            expected: outcome.expected,
            unexpected: outcome.unexpected_total(),
            open: outcome.open,
            twice: outcome.twice,
            dropped: outcome.dropped,
            notes,
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_page_shows_every_scenario_and_loads_nothing() {
        let page = render(&example::comparison()).unwrap();
        assert_eq!(page.matches("<svg role").count(), 6);
        for wanted in
            ["S5: order saga", "S2 sync: 1 applied twice", "EMAIL_DELAY_MS=500", "S4 1&#x2f;14s", "S6 100/s"]
        {
            assert!(page.contains(wanted), "{wanted} is missing");
        }
        let outside =
            ["<script", "<link rel=\"stylesheet", "url(http", "src=\"http", "href=\"http", "@import"];
        assert!(outside.iter().all(|part| !page.contains(part)));
    }

    #[test]
    fn what_came_from_outside_is_escaped() {
        let mut comparison = example::comparison();
        comparison.problems = vec!["<b>".into()];
        assert!(render(&comparison).unwrap().contains("&lt;b&gt;"));
    }
}
