//! The command `./study report`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::model::Model;
use super::{diff, forms, recompute, write_all};
use crate::bench::record::Record;
use crate::bench::view;
use crate::report::table;
use crate::results::Results;
use stack::given_path;
use stack::output::say;

#[derive(Args)]
pub struct ReportArgs {
    /// A folder of results, such as `results/20261121T095042Z`, of comparisons, of `bench`, or of both.
    #[arg(value_parser = given_path(), value_name = "DIR")]
    dir: PathBuf,

    /// Another one: what differs between them, variant by variant.
    #[arg(value_parser = given_path(), value_name = "OTHER")]
    other: Option<PathBuf>,
}

/// Made anew from the raw data, where that is kept.
fn read(dir: &Path) -> Result<Results> {
    let mut results = Results::read(dir)?.some(dir)?;
    for run in recompute::join_anew(&mut results, dir)? {
        eprintln!(
            "run {run} of {}: joined anew, its outcomes are not those of its run.json; the report has the new ones",
            dir.display()
        );
    }
    Ok(results)
}

pub fn run(args: &ReportArgs) -> Result<()> {
    let text = report(&args.dir, args.other.as_deref())?;
    say(&text)
}

/// Writes the report and returns the text for the terminal. It reads and computes everything before it writes anything.
pub fn report(dir: &Path, other: Option<&Path>) -> Result<String> {
    if let Some(other) = other {
        let diff = diff::diff(&read(dir)?, &read(other)?)?;
        let page = dir.join("compared.html");
        write_all(&[(page.clone(), diff.html()?)])?;
        return Ok(format!("\n{}\nThe same: {}\n", diff.text(), page.display()));
    }
    let record = Record::read(dir)?;
    let results = if record.is_none() || Results::are_in(dir) { Some(read(dir)?) } else { None };
    let (mut text, mut files) = (String::new(), Vec::new());
    if let Some(record) = &record {
        let page = Record::page(dir);
        text += &format!("\n{}\nCapacity: {}\n", view::text(record), page.display());
        files.push((page, view::markdown(record)?));
    }
    if let Some(results) = &results {
        let model = Model::of(results);
        let (page, forms) = forms(&model, dir)?;
        text += &format!("\n{}\nResults: {}\n", table::text(&model), page.display());
        files.extend(forms);
    }
    write_all(&files)?;
    Ok(text)
}

#[cfg(test)]
#[path = "damaged_tests.rs"]
mod tests;
