//! The service's own schema in PostgreSQL: a pool that is opened without waiting for the server, a keeper that
//! waits for it, migrates, and notices when it is away, so that requests are refused at once instead of queueing.

use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use contract::Failpoint;
use futures_util::future::join_all;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::DatabaseSettings;
use crate::{failpoint, metrics};

mod address;
mod pool;
pub use pool::Connection;
use pool::{ACQUIRE_TIMEOUT, Counts, Pool};

/// A transaction in the service's schema. Dropped without a commit it is rolled back.
pub struct Tx {
    connection: Connection,
    begun: Instant,
    /// What it leaves in the outbox.
    #[cfg(feature = "amqp")]
    pub(crate) events: crate::outbox::Events,
}

impl Tx {
    /// With the events that were left in it, which the relay then sends.
    ///
    /// # Errors
    /// As the database; then it is not known whether it took effect.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        #[cfg(feature = "amqp")]
        self.events.write(&mut self.connection).await?;
        failpoint::pass(Failpoint::BeforeCommit);
        self.connection.commit().await?;
        self.connection.release();
        metrics::get().db_transaction.observe(self.begun.elapsed().as_secs_f64());
        failpoint::pass(Failpoint::AfterCommit);
        #[cfg(feature = "amqp")]
        self.events.committed().await;
        Ok(())
    }
}

impl Deref for Tx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Outbox, inbox and idempotency keys: the same in every service, numbered apart from the service's own.
pub(crate) static COMMON: Migrator = sqlx::migrate!();

/// For the relay. The outbox is empty at one time and has a long backlog at another, and plans are kept: what the statistics say
/// of it may be wrong, its key is always right.
pub(crate) const BY_KEY: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("enable_bitmapscan", "off")];
/// For the keeper's own: on a machine that is short of time a login takes seconds, and giving up only costs more of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the relay's batches, two destinations that keep it waiting, and what is done from time to time.
const RELAY_CONNECTIONS: u32 = 4;
/// Connections that are opened before they are needed.
const WARM: usize = 5;
const PING_EVERY: Duration = Duration::from_millis(500);

/// Handle to the service's schema. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    /// The outbox's own connections: publishing must not wait behind requests.
    relay: Pool,
    ready: watch::Receiver<bool>,
}

/// The task that keeps [`Db`] honest.
pub struct Keeper {
    /// Outside the pool, so that a pool that is busy is not taken for a server that is away.
    options: PgConnectOptions,
    /// For people, with the setting that says so.
    place: String,
    pool: Pool,
    requests: Pool,
    schema: String,
    migrations: &'static Migrator,
    migrated: bool,
    ready: watch::Sender<bool>,
}

impl Db {
    /// Opens the pools without connecting.
    ///
    /// # Errors
    /// One line, when the settings are missing or malformed.
    pub fn open(
        settings: &DatabaseSettings,
        service: &str,
        migrations: &'static Migrator,
    ) -> Result<(Db, Keeper), String> {
        let schema = settings.db_schema.clone().unwrap_or_else(|| service.to_owned());
        let (options, setting) = address::options(settings)?;
        let place = format!("{} ({setting})", address::place(&options));
        let options = options.application_name(service).options([
            ("search_path", schema.as_str()),
            ("statement_timeout", "10s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ]);
        // A relay's delete may be lost in a crash: the event is then sent again and recognised. No need to sync the log.
        let relayed = options.clone().options([("synchronous_commit", "off")]).options(BY_KEY);
        let (ready, watched) = watch::channel(false);
        let db = Db {
            pool: Pool::new(options.clone(), settings.db_pool_size),
            relay: Pool::new(relayed, RELAY_CONNECTIONS),
            ready: watched,
        };
        let (pool, requests) = (db.relay.clone(), db.pool.clone());
        Ok((db, Keeper { options, place, pool, requests, schema, migrations, migrated: false, ready }))
    }

    /// For single statements.
    ///
    /// # Errors
    /// At once while the database is away or not migrated yet; within 2 s when no connection is free.
    pub async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        self.timed(self.pool.acquire()).await
    }

    /// For statements that belong together.
    ///
    /// # Errors
    /// As [`Db::acquire`].
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        let mut connection = self.acquire().await?;
        connection.begin().await?;
        Ok(Tx {
            connection,
            begun: Instant::now(),
            #[cfg(feature = "amqp")]
            events: crate::outbox::Events::default(),
        })
    }

    /// Waiting that ends in a refusal counts, too: it is what a pool that is too small looks like.
    async fn timed<T>(&self, get: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        if !self.is_ready() {
            return Err(sqlx::Error::PoolClosed);
        }
        let asked = Instant::now();
        let got = get.await;
        metrics::get().db_acquire.observe(asked.elapsed().as_secs_f64());
        got
    }

    /// Brings the gauges of the pools up to date.
    pub(crate) fn measure(&self) {
        let metrics = metrics::get();
        for (name, pool) in [("requests", &self.pool), ("relay", &self.relay)] {
            let Counts { idle, used, most } = pool.counts();
            metrics.db_connections.with_label_values(&[name, "idle"]).set(idle as i64);
            metrics.db_connections.with_label_values(&[name, "used"]).set(used as i64);
            metrics.db_connections_max.with_label_values(&[name]).set(most as i64);
        }
    }

    /// For the outbox and for what nobody waits for: a lost commit does no harm.
    ///
    /// # Errors
    /// As [`Db::acquire`].
    pub(crate) async fn relay(&self) -> Result<Connection, sqlx::Error> {
        self.relay.acquire().await
    }

    /// Whether the database answered lately and is migrated.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Returns when the database is there.
    pub async fn wait_ready(&self) {
        // An error means that the keeper has ended, and with it the process.
        if self.ready.clone().wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn close(&self) {
        self.relay.close().await;
        self.pool.close().await;
    }
}

impl Keeper {
    /// Waits for the server, migrates, then looks after it until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut waiting = false;
        loop {
            let cause = tokio::select! {
                () = stop.cancelled() => return,
                cause = self.keep() => cause,
            };
            if self.ready.send_replace(false) || !waiting {
                tracing::warn!(cause = format!("{cause:#}"), "waiting for PostgreSQL at {}", self.place);
                waiting = true;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }

    /// Connects, migrates, and pings until that fails: the reason.
    async fn keep(&mut self) -> anyhow::Error {
        match self.watch().await {
            Ok(never) => match never {},
            Err(cause) => cause,
        }
    }

    async fn watch(&mut self) -> anyhow::Result<Infallible> {
        use sqlx::{ConnectOptions, Connection};
        let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect()).await??;
        // Once, unless it is another, empty server that came back: ten services that all come back have better to do.
        let there = sqlx::query_scalar("SELECT to_regclass('idempotency_keys') IS NOT NULL");
        if !(self.migrated && there.fetch_one(&mut connection).await?) {
            self.migrate().await?;
            self.migrated = true;
        }
        if !self.ready.send_replace(true) {
            tracing::info!(schema = self.schema, "database is ready");
        }
        // A login costs milliseconds of hashing on both sides: not at the expense of the first requests.
        let warm = join_all((0..WARM).map(|_| self.requests.acquire())).await;
        drop(warm);
        loop {
            tokio::time::timeout(ACQUIRE_TIMEOUT, connection.ping()).await??;
            self.requests.trim().await;
            self.pool.trim().await;
            tokio::time::sleep(PING_EVERY).await;
        }
    }

    async fn migrate(&self) -> anyhow::Result<()> {
        let mut connection = self.pool.acquire().await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
            .bind(&self.schema)
            .fetch_one(&mut *connection)
            .await?;
        if !exists {
            // Two instances that start together race for it: the loser's error is no news.
            let create = format!(r#"CREATE SCHEMA IF NOT EXISTS "{}""#, self.schema.replace('"', "\"\""));
            connection.execute(sqlx::AssertSqlSafe(create)).await?;
        }
        let mut common = Migrator { migrations: COMMON.migrations.clone(), ..Migrator::DEFAULT };
        common.dangerous_set_table_name("_common_migrations");
        common.run_direct(None, &mut *connection, false).await?;
        self.migrations.run_direct(None, &mut *connection, false).await?;
        if failpoint::COMPILED_IN {
            connection.execute(failpoint::WITNESS).await?;
        }
        Ok(())
    }
}

/// Whether time may heal it: the server is away, starting, full, or a lock was not to be had.
pub fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // PostgreSQL, appendix A: 08 connection, 40 rollback (deadlock), 53 resources, 55P03 lock, 57 intervention.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "55P03"
        }),
        _ => false,
    }
}

/// Whether the values themselves cannot be stored: PostgreSQL's class 22, such as the character NUL in a text.
pub fn refuses_data(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.code().is_some_and(|code| code.starts_with("22")))
}

/// Whether the statement gave up waiting for a lock.
pub fn waited_for_lock(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.code().is_some_and(|code| code == "55P03"))
}

/// Whether the statement broke the unique constraint or index `name`.
pub fn violates(error: &sqlx::Error, name: &str) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.is_unique_violation() && e.constraint() == Some(name))
}
