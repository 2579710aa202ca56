//! The table on the terminal, at most 100 columns wide, and what it says in plain words.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::figures::{Figures, short};
use super::result::Comparison;
use super::scenario::Scenario;
use crate::local::Mode;

/// Below this many samples, p99 is the slowest or nearly so.
const FEW: u64 = 100;
/// What fits a terminal window side by side with another.
const WIDTH: usize = 100;

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "",
        "",
        "re-\nquests",
        "ack\np50",
        "\np95",
        "\np99",
        "done\np50",
        "\np95",
        "\np99",
        "ex-\npected",
        "unex-\npected",
        "\nopen",
        "\ntwice",
    ]);
    for scenario in Scenario::ALL {
        for result in &comparison.modes {
            let Some(outcome) = result.scenarios.get(&scenario) else { continue };
            let mut row = vec![scenario.to_string(), result.mode.to_string(), outcome.requests.to_string()];
            for Figures { p50, p95, p99, .. } in [&outcome.acknowledge, &outcome.complete] {
                row.extend([p50, p95, p99].map(|value| short(*value)));
            }
            let counts = [outcome.expected, outcome.unexpected_total(), outcome.open, outcome.twice];
            row.extend(counts.map(|count| count.to_string()));
            table.add_row(row);
        }
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if index > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table and the sentences as they are printed.
pub fn text(comparison: &Comparison) -> String {
    let mut text = format!("{}\n\n", table(comparison).trim_fmt());
    for (scenario, sentence) in sentences(comparison) {
        text += &wrap(&format!("{scenario} {}: {sentence}", scenario.title()));
    }
    text
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

/// One sentence or two per scenario, from the figures alone.
pub fn sentences(comparison: &Comparison) -> Vec<(Scenario, String)> {
    Scenario::ALL
        .into_iter()
        .filter_map(|scenario| Some((scenario, sentence(comparison, scenario)?)))
        .collect()
}

fn sentence(comparison: &Comparison, scenario: Scenario) -> Option<String> {
    let sync = comparison.of(Mode::Sync, scenario)?;
    let events = comparison.of(Mode::Async, scenario)?;
    let acknowledge =
        versus(sync.acknowledge.p50?, events.acknowledge.p50?, "acknowledged", ("sooner", "later"));
    let complete = versus(sync.complete.p50?, events.complete.p50?, "completed", ("sooner", "later"));
    let few = sync.requests.min(events.requests);
    let caution = if few < FEW {
        format!(" Only {few} requests: p95 and p99 are among the slowest of them.")
    } else {
        String::new()
    };
    Some(format!("async {acknowledge} and {complete}.{caution}"))
}

/// Medians in ms. Less than a tenth (or than a third of a millisecond) is nothing that one run can tell apart.
fn versus(sync: f64, events: f64, verb: &str, (sooner, later): (&str, &str)) -> String {
    // A figure and its unit stay on one line, here and on the page.
    let [a, b] = [events, sync].map(|value| short(Some(value)).replace(' ', "\u{a0}"));
    let ratio = sync.max(events) / sync.min(events).max(0.001);
    if ratio < 1.1 || (sync - events).abs() < 0.3 {
        return format!("{verb} as fast ({a}, sync {b})");
    }
    let word = if events < sync { sooner } else { later };
    let times = if ratio < 9.95 { format!("{ratio:.1}") } else { format!("{ratio:.0}") };
    format!("{verb} {times} times {word} ({a}, sync {b})")
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_words_follow_the_figures() {
        let say =
            |sync, events| versus(sync, events, "completed", ("sooner", "later")).replace('\u{a0}', " ");
        assert_eq!(say(2004.0, 6.1), "completed 329 times sooner (6.10 ms, sync 2.00 s)");
        assert_eq!(say(2004.0, 2011.0), "completed as fast (2.01 s, sync 2.00 s)");
        assert_eq!(say(5.0, 30.0), "completed 6.0 times later (30.0 ms, sync 5.00 ms)");
        assert_eq!(say(0.9, 1.1), "completed as fast (1.10 ms, sync 0.90 ms)");
    }

    #[test]
    fn everything_printed_fits_100_columns_even_with_large_figures() {
        let text = text(&example::comparison());
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(text.contains("S6 async") && text.contains("S5 order saga, payment fails: async"), "{text}");
        assert!((80..=WIDTH).contains(&widest), "{widest}\n{text}");
    }
}
