//! RabbitMQ, by lapin. Two connections, each with a supervisor that rebuilds everything after any failure: lapin's own recovery
//! restores neither closed channels nor cancelled consumers.

mod address;
mod consumer;
mod frames;
mod publisher;
mod topology;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Bus, Endpoint, PublisherHandle, backoff};
use crate::Db;
use crate::config::AmqpSettings;
#[cfg(feature = "testing")]
pub(crate) use topology::route;

/// In the log.
const BROKER: &str = "RabbitMQ";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for lapin to report why it closed its socket.
const REASON_TIMEOUT: Duration = Duration::from_millis(100);

/// A connection to RabbitMQ.
struct Link {
    connection: Connection,
    /// Whether lapin reads and writes. lapin's own state does not tell: a call after lapin's thread has ended can wait forever.
    open: watch::Receiver<bool>,
}

impl Link {
    /// Returns the reason when the connection no longer reads or writes.
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

/// A process's side of RabbitMQ.
#[derive(Clone)]
pub(crate) struct Amqp {
    address: AMQPUri,
    endpoint: Endpoint,
}

impl Amqp {
    /// # Errors
    /// One line, when the broker's address is missing or wrong.
    pub(super) fn new(settings: &AmqpSettings, endpoint: Endpoint) -> Result<Amqp, String> {
        Ok(Amqp { address: address::address(settings)?, endpoint })
    }

    pub(super) async fn publish(self, publisher: watch::Sender<PublisherHandle>, stop: CancellationToken) {
        // The broker's limit on the size of a message. Known once the broker has refused a larger one. Forgotten when a
        // connection ends for another reason, because the next one may lead to another broker or to other settings.
        let max_size = AtomicUsize::new(usize::MAX);
        while let Some(link) = self.connect("publisher", &stop).await {
            let known = max_size.load(Ordering::Relaxed);
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = self.publish_on(&link.connection, &publisher, &max_size) => ended,
                why = link.lost() => Err(why),
            };
            if max_size.load(Ordering::Relaxed) == known {
                max_size.store(usize::MAX, Ordering::Relaxed);
            }
            publisher.send_replace(None);
            self.close(link, ended, "publisher", &stop).await;
        }
    }

    pub(super) async fn consume(
        self,
        bus: Bus,
        db: Option<Db>,
        connected: watch::Sender<bool>,
        stop: CancellationToken,
    ) {
        loop {
            if !backoff::database_ready(db.as_ref(), &stop).await {
                return;
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

    /// Connects, however long it takes; `None` when stopped.
    async fn connect(&self, role: &str, stop: &CancellationToken) -> Option<Link> {
        let attempt = || async {
            let name = format!("{} {role}", self.endpoint.service);
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            let (runtime, open) = frames::runtime();
            let connecting = Connection::connect_uri_with_runtime(self.address.clone(), properties, runtime);
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => Ok(Link { connection, open }),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer within 5 s".into()),
            }
        };
        backoff::connect(BROKER, role, stop, attempt).await
    }

    async fn close(&self, link: Link, ended: anyhow::Result<()>, role: &str, stop: &CancellationToken) {
        backoff::ended(ended, BROKER, role, stop).await;
        let closing = link.connection.close(200, "bye".into());
        if !matches!(tokio::time::timeout(Duration::from_secs(1), closing).await, Ok(Ok(()))) {
            tracing::debug!(role, "connection was gone before it was closed");
        }
    }
}
