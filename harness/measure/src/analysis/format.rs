//! How the terminal and the report write figures, intervals and differences, and the sentence of each scenario. Only a
//! statistical verdict makes a difference.

use contract::Scenario;
use serde::Serialize;

use super::statistics::{Analysis, Cell, Difference, Estimate, Percentile, Quantity, Verdict};
use crate::record::Plan;
use crate::times::short;

/// Below this many samples, p99 is the slowest or nearly so.
const FEW: u64 = 100;

/// `504 ms (503 to 505)`: the interval in the unit of the figure. Without one, the figure alone.
pub fn estimate(estimate: &Estimate) -> String {
    match estimate.interval {
        None => short(Some(estimate.ms)),
        Some(interval) => within(estimate.ms, interval, Scale::show),
    }
}

/// `−502 ms (−503 to −501)`.
pub fn difference(difference: &Difference) -> String {
    within(difference.ms, difference.interval, Scale::signed)
}

fn within(ms: f64, (low, high): (f64, f64), show: fn(&Scale, f64) -> String) -> String {
    let scale = Scale::of(&[ms, low, high]);
    let [ms, low, high] = [ms, low, high].map(|ms| show(&scale, ms));
    format!("{ms} {} ({low} to {high})", scale.unit)
}

/// `3.2 | 23.4 | 2.2 ms`: in one unit.
pub fn together(all_ms: &[f64]) -> String {
    let scale = Scale::of(all_ms);
    let each: Vec<String> = all_ms.iter().map(|ms| scale.show(*ms)).collect();
    format!("{} {}", each.join(" | "), scale.unit)
}

/// Of the second variant against the first.
pub fn verdict(difference: &Difference) -> &'static str {
    match difference.verdict {
        Verdict::Lower => "sooner",
        Verdict::Higher => "later",
        Verdict::None => "no difference",
    }
}

/// `340 times` or, where that would be 1.0 or 1.1 times, `4 %`; both figures above 0.
pub fn factor(a: f64, b: f64) -> String {
    let ratio = a.max(b) / a.min(b).max(0.001);
    match ratio {
        ratio if ratio < 1.095 => format!("{:.1} %", (ratio - 1.0) * 100.0),
        ratio if ratio < 9.95 => format!("{ratio:.1} times"),
        ratio => format!("{ratio:.0} times"),
    }
}

/// `1 run`, `2 runs`.
pub fn counted(count: impl Into<u64>, what: &str) -> String {
    let count = count.into();
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

pub fn quantity(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Acknowledge => "acknowledge",
        Quantity::Complete => "complete",
    }
}

/// Where there is little room.
pub fn short_quantity(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Acknowledge => "ackn.",
        Quantity::Complete => "compl.",
    }
}

pub fn percentile(percentile: Percentile) -> &'static str {
    match percentile {
        Percentile::P50 => "p50",
        Percentile::P95 => "p95",
        Percentile::P99 => "p99",
    }
}

pub fn name(quantity_: Quantity, at: Percentile) -> String {
    format!("{} {}", quantity(quantity_), percentile(at))
}

pub fn short_name(quantity: Quantity, at: Percentile) -> String {
    format!("{} {}", short_quantity(quantity), percentile(at))
}

/// One percentile as a row of a table.
#[derive(Debug, Serialize)]
pub struct Row {
    pub scenario: String,
    pub what: String,
    /// In the order of the variants, `-` where a variant has no sample.
    pub variants: Vec<String>,
    pub difference: Option<String>,
    /// Of the second variant; empty without a difference.
    pub verdict: &'static str,
}

pub fn row(cell: &Cell, name: impl Fn(Quantity, Percentile) -> String) -> Row {
    let difference_ = cell.difference.as_ref();
    Row {
        scenario: cell.scenario.to_string(),
        what: name(cell.quantity, cell.percentile),
        variants: cell.variants.iter().map(|variant| variant.as_ref().map_or("-".into(), estimate)).collect(),
        difference: difference_.map(difference),
        verdict: difference_.map_or("", verdict),
    }
}

/// What the medians of a scenario say; `requests`: the fewest of a variant. `None` if nothing was measured.
pub fn sentence(plan: &Plan, analysis: &Analysis, scenario: Scenario, requests: u64) -> Option<String> {
    let median = |(quantity, verb)| {
        let cell = analysis.cell(scenario, quantity, Percentile::P50)?;
        let names = plan.variants.iter().map(|variant| variant.name.as_str());
        let known: Vec<(&str, &Estimate)> =
            names.zip(&cell.variants).filter_map(|(name, figure)| Some((name, figure.as_ref()?))).collect();
        match (&known[..], &cell.difference) {
            ([first, second], Some(difference)) => Some(versus(verb, *first, *second, difference)),
            ([first, second], None) => {
                let (a, b) = (unbroken(first.1.ms), unbroken(second.1.ms));
                Some(format!("{verb} after {b} ({} {a})", first.0))
            }
            ([(_, only)], _) => Some(format!("{verb} after {}", estimate(only))),
            _ => None,
        }
    };
    let parts: Vec<String> = [(Quantity::Acknowledge, "acknowledged"), (Quantity::Complete, "completed")]
        .into_iter()
        .filter_map(median)
        .collect();
    let cells = Quantity::ALL.iter().filter_map(|of| analysis.cell(scenario, *of, Percentile::P50));
    let known = cells
        .flat_map(|cell| plan.variants.iter().zip(&cell.variants))
        .filter(|(_, figure)| figure.is_some());
    let subject = known.map(|(variant, _)| &variant.name).next_back()?;
    let caution = match requests {
        requests if requests < FEW => {
            format!(" Only {requests} requests: p95 and p99 are among the slowest of them.")
        }
        _ => String::new(),
    };
    (!parts.is_empty()).then(|| format!("{subject} {}.{caution}", parts.join(" and ")))
}

/// `acknowledged 502 ms sooner (1.48 ms, sync 504 ms; 95 %: −503 to −501 ms)`. No factor: with a configured delay inside it
/// would say how long that delay is.
fn versus(verb: &str, first: (&str, &Estimate), second: (&str, &Estimate), gap: &Difference) -> String {
    let (low, high) = gap.interval;
    let scale = Scale::of(&[gap.ms, low, high]);
    let said = match gap.verdict {
        Verdict::None => "with no difference".to_owned(),
        _ => format!("{}\u{a0}{} {}", scale.show(gap.ms.abs()), scale.unit, verdict(gap)),
    };
    format!(
        "{verb} {said} ({}, {} {}; 95\u{a0}%: {} to {}\u{a0}{})",
        unbroken(second.1.ms),
        first.0,
        unbroken(first.1.ms),
        scale.signed(low),
        scale.signed(high),
        scale.unit
    )
}

/// A figure and its unit stay on one line.
fn unbroken(ms: f64) -> String {
    short(Some(ms)).replace(' ', "\u{a0}")
}

/// One unit and one number of decimals for figures that stand together.
struct Scale {
    unit: &'static str,
    divisor: f64,
    decimals: usize,
}

impl Scale {
    fn of(all_ms: &[f64]) -> Self {
        let largest = all_ms.iter().fold(0.0_f64, |largest, ms| largest.max(ms.abs()));
        let (unit, divisor) = if largest < 999.5 { ("ms", 1.0) } else { ("s", 1000.0) };
        let decimals = match largest / divisor {
            largest if largest < 9.995 => 2,
            largest if largest < 99.95 => 1,
            _ => 0,
        };
        Self { unit, divisor, decimals }
    }

    fn show(&self, ms: f64) -> String {
        format!("{:.*}", self.decimals, ms / self.divisor)
    }

    fn signed(&self, ms: f64) -> String {
        let size = self.show(ms.abs());
        match size.bytes().all(|byte| b"0.".contains(&byte)) {
            true => size,
            false if ms < 0.0 => format!("−{size}"),
            false => format!("+{size}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ms: f64, interval: Option<(f64, f64)>) -> Estimate {
        Estimate { ms, interval, runs: Vec::new() }
    }

    #[test]
    fn an_interval_has_the_unit_and_the_digits_of_its_figure() {
        assert_eq!(estimate(&figure(1.484, Some((1.4, 1.561)))), "1.48 ms (1.40 to 1.56)");
        assert_eq!(estimate(&figure(998.0, Some((980.0, 1016.0)))), "1.00 s (0.98 to 1.02)");
        assert_eq!(estimate(&figure(504.2, None)), "504 ms");
        let gap = Difference { ms: -502.3, interval: (-503.1, -501.0), verdict: Verdict::Lower };
        assert_eq!(difference(&gap), "−502 ms (−503 to −501)");
        let gap = Difference { ms: 0.001, interval: (-0.2, 0.2), verdict: Verdict::None };
        assert_eq!(difference(&gap), "0.00 ms (−0.20 to +0.20)");
    }

    #[test]
    fn the_words_follow_the_verdict_and_not_the_figures() {
        let say = |first, second, verdict| {
            let gap = Difference {
                ms: second - first,
                interval: (second - first - 1.0, second - first + 1.0),
                verdict,
            };
            let text =
                versus("completed", ("sync", &figure(first, None)), ("async", &figure(second, None)), &gap);
            text.replace('\u{a0}', " ")
        };
        assert_eq!(
            say(2004.0, 6.1, Verdict::Lower),
            "completed 2.00 s sooner (6.10 ms, sync 2.00 s; 95 %: −2.00 to −2.00 s)"
        );
        assert_eq!(
            say(2004.0, 2011.0, Verdict::Higher),
            "completed 7.00 ms later (2.01 s, sync 2.00 s; 95 %: +6.00 to +8.00 ms)"
        );
        assert!(say(5.0, 30.0, Verdict::None).starts_with("completed with no difference (30.0 ms, sync"));
    }
}
