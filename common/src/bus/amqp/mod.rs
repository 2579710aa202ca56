//! RabbitMQ: only the files in this folder name lapin. Two connections, each under a supervisor of its own that builds
//! everything anew after any failure: lapin's recovery heals neither closed channels nor cancelled consumers.

mod consumer;
mod frames;
mod publisher;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::consume::Subscription;
use super::{Bus, Line};
use crate::Db;
use crate::events::Route;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What one process needs of the broker.
#[derive(Clone)]
pub(crate) struct Amqp {
    pub url: String,
    pub service: &'static str,
    pub publishes: Arc<[Route]>,
    pub subscriptions: Arc<[Subscription]>,
    pub prefetch: u16,
}

impl Amqp {
    /// Keeps a publisher connected until `stop`; `line` leads to it while it is.
    pub(crate) async fn publisher(self, line: watch::Sender<Line>, stop: CancellationToken) {
        while let Some(connection) = self.connect("publisher", &stop).await {
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = self.publish_on(&connection, &line) => ended,
            };
            line.send_replace(None);
            self.close(connection, ended, "publisher").await;
        }
    }

    /// Keeps the subscriptions connected until `stop`, while the database is there; `connected` says so.
    pub(crate) async fn consumer(
        self,
        bus: Bus,
        db: Option<Db>,
        connected: watch::Sender<bool>,
        stop: CancellationToken,
    ) {
        loop {
            if let Some(db) = &db {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = db.wait_ready() => {}
                }
            }
            let Some(connection) = self.connect("consumer", &stop).await else { return };
            let ended = self.consume_on(&connection, &bus, &connected, &stop).await;
            connected.send_replace(false);
            self.close(connection, ended, "consumer").await;
        }
    }

    /// A connection, however long it takes; `None` when told to stop.
    async fn connect(&self, role: &str, stop: &CancellationToken) -> Option<Connection> {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let name = format!("{} {role}", self.service);
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            // lapin sets aside 64 frames a connection: the default of 128 KB each is 8 MB.
            let separator = if self.url.contains('?') { '&' } else { '?' };
            let url = format!("{}{separator}frame_max=16384&heartbeat=10", self.url);
            let (runtime, _) = frames::runtime();
            let connecting = Connection::connect_with_runtime(&url, properties, runtime);
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connecting);
            let cause = tokio::select! {
                () = stop.cancelled() => return None,
                connected = connecting => match connected {
                    Ok(Ok(connection)) => return Some(connection),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer within 5 s".into(),
                },
            };
            if failures == 0 {
                tracing::warn!(cause, role, "waiting for RabbitMQ");
            }
            failures += 1;
            pause(failures, stop).await;
        }
        None
    }

    async fn close(&self, connection: Connection, ended: anyhow::Result<()>, role: &str) {
        if let Err(cause) = ended {
            tracing::warn!(cause = format!("{cause:#}"), role, "connection to RabbitMQ is built anew");
            // A broker that refuses at once must not be asked in a tight loop.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let closing = connection.close(200, "bye".into());
        if !matches!(tokio::time::timeout(Duration::from_secs(1), closing).await, Ok(Ok(()))) {
            tracing::debug!(role, "connection was gone before it was closed");
        }
    }
}

/// Backoff up to 1 s, with jitter so that ten services do not come back in step.
async fn pause(failures: u32, stop: &CancellationToken) {
    let longest = 50_u64 << failures.min(5);
    let jitter = u64::from(Uuid::new_v4().as_bytes()[0]) * longest / 512;
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(longest.min(1000) / 2 + jitter)) => {}
    }
}
