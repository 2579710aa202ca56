//! What is written down: `bench.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::benchmarks::Benchmark;
use super::goal::{Measurement, Verdict};
use super::sample::Sample;
use super::session::{Plan, Session};
use measure::host::{Host, Servers};
use measure::output_dir::OutputDir;
use measure::stored::{LONGEST_SECONDS, Stored, not_negative, read, within, write};
use stack::Mode;

const FILE: &str = "bench.json";
/// A full run has some dozens, and hundreds.
const MOST_VERDICTS: usize = 1000;
const MOST_SAMPLES: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    /// UTC, for people.
    pub started: String,
    /// All of it took.
    pub seconds: u64,
    pub rounds: u32,
    /// Of each load.
    pub sample_seconds: u64,
    pub quick: bool,
    pub host: Host,
    pub servers: Option<Servers>,
    pub verdicts: Vec<Verdict>,
    pub samples: Vec<Sample>,
    /// Rounds of a path in which others took the processors.
    pub noisy: BTreeMap<String, u32>,
    /// Rounds that are left out, and why.
    pub notes: Vec<String>,
}

impl Stored for Record {
    fn check(&self) -> Result<()> {
        within("the seconds that it took", self.seconds, 0, LONGEST_SECONDS)?;
        within("the number of goals", self.verdicts.len(), 0, MOST_VERDICTS)?;
        within("the number of loads", self.samples.len(), 0, MOST_SAMPLES)?;
        for sample in &self.samples {
            not_negative("the rate of a load", sample.per_second)?;
            within("the share of other programs", sample.cpu.others, 0.0, 1.0)?;
        }
        self.host.check()
    }
}

impl Record {
    pub fn new(output: &OutputDir, host: Host, plan: &Plan, session: &Session, quick: bool) -> Self {
        Self {
            version: Self::VERSION,
            started: output.started.clone(),
            seconds: 0,
            rounds: plan.rounds,
            sample_seconds: plan.seconds,
            quick,
            host,
            servers: session.servers(Mode::Async).or(session.servers(Mode::Sync)).cloned(),
            verdicts: Vec::new(),
            samples: Vec::new(),
            noisy: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    pub fn path(output: &OutputDir) -> PathBuf {
        output.dir.join(FILE)
    }

    pub fn page(dir: &Path) -> PathBuf {
        dir.join("PERFORMANCE.md")
    }

    /// Of this folder, if it has one.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        read(&dir.join(FILE))
    }

    pub fn write(&self, output: &OutputDir) -> Result<()> {
        write(&Self::path(output), self)
    }

    /// What there is so far. `readings`: of each path, for each round that counts, one for each goal.
    pub fn take(
        &mut self,
        paths: &[Benchmark],
        readings: &BTreeMap<Benchmark, Vec<Vec<Measurement>>>,
        session: &Session,
    ) {
        self.samples.clone_from(&session.samples);
        self.verdicts.clear();
        for path in paths {
            let rounds = readings.get(path).map_or(&[][..], Vec::as_slice);
            for (index, goal) in path.goals().iter().enumerate() {
                let of_goal: Vec<Measurement> =
                    rounds.iter().filter_map(|round| round.get(index).copied()).collect();
                self.verdicts.push(goal.judge(&path.name(), &of_goal));
            }
        }
    }

    /// Paths without a single round that counts.
    pub fn unmeasured(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = self
            .verdicts
            .iter()
            .filter(|verdict| verdict.rounds == 0)
            .map(|verdict| verdict.path.as_str())
            .collect();
        paths.dedup();
        paths
    }
}
