//! Latency against arrival rate, for one scenario in one arm.

use contract::Scenario;
use serde::{Deserialize, Serialize};

use crate::measure::times::Times;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub scenario: Scenario,
    pub arm: String,
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
    /// Arrivals per second that were asked for.
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
