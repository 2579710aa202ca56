//! The decision guide: a handful of rules, each with the figures that carry it and a link to them. A rule whose figures
//! were not measured says so and asserts nothing.

use serde::Serialize;

use super::cells::{Judged, Measure, anchor};
use super::costs::Costs;
use super::results::Results;
use super::winner::Winner;
use crate::compare::statistics::{Analysis, Percentile, Quantity, Verdict};
use crate::compare::words;
use crate::local::Mode;
use crate::measure::scenario::Scenario;
use crate::measure::times::short;

use super::numbers::{digits, seconds};

#[derive(Debug, Serialize)]
pub struct Rule {
    when: &'static str,
    /// What was measured, or what is missing.
    pub says: String,
    pub measured: bool,
    /// Anchor on the page, and its name.
    links: Vec<(String, String)>,
}

/// What the rules are made of.
pub struct Ground<'a> {
    pub results: &'a Results,
    pub analysis: &'a Analysis,
    pub judged: &'a [Judged],
}

const BOTH: &str = "both modes were not compared in several runs here (./study compare)";

pub fn rules(ground: &Ground<'_>) -> Vec<Rule> {
    let waits = [Scenario::S1, Scenario::S2, Scenario::S4];
    vec![
        ground.times("If the caller does not need the result", Quantity::Acknowledge, &waits),
        ground.times("If the caller goes on only with the result", Quantity::Complete, &Scenario::ALL),
        ground.times(
            "If the work is as short as handing it over",
            Quantity::Acknowledge,
            &[Scenario::S3, Scenario::S6],
        ),
        ground.price(),
        ground.fan_out(),
        ground.break_even(),
        ground.capacity(),
    ]
}

fn rule(when: &'static str, found: Vec<(String, String, String)>, missing: &str) -> Rule {
    if found.is_empty() {
        return Rule { when, says: format!("Not measured: {missing}."), measured: false, links: Vec::new() };
    }
    let says: Vec<&str> = found.iter().map(|(says, ..)| says.as_str()).collect();
    let says = format!("{}.", says.join("; "));
    Rule {
        when,
        says,
        measured: true,
        links: found.into_iter().map(|(_, anchor, name)| (anchor, name)).collect(),
    }
}

impl Ground<'_> {
    /// Positions of the two modes among the arms.
    fn modes(&self) -> Option<(usize, usize)> {
        let at = |mode| self.results.plan.arms.iter().position(|arm| arm.mode == mode);
        at(Mode::Sync).zip(at(Mode::Async))
    }

    fn times(&self, when: &'static str, quantity: Quantity, scenarios: &[Scenario]) -> Rule {
        let one = |scenario: &Scenario| {
            let (sync, events) = self.modes()?;
            let cell = self.analysis.cell(*scenario, quantity, Percentile::P50)?;
            let gap = cell.difference.as_ref()?;
            let (a, b) = (cell.arms.get(sync)?.as_ref()?.ms, cell.arms.get(events)?.as_ref()?.ms);
            let verb = words::quantity(quantity);
            let said = match gap.verdict {
                Verdict::None => format!("{scenario}: no difference in time to {verb}"),
                _ => {
                    let (better, gap) = if b < a { ("async", a - b) } else { ("sync", b - a) };
                    format!(
                        "{scenario}: {better} {verb}s {} ({}) sooner",
                        short(Some(gap)),
                        words::factor(a, b)
                    )
                }
            };
            let says = format!("{said}: async {}, sync {}", short(Some(b)), short(Some(a)));
            Some((says, scenario.key().to_owned(), scenario.to_string()))
        };
        rule(when, scenarios.iter().filter_map(one).collect(), BOTH)
    }

    fn price(&self) -> Rule {
        let one = |scenario: Scenario| {
            let (sync, events) = self.modes()?;
            let cpu = |at: usize| {
                Some(Costs::of(&self.results.runs, &self.results.plan.arms[at].name, scenario)?.cpu.total)
            };
            let (a, b) = (cpu(sync)?, cpu(events)?);
            let apart = a.high < b.low || b.high < a.low;
            let said = match a.mean < b.mean {
                _ if !apart => "no difference between the runs' ranges".to_owned(),
                true => format!("async takes {} as much", words::factor(a.mean, b.mean)),
                false => format!("sync takes {} as much", words::factor(a.mean, b.mean)),
            };
            let says = format!("{scenario}: {said} (async {}, sync {})", seconds(b.mean), seconds(a.mean));
            Some((says, format!("{}-cost", scenario.key()), scenario.to_string()))
        };
        rule(
            "What 1000 workflows cost in processor time",
            Scenario::ALL.into_iter().filter_map(one).collect(),
            "the cost of each scenario alone is part of ./study compare --profile standard",
        )
    }

    /// The widest fan-out with the slowest receivers, at the lowest rate.
    fn fan_out(&self) -> Rule {
        let cells = || {
            self.judged.iter().filter(|cell| cell.measure == Measure::Complete && cell.problems.is_empty())
        };
        let hardest = cells().max_by_key(|cell| {
            let it = cell.conditions;
            (it.width, it.service_ms, std::cmp::Reverse(it.rate), std::cmp::Reverse(it.payload))
        });
        let found = hardest.map(|cell| {
            let it = cell.conditions;
            let each: Vec<String> =
                cell.values.iter().map(|(arm, ms)| format!("{arm} in {}", short(Some(*ms)))).collect();
            let says = format!(
                "told {} receivers of {} ms each, {} arrivals a second, a workflow completes with {}",
                it.width,
                it.service_ms,
                it.rate,
                each.join(", ")
            );
            (says, anchor(&it), "the cell".to_owned())
        });
        rule(
            "If one change must reach several services",
            found.into_iter().collect(),
            "that is ./study breakeven",
        )
    }

    /// Where async acknowledges, or completes, sooner than either way of calling; and where not.
    fn break_even(&self) -> Rule {
        let said = |measure: Measure, verb: &str| {
            let judged: Vec<&Judged> =
                self.judged.iter().filter(|cell| cell.measure == measure && cell.winner.is_some()).collect();
            let alone = |cell: &&&Judged| matches!(&cell.winner, Some(Winner { arms, factor: Some(_) }) if arms[..] == ["async"]);
            let first = judged.iter().find(alone).or(judged.first())?;
            let wins = judged.iter().filter(alone).count();
            let least = judged.iter().filter(alone).map(|cell| cell.conditions.service_ms).min();
            let from = least.map_or(String::new(), |ms| format!(", first at receivers of {ms} ms"));
            let says = format!("async alone {verb} soonest in {wins} of {} cells{from}", judged.len());
            Some((says, anchor(&first.conditions), format!("{verb} soonest")))
        };
        let found = [said(Measure::Acknowledge, "acknowledges"), said(Measure::Complete, "completes")];
        rule("Where the balance tips", found.into_iter().flatten().collect(), "that is ./study breakeven")
    }

    fn capacity(&self) -> Rule {
        let one = |scenario: Scenario| {
            let curves: Vec<_> =
                self.results.curves.iter().filter(|curve| curve.scenario == scenario).collect();
            curves.first()?;
            let each: Vec<String> = curves
                .iter()
                .map(|curve| {
                    let rate = curve
                        .sustainable
                        .map_or("no rate that was tried".into(), |rate| format!("{}/s", digits(rate)));
                    let least = if curve.limited_by.is_some() { "at least " } else { "" };
                    format!("{} {least}{rate}", curve.arm)
                })
                .collect();
            let says = format!("{scenario}: sustained with {}", each.join(", "));
            Some((says, format!("rate-{}", scenario.key()), scenario.to_string()))
        };
        let found = Scenario::ALL.into_iter().filter_map(one).collect();
        rule(
            "If the load will grow",
            found,
            "that is ./study rate --scenario s6 --out DIR, where DIR is this folder",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::judge;
    use super::super::example;
    use super::*;

    fn of(results: &Results) -> Vec<Rule> {
        let analysis = Analysis::of(&results.plan, &results.runs);
        let judged = results.grid.as_ref().map(judge).unwrap_or_default();
        rules(&Ground { results, analysis: &analysis, judged: &judged })
    }

    #[test]
    fn every_rule_quotes_its_figures() {
        let rules = of(&example::results());
        let said: Vec<&str> = rules.iter().map(|rule| rule.says.as_str()).collect();
        assert!(rules.iter().all(|rule| rule.measured && !rule.links.is_empty()), "{said:?}");
        assert!(
            said[0]
                .starts_with("S1: async acknowledges 498 ms (195 times) sooner: async 2.57 ms, sync 501 ms"),
            "{}",
            said[0]
        );
        assert!(said[4].contains("told 3 receivers of 20 ms each, 5 arrivals a second"), "{}", said[4]);
        assert!(said[6].contains("sync 800/s, async 400/s"), "{}", said[6]);
    }

    #[test]
    fn what_was_not_measured_is_not_asserted() {
        let mut results = example::of(&[("async", Mode::Async)], 2);
        results.runs.iter_mut().for_each(|run| run.costs.clear());
        let rules = of(&results);
        assert!(
            rules.iter().all(|rule| !rule.measured && rule.says.starts_with("Not measured: ")),
            "{rules:?}"
        );
    }
}
