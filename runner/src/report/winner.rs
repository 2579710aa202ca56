//! Which arm is better under the same conditions, and by how much. What the rounds do not tell apart is not ranked.

use serde::Serialize;

/// Closer figures are no difference, however steady they are.
const LEAST: f64 = 1.05;

/// Less is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Winner {
    /// The best, and those that cannot be told from it.
    pub arms: Vec<String>,
    /// How many times the figure of the best of the others is; `None`: there is no difference between any.
    pub factor: Option<f64>,
}

/// What the rounds of one arm gave; `all`: the figure of all of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounds {
    pub arm: String,
    pub all: f64,
    pub each: Vec<f64>,
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

/// `None` with fewer than two arms.
pub fn winner(arms: &[Rounds]) -> Option<Winner> {
    let best = arms.iter().min_by(|a, b| a.all.total_cmp(&b.all))?;
    if arms.len() < 2 {
        return None;
    }
    let alike = |arm: &&Rounds| arm.overlaps(best) || arm.all < best.all * LEAST;
    let (leading, others): (Vec<&Rounds>, Vec<&Rounds>) = arms.iter().partition(alike);
    let next = others.iter().map(|arm| arm.all).min_by(f64::total_cmp);
    Some(Winner {
        arms: leading.iter().map(|arm| arm.arm.clone()).collect(),
        factor: next.map(|next| next / best.all.max(0.001)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(arm: &str, each: &[f64]) -> Rounds {
        Rounds { arm: arm.into(), all: each.iter().sum::<f64>() / each.len() as f64, each: each.into() }
    }

    fn of(arms: &[(&str, &[f64])]) -> (Vec<String>, Option<f64>) {
        let arms: Vec<Rounds> = arms.iter().map(|(arm, each)| rounds(arm, each)).collect();
        let winner = winner(&arms).unwrap();
        (winner.arms, winner.factor.map(|factor| (factor * 100.0).round() / 100.0))
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
}
