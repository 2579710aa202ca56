//! `./study report`: what was measured, for people: one page, and the same as Markdown, CSV and JSON.

#[cfg(test)]
pub mod example;
pub mod results;
pub mod sums;

use std::path::{Path, PathBuf};

use anyhow::Result;

use results::Results;

/// Writes all forms of the report into the folder of the results; the path of the page.
pub fn write(_results: &Results, dir: &Path) -> Result<PathBuf> {
    Ok(dir.join("report.html"))
}
