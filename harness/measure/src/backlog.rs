//! How many workflows were accepted and not yet complete, over time: exact, from the journals, and the same quantity
//! in every variant, wherever the work waits (in a request, an outbox, a queue, a consumer).

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::stored::{LONGEST_SECONDS, not_negative, within};

/// Points of a series that a report draws.
const POINTS: i64 = 240;
const SHORTEST_STEP_US: i64 = 100_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Backlog {
    /// Between two values of `at`.
    pub step_ms: u64,
    /// Workflows in progress, from the first acceptance on until all had ended.
    pub at: Vec<u32>,
    pub peak: u32,
    /// From the last acceptance until the last effect.
    pub drain_seconds: f64,
}

impl Backlog {
    /// # Errors
    /// When it is not what [`of`](Self::of) makes.
    pub fn check(&self) -> Result<()> {
        // The last step may be cut.
        within("the number of backlogs", self.at.len(), 0, 2 * POINTS.unsigned_abs() as usize)?;
        within("the step of the backlogs", self.step_ms, 0, LONGEST_SECONDS * 1000)?;
        not_negative("the time until the last effect", self.drain_seconds)
    }

    /// From when each workflow was accepted and complete, in microseconds; `None`: it never was.
    pub fn of(spans: &[(i64, Option<i64>)]) -> Self {
        let Some(first) = spans.iter().map(|(accepted, _)| *accepted).min() else { return Self::default() };
        let last_accepted = spans.iter().map(|(accepted, _)| *accepted).max().unwrap_or(first);
        let end =
            spans.iter().filter_map(|(_, done)| *done).max().unwrap_or(last_accepted).max(last_accepted);
        let step = ((end - first) / POINTS).max(SHORTEST_STEP_US);
        let mut changes: Vec<(i64, i64)> = spans.iter().map(|(accepted, _)| (*accepted, 1)).collect();
        changes.extend(spans.iter().filter_map(|(_, done)| Some(((*done)?, -1))));
        // At the same instant what ends goes first.
        changes.sort_unstable();

        let (mut at, mut open, mut peak) = (Vec::new(), 0_i64, 0_i64);
        let mut changes = changes.into_iter().peekable();
        let mut now = first;
        while now <= end + step {
            while let Some((_, change)) = changes.next_if(|(when, _)| *when <= now) {
                open += change;
                peak = peak.max(open);
            }
            at.push(small(open));
            now += step;
        }
        Self {
            step_ms: (step / 1000).unsigned_abs(),
            at,
            peak: small(peak),
            drain_seconds: (end - last_accepted) as f64 / 1e6,
        }
    }
}

fn small(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_at_each_step_and_the_peak_between_steps_too() {
        // Ten at once, ended after 10 ms; one more for a second; one that never ends.
        let mut spans = vec![(50_000, Some(60_000)); 10];
        spans.push((0, Some(1_000_000)));
        spans.push((500_000, None));
        let backlog = Backlog::of(&spans);
        assert_eq!((backlog.step_ms, backlog.peak), (100, 11));
        assert_eq!(backlog.at, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 1, 1]);
        assert!((backlog.drain_seconds - 0.5).abs() < 1e-9);
        assert_eq!(Backlog::of(&[]), Backlog::default());
    }

    #[test]
    fn a_long_run_has_no_more_points_than_can_be_drawn() {
        let hour = 3_600_000_000;
        let backlog = Backlog::of(&[(0, Some(hour)), (hour / 2, Some(hour / 2 + 1))]);
        assert!((200..=250).contains(&backlog.at.len()), "{}", backlog.at.len());
        assert_eq!(backlog.peak, 2);
    }
}
