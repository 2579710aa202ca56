//! Two folders of results against each other: each arm that both have, before and after, as the two arms of a
//! comparison.

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::results::Results;
use crate::compare::statistics::{Analysis, Percentile, Quantity};
use crate::compare::words;
use crate::measure::record::{Arm, Plan, Run};
use crate::measure::scenario::Scenario;

/// One table for each common arm.
///
/// # Errors
/// When there is no common arm.
pub fn text(first: &Results, second: &Results) -> Result<String> {
    let mut text = conditions(&first.plan, &second.plan);
    let mut found = false;
    for arm in &first.plan.arms {
        if !second.plan.arms.iter().any(|other| other.name == arm.name) {
            continue;
        }
        found = true;
        let (plan, runs) = both(first, second, arm);
        let analysis = Analysis::of(&plan, &runs);
        text += &format!(
            "\n{}: {} and {} valid runs\n{}\n",
            arm.name,
            analysis.runs[0],
            analysis.runs[1],
            table(&analysis)
        );
        if analysis.cells.iter().all(|cell| cell.difference.is_none()) {
            text += "Fewer than two valid runs in one of them: differences are not judged.\n";
        }
    }
    if !found {
        bail!("the two comparisons have no arm in common");
    }
    Ok(text)
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

/// What else differs: a difference may come from there.
fn conditions(first: &Plan, second: &Plan) -> String {
    let line = |plan: &Plan| {
        format!(
            "{}, profile {}, revision {}, {} cores",
            plan.started, plan.profile, plan.host.revision, plan.host.cores
        )
    };
    let mut text = format!("first:  {}\nsecond: {}\n", line(first), line(second));
    for (same, what) in [
        (first.load == second.load, "loads"),
        (first.settings == second.settings, "settings"),
        (first.host.cpu == second.host.cpu && first.host.cores == second.host.cores, "machines"),
        (first.docker == second.docker, "containers"),
    ] {
        if !same {
            text += &format!("They differ in their {what}, too.\n");
        }
    }
    text
}

fn table(analysis: &Analysis) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "", "first (95 %)", "second (95 %)", "difference (95 %)", "second is"]);
    let figures =
        || Quantity::ALL.into_iter().flat_map(|of| Percentile::ALL.map(|percentile| (of, percentile)));
    for (scenario, (quantity, percentile)) in
        Scenario::ALL.into_iter().flat_map(|scenario| figures().map(move |figure| (scenario, figure)))
    {
        let Some(cell) = analysis.cell(scenario, quantity, percentile) else { continue };
        let what = if quantity == Quantity::Acknowledge { "ack" } else { "done" };
        let mut row = vec![scenario.to_string(), format!("{what} {}", words::percentile(percentile))];
        row.extend(cell.arms.iter().map(|arm| arm.as_ref().map_or("-".into(), words::estimate)));
        if let Some(gap) = &cell.difference {
            row.extend([words::difference(gap), words::verdict(gap).to_owned()]);
        }
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if index > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::local::Mode;

    #[test]
    fn each_common_arm_is_compared_with_itself() {
        let first = example::results();
        let mut second = example::of(&[("async", Mode::Async)], 3);
        let same = text(&first, &second).unwrap();
        assert!(!same.contains("sync: 3 and 3") || same.contains("async: 3 and 3 valid runs"), "{same}");
        assert_eq!(same.matches("no difference").count(), 36, "{same}");
        assert!(same.lines().all(|line| line.chars().count() <= 100), "{same}");
        second.plan.arms[0].name = "other".into();
        assert!(text(&first, &second).unwrap_err().to_string().contains("no arm in common"));
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
        let told = text(&first, &second).unwrap();
        assert_eq!(
            (told.matches(" later").count(), told.contains("differ in their loads")),
            (3, true),
            "{told}"
        );
    }
}
