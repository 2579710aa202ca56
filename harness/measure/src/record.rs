//! What is written down: the plan of a comparison (`plan.json`), and each finished run (`runs/NN-ARM/run.json`). A
//! report is made from these alone, so it can be made again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use contract::Scenario;
use serde::{Deserialize, Serialize};

use super::crosscheck::CrossCheck;
use super::drain::Drain;
use super::host::{Host, Servers};
use super::load_profile::{Delays, Load};
use super::outcomes::Outcome;
use super::resource_usage::{Parts, Watched};
use super::stored::{Stored, all_different, not_negative, plain_name, read, within};
use stack::Mode;

/// Of a variant there are at most 100.
const MOST_RUNS: usize = 200;
/// Of one run; there are fewer than ten kinds.
const MOST_CHECKS: usize = 1000;

/// What is compared with what: usually the two modes; the same mode twice to see what the comparison makes of no
/// difference; one mode under two settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    pub name: String,
    pub mode: Mode,
    /// Settings of its services that the others do not have.
    pub env: BTreeMap<String, String>,
}

impl Variant {
    /// A mode as it is.
    pub fn of(mode: Mode) -> Self {
        Self { name: mode.to_string(), mode, env: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    /// Names the comparison and begins the ids of its workflows.
    pub stamp: String,
    /// UTC, for people.
    pub started: String,
    pub profile: String,
    pub load: Load,
    pub seed: u64,
    #[serde(rename = "arms")]
    pub variants: Vec<Variant>,
    /// Index into `variants` of each run, in their order.
    pub order: Vec<usize>,
    pub settings: Delays,
    pub host: Host,
    pub docker: bool,
}

/// A run that is planned.
#[derive(Clone, Copy)]
pub struct PlannedRun<'a> {
    /// From 0 on, the place in the plan's order.
    pub index: usize,
    pub variant: &'a Variant,
}

impl PlannedRun<'_> {
    /// Where its files are.
    pub fn folder(&self, dir: &Path) -> PathBuf {
        dir.join("runs").join(format!("{:02}-{}", self.index + 1, self.variant.name))
    }

    pub fn file(&self, dir: &Path) -> PathBuf {
        self.folder(dir).join("run.json")
    }
}

impl Plan {
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("plan.json")
    }

    /// # Errors
    /// When the folder holds no comparison, or one that cannot be used.
    pub fn read(dir: &Path) -> Result<Self> {
        read(&Self::path(dir))?
            .with_context(|| format!("{} holds no comparison: there is no plan.json", dir.display()))
    }

    /// All runs in their order.
    pub fn planned_runs(&self) -> impl Iterator<Item = PlannedRun<'_>> {
        let planned = |(index, variant): (usize, &usize)| {
            Some(PlannedRun { index, variant: self.variants.get(*variant)? })
        };
        self.order.iter().enumerate().filter_map(planned)
    }

    /// Scenarios without a single answer stand in a run's results, too.
    pub fn complete(&self, scenarios: &mut BTreeMap<Scenario, Outcome>) {
        for scenario in self.load.rates.keys() {
            scenarios.entry(*scenario).or_default();
        }
    }
}

impl Stored for Plan {
    fn check(&self) -> Result<()> {
        plain_name("the stamp", &self.stamp)?;
        within("the number of variants", self.variants.len(), 1, 2)?;
        for variant in &self.variants {
            plain_name("the variant", &variant.name)?;
        }
        all_different("the variant", self.variants.iter().map(|variant| &variant.name))?;
        within("the number of runs", self.order.len(), 1, MOST_RUNS)?;
        for (at, variant) in self.order.iter().enumerate() {
            ensure!(
                *variant < self.variants.len(),
                "run {} is of variant {variant}, there are {}",
                at + 1,
                self.variants.len()
            );
        }
        for (at, variant) in self.variants.iter().enumerate() {
            ensure!(self.order.contains(&at), "no run of {} is planned", variant.name);
        }
        self.load.check()?;
        self.host.check()
    }
}

/// One run of one variant, from an empty stack to the last effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// From 0 on, the place in the plan's order.
    #[serde(rename = "slot")]
    pub index: usize,
    #[serde(rename = "arm")]
    pub variant: String,
    pub mode: Mode,
    /// UTC, for people.
    pub started: String,
    pub servers: Servers,
    pub scenarios: BTreeMap<Scenario, Outcome>,
    pub drain: Drain,
    pub cross_checks: Vec<CrossCheck>,
    /// Lines of the journals that are no entries.
    pub unreadable_journal_lines: u64,
    /// The machine while the load ran.
    pub watched: Watched,
    /// What each scenario costs alone; empty if that was not measured.
    pub costs: BTreeMap<Scenario, Cost>,
    /// Average number of workflows in progress while the load ran, as gauges and queues showed it, where enough are
    /// in progress to be counted: to be compared with arrival rate x mean time.
    pub in_progress: BTreeMap<Scenario, f64>,
}

/// Per 1000 completed workflows, without what the idle stack takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub workflows: u64,
    /// Processor seconds.
    pub cpu: Parts,
    /// Bytes of payload that went through TCP connections of each; of the services: HTTP, the client's requests included.
    pub bytes: Option<Parts>,
}

impl Cost {
    /// Of `completed` workflows, without what the idle stack takes. `None` where processes cannot be seen.
    pub fn of(watched: &Watched, idle: &Watched, completed: u64) -> Option<Self> {
        let share = watched.seconds / idle.seconds;
        let each = |now: f64, idle: f64| (now - idle * share) * 1000.0 / completed.max(1) as f64;
        let per_thousand = |now: Option<Parts>, idle: Option<Parts>| Some(now?.zip(idle?, each));
        let cpu = per_thousand(watched.cpu, idle.cpu)?;
        Some(Self { workflows: completed, cpu, bytes: per_thousand(watched.bytes, idle.bytes) })
    }
}

impl Stored for Run {
    fn check(&self) -> Result<()> {
        for (scenario, outcome) in &self.scenarios {
            outcome.check().with_context(|| scenario.to_string())?;
        }
        within("the number of cross-checks", self.cross_checks.len(), 0, MOST_CHECKS)?;
        not_negative("the time of the drain", self.drain.seconds)?;
        for count in self.in_progress.values() {
            not_negative("the number in progress", *count)?;
        }
        self.watched.check()
    }
}

impl Run {
    /// That it is the run which was planned there.
    ///
    /// # Errors
    /// What is another.
    pub fn fits(&self, plan: &Plan, planned: PlannedRun<'_>) -> Result<()> {
        ensure!(
            self.index == planned.index,
            "it is run {}, not {}",
            self.index.saturating_add(1),
            planned.index + 1
        );
        let Variant { name, mode, .. } = planned.variant;
        ensure!(self.variant == *name, "it is of the variant {:?}, not {name}", self.variant);
        ensure!(self.mode == *mode, "it is in {} mode, not {mode}", self.mode);
        let planned = &plan.load.rates;
        if let Some(scenario) = planned.keys().find(|scenario| !self.scenarios.contains_key(scenario)) {
            bail!("it lacks {scenario}, which is planned");
        }
        let mut measured = self.scenarios.keys().chain(self.costs.keys());
        if let Some(scenario) = measured.find(|scenario| !planned.contains_key(scenario)) {
            bail!("it has {scenario}, which is not planned");
        }
        Ok(())
    }
}

/// `NAME=VALUE, NAME=VALUE`
pub fn settings(env: &BTreeMap<String, String>) -> String {
    env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

/// Runs of a variant whose figures are used.
pub fn valid<'a>(runs: &'a [Run], variant: &str) -> impl Iterator<Item = &'a Run> {
    runs.iter().filter(move |run| run.variant == variant && run.invalid().is_none())
}

/// What is wrong with any run, runs that are not there, and variants of which no run can be used: then not every figure may be
/// used either.
pub fn problems(plan: &Plan, runs: &[Run]) -> Vec<String> {
    let mut problems: Vec<String> = runs.iter().flat_map(Run::problems).collect();
    for variant in &plan.variants {
        let name = &variant.name;
        if valid(runs, name).next().is_none() && runs.iter().any(|run| run.variant == *name) {
            problems.push(format!("{name}: no run in which k6 offered all of the load in time"));
        }
    }
    let missing = plan.planned_runs().filter(|planned| runs.iter().all(|run| run.index != planned.index));
    let missing: Vec<String> =
        missing.map(|planned| format!("{} ({})", planned.index + 1, planned.variant.name)).collect();
    if !missing.is_empty() {
        let (all, missing) = (plan.order.len(), missing.join(", "));
        problems.push(format!("of {all} runs these are not finished: {missing}"));
    }
    problems
}

impl Run {
    /// Why no figure includes this run: the load was lower than planned.
    pub fn invalid(&self) -> Option<String> {
        let dropped: u64 = self.scenarios.values().map(|outcome| outcome.dropped).sum();
        (dropped > 0).then(|| format!("k6 did not offer {dropped} requests in time"))
    }

    pub fn problems(&self) -> Vec<String> {
        let run = format!("run {} ({})", self.index + 1, self.variant);
        let mut problems = Vec::new();
        for (scenario, outcome) in &self.scenarios {
            let mut all = outcome.problems();
            if outcome.requests == 0 {
                all.push("not a single request".to_owned());
            }
            problems.extend(all.iter().map(|problem| format!("{run} {scenario}: {problem}")));
        }
        for (count, what) in [
            (self.drain.queued, "messages still in queues after the drain"),
            (self.drain.dead, "messages in dead-letter queues"),
            (self.unreadable_journal_lines, "unreadable lines in the journals"),
        ] {
            if count > 0 {
                problems.push(format!("{run}: {count} {what}"));
            }
        }
        for check in self.cross_checks.iter().filter(|check| !check.ok) {
            problems
                .push(format!("{run}: {}: expected {}, found {}", check.what, check.expected, check.found));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_is_named_and_a_clean_run_has_none() {
        let clean = || Run {
            index: 2,
            variant: "async".into(),
            mode: Mode::Async,
            started: String::new(),
            servers: Servers::default(),
            scenarios: BTreeMap::from([(
                Scenario::S3,
                Outcome { requests: 9, expected: 9, ..Outcome::default() },
            )]),
            drain: Drain::default(),
            cross_checks: Vec::new(),
            unreadable_journal_lines: 0,
            watched: Watched::default(),
            costs: BTreeMap::new(),
            in_progress: BTreeMap::new(),
        };
        assert_eq!((clean().problems(), clean().invalid()), (Vec::new(), None));

        let mut run = clean();
        run.drain.dead = 3;
        run.unreadable_journal_lines = 1;
        run.cross_checks.push(CrossCheck {
            what: "clicks stored".into(),
            expected: "5".into(),
            found: "4".into(),
            ok: false,
        });
        let outcome = run.scenarios.get_mut(&Scenario::S3).unwrap();
        (outcome.open, outcome.twice, outcome.dropped) = (1, 2, 4);
        outcome.unexpected.insert("503".into(), 5);
        assert_eq!(
            run.problems(),
            [
                "run 3 (async) S3: 1 accepted but not completed",
                "run 3 (async) S3: 2 applied twice",
                "run 3 (async) S3: 5 unexpected answers (503)",
                "run 3 (async): 3 messages in dead-letter queues",
                "run 3 (async): 1 unreadable lines in the journals",
                "run 3 (async): clicks stored: expected 5, found 4",
            ]
        );
        assert_eq!(run.invalid().unwrap(), "k6 did not offer 4 requests in time");
    }
}
