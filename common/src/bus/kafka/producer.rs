//! The publisher. librdkafka keeps many messages in flight; the thread that serves its reports hands each outcome to the publisher
//! of the message.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use contract::events::Destination;
use contract::headers::properties::{CONTENT_TYPE, CORRELATION_ID, MESSAGE_ID, TIMESTAMP, TYPE};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{Kafka, Reports};
use crate::bus::{Address, CONFIRM_TIMEOUT, Message, Publish, PublishError, PublisherHandle};
use crate::failpoint::{self, Failpoint, Protection, disabled};

/// Messages that may be handed to librdkafka at once.
const HANDED_OVER: usize = 256;
/// A topic that is missing is created this long after a message did not find it: its readers have noticed by then, and begin at
/// its first record.
const CREATE_AFTER: Duration = Duration::from_secs(1);

type Outcome = oneshot::Sender<Result<(), PublishError>>;

impl Kafka {
    /// Publishes what the bus hands over, until the broker is lost.
    pub(super) async fn publish_until_lost(
        &self,
        publisher: &watch::Sender<PublisherHandle>,
    ) -> anyhow::Result<()> {
        let outcomes = Outcomes::default();
        let (reports, missing) = (outcomes.reports.clone(), Arc::clone(&outcomes.topic_is_missing));
        let producer = Running(Some(self.producer(outcomes)?));
        let (sender, mut requests) = mpsc::channel(HANDED_OVER);
        publisher.send_replace(Some(sender));
        tracing::info!("publisher is connected to Kafka");
        let publishing = async {
            let mut taken = Vec::with_capacity(HANDED_OVER);
            while requests.recv_many(&mut taken, HANDED_OVER).await > 0 {
                for (place, publish) in taken.drain(..).enumerate() {
                    if place == 1 {
                        failpoint::pass_when_sent(Failpoint::MidBatch, std::future::pending::<()>()).await;
                    }
                    if !publish.outcome.is_closed() {
                        self.send(&producer, publish);
                    }
                }
                let sending = std::future::pending::<()>();
                failpoint::pass_when_sent(Failpoint::AfterPublishBeforeConfirm, sending).await;
            }
        };
        let creating = async {
            loop {
                missing.notified().await;
                tokio::time::sleep(CREATE_AFTER).await;
                if let Err(cause) = self.create_topics().await {
                    tracing::warn!(cause = format!("{cause:#}"), "topics are not created");
                }
            }
        };
        tokio::select! {
            () = publishing => Ok(()),
            () = creating => Ok(()),
            cause = reports.cause() => Err(cause),
        }
    }

    fn producer(&self, outcomes: Outcomes) -> anyhow::Result<ThreadedProducer<Outcomes>> {
        let mut config = self.config();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A message leaves at once; more leave together only while others are in flight.
            .set("linger.ms", "0")
            .set("message.timeout.ms", CONFIRM_TIMEOUT.as_millis().to_string())
            .set("queue.buffering.max.messages", "10000");
        Ok(config.create_with_context(outcomes)?)
    }

    /// Hands a message to librdkafka, which copies it.
    fn send(&self, Running(producer): &Running, Publish { mut message, outcome }: Publish) {
        let (Some(producer), Some(topic)) = (producer, self.names.topic(message.address)) else {
            drop(outcome.send(Err(PublishError::Unroutable)));
            return;
        };
        let mut headers = OwnedHeaders::new_with_capacity(11);
        for (key, value) in message.take_headers() {
            headers = headers.insert(Header { key, value: Some(&value) });
        }
        let seconds = (message.published_us / 1_000_000).to_string();
        for (key, value) in [
            (MESSAGE_ID, &*message.id),
            (CORRELATION_ID, &message.context.workflow),
            (TYPE, &message.event),
            (TIMESTAMP, &seconds),
            (CONTENT_TYPE, "application/json"),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let outcome = if disabled(Protection::Confirms) {
            drop(outcome.send(Ok(())));
            oneshot::channel().0
        } else {
            outcome
        };
        let key = key(&message);
        let record = BaseRecord::with_opaque_to(&topic, Box::new(outcome))
            .key(&*key)
            .payload(&message.body)
            .headers(headers);
        if let Err((error, record)) = producer.send(record) {
            producer.context().settle(*record.delivery_opaque, Err(&error));
        }
    }
}

/// The key of a record: the workflow, or the field of the body that the destination names. Records with the same key share a
/// partition.
fn key(message: &Message) -> Cow<'_, str> {
    let workflow = Cow::from(&message.context.workflow);
    let (Address::Event(Destination::Log(log))
    | Address::DeadLetter { destination: Destination::Log(log), .. }) = message.address
    else {
        return workflow;
    };
    let body: Option<serde_json::Value> = serde_json::from_slice(&message.body).ok();
    let field = body.as_ref().and_then(|body| body.get(log.key)?.as_str());
    field.map_or(workflow, |key| Cow::from(key.to_owned()))
}

/// A producer that ends on a thread of its own: its end waits for threads of librdkafka.
struct Running(Option<ThreadedProducer<Outcomes>>);

impl Drop for Running {
    fn drop(&mut self) {
        let producer = self.0.take();
        std::thread::spawn(move || drop(producer));
    }
}

/// Tells publishers the outcomes.
#[derive(Default)]
struct Outcomes {
    reports: Reports,
    topic_is_missing: Arc<Notify>,
}

impl Outcomes {
    fn settle(&self, outcome: Outcome, delivered: Result<(), &KafkaError>) {
        let settled = delivered.map_err(publish_error);
        if settled == Err(PublishError::Unroutable) {
            self.topic_is_missing.notify_one();
        }
        // The publisher may have timed out.
        drop(outcome.send(settled));
    }
}

fn publish_error(error: &KafkaError) -> PublishError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition) => {
            PublishError::Unroutable
        }
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => PublishError::TooLarge,
        Some(Code::QueueFull) => PublishError::Blocked,
        // It was not sent.
        Some(Code::AllBrokersDown | Code::PurgeQueue) => PublishError::Disconnected,
        Some(Code::MessageTimedOut | Code::PurgeInflight | Code::RequestTimedOut) | None => {
            PublishError::Unconfirmed
        }
        Some(_) => PublishError::Refused,
    }
}

impl ClientContext for Outcomes {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ProducerContext for Outcomes {
    type DeliveryOpaque = Box<Outcome>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, outcome: Box<Outcome>) {
        self.settle(*outcome, delivered.as_ref().map(|_| ()).map_err(|(error, _)| error));
    }
}
