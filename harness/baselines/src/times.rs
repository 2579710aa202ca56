//! How long a measurement lasts, and what its samples come to.

use std::time::{Duration, Instant};

/// When a measurement of so many seconds that begins now is over.
pub(crate) fn end_of(seconds: f64) -> Instant {
    Instant::now() + Duration::from_secs_f64(seconds)
}

/// Of the command line: seconds.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if 0.0 < value && value <= 3600.0 => Ok(value),
        _ => Err("must be a number above 0, at most 3600".into()),
    }
}

/// Milliseconds: the smallest that at least this share of all is not above.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
pub(crate) fn quantile(ascending: &[Duration], share: f64) -> Option<f64> {
    let rank = ((share * ascending.len() as f64).ceil() as usize).max(1);
    ascending.get(rank - 1).map(|time| time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_one_of_the_samples() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!((quantile(&times, 0.5), quantile(&times, 0.99)), (Some(100.0), Some(198.0)));
        assert_eq!((quantile(&times[..1], 0.99), quantile(&[], 0.5)), (Some(1.0), None));
    }
}
