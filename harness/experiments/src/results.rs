//! Everything that a folder of results holds, read back from its files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use campus_lab::record::Lab;
use contract::Scenario;

use crate::breakeven::grid::Grid;
use crate::coordinated_omission::Omission;
use crate::rate::curve::Curve;
use measure::record::{Plan, Run};
use measure::stored::read;

pub struct Results {
    pub plan: Plan,
    /// In the order in which they were made.
    pub runs: Vec<Run>,
    pub beside: Beside,
}

/// What the smaller commands measured and wrote to the same folder.
#[derive(Default)]
pub struct Beside {
    /// `rate-sN.json`, if there are any.
    pub curves: Vec<Curve>,
    /// `breakeven.json`.
    pub grid: Option<Grid>,
    /// `omission.json`.
    pub omission: Option<Omission>,
    /// `campus.json`.
    pub campus: Option<Lab>,
}

impl Beside {
    /// # Errors
    /// When a file is there and cannot be used.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut curves = Vec::new();
        for scenario in Scenario::ALL {
            curves.extend(Curve::read_all(dir, scenario)?);
        }
        let (grid, omission) = (read(&Grid::path(dir))?, read(&Omission::path(dir))?);
        Ok(Self { curves, grid, omission, campus: read(&Lab::path(dir))? })
    }
}

impl Results {
    /// Whether a comparison was begun in the folder.
    pub fn are_in(dir: &Path) -> bool {
        Plan::path(dir).is_file()
    }

    /// Also of a comparison that is not finished.
    ///
    /// # Errors
    /// When the folder holds no comparison, or a file in it cannot be used.
    pub fn read(dir: &Path) -> Result<Self> {
        let plan = Plan::read(dir)?;
        let mut runs = Vec::new();
        for planned in plan.planned_runs() {
            let path = planned.file(dir);
            let Some(run) = read::<Run>(&path)? else { continue };
            run.fits(&plan, planned).with_context(|| not_of(&path, dir))?;
            runs.push(run);
        }
        Ok(Self { plan, runs, beside: Beside::read(dir)? })
    }

    /// # Errors
    /// When not a single run is finished.
    pub fn some(self, dir: &Path) -> Result<Self> {
        ensure!(
            !self.runs.is_empty(),
            "{0} holds a comparison without a finished run: ./study compare --resume {0} goes on with it",
            dir.display()
        );
        Ok(self)
    }
}

fn not_of(path: &Path, dir: &Path) -> String {
    let plan: PathBuf = Plan::path(dir);
    format!("{} does not belong to {}", path.display(), plan.display())
}
