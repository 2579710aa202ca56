//! Performance targets and their evaluation.

use serde::{Deserialize, Serialize};

use measure::analysis::statistics::Spread;

/// One figure of a path.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub what: &'static str,
    pub unit: Unit,
    /// What the figure is held against: then its share of that, in each round, is what is judged.
    pub of: Option<&'static str>,
    /// `None`: reported, not judged.
    pub bound: Option<Threshold>,
    /// Where the number of the bound comes from.
    pub source: &'static str,
}

/// Most numbers are targets that this project has set itself.
const OWN: &str = "own target";
const OWN_SHARE: &str = "own target for the share of the limit";

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    PerSecond,
    Ms,
    Us,
    MiB,
    Mb,
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    AtLeast(f64),
    AtMost(f64),
    Exactly(f64),
}

/// A figure of one round, and what it is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub value: f64,
    pub of: Option<f64>,
}

/// A goal and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub path: String,
    pub what: String,
    pub unit: Unit,
    pub value: Option<Spread>,
    /// Name of what it is held against.
    pub limit: Option<String>,
    pub limit_value: Option<f64>,
    /// Of the rounds' own shares.
    pub share: Option<Spread>,
    pub bound: Option<Threshold>,
    /// `None` without a bound.
    pub met: Option<bool>,
    pub rounds: usize,
}

impl Goal {
    pub const fn plain(what: &'static str, unit: Unit, bound: Threshold) -> Self {
        Self { what, unit, of: None, bound: Some(bound), source: OWN }
    }

    pub const fn share(what: &'static str, unit: Unit, of: &'static str, bound: Threshold) -> Self {
        Self { what, unit, of: Some(of), bound: Some(bound), source: OWN_SHARE }
    }

    /// Reported as a share of a limit, not judged.
    pub const fn beside(what: &'static str, unit: Unit, of: &'static str) -> Self {
        Self { what, unit, of: Some(of), bound: None, source: "" }
    }

    /// For a number with another source than the constructors name.
    pub const fn from(self, source: &'static str) -> Self {
        Self { source, ..self }
    }

    pub fn judge(&self, path: &str, readings: &[Measurement]) -> Verdict {
        let value = Spread::of(readings.iter().map(|reading| reading.value));
        let limit_value = Spread::of(readings.iter().filter_map(|reading| reading.of));
        // A limit of 0 was not measured: a share of it would be no number.
        let shares = readings.iter().filter_map(|reading| reading.of.map(|of| reading.value / of));
        let share = Spread::of(shares.filter(|share| share.is_finite()));
        let judged = if self.of.is_some() { share } else { value };
        // What was not measured was not reached.
        let met = self.bound.map(|bound| judged.is_some_and(|judged| bound.holds(judged)));
        Verdict {
            path: path.to_owned(),
            what: self.what.to_owned(),
            unit: self.unit,
            value,
            limit: self.of.map(ToOwned::to_owned),
            limit_value: limit_value.map(|limit| limit.median),
            share,
            bound: self.bound,
            met,
            rounds: readings.len(),
        }
    }
}

impl Measurement {
    pub fn plain(value: f64) -> Self {
        Self { value, of: None }
    }

    pub fn of(value: f64, of: f64) -> Self {
        Self { value, of: Some(of) }
    }
}

impl Threshold {
    /// Compares the median, or every round with an exact number.
    fn holds(self, spread: Spread) -> bool {
        match self {
            Self::AtLeast(least) => spread.median >= least,
            Self::AtMost(most) => spread.median <= most,
            Self::Exactly(wanted) => spread.min == wanted && spread.max == wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Goal = Goal::share("clicks/s", Unit::PerSecond, "broker", Threshold::AtLeast(0.85));

    #[test]
    fn a_share_is_that_of_the_same_round() {
        // The machine was half as fast in the second round: the medians' own ratio would be 0.9 / 1.5.
        let readings =
            [(900.0, 1000.0), (450.0, 500.0), (1800.0, 2000.0)].map(|(a, b)| Measurement::of(a, b));
        let verdict = RATE.judge("s6-async", &readings);
        let share = verdict.share.unwrap();
        assert!((share.median - 0.9).abs() < 1e-9 && (share.max - share.min).abs() < 1e-9, "{share:?}");
        assert_eq!((verdict.value.unwrap().median, verdict.limit_value), (900.0, Some(1000.0)));
        assert_eq!(verdict.met, Some(true));
        assert_eq!(RATE.judge("s6-async", &[Measurement::of(840.0, 1000.0)]).met, Some(false));
    }

    #[test]
    fn a_limit_of_nothing_gives_no_share() {
        let verdict = RATE.judge("s6-async", &[Measurement::of(840.0, 0.0)]);
        assert_eq!((verdict.share, verdict.met), (None, Some(false)));
    }

    #[test]
    fn what_was_not_measured_was_not_reached() {
        let verdict = RATE.judge("s6-async", &[]);
        assert_eq!((verdict.met, verdict.value, verdict.rounds), (Some(false), None, 0));
    }

    #[test]
    fn an_exact_number_must_come_out_in_every_round() {
        let goal = Goal::plain("orders open", Unit::Count, Threshold::Exactly(0.0));
        let judge = |values: &[f64]| {
            goal.judge("x", &values.iter().map(|value| Measurement::plain(*value)).collect::<Vec<_>>()).met
        };
        assert_eq!((judge(&[0.0, 0.0, 0.0]), judge(&[0.0, 0.0, 1.0])), (Some(true), Some(false)));
    }

    #[test]
    fn at_most_holds_up_to_its_bound_and_what_is_only_told_is_not_judged() {
        let goal = Goal::plain("p99", Unit::Ms, Threshold::AtMost(10.0));
        let met = |value| goal.judge("x", &[Measurement::plain(value)]).met;
        assert_eq!((met(10.0), met(10.1)), (Some(true), Some(false)));
        let told = Goal::beside("x", Unit::PerSecond, "y").judge("x", &[Measurement::of(1.0, 2.0)]);
        assert_eq!((told.met, told.share.unwrap().median), (None, 0.5));
    }
}
