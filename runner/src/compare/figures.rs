//! Percentiles of one quantity in one scenario and mode. Always from the samples themselves (HDR histogram, three
//! digits): scenarios are never pooled, percentiles never averaged.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

const LONGEST_US: u64 = 3_600_000_000;

/// Times in milliseconds; `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    pub count: u64,
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

impl Figures {
    /// From times in microseconds, in any order.
    pub fn of(times_us: impl IntoIterator<Item = u64>) -> Result<Self> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3)?;
        for time in times_us {
            histogram.saturating_record(time);
        }
        if histogram.is_empty() {
            return Ok(Self::default());
        }
        let at = |quantile| Some(millis(histogram.value_at_quantile(quantile)));
        Ok(Self {
            count: histogram.len(),
            mean: Some(histogram.mean() / 1000.0),
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
            max: Some(millis(histogram.max())),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an hour in microseconds is far below 2^52")]
fn millis(us: u64) -> f64 {
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
        let figures = Figures::of((1..=1000).rev().map(|ms| ms * 1000)).unwrap();
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
        let figures = Figures::of([vec![1_000; 99], vec![10_000_000]].concat()).unwrap();
        assert!(
            figures.p95.unwrap() < 1.1 && figures.p99.unwrap() < 1.1 && figures.max.unwrap() > 9_990.0,
            "{figures:?}"
        );
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert_eq!(Figures::of([]).unwrap(), Figures::default());
    }

    #[test]
    fn times_stay_within_seven_characters() {
        let shown = [0.004, 9.994, 9.996, 99.96, 999.4, 999.6, 9_996.0, 123_456.0].map(|ms| short(Some(ms)));
        assert_eq!(shown, ["0.00 ms", "9.99 ms", "10.0 ms", "100 ms", "999 ms", "1.00 s", "10.0 s", "123 s"]);
        assert_eq!(short(None), "-");
    }
}
