//! Events that must not be lost: written in the transaction of the effect they announce, sent by a relay that deletes a row
//! only when the broker has confirmed it. While the broker is away work is still accepted, up to a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bus::{Bus, Message};
use crate::config::BrokerSettings;
use crate::context::{Context, now_us};
use crate::db::Tx;
use crate::events::{Event, Route};
use crate::failpoint::{self, Failpoint, Protection, disabled};
use crate::pace::Pace;
use crate::{ApiError, Db, metrics, telemetry};

/// Events that one turn of the relay sends.
const BATCH: i64 = 200;
/// What a commit did not announce in this process (another instance, a crash) is found this late.
const POLL_EVERY: Duration = Duration::from_millis(50);
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Where a handler leaves its events. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    wake: Notify,
    full: AtomicBool,
    bus: Bus,
}

/// Sends what stands in the outbox.
pub(crate) struct Relay {
    db: Db,
    bus: Bus,
    outbox: Outbox,
    max_rows: i64,
    max_age: Duration,
}

type Row = (i64, Uuid, String, String, String, Json<Context>, Vec<u8>, time::OffsetDateTime);

impl Outbox {
    pub(crate) fn new(db: Db, bus: Bus, settings: &BrokerSettings) -> (Outbox, Relay) {
        let shared = Shared { wake: Notify::new(), full: AtomicBool::new(false), bus: bus.clone() };
        let outbox = Outbox { shared: Arc::new(shared) };
        let (max_rows, max_age) = (settings.outbox_max_rows, settings.outbox_max_age());
        (outbox.clone(), Relay { db, bus, outbox, max_rows, max_age })
    }

    /// Leaves `event` in the transaction that makes it true, as part of the current workflow.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when too much is waiting for the broker already.
    pub fn add<E: Event>(&self, tx: &mut Tx, event: &E) -> Result<(), ApiError> {
        self.add_in(tx, event, Context::current())
    }

    /// [`Outbox::add`] as part of the workflow `context`.
    ///
    /// # Errors
    /// As [`Outbox::add`].
    pub fn add_in<E: Event>(&self, tx: &mut Tx, event: &E, context: Context) -> Result<(), ApiError> {
        if self.shared.full.load(Ordering::Relaxed) {
            return Err(ApiError::Unavailable("too many events wait for the broker".into()));
        }
        tx.events.messages.push((Message::of(event, context)?, E::ROUTE));
        tx.events.outbox.get_or_insert_with(|| self.clone());
        Ok(())
    }
}

/// The events of one transaction: written together when it is committed.
#[derive(Default)]
pub(crate) struct Events {
    messages: Vec<(Message, Route)>,
    /// Where they were added.
    outbox: Option<Outbox>,
}

impl Events {
    pub(crate) async fn write(&mut self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.messages.is_empty() {
            return Ok(());
        }
        for (message, route) in &self.messages {
            failpoint::written(tx, &message.id, route.queues()).await?;
        }
        if disabled(Protection::Outbox) {
            return Ok(());
        }
        match &self.messages[..] {
            [(message, _)] => write_one(tx, message).await,
            several => write_several(tx, several).await,
        }
    }

    /// Wakes the relay: they are visible now.
    pub(crate) async fn committed(self) {
        let Some(Outbox { shared }) = self.outbox else { return };
        shared.wake.notify_one();
        // Without the outbox: published after the commit, come what may.
        if disabled(Protection::Outbox) {
            join_all(self.messages.into_iter().map(|(message, _)| shared.bus.send(message))).await;
        }
    }
}

/// [`write_several`] for one alone: a set of one costs the database a fifth more.
async fn write_one(tx: &mut PgConnection, message: &Message) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox (message_id, event, exchange, routing_key, context, body)
         VALUES ($1::text::uuid, $2, $3, $4, $5, $6)",
    )
    .bind(&message.id)
    .bind(message.event.as_ref())
    .bind(message.exchange.as_ref())
    .bind(message.routing_key.as_ref())
    .bind(Json(&message.context))
    .bind(message.body.as_slice())
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_several(tx: &mut PgConnection, messages: &[(Message, Route)]) -> Result<(), sqlx::Error> {
    let messages = || messages.iter().map(|(message, _)| message);
    sqlx::query(
        "INSERT INTO outbox (message_id, event, exchange, routing_key, context, body)
         SELECT * FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[])",
    )
    .bind(messages().map(|message| message.id.as_str()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.event.as_ref()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.exchange.as_ref()).collect::<Vec<_>>())
    .bind(messages().map(|message| message.routing_key.as_ref()).collect::<Vec<_>>())
    .bind(messages().map(|message| Json(&message.context)).collect::<Vec<_>>())
    .bind(messages().map(|message| message.body.as_slice()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

impl Relay {
    /// Sends until `stop`, and then a last time.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut measure = tokio::time::interval(MEASURE_EVERY);
        measure.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pace = Pace::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.outbox.shared.wake.notified() => {
                    pace.turn().await;
                    self.send_all(Waiting::Surely).await;
                }
                () = tokio::time::sleep(POLL_EVERY) => self.send_all(Waiting::Perhaps).await,
                _ = measure.tick() => self.measure().await,
            }
        }
        self.send_all(Waiting::Perhaps).await;
        self.measure().await;
    }

    async fn send_all(&self, mut waiting: Waiting) {
        if !self.db.is_ready() || !self.bus.is_connected() {
            return;
        }
        loop {
            match send_batch(&self.db, &self.bus, waiting).await {
                Ok(sent) if sent == BATCH as usize => waiting = Waiting::Surely,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "events wait in the outbox");
                    // The supervisor and the keeper are at work on the cause.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    return;
                }
            }
        }
    }

    /// Keeps the gauges, and closes the door when too much is waiting.
    async fn measure(&self) {
        if !self.db.is_ready() {
            return;
        }
        match backlog(&self.db).await {
            Ok((rows, oldest)) => {
                let full = rows >= self.max_rows || oldest >= self.max_age.as_secs_f64();
                if full && !self.outbox.shared.full.swap(full, Ordering::Relaxed) {
                    tracing::error!(rows, oldest_seconds = oldest, "outbox is full: new work is refused");
                }
                self.outbox.shared.full.store(full, Ordering::Relaxed);
                metrics::get().outbox_pending.set(rows);
                metrics::get().outbox_oldest.set(oldest);
            }
            Err(error) => tracing::debug!(%error, "outbox cannot be measured"),
        }
    }
}

/// How many events wait, and for how many seconds the oldest one has.
async fn backlog(db: &Db) -> Result<(i64, f64), sqlx::Error> {
    let mut connection = db.relay().await?;
    let waiting = sqlx::query_as(
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM outbox",
    )
    .fetch_one(&mut *connection)
    .await?;
    connection.release();
    Ok(waiting)
}

/// Whether there is something to send.
#[derive(Clone, Copy)]
enum Waiting {
    Surely,
    /// To look costs less than a transaction.
    Perhaps,
}

/// Sends the oldest waiting events together; their rows are deleted for good once they are confirmed. How many there were.
/// Several relays share the rows; what a crash leaves undeleted is sent again and recognised by its id.
async fn send_batch(db: &Db, bus: &Bus, waiting: Waiting) -> anyhow::Result<usize> {
    let mut tx = db.relay().await?;
    if let Waiting::Perhaps = waiting {
        let waiting: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM outbox)").fetch_one(&mut *tx).await?;
        if !waiting {
            tx.release();
            return Ok(0);
        }
    }
    tx.begin().await?;
    let mut rows: Vec<Row> = sqlx::query_as(
        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING seq, message_id, event, exchange, routing_key, context, body, created_at",
    )
    .bind(BATCH)
    .fetch_all(&mut *tx)
    .await?;
    rows.sort_unstable_by_key(|row| row.0);
    let taken = rows.len();
    let sent = join_all(rows.into_iter().map(|row| async {
        let (seq, mut message) = message(row);
        let hop = bus.spans.publishing(&mut message);
        let (event, written_us) = (message.event.clone(), message.published_us);
        let workflow = message.context.workflow.clone();
        let sent = bus.send(message).await;
        if sent.is_ok() {
            let seconds = (now_us() - written_us).max(0) as f64 / 1e6;
            telemetry::published(hop, &workflow, &event, seconds);
        }
        (seq, sent)
    }))
    .await;
    failpoint::pass(Failpoint::AfterConfirmBeforeDelete);
    let Some(error) = sent.iter().find_map(|(_, sent)| sent.clone().err()) else {
        tx.commit().await?;
        tx.release();
        return Ok(taken);
    };
    // All rows are back; those that were confirmed go for good.
    tx.rollback().await?;
    let confirmed: Vec<i64> = sent.iter().filter(|(_, sent)| sent.is_ok()).map(|(seq, _)| *seq).collect();
    sqlx::query("DELETE FROM outbox WHERE seq = ANY($1)").bind(&confirmed).execute(&mut *tx).await?;
    Err(error.into())
}

fn message((seq, id, event, exchange, routing_key, context, body, created_at): Row) -> (i64, Message) {
    let published_us = (created_at.unix_timestamp_nanos() / 1000) as i64;
    let (id, event) = (id.to_string(), event.into());
    let (exchange, routing_key) = (exchange.into(), routing_key.into());
    let notes = Vec::new();
    (seq, Message { id, event, exchange, routing_key, context: context.0, published_us, body, notes })
}
