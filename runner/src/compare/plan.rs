//! Which run comes when, and what of it is done already.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::local::Mode;
use crate::measure::host;
use crate::measure::place::write;
use crate::measure::record::Plan;

/// Which arm comes when: each pair of runs in the order opposite to the pair before (ABBA), so that a machine
/// that gets slower or faster all the time is no advantage to either.
pub fn balanced(arms: usize, runs: u32, seed: u64) -> Vec<usize> {
    let begin = usize::from(arms > 1 && seed.is_multiple_of(2));
    let mut order = Vec::new();
    for round in 0..runs as usize {
        let mut round_order: Vec<usize> = (0..arms).collect();
        if (round + begin) % 2 == 1 {
            round_order.reverse();
        }
        order.extend(round_order);
    }
    order
}

/// About how long a run takes, start and end included.
pub fn seconds(plan: &Plan, slot: usize) -> u64 {
    let load = &plan.load;
    // Start, warm-up's and load's last answers, queues counted as empty.
    let around = match plan.arm(slot).mode {
        Mode::Sync => 9,
        Mode::Async => 21,
    };
    let costs = if load.cost_seconds > 0 { 26 + (load.cost_seconds + 3) * 5 } else { 0 };
    around + load.warm_up_seconds + load.seconds + costs
}

/// Makes the folder and writes the plan to it.
pub fn begin(plan: &Plan, dir: &Path) -> Result<()> {
    let path = Plan::path(dir);
    if path.exists() {
        bail!("{0} holds a comparison: go on with it (--resume {0}) or take another --out", dir.display());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    write(&path, plan)
}

pub fn resume(dir: &Path) -> Result<Plan> {
    let plan = Plan::read(dir)?;
    let now = host::revision().unwrap_or_default();
    if plan.host.revision != now {
        bail!(
            "{} was begun with revision {}, this is {now}: its runs cannot be compared with new ones",
            dir.display(),
            plan.host.revision
        );
    }
    Ok(plan)
}

/// Slots without a finished run.
pub fn left(plan: &Plan, dir: &Path) -> Vec<usize> {
    (0..plan.order.len()).filter(|slot| !plan.folder(dir, *slot).join("run.json").exists()).collect()
}

/// A run that failed before the first figure (a busy port) leaves nothing to look at.
pub fn remove_if_empty(plan: &Plan, slot: usize, dir: &Path) {
    let folder = plan.folder(dir, slot);
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

    #[test]
    fn the_order_is_balanced_and_the_seed_says_who_begins() {
        assert_eq!(balanced(2, 4, 1), [0, 1, 1, 0, 0, 1, 1, 0]);
        assert_eq!(balanced(2, 2, 2), [1, 0, 0, 1]);
        assert_eq!(balanced(1, 3, 2), [0, 0, 0]);
    }
}
