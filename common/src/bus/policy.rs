//! The failure policy, the same for every transport: which event is acknowledged, retried, dead-lettered, or waits.

use std::time::Duration;

use contract::events::RETRY_DELAYS;

use super::handler::{HandlerError, Outcome};

/// Attempts at one event before it is dead-lettered.
const MAX_ATTEMPTS: u32 = 5;
/// Bytes of a reason. All headers of a message have to fit into one AMQP frame of 16 KB.
const REASON_LIMIT: usize = 500;
/// How long the inbox remembers a message. A message that claims to be older has a wrong clock.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a delivery says about earlier attempts. It may come from another publisher and be wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    /// Attempts that failed.
    pub failed: u32,
    /// Microseconds since the Unix epoch.
    pub first_failed_us: Option<i64>,
}

/// A failed attempt, as it travels with a retried or dead-lettered event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// 1 for the first attempt.
    pub attempt: u32,
    pub reason: String,
    /// Microseconds since the Unix epoch.
    pub first_failed_us: i64,
}

/// What happens to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    Acknowledge(Outcome),
    Retry {
        after_seconds: u32,
        failure: Failure,
    },
    DeadLetter(Failure),
    /// Acknowledged without an effect.
    StepOver,
    /// Handled again in place when the dependency may be available; the reason why not now.
    Wait(String),
}

/// The disposition of a delivery that was handled at `now_us` with this result, after these earlier attempts.
pub(crate) fn decide(result: Result<Outcome, HandlerError>, attempts: Attempts, now_us: i64) -> Disposition {
    let error = match result {
        Ok(outcome) => return Disposition::Acknowledge(outcome),
        Err(error) => error,
    };
    let mut reason = error.reason();
    if let HandlerError::Unavailable(_) = error {
        return Disposition::Wait(reason);
    }
    reason.truncate(reason.floor_char_boundary(REASON_LIMIT));
    let attempt = attempts.failed.saturating_add(1);
    let first_failed_us = attempts.first_failed_us.filter(|us| is_plausible(*us, now_us)).unwrap_or(now_us);
    let failure = Failure { attempt, reason, first_failed_us };
    match error {
        HandlerError::Retry(_) if attempt < MAX_ATTEMPTS => {
            let after_seconds = RETRY_DELAYS[(attempt as usize - 1).min(RETRY_DELAYS.len() - 1)];
            Disposition::Retry { after_seconds, failure }
        }
        _ => Disposition::DeadLetter(failure),
    }
}

/// Whether a time in a message, in microseconds, can be right.
pub(crate) fn is_plausible(us: i64, now_us: i64) -> bool {
    (now_us - MAX_AGE.as_micros() as i64..=now_us + 1_000_000).contains(&us)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const NOW: i64 = 1_767_225_600_000_000;

    fn retry_after(failed: u32) -> Disposition {
        decide(Err(HandlerError::Retry(anyhow!("not yet"))), Attempts { failed, first_failed_us: None }, NOW)
    }

    fn failure(disposition: Disposition) -> Failure {
        match disposition {
            Disposition::Retry { failure, .. } | Disposition::DeadLetter(failure) => failure,
            other => panic!("no failure: {other:?}"),
        }
    }

    #[test]
    fn an_applied_event_is_acknowledged() {
        for outcome in [Outcome::Applied, Outcome::Duplicate] {
            let disposition = decide(Ok(outcome), Attempts { failed: 4, first_failed_us: None }, NOW);
            assert_eq!(disposition, Disposition::Acknowledge(outcome));
        }
    }

    #[test]
    fn a_failure_is_retried_after_growing_delays_and_dead_lettered_at_the_fifth_attempt() {
        for (failed, delay) in [(0, 1), (1, 10), (2, 60), (3, 60)] {
            let disposition = retry_after(failed);
            let Disposition::Retry { after_seconds, failure } = disposition else {
                panic!("{disposition:?}")
            };
            assert_eq!((after_seconds, failure.attempt), (delay, failed + 1));
        }
        for failed in [4, 5, u32::MAX] {
            let disposition = retry_after(failed);
            assert!(matches!(disposition, Disposition::DeadLetter(_)), "{failed}: {disposition:?}");
        }
        assert_eq!(failure(retry_after(4)).attempt, 5);
    }

    #[test]
    fn a_rejected_event_is_dead_lettered_at_once() {
        let disposition = decide(Err(HandlerError::Reject(anyhow!("never"))), Attempts::default(), NOW);
        let expected = Failure { attempt: 1, reason: "never".into(), first_failed_us: NOW };
        assert_eq!(disposition, Disposition::DeadLetter(expected));
    }

    #[test]
    fn an_unavailable_dependency_counts_no_attempt() {
        let error = HandlerError::Unavailable(anyhow!("database").context("connect"));
        let disposition = decide(Err(error), Attempts { failed: 4, first_failed_us: None }, NOW);
        assert_eq!(disposition, Disposition::Wait("connect: database".into()));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let long = "é".repeat(400);
        let disposition = decide(Err(HandlerError::Retry(anyhow!("x{long}"))), Attempts::default(), NOW);
        let reason = failure(disposition).reason;
        assert_eq!((reason.len(), reason.ends_with('é')), (499, true));
    }

    #[test]
    fn the_time_of_the_first_failure_is_kept_if_it_is_plausible() {
        for (claimed, kept) in [
            (Some(NOW - 1), NOW - 1),
            (Some(NOW + 2_000_000), NOW),
            (Some(NOW - 8 * 24 * 3_600_000_000), NOW),
            (Some(i64::MIN), NOW),
            (Some(i64::MAX), NOW),
            (None, NOW),
        ] {
            let attempts = Attempts { failed: 1, first_failed_us: claimed };
            let disposition = decide(Err(HandlerError::Retry(anyhow!("x"))), attempts, NOW);
            assert_eq!(failure(disposition).first_failed_us, kept, "{claimed:?}");
        }
    }
}
