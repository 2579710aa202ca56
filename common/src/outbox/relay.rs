//! Sends what stands in the outbox. What cannot go is moved to a lane of its destination and tried again there, alone at
//! first, with growing pauses; what can go goes on meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use contract::Failpoint;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::types::Json;
use sqlx::{Decode, PgConnection, Postgres, Type};
use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lanes::{self, Lanes, READY};
use super::{Doors, Outbox};
use crate::bus::{Bus, Message, PublishError};
use crate::config::BrokerSettings;
use crate::context::{Context, now_us};
use crate::pace::Pace;
use crate::{Db, failpoint, metrics, telemetry};

/// Events that one turn of the relay sends.
const BATCH: i64 = 200;
/// What a commit did not announce in this process (another instance, a crash) is found this late.
const POLL_EVERY: Duration = Duration::from_millis(50);
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Lanes that are served at the same time: each holds a connection while the broker keeps it waiting.
const LANES_AT_ONCE: usize = 2;

/// Sends what stands in the outbox.
pub(crate) struct Relay {
    db: Db,
    bus: Bus,
    outbox: Outbox,
    lanes: Lanes,
    /// Turns fail; it is logged once.
    troubled: AtomicBool,
    /// Lanes in the metrics.
    shown: Mutex<BTreeSet<String>>,
    max_rows: i64,
    max_age: Duration,
}

type Row = (i64, Uuid, String, String, String, StoredContext, Vec<u8>, time::OffsetDateTime);

impl Relay {
    pub(super) fn new(db: Db, bus: Bus, outbox: Outbox, settings: &BrokerSettings) -> Relay {
        let (max_rows, max_age) = (settings.outbox_max_rows, settings.outbox_max_age());
        let (lanes, troubled, shown) = (Lanes::default(), AtomicBool::new(false), Mutex::default());
        Relay { db, bus, outbox, lanes, troubled, shown, max_rows, max_age }
    }

    /// Sends until `stop`, and then a last time.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.send_ready(&stop), self.serve_lanes(&stop));
        self.measure().await;
    }

    async fn send_ready(&self, stop: &CancellationToken) {
        let mut pace = Pace::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.outbox.shared.wake.notified() => {
                    pace.turn().await;
                    self.send_all(Waiting::Surely).await;
                }
                () = tokio::time::sleep(POLL_EVERY) => self.send_all(Waiting::Perhaps).await,
            }
        }
        self.send_all(Waiting::Perhaps).await;
    }

    async fn send_all(&self, mut waiting: Waiting) {
        while self.can_send() {
            let turn = self.send_batch(READY, BATCH, waiting).await;
            if let Err(error) = &turn
                && !self.troubled.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(%error, "the outbox cannot be read");
            }
            match turn {
                Ok(Turn { taken, stuck: false, .. }) => {
                    self.troubled.store(false, Ordering::Relaxed);
                    if taken < BATCH as usize {
                        return;
                    }
                    waiting = Waiting::Surely;
                }
                // The keeper or the publisher is at work on the cause, and has logged it.
                _ => return tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn can_send(&self) -> bool {
        self.db.is_ready() && self.bus.is_connected()
    }

    /// Tries lanes when they are due, and finds those that another process has left.
    async fn serve_lanes(&self, stop: &CancellationToken) {
        let mut measure = tokio::time::interval(MEASURE_EVERY);
        measure.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut serving = FuturesUnordered::new();
        while !stop.is_cancelled() {
            while serving.len() < LANES_AT_ONCE
                && let Some(lane) = self.lanes.take_due()
            {
                serving.push(self.serve(lane));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                _ = measure.tick() => self.measure().await,
                () = self.lanes.due(), if serving.len() < LANES_AT_ONCE => {}
                Some(()) = serving.next() => {}
            }
        }
        while serving.next().await.is_some() {}
        for lane in self.lanes.all() {
            self.serve(lane).await;
        }
    }

    /// Sends a lane's rows until there are none: one at first, which finds out whether the destination takes it, and more and
    /// more of them while that goes well. Rows that are too large cost nothing to try.
    async fn serve(&self, lane: String) {
        let mut limit = if lanes::destination(&lane).1 { BATCH } else { 1 };
        while self.can_send() {
            match self.send_batch(&lane, limit, Waiting::Surely).await {
                Ok(Turn { taken: 0, .. }) => return self.lanes.ended(&lane),
                Ok(turn) if turn.failed.contains_key(&lane) => return,
                Ok(Turn { stuck: false, .. }) => {
                    self.lanes.progressed(&lane);
                    limit = (2 * limit).min(BATCH);
                }
                Ok(_) | Err(_) => break,
            }
        }
        self.lanes.postpone(&lane);
    }

    /// Keeps the gauges, closes the door for what waits in too large a number or for too long, and takes up lanes that another
    /// process has left.
    async fn measure(&self) {
        if !self.db.is_ready() {
            return;
        }
        let backlog = match backlog(&self.db).await {
            Ok(backlog) => backlog,
            Err(error) => return tracing::debug!(%error, "outbox cannot be measured"),
        };
        let metrics = metrics::get();
        metrics.outbox_pending.set(backlog.iter().map(|(_, rows, _)| rows).sum());
        metrics.outbox_oldest.set(backlog.iter().map(|(_, _, oldest)| *oldest).fold(0.0, f64::max));
        let mut shown = BTreeSet::new();
        for (lane, rows, _) in backlog.iter().filter(|(lane, ..)| lane != READY) {
            metrics.outbox_waiting.with_label_values(&[lane]).set(*rows);
            self.lanes.begin(lane);
            shown.insert(lane.clone());
        }
        let before =
            std::mem::replace(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner), shown.clone());
        for gone in before.difference(&shown) {
            // It is there: it was shown.
            metrics.outbox_waiting.remove_label_values(&[gone]).ok();
        }
        self.outbox.shared.set(self.doors(&backlog));
    }

    /// A backlog of what is ready closes the door for everything, a lane closes it for its destination alone. Rows that are too
    /// large do not close it by their age: others for their destination go.
    fn doors(&self, backlog: &[Backlog]) -> Doors {
        let mut doors = Doors::default();
        for (lane, rows, oldest) in backlog {
            let (destination, too_large) = lanes::destination(lane);
            let old = *oldest >= self.max_age.as_secs_f64() && !too_large;
            if *rows < self.max_rows && !old {
                continue;
            }
            match destination {
                READY => doors.all_closed = true,
                _ => drop(doors.closed.insert(destination.to_owned())),
            }
        }
        doors
    }

    /// Sends the oldest events of a lane together; their rows are deleted for good once they are confirmed, and those that
    /// cannot go are moved to the lane of their destination. Several relays share the rows; what a crash leaves undeleted is
    /// sent again and recognised by its id.
    async fn send_batch(&self, lane: &str, limit: i64, waiting: Waiting) -> Result<Turn, sqlx::Error> {
        let mut tx = self.db.background_connection().await?;
        if let Waiting::Perhaps = waiting {
            let waiting: bool = sqlx::query_scalar(ANY_READY).fetch_one(&mut *tx).await?;
            if !waiting {
                return Ok(Turn::default());
            }
        }
        tx.begin().await?;
        let mut rows: Vec<Row> = sqlx::query_as(TAKE).bind(lane).bind(limit).fetch_all(&mut *tx).await?;
        rows.sort_unstable_by_key(|row| row.0);
        let mut turn = Turn { taken: rows.len(), ..Turn::default() };
        // The runtime would interrupt a long batch, and go on with its last event first.
        let sent = unconstrained(join_all(rows.into_iter().map(|row| self.send(lane, row)))).await;
        failpoint::pass(Failpoint::AfterConfirmBeforeDelete);
        if sent.iter().all(|(_, _, outcome)| matches!(outcome, Outcome::Sent)) {
            tx.commit().await?;
        } else {
            // All rows are back; those that were confirmed go for good.
            tx.rollback().await?;
            turn.sort(lane, sent);
            tx.begin().await?;
            turn.store(&mut tx, lane).await?;
            tx.commit().await?;
            turn.failed.iter().for_each(|(lane, error)| self.lanes.failed(lane, error));
            // Also those that only wait behind others: their lane may have ended meanwhile.
            turn.moved.keys().for_each(|lane| self.lanes.begin(lane));
        }
        Ok(turn)
    }

    /// Sends one event, unless others for its destination wait: its row, its destination, and what became of it.
    async fn send(&self, lane: &str, row: Row) -> (i64, String, Outcome) {
        let (seq, mut message) = message(row);
        let destination = message.destination().to_owned();
        if lane == READY && self.lanes.waits(&destination) {
            return (seq, destination, Outcome::Behind);
        }
        let hop = message.span(&self.bus.spans);
        let (event, written_us) = (message.event.clone(), message.published_us);
        let workflow = message.context.workflow.clone();
        match self.bus.send(message).await {
            Ok(()) => {
                let seconds = (now_us() - written_us).max(0) as f64 / 1e6;
                telemetry::published(hop, &workflow, &event, seconds);
                (seq, destination, Outcome::Sent)
            }
            Err(error) => (seq, destination, Outcome::Failed(error)),
        }
    }
}

/// What became of a row in a turn.
enum Outcome {
    Sent,
    /// Not sent: others for its destination wait.
    Behind,
    Failed(PublishError),
}

/// What became of a batch.
#[derive(Default)]
struct Turn {
    taken: usize,
    /// Rows that are confirmed, where some are not.
    confirmed: Vec<i64>,
    /// Rows that now wait, by their lane.
    moved: BTreeMap<String, Vec<i64>>,
    /// Why rows of a lane could not go.
    failed: BTreeMap<String, PublishError>,
    /// Nothing can be sent, whatever the destination.
    stuck: bool,
}

impl Turn {
    fn sort(&mut self, lane: &str, sent: Vec<(i64, String, Outcome)>) {
        for (seq, destination, outcome) in sent {
            let (target, error) = match outcome {
                Outcome::Sent => {
                    self.confirmed.push(seq);
                    continue;
                }
                Outcome::Failed(PublishError::Disconnected | PublishError::Blocked) => {
                    self.stuck = true;
                    continue;
                }
                Outcome::Behind => (destination, None),
                Outcome::Failed(PublishError::TooLarge) => {
                    (lanes::too_large(&destination), Some(PublishError::TooLarge))
                }
                Outcome::Failed(error) => (destination, Some(error)),
            };
            if target != lane {
                self.moved.entry(target.clone()).or_default().push(seq);
            }
            if let Some(error) = error {
                self.failed.entry(target).or_insert(error);
            }
        }
    }

    async fn store(&self, tx: &mut PgConnection, lane: &str) -> Result<(), sqlx::Error> {
        let within = |rows: &[i64]| (rows.iter().min().copied(), rows.iter().max().copied());
        if !self.confirmed.is_empty() {
            let (first, last) = within(&self.confirmed);
            let delete = sqlx::query(DELETE).bind(lane).bind(first).bind(last).bind(&self.confirmed);
            delete.execute(&mut *tx).await?;
        }
        for (target, rows) in &self.moved {
            let (first, last) = within(rows);
            let moving = sqlx::query(MOVE).bind(lane).bind(first).bind(last).bind(rows).bind(target);
            moving.execute(&mut *tx).await?;
        }
        Ok(())
    }
}

/// Whether there is something to send.
#[derive(Clone, Copy)]
enum Waiting {
    Surely,
    /// To look costs less than a transaction.
    Perhaps,
}

const ANY_READY: &str = "SELECT EXISTS (SELECT FROM outbox WHERE waits_for = '')";
/// By their places in the table, which cannot change while they are locked.
const TAKE: &str = "DELETE FROM outbox WHERE ctid = ANY (ARRAY(
         SELECT ctid FROM outbox WHERE waits_for = $1 ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED))
     RETURNING seq, message_id, event, exchange, routing_key, context, body, created_at";
/// Between the first and the last of them, so that no more of the lane is read.
const DELETE: &str = "DELETE FROM outbox WHERE waits_for = $1 AND seq BETWEEN $2 AND $3 AND seq = ANY ($4)";
const MOVE: &str =
    "UPDATE outbox SET waits_for = $5 WHERE waits_for = $1 AND seq BETWEEN $2 AND $3 AND seq = ANY ($4)";
const BACKLOG: &str = "SELECT waits_for, count(*), extract(epoch FROM now() - min(created_at))::float8
     FROM outbox GROUP BY waits_for";

/// A lane: its name, its rows, and for how many seconds the oldest one has waited.
type Backlog = (String, i64, f64);

async fn backlog(db: &Db) -> Result<Vec<Backlog>, sqlx::Error> {
    let mut connection = db.background_connection().await?;
    sqlx::query_as(BACKLOG).fetch_all(&mut *connection).await
}

fn message((seq, id, event, exchange, routing_key, context, body, created_at): Row) -> (i64, Message) {
    let published_us = (created_at.unix_timestamp_nanos() / 1000) as i64;
    let (id, event) = (id.to_string(), event.into());
    let (exchange, routing_key) = (exchange.into(), routing_key.into());
    let notes = Vec::new();
    (seq, Message { id, event, exchange, routing_key, context: context.0, published_us, body, notes })
}

/// A context that was stored. One that cannot be read, perhaps another version's, must not hold up its batch: the event goes
/// in a workflow of its own.
struct StoredContext(Context);

impl Type<Postgres> for StoredContext {
    fn type_info() -> PgTypeInfo {
        <Json<Context> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for StoredContext {
    fn decode(value: PgValueRef<'r>) -> Result<StoredContext, BoxDynError> {
        let stored = <Json<Context> as Decode<'r, Postgres>>::decode(value);
        Ok(StoredContext(stored.map_or_else(|_| Context::fresh(), |context| context.0)))
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

    use super::*;
    use crate::testing::Sandbox;

    async fn plan(connection: &mut PgConnection, prepared: &str) -> String {
        let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) EXECUTE {prepared}"));
        let lines: Vec<String> = sqlx::query_scalar(explain).fetch_all(connection).await.expect("a plan");
        lines.join("\n")
    }

    /// Rows for `lane`; with the statistics that the table then has.
    async fn fill(connection: &mut PgConnection, lane: &str, rows: i64) {
        sqlx::query(
            "INSERT INTO outbox (waits_for, message_id, event, exchange, routing_key, context, body)
             SELECT $1, gen_random_uuid(), 'E', '', 'q', '{}', '' FROM generate_series(1, $2)",
        )
        .bind(lane)
        .bind(rows)
        .execute(&mut *connection)
        .await
        .expect("they are stored");
    }

    #[tokio::test]
    async fn the_relay_goes_by_the_key_whatever_waits_and_whatever_the_statistics_say() {
        let sandbox = Sandbox::new().await;
        let options: sqlx::postgres::PgConnectOptions = sandbox.database_url().parse().unwrap();
        let schema = [("search_path", sandbox.schema.as_str())];
        let mut owner = options.clone().options(schema).connect().await.unwrap();
        owner.execute(AssertSqlSafe(format!("CREATE SCHEMA {}", sandbox.schema))).await.unwrap();
        crate::db::COMMON.run(&mut owner).await.unwrap();
        let mut relay = options.options(schema).options(crate::db::BY_KEY).connect().await.unwrap();
        for (name, statement) in [
            ("any_ready", ANY_READY),
            ("take (text, bigint)", TAKE),
            ("remove (text, bigint, bigint, bigint[])", DELETE),
            ("move (text, bigint, bigint, bigint[], text)", MOVE),
        ] {
            relay.execute(AssertSqlSafe(format!("PREPARE {name} AS {statement}"))).await.unwrap();
        }
        // Empty and analysed, with rows that no statistics know, and with statistics that know them.
        for (lane, rows) in [("", 0), ("waiting", 5000), ("", 3000), ("other", 5000)] {
            for analyze in [false, true] {
                if analyze {
                    owner.execute("ANALYZE outbox").await.unwrap();
                } else {
                    fill(&mut owner, lane, rows).await;
                }
                for prepared in [
                    "any_ready",
                    "take ('', 200)",
                    "remove ('', 1, 9, '{1,9}')",
                    "move ('', 1, 9, '{1,9}', 'x')",
                ] {
                    let plan = plan(&mut relay, prepared).await;
                    let key = plan.contains("using outbox_pkey") && plan.contains("Index Cond: (");
                    let other = ["Seq Scan", "Sort", "Bitmap"].iter().any(|other| plan.contains(other));
                    assert!(key && !other, "{prepared} with {rows} for {lane:?}:\n{plan}");
                }
            }
        }
        // Blocked rows in front are not read: a few pages for a batch, whatever waits.
        let explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) EXECUTE take ('', 200)";
        let plan: Json<serde_json::Value> = sqlx::query_scalar(explain).fetch_one(&mut relay).await.unwrap();
        let hits = plan.0[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap();
        assert!(hits < 1500, "{hits} blocks for 200 rows");
        owner.close().await.unwrap();
        relay.close().await.unwrap();
        sandbox.close().await;
    }
}
