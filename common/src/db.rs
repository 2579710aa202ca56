//! The service's own schema in PostgreSQL. The pool opens without waiting for the server. A monitor waits for the server,
//! migrates the schema, and detects outages, so that requests are refused at once instead of queueing.

#[cfg(feature = "messaging")]
use std::any::Any;
use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use contract::Failpoint;
#[cfg(feature = "messaging")]
use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::DatabaseSettings;
use crate::outage::Outage;
use crate::{ApiError, failpoint, metrics};

mod address;
mod pool;
pub use pool::Connection;
use pool::{ACQUIRE_TIMEOUT, Counts, Pool};

/// A transaction in the service's schema. It is rolled back if it is dropped without a commit.
pub struct Tx {
    connection: Connection,
    begun: Instant,
    #[cfg(feature = "messaging")]
    hooks: Vec<Box<dyn CommitHook>>,
}

/// What a module attaches to a transaction: statements before the commit, an action after it.
#[cfg(feature = "messaging")]
pub(crate) trait CommitHook: Any + Send {
    fn before_commit<'a>(&'a mut self, tx: &'a mut PgConnection) -> BoxFuture<'a, Result<(), sqlx::Error>>;

    fn after_commit(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl Tx {
    /// Commits, and runs the hooks: the events that the outbox attached are written before and sent after the commit.
    ///
    /// # Errors
    /// As the database; then it is not known whether the transaction took effect.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        #[cfg(feature = "messaging")]
        for hook in &mut self.hooks {
            hook.before_commit(&mut self.connection).await?;
        }
        failpoint::pass(Failpoint::BeforeCommit);
        self.connection.commit().await?;
        // Back to the pool before the hooks run.
        drop(self.connection);
        metrics::get().db_transaction.observe(self.begun.elapsed().as_secs_f64());
        failpoint::pass(Failpoint::AfterCommit);
        #[cfg(feature = "messaging")]
        for hook in self.hooks {
            hook.after_commit().await;
        }
        Ok(())
    }

    /// The hook of this type; `new` makes it on first use.
    #[cfg(feature = "messaging")]
    pub(crate) fn hook<H: CommitHook>(&mut self, new: impl FnOnce() -> H) -> &mut H {
        let known = self.hooks.iter().position(|hook| (&**hook as &dyn Any).is::<H>());
        let at = known.unwrap_or_else(|| {
            self.hooks.push(Box::new(new()));
            self.hooks.len() - 1
        });
        let hook: &mut dyn Any = &mut *self.hooks[at];
        hook.downcast_mut().expect("the hook at this position has this type")
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

/// Planner settings for the relay. PostgreSQL keeps plans while the outbox changes between empty and a long backlog, so
/// statistics may mislead the planner. The primary key is always the right index.
pub(crate) const BY_KEY: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("enable_bitmapscan", "off")];
/// Time limit for the monitor's login. On an overloaded machine a login takes seconds, and a retry adds to the load.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the relay's batches, two destinations that do not answer, and periodic work.
const BACKGROUND_CONNECTIONS: u32 = 4;
/// Connections that are opened before the first request.
const WARM: usize = 5;
/// Rows that one statement of [`Db::delete_in_chunks`] deletes.
const CHUNK: u64 = 10_000;
const PING_EVERY: Duration = Duration::from_millis(500);

/// Handle to the service's schema. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    requests: Pool,
    /// Separate from `requests`, so that publishing does not wait behind requests.
    background: Pool,
    ready: watch::Receiver<bool>,
}

/// Monitors the database and updates [`Db`]'s readiness.
pub struct DbMonitor {
    /// For a connection outside the pools, so that a busy pool does not look like an outage.
    options: PgConnectOptions,
    /// The server and the setting that names it, for log messages.
    place: String,
    requests: Pool,
    background: Pool,
    schema: String,
    migrations: &'static Migrator,
    migrated: bool,
    ready: watch::Sender<bool>,
}

impl Db {
    /// Creates the pools without connecting.
    ///
    /// # Errors
    /// One line, when the settings are missing or malformed.
    pub fn open(
        settings: &DatabaseSettings,
        service: &str,
        migrations: &'static Migrator,
    ) -> Result<(Db, DbMonitor), String> {
        let schema = settings.db_schema.clone().unwrap_or_else(|| contract::schema_of(service));
        let (options, setting) = address::options(settings)?;
        let place = format!("{} ({setting})", address::place(&options));
        let options = options.application_name(service).options([
            ("search_path", schema.as_str()),
            ("statement_timeout", "10s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ]);
        // A crash may lose a relay's delete; then the event is sent again and the inbox recognises it. So the relay need not
        // wait for the log to reach the disk.
        let background = options.clone().options([("synchronous_commit", "off")]).options(BY_KEY);
        let (ready, watched) = watch::channel(false);
        let db = Db {
            requests: Pool::new(options.clone(), settings.db_pool_size),
            background: Pool::new(background, BACKGROUND_CONNECTIONS),
            ready: watched,
        };
        let (requests, background) = (db.requests.clone(), db.background.clone());
        let monitor =
            DbMonitor { options, place, requests, background, schema, migrations, migrated: false, ready };
        Ok((db, monitor))
    }

    /// A connection for single statements. Drop it when the statement is done.
    ///
    /// # Errors
    /// At once while the database is unavailable or not migrated; after 2 s when no connection is free.
    pub async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        self.timed(self.requests.acquire()).await
    }

    /// A transaction, for statements that belong together.
    ///
    /// # Errors
    /// As [`Db::acquire`].
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        let mut connection = self.acquire().await?;
        connection.begin().await?;
        Ok(Tx {
            connection,
            begun: Instant::now(),
            #[cfg(feature = "messaging")]
            hooks: Vec::new(),
        })
    }

    /// Observes the waiting time also when it ends in a refusal: that is how a pool that is too small shows.
    async fn timed<T>(&self, get: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        if !self.is_ready() {
            return Err(sqlx::Error::PoolClosed);
        }
        let asked = Instant::now();
        let got = get.await;
        metrics::get().db_acquire.observe(asked.elapsed().as_secs_f64());
        got
    }

    /// Updates the gauges of the pools.
    pub(crate) fn measure(&self) {
        let metrics = metrics::get();
        for (name, pool) in [("requests", &self.requests), ("relay", &self.background)] {
            let Counts { idle, used, most } = pool.counts();
            metrics.db_connections.with_label_values(&[name, "idle"]).set(idle as i64);
            metrics.db_connections.with_label_values(&[name, "used"]).set(used as i64);
            metrics.db_connections_max.with_label_values(&[name]).set(most as i64);
        }
    }

    /// A connection for the outbox and for periodic work, where a lost commit does no harm.
    ///
    /// # Errors
    /// When the server cannot be reached, or after 2 s when no connection is free.
    pub(crate) async fn background_connection(&self) -> Result<Connection, sqlx::Error> {
        self.background.acquire().await
    }

    /// Deletes the rows of `table` that meet `condition`. One statement for all of them could take longer than
    /// `statement_timeout`, and then deletes none.
    ///
    /// # Errors
    /// As the database. The chunks that were deleted before are gone.
    pub(crate) async fn delete_in_chunks(&self, table: &str, condition: &str) -> Result<(), sqlx::Error> {
        let delete = format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {condition} LIMIT {CHUNK}))"
        );
        loop {
            let mut connection = self.background_connection().await?;
            let deleted = sqlx::query(AssertSqlSafe(delete.as_str())).execute(&mut *connection).await?;
            if deleted.rows_affected() < CHUNK {
                return Ok(());
            }
        }
    }

    /// Whether the database answered recently and is migrated.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Returns when the database is ready.
    pub async fn wait_ready(&self) {
        // An error means that the monitor has ended, and the process ends with it.
        if self.ready.clone().wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn close(&self) {
        self.background.close().await;
        self.requests.close().await;
    }
}

impl DbMonitor {
    /// Waits for the server, migrates the schema, then monitors the server until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let outage = Outage::default();
        loop {
            let cause = tokio::select! {
                () = stop.cancelled() => return,
                cause = self.monitor() => cause,
            };
            if self.ready.send_replace(false) {
                outage.end();
            }
            let cause = format!("{cause:#}");
            if outage.is_new(&cause) {
                tracing::warn!(cause, "waiting for PostgreSQL at {}", self.place);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }

    /// Connects, migrates, and pings until one of them fails; returns the cause.
    async fn monitor(&mut self) -> anyhow::Error {
        match self.watch().await {
            Ok(never) => match never {},
            Err(cause) => cause,
        }
    }

    async fn watch(&mut self) -> anyhow::Result<Infallible> {
        use sqlx::{ConnectOptions, Connection};
        let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect()).await??;
        // Once per process, unless the server came back empty: migrations cost time when ten services reconnect at once.
        let migrated = sqlx::query_scalar("SELECT to_regclass('idempotency_keys') IS NOT NULL");
        if !(self.migrated && migrated.fetch_one(&mut connection).await?) {
            self.migrate(&mut connection).await?;
            self.migrated = true;
        }
        if !self.ready.send_replace(true) {
            tracing::info!(schema = self.schema, "database is ready");
        }
        // A login costs milliseconds of hashing on both sides, which the first requests should not pay. The logins begin together,
        // and each connection is free at once: the pool may be smaller than `WARM`, and requests wait for it.
        join_all((0..WARM).map(|_| async { drop(self.requests.acquire().await) })).await;
        loop {
            tokio::time::timeout(ACQUIRE_TIMEOUT, connection.ping()).await??;
            self.requests.trim().await;
            self.background.trim().await;
            tokio::time::sleep(PING_EVERY).await;
        }
    }

    /// On the monitor's own connection: sqlx holds a lock for the session, and after an error only the end of the session
    /// releases it. The lock is the same for all services in a database.
    async fn migrate(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
            .bind(&self.schema)
            .fetch_one(&mut *connection)
            .await?;
        if !exists {
            // Two instances that start together race; IF NOT EXISTS keeps the loser from failing.
            let create = format!(r#"CREATE SCHEMA IF NOT EXISTS "{}""#, self.schema.replace('"', "\"\""));
            connection.execute(AssertSqlSafe(create)).await?;
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

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> ApiError {
        if is_outage(&error) {
            tracing::debug!(%error, "database is unavailable");
            ApiError::Unavailable("the database cannot be reached or is overloaded".into())
        } else {
            ApiError::Internal(error.into())
        }
    }
}

/// Whether the error is temporary: the server is unavailable, starting or full, or a lock timed out.
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

/// Whether PostgreSQL refused the values themselves (class 22), such as the character NUL in a text.
pub fn refuses_data(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.code().is_some_and(|code| code.starts_with("22")))
}

/// Whether the statement timed out waiting for a lock.
pub fn waited_for_lock(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.code().is_some_and(|code| code == "55P03"))
}

/// Whether the statement violated the unique constraint or index `name`.
pub fn violates(error: &sqlx::Error, name: &str) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.is_unique_violation() && e.constraint() == Some(name))
}
