//! The break-even grid as tables: which variant is better under which conditions.

use serde::Serialize;

use super::numbers::digits;
use crate::breakeven::grid::Conditions;
use crate::breakeven::winner::{Judged, Measure, Winner, groups};
use measure::analysis::format;

fn title(measure: Measure) -> &'static str {
    match measure {
        Measure::Acknowledge => "median time to acknowledge",
        Measure::Complete => "median time to complete",
        Measure::Cpu => "processor time of one workflow",
    }
}

/// Where the page shows it.
pub fn anchor(conditions: &Conditions) -> String {
    let Conditions { service_ms, width, rate, payload } = conditions;
    format!("w{width}-p{payload}-t{service_ms}-r{rate}")
}

#[derive(Serialize)]
pub struct Block {
    width: usize,
    payload: u32,
    tables: Vec<Table>,
}

#[derive(Serialize)]
struct Table {
    title: &'static str,
    rates: Vec<u32>,
    rows: Vec<(u32, Vec<Option<Shown>>)>,
}

#[derive(Serialize)]
struct Shown {
    /// The first table of a block has the anchors.
    anchor: Option<String>,
    text: String,
    values: String,
    class: &'static str,
    /// How strongly it is coloured, in percent.
    strength: u32,
    problems: String,
}

/// One for each fan-out and payload.
pub fn blocks(judged: &[Judged]) -> Vec<Block> {
    let block = |((width, payload), cells): ((usize, u32), Vec<&Judged>)| {
        let tables = Measure::ALL.map(|measure| table(&cells, measure));
        Block { width, payload, tables: tables.into() }
    };
    groups(judged).into_iter().map(block).collect()
}

fn table(cells: &[&Judged], measure: Measure) -> Table {
    let sorted = |pick: fn(&Conditions) -> u32| {
        let mut all: Vec<u32> = cells.iter().map(|cell| pick(&cell.conditions)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let rates = sorted(|conditions| conditions.rate);
    let row = |service_ms| {
        let cell = |rate: &u32| {
            let mut all = cells.iter().filter(|cell| cell.measure == measure);
            let is =
                |cell: &&&Judged| (cell.conditions.service_ms, cell.conditions.rate) == (service_ms, *rate);
            all.find(is).map(|cell| shown(cell))
        };
        (service_ms, rates.iter().map(cell).collect())
    };
    let rows = sorted(|conditions| conditions.service_ms).into_iter().map(row).collect();
    Table { title: title(measure), rates, rows }
}

fn shown(cell: &Judged) -> Shown {
    let values: Vec<f64> = cell.values.iter().map(|(_, ms)| *ms).collect();
    let (text, class, strength) = match &cell.winner {
        _ if !cell.problems.is_empty() => ("not judged".to_owned(), "", 0),
        Some(Winner { variants, factor: Some(factor) }) => {
            let strength = 10 + 15 * u32::from(*factor >= 1.5) + 20 * u32::from(*factor >= 4.0);
            (format!("{} {}×", variants.join(", "), digits(*factor)), class(variants), strength)
        }
        Some(_) => ("no difference".to_owned(), "", 0),
        None => ("-".to_owned(), "", 0),
    };
    Shown {
        anchor: (cell.measure == Measure::Acknowledge).then(|| anchor(&cell.conditions)),
        text,
        values: format::together(&values),
        class,
        strength,
        problems: cell.problems.join("; "),
    }
}

/// Of several that are alike, only those that are one architecture have its colour.
fn class(variants: &[String]) -> &'static str {
    match variants {
        [one] => super::chart::class(super::chart::colour(one)),
        several if several.iter().all(|variant| variant.starts_with("sync")) => "sync",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::breakeven::winner::judge;

    #[test]
    fn each_fan_out_and_payload_has_its_tables_and_what_is_wrong_with_a_cell_is_said() {
        let mut grid = example::results().beside.grid.unwrap();
        grid.cells[0].taken.get_mut("sync").unwrap()[0].problems.push("1 applied twice".into());
        let blocks = blocks(&judge(&grid));
        assert_eq!(blocks.iter().map(|block| block.tables.len()).collect::<Vec<_>>(), [3, 3]);
        let cells = blocks.iter().flat_map(|block| &block.tables).flat_map(|table| &table.rows);
        let cells: Vec<&Shown> = cells.flat_map(|(_, cells)| cells).flatten().collect();
        assert_eq!(cells.iter().filter(|cell| cell.problems == "sync: 1 applied twice").count(), 3);
        assert_eq!(cells.iter().filter(|cell| cell.text == "not judged").count(), 3);
    }
}
