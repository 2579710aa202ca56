//! `./study report`: what was measured, for people: one page, and the same as Markdown, CSV and JSON.
//!
//! In reading order: `costs`, `littles_law`, `checks` (figures over all runs), `model` (all figures), then what shows them:
//! `scenario_charts`, `summary_charts`, `rates`, `break_even_table`, `stall`, `rules`, `conditions`, gathered in `view` (page and
//! Markdown); `csv`, `json`, `table`; `chart` draws. `command` reads a folder, with `recompute` (from raw data), or two (`diff`).

pub mod break_even_table;
pub mod chart;
pub mod checks;
pub mod command;
pub mod conditions;
pub mod costs;
pub mod csv;
pub mod diff;
#[cfg(test)]
pub mod example;
pub mod json;
pub mod littles_law;
pub mod model;
pub mod numbers;
pub mod rates;
pub mod recompute;
pub mod rules;
pub mod scenario_charts;
pub mod stall;
pub mod summary_charts;
pub mod table;
pub mod view;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use model::Model;
use view::View;

/// All forms of the report as files of the folder of results; and the path of the page.
pub fn forms(model: &Model<'_>, dir: &Path) -> Result<(PathBuf, Vec<(PathBuf, String)>)> {
    let view = View::of(model)?;
    let page = dir.join("report.html");
    let files = vec![
        (dir.join("results.json"), json::json(model)?),
        (dir.join("figures.csv"), csv::csv(model)),
        (dir.join("report.md"), view.markdown()?),
        (page.clone(), view.html()?),
    ];
    Ok((page, files))
}

/// All of the files, or, if one of them cannot be written, none.
pub fn write_all(files: &[(PathBuf, String)]) -> Result<()> {
    let unfinished = |path: &Path| path.with_added_extension("unfinished");
    let write = || {
        for (path, text) in files {
            ensure!(!path.is_dir(), "cannot write {}: it is a folder", path.display());
            fs::write(unfinished(path), text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        for (path, _) in files {
            fs::rename(unfinished(path), path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    };
    write().inspect_err(|_| {
        for (path, _) in files {
            fs::remove_file(unfinished(path)).ok();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_written_and_the_one_for_programs_can_be_read() {
        let dir = std::env::temp_dir().join(format!("study-report-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let results = example::results();
        let (page, files) = forms(&Model::of(&results), &dir).unwrap();
        write_all(&files).unwrap();
        assert_eq!(page, dir.join("report.html"));
        assert!(
            ["report.md", "figures.csv"].iter().all(|name| dir.join(name).metadata().unwrap().len() > 1000)
        );
        let all: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(dir.join("results.json")).unwrap()).unwrap();
        assert_eq!(all["version"], json::VERSION);
        assert_eq!(all["figures"].as_array().unwrap().len(), 36);
        assert_eq!(all["curves"][0]["sustainable_per_second"], 800.0);
        assert_eq!(all["grid"].as_array().unwrap().len(), 24);
        assert!(all["scenarios"][0]["cost_per_1000"]["cpu"]["total"]["mean"].as_f64().unwrap() > 2.0);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_report_that_cannot_be_written_whole_leaves_the_one_before() {
        let dir = std::env::temp_dir().join(format!("study-write-all-{}", std::process::id()));
        fs::create_dir_all(dir.join("page")).unwrap();
        fs::write(dir.join("figures"), "before").unwrap();
        let files = ["figures", "page"].map(|name| (dir.join(name), "after".to_owned()));
        let error = write_all(&files).unwrap_err().to_string();
        assert!(error.contains("page: it is a folder"), "{error}");
        assert_eq!(fs::read_to_string(dir.join("figures")).unwrap(), "before");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(&dir).unwrap();
    }
}
