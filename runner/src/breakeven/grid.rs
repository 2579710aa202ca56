//! The cells of the break-even grid: one fan-out (S3) under different conditions, measured in every arm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::host::Host;
use crate::measure::times::Times;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// UTC, for people.
    pub started: String,
    pub host: Host,
    /// Load in each cell, in each round.
    pub seconds: u64,
    /// `sync`, `sync-concurrent` (the receivers called at the same time), `async`.
    pub arms: Vec<String>,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub conditions: Conditions,
    /// By arm, one for each round.
    pub taken: BTreeMap<String, Vec<Taken>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// What each receiver takes for a change, beside its database.
    pub service_ms: u32,
    /// Receivers that are told.
    pub width: usize,
    /// Arrivals per second.
    pub rate: u32,
    /// Characters of the product's name, which travels to each receiver.
    pub payload: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub acknowledge: Times,
    pub complete: Times,
    /// Of services, broker and database together, without what they take when idle.
    pub cpu_ms_per_workflow: f64,
    /// Unexpected answers, lost or double effects, requests not offered in time: such a cell is not judged.
    pub problems: Vec<String>,
}
