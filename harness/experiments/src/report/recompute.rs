//! The outcomes of a run made anew from what k6 and the services noted, where that is kept: the report then stands on
//! the raw data and not on what an earlier program made of it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Result, ensure};
use contract::Scenario;

use crate::results::Results;
use measure::journal::Journal;
use measure::load::Samples;
use measure::outcomes::{self, Outcome};
use measure::record::{Plan, PlannedRun, Run};
use measure::samples::Answer;
use measure::stored::{read, read_lines};

/// Replaces what was stored wherever the raw data is there; the runs (from 1 on) in which that says something else.
///
/// # Errors
/// When raw data cannot be read, or is not all that the run had.
pub fn join_anew(results: &mut Results, dir: &Path) -> Result<Vec<usize>> {
    let Results { plan, runs, .. } = results;
    let mut other = Vec::new();
    for planned in plan.planned_runs() {
        let Some(run) = runs.iter_mut().find(|run| run.index == planned.index) else { continue };
        let Some((outcomes, unreadable)) = outcomes(plan, planned, run, dir)? else { continue };
        if outcomes != run.scenarios || unreadable != run.unreadable_journal_lines {
            other.push(planned.index + 1);
            run.scenarios = outcomes;
            run.unreadable_journal_lines = unreadable;
        }
    }
    Ok(other)
}

/// With the number of lines in the journals that are no entries. `None` if the raw data is not there.
fn outcomes(
    plan: &Plan,
    planned: PlannedRun<'_>,
    run: &Run,
    dir: &Path,
) -> Result<Option<(BTreeMap<Scenario, Outcome>, u64)>> {
    let folder = planned.folder(dir);
    let failed: Option<HashMap<String, String>> = read(&folder.join("failed-checks.json"))?;
    let (answers, journals) = (folder.join("answers.jsonl"), folder.join("journal"));
    let Some(failed_checks) = failed.filter(|_| answers.exists() && journals.is_dir()) else {
        return Ok(None);
    };
    let dropped = run.scenarios.iter().map(|(scenario, outcome)| (*scenario, outcome.dropped));
    let samples = Samples {
        answers: read_lines(&answers)?,
        failed_checks,
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
    };
    for (scenario, outcome) in &run.scenarios {
        let is_of = |answer: &&Answer| answer.scenario == *scenario;
        let (kept, all) = (samples.answers.iter().filter(is_of).count() as u64, outcome.requests);
        ensure!(
            kept == all,
            "{} has {kept} answers of {scenario}, {} has {all}: one of them is damaged",
            answers.display(),
            planned.file(dir).display()
        );
    }
    let mut journal = Journal::new(&journals);
    journal.poll()?;
    let width = plan.settings.with(&planned.variant.env).width();
    let prefix = format!("{}-{}-load-", plan.stamp, planned.variant.name);
    let mut outcomes = outcomes::join(&prefix, &samples, &journal.entries, width);
    plan.complete(&mut outcomes);
    Ok(Some((outcomes, journal.unreadable)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::example;
    use super::*;
    use stack::Mode;

    #[test]
    fn outcomes_come_from_the_raw_data_where_it_is_kept_and_a_deviation_is_told() {
        let dir = std::env::temp_dir().join(format!("study-again-{}", std::process::id()));
        let mut results = example::of(&[("sync", Mode::Sync)], 2);
        let stored = results.runs.clone();
        assert_eq!(join_anew(&mut results, &dir).unwrap(), Vec::<usize>::new());
        assert_eq!(results.runs, stored);

        // What an earlier program made of one answer.
        let stored = &mut results.runs[1].scenarios;
        *stored = Scenario::ALL.map(|scenario| (scenario, Outcome::default())).into();
        stored.get_mut(&Scenario::S6).unwrap().requests = 1;
        let folder = results.plan.planned_runs().nth(1).unwrap().folder(&dir);
        fs::create_dir_all(folder.join("journal")).unwrap();
        let id = format!("{}-sync-load-s6-0", results.plan.stamp);
        let answer =
            format!(r#"{{"workflow":"{id}","scenario":"s6","status":200,"expected":true,"micros":900}}"#);
        let effect = format!(
            r#"{{"workflow":"{id}","scenario":"s6","effect":"click","outcome":"stored","accepted_us":5,"done_us":505}}"#
        );
        fs::write(folder.join("answers.jsonl"), answer + "\n").unwrap();
        fs::write(folder.join("failed-checks.json"), "{}").unwrap();
        fs::write(folder.join("journal/analyticsservice.jsonl"), effect + "\n").unwrap();
        assert_eq!(join_anew(&mut results, &dir).unwrap(), [2]);
        let outcome = &results.runs[1].scenarios[&Scenario::S6];
        assert_eq!((outcome.requests, outcome.open, outcome.complete.quantile(0.5)), (1, 0, Some(0.5)));
        // Once more: now it is as stored.
        assert!(join_anew(&mut results, &dir).unwrap().is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }
}
