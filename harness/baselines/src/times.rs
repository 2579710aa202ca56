//! How long a measurement lasts, and what its samples come to.

use std::time::{Duration, Instant};

use measure::times::Times;
use serde_json::{Value, json};

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

/// What a baseline prints of its operations, each of which stored or published `each` messages or rows.
pub(crate) fn summary(took: &[Duration], each: usize, seconds: f64) -> Value {
    let times = Times::of(took.iter().map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)));
    let count = took.len() * each;
    json!({
        "count": count,
        "seconds": seconds,
        "per_second": count as f64 / seconds,
        "p50_ms": times.quantile(0.50),
        "p99_ms": times.quantile(0.99),
    })
}
