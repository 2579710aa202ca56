//! Who wins where, for a terminal: one table for each number of receivers and payload.

use stack::table;

use super::grid::Grid;
use super::winner::{Judged, Measure, groups, judge};
use measure::analysis::format::counted;

pub fn text(grid: &Grid) -> String {
    let judged = judge(grid);
    let mut text = String::new();
    for ((width, payload), cells) in groups(&judged) {
        let receivers = counted(width as u64, "receiver");
        text += &format!("S3 with {receivers}, {payload} characters\n\n{}\n\n", table(&cells));
    }
    text + "The winner, and how many times as much the next best takes: medians of all rounds; processor time\n\
            of services, broker and database. ~: these are alike (their rounds overlap, or they differ by less\n\
            than 5 %) and the third is worse; no difference: all are alike.\n"
        + &problems(&judged)
}

fn table(cells: &[&Judged]) -> String {
    let header = ["receiver", "rate", "to acknowledge", "to complete", "processor time"];
    let mut table = table::plain(header);
    let mut cells: Vec<&[&Judged]> = cells.chunks(Measure::ALL.len()).collect();
    cells.sort_by_key(|cell| (cell[0].conditions.service_ms, cell[0].conditions.rate));
    for cell in cells {
        let conditions = cell[0].conditions;
        let mut row = vec![format!("{} ms", conditions.service_ms), format!("{}/s", conditions.rate)];
        row.extend(cell.iter().map(|cell| verdict(cell)));
        table.add_row(row);
    }
    table::text(&mut table, 2, |column| column < 2)
}

fn verdict(cell: &Judged) -> String {
    let Some(winner) = &cell.winner else { return "not judged".into() };
    let Some(by) = winner.factor else { return "no difference".into() };
    let variants: Vec<String> = winner.variants.iter().map(|variant| short(variant)).collect();
    format!("{} {}", variants.join(" ~ "), factor(by))
}

fn factor(factor: f64) -> String {
    match factor {
        few if few < 9.95 => format!("{few:.1}x"),
        many if many < 999.5 => format!("{many:.0}x"),
        _ => ">999x".into(),
    }
}

/// So that three columns of two names fit.
fn short(variant: &str) -> String {
    variant.replace("concurrent", "conc.")
}

/// Why cells were not judged.
fn problems(judged: &[Judged]) -> String {
    let line = |cell: &Judged, problem: &String| {
        let c = cell.conditions;
        format!("{} of {} ms, {}/s, {} characters: {problem}\n", c.width, c.service_ms, c.rate, c.payload)
    };
    let first = judged.iter().step_by(Measure::ALL.len());
    first.flat_map(|cell| cell.problems.iter().map(|problem| line(cell, problem))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakeven::grid::{Cell, Conditions, Taken};
    use measure::times::Times;

    fn cell(variants: [(&str, u64); 3], width: usize) -> Cell {
        let taken = |us: u64| {
            let times = || Times::of([us; 9]);
            let (acknowledge, complete) = (times(), times());
            vec![Taken { acknowledge, complete, cpu_ms_per_workflow: us as f64, problems: Vec::new() }; 2]
        };
        let conditions = Conditions { service_ms: 100, width, rate: 200, payload: 4000 };
        Cell { conditions, taken: variants.map(|(variant, us)| (variant.to_owned(), taken(us))).into() }
    }

    fn grid(cells: Vec<Cell>) -> Grid {
        Grid {
            version: 1,
            started: String::new(),
            host: measure::host::Host::read("", None),
            seconds: 2,
            variants: ["sync", "sync-concurrent", "async"].map(str::to_owned).into(),
            cells,
        }
    }

    #[test]
    fn a_cell_names_its_winner_or_who_is_alike() {
        let say = |sync, concurrent, events| {
            let variants = [("sync", sync), ("sync-concurrent", concurrent), ("async", events)];
            let judged = judge(&grid(vec![cell(variants, 3)]));
            verdict(&judged[1])
        };
        assert_eq!(say(9_000, 3_000, 1_000), "async 3.0x");
        assert_eq!(say(30_000, 1_000, 1_010), "sync-conc. ~ async 30x");
        assert_eq!(say(1_020, 1_000, 1_010), "no difference");
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_and_what_is_wrong_is_said() {
        let mut wrong = cell([("sync", 30_000_000), ("sync-concurrent", 1_000), ("async", 1_010)], 1);
        wrong.taken.get_mut("sync").unwrap()[0].problems.push("12345 unexpected answers (timed out)".into());
        let wide = cell([("sync", 3_000_000_000), ("sync-concurrent", 1_000), ("async", 1_010)], 3);
        let text = text(&grid(vec![wrong, wide]));
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("12345 unexpected") && text.contains("not judged"), "{text}");
        assert!(text.contains("1 receiver,") && text.contains("3 receivers,"), "{text}");
        assert_eq!(text.matches("to acknowledge").count(), 2);
    }
}
