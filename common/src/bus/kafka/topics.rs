//! Topics and groups, and how an address is mapped to them. A topic has the name of an event's destination, or of a dead-letter
//! queue; a group has the name of a queue.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use contract::events::{Destination, dead_letters};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::Reports;
use crate::bus::{Address, Endpoint};

/// Partitions of a topic: as many members of a group can share its records.
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
            Address::DeadLetter { queue, .. } => Some(self.of(&dead_letters(queue))),
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
    pub(super) fn topics(&self, endpoint: &Endpoint) -> Vec<String> {
        let read = endpoint.subscriptions.iter().flat_map(|subscription| {
            [self.destination(subscription.destination), self.of(&dead_letters(subscription.queue))]
        });
        let published = endpoint.publishes.iter().map(|destination| self.destination(*destination));
        let mut topics: Vec<String> = published.chain(read).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}

/// Creates the topics that do not exist. Blocks until the broker knows all of them, for some seconds at most.
pub(super) async fn create(config: ClientConfig, topics: &[String]) -> anyhow::Result<()> {
    let admin: AdminClient<Reports> = config.create_with_context(Reports::default())?;
    let new = topics.iter().map(|topic| {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        // Dead letters wait for an operator.
        if contract::events::of_dead_letters(topic).is_some() { new.set("retention.ms", "-1") } else { new }
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
    for topic in topics {
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
