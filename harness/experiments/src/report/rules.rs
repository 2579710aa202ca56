//! The decision guide: a handful of rules, each with the figures that carry it and a link to them. A rule whose figures
//! were not measured says so and asserts nothing.

use std::collections::BTreeMap;

use contract::Scenario;
use serde::Serialize;

use super::break_even_table::anchor;
use super::model::Model;
use super::numbers::seconds;
use super::rates;
use crate::breakeven::grid::Conditions;
use crate::breakeven::winner::{Judged, Measure, Winner};
use measure::analysis::format;
use measure::analysis::statistics::{Percentile, Quantity, Verdict};
use measure::times::short;
use stack::Mode;

#[derive(Debug, Serialize)]
pub struct Rule {
    when: &'static str,
    /// What follows from the figures, or what is missing.
    pub says: String,
    pub measured: bool,
    pub figures: Vec<Figure>,
}

/// With the anchor on the page where it comes from, and that place's name.
#[derive(Debug, Serialize)]
pub struct Figure {
    anchor: String,
    name: String,
    pub says: String,
}

const BOTH: &str = "both modes were not compared in several runs here (./study compare)";

pub fn rules(model: &Model<'_>) -> Vec<Rule> {
    let waits = [Scenario::S1, Scenario::S2, Scenario::S4];
    vec![
        model.times("If the caller does not need the result", Quantity::Acknowledge, &waits),
        model.times("If the caller goes on only with the result", Quantity::Complete, &Scenario::ALL),
        model.times(
            "If the work is as short as handing it over",
            Quantity::Acknowledge,
            &[Scenario::S3, Scenario::S6],
        ),
        model.price(),
        model.fan_out(),
        model.break_even(),
        model.capacity(),
    ]
}

fn rule(when: &'static str, says: String, figures: Vec<Figure>, missing: &str) -> Rule {
    let measured = !figures.is_empty();
    let says = if measured { says } else { format!("Not measured: {missing}.") };
    Rule { when, says, measured, figures }
}

/// `async: S1, S2; sync: S6; no difference: S3`: each statement with its scenarios.
fn grouped(of: &[(String, Scenario)]) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (says, scenario) in of {
        match groups.iter_mut().find(|(known, _)| known == says) {
            Some((_, scenarios)) => scenarios.push(scenario.to_string()),
            None => groups.push((says, vec![scenario.to_string()])),
        }
    }
    let said: Vec<String> =
        groups.iter().map(|(says, scenarios)| format!("{says} in {}", scenarios.join(", "))).collect();
    said.join("; ") + "."
}

impl Model<'_> {
    /// Positions of the two modes among the variants.
    fn modes(&self) -> Option<(usize, usize)> {
        let at = |mode| self.results.plan.variants.iter().position(|variant| variant.mode == mode);
        at(Mode::Sync).zip(at(Mode::Async))
    }

    fn times(&self, when: &'static str, quantity: Quantity, scenarios: &[Scenario]) -> Rule {
        let verb = format::quantity(quantity);
        let (mut groups, mut figures) = (Vec::new(), Vec::new());
        for scenario in scenarios {
            let Some((sync, events, verdict)) = self.medians(*scenario, quantity) else { continue };
            let shown = |ms| short(Some(ms));
            let (group, says) = match verdict {
                Verdict::None => (
                    format!("no difference in time to {verb}"),
                    format!("async {}, sync {}", shown(events), shown(sync)),
                ),
                _ => {
                    let mut both = [("async", events), ("sync", sync)];
                    both.sort_by(|a, b| a.1.total_cmp(&b.1));
                    let [(better, low), (other, high)] = both;
                    let gap = shown(high - low);
                    (
                        format!("{better} {verb}s sooner"),
                        format!("{better} {gap} sooner ({}, {other} {})", shown(low), shown(high)),
                    )
                }
            };
            groups.push((group, *scenario));
            figures.push(Figure { anchor: scenario.key().to_owned(), name: scenario.to_string(), says });
        }
        rule(when, grouped(&groups), figures, BOTH)
    }

    /// Of sync and of async.
    fn medians(&self, scenario: Scenario, quantity: Quantity) -> Option<(f64, f64, Verdict)> {
        let (sync, events) = self.modes()?;
        let cell = self.analysis.cell(scenario, quantity, Percentile::P50)?;
        let ms = |at: usize| Some(cell.variants.get(at)?.as_ref()?.ms);
        Some((ms(sync)?, ms(events)?, cell.difference.as_ref()?.verdict))
    }

    fn price(&self) -> Rule {
        let (mut groups, mut figures) = (Vec::new(), Vec::new());
        let modes = self.modes();
        for (of, (sync, events)) in self.scenarios.iter().filter_map(|of| Some((of, modes?))) {
            let cpu = |at: usize| {
                let variant = of.variants.iter().find(|variant| variant.name == self.variants[at].name)?;
                Some(variant.costs.as_ref()?.cpu.total)
            };
            let Some((sync, events)) = cpu(sync).zip(cpu(events)) else { continue };
            let group = match events.mean < sync.mean {
                _ if sync.low <= events.high && events.low <= sync.high => {
                    "no difference beyond the range of the runs"
                }
                true => "async takes less",
                false => "sync takes less",
            };
            let factor = format::factor(sync.mean, events.mean);
            let says = format!("async {}, sync {}: {factor} apart", seconds(events.mean), seconds(sync.mean));
            groups.push((group.to_owned(), of.scenario));
            figures.push(Figure { anchor: format!("{}-cost", of.key), name: of.name.clone(), says });
        }
        let missing = "the cost of each scenario alone is part of ./study compare --profile standard";
        rule("What 1000 workflows cost in processor time", grouped(&groups), figures, missing)
    }

    /// The widest fan-out with the slowest receivers, at the lowest rate.
    fn fan_out(&self) -> Rule {
        let cells =
            || self.judged.iter().filter(|cell| cell.measure == Measure::Complete && cell.winner.is_some());
        let hardest = cells().max_by_key(|cell| {
            let it = cell.conditions;
            (it.width, it.service_ms, std::cmp::Reverse(it.rate), std::cmp::Reverse(it.payload))
        });
        let (mut said, mut figures) = (String::new(), Vec::new());
        if let Some(cell) = hardest {
            let Conditions { service_ms, width, rate, .. } = cell.conditions;
            said = match &cell.winner {
                Some(Winner { variants, factor: Some(_) }) => {
                    format!("{} completes soonest", variants.join(", "))
                }
                _ => "no difference in time to complete".to_owned(),
            };
            let receivers = format::counted(width as u64, "receiver");
            said += &format!(" with {receivers} of {service_ms} ms each, {rate} arrivals a second.");
            let each: Vec<String> =
                cell.values.iter().map(|(variant, ms)| format!("{variant} {}", short(Some(*ms)))).collect();
            let (anchor, name) = (anchor(&cell.conditions), "cell".to_owned());
            figures.push(Figure { anchor, name, says: each.join(", ") });
        }
        rule("If one change must reach several services", said, figures, "that is ./study breakeven")
    }

    /// In how many cells each is soonest, and a cell in which that is async, if there is one.
    fn break_even(&self) -> Rule {
        let (mut said, mut figures) = (Vec::new(), Vec::new());
        for (measure, verb) in [(Measure::Acknowledge, "acknowledges"), (Measure::Complete, "completes")] {
            let judged = self.judged.iter().filter(|cell| cell.measure == measure);
            let judged: Vec<(&Judged, &Winner)> =
                judged.filter_map(|cell| Some((cell, cell.winner.as_ref()?))).collect();
            let alone = |(_, winner): &&(&Judged, &Winner)| {
                winner.factor.is_some() && winner.variants[..] == ["async"]
            };
            let Some((shown, _)) = judged.iter().find(alone).or(judged.first()) else { continue };
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for (_, winner) in &judged {
                let name = if winner.factor.is_some() {
                    winner.variants.join(" or ")
                } else {
                    "no difference".into()
                };
                *counts.entry(name).or_default() += 1;
            }
            let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            said.push(format!("{verb} soonest, of {} cells: {}", judged.len(), each.join(", ")));
            let Conditions { service_ms, width, rate, payload } = shown.conditions;
            let each: Vec<String> =
                shown.values.iter().map(|(variant, ms)| format!("{variant} {}", short(Some(*ms)))).collect();
            figures.push(Figure {
                anchor: anchor(&shown.conditions),
                name: format!("{width} × {service_ms} ms, {rate}/s, {payload} characters"),
                says: format!("{verb} after {}", each.join(", ")),
            });
        }
        rule("Where the balance tips", said.join("; ") + ".", figures, "that is ./study breakeven")
    }

    fn capacity(&self) -> Rule {
        let one = |scenario: Scenario| {
            let curves = self.results.beside.curves.iter().filter(|curve| curve.scenario == scenario);
            let each: Vec<String> =
                curves.map(|curve| format!("{} {}", curve.variant, rates::sustained(curve))).collect();
            let (anchor, name) = (format!("rate-{}", scenario.key()), scenario.to_string());
            (!each.is_empty()).then(|| Figure { anchor, name, says: each.join(", ") })
        };
        let figures = Scenario::ALL.into_iter().filter_map(one).collect();
        let missing = "that is ./study rate --scenario s6 --out DIR, where DIR is this folder";
        rule("If the load will grow", "sustained arrivals:".to_owned(), figures, missing)
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
