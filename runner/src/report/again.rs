//! The outcomes of a run made anew from what k6 and the services noted, where that is kept: the report then stands on
//! the raw data and not on what an earlier program made of it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use contract::Scenario;

use super::results::Results;
use crate::measure::join::{self, Outcome};
use crate::measure::journal::Journal;
use crate::measure::load::Samples;
use crate::measure::place::read;
use crate::measure::record::{Plan, Run};
use crate::measure::samples::Answer;

/// Replaces what was stored wherever the raw data is there; the runs (from 1 on) in which that says something else.
pub fn join_anew(results: &mut Results, dir: &Path) -> Result<Vec<usize>> {
    let mut other = Vec::new();
    for run in &mut results.runs {
        let folder = results.plan.folder(dir, run.slot);
        let Some(outcomes) = outcomes(&results.plan, run, &folder)? else { continue };
        if outcomes != run.scenarios {
            other.push(run.slot + 1);
            run.scenarios = outcomes;
        }
    }
    Ok(other)
}

/// `None` if the raw data is not there.
fn outcomes(plan: &Plan, run: &Run, folder: &Path) -> Result<Option<BTreeMap<Scenario, Outcome>>> {
    let failed: Option<HashMap<String, String>> = read(&folder.join("failed-checks.json"))?;
    let (answers, journals) = (folder.join("answers.jsonl"), folder.join("journal"));
    let Some(failed_checks) = failed.filter(|_| answers.exists() && journals.is_dir()) else {
        return Ok(None);
    };
    let dropped = run.scenarios.iter().map(|(scenario, outcome)| (*scenario, outcome.dropped));
    let samples = Samples {
        answers: read_answers(&answers).with_context(|| format!("cannot read {}", answers.display()))?,
        failed_checks,
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
    };
    let mut journal = Journal::new(&journals);
    journal.poll()?;
    let arm = plan.arm(run.slot);
    let width = plan.settings.with(&arm.env).width();
    let prefix = format!("{}-{}-load-", plan.stamp, arm.name);
    Ok(Some(join::join(&prefix, &samples, &journal.entries, width)))
}

fn read_answers(path: &Path) -> Result<Vec<Answer>> {
    BufReader::new(File::open(path)?).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::example;
    use super::*;
    use crate::local::Mode;

    #[test]
    fn outcomes_come_from_the_raw_data_where_it_is_kept_and_a_deviation_is_told() {
        let dir = std::env::temp_dir().join(format!("study-again-{}", std::process::id()));
        let mut results = example::of(&[("sync", Mode::Sync)], 2);
        let stored = results.runs.clone();
        assert_eq!(join_anew(&mut results, &dir).unwrap(), Vec::<usize>::new());
        assert_eq!(results.runs, stored);

        let folder = results.plan.folder(&dir, 1);
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
