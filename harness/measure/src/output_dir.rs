//! Where the results of one command go, and what begins the ids of its workflows. A folder that holds a comparison is
//! welcome: its report then shows these results too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;
use time::macros::format_description;

use super::load::K6;
use super::load_profile::Delays;
use stack::{Layout, Mode, project_root, state_folder};

/// What all stacks of a study have in common.
pub struct Environment {
    pub k6: K6,
    pub delays: Delays,
    pub port_offset: u16,
    pub seed: u64,
    pub docker: bool,
    /// Begins the ids of all workflows.
    pub stamp: String,
}

/// What a run writes, with room for a broker, which stops taking messages below 50 MB.
const ROOM: u64 = 500_000_000;
const FULL: u64 = 1_000_000;

pub struct OutputDir {
    pub dir: PathBuf,
    /// UTC, for ids and names.
    pub stamp: String,
    /// UTC, for people.
    pub started: String,
}

impl OutputDir {
    /// `dir`, else `results/<prefix><UTC time>`; made by the first that is written to it.
    pub fn new(prefix: &str, dir: Option<&Path>) -> Result<Self> {
        let now = OffsetDateTime::now_utc();
        let stamp = now.format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => project_root()?.join("results").join(format!("{prefix}{stamp}")),
        };
        let started = now.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))?;
        Ok(Self { dir, stamp, started })
    }

    /// Finds busy ports and full disks before anything is measured.
    pub fn check(&self, modes: &[Mode], port_offset: u16) -> Result<()> {
        let layouts: Vec<Layout> = modes.iter().copied().map(Layout::study).collect();
        self.check_layouts(&layouts, port_offset)
    }

    /// The same for any layouts.
    pub fn check_layouts(&self, layouts: &[Layout], port_offset: u16) -> Result<()> {
        for layout in layouts {
            layout.check(&layout.moved(port_offset, 0)?)?;
        }
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot create {}", self.dir.display()))?;
        check_room(&self.dir)
    }

    pub fn environment(&self, k6: K6, port_offset: u16, seed: u64) -> Environment {
        let (delays, stamp) = (Delays::from_environment(), self.stamp.clone());
        Environment { k6, delays, port_offset, seed, docker: false, stamp }
    }
}

/// Journals and logs of one stack while it is measured: gone when all went well, else there to be looked at.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(output: &OutputDir, name: &str) -> Result<Self> {
        let dir = output.dir.join("scratch").join(name);
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

/// One clear line now instead of half a result later.
pub fn check_room(dir: &Path) -> Result<()> {
    for place in [dir, &state_folder()?] {
        if let Some(free) = free(place).filter(|free| *free < ROOM) {
            let (free, room) = (free / 1_000_000, ROOM / 1_000_000);
            bail!("only {free} MB are free where {} is: {room} MB are needed", place.display());
        }
    }
    Ok(())
}

/// A run on a full disk lacks whatever could not be written, and fails in many ways: with the one cause.
pub fn check_disk<T>(result: Result<T>, dir: &Path) -> Result<T> {
    match free(dir) {
        Some(free) if free < FULL => {
            let cause = result.err().map_or(String::new(), |error| format!(" ({error:#})"));
            bail!("No space left where {} is{cause}", dir.display())
        }
        _ => result,
    }
}

/// Bytes; `None` if unknown.
fn free(place: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(place).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}
