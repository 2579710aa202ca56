//! Times of one quantity in one scenario and variant, and their percentiles. Always from the samples themselves (HDR
//! histogram, three digits): runs are merged sample by sample, scenarios never pooled, percentiles never averaged.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const LONGEST_US: u64 = 3_600_000_000;
/// Significant digits that a time keeps.
const DIGITS: u8 = 3;
/// Distinct values with so many digits.
const MOST_VALUES: usize = 24_000;
/// Of one value.
const MOST_SAMPLES: u64 = 1_000_000_000_000;

/// Times in microseconds, each with three digits: `(value, count)`, ascending. Merging loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Times {
    counts: Vec<(u64, u64)>,
    /// Of the exact times.
    sum_us: u64,
}

/// As a file has them.
#[derive(Deserialize)]
struct Raw {
    counts: Vec<(u64, u64)>,
    sum_us: u64,
}

impl TryFrom<Raw> for Times {
    type Error = String;

    fn try_from(Raw { counts, sum_us }: Raw) -> Result<Self, String> {
        if counts.len() > MOST_VALUES {
            return Err(format!(
                "times have {} values, at most {MOST_VALUES} can be told apart",
                counts.len()
            ));
        }
        if let Some([(before, _), (after, _)]) = counts.array_windows().find(|[a, b]| a.0 >= b.0) {
            return Err(format!("times are not ascending: {after} after {before}"));
        }
        if let Some((value, count)) = counts.iter().find(|(_, count)| !(1..=MOST_SAMPLES).contains(count)) {
            return Err(format!("the time {value} occurs {count} times, not 1 to {MOST_SAMPLES}"));
        }
        let longest = counts.last().map_or(0, |(value, _)| *value);
        if longest > 2 * LONGEST_US {
            return Err(format!("a time of {longest} microseconds is too long"));
        }
        // The exact times are at most a thousandth below their values; the longest have no value of their own.
        let sum: u128 = counts.iter().map(|(value, count)| u128::from(*value) * u128::from(*count)).sum();
        let known = sum - sum / 500..=if longest < LONGEST_US { sum } else { u128::MAX };
        if !known.contains(&u128::from(sum_us)) {
            return Err(format!("the sum of the times is {sum_us}, not about {sum}"));
        }
        Ok(Self { counts, sum_us })
    }
}

/// Times in milliseconds; `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub count: u64,
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

impl Times {
    /// From times in microseconds, in any order.
    pub fn of(times_us: impl IntoIterator<Item = u64>) -> Self {
        let (mut histogram, mut sum_us) = (empty(), 0_u64);
        for time in times_us {
            histogram.saturating_record(time);
            sum_us = sum_us.saturating_add(time);
        }
        Self::from_histogram(&histogram, sum_us)
    }

    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut histogram, mut sum_us) = (empty(), 0_u64);
        for times in all {
            for (value, count) in &times.counts {
                histogram.saturating_record_n(*value, *count);
            }
            sum_us = sum_us.saturating_add(times.sum_us);
        }
        Self::from_histogram(&histogram, sum_us)
    }

    fn from_histogram(histogram: &Histogram<u64>, sum_us: u64) -> Self {
        let counts = histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value()));
        Self { counts: counts.collect(), sum_us }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Values in microseconds with how often each occurs, ascending.
    pub fn counts(&self) -> &[(u64, u64)] {
        &self.counts
    }

    /// Milliseconds: the smallest value that at least this share of all is not above.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut left = rank(share, self.count());
        for (value, count) in &self.counts {
            left = left.saturating_sub(*count);
            if left == 0 {
                return Some(millis(*value));
            }
        }
        None
    }

    /// How many are longer.
    pub fn above(&self, ms: f64) -> u64 {
        self.counts.iter().filter(|(us, _)| millis(*us) > ms).map(|(_, count)| count).sum()
    }

    /// Milliseconds.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum_us as f64 / count as f64 / 1000.0)
    }

    /// The cumulative distribution: `(milliseconds, share of all that are not above)`, ascending.
    pub fn distribution(&self) -> Vec<(f64, f64)> {
        let all = self.count() as f64;
        let mut below = 0;
        let step = |(value, count): &(u64, u64)| {
            below += count;
            (millis(*value), below as f64 / all)
        };
        self.counts.iter().map(step).collect()
    }

    pub fn figures(&self) -> Figures {
        Figures {
            count: self.count(),
            mean: self.mean(),
            p50: self.quantile(0.50),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: self.counts.last().map(|(value, _)| millis(*value)),
        }
    }
}

/// Of the sample that is the quantile, from 1 on.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
pub fn rank(share: f64, count: u64) -> u64 {
    ((share * count as f64).ceil() as u64).max(1)
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS).unwrap_or_else(|_| unreachable!("the bounds are sound"))
}

pub fn millis(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// `0.84 ms`, `12.3 ms`, `504 ms`, `2.01 s`: three digits, at most seven characters.
pub fn short(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms) if ms < 9.995 => format!("{ms:.2} ms"),
        Some(ms) if ms < 99.95 => format!("{ms:.1} ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) if ms < 9_995.0 => format!("{:.2} s", ms / 1000.0),
        Some(ms) if ms < 99_950.0 => format!("{:.1} s", ms / 1000.0),
        Some(ms) => format!("{:.0} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let figures = Times::of((1..=1000).rev().map(|ms| ms * 1000)).figures();
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() <= wanted / 500.0;
        assert_eq!(figures.count, 1000);
        assert!(
            near(figures.p50, 500.0) && near(figures.p95, 950.0) && near(figures.p99, 990.0),
            "{figures:?}"
        );
        assert!(near(figures.max, 1000.0) && near(figures.mean, 500.5), "{figures:?}");
    }

    #[test]
    fn one_slow_sample_in_a_hundred_is_the_maximum_and_not_the_p95() {
        let figures = Times::of([vec![1_000; 99], vec![10_000_000]].concat()).figures();
        assert!(
            figures.p95.unwrap() < 1.1 && figures.p99.unwrap() < 1.1 && figures.max.unwrap() > 9_990.0,
            "{figures:?}"
        );
    }

    #[test]
    fn times_are_read_back_as_they_were_written() {
        let times = Times::of((0..40_000).map(|at| at * at).chain([u64::from(u32::MAX), u64::MAX / 2]));
        let text = serde_json::to_string(&times).unwrap();
        assert_eq!(serde_json::from_str::<Times>(&text).unwrap(), times);
        assert_eq!(serde_json::from_str::<Times>(r#"{"counts":[],"sum_us":0}"#).unwrap(), Times::default());
        assert!(empty().distinct_values() <= MOST_VALUES, "{}", empty().distinct_values());
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert_eq!(Times::of([]).figures(), Figures::default());
    }

    #[test]
    fn merged_runs_have_the_percentiles_of_all_their_samples() {
        let (fast, slow) = (Times::of(vec![1_000; 90]), Times::of(vec![50_000; 10]));
        let all = Times::merged([&fast, &slow]).figures();
        // The average of both medians would be 25.
        assert_eq!(
            (all.count, all.p50.unwrap() < 1.1, all.p95.unwrap() > 49.9),
            (100, true, true),
            "{all:?}"
        );
        assert!((all.mean.unwrap() - 5.9).abs() < 1e-9, "{all:?}");
        assert_eq!(Times::merged([&fast]), fast);
    }

    #[test]
    fn times_stay_within_seven_characters() {
        let shown = [0.004, 9.994, 9.996, 99.96, 999.4, 999.6, 9_996.0, 123_456.0].map(|ms| short(Some(ms)));
        assert_eq!(shown, ["0.00 ms", "9.99 ms", "10.0 ms", "100 ms", "999 ms", "1.00 s", "10.0 s", "123 s"]);
        assert_eq!(short(None), "-");
    }
}
