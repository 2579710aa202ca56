//! The inbox applies each event once: the id of a message is stored in the transaction of its effect, so that a second delivery
//! of the same message finds it. Handlers have a natural key as well (user, order, version); the inbox is the second guard.

use std::collections::HashSet;

use crate::bus::Incoming;
use crate::db::{Db, Tx};
use crate::failpoint::{self, Protection, disabled};

/// Begins the transaction in which an event is applied; `None` if it was applied before.
///
/// # Errors
/// As the database.
pub async fn begin<E>(db: &Db, event: &Incoming<E>) -> Result<Option<Tx>, sqlx::Error> {
    let mut tx = db.begin().await?;
    let first = sqlx::query("INSERT INTO inbox (queue, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(event.queue)
        .bind(&event.message_id)
        .execute(&mut *tx)
        .await?;
    if first.rows_affected() == 0 && !disabled(Protection::Inbox) {
        return Ok(None);
    }
    failpoint::applied(&mut tx, event.queue, &event.message_id).await?;
    Ok(Some(tx))
}

/// Begins the transaction in which several events of one queue are applied, with the ids of those that are new.
///
/// A lock serialises such transactions of one service: two that change the same rows in different orders would deadlock.
///
/// # Errors
/// As the database.
pub(crate) async fn begin_together<E>(
    db: &Db,
    queue: &str,
    events: &[Incoming<E>],
) -> Result<(Tx, HashSet<String>), sqlx::Error> {
    let mut tx = db.begin().await?;
    let new: Vec<String> = sqlx::query_scalar(
        "INSERT INTO inbox (queue, message_id) SELECT $1, message_id FROM unnest($2::text[]) AS message_id
         CROSS JOIN (SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), 0))) AS serialised
         ON CONFLICT DO NOTHING RETURNING message_id",
    )
    .bind(queue)
    .bind(events.iter().map(|event| event.message_id.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    Ok((tx, new.into_iter().collect()))
}

/// Deletes ids after 7 days, longer than a message waits in any queue.
pub(crate) async fn prune(db: &Db) -> Result<(), sqlx::Error> {
    db.delete_in_chunks("inbox", "applied_at < now() - interval '7 days'").await
}
