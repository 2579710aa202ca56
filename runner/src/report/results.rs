//! Everything that a folder of results holds, read back from its files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::breakeven::grid::Grid;
use crate::measure::record::{Plan, Run, VERSION};
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
    /// # Errors
    /// When the folder holds no comparison, or one of another version.
    pub fn read(dir: &Path) -> Result<Self> {
        let plan: Plan = read(&dir.join("plan.json"))?
            .with_context(|| format!("{} holds no comparison: there is no plan.json", dir.display()))?;
        if plan.version != VERSION {
            bail!("{} was written by another version ({}, this is {VERSION})", dir.display(), plan.version);
        }
        let mut runs = Vec::new();
        for slot in 0..plan.order.len() {
            runs.extend(read(&plan.folder(dir, slot).join("run.json"))?);
        }
        let mut curves = Vec::new();
        for scenario in crate::measure::scenario::Scenario::ALL {
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

/// `None` if there is no such file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what it should be", path.display()))?;
    Ok(Some(value))
}
