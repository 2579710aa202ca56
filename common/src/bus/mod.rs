//! Publish and consume. Here: what services see, the same for every transport. [`consume`] is how handlers are declared,
//! run and judged; `amqp` is RabbitMQ: only its files name lapin.

pub(crate) mod amqp;
pub mod consume;
mod together;

use std::borrow::Cow;
use std::time::Duration;

use contract::events::Destination;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

pub use consume::{Consumers, Handled, HandlerError, Incoming};
pub use together::{InTransaction, Outcome};

use crate::ApiError;
use crate::context::{Context, now_us};
use crate::events::Event;
use crate::otel::{Begun, Spans};
use crate::{failpoint, metrics};

/// From handing a message over to the broker's confirm; then its outcome is unknown.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// A message on its way to the broker.
#[derive(Clone, Debug)]
pub struct Message {
    /// A UUID in all that is made here; whatever somebody else gave it stays.
    pub id: String,
    pub event: Cow<'static, str>,
    /// Empty for the default exchange.
    pub exchange: Cow<'static, str>,
    pub routing_key: Cow<'static, str>,
    pub context: Context,
    /// When it was made, microseconds since the Unix epoch.
    pub published_us: i64,
    pub body: Vec<u8>,
    /// What a consumer adds when it sets a message aside: attempt, reason, and the like.
    pub notes: Vec<(&'static str, String)>,
}

/// An event as it stands in a message: with the time at which it was made.
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
        let (exchange, routing_key) = match E::DESTINATION {
            Destination::Queue(queue) => ("", queue.name),
            Destination::Fanout { exchange, .. } => (exchange, ""),
        };
        let timestamp = time::OffsetDateTime::now_utc();
        Ok(Message {
            id: Uuid::now_v7().to_string(),
            event: E::NAME.into(),
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            context,
            published_us: now_us(),
            body: serde_json::to_vec(&Stamped { event, timestamp })?,
            notes: Vec::new(),
        })
    }
}

impl Message {
    /// What takes it: a queue, or an exchange that copies it to several.
    pub(crate) fn destination(&self) -> &str {
        let mut names = [&self.exchange, &self.routing_key].into_iter();
        names.find(|name| !name.is_empty()).map_or("(none)", AsRef::as_ref)
    }

    /// Begins the span of publishing this message, whose context becomes the span's.
    pub(crate) fn span(&mut self, spans: &Spans) -> Begun {
        let mut context = self.context.clone();
        let span = spans.publishing(self.destination(), &self.event, &self.id, &mut context);
        self.context = context;
        span
    }
}

/// Why a message is not known to be safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the broker is not connected")]
    Disconnected,
    #[error("the broker takes no messages now (memory or disk alarm)")]
    Blocked,
    /// It may or may not have been stored.
    #[error("the broker did not confirm in time")]
    Unconfirmed,
    #[error("the broker refused the message")]
    Refused,
    #[error("no queue takes this message")]
    Unroutable,
    #[error("the message is larger than the broker takes")]
    TooLarge,
    /// This message, or another one on its way at the same time, is the cause.
    #[error("the broker closed the channel: {0}")]
    Closed(String),
}

/// A message and where its outcome goes: what a transport works on.
pub(crate) struct Publish {
    pub message: Message,
    pub outcome: oneshot::Sender<Result<(), PublishError>>,
}

/// The way to the publisher while one is connected.
pub(crate) type Line = Option<mpsc::Sender<Publish>>;

/// Hands messages to the broker. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    line: watch::Receiver<Line>,
    /// Where its hops are shown.
    pub(crate) spans: Spans,
}

impl Bus {
    /// A bus and the end that a transport drives.
    pub(crate) fn new(spans: Spans) -> (Bus, watch::Sender<Line>) {
        let (sender, line) = watch::channel(None);
        (Bus { line, spans }, sender)
    }

    /// Publishes an event of the current workflow; `Ok` when the broker has it durably.
    ///
    /// # Errors
    /// At once while the broker is away or blocked; within 5 s when it does not confirm.
    pub async fn publish<E: Event>(&self, event: &E) -> Result<(), ApiError> {
        let mut message = Message::of(event, Context::current())?;
        let span = message.span(&self.spans);
        self.send(message).await.map_err(|error| ApiError::Unavailable(error.to_string().into()))?;
        span.published();
        Ok(())
    }

    /// Publishes a message; `Ok` when the broker has it durably.
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
        let line = self.line.borrow().clone().ok_or(PublishError::Disconnected)?;
        let (outcome, confirmed) = oneshot::channel();
        let wait = async {
            line.send(Publish { message, outcome }).await.map_err(|_| PublishError::Disconnected)?;
            // The publisher drops what it cannot settle when its connection ends.
            confirmed.await.unwrap_or(Err(PublishError::Unconfirmed))
        };
        tokio::time::timeout(CONFIRM_TIMEOUT, wait).await.unwrap_or(Err(PublishError::Unconfirmed))
    }

    /// Whether a publisher is connected.
    pub fn is_connected(&self) -> bool {
        self.line.borrow().is_some()
    }

    /// Returns when a publisher is connected.
    pub async fn wait_connected(&self) {
        if self.line.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
