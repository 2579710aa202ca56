//! Which run comes when, and what of it is done already.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::results::{Beside, Results};
use measure::load_profile::Load;
use measure::record::{Plan, PlannedRun};
use measure::stored::write;
use stack::Mode;
use stack::build;

/// Which variant comes when: each pair of runs in the order opposite to the pair before (ABBA), so that a machine
/// that gets slower or faster all the time is no advantage to either.
pub fn balanced(variants: usize, runs: u32, seed: u64) -> Vec<usize> {
    let begin = usize::from(variants > 1 && seed.is_multiple_of(2));
    let mut order = Vec::new();
    for round in 0..runs as usize {
        let mut round_order: Vec<usize> = (0..variants).collect();
        if (round + begin) % 2 == 1 {
            round_order.reverse();
        }
        order.extend(round_order);
    }
    order
}

/// About how long a run takes, start and end included.
pub fn seconds(load: &Load, planned: PlannedRun<'_>) -> u64 {
    // Start, warm-up's and load's last answers, queues counted as empty.
    let around = match planned.variant.mode {
        Mode::Sync => 9,
        Mode::Async | Mode::Stream => 21,
    };
    let costs = if load.cost_seconds > 0 { 26 + (load.cost_seconds + 3) * 5 } else { 0 };
    around + load.warm_up_seconds + load.seconds + costs
}

/// Makes the folder and writes the plan to it.
///
/// # Errors
/// When the folder holds runs already, or something that the report could not show in the end.
pub fn begin(plan: &Plan, dir: &Path) -> Result<()> {
    let path = Plan::path(dir);
    if path.exists() {
        bail!("{0} holds a comparison: go on with it (--resume {0}) or take another --out", dir.display());
    }
    let runs = dir.join("runs");
    ensure!(!runs.exists(), "{} is there without a plan.json: take another --out", runs.display());
    Beside::read(dir)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    write(&path, plan)
}

/// The plan of a comparison all files of which can be used: else what is wrong would be found out after the last run.
pub fn resume(dir: &Path) -> Result<Plan> {
    let Results { plan, .. } = Results::read(dir)?;
    let now = build::revision().unwrap_or_default();
    if plan.host.revision != now {
        bail!(
            "{} was begun with revision {}, this is {now}: its runs cannot be compared with new ones",
            dir.display(),
            plan.host.revision
        );
    }
    Ok(plan)
}

/// Runs that are not finished.
pub fn left<'a>(plan: &'a Plan, dir: &Path) -> Vec<PlannedRun<'a>> {
    plan.planned_runs().filter(|planned| !planned.file(dir).exists()).collect()
}

/// A run that failed before the first figure (a busy port) leaves nothing to look at.
pub fn remove_if_empty(planned: PlannedRun<'_>, dir: &Path) {
    let folder = planned.folder(dir);
    fs::remove_dir(folder.join("journal")).ok();
    fs::remove_dir(&folder).ok();
    if fs::remove_dir(dir.join("runs")).is_ok() {
        fs::remove_file(Plan::path(dir)).ok();
        fs::remove_dir(dir).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_order_is_balanced_and_the_seed_says_who_begins() {
        assert_eq!(balanced(2, 4, 1), [0, 1, 1, 0, 0, 1, 1, 0]);
        assert_eq!(balanced(2, 2, 2), [1, 0, 0, 1]);
        assert_eq!(balanced(1, 3, 2), [0, 0, 0]);
    }

    #[test]
    fn a_comparison_with_a_damaged_run_is_not_gone_on_with() {
        let dir = std::env::temp_dir().join(format!("study-resume-{}", std::process::id()));
        let results = example::of(&[("sync", Mode::Sync)], 2);
        begin(&results.plan, &dir).unwrap();
        let planned = results.plan.planned_runs().next().unwrap();
        fs::create_dir_all(planned.folder(&dir)).unwrap();
        fs::write(planned.file(&dir), "{").unwrap();
        let error = format!("{:#}", resume(&dir).unwrap_err());
        assert!(error.contains("runs/01-sync/run.json is not what it should be"), "{error}");
        write(&planned.file(&dir), &results.runs[1]).unwrap();
        let error = format!("{:#}", resume(&dir).unwrap_err());
        assert!(error.contains("runs/01-sync/run.json does not belong to"), "{error}");
        write(&planned.file(&dir), &results.runs[0]).unwrap();
        let error = format!("{:#}", resume(&dir).unwrap_err());
        assert!(error.contains("was begun with revision abc1234"), "{error}");
        assert_eq!(left(&results.plan, &dir).iter().map(|planned| planned.index).collect::<Vec<_>>(), [1]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_comparison_does_not_begin_where_its_runs_or_its_report_would_meet_others() {
        let dir = std::env::temp_dir().join(format!("study-begin-{}", std::process::id()));
        let plan = example::of(&[("sync", Mode::Sync)], 1).plan;
        fs::create_dir_all(dir.join("runs/01-sync")).unwrap();
        assert!(begin(&plan, &dir).unwrap_err().to_string().contains("runs is there without a plan.json"));
        fs::remove_dir_all(dir.join("runs")).unwrap();
        fs::write(dir.join("omission.json"), "").unwrap();
        assert!(begin(&plan, &dir).unwrap_err().to_string().contains("omission.json"));
        assert!(!Plan::path(&dir).exists());
        fs::remove_file(dir.join("omission.json")).unwrap();
        begin(&plan, &dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
