//! What the experiments measured of each stack: `campus.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use contract::campus;
use measure::stored::{Stored, first_version};
use measure::times::Times;
use serde::{Deserialize, Serialize};

/// All stacks that were measured, in the order of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lab {
    #[serde(default = "first_version")]
    pub version: u32,
    pub stacks: Vec<Measured>,
}

/// One stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub stack: String,
    /// 20 orders, one after the other.
    pub few: Orders,
    /// 200 orders of ten clients.
    pub many: Orders,
    /// Each reservation takes 2 s longer.
    pub slow: Orders,
    /// Reservations fail; later they succeed again.
    pub failing: Orders,
    /// Inventory is away for 20 orders, and comes back.
    pub away: Orders,
    /// 2000 orders wait until the consumers start.
    pub drains: Vec<Drain>,
    /// More orders than stock.
    pub oversold: Orders,
    pub stock_left: i64,
    /// How often one message was delivered, before and after a restart, and how often its order was reserved.
    pub delivered: u64,
    pub counted: i64,
    /// Invalid bodies that were sent, and that were refused or are in the dead-letter queue.
    pub poison: u64,
    pub set_aside: u64,
    /// Over all experiments: orders, reservations, notifications and messages that are missing, or are there more than once.
    pub lost: u64,
    pub twice: u64,
}

/// What became of some orders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    /// Count of each status code.
    pub answers: BTreeMap<u16, u64>,
    /// Count of each final status.
    pub ends: BTreeMap<String, u64>,
    /// From the request to its answer, as the client sees it.
    pub acknowledge: Times,
    /// From acceptance to the last effect, from the journals.
    pub complete: Times,
    /// From the moment when the cause ends until the last order has ended, ms.
    pub drained_ms: Option<u64>,
}

/// A backlog that some consumers work off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    pub consumers: u64,
    /// Orders that have ended so many ms after the first of them; at most 21 points.
    pub curve: Vec<(u64, u64)>,
}

impl Drain {
    /// Orders a second, from the first to the last.
    pub fn rate(&self) -> Option<f64> {
        let (ms, orders) = *self.curve.last()?;
        (ms > 0).then(|| orders as f64 * 1000.0 / ms as f64)
    }
}

impl Lab {
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("campus.json")
    }

    /// Nothing is lost or applied twice.
    pub fn is_right(&self) -> bool {
        self.stacks.iter().all(|stack| stack.lost + stack.twice == 0)
    }
}

impl Stored for Lab {
    fn check(&self) -> Result<()> {
        ensure!(!self.stacks.is_empty(), "no stack was measured");
        for Measured { stack, drains, .. } in &self.stacks {
            ensure!(
                campus::Stack::ALL.iter().any(|known| known.name() == stack),
                "there is no stack {stack:?}"
            );
            ensure!(
                drains.iter().all(|drain| drain.curve.len() <= 21),
                "a drain of {stack} has too many points"
            );
        }
        Ok(())
    }
}
