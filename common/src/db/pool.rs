//! A connection pool that does not ping. sqlx's own pool pings the server whenever a connection is returned, which doubles the
//! round trips of a one-statement request. Here a returned connection is reused at once if sqlx expects no more answers on it;
//! only a connection that was dropped in the middle of a statement or transaction is checked first.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleResult};
use futures_util::FutureExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, Executor, PgConnection};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// The longest wait for a connection; then the request is answered 503.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is tested before use.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is closed.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// A server process keeps the memory that its connection ever needed, so a connection of this age is replaced.
const AGE: Duration = Duration::from_secs(30 * 60);
/// Longer than `statement_timeout`: a server that has not answered by then will not answer.
const RESET_TIMEOUT: Duration = Duration::from_secs(12);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(managed::Pool<Manager>);

struct Manager {
    options: PgConnectOptions,
}

impl managed::Manager for Manager {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    async fn recycle(&self, connection: &mut PgConnection, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if metrics.age() > AGE {
            return Err(sqlx::Error::PoolTimedOut.into());
        }
        if metrics.last_used() > TEST_AFTER_IDLE {
            connection.ping().await?;
        }
        Ok(())
    }
}

/// The number of a pool's connections.
pub(super) struct Counts {
    pub idle: usize,
    pub used: usize,
    pub most: usize,
}

impl Pool {
    /// Creates the pool without connecting.
    pub(super) fn new(options: PgConnectOptions, size: u32) -> Pool {
        // Last in, first out: the connection that was used last is still in the caches, on both sides.
        let pool = managed::Pool::builder(Manager { options })
            .max_size(size as usize)
            .queue_mode(QueueMode::Lifo)
            .build();
        Pool(pool.expect("no time limits, so no runtime is needed"))
    }

    pub(super) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        match timeout(ACQUIRE_TIMEOUT, self.0.get()).await {
            Ok(Ok(object)) => Ok(Connection { object: Some(object), in_transaction: false }),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(_)) | Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let status = self.0.status();
        let idle = status.available;
        Counts { idle, used: status.size.saturating_sub(idle), most: status.max_size }
    }

    /// Closes connections that were idle for long.
    pub(super) async fn trim(&self) {
        self.remove(|metrics| metrics.last_used() > IDLE).await;
    }

    /// Closes idle connections now, and connections in use when they are returned.
    pub(super) async fn close(&self) {
        self.remove(|_| true).await;
        self.0.close();
    }

    async fn remove(&self, which: impl Fn(&Metrics) -> bool) {
        for connection in self.0.retain(|_, metrics| !which(&metrics)).removed {
            // The connection is gone even if closing fails.
            connection.close().await.ok();
        }
    }
}

/// A pooled connection. Dropping it returns it to the pool: at once if it is clean, else after a reset in the background that
/// rolls back an open transaction or waits for the answer to an abandoned statement.
pub struct Connection {
    object: Option<Object<Manager>>,
    in_transaction: bool,
}

impl Connection {
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        // Before the statement, whose outcome may stay unknown.
        self.in_transaction = true;
        self.execute("BEGIN").await?;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    #[cfg(feature = "messaging")]
    pub(crate) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    async fn end(&mut self, how: &'static str) -> Result<(), sqlx::Error> {
        self.execute(how).await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else { return };
        // `flush` reads the answers that sqlx still expects; without any it is ready at once and does no I/O.
        if !self.in_transaction && matches!(object.flush().now_or_never(), Some(Ok(()))) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            drop(Object::take(object));
            return;
        };
        // If shutdown drops this task, the server rolls back when the connection closes.
        runtime.spawn(reset(object, self.in_transaction));
    }
}

async fn reset(mut object: Object<Manager>, in_transaction: bool) {
    let resetting = async {
        match in_transaction {
            true => object.execute("ROLLBACK").await.map(drop),
            false => object.ping().await,
        }
    };
    if !matches!(timeout(RESET_TIMEOUT, resetting).await, Ok(Ok(()))) {
        drop(Object::take(object));
    }
}

const HELD: &str = "the object is taken only by drop";

impl Deref for Connection {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        self.object.as_ref().expect(HELD)
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.object.as_mut().expect(HELD)
    }
}
