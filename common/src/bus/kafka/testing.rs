//! What tests read from Kafka and write to it. Everything here blocks.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use contract::events::{Event, of_dead_letters};
use contract::headers::properties::{CORRELATION_ID, MESSAGE_ID, TYPE};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use super::consumer::headers;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The topics and groups of a test.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) bootstrap: String,
    pub(crate) prefix: String,
}

impl Probe {
    /// Runs `work` where it may block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Probe) -> anyhow::Result<T> + Send + 'static,
    ) -> T {
        let probe = self.clone();
        let done = super::on_a_thread(move || work(probe)).await.expect("the thread does not panic");
        done.unwrap_or_else(|error| panic!("Kafka at KAFKA_BOOTSTRAP: {error:#}"))
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("topic.metadata.propagation.max.ms", "0");
        config
    }

    /// The topic of a queue, or of its dead letters.
    fn topic(&self, queue: &str) -> String {
        let destination = Event::of_queue(queue).map(|(event, _)| event.destination.name());
        format!("{}{}", self.prefix, destination.unwrap_or(queue))
    }

    /// The records of a queue that its group has not settled, or all records of a dead-letter queue, as RabbitMQ's management API
    /// describes messages. None if there is no topic.
    pub(crate) fn messages(&self, queue: &str) -> anyhow::Result<Vec<Value>> {
        let (consumer, unread, expected) = self.unread(queue, &self.topic(queue))?;
        consumer.assign(&unread)?;
        let (begun, mut records) = (Instant::now(), Vec::new());
        while records.len() < expected {
            ensure!(begun.elapsed() < TIMEOUT, "{queue}: {} of {expected} records are read", records.len());
            if let Some(record) = consumer.poll(Duration::from_millis(100)) {
                let record = record?;
                records.push((record.timestamp().to_millis(), described(&record)));
            }
        }
        records.sort_by_key(|(at, _)| *at);
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    /// The number of records of a topic that its group has not settled.
    pub(crate) fn lag(&self, group: &str, topic: &str) -> anyhow::Result<usize> {
        Ok(self.unread(group, &self.topic(topic))?.2)
    }

    /// The records of a topic that a group has not settled: from which offsets, and how many. Dead letters have no group.
    fn unread(&self, queue: &str, topic: &str) -> anyhow::Result<(BaseConsumer, TopicPartitionList, usize)> {
        let mut config = self.config();
        config.set("group.id", format!("{}{queue}", self.prefix)).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, partition.id());
        }
        if of_dead_letters(queue).is_none() && list.count() > 0 {
            list = consumer.committed_offsets(list, TIMEOUT)?;
        }
        let (mut unread, mut expected) = (TopicPartitionList::new(), 0);
        for element in list.elements() {
            let (low, high) = consumer.fetch_watermarks(topic, element.partition(), TIMEOUT)?;
            let next = match element.offset() {
                Offset::Offset(next) => next,
                _ => low,
            };
            ensure!(next <= high, "{queue}: offset {next} is committed, and {high} records exist");
            if next < high {
                unread.add_partition_offset(topic, element.partition(), Offset::Offset(next))?;
                expected += usize::try_from(high - next)?;
            }
        }
        Ok((consumer, unread, expected))
    }

    /// Publishes any text with any id.
    pub(crate) fn publish(&self, queue: &str, text: &str, message_id: &str) -> anyhow::Result<()> {
        let producer: BaseProducer = self.config().create()?;
        let mut headers = OwnedHeaders::new();
        for key in [MESSAGE_ID, CORRELATION_ID] {
            headers = headers.insert(Header { key, value: Some(message_id) });
        }
        let topic = self.topic(queue);
        let record = BaseRecord::to(&topic).key(message_id).payload(text).headers(headers);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(TIMEOUT).context("the record is not stored")
    }

    /// Deletes the topic of a queue.
    pub(crate) fn delete(&self, queue: &str) -> anyhow::Result<()> {
        self.delete_topics(&[&self.topic(queue)])
    }

    /// Deletes all topics of the test.
    pub(crate) fn delete_all(&self) -> anyhow::Result<()> {
        let consumer: BaseConsumer = self.config().create()?;
        let metadata = consumer.fetch_metadata(None, TIMEOUT)?;
        let topics = metadata.topics().iter().map(|topic| topic.name());
        self.delete_topics(&topics.filter(|topic| topic.starts_with(&self.prefix)).collect::<Vec<_>>())
    }

    fn delete_topics(&self, topics: &[&str]) -> anyhow::Result<()> {
        if topics.is_empty() {
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for deleted in runtime.block_on(admin.delete_topics(topics, &options))? {
            deleted.map_err(|(topic, error)| anyhow::anyhow!("{topic}: {error}"))?;
        }
        Ok(())
    }
}

fn described(record: &BorrowedMessage<'_>) -> Value {
    let (mut properties, mut other) = (Map::new(), Map::new());
    for (name, value) in headers(record) {
        let of =
            if [MESSAGE_ID, CORRELATION_ID, TYPE].contains(&name) { &mut properties } else { &mut other };
        of.insert(name.to_owned(), String::from_utf8_lossy(value).into());
    }
    properties.insert("headers".to_owned(), other.into());
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    json!({"properties": properties, "payload": text(record.payload()), "key": text(record.key()),
           "partition": record.partition()})
}
