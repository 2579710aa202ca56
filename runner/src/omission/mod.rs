//! `./study omission`: the same stall seen by a closed and by an open load.

use serde::{Deserialize, Serialize};

use crate::local::Mode;
use crate::measure::times::Times;

/// What both loads told of one service that stood still for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Omission {
    pub mode: Mode,
    /// Load of each kind.
    pub seconds: u64,
    /// How long analyticsservice was stopped in the middle of it.
    pub stall_ms: u64,
    /// Arrivals per second of the open load; the closed one, with `users`, is as fast when nothing stalls.
    pub rate: u32,
    pub users: u32,
    pub closed: Times,
    pub open: Times,
}
