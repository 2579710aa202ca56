//! The result of a run as text: its figures, then one line for each invariant with the number of checked cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use contract::Protection;
use serde::Serialize;

use super::checker::{Finding, Settled};
use super::generator::Progress;
use super::nemesis::FaultRecord;
use stack::output::say;
use stack::{Mode, table};

/// Width of the text.
const WIDTH: usize = 100;

/// A finished run as it is written to `results/`.
#[derive(Serialize)]
pub struct RunResult {
    pub mode: Mode,
    pub seed: u64,
    /// Short hash; `+` if files differ from it.
    pub revision: String,
    pub disabled: Option<Protection>,
    /// Environment of the services.
    pub settings: Vec<(String, String)>,
    /// From the first operation to the last fault.
    pub seconds: f64,
    pub progress: Progress,
    /// Answers by status or kind of failure.
    pub answers: BTreeMap<String, u64>,
    /// Service processes that were killed, or aborted at a failpoint.
    pub kills: u32,
    pub faults: Vec<FaultRecord>,
    pub settled: Settled,
    pub findings: Vec<Finding>,
}

impl RunResult {
    pub fn broken(&self) -> Vec<&'static str> {
        self.findings.iter().filter(|finding| !finding.held).map(|finding| finding.invariant).collect()
    }
}

pub fn print(result: &RunResult) -> Result<()> {
    say(&text(result)).context("cannot print the result")
}

/// `faults-<mode>-<seed>.json` in `folder`.
pub fn write(result: &RunResult, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(format!("faults-{}-{}.json", result.mode, result.seed));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, serde_json::to_string_pretty(result)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn text(result: &RunResult) -> String {
    let mut text = format!("\n{}", figures(result));
    if !result.faults.is_empty() {
        text += &format!("\n{}\n", faults(&result.faults));
    }
    text += &format!("\n{}\n", invariants(&result.findings));
    for finding in result.findings.iter().filter(|finding| finding.broken > 0) {
        text += &format!("\n{}{}\n", if finding.held { "" } else { "BROKEN " }, finding.invariant);
        for example in &finding.examples {
            text += &wrap(&format!("  {example}"));
        }
        let more = finding.broken.saturating_sub(finding.examples.len() as u64);
        if more > 0 {
            text += &format!("  and {more} more\n");
        }
    }
    text
}

fn figures(result: &RunResult) -> String {
    let RunResult { mode, seed, revision, seconds, progress: p, kills, .. } = result;
    let mut text = wrap(&format!(
        "{mode}, seed {seed}, {revision}: {} faults in {seconds:.0} s, {kills} kills; at rest after {:.0} s more",
        result.faults.len(),
        result.settled.seconds
    ));
    text += &wrap(&format!(
        "{} operations offered: {} accepted, {} rejected as invalid, {} open; {} could not be offered",
        p.offered, p.accepted, p.rejected, p.open, p.not_offered
    ));
    text += &wrap(&format!(
        "{} refusals (503, or connection refused); {} operations with an unknown outcome: {} became definite by asking \
         again, the others have no key",
        p.refused, p.unknown, p.resolved
    ));
    text += &wrap(&format!(
        "duplicates suppressed: {} answers from the store of keys, at least {} events",
        p.replayed, p.duplicates
    ));
    let answers: Vec<String> =
        result.answers.iter().map(|(answer, count)| format!("{answer}: {count}")).collect();
    text += &wrap(&format!("answers: {}", answers.join(", ")));
    text
}

/// Seconds per kind of fault: the median and the longest.
fn faults(records: &[FaultRecord]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&FaultRecord>> = BTreeMap::new();
    for record in records {
        kinds.entry(&record.name).or_default().push(record);
    }
    let mut table = table::plain([
        "fault",
        "runs",
        "kills",
        "seconds away\nmedian",
        "\nmax",
        "to recover\nmedian",
        "\nmax",
        "drained\nper second",
    ]);
    for (kind, records) in kinds {
        let away = records.iter().map(|record| Some(record.unavailable_seconds)).collect();
        let recovered = records.iter().map(|record| record.recovered_after_seconds).collect();
        let kills: u32 = records.iter().map(|record| record.kills).sum();
        let [(away, longest_away), (recovered, longest)] = [spread(away), spread(recovered)];
        let drained = records.iter().filter_map(|record| record.drained_per_second).reduce(f64::min);
        let drained = drained.map_or(String::new(), |rate| format!("{rate:.0}"));
        let (runs, kills) = (records.len().to_string(), kills.to_string());
        table.add_row([kind.to_owned(), runs, kills, away, longest_away, recovered, longest, drained]);
    }
    table::text(&mut table, 2, |column| column > 0)
}

/// Median and maximum; a missing value counts as infinite.
fn spread(values: Vec<Option<f64>>) -> (String, String) {
    let mut values: Vec<f64> = values.into_iter().map(|value| value.unwrap_or(f64::INFINITY)).collect();
    values.sort_by(f64::total_cmp);
    let show = |value: Option<&f64>| match value {
        Some(value) if value.is_finite() => format!("{value:.1}"),
        Some(_) => "never".into(),
        None => String::new(),
    };
    (show(values.get(values.len() / 2)), show(values.last()))
}

fn invariants(findings: &[Finding]) -> String {
    let mut table = table::plain(["invariant", "looked at", "broken", "verdict"]);
    for finding in findings {
        let verdict = match finding {
            Finding { disclosed: true, .. } => "counted",
            Finding { held: true, n: 0, .. } => "nothing to look at",
            Finding { held: true, .. } => "held",
            _ => "BROKEN",
        };
        let (n, broken) = (finding.n.to_string(), finding.broken.to_string());
        table.add_row([finding.invariant.to_owned(), n, broken, verdict.to_owned()]);
    }
    table::text(&mut table, 2, |column| column > 0)
}

/// Lines of at most [`WIDTH`] characters, the second and further ones indented.
fn wrap(paragraph: &str) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            text += "\n   ";
            width = 3;
        }
        if !text.is_empty() {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += length;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::invariants::*;

    fn fault(name: &str, recovered: Option<f64>) -> FaultRecord {
        FaultRecord {
            name: name.into(),
            recovered_after_seconds: recovered,
            kills: 1,
            ..FaultRecord::default()
        }
    }

    fn result() -> RunResult {
        let mut lost = Finding::of(RESERVATIONS_AGREE);
        lost.n = 123_456_789;
        for order in 0..7 {
            lost.look(false, || format!("order {order} is {}", "somewhere ".repeat(20)));
        }
        let mut warned = Finding::disclosed(WARNED);
        warned.look(false, || "faults-7".into());
        RunResult {
            mode: Mode::Async,
            seed: u64::MAX,
            revision: "abcdef0+".into(),
            disabled: None,
            settings: vec![("EMAIL_DELAY_MS".into(), "100".into())],
            seconds: 601.5,
            progress: Progress { offered: 40_000, accepted: 39_000, ..Progress::default() },
            answers: BTreeMap::from([("202".into(), 39_000), ("connection refused".into(), 412)]),
            kills: 23,
            faults: vec![
                fault("backends-terminated", Some(1.25)),
                fault("kill", None),
                fault("kill", Some(0.5)),
            ],
            settled: Settled { seconds: 12.0, ..Settled::default() },
            findings: vec![Finding::of(LAST_VERSION), lost, warned],
        }
    }

    #[test]
    fn everything_printed_fits_100_columns_and_says_what_is_broken() {
        let text = text(&result());
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= WIDTH, "{widest}\n{text}");
        for part in [
            "BROKEN completed orders have their stock",
            "and 2 more",
            "nothing to look at",
            "counted",
            "never",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn what_is_admitted_is_counted_and_breaks_nothing() {
        assert_eq!(result().broken(), [RESERVATIONS_AGREE]);
    }

    #[test]
    fn the_median_stands_beside_the_longest() {
        assert_eq!(spread(vec![Some(3.0), Some(1.0), Some(2.0)]), ("2.0".into(), "3.0".into()));
        assert_eq!(spread(vec![Some(1.0), None, Some(2.0)]), ("2.0".into(), "never".into()));
    }
}
