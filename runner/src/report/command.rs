//! What `./study report` is asked for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::results::Results;
use super::{again, two, write};
use crate::bench::record::Record;
use crate::bench::{page, table as capacity};
use crate::compare::statistics::Analysis;
use crate::compare::table;
use crate::local::given_path;
use crate::local::output::say;

#[derive(Args)]
pub struct ReportArgs {
    /// A folder of results, such as `results/20261121T095042Z`, of comparisons, of `bench`, or of both.
    #[arg(value_parser = given_path(), value_name = "DIR")]
    dir: PathBuf,

    /// Another one: what differs between them, arm by arm.
    #[arg(value_parser = given_path(), value_name = "OTHER")]
    other: Option<PathBuf>,
}

/// Made anew from the raw data, where that is kept.
fn read(dir: &Path) -> Result<Results> {
    let mut results = Results::read(dir)?;
    for run in again::join_anew(&mut results, dir)? {
        eprintln!(
            "run {run} of {}: joined anew, its outcomes are not those of its run.json; the report has the new ones",
            dir.display()
        );
    }
    Ok(results)
}

pub fn run(args: &ReportArgs) -> Result<()> {
    if let (Some(record), None) = (Record::read(&args.dir)?, &args.other) {
        let page = page::write(&record, &args.dir)?;
        say(&format!("\n{}\nCapacity: {}\n", capacity::text(&record), page.display()))?;
        if !Results::are_in(&args.dir) {
            return Ok(());
        }
    }
    let results = read(&args.dir)?;
    let text = match &args.other {
        Some(other) => {
            let two = two::two(&results, &read(other)?)?;
            let page = args.dir.join("compared.html");
            fs::write(&page, two.html()?).with_context(|| format!("cannot write {}", page.display()))?;
            format!("{}\nThe same: {}\n", two.text(), page.display())
        }
        None => {
            let analysis = Analysis::of(&results.plan, &results.runs);
            let page = write(&results, &analysis, &args.dir)?;
            format!("{}\nResults: {}\n", table::text(&results, &analysis).0, page.display())
        }
    };
    say(&format!("\n{text}"))
}
