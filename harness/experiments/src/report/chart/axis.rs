//! Axes: where they begin and end, which values are labelled, and how.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// Wide enough that two times which hardly differ do not look far apart.
const LEAST_RATIO: f64 = 1.3;
const MOST_TICKS: usize = 6;

#[derive(Clone)]
pub struct Axis {
    log: bool,
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    pub label: fn(f64) -> String,
}

impl Axis {
    /// Logarithmic, around all values above 0; `None` without any.
    pub fn log(values: impl IntoIterator<Item = f64>, label: fn(f64) -> String) -> Option<Self> {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values.into_iter().filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        let ratio = high / low;
        let spread = (LEAST_RATIO / ratio).max(1.0).sqrt() * 1.02 * ratio.powf(0.03);
        let (low, high) = (low / spread, high * spread);
        Some(Self { log: true, low, high, ticks: log_ticks(low, high), label })
    }

    /// From 0 to somewhat above the largest value.
    pub fn linear(largest: f64, label: fn(f64) -> String) -> Self {
        let high = if largest > 0.0 { largest * 1.05 } else { 1.0 };
        Self { log: false, low: 0.0, high, ticks: even_ticks(0.0, high), label }
    }

    /// From 0, whole numbers.
    pub fn counts(largest: f64) -> Self {
        let axis = Self::linear(largest, plain);
        Self { ticks: axis.ticks.iter().copied().filter(|tick| tick.fract() == 0.0).collect(), ..axis }
    }

    /// Numbers from 1 to `last`.
    pub fn numbers(last: usize) -> Self {
        let step = last.div_ceil(10).max(1);
        let ticks = (1..=last).step_by(step).map(|number| number as f64).collect();
        Self { log: false, low: 0.5, high: last as f64 + 0.5, ticks, label: plain }
    }

    pub fn shares() -> Self {
        let label = |share: f64| format!("{:.0} %", share * 100.0);
        Self { log: false, low: 0.0, high: 1.0, ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0], label }
    }

    /// From 0 at the low end to 1 at the high one.
    fn share(&self, value: f64) -> f64 {
        let part = |value: f64, low: f64, high: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        if self.log {
            part(value.max(f64::MIN_POSITIVE).ln(), self.low.ln(), self.high.ln())
        } else {
            part(value, self.low, self.high)
        }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "on a canvas of a few hundred")]
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (self.share(*value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let of = |steps: &[f64]| -> Vec<f64> {
        let powers = (-6..9).map(|power| 10f64.powi(power));
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * power));
        all.filter(|tick| (low..=high).contains(tick)).collect()
    };
    let (fine, whole) = (of(&[1.0, 2.0, 5.0]), of(&[1.0]));
    if fine.len() < 3 {
        even_ticks(low, high)
    } else if fine.len() <= MOST_TICKS {
        fine
    } else if whole.len() <= MOST_TICKS {
        whole
    } else {
        whole.into_iter().step_by(2).collect()
    }
}

fn even_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil();
    (0..100).map(|at| (first + f64::from(at)) * step).take_while(|tick| *tick <= high).collect()
}

/// `0.5 ms`, `505 ms`, `2.005 s`.
pub fn time(ms: f64) -> String {
    if ms < 999.95 { format!("{} ms", plain(ms)) } else { format!("{} s", plain(ms / 1000.0)) }
}

/// At most three decimals.
pub fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::log(values.iter().copied(), time).unwrap();
        axis.ticks.iter().map(|tick| time(*tick)).collect()
    }

    #[test]
    fn wide_ranges_have_powers_of_ten_and_narrow_ones_even_steps() {
        assert_eq!(labels(&[1.2, 9_000.0]), ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        assert_eq!(labels(&[1.2, 30.0]), ["2 ms", "5 ms", "10 ms", "20 ms"]);
        assert_eq!(labels(&[501.0, 503.0]), ["450 ms", "500 ms", "550 ms"]);
        assert!(Axis::log([0.0], time).is_none());
    }

    #[test]
    fn an_even_axis_begins_at_zero() {
        assert_eq!(Axis::linear(11.0, plain).ticks, [0.0, 5.0, 10.0]);
        assert_eq!(Axis::linear(0.0, plain).ticks.first(), Some(&0.0));
    }
}
