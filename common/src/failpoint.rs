//! Failpoints where a process can be made to abort, protections that can be disabled, and witnesses of what was done: for
//! `./study faults` and the crash tests. Compiled in with the cargo feature `failpoints`; without it every function here is
//! empty, and no setting is read.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::events::Queue;
pub use contract::{Failpoint, Protection};
use sqlx::PgConnection;

/// The compiler leaves out what stands behind it.
pub(crate) const COMPILED_IN: bool = cfg!(feature = "failpoints");

/// Settings of a service that is built with the feature; see its `--help`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FailpointSettings {
    /// Abort at the n-th passing of a failpoint, as `before_ack:3`
    #[arg(long, env = contract::FAILPOINT, value_parser = armed)]
    failpoint: Option<Armed>,
    /// Disable a protection
    #[arg(long, env = contract::DISABLED_PROTECTION)]
    disabled_protection: Option<Protection>,
    /// Publish every message twice
    #[arg(long, env = contract::DELIVER_TWICE)]
    deliver_twice: bool,
}

/// A failpoint, and at which of its passings the process aborts.
#[derive(Clone, Copy, Debug)]
struct Armed {
    point: Failpoint,
    passing: u64,
}

fn armed(text: &str) -> Result<Armed, String> {
    let (name, passing) = text.split_once(':').unwrap_or((text, "1"));
    let passing = passing.parse().map_err(|_| format!("{passing} is no number of passings"))?;
    match Failpoint::ALL.into_iter().find(|known| known.name() == name) {
        Some(point) => Ok(Armed { point, passing }),
        None => {
            Err(format!("no point {name}; there are: {}", Failpoint::ALL.map(Failpoint::name).join(", ")))
        }
    }
}

static ARMED: OnceLock<FailpointSettings> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// The first start in a process decides.
#[cfg(feature = "failpoints")]
pub(crate) fn arm(settings: &FailpointSettings) {
    if settings.failpoint.is_some() || settings.disabled_protection.is_some() || settings.deliver_twice {
        tracing::warn!(?settings, "made to fail");
    }
    ARMED.get_or_init(|| settings.clone());
}

/// Dies here, as a crash does, if it is this point's turn: no destructor runs, no buffer is written.
pub fn pass(point: Failpoint) {
    if fires(point) {
        std::process::abort();
    }
}

/// [`pass`], when `sending` has had the time to leave.
#[cfg(feature = "messaging")]
pub(crate) async fn pass_when_sent<T>(point: Failpoint, sending: impl Future<Output = T>) {
    if fires(point) {
        tokio::time::timeout(std::time::Duration::from_millis(50), sending).await.ok();
        std::process::abort();
    }
}

fn fires(point: Failpoint) -> bool {
    let armed = || ARMED.get()?.failpoint.filter(|armed| armed.point == point);
    COMPILED_IN && armed().is_some_and(|armed| PASSED.fetch_add(1, Ordering::Relaxed) + 1 == armed.passing)
}

/// Whether this protection is disabled.
pub fn disabled(protection: Protection) -> bool {
    COMPILED_IN && ARMED.get().is_some_and(|settings| settings.disabled_protection == Some(protection))
}

/// Whether every message is published twice.
#[cfg(feature = "messaging")]
pub(crate) fn delivers_twice() -> bool {
    COMPILED_IN && ARMED.get().is_some_and(|settings| settings.deliver_twice)
}

/// Records a final effect in its transaction. Without a unique key: an effect that is applied twice is recorded twice.
///
/// # Errors
/// As the database.
pub async fn witness(
    tx: &mut PgConnection,
    effect: &'static str,
    subject: impl Display,
) -> Result<(), sqlx::Error> {
    note(tx, &["effect:", effect], subject, None).await
}

/// Notes that a message was applied from a queue.
#[cfg(feature = "messaging")]
pub(crate) async fn applied(
    tx: &mut PgConnection,
    queue: &'static str,
    message_id: &str,
) -> Result<(), sqlx::Error> {
    note(tx, &["applied:", queue], message_id, None).await
}

/// Notes that a message was written for these queues.
#[cfg(feature = "messaging")]
pub(crate) async fn written(
    tx: &mut PgConnection,
    message_id: impl Display,
    queues: &[Queue],
) -> Result<(), sqlx::Error> {
    note(tx, &["written"], message_id, Some(queues)).await
}

async fn note(
    tx: &mut PgConnection,
    kind: &[&str],
    subject: impl Display,
    queues: Option<&[Queue]>,
) -> Result<(), sqlx::Error> {
    if COMPILED_IN {
        sqlx::query("INSERT INTO witness (kind, subject, route) VALUES ($1, $2, $3)")
            .bind(kind.concat())
            .bind(subject.to_string())
            .bind(queues.map(|queues| queues.iter().map(|queue| queue.name).collect::<Vec<_>>().join(",")))
            .execute(tx)
            .await?;
    }
    Ok(())
}

/// No unique key: a double effect is seen, not masked.
pub(crate) const WITNESS: &str = "CREATE TABLE IF NOT EXISTS witness
    (kind text NOT NULL, subject text NOT NULL, route text, noted_at timestamptz NOT NULL DEFAULT now())";
