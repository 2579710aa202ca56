//! Latency against arrival rate, for one scenario in one variant.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use contract::Scenario;
use serde::{Deserialize, Serialize};

use measure::load_profile::{HIGHEST_RATE, LOWEST_RATE};
use measure::stored::{
    LONGEST_SECONDS, Stored, all_different, first_version, not_negative, plain_name, read, within,
};
use measure::times::Times;

/// A search takes two dozen at most.
const MOST_POINTS: usize = 1000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    #[serde(default = "first_version")]
    pub version: u32,
    pub scenario: Scenario,
    #[serde(rename = "arm")]
    pub variant: String,
    /// The p99 of completion may be no longer than this.
    pub bound_ms: f64,
    /// Load at each rate.
    pub seconds: u64,
    /// By rate, ascending.
    pub points: Vec<Point>,
    /// The highest rate that was seen to be sustained, per second.
    pub sustainable: Option<f64>,
    /// Why no higher rate was tried, if not for the system under test (the load generator was at its end).
    pub limited_by: Option<String>,
}

/// One rate, tried once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Requested arrivals per second.
    pub rate: f64,
    pub acknowledge: Times,
    pub complete: Times,
    /// While the load ran.
    pub completed_per_second: f64,
    /// Unexpected answers, 503 included.
    pub unexpected: u64,
    pub dropped: u64,
    pub peak_backlog: u32,
    /// How much faster workflows were accepted than completed in the second half of the load, per second.
    pub backlog_growth: f64,
    /// `None` if this rate is sustained.
    pub why_not: Option<String>,
}

impl Curve {
    /// Of one scenario, each mode's.
    pub fn path(dir: &Path, scenario: Scenario) -> PathBuf {
        dir.join(format!("rate-{}.json", scenario.key()))
    }

    /// The first failed rate above what was sustained.
    pub fn first_failing(&self) -> Option<&Point> {
        let sustained = self.sustainable.unwrap_or(0.0);
        self.points.iter().find(|point| point.rate > sustained && point.why_not.is_some())
    }

    /// Empty if there is no such file.
    pub fn read_all(dir: &Path, scenario: Scenario) -> Result<Vec<Self>> {
        let path = Self::path(dir, scenario);
        let curves = read::<Vec<Self>>(&path)?.unwrap_or_default();
        let check = || {
            let other = curves.iter().find(|curve| curve.scenario != scenario);
            ensure!(other.is_none(), "it has a curve of another scenario");
            all_different("the variant", curves.iter().map(|curve| &curve.variant))
        };
        check().with_context(|| format!("{} is not what it should be", path.display()))?;
        Ok(curves)
    }
}

impl Stored for Curve {
    fn check(&self) -> Result<()> {
        plain_name("the variant", &self.variant)?;
        within("the bound in ms", self.bound_ms, 1.0, 1e9)?;
        within("the seconds at each rate", self.seconds, 1, LONGEST_SECONDS)?;
        within("the number of rates", self.points.len(), 0, MOST_POINTS)?;
        for point in &self.points {
            within("the rate", point.rate, LOWEST_RATE, HIGHEST_RATE)?;
            not_negative("the number that completed", point.completed_per_second)?;
        }
        within("the sustained rate", self.sustainable.unwrap_or(LOWEST_RATE), LOWEST_RATE, HIGHEST_RATE)
    }
}
