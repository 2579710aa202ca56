//! All figures of a report, computed once from a folder of results. Page, Markdown, terminal, CSV and JSON are functions of it.

use contract::Scenario;
use plotters::style::RGBColor;
use serde::Serialize;

use super::chart;
use super::checks::{self, Kind};
use super::costs::{Costs, Stack, Waiting};
use super::littles_law::{self, Little};
use crate::breakeven::winner::{self, Judged};
use crate::results::Results;
use crate::totals::Totals;
use measure::analysis::format;
use measure::analysis::statistics::{Analysis, Verdict};
use measure::outcomes::Outcome;
use measure::record::{self, Plan, Run, valid};

pub const ALL_GOOD: &str =
    "Nothing accepted was lost, nothing was applied twice, every answer was the expected one.";

#[derive(Serialize)]
pub struct Model<'a> {
    #[serde(skip)]
    pub results: &'a Results,
    #[serde(skip)]
    pub analysis: Analysis,
    /// The break-even grid's cells; empty without a grid.
    #[serde(skip)]
    pub judged: Vec<Judged>,
    pub variants: Vec<VariantFigures>,
    /// Those of which a variant has a valid run.
    pub scenarios: Vec<ScenarioFigures>,
    /// Why figures must not be used.
    pub problems: Vec<String>,
    /// Invalid runs, which no figure includes.
    pub left_out: Vec<String>,
    /// Why there are no differences between two variants.
    pub unjudged: Option<&'static str>,
    /// Of a mode that is compared with itself: how often no difference was found.
    pub against_itself: Option<String>,
    pub checks: Vec<Kind>,
    pub little: Vec<Little>,
}

#[derive(Serialize)]
pub struct VariantFigures {
    pub name: String,
    #[serde(skip)]
    pub colour: RGBColor,
    /// The style sheet's name of its colour.
    pub class: &'static str,
    /// Valid ones.
    pub runs: usize,
    pub stack: Stack,
}

#[derive(Serialize)]
pub struct ScenarioFigures {
    #[serde(skip)]
    pub scenario: Scenario,
    pub key: &'static str,
    pub name: String,
    pub title: &'static str,
    pub sentence: Option<String>,
    /// Percentiles of both times, each with the difference between the variants.
    pub figures: Vec<format::Row>,
    /// Those with a valid run of the scenario.
    pub variants: Vec<VariantInScenario>,
}

#[derive(Serialize)]
pub struct VariantInScenario {
    pub name: String,
    #[serde(skip)]
    pub colour: RGBColor,
    pub totals: Totals,
    pub costs: Option<Costs>,
    pub waiting: Waiting,
}

impl<'a> Model<'a> {
    pub fn of(results: &'a Results) -> Self {
        let Results { plan, runs, beside } = results;
        let analysis = Analysis::new(plan, runs);
        let variants = plan.variants.iter().zip(chart::colours(&plan.variants)).zip(&analysis.runs);
        let variants: Vec<VariantFigures> = variants
            .map(|((variant, colour), valid)| VariantFigures {
                name: variant.name.clone(),
                colour,
                class: chart::class(colour),
                runs: *valid,
                stack: Stack::of(runs, &variant.name),
            })
            .collect();
        let scenarios =
            Scenario::ALL.into_iter().filter_map(|of| scenario(plan, runs, &analysis, &variants, of));
        let left_out = analysis.invalid.iter();
        Self {
            scenarios: scenarios.collect(),
            problems: record::problems(plan, runs),
            left_out: left_out
                .map(|(index, variant, why)| format!("Left out: run {} ({variant}): {why}", index + 1))
                .collect(),
            unjudged: unjudged(&analysis),
            against_itself: against_itself(plan, &analysis),
            checks: checks::of(runs),
            little: littles_law::of(plan, runs),
            judged: beside.grid.as_ref().map(winner::judge).unwrap_or_default(),
            results,
            analysis,
            variants,
        }
    }
}

impl Model<'_> {
    /// Names and colours of the variants.
    pub fn legend(&self) -> Vec<(String, RGBColor)> {
        self.variants.iter().map(|variant| (variant.name.clone(), variant.colour)).collect()
    }
}

impl ScenarioFigures {
    pub fn caption(&self) -> String {
        format!("{}: {}.", self.name, self.title)
    }
}

fn scenario(
    plan: &Plan,
    runs: &[Run],
    analysis: &Analysis,
    variants: &[VariantFigures],
    scenario: Scenario,
) -> Option<ScenarioFigures> {
    let in_scenario = |variant: &VariantFigures| {
        let outcomes = valid(runs, &variant.name).filter_map(|run| run.scenarios.get(&scenario));
        let outcomes: Vec<&Outcome> = outcomes.collect();
        Some(VariantInScenario {
            name: variant.name.clone(),
            colour: variant.colour,
            waiting: Waiting::of(&outcomes)?,
            totals: Totals::of(&outcomes),
            costs: Costs::of(runs, &variant.name, scenario),
        })
    };
    let variants: Vec<VariantInScenario> = variants.iter().filter_map(in_scenario).collect();
    let fewest = variants.iter().map(|variant| variant.totals.requests).min()?;
    Some(ScenarioFigures {
        scenario,
        key: scenario.key(),
        name: scenario.to_string(),
        title: scenario.title(),
        sentence: format::sentence(plan, analysis, scenario, fewest),
        figures: analysis.of(scenario).map(|cell| format::row(cell, format::name)).collect(),
        variants,
    })
}

fn unjudged(analysis: &Analysis) -> Option<&'static str> {
    if analysis.runs.len() < 2 || analysis.judged().next().is_some() {
        None
    } else if analysis.runs.iter().all(|runs| *runs == 1) {
        Some("One run each: differences are not judged (--runs 3 or more).")
    } else {
        Some("Fewer than two valid runs of a variant: differences are not judged.")
    }
}

fn against_itself(plan: &Plan, analysis: &Analysis) -> Option<String> {
    let [a, b] = &plan.variants[..] else { return None };
    let judged = analysis.judged().count();
    if a.mode != b.mode || judged == 0 {
        return None;
    }
    let alike = analysis.judged().filter(|gap| gap.verdict == Verdict::None).count();
    let what = if b.env == a.env {
        format!("{} against {}", a.name, a.name)
    } else {
        format!("{} against {} with {}", a.name, b.name, record::settings(&b.env))
    };
    Some(format!("{what}: {alike} of {judged} figures show no difference."))
}
