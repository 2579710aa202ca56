//! Who is best in a cell, and whether the difference is one: if the rounds of the two best overlap, or hardly anything
//! lies between them, nobody is.

use std::collections::BTreeMap;

use super::grid::{Cell, Taken};
use crate::measure::times::Times;

/// A smaller ratio is no difference, however steady the rounds.
const RATIO: f64 = 1.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Median.
    Acknowledge,
    /// Median.
    Complete,
    Cpu,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Winner {
    /// `None`: no difference.
    pub arm: Option<String>,
    /// How many times as much the next best arm takes.
    pub factor: f64,
    /// Of all rounds together, by arm, in milliseconds.
    pub values: BTreeMap<String, f64>,
}

impl Quantity {
    fn of_round(self, taken: &Taken) -> Option<f64> {
        self.of_rounds(std::slice::from_ref(taken))
    }

    /// Times are merged sample by sample, costs weighted with their workflows.
    fn of_rounds(self, rounds: &[Taken]) -> Option<f64> {
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
}

/// `None` where there is nothing to judge: fewer than two arms, one without a figure, or a problem in any round.
pub fn winner(cell: &Cell, quantity: Quantity) -> Option<Winner> {
    let mut arms = Vec::new();
    let mut values = BTreeMap::new();
    for (arm, rounds) in &cell.taken {
        if rounds.iter().any(|taken| !taken.problems.is_empty()) {
            return None;
        }
        let value = quantity.of_rounds(rounds)?;
        let each: Vec<f64> = rounds.iter().filter_map(|taken| quantity.of_round(taken)).collect();
        let lowest = each.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = each.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        arms.push((arm, value, lowest, highest));
        values.insert(arm.clone(), value);
    }
    arms.sort_by(|(_, a, ..), (_, b, ..)| a.total_cmp(b));
    let [(arm, best, _, worst_of_best), (_, next, best_of_next, _), ..] = arms[..] else { return None };
    let factor = next / best;
    // Against what is too little to be measured nothing has a factor.
    let factor = if factor.is_finite() { factor } else { 1.0 };
    let differs = factor >= RATIO && worst_of_best < best_of_next;
    Some(Winner { arm: differs.then(|| arm.clone()), factor, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakeven::grid::Conditions;

    /// A round in which every workflow took as long.
    fn taken(acknowledge_us: u64, cpu_ms_per_workflow: f64) -> Taken {
        let (acknowledge, complete) = (Times::of([acknowledge_us; 50]), Times::of([2 * acknowledge_us; 50]));
        Taken { acknowledge, complete, cpu_ms_per_workflow, problems: Vec::new() }
    }

    fn cell(arms: &[(&str, &[u64])]) -> Cell {
        let rounds = |times: &[u64]| times.iter().map(|time| taken(*time, *time as f64 / 1000.0)).collect();
        let taken = arms.iter().map(|(arm, times)| ((*arm).to_owned(), rounds(times)));
        let conditions = Conditions { service_ms: 5, width: 3, rate: 10, payload: 100 };
        Cell { conditions, taken: taken.collect() }
    }

    fn arm(cell: &Cell, quantity: Quantity) -> Option<String> {
        winner(cell, quantity).unwrap().arm
    }

    #[test]
    fn the_lowest_wins_by_its_factor_against_the_next() {
        let cell =
            cell(&[("async", &[4_000, 4_100]), ("sync", &[16_000, 17_000]), ("third", &[8_000, 8_000])]);
        for quantity in [Quantity::Acknowledge, Quantity::Complete, Quantity::Cpu] {
            let winner = winner(&cell, quantity).unwrap();
            assert_eq!(winner.arm.as_deref(), Some("async"), "{quantity:?}");
            assert!((1.9..=2.01).contains(&winner.factor), "{quantity:?}: {}", winner.factor);
            assert_eq!(winner.values.len(), 3);
        }
    }

    #[test]
    fn rounds_that_overlap_are_no_difference() {
        let overlapping = cell(&[("async", &[4_000, 6_000]), ("sync", &[5_900, 9_000])]);
        assert_eq!(arm(&overlapping, Quantity::Acknowledge), None);
        assert_eq!(arm(&overlapping, Quantity::Cpu), None);
        let apart = cell(&[("async", &[4_000, 5_800]), ("sync", &[5_900, 9_000])]);
        assert_eq!(arm(&apart, Quantity::Acknowledge).as_deref(), Some("async"));
    }

    #[test]
    fn less_than_5_percent_is_no_difference() {
        let of = |other: u64| arm(&cell(&[("async", &[10_000; 2]), ("sync", &[other; 2])]), Quantity::Cpu);
        assert_eq!(of(10_400), None);
        assert_eq!(of(10_600).as_deref(), Some("async"));
    }

    #[test]
    fn the_third_does_not_matter_where_two_are_alike() {
        let cell = cell(&[("async", &[10_000]), ("sync", &[1_000]), ("sync-concurrent", &[1_010])]);
        assert_eq!(arm(&cell, Quantity::Acknowledge), None);
    }

    #[test]
    fn what_has_a_problem_or_no_opponent_is_not_judged() {
        let mut cell = cell(&[("async", &[4_000]), ("sync", &[16_000])]);
        cell.taken.get_mut("sync").unwrap()[0].problems.push("3 not offered in time".into());
        assert_eq!(winner(&cell, Quantity::Cpu), None);
        cell.taken.remove("sync");
        assert_eq!(winner(&cell, Quantity::Cpu), None);
        cell.taken.insert("sync".into(), vec![Taken { complete: Times::default(), ..taken(1, 1.0) }]);
        assert_eq!(winner(&cell, Quantity::Complete), None);
    }

    #[test]
    fn work_too_small_to_be_measured_is_no_difference() {
        let mut cell = cell(&[("async", &[4_000]), ("sync", &[4_000])]);
        for rounds in cell.taken.values_mut() {
            rounds[0].cpu_ms_per_workflow = 0.0;
        }
        let winner = winner(&cell, Quantity::Cpu).unwrap();
        assert_eq!((winner.arm, winner.factor), (None, 1.0));
    }
}
