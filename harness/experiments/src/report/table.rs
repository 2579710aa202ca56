//! What a comparison prints, at most 100 columns wide: the figures of each arm, their differences, a sentence per
//! scenario, and what is wrong.

use contract::Scenario;

use crate::results::Results;
use crate::totals::Totals;
use measure::analysis::format;
use measure::analysis::statistics::{Analysis, Percentile, Quantity, Verdict};
use measure::record::{self, Plan};
use measure::times::short;
use stack::table;

/// What fits a terminal window side by side with another.
const WIDTH: usize = 100;

pub const ALL_GOOD: &str =
    "Nothing accepted was lost, nothing was applied twice, every answer was the expected one.";

/// All of it, and the number of problems.
pub fn text(results: &Results, analysis: &Analysis) -> (String, usize) {
    let mut text = format!("{}\n\n", figures(results));
    if analysis.cells.iter().any(|cell| cell.difference.is_some()) {
        text += &format!("{}\n", differences(&results.plan, analysis));
        text += &format!("{}\n", wrap("A difference is called one where its 99 % interval excludes 0."));
    } else if results.plan.arms.len() > 1 {
        text += &wrap(single(analysis));
        text.push('\n');
    }
    text += &wrap(
        "ackn.: time to acknowledge, the HTTP answer; compl.: time to complete, the end of the last effect.",
    );
    text.push('\n');
    for (scenario, sentence) in sentences(results, analysis) {
        text += &wrap(&format!("{scenario} {}: {sentence}", scenario.title()));
    }
    text.push('\n');
    if let Some(line) = against_itself(&results.plan, analysis) {
        text += &format!("{}\n", wrap(&line));
    }
    for run in left_out(analysis) {
        text += &wrap(&run);
    }
    let problems = record::problems(&results.plan, &results.runs);
    if problems.is_empty() {
        text += &wrap(ALL_GOOD);
    }
    for problem in &problems {
        text += &wrap(problem);
    }
    (text, problems.len())
}

/// Runs whose figures are not used.
pub fn left_out(analysis: &Analysis) -> Vec<String> {
    let invalid = analysis.invalid.iter();
    invalid.map(|(slot, arm, why)| format!("Left out: run {} ({arm}): {why}", slot + 1)).collect()
}

/// Why there are no differences.
pub fn single(analysis: &Analysis) -> &'static str {
    if analysis.runs.iter().all(|runs| *runs == 1) {
        "One run each: differences are not judged (--runs 3 or more)."
    } else {
        "Fewer than two valid runs of an arm: differences are not judged."
    }
}

/// One per scenario that was measured.
pub fn sentences(results: &Results, analysis: &Analysis) -> Vec<(Scenario, String)> {
    let sentence = |scenario: Scenario| {
        let totals =
            results.plan.arms.iter().filter_map(|arm| Totals::of(&results.runs, &arm.name, scenario));
        let fewest = totals.map(|totals| totals.requests).min()?;
        Some((scenario, format::sentence(&results.plan, analysis, scenario, fewest)?))
    };
    Scenario::ALL.into_iter().filter_map(sentence).collect()
}

/// For the same mode twice: how often the comparison saw what it should.
pub fn against_itself(plan: &Plan, analysis: &Analysis) -> Option<String> {
    let [a, b] = &plan.arms[..] else { return None };
    let judged: Vec<Verdict> = analysis
        .cells
        .iter()
        .filter_map(|cell| cell.difference.as_ref().map(|difference| difference.verdict))
        .collect();
    if a.mode != b.mode || judged.is_empty() {
        return None;
    }
    let alike = judged.iter().filter(|verdict| **verdict == Verdict::None).count();
    let what = if b.env == a.env {
        format!("{} against {}", a.name, a.name)
    } else {
        let settings: Vec<String> = b.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} against {} with {}", a.name, b.name, settings.join(", "))
    };
    Some(format!("{what}: {alike} of {} figures show no difference.", judged.len()))
}

fn figures(results: &Results) -> String {
    let mut table = table::plain([
        "",
        "",
        "re-\nquests",
        "ackn.\np50",
        "\np95",
        "\np99",
        "compl.\np50",
        "\np95",
        "\np99",
        "ex-\npected",
        "unex-\npected",
        "\nlost",
        "dupli-\ncated",
    ]);
    for scenario in Scenario::ALL {
        for arm in &results.plan.arms {
            let Some(totals) = Totals::of(&results.runs, &arm.name, scenario) else { continue };
            let mut row = vec![scenario.to_string(), arm.name.clone(), totals.requests.to_string()];
            for times in [&totals.acknowledge, &totals.complete] {
                row.extend(Percentile::ALL.map(|percentile| short(times.quantile(percentile.share()))));
            }
            let counts = [totals.expected, totals.unexpected_total(), totals.open, totals.twice];
            row.extend(counts.map(|count| count.to_string()));
            table.add_row(row);
        }
    }
    table::text(&mut table, 1, |column| column >= 2)
}

/// Medians with their 95 % intervals.
fn differences(plan: &Plan, analysis: &Analysis) -> String {
    let mut header = vec!["median".to_owned(), "(95 %)".to_owned()];
    header.extend(plan.arms.iter().map(|arm| arm.name.clone()));
    header
        .extend(["difference".to_owned(), plan.arms.last().map(|arm| arm.name.clone()).unwrap_or_default()]);
    let mut table = table::plain(header);
    for scenario in Scenario::ALL {
        for quantity in Quantity::ALL {
            let Some(cell) = analysis.cell(scenario, quantity, Percentile::P50) else { continue };
            let mut row = vec![scenario.to_string(), format::short_quantity(quantity).to_owned()];
            let shown = |estimate: &Option<_>| estimate.as_ref().map_or("-".into(), format::estimate);
            row.extend(cell.arms.iter().map(shown));
            if let Some(difference) = &cell.difference {
                row.extend([format::difference(difference), format::verdict(difference).to_owned()]);
            }
            table.add_row(row);
        }
    }
    table::text(&mut table, 1, |column| column >= 2)
}

/// Lines of at most [`WIDTH`] characters, the second and further ones indented.
fn wrap(paragraph: &str) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if width + 1 + length > WIDTH {
            text += "\n  ";
            width = 2;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += length;
    }
    text.replace('\u{a0}', " ") + "\n"
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
