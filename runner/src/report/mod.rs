//! `./study report`: what was measured, for people: one page, and the same as Markdown, CSV and JSON.
//!
//! In reading order: `results` (what a folder holds), `sums`, `costs`, `little`, `checks`, `winner` (what the runs say
//! together), `section`, `price`, `classic`, `rates`, `cells`, `stall`, `rules` (the parts of the report), `view` (all of them),
//! `page`, `csv`, `json` (its forms), `chart`; `command`, `again` (from raw data), `two` (folders against each other).

pub mod again;
pub mod cells;
pub mod chart;
pub mod checks;
pub mod classic;
pub mod command;
pub mod costs;
pub mod csv;
#[cfg(test)]
pub mod example;
pub mod json;
pub mod little;
pub mod numbers;
pub mod page;
pub mod price;
pub mod rates;
pub mod results;
pub mod rules;
pub mod section;
pub mod stall;
pub mod sums;
pub mod two;
pub mod view;
pub mod winner;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::compare::statistics::Analysis;
use results::Results;

/// Writes all forms of the report into the folder of the results; the path of the page.
pub fn write(results: &Results, dir: &Path) -> Result<PathBuf> {
    let analysis = Analysis::of(&results.plan, &results.runs);
    let judged = results.grid.as_ref().map(cells::judge).unwrap_or_default();
    let view = view::view(results, &analysis, &judged)?;
    let file = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    file("results.json", json::json(results, &analysis, &judged)?)?;
    file("figures.csv", csv::csv(&results.plan, &analysis))?;
    file("report.md", page::markdown(&view)?)?;
    file("report.html", page::html(&view)?)
}
