//! Connections that are shared. sqlx's own pool asks the server after each use whether the connection is still in order, which
//! doubles the round trips of a single statement; here whoever was served well says so, and nobody asks.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleResult};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, Executor, PgConnection};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// A request waits this long for a connection, and then gets 503.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that rested longer is tested before use.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);
/// A connection that rested longer is closed.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// A server process keeps what its connection ever needed: at this age it is replaced.
const AGE: Duration = Duration::from_secs(30 * 60);
/// Longer than the database works on a statement: after it, whoever is silent is not waited for.
const TIDY_TIMEOUT: Duration = Duration::from_secs(12);

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

/// How many connections a pool has.
pub(super) struct Counts {
    pub idle: usize,
    pub used: usize,
    pub most: usize,
}

impl Pool {
    /// Nothing is connected yet.
    pub(super) fn new(options: PgConnectOptions, size: u32) -> Pool {
        // The one that was used last comes first: it and its server process are at hand.
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

    /// Closes what rested for long.
    pub(super) async fn trim(&self) {
        self.remove(|metrics| metrics.last_used() > IDLE).await;
    }

    /// Those that are in use are closed when they come back.
    pub(super) async fn close(&self) {
        self.remove(|_| true).await;
        self.0.close();
    }

    async fn remove(&self, which: impl Fn(&Metrics) -> bool) {
        for connection in self.0.retain(|_, metrics| !which(&metrics)).removed {
            // It is gone either way.
            connection.close().await.ok();
        }
    }
}

/// A connection that is shared. Dropped without [`Connection::release`] it is put in order first: a transaction is rolled
/// back, the answer to a statement that nobody waits for any more is waited for.
pub struct Connection {
    object: Option<Object<Manager>>,
    in_transaction: bool,
}

impl Connection {
    /// Gives it back at once. For a connection on which every statement was answered.
    pub fn release(mut self) {
        if !self.in_transaction {
            self.object.take();
        }
    }

    /// Closes it: its statement is not answered.
    pub fn abandon(mut self) {
        drop(self.object.take().map(Object::take));
    }

    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        // From now on nobody knows, until it is ended.
        self.in_transaction = true;
        self.execute("BEGIN").await?;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    #[cfg(feature = "amqp")]
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
        let Some(object) = self.object.take() else { return };
        let Ok(runtime) = Handle::try_current() else {
            drop(Object::take(object));
            return;
        };
        // If it is lost at shutdown, the server finds the connection closed and does the same.
        runtime.spawn(tidy(object, self.in_transaction));
    }
}

async fn tidy(mut object: Object<Manager>, in_transaction: bool) {
    let tidying = async {
        match in_transaction {
            true => object.execute("ROLLBACK").await.map(drop),
            false => object.ping().await,
        }
    };
    if !matches!(timeout(TIDY_TIMEOUT, tidying).await, Ok(Ok(()))) {
        drop(Object::take(object));
    }
}

const HELD: &str = "a connection is held until it is given back";

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
