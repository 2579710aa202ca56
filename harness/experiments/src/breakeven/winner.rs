//! The best variant of a cell of the grid, and by how much. Variants whose rounds overlap are not ranked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::grid::{Cell, Conditions, Grid, Taken};
use measure::times::Times;

/// Closer figures are no difference, however steady they are.
const LEAST: f64 = 1.05;

/// Less is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Winner {
    /// The best, and those that do not differ from it.
    #[serde(rename = "arms")]
    pub variants: Vec<String>,
    /// How many times the figure of the best of the others is; `None`: there is no difference between any.
    pub factor: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Median.
    Acknowledge,
    /// Median.
    Complete,
    /// Of one workflow.
    Cpu,
}

/// What one cell says of one measure.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    pub conditions: Conditions,
    pub measure: Measure,
    /// `None`: not judged.
    pub winner: Option<Winner>,
    /// By variant; milliseconds, of processor time if that is the measure.
    pub values: Vec<(String, f64)>,
    pub problems: Vec<String>,
}

/// What the rounds of one variant gave; `all`: the figure of all of them together.
#[derive(Clone, Debug, PartialEq)]
struct Rounds {
    variant: String,
    all: f64,
    each: Vec<f64>,
}

impl Rounds {
    fn range(&self) -> (f64, f64) {
        let each = || self.each.iter().copied().chain([self.all]);
        (each().fold(f64::INFINITY, f64::min), each().fold(f64::NEG_INFINITY, f64::max))
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ((a, b), (c, d)) = (self.range(), other.range());
        a <= d && c <= b
    }
}

impl Measure {
    pub const ALL: [Self; 3] = [Self::Acknowledge, Self::Complete, Self::Cpu];

    /// Of some rounds together: times are merged sample by sample, costs weighted with their workflows. `None`
    /// without a sample.
    fn of(self, rounds: &[Taken]) -> Option<f64> {
        let median = |of: fn(&Taken) -> &Times| Times::merged(rounds.iter().map(of)).quantile(0.5);
        match self {
            Self::Acknowledge => median(|taken| &taken.acknowledge),
            Self::Complete => median(|taken| &taken.complete),
            Self::Cpu => {
                let weight = |taken: &Taken| taken.complete.count() as f64;
                let workflows: f64 = rounds.iter().map(weight).sum();
                let spent: f64 = rounds.iter().map(|taken| taken.cpu_ms_per_workflow * weight(taken)).sum();
                (workflows > 0.0).then(|| spent / workflows)
            }
        }
    }

    fn rounds(self, variant: &str, taken: &[Taken]) -> Option<Rounds> {
        let each = taken.chunks(1).filter_map(|round| self.of(round)).collect();
        Some(Rounds { variant: variant.to_owned(), all: self.of(taken)?, each })
    }
}

/// Each cell by each measure.
pub fn judge(grid: &Grid) -> Vec<Judged> {
    grid.cells.iter().flat_map(|cell| judge_cell(&grid.variants, cell)).collect()
}

/// The cells of each width and payload, ascending; the measures of a cell stay together.
pub fn groups(judged: &[Judged]) -> BTreeMap<(usize, u32), Vec<&Judged>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for cell in judged {
        groups.entry((cell.conditions.width, cell.conditions.payload)).or_default().push(cell);
    }
    groups
}

/// Arms that a cell does not have are passed over: one receiver is called as soon as the only one.
fn judge_cell(variants: &[String], cell: &Cell) -> [Judged; 3] {
    let of_variant = |(variant, taken): (&String, &Vec<Taken>)| {
        let problems = taken.iter().flat_map(|round| &round.problems);
        problems.map(|problem| format!("{variant}: {problem}")).collect::<Vec<_>>()
    };
    let problems: Vec<String> = cell.taken.iter().flat_map(of_variant).collect();
    Measure::ALL.map(|measure| {
        let rounds = |variant: &String| measure.rounds(variant, cell.taken.get(variant)?);
        let rounds: Vec<Rounds> = variants.iter().filter_map(rounds).collect();
        Judged {
            conditions: cell.conditions,
            measure,
            winner: winner(&rounds).filter(|_| problems.is_empty()),
            values: rounds.into_iter().map(|rounds| (rounds.variant, rounds.all)).collect(),
            problems: problems.clone(),
        }
    })
}

/// `None` with fewer than two variants.
fn winner(variants: &[Rounds]) -> Option<Winner> {
    let best = variants.iter().min_by(|a, b| a.all.total_cmp(&b.all))?;
    if variants.len() < 2 {
        return None;
    }
    let alike = |variant: &&Rounds| variant.overlaps(best) || variant.all < best.all * LEAST;
    let (leading, others): (Vec<&Rounds>, Vec<&Rounds>) = variants.iter().partition(alike);
    let next = others.iter().map(|variant| variant.all).min_by(f64::total_cmp);
    Some(Winner {
        variants: leading.iter().map(|variant| variant.variant.clone()).collect(),
        factor: next.map(|next| next / best.all.max(0.001)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(variant: &str, each: &[f64]) -> Rounds {
        Rounds {
            variant: variant.into(),
            all: each.iter().sum::<f64>() / each.len() as f64,
            each: each.into(),
        }
    }

    fn of(variants: &[(&str, &[f64])]) -> (Vec<String>, Option<f64>) {
        let variants: Vec<Rounds> = variants.iter().map(|(variant, each)| rounds(variant, each)).collect();
        let winner = winner(&variants).unwrap();
        (winner.variants, winner.factor.map(|factor| (factor * 100.0).round() / 100.0))
    }

    #[test]
    fn the_lowest_wins_by_its_distance_to_the_next() {
        let found = of(&[("sync", &[10.0, 11.0]), ("async", &[2.0, 3.0]), ("sync-concurrent", &[5.0, 5.0])]);
        assert_eq!(found, (vec!["async".into()], Some(2.0)));
    }

    #[test]
    fn rounds_that_overlap_are_no_difference() {
        assert_eq!(
            of(&[("sync", &[2.0, 4.0]), ("async", &[3.5, 6.0])]),
            (vec!["sync".into(), "async".into()], None)
        );
    }

    #[test]
    fn less_than_a_twentieth_is_no_difference_however_steady() {
        assert_eq!(of(&[("sync", &[100.0, 100.0]), ("async", &[104.0, 104.0])]).1, None);
        assert_eq!(of(&[("sync", &[100.0, 100.0]), ("async", &[106.0, 106.0])]).1, Some(1.06));
    }

    #[test]
    fn two_that_are_alike_share_the_first_place_before_a_third() {
        let found =
            of(&[("sync", &[10.0, 12.0]), ("sync-concurrent", &[11.0, 12.0]), ("async", &[33.0, 33.0])]);
        assert_eq!(found, (vec!["sync".into(), "sync-concurrent".into()], Some(3.0)));
    }

    #[test]
    fn one_alone_wins_nothing() {
        assert_eq!(winner(&[rounds("sync", &[1.0])]), None);
        assert_eq!(winner(&[]), None);
    }

    #[test]
    fn every_cell_is_judged_by_each_measure_and_one_with_problems_is_not() {
        let taken = |us: u64, cpu_ms_per_workflow| Taken {
            acknowledge: Times::of([us; 50]),
            complete: Times::of([2 * us; 50]),
            cpu_ms_per_workflow,
            problems: Vec::new(),
        };
        let variants = [("async", vec![taken(4_000, 3.0); 2]), ("sync", vec![taken(16_000, 1.5); 2])];
        let mut cell = Cell {
            conditions: Conditions { service_ms: 5, width: 3, rate: 10, payload: 100 },
            taken: variants.map(|(variant, taken)| (variant.to_owned(), taken)).into(),
        };
        let names = ["sync".to_owned(), "async".to_owned()];
        let best = |cell: &Cell| {
            judge_cell(&names, cell).map(|judged| judged.winner.map(|winner| winner.variants.join(" ")))
        };
        assert_eq!(best(&cell), [Some("async".into()), Some("async".into()), Some("sync".into())]);
        cell.taken.get_mut("sync").unwrap()[0].problems.push("1 applied twice".into());
        assert_eq!(best(&cell), [None, None, None]);
        cell.taken.remove("sync");
        assert_eq!(best(&cell), [None, None, None]);
    }

    #[test]
    fn costs_of_rounds_weigh_as_many_workflows_as_they_had() {
        let taken = |workflows: usize, cpu_ms_per_workflow| Taken {
            acknowledge: Times::default(),
            complete: Times::of(vec![1_000; workflows]),
            cpu_ms_per_workflow,
            problems: Vec::new(),
        };
        assert_eq!(Measure::Cpu.of(&[taken(30, 1.0), taken(10, 5.0)]), Some(2.0));
        assert_eq!(Measure::Cpu.of(&[taken(0, 1.0)]), None);
    }
}
