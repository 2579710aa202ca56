//! Everything that a folder of results holds, read back from its files.

use std::path::Path;

use anyhow::Result;

use crate::breakeven::grid::Grid;
use crate::measure::place::read;
use crate::measure::record::{Plan, Run};
use crate::omission::Omission;
use crate::rate::curve::Curve;

pub struct Results {
    pub plan: Plan,
    /// In the order in which they were made.
    pub runs: Vec<Run>,
    /// `rate-sN.json`, if there are any.
    pub curves: Vec<Curve>,
    /// `breakeven.json`.
    pub grid: Option<Grid>,
    /// `omission.json`.
    pub omission: Option<Omission>,
}

impl Results {
    /// Whether a comparison was begun in the folder.
    pub fn are_in(dir: &Path) -> bool {
        Plan::path(dir).is_file()
    }

    /// # Errors
    /// When the folder holds no comparison, or one of another version.
    pub fn read(dir: &Path) -> Result<Self> {
        let plan = Plan::read(dir)?;
        let mut runs = Vec::new();
        for slot in 0..plan.order.len() {
            runs.extend(read(&plan.folder(dir, slot).join("run.json"))?);
        }
        let mut curves = Vec::new();
        for scenario in contract::Scenario::ALL {
            curves.extend(
                read::<Vec<Curve>>(&dir.join(format!("rate-{}.json", scenario.key())))?.unwrap_or_default(),
            );
        }
        Ok(Self {
            plan,
            runs,
            curves,
            grid: read(&dir.join("breakeven.json"))?,
            omission: read(&dir.join("omission.json"))?,
        })
    }
}
