//! Which rate is tried next: doubled until one fails, halved until one is sustained, then the bracket between both is
//! cut until it is narrow. Pure: what trying a rate means is the caller's.

use anyhow::Result;

/// A bracket this narrow is an answer.
const NARROW: f64 = 1.12;
/// A curve that shows a rate so far above the sustained one shows the collapse.
const COLLAPSE: f64 = 1.25;
/// Otherwise one so far above it is tried last.
const BEYOND: f64 = 1.5;
/// Halvings of the first rate before giving up.
const HALVINGS: u32 = 5;
/// No search needs as many: with a factor of two between its ends a bracket is narrow after three.
const STEPS: usize = 24;

#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub start: f64,
    pub highest: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Sustained,
    /// The system could not.
    Failed,
    /// The load generator could not offer the rate, so nothing is known about the system.
    NotOffered,
    /// Failed, and what it left never ended: the next rate would not begin with an empty system.
    Stuck,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub sustainable: Option<f64>,
    pub ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ended {
    /// The system's limit is between the sustained rate and the next that was tried.
    Knee,
    NotOffered,
    /// The highest rate allowed was sustained.
    Highest,
    Stuck,
}

/// A rate as k6 takes it and a reader likes it: a whole number, below 10 three digits.
pub fn neat(rate: f64) -> f64 {
    if rate >= 10.0 {
        return rate.round();
    }
    // k6 gets no rate below 0.001.
    let digits = if rate >= 1.0 { 100.0 } else { 1000.0 };
    (rate * digits).round() / digits
}

/// The highest sustained rate, within 12 %.
pub fn search(range: Range, mut attempt: impl FnMut(f64) -> Result<Verdict>) -> Result<Found> {
    let mut known = Known { range, low: None, high: None, top: 0.0 };
    let mut next = Some(neat(range.start.min(range.highest)));
    let mut tries = 0;
    while let Some(rate) = next.filter(|_| tries < STEPS) {
        tries += 1;
        match attempt(rate)? {
            Verdict::Stuck => return Ok(Found { sustainable: known.low, ended: Ended::Stuck }),
            verdict => known.learn(rate, verdict),
        }
        next = known.next();
    }
    let ended = match known.high {
        None => Ended::Highest,
        Some((_, Verdict::NotOffered)) => Ended::NotOffered,
        Some(_) => Ended::Knee,
    };
    Ok(Found { sustainable: known.low, ended })
}

struct Known {
    range: Range,
    /// The highest that was sustained.
    low: Option<f64>,
    /// The lowest above it that was not.
    high: Option<(f64, Verdict)>,
    /// The highest that was tried.
    top: f64,
}

impl Known {
    fn learn(&mut self, rate: f64, verdict: Verdict) {
        self.top = self.top.max(rate);
        if verdict == Verdict::Sustained {
            self.low = Some(rate.max(self.low.unwrap_or(0.0)));
            // Whatever made a lower one fail was not the rate.
            self.high = self.high.filter(|(high, _)| *high > rate);
        } else if self.high.is_none_or(|(high, _)| rate < high) {
            self.high = Some((rate, verdict));
        }
    }

    /// `None` when enough is known.
    fn next(&self) -> Option<f64> {
        let highest = self.range.highest;
        match (self.low, self.high) {
            (Some(low), None) => (low < highest).then(|| neat((low * 2.0).min(highest))),
            (None, Some((high, _))) => {
                let lowest = self.range.start / f64::from(1 << HALVINGS);
                Some(neat(high / 2.0)).filter(|rate| *rate >= lowest && *rate < high && *rate > 0.0)
            }
            (Some(low), Some((high, verdict))) => {
                let middle = neat((low * high).sqrt());
                if high / low > NARROW && low < middle && middle < high {
                    return Some(middle);
                }
                // So near to the knee the curve would end before it bends; and if it does not bend, look again.
                let beyond = neat((low * BEYOND).min(highest));
                (verdict == Verdict::Failed && self.top < low * COLLAPSE && beyond > self.top)
                    .then_some(beyond)
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
