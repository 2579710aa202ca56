//! Diff folders of results against each other: each arm that both have, before and after, as the two arms of a
//! comparison.

use anyhow::{Result, bail};
use serde::Serialize;

use crate::results::Results;
use crate::templates;
use measure::analysis::format;
use measure::analysis::statistics::Analysis;
use measure::record::{Arm, Plan, Run};
use stack::table;

#[derive(Serialize)]
pub struct Diff {
    first: String,
    second: String,
    /// What else differs: a difference may come from there.
    differ: Vec<&'static str>,
    arms: Vec<Compared>,
}

/// One arm that both have.
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
/// When there is no common arm.
pub fn diff(first: &Results, second: &Results) -> Result<Diff> {
    let common =
        first.plan.arms.iter().filter(|arm| second.plan.arms.iter().any(|other| other.name == arm.name));
    let arms: Vec<Compared> = common.map(|arm| compared(first, second, arm)).collect();
    if arms.is_empty() {
        bail!("the two comparisons have no arm in common");
    }
    let (a, b) = (&first.plan, &second.plan);
    let differ = [
        (a.load == b.load, "loads"),
        (a.settings == b.settings, "settings"),
        (a.host.cpu == b.host.cpu && a.host.cores == b.host.cores, "machines"),
        (a.docker == b.docker, "places (containers or not)"),
    ];
    let differ = differ.iter().filter(|(same, _)| !same).map(|(_, what)| *what).collect();
    Ok(Diff { first: line(a), second: line(b), differ, arms })
}

fn line(plan: &Plan) -> String {
    let Plan { started, profile, host, .. } = plan;
    format!("{started}, profile {profile}, revision {}, {} cores", host.revision, host.cores)
}

fn compared(first: &Results, second: &Results, arm: &Arm) -> Compared {
    let (plan, runs) = both(first, second, arm);
    let analysis = Analysis::new(&plan, &runs);
    Compared {
        name: arm.name.clone(),
        differs: other(arm, &second.plan),
        unjudged: if analysis.judged().next().is_some() { "" } else { UNJUDGED },
        rows: analysis.cells.iter().map(|cell| format::row(cell, format::short_name)).collect(),
        runs: analysis.runs,
    }
}

/// The same arm twice, as if it were two of one comparison.
fn both(first: &Results, second: &Results, arm: &Arm) -> (Plan, Vec<Run>) {
    let named = |name: &str| Arm { name: name.to_owned(), ..arm.clone() };
    let mut runs = Vec::new();
    for (results, name) in [(first, "first"), (second, "second")] {
        let mine = results.runs.iter().filter(|run| run.arm == arm.name);
        runs.extend(mine.map(|run| Run { arm: name.to_owned(), ..run.clone() }));
    }
    (Plan { arms: vec![named("first"), named("second")], ..first.plan.clone() }, runs)
}

/// A name alone says little of an arm.
fn other(arm: &Arm, second: &Plan) -> Option<String> {
    let name = &arm.name;
    let other = second.arms.iter().find(|other| other.name == *name)?;
    if arm.mode != other.mode {
        return Some(format!("{name} is {} in the first and {} in the second.", arm.mode, other.mode));
    }
    (arm.env != other.env).then(|| format!("{name} has other settings in the second."))
}

const UNJUDGED: &str = "Fewer than two valid runs in one of them: differences are not judged.";

impl Diff {
    pub fn text(&self) -> String {
        let mut text = format!("first:  {}\nsecond: {}\n", self.first, self.second);
        if !self.differ.is_empty() {
            text += &format!("They differ in their {}, too.\n", self.differ.join(", "));
        }
        for arm in &self.arms {
            let mut table =
                table::plain(["", "", "first (95 %)", "second (95 %)", "difference (95 %)", "second is"]);
            for row in &arm.rows {
                let format::Row { scenario, what, arms, difference, verdict } = row;
                let difference = difference.as_deref().unwrap_or("-");
                table.add_row([scenario, what, &arms[0], &arms[1], difference, verdict]);
            }
            text += &format!(
                "\n{}: {} and {} valid runs\n{}\n",
                arm.name,
                arm.runs[0],
                arm.runs[1],
                table::text(&mut table, 1, |column| column >= 2)
            );
            if let Some(differs) = &arm.differs {
                text += &format!("{differs}\n");
            }
            if !arm.unjudged.is_empty() {
                text += &format!("{}\n", arm.unjudged);
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
        second.plan.arms[0].name = "other".into();
        assert!(diff(&first, &second).err().unwrap().to_string().contains("no arm in common"));
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
        second.plan.arms[0].env.insert("EMAIL_DELAY_MS".into(), "520".into());
        let told = diff(&first, &second).unwrap().text();
        assert_eq!(
            (told.matches(" later").count(), told.contains("differ in their loads")),
            (3, true),
            "{told}"
        );
    }
}
