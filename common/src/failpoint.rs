//! Places where a process can be made to die, protections that can be taken away, and witnesses of what was done: for
//! `./study faults` and the crash tests. Compiled in with the cargo feature `failpoints`; without it every function here is
//! empty, and no setting is read.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::PgConnection;

/// The compiler leaves out what stands behind it.
pub(crate) const COMPILED_IN: bool = cfg!(feature = "failpoints");

/// Where a process can die, in the order in which an event passes them.
pub const POINTS: [(&str, &str); 10] = [
    ("before_call", "sync: a peer is about to be called"),
    ("after_call", "sync: a peer has answered"),
    ("before_commit", "a transaction is about to be committed"),
    ("after_commit", "a transaction is committed, and nothing has happened since"),
    ("before_reply", "a request has been worked on and is not answered"),
    ("mid_batch", "half of several messages are published, or half of several are settled"),
    ("after_publish_before_confirm", "messages are with the broker and not confirmed"),
    ("after_confirm_before_delete", "messages are confirmed and still stand in the outbox"),
    ("after_aside_before_ack", "a copy is in a delay or dead-letter queue, the original is not acknowledged"),
    ("before_ack", "an event is applied and not acknowledged"),
];

/// A protection that can be taken away, to see that its absence is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// A message counts as safe as soon as it is sent.
    NoConfirms,
    /// An event is acknowledged before it is applied.
    AckBeforeCommit,
    /// An event is applied each time it is delivered.
    NoInbox,
    /// An event is published after the commit, without a row that remembers it.
    NoOutbox,
    /// Publishers share a channel, and each believes the confirm that it gets.
    SharedChannel,
    /// Reserved stock is not released when the payment fails.
    NoCompensation,
    /// Nothing that happens is counted or timed: no protection, but its cost is measured in the same way.
    NoMetrics,
}

/// What a process is told; see `--help` of a service that is built with the feature.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FailpointSettings {
    /// Die at the n-th passing of a point, as `before_ack:3`
    #[arg(long, env, value_parser = point)]
    failpoint: Option<Point>,
    /// Take a protection away
    #[arg(long, env)]
    sabotage: Option<Sabotage>,
    /// Publish every message twice
    #[arg(long, env)]
    deliver_twice: bool,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    name: &'static str,
    passing: u64,
}

fn point(text: &str) -> Result<Point, String> {
    let (name, passing) = text.split_once(':').unwrap_or((text, "1"));
    let passing = passing.parse().map_err(|_| format!("{passing} is no number of passings"))?;
    match POINTS.iter().find(|(known, _)| *known == name) {
        Some((name, _)) => Ok(Point { name, passing }),
        None => Err(format!("no point {name}; there are: {}", POINTS.map(|(known, _)| known).join(", "))),
    }
}

static ARMED: OnceLock<FailpointSettings> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// The first start in a process decides.
#[cfg(feature = "failpoints")]
pub(crate) fn arm(settings: &FailpointSettings) {
    if settings.failpoint.is_some() || settings.sabotage.is_some() || settings.deliver_twice {
        tracing::warn!(?settings, "made to fail");
    }
    ARMED.get_or_init(|| settings.clone());
}

/// Dies here, as a crash does, if it is this point's turn: no destructor runs, no buffer is written.
pub fn pass(name: &str) {
    if fires(name) {
        std::process::abort();
    }
}

/// [`pass`], when `sending` has had the time to leave.
#[cfg(feature = "amqp")]
pub(crate) async fn pass_when_sent<T>(name: &str, sending: impl Future<Output = T>) {
    if fires(name) {
        tokio::time::timeout(std::time::Duration::from_millis(50), sending).await.ok();
        std::process::abort();
    }
}

fn fires(name: &str) -> bool {
    let armed = || ARMED.get()?.failpoint.filter(|point| point.name == name);
    COMPILED_IN && armed().is_some_and(|point| PASSED.fetch_add(1, Ordering::Relaxed) + 1 == point.passing)
}

/// Whether this protection is taken away.
pub fn sabotaged(protection: Sabotage) -> bool {
    COMPILED_IN && ARMED.get().is_some_and(|settings| settings.sabotage == Some(protection))
}

/// Whether every message is published twice.
#[cfg(feature = "amqp")]
pub(crate) fn delivers_twice() -> bool {
    COMPILED_IN && ARMED.get().is_some_and(|settings| settings.deliver_twice)
}

/// Notes, in the transaction of a final effect, that it took place; nothing keeps it from being noted twice.
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
#[cfg(feature = "amqp")]
pub(crate) async fn applied(
    tx: &mut PgConnection,
    queue: &'static str,
    message_id: &str,
) -> Result<(), sqlx::Error> {
    note(tx, &["applied:", queue], message_id, None).await
}

/// Notes that a message was written for these queues.
#[cfg(feature = "amqp")]
pub(crate) async fn written(
    tx: &mut PgConnection,
    message_id: impl Display,
    queues: &[&str],
) -> Result<(), sqlx::Error> {
    note(tx, &["written"], message_id, Some(queues)).await
}

async fn note(
    tx: &mut PgConnection,
    kind: &[&str],
    subject: impl Display,
    queues: Option<&[&str]>,
) -> Result<(), sqlx::Error> {
    if COMPILED_IN {
        sqlx::query("INSERT INTO witness (kind, subject, route) VALUES ($1, $2, $3)")
            .bind(kind.concat())
            .bind(subject.to_string())
            .bind(queues.map(|queues| queues.join(",")))
            .execute(tx)
            .await?;
    }
    Ok(())
}

/// No unique key: a double effect is seen, not masked.
pub(crate) const WITNESS: &str = "CREATE TABLE IF NOT EXISTS witness
    (kind text NOT NULL, subject text NOT NULL, route text, noted_at timestamptz NOT NULL DEFAULT now())";
