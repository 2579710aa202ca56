//! Everything that the page and the Markdown show, in words already: both are templates over this.

use anyhow::Result;
use contract::Scenario;
use serde::Serialize;

use super::break_even_table::{self, Block};
use super::costs::{Stack, Taken};
use super::littles_law::{self, Little};
use super::numbers::{bytes, digits, percent, seconds, span};
use super::rates::{self, Rates};
use super::rules::{self, Ground, Rule};
use super::section::{self, Section};
use super::stall::{self, Stall};
use super::summary_charts::{self, Classic};
use super::{chart, checks, conditions, cost_chart};
use crate::breakeven::winner::Judged;
use crate::report::table;
use crate::results::Results;
use measure::analysis::statistics::Analysis;
use measure::record::{self, Run};
use measure::resource_usage::Parts;

#[derive(Serialize)]
pub struct View {
    what: String,
    problems: Vec<String>,
    left_out: Vec<String>,
    all_good: &'static str,
    /// Runs in which something else kept the machine busy.
    noisy: Option<String>,
    /// Why nothing is judged, if so.
    unjudged: Option<&'static str>,
    against_itself: Option<String>,
    arms: Vec<ArmView>,
    sections: Vec<Section>,
    rules: Vec<Rule>,
    /// Title and chart of each scenario.
    prices: Vec<(String, String)>,
    classic: Classic,
    rates: Vec<Rates>,
    grid: Option<GridView>,
    stall: Option<Stall>,
    /// The stacks of the campus lab, and what each row says of them.
    campus: Option<(Vec<String>, Vec<campus_lab::table::Row>)>,
    stacks: Vec<StackRow>,
    checks: Vec<checks::Kind>,
    little: Vec<LittleRow>,
    runs: Vec<RunRow>,
    conditions: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct ArmView {
    name: String,
    class: &'static str,
    runs: usize,
}

#[derive(Serialize)]
struct GridView {
    started: String,
    seconds: u64,
    /// Of the cell that has fewest.
    rounds: usize,
    arms: Vec<String>,
    host: String,
    blocks: Vec<Block>,
}

#[derive(Serialize)]
struct StackRow {
    arm: String,
    cpu: String,
    bytes: String,
    memory: String,
}

#[derive(Serialize)]
struct LittleRow {
    scenario: String,
    arm: String,
    by_law: String,
    seen: String,
    ratio: String,
}

#[derive(Serialize)]
struct RunRow {
    number: usize,
    arm: String,
    started: String,
    others: String,
    k6: String,
    servers: String,
    drain: String,
    invalid: bool,
}

pub fn view(results: &Results, analysis: &Analysis, judged: &[Judged]) -> Result<View> {
    let plan = &results.plan;
    let mut sections = Vec::new();
    for scenario in Scenario::ALL {
        sections.extend(section::section(results, analysis, scenario)?);
    }
    let arms = plan.arms.iter().zip(chart::colours(&plan.arms)).zip(&analysis.runs);
    let arms = arms.map(|((arm, color), runs)| ArmView {
        name: arm.name.clone(),
        class: chart::class(color),
        runs: *runs,
    });
    let judged_any = analysis.cells.iter().any(|cell| cell.difference.is_some());
    let grid = results.beside.grid.as_ref().map(|grid| GridView {
        started: grid.started.clone(),
        seconds: grid.seconds,
        rounds: grid.cells.iter().flat_map(|cell| cell.taken.values().map(Vec::len)).min().unwrap_or(0),
        arms: grid.arms.clone(),
        host: grid.host.line(),
        blocks: break_even_table::blocks(judged),
    });
    Ok(View {
        what: conditions::what(results, analysis),
        problems: record::problems(plan, &results.runs),
        left_out: table::left_out(analysis),
        all_good: table::ALL_GOOD,
        noisy: conditions::noisy(&results.runs),
        unjudged: (plan.arms.len() > 1 && !judged_any).then(|| table::single(analysis)),
        against_itself: table::against_itself(plan, analysis),
        arms: arms.collect(),
        sections,
        rules: rules::rules(&Ground { results, analysis, judged }),
        prices: cost_chart::charts(results)?,
        classic: summary_charts::classic(results, analysis)?,
        rates: rates::rates(results)?,
        grid,
        campus: results.beside.campus.as_ref().map(campus_lab::table::parts),
        stall: results.beside.omission.as_ref().map(stall::stall).transpose()?,
        stacks: plan
            .arms
            .iter()
            .map(|arm| stack_row(&arm.name, &Stack::of(&results.runs, &arm.name)))
            .collect(),
        checks: checks::of(&results.runs),
        little: littles_law::of(plan, &results.runs).into_iter().map(little_row).collect(),
        runs: results.runs.iter().map(run_row).collect(),
        conditions: conditions::conditions(results),
    })
}

fn stack_row(arm: &str, stack: &Stack) -> StackRow {
    let shown = |taken: &Option<Taken>, show: fn(f64) -> String| {
        let Some(Taken { parts: Parts { services, broker, database }, total }) = taken else {
            return "-".into();
        };
        let parts = [("services", services), ("broker", broker), ("database", database)];
        let parts: Vec<String> =
            parts.iter().map(|(name, part)| format!("{name} {}", show(**part))).collect();
        format!("{}: {}", span(total, show), parts.join(", "))
    };
    StackRow {
        arm: arm.to_owned(),
        cpu: shown(&stack.cpu, seconds),
        bytes: shown(&stack.bytes, bytes),
        memory: shown(&stack.memory, |mib| format!("{} MiB", digits(mib))),
    }
}

fn little_row(little: Little) -> LittleRow {
    LittleRow {
        scenario: little.scenario.to_string(),
        arm: little.arm,
        by_law: digits(little.by_law),
        seen: digits(little.seen),
        ratio: span(&little.ratio, digits),
    }
}

fn run_row(run: &Run) -> RunRow {
    let servers = &run.servers;
    let broker = servers.rabbitmq.as_ref().map_or(String::new(), |version| format!(", RabbitMQ {version}"));
    let cores = run.watched.k6_cpu / run.watched.seconds.max(1.0);
    RunRow {
        number: run.slot + 1,
        arm: run.arm.clone(),
        started: run.started.clone(),
        others: run.watched.others.map_or("-".into(), |share| percent((share * 1000.0).round() / 1000.0)),
        k6: format!("{} ({} cores)", seconds(run.watched.k6_cpu), digits(cores)),
        servers: format!("PostgreSQL {}{broker}", servers.postgresql),
        drain: seconds(run.drain.seconds),
        invalid: run.invalid().is_some(),
    }
}
