//! Diff folders of results against each other: each variant that both have, before and after, as the two variants of a
//! comparison.

use anyhow::{Result, bail};
use serde::Serialize;

use crate::results::Results;
use crate::templates;
use measure::analysis::format;
use measure::analysis::statistics::Analysis;
use measure::record::{Plan, Run, Variant};
use stack::table;

#[derive(Serialize)]
pub struct Diff {
    first: String,
    second: String,
    /// What else differs: a difference may come from there.
    differ: Vec<&'static str>,
    variants: Vec<Compared>,
}

/// One variant that both have.
#[derive(Serialize)]
struct Compared {
    name: String,
    /// If it is not the same thing in both.
    differs: Option<String>,
    /// Valid ones.
    runs: Vec<usize>,
    /// Empty where differences are judged.
    unjudged: &'static str,
    rows: Vec<format::Row>,
}

/// # Errors
/// When there is no common variant.
pub fn diff(first: &Results, second: &Results) -> Result<Diff> {
    let common = first
        .plan
        .variants
        .iter()
        .filter(|variant| second.plan.variants.iter().any(|other| other.name == variant.name));
    let variants: Vec<Compared> = common.map(|variant| compared(first, second, variant)).collect();
    if variants.is_empty() {
        bail!("the two comparisons have no variant in common");
    }
    let (a, b) = (&first.plan, &second.plan);
    let differ = [
        (a.load == b.load, "loads"),
        (a.settings == b.settings, "settings"),
        (a.host.cpu == b.host.cpu && a.host.cores == b.host.cores, "machines"),
        (a.docker == b.docker, "places (containers or not)"),
    ];
    let differ = differ.iter().filter(|(same, _)| !same).map(|(_, what)| *what).collect();
    Ok(Diff { first: line(a), second: line(b), differ, variants })
}

fn line(plan: &Plan) -> String {
    let Plan { started, profile, host, .. } = plan;
    format!("{started}, profile {profile}, revision {}, {} cores", host.revision, host.cores)
}

fn compared(first: &Results, second: &Results, variant: &Variant) -> Compared {
    let (plan, runs) = both(first, second, variant);
    let analysis = Analysis::new(&plan, &runs);
    Compared {
        name: variant.name.clone(),
        differs: other(variant, &second.plan),
        unjudged: if analysis.judged().next().is_some() { "" } else { UNJUDGED },
        rows: analysis.cells.iter().map(|cell| format::row(cell, format::short_name)).collect(),
        runs: analysis.runs,
    }
}

/// The same variant twice, as if it were two of one comparison.
fn both(first: &Results, second: &Results, variant: &Variant) -> (Plan, Vec<Run>) {
    let named = |name: &str| Variant { name: name.to_owned(), ..variant.clone() };
    let mut runs = Vec::new();
    for (results, name) in [(first, "first"), (second, "second")] {
        let mine = results.runs.iter().filter(|run| run.variant == variant.name);
        runs.extend(mine.map(|run| Run { variant: name.to_owned(), ..run.clone() }));
    }
    (Plan { variants: vec![named("first"), named("second")], ..first.plan.clone() }, runs)
}

/// A name alone says little of a variant.
fn other(variant: &Variant, second: &Plan) -> Option<String> {
    let name = &variant.name;
    let other = second.variants.iter().find(|other| other.name == *name)?;
    if variant.mode != other.mode {
        return Some(format!("{name} is {} in the first and {} in the second.", variant.mode, other.mode));
    }
    (variant.env != other.env).then(|| format!("{name} has other settings in the second."))
}

const UNJUDGED: &str = "Fewer than two valid runs in one of them: differences are not judged.";

impl Diff {
    pub fn text(&self) -> String {
        let mut text = format!("first:  {}\nsecond: {}\n", self.first, self.second);
        if !self.differ.is_empty() {
            text += &format!("They differ in their {}, too.\n", self.differ.join(", "));
        }
        for variant in &self.variants {
            let mut table =
                table::plain(["", "", "first (95 %)", "second (95 %)", "difference (95 %)", "second is"]);
            for row in &variant.rows {
                let format::Row { scenario, what, variants, difference, verdict } = row;
                let difference = difference.as_deref().unwrap_or("-");
                table.add_row([scenario, what, &variants[0], &variants[1], difference, verdict]);
            }
            text += &format!(
                "\n{}: {} and {} valid runs\n{}\n",
                variant.name,
                variant.runs[0],
                variant.runs[1],
                table::text(&mut table, 1, |column| column >= 2)
            );
            if let Some(differs) = &variant.differs {
                text += &format!("{differs}\n");
            }
            if !variant.unjudged.is_empty() {
                text += &format!("{}\n", variant.unjudged);
            }
        }
        text
    }

    pub fn html(&self) -> Result<String> {
        templates::render("compared.html", include_str!("diff.html"), self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use contract::Scenario;
    use stack::Mode;

    #[test]
    fn each_common_arm_is_compared_with_itself() {
        let first = example::results();
        let mut second = example::of(&[("async", Mode::Async)], 3);
        let compared = diff(&first, &second).unwrap();
        let (same, page) = (compared.text(), compared.html().unwrap());
        assert!(same.contains("\nasync: 3 and 3 valid runs") && !same.contains("\nsync"), "{same}");
        assert!(page.contains("<h2>async</h2>") && !page.contains("<h2>sync</h2>") && !page.contains("http"));
        assert_eq!(same.matches("no difference").count(), 36, "{same}");
        assert!(same.lines().all(|line| line.chars().count() <= 100), "{same}");
        second.plan.variants[0].name = "other".into();
        assert!(diff(&first, &second).err().unwrap().to_string().contains("no variant in common"));
    }

    #[test]
    fn what_became_slower_is_seen() {
        let first = example::results();
        let mut second = example::results();
        for run in second.runs.iter_mut().filter(|run| run.mode == Mode::Async) {
            let slow = run.scenarios[&Scenario::S2].clone();
            run.scenarios.insert(Scenario::S1, slow);
        }
        second.plan.load.seconds += 1;
        second.plan.variants[0].env.insert("EMAIL_DELAY_MS".into(), "520".into());
        let told = diff(&first, &second).unwrap().text();
        assert_eq!(
            (told.matches(" later").count(), told.contains("differ in their loads")),
            (3, true),
            "{told}"
        );
    }
}
