//! Pauses between attempts to reach something that is unavailable.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Waits up to 1 s, longer with each failure, or until `stop`. The jitter keeps ten services from reconnecting at once.
pub(crate) async fn pause(failures: u32, stop: &CancellationToken) {
    let longest = 50_u64 << failures.min(5);
    let jitter = u64::from(Uuid::new_v4().as_bytes()[0]) * longest / 512;
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(longest.min(1000) / 2 + jitter)) => {}
    }
}
