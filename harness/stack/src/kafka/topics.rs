//! [`Broker`] for Kafka. A queue of the contract is a consumer group on the topic of its event; what waits there is the lag of the
//! group. A dead-letter queue is a topic without a group; what was taken out of it is deleted from its beginning.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use contract::events::{self, Event, holds_dead_letters, of_dead_letters};
use contract::headers::properties::{CORRELATION_ID, MESSAGE_ID, TYPE};
use contract::headers::{ATTEMPT, FIRST_FAILED_AT, REASON};

use super::connection::{Connection, End, Topic};
use super::records::{self, Record};
use super::version;
use crate::broker::{Address, Broker, DeadLetter, Peeked, QueueCount, Redriven};
use crate::signals;

/// Headers that a consumer adds to an event that failed.
const FAILURE_HEADERS: [&str; 3] = [ATTEMPT, REASON, FIRST_FAILED_AT];

pub(super) struct Topics {
    address: String,
    prefix: String,
}

/// The part of a topic that counts as a queue.
struct Part {
    topic: Topic,
    /// Of each partition, the offset of the first message and the one after the last.
    ranges: Vec<(i64, i64)>,
}

impl Part {
    fn messages(&self) -> u64 {
        self.ranges.iter().map(|(first, next)| (next - first).max(0).unsigned_abs()).sum()
    }
}

impl Topics {
    pub(super) fn new(address: &Address) -> Self {
        Self { address: address.client_url.clone(), prefix: address.namespace.clone() }
    }

    fn connection(&self) -> Result<Connection> {
        Connection::open(&self.address)
    }

    /// Deletes every topic and group with this prefix.
    pub(super) fn remove_all(&self) -> Result<()> {
        ensure!(!self.prefix.is_empty(), "without a prefix all topics of the server would be deleted");
        let mut server = self.connection()?;
        let topics = server.topics()?;
        let own = |name: &&str| name.starts_with(&self.prefix);
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).filter(own).collect();
        server.delete_topics(&names)?;
        let groups = server.groups()?;
        let names: Vec<&str> = groups.iter().map(String::as_str).filter(own).collect();
        server.delete_groups(&names)
    }

    /// The name of the topic in which the messages of a queue are.
    fn topic_name(&self, queue: &str) -> String {
        let destination = Event::of_queue(queue).map(|(event, _)| event.destination.name());
        format!("{}{}", self.prefix, destination.unwrap_or(queue))
    }

    fn topic_of(&self, server: &mut Connection, queue: &str) -> Result<Topic> {
        let name = self.topic_name(queue);
        let mut topics = server.topics()?.into_iter();
        topics.find(|topic| topic.name == name).with_context(|| {
            format!("Kafka knows no {name}: `./study dlq list` names the queues that hold something")
        })
    }

    /// What waits in one queue.
    fn part(&self, server: &mut Connection, queue: &str) -> Result<Part> {
        let topic = self.topic_of(server, queue)?;
        let mut parts = self.parts(server, vec![(queue, topic)])?;
        parts.pop().map(|(_, part)| part).context("a topic has no partitions")
    }

    /// What waits in each of these queues.
    fn parts<Q: AsRef<str>>(
        &self,
        server: &mut Connection,
        queues: Vec<(Q, Topic)>,
    ) -> Result<Vec<(Q, Part)>> {
        let mut topics: Vec<&Topic> = queues.iter().map(|(_, topic)| topic).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics.dedup();
        // Before the ends, so that no lag is below 0.
        let committed = queues.iter().map(|(queue, topic)| {
            let group = format!("{}{}", self.prefix, queue.as_ref());
            if holds_dead_letters(queue.as_ref()) { Ok(Vec::new()) } else { server.committed(&group, topic) }
        });
        let committed: Vec<Vec<Option<i64>>> = committed.collect::<Result<_>>()?;
        let first = server.offsets(&topics, End::First)?;
        let next = server.offsets(&topics, End::Next)?;
        let mut parts = Vec::new();
        for ((_, topic), committed) in queues.iter().zip(committed) {
            let at = topics.iter().position(|known| known == &topic).context("a topic without offsets")?;
            let ranges = first[at].iter().zip(&next[at]).enumerate().map(|(partition, (first, next))| {
                let done = committed.get(partition).copied().flatten().unwrap_or(*first);
                (done.max(*first), *next)
            });
            parts.push(Part { topic: topic.clone(), ranges: ranges.collect() });
        }
        Ok(queues.into_iter().map(|(queue, _)| queue).zip(parts).collect())
    }

    /// The first `count` messages of a queue with their partitions.
    fn read(&self, server: &mut Connection, part: &Part, count: usize) -> Result<Vec<(i32, Record)>> {
        let mut all = Vec::new();
        for (partition, (first, next)) in (0..).zip(&part.ranges) {
            let mut at = *first;
            while at < *next && all.len() < count && !signals::interrupted() {
                let records = records::read(&server.fetch(&part.topic.name, partition, at)?)?;
                let new = records.into_iter().filter(|record| (at..*next).contains(&record.offset));
                let new: Vec<_> = new.map(|record| (partition, record)).collect();
                let Some((_, last)) = new.last() else {
                    bail!("Kafka returns nothing from {} at {at}", part.topic.name)
                };
                at = last.offset + 1;
                all.extend(new);
            }
        }
        all.truncate(count);
        Ok(all)
    }
}

impl Broker for Topics {
    fn version(&self) -> Result<String> {
        Ok(version().to_owned())
    }

    fn queues(&self) -> Result<Vec<QueueCount>> {
        let mut server = self.connection()?;
        let topics = server.topics()?;
        let find = |name: &str| topics.iter().find(|topic| topic.name == self.topic_name(name)).cloned();
        let working = events::queues::ALL.iter().map(|queue| queue.name.to_owned());
        let dead = events::queues::ALL.iter().map(|queue| queue.dead_letters());
        let queues = working.chain(dead).filter_map(|name| Some((find(&name)?, name)));
        let queues = queues.map(|(topic, name)| (name, topic)).collect();
        let parts = self.parts(&mut server, queues)?;
        Ok(parts.into_iter().map(|(name, part)| QueueCount { name, messages: part.messages() }).collect())
    }

    /// A consumer commits its offsets every second.
    fn count_lag(&self) -> Duration {
        Duration::from_millis(1500)
    }

    fn peek(&self, queue: &str, count: usize) -> Result<Peeked> {
        let mut server = self.connection()?;
        let part = self.part(&mut server, queue)?;
        let records = self.read(&mut server, &part, count)?;
        let messages = records.iter().map(|(_, record)| DeadLetter::from(record)).collect();
        Ok(Peeked { messages, total: usize::try_from(part.messages())? })
    }

    /// Kafka deletes records only from the beginning of a partition: those in front of the wanted ones move to its end.
    fn redrive(&self, queue: &str, id: Option<&str>) -> Result<Redriven> {
        let working = of_dead_letters(queue).with_context(|| format!("{queue} is no dead-letter queue"))?;
        let mut server = self.connection()?;
        let part = self.part(&mut server, queue)?;
        let target = self.topic_of(&mut server, working)?;
        let mut moved = 0;
        let records = self.read(&mut server, &part, usize::MAX)?;
        for (partition, _) in (0..).zip(&part.ranges) {
            let mut own: Vec<&Record> =
                records.iter().filter(|(of, _)| *of == partition).map(|(_, record)| record).collect();
            let wanted =
                |record: &&Record| id.is_none_or(|id| record.header(MESSAGE_ID).as_deref() == Some(id));
            own.truncate(own.iter().rposition(wanted).map_or(0, |last| last + 1));
            let Some(last) = own.last().map(|record| record.offset) else { continue };
            for record in &own {
                if wanted(record) {
                    let batch = records::batch(&renewed(record), now()?);
                    server.produce(&target.name, partition % target.partitions, &batch)?;
                    moved += 1;
                } else {
                    server.produce(&part.topic.name, partition, &records::batch(record, now()?))?;
                }
            }
            server.delete_records(&part.topic.name, &[(partition, last + 1)])?;
        }
        Ok(Redriven { moved, put_back: 0 })
    }

    fn purge(&self, queue: &str) -> Result<()> {
        ensure!(
            holds_dead_letters(queue),
            "{queue} is no dead-letter queue: its topic may have other readers"
        );
        let mut server = self.connection()?;
        let topic = self.topic_of(&mut server, queue)?;
        let all: Vec<(i32, i64)> = (0..topic.partitions).map(|partition| (partition, -1)).collect();
        server.delete_records(&topic.name, &all)
    }

    fn delete_queue(&self, queue: &str) -> Result<()> {
        self.connection()?.delete_topics(&[&self.topic_name(queue)])
    }

    fn is_reachable(&self, queue: &str) -> Result<bool> {
        let name = self.topic_name(queue);
        Ok(self.connection()?.topics()?.iter().any(|topic| topic.name == name))
    }

    fn publish(&self, queue: &str, id: &str, event: &str, body: &str) -> Result<()> {
        let mut server = self.connection()?;
        let topic = self.topic_of(&mut server, queue)?;
        let headers = [(MESSAGE_ID, id), (TYPE, event)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let record = Record { value: body.as_bytes().to_vec(), headers: headers.into(), ..Record::default() };
        server.produce(&topic.name, 0, &records::batch(&record, now()?))
    }

    fn unsubscribe(&self, _: &str, _: &str) -> Result<()> {
        bail!("a group of Kafka cannot be separated from its topic")
    }
}

/// The same message as it was before it failed.
fn renewed(record: &Record) -> Record {
    let mut new = record.clone();
    new.headers.retain(|(name, _)| !FAILURE_HEADERS.contains(&name.as_str()));
    new
}

/// Milliseconds since the Unix epoch.
fn now() -> Result<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(i64::try_from(now.as_millis())?)
}

impl From<&Record> for DeadLetter {
    fn from(record: &Record) -> Self {
        let headers = Self::from_headers(|name| record.header(name));
        Self {
            id: record.header(MESSAGE_ID),
            event: record.header(TYPE),
            request_id: headers.request_id.or_else(|| record.header(CORRELATION_ID)),
            body: record.value.clone(),
            ..headers
        }
    }
}
