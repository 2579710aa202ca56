//! What page and Markdown show beside the model: its charts, and the rest of the folder in words. Both are templates over this.

use anyhow::Result;
use serde::Serialize;

use super::break_even_table::{self, Block};
use super::conditions;
use super::model::{ALL_GOOD, Model, ScenarioFigures};
use super::numbers::{digits, percent, seconds};
use super::rates::{self, Rates};
use super::rules::{self, Rule};
use super::scenario_charts;
use super::stall::{self, Stall};
use super::summary_charts::{self, Classic};
use crate::templates::render;
use measure::analysis::statistics::Quantity;
use measure::record::{Run, valid};

#[derive(Serialize)]
pub struct View<'a> {
    #[serde(flatten)]
    model: &'a Model<'a>,
    what: String,
    all_good: &'static str,
    /// Runs in which something else kept the machine busy.
    noisy: Option<String>,
    sections: Vec<Section<'a>>,
    rules: Vec<Rule>,
    /// Title and chart of each scenario.
    prices: Vec<(String, String)>,
    classic: Classic,
    rates: Vec<Rates>,
    grid: Option<GridView>,
    stall: Option<Stall>,
    /// The stacks of the campus lab, and the cells of each row.
    campus: Option<(Vec<String>, Vec<campus_lab::table::Row>)>,
    runs: Vec<RunRow>,
    conditions: Vec<(&'static str, String)>,
}

/// One scenario.
#[derive(Serialize)]
struct Section<'a> {
    #[serde(flatten)]
    of: &'a ScenarioFigures,
    effects: String,
    acknowledge: Option<String>,
    complete: Option<String>,
    backlog: Option<String>,
    /// Whose backlog is drawn.
    drawn: String,
    runs: Option<String>,
    examples: Vec<&'a String>,
}

#[derive(Serialize)]
struct GridView {
    started: String,
    seconds: u64,
    /// Of the cell that has fewest.
    rounds: usize,
    variants: Vec<String>,
    host: String,
    blocks: Vec<Block>,
}

#[derive(Serialize)]
struct RunRow {
    number: usize,
    variant: String,
    started: String,
    others: String,
    k6: String,
    servers: String,
    drain: String,
    invalid: bool,
}

impl<'a> View<'a> {
    pub fn of(model: &'a Model<'a>) -> Result<Self> {
        let (results, beside) = (model.results, &model.results.beside);
        let mut prices = Vec::new();
        for of in &model.scenarios {
            prices.extend(scenario_charts::cost(model, of)?.map(|svg| (of.caption(), svg)));
        }
        let grid = beside.grid.as_ref().map(|grid| GridView {
            started: grid.started.clone(),
            seconds: grid.seconds,
            rounds: grid.cells.iter().flat_map(|cell| cell.taken.values().map(Vec::len)).min().unwrap_or(0),
            variants: grid.variants.clone(),
            host: grid.host.line(),
            blocks: break_even_table::blocks(&model.judged),
        });
        Ok(Self {
            model,
            what: conditions::what(model),
            all_good: ALL_GOOD,
            noisy: conditions::noisy(&results.runs),
            sections: model.scenarios.iter().map(|of| section(model, of)).collect::<Result<_>>()?,
            rules: rules::rules(model),
            prices,
            classic: summary_charts::classic(model)?,
            rates: rates::rates(&beside.curves)?,
            grid,
            campus: beside.campus.as_ref().map(campus_lab::table::parts),
            stall: beside.omission.as_ref().map(stall::stall).transpose()?,
            runs: results.runs.iter().map(run_row).collect(),
            conditions: conditions::conditions(&results.plan),
        })
    }

    /// One file with everything in it, charts as inline SVG, nothing loaded from anywhere.
    pub fn html(&self) -> Result<String> {
        render("report.html", include_str!("page.html"), self)
    }

    pub fn markdown(&self) -> Result<String> {
        render("report.md", include_str!("page.md"), self)
    }
}

fn section<'a>(model: &'a Model<'_>, of: &'a ScenarioFigures) -> Result<Section<'a>> {
    let runs = &model.results.runs;
    let backlog = scenario_charts::representatives(runs, of);
    let drawn: Vec<String> =
        backlog.iter().map(|(variant, run)| format!("{}: run {}", variant.name, run.index + 1)).collect();
    let outcomes = of.variants.iter().flat_map(|variant| valid(runs, &variant.name));
    let outcomes = outcomes.filter_map(|run| run.scenarios.get(&of.scenario));
    Ok(Section {
        of,
        effects: of.scenario.final_effects().map(|effect| effect.name).collect::<Vec<_>>().join(", "),
        acknowledge: scenario_charts::distribution(of, Quantity::Acknowledge)?,
        complete: scenario_charts::distribution(of, Quantity::Complete)?,
        backlog: scenario_charts::backlog(of, &backlog)?,
        drawn: drawn.join(", "),
        runs: scenario_charts::runs(model, of)?,
        examples: outcomes.flat_map(|outcome| &outcome.examples).take(10).collect(),
    })
}

fn run_row(run: &Run) -> RunRow {
    let servers = &run.servers;
    let broker = servers.rabbitmq.as_ref().map_or(String::new(), |version| format!(", RabbitMQ {version}"));
    let cores = run.watched.k6_cpu / run.watched.seconds.max(1.0);
    RunRow {
        number: run.index + 1,
        variant: run.variant.clone(),
        started: run.started.clone(),
        others: run.watched.others.map_or("-".into(), |share| percent((share * 1000.0).round() / 1000.0)),
        k6: format!("{} ({} cores)", seconds(run.watched.k6_cpu), digits(cores)),
        servers: format!("PostgreSQL {}{broker}", servers.postgresql),
        drain: seconds(run.drain.seconds),
        invalid: run.invalid().is_some(),
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
