//! The break-even grid as tables: which arm is better under which conditions.

use serde::Serialize;

use super::numbers::digits;
use super::winner::{Rounds, Winner, winner};
use crate::breakeven::grid::{Cell, Conditions, Grid, Taken};
use crate::compare::words;
use crate::measure::times::Times;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    Acknowledge,
    Complete,
    Cpu,
}

/// What one cell says of one measure.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    pub conditions: Conditions,
    pub measure: Measure,
    /// `None`: not judged.
    pub winner: Option<Winner>,
    /// By arm; milliseconds, of processor time if that is the measure.
    pub values: Vec<(String, f64)>,
    pub problems: Vec<String>,
}

impl Measure {
    pub const ALL: [Self; 3] = [Self::Acknowledge, Self::Complete, Self::Cpu];

    fn title(self) -> &'static str {
        match self {
            Self::Acknowledge => "median time to acknowledge",
            Self::Complete => "median time to complete",
            Self::Cpu => "processor time of one workflow",
        }
    }

    /// `None` without a sample.
    fn rounds(self, arm: &str, taken: &[Taken]) -> Option<Rounds> {
        let times = |pick: fn(&Taken) -> &Times| {
            let each = taken.iter().filter_map(|round| pick(round).quantile(0.5)).collect();
            Some((Times::merged(taken.iter().map(pick)).quantile(0.5)?, each))
        };
        let (all, each) = match self {
            Self::Acknowledge => times(|round| &round.acknowledge)?,
            Self::Complete => times(|round| &round.complete)?,
            Self::Cpu => {
                let each: Vec<f64> = taken.iter().map(|round| round.cpu_ms_per_workflow).collect();
                (each.iter().sum::<f64>() / each.len().max(1) as f64, each)
            }
        };
        (!taken.is_empty()).then(|| Rounds { arm: arm.to_owned(), all, each })
    }
}

pub fn judge(grid: &Grid) -> Vec<Judged> {
    let one = |cell: &Cell, measure: Measure| {
        let rounds = |arm: &String| measure.rounds(arm, cell.taken.get(arm)?);
        let rounds: Vec<Rounds> = grid.arms.iter().filter_map(rounds).collect();
        let problems: Vec<String> = cell
            .taken
            .iter()
            .flat_map(|(arm, taken)| {
                taken
                    .iter()
                    .flat_map(move |round| round.problems.iter().map(move |it| format!("{arm}: {it}")))
            })
            .collect();
        Judged {
            conditions: cell.conditions,
            measure,
            winner: winner(&rounds).filter(|_| problems.is_empty()),
            values: rounds.into_iter().map(|rounds| (rounds.arm, rounds.all)).collect(),
            problems,
        }
    };
    grid.cells.iter().flat_map(|cell| Measure::ALL.map(|measure| one(cell, measure))).collect()
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
    let mut kinds: Vec<(usize, u32)> =
        judged.iter().map(|cell| (cell.conditions.width, cell.conditions.payload)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let block = |(width, payload)| {
        let mine: Vec<&Judged> = judged
            .iter()
            .filter(|cell| (cell.conditions.width, cell.conditions.payload) == (width, payload))
            .collect();
        let tables = Measure::ALL.map(|measure| table(&mine, measure));
        Block { width, payload, tables: tables.into() }
    };
    kinds.into_iter().map(block).collect()
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
    Table { title: measure.title(), rates, rows }
}

fn shown(cell: &Judged) -> Shown {
    let values: Vec<f64> = cell.values.iter().map(|(_, ms)| *ms).collect();
    let (text, class, strength) = match &cell.winner {
        _ if !cell.problems.is_empty() => ("not judged".to_owned(), "", 0),
        Some(Winner { arms, factor: Some(factor) }) => {
            let strength = 10 + 15 * u32::from(*factor >= 1.5) + 20 * u32::from(*factor >= 4.0);
            (format!("{} {}×", arms.join(", "), digits(*factor)), class(arms), strength)
        }
        Some(_) => ("no difference".to_owned(), "", 0),
        None => ("-".to_owned(), "", 0),
    };
    Shown {
        anchor: (cell.measure == Measure::Acknowledge).then(|| anchor(&cell.conditions)),
        text,
        values: words::together(&values),
        class,
        strength,
        problems: cell.problems.join("; "),
    }
}

/// Of several that are alike, only those that are one architecture have its colour.
fn class(arms: &[String]) -> &'static str {
    match arms {
        [one] => super::chart::class(super::chart::colour(one)),
        several if several.iter().all(|arm| arm.starts_with("sync")) => "sync",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn every_cell_is_judged_by_each_measure_and_one_with_problems_is_not() {
        let mut grid = example::results().grid.unwrap();
        let judged = judge(&grid);
        assert_eq!(judged.len(), 8 * 3);
        let cell = judged
            .iter()
            .find(|cell| cell.conditions.service_ms == 20 && cell.conditions.width == 3)
            .unwrap();
        let winner = cell.winner.as_ref().unwrap();
        assert!(winner.arms == ["async"] && winner.factor.unwrap() > 10.0, "{winner:?}");
        assert!(
            judged.iter().filter(|cell| cell.measure == Measure::Cpu).all(|cell| cell
                .winner
                .as_ref()
                .unwrap()
                .factor
                .is_none())
        );
        grid.cells[0].taken.get_mut("sync").unwrap()[0].problems.push("1 applied twice".into());
        let judged = super::judge(&grid);
        assert!(judged[0].winner.is_none() && judged[0].problems == ["sync: 1 applied twice"]);
        assert_eq!(blocks(&judged).len(), 2);
    }
}
