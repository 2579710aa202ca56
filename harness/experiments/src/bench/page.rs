//! The page for the reader: what docs/PERFORMANCE.md is made from.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::benchmarks::Benchmark;
use super::record::Record;
use super::rows::{self, GoalRow, LoadRow};
use crate::templates::render;

#[derive(Serialize)]
struct View<'a> {
    record: &'a Record,
    machine: String,
    took: String,
    goals: Vec<Goal>,
    loads: Vec<LoadRow>,
    asked: usize,
    met: usize,
    /// Goals that were missed, as sentences.
    missed: Vec<String>,
    unmeasured: Vec<&'a str>,
}

#[derive(Serialize)]
struct Goal {
    #[serde(flatten)]
    row: GoalRow,
    source: &'static str,
}

/// `PERFORMANCE.md` beside the record: its path and what it says.
pub fn page(record: &Record, dir: &Path) -> Result<(PathBuf, String)> {
    Ok((dir.join("PERFORMANCE.md"), markdown(record)?))
}

pub fn markdown(record: &Record) -> Result<String> {
    let mut goals = rows::goals(record);
    // A table of Markdown is read row by row.
    let mut path = String::new();
    for row in &mut goals {
        if !row.path.is_empty() {
            path.clone_from(&row.path);
        }
        row.path.clone_from(&path);
    }
    let missed = goals.iter().filter(|row| row.met == "NO");
    let sources = record.verdicts.iter().map(Benchmark::source);
    let view = View {
        record,
        machine: record.host.line(),
        took: format!("{} min {:02} s", record.seconds / 60, record.seconds % 60),
        asked: goals.iter().filter(|row| !row.met.is_empty()).count(),
        met: goals.iter().filter(|row| row.met == "yes").count(),
        missed: missed.map(sentence).collect(),
        goals: goals.iter().cloned().zip(sources).map(|(row, source)| Goal { row, source }).collect(),
        loads: rows::loads(record),
        unmeasured: record.unmeasured(),
    };
    render("performance.md", include_str!("page.md"), &view)
}

fn sentence(row: &GoalRow) -> String {
    let GoalRow { path, what, median, limit, share, bound, .. } = row;
    let path = path.trim_end_matches('*');
    if share.is_empty() {
        format!("{path}: {what} {median}, asked for {bound}")
    } else {
        format!("{path}: {what} {median}, {share} of {limit}, asked for {bound}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::table::tests::example;

    #[test]
    fn the_page_tells_every_goal_and_names_the_missed() {
        let page = markdown(&example()).unwrap();
        let line = |begin: &str| page.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
        assert!(
            line("| s6-async* | clicks/s |")
                .ends_with("| ≥ 0.85 | NO | own target for the share of the limit |"),
            "{page}"
        );
        assert!(line("- s6-async: clicks/s").contains("0.79 of 12345 broker, asked for ≥ 0.85"), "{page}");
        assert!(line("| s6-async, c=256 |").contains("123 ms"), "{page}");
        assert!(!page.contains("{{") && !page.contains("\n\n\n"), "{page}");
    }
}
