//! Where the results of one command go, and what begins the ids of its workflows. A folder that holds a comparison is
//! welcome: its report then shows these results too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::macros::format_description;

use super::bench::Lab;
use super::load::K6;
use super::profile::Delays;
use crate::compare::plan;
use crate::local::ports::Ports;
use crate::local::{Mode, project_root};

pub struct Place {
    pub dir: PathBuf,
    /// UTC, for ids and names.
    pub stamp: String,
    /// UTC, for people.
    pub started: String,
}

impl Place {
    /// `dir`, else `results/<kind>-<UTC time>`; made by the first that is written to it.
    pub fn new(kind: &str, dir: Option<&Path>) -> Result<Self> {
        let now = OffsetDateTime::now_utc();
        let stamp = now.format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let dir = match dir {
            Some(dir) => std::path::absolute(dir)?,
            None => project_root()?.join("results").join(format!("{kind}-{stamp}")),
        };
        let started = now.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))?;
        Ok(Self { dir, stamp, started })
    }

    /// Before anything is measured: what would else be found out minutes later.
    pub fn check(&self, modes: &[Mode], port_offset: u16) -> Result<()> {
        for mode in modes {
            Ports::contract(*mode, port_offset)?.check(*mode)?;
        }
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot create {}", self.dir.display()))?;
        plan::check_room(&self.dir)
    }

    pub fn lab(&self, k6: K6, port_offset: u16, seed: u64) -> Lab {
        let (delays, stamp) = (Delays::from_environment(), self.stamp.clone());
        Lab { k6, delays, port_offset, seed, docker: false, stamp }
    }
}

/// Journals and logs of one stack while it is measured: gone when all went well, else there to be looked at.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(place: &Place, name: &str) -> Result<Self> {
        let dir = place.dir.join("scratch").join(name);
        if dir.exists() {
            // Of a run that was cut off.
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(Self(dir))
    }

    pub fn remove(self) {
        fs::remove_dir_all(&self.0).ok();
        // Only when nothing else is left in it.
        self.0.parent().map(fs::remove_dir);
    }
}
