//! Who wins where, for a terminal: one table for each number of receivers and payload.

use comfy_table::presets::NOTHING as STYLE;
use comfy_table::{CellAlignment, Table};

use super::grid::{Cell, Grid};
use super::winner::{Quantity, winner};

const QUANTITIES: [Quantity; 3] = [Quantity::Acknowledge, Quantity::Complete, Quantity::Cpu];

pub fn text(grid: &Grid) -> String {
    let mut kinds: Vec<(usize, u32)> =
        grid.cells.iter().map(|cell| (cell.conditions.width, cell.conditions.payload)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut text = String::new();
    for (width, payload) in kinds {
        let mine = |cell: &&Cell| (cell.conditions.width, cell.conditions.payload) == (width, payload);
        let mut cells: Vec<&Cell> = grid.cells.iter().filter(mine).collect();
        cells.sort_by_key(|cell| (cell.conditions.service_ms, cell.conditions.rate));
        let receivers = if width == 1 { "1 receiver".to_owned() } else { format!("{width} receivers") };
        text += &format!("S3 with {receivers}, {payload} characters\n\n{}\n\n", table(&cells).trim_fmt());
    }
    text + "The winner, and how many times as much the next best takes: medians of all rounds; processor time\n\
            of services, broker and database. ~: the two best are alike (their rounds overlap, or they differ\n\
            by less than 5 %) and the third is worse; no difference: all are alike.\n"
        + &problems(grid)
}

fn table(cells: &[&Cell]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header([
        "receiver",
        "rate",
        "to acknowledge",
        "to complete",
        "processor time",
    ]);
    for cell in cells {
        let conditions = cell.conditions;
        let mut row = vec![format!("{} ms", conditions.service_ms), format!("{}/s", conditions.rate)];
        row.extend(QUANTITIES.map(|quantity| verdict(cell, quantity)));
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index < 2 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn verdict(cell: &Cell, quantity: Quantity) -> String {
    let Some(winner) = winner(cell, quantity) else { return "not judged".into() };
    if let Some(arm) = &winner.arm {
        return format!("{} {}", short(arm), factor(winner.factor));
    }
    // The two best are alike. If they win together against a third, that is worth saying.
    let mut values: Vec<(&String, &f64)> = winner.values.iter().collect();
    values.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let without = |left_out: &str| {
        let mut cell = cell.clone();
        cell.taken.remove(left_out);
        super::winner::winner(&cell, quantity).and_then(|winner| Some((winner.arm?, winner.factor)))
    };
    match values[..] {
        [(first, _), (second, _), _] => match (without(first), without(second)) {
            (Some((_, by)), Some(_)) => format!("{} ~ {} {}", short(first), short(second), factor(by)),
            _ => "no difference".into(),
        },
        _ => "no difference".into(),
    }
}

fn factor(factor: f64) -> String {
    match factor {
        few if few < 9.95 => format!("{few:.1}x"),
        many if many < 999.5 => format!("{many:.0}x"),
        _ => ">999x".into(),
    }
}

/// So that three columns of two names fit.
fn short(arm: &str) -> String {
    arm.replace("concurrent", "conc.")
}

/// Why cells were not judged.
fn problems(grid: &Grid) -> String {
    let mut text = String::new();
    for cell in &grid.cells {
        for (arm, rounds) in &cell.taken {
            for problem in rounds.iter().flat_map(|taken| &taken.problems) {
                let c = cell.conditions;
                text += &format!(
                    "{arm}, {} of {} ms, {}/s, {} characters: {problem}\n",
                    c.width, c.service_ms, c.rate, c.payload
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakeven::grid::{Conditions, Taken};
    use crate::measure::times::Times;

    fn cell(arms: [(&str, u64); 3], width: usize) -> Cell {
        let taken = |us: u64| {
            let times = || Times::of([us; 9]);
            let (acknowledge, complete) = (times(), times());
            vec![Taken { acknowledge, complete, cpu_ms_per_workflow: us as f64, problems: Vec::new() }; 2]
        };
        let conditions = Conditions { service_ms: 100, width, rate: 200, payload: 4000 };
        Cell { conditions, taken: arms.map(|(arm, us)| (arm.to_owned(), taken(us))).into() }
    }

    #[test]
    fn a_cell_names_its_winner_or_who_is_alike() {
        let say = |sync, concurrent, events| {
            let arms = [("sync", sync), ("sync-concurrent", concurrent), ("async", events)];
            verdict(&cell(arms, 3), Quantity::Complete)
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
        let grid = Grid {
            started: String::new(),
            host: crate::measure::host::Host::read("", None),
            seconds: 2,
            arms: Vec::new(),
            cells: vec![wrong, wide],
        };
        let text = text(&grid);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("12345 unexpected") && text.contains("not judged"), "{text}");
        assert!(text.contains("1 receiver,") && text.contains("3 receivers,"), "{text}");
        assert_eq!(text.matches("to acknowledge").count(), 2);
    }
}
