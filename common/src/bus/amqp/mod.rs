//! RabbitMQ: only the files in this folder name lapin. Two connections, each under a supervisor of its own that builds
//! everything anew after any failure: lapin's recovery heals neither closed channels nor cancelled consumers.

mod address;
mod consumer;
mod frames;
mod publisher;
mod topology;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use contract::events::Destination;
use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::consume::Subscription;
use super::{Bus, Line};
use crate::Db;
pub(crate) use address::address;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For lapin to say why it has closed its socket.
const REASON_TIMEOUT: Duration = Duration::from_millis(100);

/// A connection to RabbitMQ.
struct Link {
    connection: Connection,
    /// Whether lapin reads and writes. lapin's own state is no measure: a call that comes when lapin's thread has ended can
    /// wait forever.
    open: watch::Receiver<bool>,
}

impl Link {
    /// Returns when nothing is read or written any more, with the reason.
    async fn lost(&self) -> anyhow::Error {
        let errors = self
            .connection
            .events_listener()
            .filter_map(|event| async { if let Event::Error(error) = event { Some(error) } else { None } });
        let mut errors = std::pin::pin!(errors);
        let closed = async {
            drop(self.open.clone().wait_for(|open| !open).await);
            tokio::time::sleep(REASON_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            Some(error) = errors.next() => error.into(),
            () = closed => anyhow!("the connection is closed"),
        }
    }
}

/// What one process needs of the broker.
#[derive(Clone)]
pub(crate) struct Amqp {
    pub address: AMQPUri,
    pub service: &'static str,
    pub publishes: Arc<[Destination]>,
    pub subscriptions: Arc<[Subscription]>,
    pub prefetch: u16,
}

impl Amqp {
    /// Keeps a publisher connected until `stop`; `line` leads to it while it is.
    pub(crate) async fn publisher(self, line: watch::Sender<Line>, stop: CancellationToken) {
        // Of a message. Known once the broker has refused a larger one, and forgotten with a connection that ends otherwise: then
        // it may be another broker, or have other settings.
        let max_size = AtomicUsize::new(usize::MAX);
        while let Some(link) = self.connect("publisher", &stop).await {
            let known = max_size.load(Ordering::Relaxed);
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = self.publish_on(&link.connection, &line, &max_size) => ended,
                why = link.lost() => Err(why),
            };
            if max_size.load(Ordering::Relaxed) == known {
                max_size.store(usize::MAX, Ordering::Relaxed);
            }
            line.send_replace(None);
            self.close(link, ended, "publisher", &stop).await;
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
            let Some(link) = self.connect("consumer", &stop).await else { return };
            let ended = tokio::select! {
                biased;
                ended = self.consume_on(&link.connection, &bus, &connected, &stop) => ended,
                why = link.lost() => Err(why),
            };
            connected.send_replace(false);
            self.close(link, ended, "consumer", &stop).await;
        }
    }

    /// A connection, however long it takes; `None` when told to stop.
    async fn connect(&self, role: &str, stop: &CancellationToken) -> Option<Link> {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let name = format!("{} {role}", self.service);
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            let (runtime, open) = frames::runtime();
            let connecting = Connection::connect_uri_with_runtime(self.address.clone(), properties, runtime);
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connecting);
            let cause = tokio::select! {
                () = stop.cancelled() => return None,
                connected = connecting => match connected {
                    Ok(Ok(connection)) => return Some(Link { connection, open }),
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

    async fn close(&self, link: Link, ended: anyhow::Result<()>, role: &str, stop: &CancellationToken) {
        match ended.map_err(|cause| format!("{cause:#}")) {
            Ok(()) => {}
            Err(cause) if stop.is_cancelled() => {
                tracing::warn!(cause, role, "connection to RabbitMQ ended before its work");
            }
            Err(cause) => {
                tracing::warn!(cause, role, "connection to RabbitMQ is built anew");
                // A broker that refuses at once must not be asked in a tight loop.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let closing = link.connection.close(200, "bye".into());
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
