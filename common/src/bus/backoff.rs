//! How a transport reaches its broker and comes back to it: attempts, the pauses between them, and what the log says.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Db;
use crate::outage::Outage;

/// Returns false when stopped before the database is available; without a database at once.
pub(super) async fn database_ready(db: Option<&Db>, stop: &CancellationToken) -> bool {
    let Some(db) = db else { return true };
    tokio::select! {
        () = stop.cancelled() => false,
        () = db.wait_ready() => true,
    }
}

/// Repeats `attempt`, which says why it failed, until it succeeds; `None` when stopped.
pub(super) async fn connect<T, F: Future<Output = Result<T, String>> + Send>(
    broker: &str,
    role: &str,
    stop: &CancellationToken,
    attempt: impl Fn() -> F,
) -> Option<T> {
    let (mut failures, outage) = (0, Outage::default());
    while !stop.is_cancelled() {
        let cause = tokio::select! {
            () = stop.cancelled() => return None,
            reached = attempt() => match reached {
                Ok(reached) => return Some(reached),
                Err(cause) => cause,
            },
        };
        if outage.is_new(&cause) {
            tracing::warn!(cause, role, "waiting for {broker}");
        }
        failures += 1;
        pause(failures, stop).await;
    }
    None
}

/// Logs why the work with the broker ended, and waits a little before the next attempt.
pub(super) async fn ended(work: anyhow::Result<()>, broker: &str, role: &str, stop: &CancellationToken) {
    match work.map_err(|cause| format!("{cause:#}")) {
        Ok(()) => {}
        Err(cause) if stop.is_cancelled() => {
            tracing::warn!(cause, role, "connection to {broker} ended before its work");
        }
        Err(cause) => {
            tracing::warn!(cause, role, "connection to {broker} is built anew");
            // No tight loop if the broker refuses at once.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Waits up to 1 s, longer with each failure, or until `stop`. The jitter keeps ten services from reconnecting at once.
pub(crate) async fn pause(failures: u32, stop: &CancellationToken) {
    let longest = 50_u64 << failures.min(5);
    let jitter = u64::from(Uuid::new_v4().as_bytes()[0]) * longest / 512;
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(longest.min(1000) / 2 + jitter)) => {}
    }
}
