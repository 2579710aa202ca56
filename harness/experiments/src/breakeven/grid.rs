//! The cells of the break-even grid: one fan-out (S3) under different conditions, measured in every variant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use contract::events::PRODUCT_RECEIVERS;
use serde::{Deserialize, Serialize};

use measure::host::Host;
use measure::stored::{LONGEST_SECONDS, Stored, all_different, first_version, plain_name, within};
use measure::times::Times;

/// The full grid has 48.
const MOST_CELLS: usize = 500;
const MOST_VARIANTS: usize = 10;
const MOST_ROUNDS: usize = 100;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    #[serde(default = "first_version")]
    pub version: u32,
    /// UTC, for people.
    pub started: String,
    pub host: Host,
    /// Load in each cell, in each round.
    pub seconds: u64,
    /// `sync`, `sync-concurrent` (the receivers called at the same time), `async`.
    #[serde(rename = "arms")]
    pub variants: Vec<String>,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub conditions: Conditions,
    /// By variant, one for each round.
    pub taken: BTreeMap<String, Vec<Taken>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conditions {
    /// What each receiver takes for a change, beside its database.
    pub service_ms: u32,
    /// Receivers of each change.
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

impl Grid {
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("breakeven.json")
    }
}

impl Stored for Grid {
    fn check(&self) -> Result<()> {
        self.host.check()?;
        within("the seconds in each cell", self.seconds, 1, LONGEST_SECONDS)?;
        within("the number of variants", self.variants.len(), 1, MOST_VARIANTS)?;
        self.variants.iter().try_for_each(|variant| plain_name("the variant", variant))?;
        all_different("the variant", &self.variants)?;
        within("the number of cells", self.cells.len(), 0, MOST_CELLS)?;
        all_different("the cell", self.cells.iter().map(|cell| cell.conditions))?;
        for Cell { conditions, taken } in &self.cells {
            within("the time of a receiver in ms", conditions.service_ms, 0, 3_600_000)?;
            within("the number of receivers", conditions.width, 1, PRODUCT_RECEIVERS)?;
            within("the rate", conditions.rate, 1, 100_000)?;
            within("the number of characters", conditions.payload, 0, 1_000_000)?;
            for (variant, rounds) in taken {
                ensure!(
                    self.variants.contains(variant),
                    "a cell has the variant {variant:?}, which the grid has not"
                );
                within("the number of rounds", rounds.len(), 1, MOST_ROUNDS)?;
            }
        }
        Ok(())
    }
}
