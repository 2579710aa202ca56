//! Topics and groups, and how an address is mapped to them. A topic has the name of an event's destination, or of a dead-letter
//! queue; a group has the name of a queue.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use contract::events::{Destination, of_dead_letters};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::Reports;
use crate::bus::{Address, Endpoint};

/// Partitions of a topic, unless the contract says otherwise: as many members of a group can share its records.
const PARTITIONS: i32 = 6;
/// Until the broker has answered a request, or knows a topic that it has created.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The names on the server.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Stands before every name, so that several systems can share a server.
    pub(super) prefix: String,
}

impl Names {
    /// The topic of an address; none for a delayed event, which stays where it is.
    pub(super) fn topic(&self, address: Address) -> Option<String> {
        match address {
            Address::Event(destination) => Some(self.of(destination.name())),
            Address::DeadLetter { queue, destination } => Some(self.of(&destination.dead_letters(queue))),
            Address::Retry { .. } => None,
        }
    }

    pub(super) fn destination(&self, destination: Destination) -> String {
        self.of(destination.name())
    }

    /// The group that reads a queue.
    pub(super) fn group(&self, queue: &str) -> String {
        self.of(queue)
    }

    fn of(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The topics that this process publishes to and reads from.
    pub(super) fn topics(&self, endpoint: &Endpoint) -> Vec<Topic> {
        let topic = |name: &str, destination: Destination| {
            let (partitions, is_log) = match destination {
                Destination::Log(log) => (log.partitions, true),
                _ => (PARTITIONS, false),
            };
            // Dead letters wait for an operator, and a log is read again.
            Topic { name: self.of(name), partitions, for_ever: is_log || of_dead_letters(name).is_some() }
        };
        let read = endpoint.subscriptions.iter().flat_map(|subscription| {
            let destination = subscription.destination;
            let dead_letters = destination.dead_letters(subscription.queue);
            [topic(destination.name(), destination), topic(&dead_letters, destination)]
        });
        let published = endpoint.publishes.iter().map(|destination| topic(destination.name(), *destination));
        let mut topics: Vec<Topic> = published.chain(read).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}

/// A topic to create.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Topic {
    name: String,
    partitions: i32,
    /// Records stay, whatever their age.
    for_ever: bool,
}

/// Creates the topics that do not exist. Blocks until the broker knows all of them, for some seconds at most.
pub(super) async fn create(config: ClientConfig, topics: &[Topic]) -> anyhow::Result<()> {
    let admin: AdminClient<Reports> = config.create_with_context(Reports::default())?;
    let new = topics.iter().map(|topic| {
        let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(1));
        if topic.for_ever { new.set("retention.ms", "-1") } else { new }
    });
    let new: Vec<NewTopic> = new.collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    for created in admin.create_topics(&new, &options).await? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => bail!("cannot create {topic}: {error}"),
        }
    }
    let begun = Instant::now();
    for Topic { name: topic, .. } in topics {
        loop {
            let metadata = admin.inner().fetch_metadata(Some(topic), TIMEOUT)?;
            let found = metadata.topics().first().with_context(|| format!("{topic} is not described"))?;
            let has_leaders = found.partitions().iter().all(|partition| partition.leader() >= 0);
            if found.error().is_none() && !found.partitions().is_empty() && has_leaders {
                break;
            }
            ensure!(begun.elapsed() < TIMEOUT, "{topic} has no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}
