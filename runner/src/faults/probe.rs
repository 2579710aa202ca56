//! Asks every service for its health, and reads its memory, from the first fault to the last.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was seen of all ten.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Probes {
    /// Questions to services that were meant to answer.
    pub health_checks: u64,
    /// Those not answered with 200 within 2 seconds: when, which service, why.
    pub missed: Vec<String>,
    /// Largest resident memory of each service, in KiB.
    pub max_rss: BTreeMap<String, u64>,
}
