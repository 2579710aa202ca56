//! Kafka, by librdkafka. An event is a record in the topic of its destination, with the workflow's id as its key, or a field
//! that the destination names. Each queue is a group of consumers; one that has several destinations has a member for each. A failed
//! event stays unsettled in the process until it is tried again.

mod consumer;
mod offsets;
mod producer;
#[cfg(feature = "testing")]
pub(crate) mod testing;
mod topics;

use std::fmt;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Bus, Endpoint, PublisherHandle, backoff};
use crate::Db;
use crate::config::KafkaSettings;
use topics::Names;

/// In the log.
const BROKER: &str = "Kafka";

/// A process's side of Kafka.
#[derive(Clone)]
pub(crate) struct Kafka {
    bootstrap: String,
    names: Names,
    endpoint: Endpoint,
}

impl Kafka {
    /// # Errors
    /// One line, when the broker's address is missing or wrong.
    pub(super) fn new(settings: &KafkaSettings, endpoint: Endpoint) -> Result<Kafka, String> {
        let names = Names { prefix: settings.kafka_prefix.clone() };
        Ok(Kafka { bootstrap: settings.bootstrap()?, names, endpoint })
    }

    pub(super) async fn publish(self, publisher: watch::Sender<PublisherHandle>, stop: CancellationToken) {
        while self.connect("publisher", &stop).await {
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = self.publish_until_lost(&publisher) => ended,
            };
            publisher.send_replace(None);
            backoff::ended(ended, BROKER, "publisher", &stop).await;
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
            if !backoff::database_ready(db.as_ref(), &stop).await || !self.connect("consumer", &stop).await {
                return;
            }
            let ended = self.consume_until_lost(&bus, &connected, &stop).await;
            connected.send_replace(false);
            backoff::ended(ended, BROKER, "consumer", &stop).await;
        }
    }

    /// Returns true when the broker answers and has the topics of this process; false when stopped.
    async fn connect(&self, role: &str, stop: &CancellationToken) -> bool {
        let attempt = || async { self.create_topics().await.map_err(|cause| format!("{cause:#}")) };
        backoff::connect(BROKER, role, stop, attempt).await.is_some()
    }

    async fn create_topics(&self) -> anyhow::Result<()> {
        let (config, topics) = (self.config(), self.names.topics(&self.endpoint));
        let runtime = Handle::current();
        on_a_thread(move || runtime.block_on(topics::create(config, &topics))).await?
    }

    /// What all clients have in common.
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", self.endpoint.service)
            .set("socket.nagle.disable", "true")
            // A broker that does not answer is given up after this time.
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A topic that was deleted is an error at once, not after 30 s.
            .set("topic.metadata.propagation.max.ms", "0")
            .set("topic.metadata.refresh.interval.ms", "5000");
        config
    }
}

/// Runs what can block, or never end, on a thread that the end of the process does not wait for.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("kafka".into()).spawn(move || drop(done.send(work())))?;
    Ok(result.await?)
}

/// What librdkafka reports beside messages: its log, and that the broker is lost.
#[derive(Clone, Debug)]
struct Reports {
    lost: watch::Sender<Option<String>>,
}

impl Default for Reports {
    fn default() -> Reports {
        Reports { lost: watch::Sender::new(None) }
    }
}

impl Reports {
    /// The client is of no use any more. The first cause counts.
    fn lose(&self, cause: impl fmt::Display) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert_with(|| cause.to_string());
            first
        });
    }

    fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Returns the cause when the client is lost.
    async fn cause(&self) -> anyhow::Error {
        let mut lost = self.lost.subscribe();
        let cause = lost.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
        anyhow::anyhow!(cause.unwrap_or_default())
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Fatal) => self.lose(reason),
            _ => tracing::debug!(%error, reason, "librdkafka"),
        }
    }
}
