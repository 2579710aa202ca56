//! Sends the rows of the outbox. A row that cannot be sent is moved to the lane of its destination, where rows are retried with
//! growing pauses. Rows for other destinations are sent meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use contract::Failpoint;
use contract::events::Destination;
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
use super::{Full, Outbox};
use crate::bus::{Address, Bus, Message, PublishError};
use crate::config::BrokerSettings;
use crate::context::{Context, now_us};
use crate::outage::Outage;
use crate::throttle::Throttle;
use crate::{Db, failpoint, metrics, telemetry};

/// Events that one cycle of the relay sends.
const BATCH: i64 = 200;
/// The delay until the relay finds rows of another process.
const POLL_EVERY: Duration = Duration::from_millis(50);
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Lanes that are served at the same time. Each holds a connection while it waits for the broker.
const LANES_AT_ONCE: usize = 2;

/// Sends the rows of the outbox.
pub(crate) struct Relay {
    db: Db,
    bus: Bus,
    outbox: Outbox,
    lanes: Lanes,
    /// Of the ready rows in the database.
    reading: Outage,
    /// Of the measurement.
    measuring: Outage,
    /// The lanes in the metrics.
    shown: Mutex<BTreeSet<String>>,
    max_rows: i64,
    max_age: Duration,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    message_id: Uuid,
    event: String,
    destination: String,
    context: StoredContext,
    body: Vec<u8>,
    created_at: time::OffsetDateTime,
}

impl Relay {
    pub(super) fn new(db: Db, bus: Bus, outbox: Outbox, settings: &BrokerSettings) -> Relay {
        let (max_rows, max_age) = (settings.outbox_max_rows, settings.outbox_max_age());
        let (reading, measuring) = (Outage::default(), Outage::default());
        let (lanes, shown) = (Lanes::default(), Mutex::default());
        Relay { db, bus, outbox, lanes, reading, measuring, shown, max_rows, max_age }
    }

    /// Sends until `stop`, and then a last time.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.send_ready(&stop), self.serve_lanes(&stop));
        self.measure().await;
    }

    async fn send_ready(&self, stop: &CancellationToken) {
        let mut throttle = Throttle::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.outbox.shared.wake.notified() => {
                    throttle.cycle().await;
                    self.send_all(Backlog::Known).await;
                }
                () = tokio::time::sleep(POLL_EVERY) => self.send_all(Backlog::Unknown).await,
            }
        }
        self.send_all(Backlog::Unknown).await;
    }

    async fn send_all(&self, mut backlog: Backlog) {
        while self.can_send() {
            let cycle = self.send_batch(READY, BATCH, backlog).await;
            if let Err(error) = &cycle
                && self.reading.is_new(error)
            {
                tracing::warn!(%error, "the outbox cannot be read");
            }
            match cycle {
                Ok(Cycle { taken, stuck: false, .. }) => {
                    self.reading.end();
                    if taken < BATCH as usize {
                        return;
                    }
                    backlog = Backlog::Known;
                }
                // The database monitor or the publisher has logged the cause and reconnects.
                _ => return tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn can_send(&self) -> bool {
        self.db.is_ready() && self.bus.is_connected()
    }

    /// Serves lanes when they are due, and finds lanes of other processes.
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

    /// Sends a lane's rows until there are none: first one, to find out whether the destination takes events, then more and more.
    /// Rows that are too large cost nothing to try.
    async fn serve(&self, lane: String) {
        let mut limit = if lanes::destination(&lane).1 { BATCH } else { 1 };
        while self.can_send() {
            match self.send_batch(&lane, limit, Backlog::Known).await {
                Ok(Cycle { taken: 0, .. }) => return self.lanes.ended(&lane),
                Ok(cycle) if cycle.failed.contains_key(&lane) => return,
                Ok(Cycle { stuck: false, .. }) => {
                    self.lanes.progressed(&lane);
                    limit = (2 * limit).min(BATCH);
                }
                Ok(_) => break,
                Err(error) => return self.lanes.unreadable(&lane, &error),
            }
        }
        self.lanes.postpone(&lane);
    }

    /// Updates the gauges, refuses events of which too many wait or one waits for too long, and begins lanes of other processes.
    async fn measure(&self) {
        if !self.db.is_ready() {
            return;
        }
        let backlog = match backlog(&self.db).await {
            Ok(backlog) => backlog,
            Err(error) => {
                if self.measuring.is_new(&error) {
                    tracing::warn!(%error, "the outbox cannot be measured");
                }
                return;
            }
        };
        self.measuring.end();
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
            // The label exists: it was shown before.
            metrics.outbox_waiting.remove_label_values(&[gone]).ok();
        }
        self.outbox.shared.set(self.full(&backlog));
    }

    /// A backlog of ready rows refuses all events, a lane refuses events for its destination. The age of rows that are too large
    /// refuses none, because other rows for their destination are sent.
    fn full(&self, backlog: &[LaneSize]) -> Full {
        let mut full = Full::default();
        for (lane, rows, oldest) in backlog {
            let (destination, too_large) = lanes::destination(lane);
            let old = *oldest >= self.max_age.as_secs_f64() && !too_large;
            if *rows < self.max_rows && !old {
                continue;
            }
            match destination {
                READY => full.all = true,
                _ => drop(full.destinations.insert(destination.to_owned())),
            }
        }
        full
    }

    /// Sends the oldest events of a lane together. Rows are deleted when they are confirmed, and rows that cannot be sent are moved
    /// to the lane of their destination. Several relays share the rows. A row that a crash leaves is sent again, and the inbox
    /// recognises its id.
    async fn send_batch(&self, lane: &str, limit: i64, backlog: Backlog) -> Result<Cycle, sqlx::Error> {
        let mut tx = self.db.background_connection().await?;
        if let Backlog::Unknown = backlog {
            let any: bool = sqlx::query_scalar(ANY_READY).fetch_one(&mut *tx).await?;
            if !any {
                return Ok(Cycle::default());
            }
        }
        tx.begin().await?;
        let mut rows: Vec<Row> = sqlx::query_as(TAKE).bind(lane).bind(limit).fetch_all(&mut *tx).await?;
        rows.sort_unstable_by_key(|row| row.seq);
        let mut cycle = Cycle { taken: rows.len(), ..Cycle::default() };
        // `unconstrained`: the runtime would interrupt a long batch and continue with its last event, out of order.
        let sent = unconstrained(join_all(rows.into_iter().map(|row| self.send(lane, row)))).await;
        failpoint::pass(Failpoint::AfterConfirmBeforeDelete);
        if sent.iter().all(|(_, _, outcome)| matches!(outcome, Sent::Confirmed)) {
            tx.commit().await?;
        } else {
            // All rows are back. Delete the confirmed ones, move the others.
            tx.rollback().await?;
            cycle.sort(lane, sent);
            tx.begin().await?;
            cycle.store(&mut tx, lane).await?;
            tx.commit().await?;
            cycle.failed.iter().for_each(|(lane, error)| self.lanes.failed(lane, error));
            // Also the lanes of rows that only wait behind others: such a lane may have ended meanwhile.
            cycle.moved.keys().for_each(|lane| self.lanes.begin(lane));
        }
        Ok(cycle)
    }

    /// Sends one event, unless others for its destination wait. Returns its row, its destination, and the result.
    async fn send(&self, lane: &str, row: Row) -> (i64, String, Sent) {
        let (seq, destination) = (row.seq, row.destination.clone());
        if lane == READY && self.lanes.waits(&destination) {
            return (seq, destination, Sent::Behind);
        }
        let Some(mut message) = row.message() else {
            return (seq, destination, Sent::Failed(PublishError::Unroutable));
        };
        let span = message.span(&self.bus.spans);
        let (event, written_us) = (message.event.clone(), message.published_us);
        let workflow = message.context.workflow.clone();
        match self.bus.send(message).await {
            Ok(()) => {
                let seconds = (now_us() - written_us).max(0) as f64 / 1e6;
                telemetry::published(span, &workflow, &event, seconds);
                (seq, destination, Sent::Confirmed)
            }
            Err(error) => (seq, destination, Sent::Failed(error)),
        }
    }
}

impl Row {
    /// The message of the row; `None` if this version does not know its destination.
    fn message(self) -> Option<Message> {
        let Row { message_id, event, destination, context, body, created_at, .. } = self;
        Some(Message {
            id: message_id.to_string(),
            event: event.into(),
            address: Address::Event(Destination::named(&destination)?),
            context: context.0,
            published_us: (created_at.unix_timestamp_nanos() / 1000) as i64,
            body,
            failure: None,
        })
    }
}

/// The result of sending a row.
enum Sent {
    Confirmed,
    /// Not sent, because others for its destination wait.
    Behind,
    Failed(PublishError),
}

/// The result of sending a batch.
#[derive(Default)]
struct Cycle {
    taken: usize,
    /// Rows that were confirmed, if others were not.
    confirmed: Vec<i64>,
    /// Rows that wait from now on, by their lane.
    moved: BTreeMap<String, Vec<i64>>,
    /// Why rows of a lane could not be sent.
    failed: BTreeMap<String, PublishError>,
    /// Nothing can be sent to any destination.
    stuck: bool,
}

impl Cycle {
    fn sort(&mut self, lane: &str, sent: Vec<(i64, String, Sent)>) {
        for (seq, destination, outcome) in sent {
            let (target, error) = match outcome {
                Sent::Confirmed => {
                    self.confirmed.push(seq);
                    continue;
                }
                Sent::Failed(PublishError::Disconnected | PublishError::Blocked) => {
                    self.stuck = true;
                    continue;
                }
                Sent::Behind => (destination, None),
                Sent::Failed(PublishError::TooLarge) => {
                    (lanes::too_large(&destination), Some(PublishError::TooLarge))
                }
                Sent::Failed(error) => (destination, Some(error)),
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

/// Whether there is a row to send.
#[derive(Clone, Copy)]
enum Backlog {
    Known,
    /// Look before opening a transaction, which costs more.
    Unknown,
}

const ANY_READY: &str = "SELECT EXISTS (SELECT FROM outbox WHERE waits_for = '')";
/// By the rows' `ctid`, which cannot change while they are locked.
const TAKE: &str = "DELETE FROM outbox WHERE ctid = ANY (ARRAY(
         SELECT ctid FROM outbox WHERE waits_for = $1 ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED))
     RETURNING seq, message_id, event, destination, context, body, created_at";
/// `BETWEEN` keeps PostgreSQL from reading the rest of the lane.
const DELETE: &str = "DELETE FROM outbox WHERE waits_for = $1 AND seq BETWEEN $2 AND $3 AND seq = ANY ($4)";
const MOVE: &str =
    "UPDATE outbox SET waits_for = $5 WHERE waits_for = $1 AND seq BETWEEN $2 AND $3 AND seq = ANY ($4)";
const BACKLOG: &str = "SELECT waits_for, count(*), extract(epoch FROM now() - min(created_at))::float8
     FROM outbox GROUP BY waits_for";

/// A lane: its name, the number of its rows, and the age of the oldest in seconds.
type LaneSize = (String, i64, f64);

async fn backlog(db: &Db) -> Result<Vec<LaneSize>, sqlx::Error> {
    let mut connection = db.background_connection().await?;
    sqlx::query_as(BACKLOG).fetch_all(&mut *connection).await
}

/// A stored context. If it cannot be read, perhaps because another version wrote it, the event gets a workflow of its own and
/// does not block its batch.
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
            "INSERT INTO outbox (waits_for, message_id, event, destination, context, body)
             SELECT $1, gen_random_uuid(), 'E', 'q', '{}', '' FROM generate_series(1, $2)",
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
        // Blocked rows in front are not read: a few pages for a batch, however many rows wait.
        let explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) EXECUTE take ('', 200)";
        let plan: Json<serde_json::Value> = sqlx::query_scalar(explain).fetch_one(&mut relay).await.unwrap();
        let hits = plan.0[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap();
        assert!(hits < 1500, "{hits} blocks for 200 rows");
        owner.close().await.unwrap();
        relay.close().await.unwrap();
        sandbox.close().await;
    }
}
