//! Publish and consume, for every transport. In reading order:
//!
//! 1. `handler`: what an event handler receives and returns;
//! 2. `subscription`: how a service declares its consumers;
//! 3. `transaction`: how several events share a transaction;
//! 4. `policy`: when a failed event is retried, dead-lettered, or waits;
//! 5. `rewind`: how a consumer begins again at its first event;
//! 6. `consumer`: how the deliveries of one queue are handled;
//! 7. `transport`: what a transport provides, and `headers`: what travels beside the body of a message. Only `amqp` knows RabbitMQ's
//!    client and its terms, only `kafka` those of Kafka.

#[cfg(feature = "amqp")]
pub(crate) mod amqp;
mod backoff;
mod body;
mod consumer;
mod handler;
mod headers;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
mod policy;
mod rewind;
mod subscription;
mod transaction;
pub(crate) mod transport;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use contract::events::Destination;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

pub use handler::{HandlerError, Incoming, Outcome};
pub use policy::Failure;
pub use rewind::Rewind;
pub(crate) use subscription::Subscription;
pub use subscription::{Consumer, Consumers, Input, consumer};
pub use transaction::{TransactionHandler, transaction};

use crate::ApiError;
use crate::context::{Context, now_us};
use crate::events::Event;
use crate::otel::{Span, Spans};
use crate::{failpoint, metrics};

/// The longest wait for the broker's confirm. After it, the outcome is unknown.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// A message for the broker.
#[derive(Clone, Debug)]
pub struct Message {
    /// A UUID in all messages of this system; messages of other publishers keep theirs.
    pub id: String,
    pub event: Cow<'static, str>,
    pub address: Address,
    pub context: Context,
    /// When the event was made, microseconds since the Unix epoch.
    pub published_us: i64,
    pub body: Vec<u8>,
    /// The attempt that failed, in a message that is retried or dead-lettered.
    pub failure: Option<Failure>,
}

/// Where a message goes. A transport translates it to its own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// To all readers of an event.
    Event(Destination),
    /// Back to the queue after a delay.
    Retry { queue: &'static str, after_seconds: u32 },
    /// To the dead-letter queue of the queue, whose events come by this destination.
    DeadLetter { queue: &'static str, destination: Destination },
}

impl Address {
    /// The name of the event's destination, or of the queue.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Address::Event(destination) => destination.name(),
            Address::Retry { queue, .. } | Address::DeadLetter { queue, .. } => queue,
        }
    }
}

/// The body of a message: an event, and the time at which it was made.
#[derive(Serialize)]
struct Stamped<'a, E> {
    #[serde(flatten)]
    event: &'a E,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: time::OffsetDateTime,
}

impl Message {
    /// The message for an event of the workflow `context`.
    ///
    /// # Errors
    /// When the event cannot be represented as JSON.
    pub fn of<E: Event>(event: &E, context: Context) -> serde_json::Result<Message> {
        let body = if E::STAMPED {
            serde_json::to_vec(&Stamped { event, timestamp: time::OffsetDateTime::now_utc() })?
        } else {
            serde_json::to_vec(event)?
        };
        let message = Message::with_body::<E>(body, context);
        // The outbox has UUIDs. Readers take the id from the body whatever it is.
        let id = event.id().filter(|id| Uuid::try_parse(id).is_ok());
        Ok(Message { id: id.map_or(message.id, str::to_owned), ..message })
    }

    /// A message for the readers of `E` whose body is made elsewhere.
    pub fn with_body<E: Event>(body: Vec<u8>, context: Context) -> Message {
        Message {
            id: Uuid::now_v7().to_string(),
            event: E::NAME.into(),
            address: Address::Event(E::DESTINATION),
            context,
            published_us: now_us(),
            body,
            failure: None,
        }
    }

    /// Begins the span of publishing this message, whose context becomes the span's.
    pub(crate) fn span(&mut self, spans: &Spans) -> Span {
        spans.publishing(self.address.name(), &self.event, &self.id, &mut self.context)
    }
}

/// Why a message is not known to be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the broker is not connected")]
    Disconnected,
    #[error("the broker takes no messages now (memory or disk alarm, or too many are unconfirmed)")]
    Blocked,
    /// The message may or may not be stored.
    #[error("the broker did not confirm in time")]
    Unconfirmed,
    #[error("the broker refused the message")]
    Refused,
    #[error("no queue takes this message")]
    Unroutable,
    #[error("the message is larger than the broker takes")]
    TooLarge,
    /// This message or another unconfirmed one is the cause.
    #[error("the broker closed the channel: {0}")]
    Closed(String),
}

/// A message for a transport to publish, and where the outcome goes.
pub(crate) struct Publish {
    pub message: Message,
    pub outcome: oneshot::Sender<Result<(), PublishError>>,
}

/// The queue of the publisher; `None` while it is not connected.
pub(crate) type PublisherHandle = Option<mpsc::Sender<Publish>>;

/// What one process needs of the broker.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub service: &'static str,
    pub publishes: Arc<[Destination]>,
    pub subscriptions: Arc<[Subscription]>,
    /// Deliveries of one queue that may be unacknowledged at the same time.
    pub prefetch: u16,
}

/// Hands messages to the broker. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    publisher: watch::Receiver<PublisherHandle>,
    pub(crate) spans: Spans,
}

impl Bus {
    /// A bus, and the sender by which a transport connects its publisher.
    pub(crate) fn new(spans: Spans) -> (Bus, watch::Sender<PublisherHandle>) {
        let (sender, publisher) = watch::channel(None);
        (Bus { publisher, spans }, sender)
    }

    /// Publishes an event of the current workflow; `Ok` when the broker has stored it durably.
    ///
    /// # Errors
    /// At once while the broker is unavailable or blocked; after 5 s when it does not confirm.
    pub async fn publish<E: Event>(&self, event: &E) -> Result<(), ApiError> {
        let mut message = Message::of(event, Context::current())?;
        let span = message.span(&self.spans);
        self.send(message).await.map_err(|error| ApiError::Unavailable(error.to_string().into()))?;
        span.published();
        Ok(())
    }

    /// Publishes a message; `Ok` when the broker has stored it durably.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn send(&self, message: Message) -> Result<(), PublishError> {
        let event = message.event.clone();
        if failpoint::delivers_twice() {
            self.hand_over(message.clone()).await?;
        }
        let sent = self.hand_over(message).await;
        let outcome = if sent.is_ok() { "confirmed" } else { "failed" };
        if metrics::counting() {
            metrics::get().events_published.with_label_values(&[event.as_ref(), outcome]).inc();
        }
        sent
    }

    async fn hand_over(&self, message: Message) -> Result<(), PublishError> {
        let publisher = self.publisher.borrow().clone().ok_or(PublishError::Disconnected)?;
        let (outcome, confirmed) = oneshot::channel();
        let wait = async {
            publisher.send(Publish { message, outcome }).await.map_err(|_| PublishError::Disconnected)?;
            // The publisher drops unconfirmed messages when its connection ends.
            confirmed.await.unwrap_or(Err(PublishError::Unconfirmed))
        };
        tokio::time::timeout(CONFIRM_TIMEOUT, wait).await.unwrap_or(Err(PublishError::Unconfirmed))
    }

    /// Whether a publisher is connected.
    pub fn is_connected(&self) -> bool {
        self.publisher.borrow().is_some()
    }

    /// Returns when a publisher is connected.
    pub async fn wait_connected(&self) {
        if self.publisher.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
