//! Kafka's protocol, as far as the tools need it: requests of one connection, one after the other, to a server of one node, which
//! leads every partition and coordinates every group. The versions of the requests are the oldest that Kafka 4 takes: in these all
//! fields have a fixed order and size. <https://kafka.apache.org/protocol>

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::signals;

const LIMIT: Duration = Duration::from_secs(20);
/// How long the server may take for a change of topics, in milliseconds.
const CHANGE_LIMIT_MS: i32 = 15_000;
/// Longer answers are damaged.
const LONGEST_ANSWER: usize = 1 << 30;
/// Bytes that one fetch asks for.
const FETCH: i32 = 8 << 20;

const UNKNOWN_TOPIC: i16 = 3;
const GROUP_HAS_MEMBERS: i16 = 68;
const GROUP_NOT_FOUND: i16 = 69;
/// It loads the group, is not there yet, or is not this server yet.
const COORDINATOR_NOT_READY: [i16; 3] = [14, 15, 16];

/// A topic and the number of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: i32,
}

/// Which end of a partition.
#[derive(Clone, Copy)]
pub(super) enum End {
    First = -2,
    Next = -1,
}

pub(super) struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// `address`: `host:port`.
    pub(super) fn open(address: &str) -> Result<Self> {
        let mut found = address.to_socket_addrs().with_context(|| format!("{address} is no address"))?;
        let socket = found.next().with_context(|| format!("{address} is no address"))?;
        let stream = TcpStream::connect_timeout(&socket, LIMIT)
            .with_context(|| format!("Kafka does not answer on {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self { stream })
    }

    fn ask(&mut self, key: i16, version: i16, body: Fields) -> Result<Answer> {
        let mut request = Fields::default();
        request.i16(key).i16(version).i32(0).text("study").bytes.extend(body.bytes);
        let length = i32::try_from(request.bytes.len()).context("a request is too long")?;
        self.stream.write_all(&[&length.to_be_bytes()[..], &request.bytes].concat())?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("Kafka closed the connection")?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= LONGEST_ANSWER, "an answer of Kafka has {length} bytes");
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).context("Kafka closed the connection")?;
        let mut answer = Answer { bytes, at: 0 };
        answer.i32()?;
        Ok(answer)
    }

    /// All topics but those of the server itself.
    pub(super) fn topics(&mut self) -> Result<Vec<Topic>> {
        let mut request = Fields::default();
        // All, and none is created.
        request.i32(-1).i8(0);
        let mut answer = self.ask(3, 4, request)?;
        answer.i32()?;
        answer.list(|broker| {
            broker.i32()?;
            broker.text()?;
            broker.i32()?;
            broker.text()
        })?;
        answer.text()?;
        answer.i32()?;
        let topics = answer.list(|topic| {
            let (error, name, internal) = (topic.i16()?, topic.text()?, topic.i8()?);
            let partitions = topic.list(|partition| {
                partition.i16()?;
                partition.i32()?;
                partition.i32()?;
                partition.list(Answer::i32)?;
                partition.list(Answer::i32)
            })?;
            Ok((error == 0 && internal == 0)
                .then_some(Topic { name, partitions: i32::try_from(partitions.len())? }))
        })?;
        Ok(topics.into_iter().flatten().collect())
    }

    /// An end of each partition of these topics, in their order.
    pub(super) fn offsets(&mut self, topics: &[&Topic], end: End) -> Result<Vec<Vec<i64>>> {
        let mut request = Fields::default();
        request.i32(-1).i8(0).list(topics, |fields, topic| {
            fields.text(&topic.name).list(0..topic.partitions, |fields, partition| {
                fields.i32(partition).i64(end as i64);
            });
        });
        let mut answer = self.ask(2, 2, request)?;
        answer.i32()?;
        answer.partitions(topics, |partition| {
            let error = partition.i16()?;
            partition.i64()?;
            checked(error, "ListOffsets")?;
            partition.i64()
        })
    }

    /// Of each partition of a topic, what the group has committed. A server that has just started takes some time to know.
    pub(super) fn committed(&mut self, group: &str, topic: &Topic) -> Result<Vec<Option<i64>>> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let (error, offsets) = self.ask_committed(group, topic)?;
            if !COORDINATOR_NOT_READY.contains(&error) || Instant::now() > deadline {
                checked(error, "OffsetFetch")?;
                return Ok(offsets);
            }
            // The first search creates the topic of the offsets.
            let mut request = Fields::default();
            request.text(group);
            self.ask(10, 0, request)?;
            signals::pause(Duration::from_millis(50))?;
        }
    }

    fn ask_committed(&mut self, group: &str, topic: &Topic) -> Result<(i16, Vec<Option<i64>>)> {
        let mut request = Fields::default();
        request.text(group).list([topic], |fields, topic| {
            fields.text(&topic.name).list(0..topic.partitions, |fields, partition| {
                fields.i32(partition);
            });
        });
        let mut answer = self.ask(9, 2, request)?;
        let mut failed = 0;
        // With an error of the whole group there may be no topics.
        let topics = answer.list(|topic| {
            topic.text()?;
            topic.list(|partition| {
                let (number, offset) = (partition.i32()?, partition.i64()?);
                partition.text()?;
                failed = failed.max(partition.i16()?);
                Ok((number, (offset >= 0).then_some(offset)))
            })
        })?;
        let offsets: BTreeMap<i32, Option<i64>> = topics.into_iter().flatten().collect();
        Ok((failed.max(answer.i16()?), offsets.into_values().collect()))
    }

    /// Record batches from an offset on: at least one if there is any.
    pub(super) fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Vec<u8>> {
        let mut request = Fields::default();
        // Not longer than there is something.
        request.i32(-1).i32(0).i32(0).i32(FETCH).i8(0).list([topic], |fields, topic| {
            fields.text(topic).list([partition], |fields, partition| {
                fields.i32(partition).i64(offset).i32(FETCH);
            });
        });
        let mut answer = self.ask(1, 4, request)?;
        answer.i32()?;
        let all = answer.list(|topic| {
            topic.text()?;
            topic.list(|partition| {
                partition.i32()?;
                let error = partition.i16()?;
                partition.i64()?;
                partition.i64()?;
                partition.list(|aborted| {
                    aborted.i64()?;
                    aborted.i64()
                })?;
                let batches = partition.data()?;
                checked(error, "Fetch")?;
                Ok(batches)
            })
        })?;
        Ok(all.into_iter().flatten().flatten().collect())
    }

    /// Returns when the server has stored the record batch.
    pub(super) fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> Result<()> {
        let mut request = Fields::default();
        // No transaction; every replica, of which there is one.
        request.i16(-1).i16(-1).i32(CHANGE_LIMIT_MS).list([topic], |fields, topic| {
            fields.text(topic).list([partition], |fields, partition| {
                fields.i32(partition).data(batch);
            });
        });
        let mut answer = self.ask(0, 3, request)?;
        answer.list(|topic| {
            topic.text()?;
            topic.list(|partition| {
                partition.i32()?;
                let error = partition.i16()?;
                partition.i64()?;
                partition.i64()?;
                checked(error, "Produce")
            })
        })?;
        Ok(())
    }

    /// Deletes the records before these offsets; -1 means all that are there now.
    pub(super) fn delete_records(&mut self, topic: &str, before: &[(i32, i64)]) -> Result<()> {
        let mut request = Fields::default();
        request.list([topic], |fields, topic| {
            fields.text(topic).list(before, |fields, (partition, offset)| {
                fields.i32(*partition).i64(*offset);
            });
        });
        request.i32(CHANGE_LIMIT_MS);
        let mut answer = self.ask(21, 0, request)?;
        answer.i32()?;
        answer.list(|topic| {
            topic.text()?;
            topic.list(|partition| {
                partition.i32()?;
                partition.i64()?;
                checked(partition.i16()?, "DeleteRecords")
            })
        })?;
        Ok(())
    }

    /// Topics that are gone already are no error.
    pub(super) fn delete_topics(&mut self, names: &[&str]) -> Result<()> {
        let mut request = Fields::default();
        request.list(names, |fields, name| _ = fields.text(name)).i32(CHANGE_LIMIT_MS);
        let mut answer = self.ask(20, 1, request)?;
        answer.i32()?;
        answer.results("DeleteTopics", &[UNKNOWN_TOPIC])
    }

    /// All groups that have members or offsets.
    pub(super) fn groups(&mut self) -> Result<Vec<String>> {
        let mut answer = self.ask(16, 1, Fields::default())?;
        answer.i32()?;
        checked(answer.i16()?, "ListGroups")?;
        answer.list(|group| {
            let name = group.text()?;
            group.text()?;
            Ok(name)
        })
    }

    /// Groups that are gone already are no error. Nor are those with members of processes that were killed: the server removes these
    /// members after some seconds, and a group without members, topics and offsets some time later.
    pub(super) fn delete_groups(&mut self, names: &[&str]) -> Result<()> {
        let mut request = Fields::default();
        request.list(names, |fields, name| _ = fields.text(name));
        let mut answer = self.ask(42, 0, request)?;
        answer.i32()?;
        answer.results("DeleteGroups", &[GROUP_NOT_FOUND, GROUP_HAS_MEMBERS])
    }
}

fn checked(error: i16, request: &str) -> Result<()> {
    match error {
        0 => Ok(()),
        UNKNOWN_TOPIC => bail!("Kafka knows no such topic"),
        _ => bail!("Kafka answered error {error} to {request}"),
    }
}

/// Fields of a request.
#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
}

impl Fields {
    fn add(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    fn i8(&mut self, value: i8) -> &mut Self {
        self.add(&value.to_be_bytes())
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.add(&value.to_be_bytes())
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.add(&value.to_be_bytes())
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.add(&value.to_be_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.add(&(text.len() as u16).to_be_bytes()).add(text.as_bytes())
    }

    fn data(&mut self, data: &[u8]) -> &mut Self {
        self.add(&(data.len() as u32).to_be_bytes()).add(data)
    }

    fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        let at = self.bytes.len();
        self.i32(0);
        let count = items.into_iter().map(|one| item(self, one)).count() as u32;
        self.bytes[at..at + 4].copy_from_slice(&count.to_be_bytes());
        self
    }
}

/// Fields of an answer.
struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.slice(N)?.try_into().context("an answer of Kafka is damaged")
    }

    fn slice(&mut self, length: usize) -> Result<&[u8]> {
        let taken = self.bytes.get(self.at..self.at + length).context("an answer of Kafka is too short")?;
        self.at += length;
        Ok(taken)
    }

    fn i8(&mut self) -> Result<i8> {
        self.take().map(i8::from_be_bytes)
    }

    fn i16(&mut self) -> Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// Empty where it is null.
    fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.slice(length)?).into_owned())
    }

    /// Empty where it is null.
    fn data(&mut self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        Ok(self.slice(length)?.to_vec())
    }

    /// Empty where it is null.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.i32()?;
        (0..count).map(|_| item(self)).collect()
    }

    /// Of topics and their partitions, in the order of `topics` and of the partitions. `value` reads what follows the number.
    fn partitions<T>(
        &mut self,
        topics: &[&Topic],
        mut value: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<Vec<T>>> {
        let mut all = self.list(|topic| {
            let name = topic.text()?;
            let mut of = topic.list(|partition| Ok((partition.i32()?, value(partition)?)))?;
            of.sort_by_key(|(partition, _)| *partition);
            Ok((name, of.into_iter().map(|(_, value)| value).collect::<Vec<T>>()))
        })?;
        let mut take = |topic: &&Topic| {
            let at = all.iter().position(|(name, _)| *name == topic.name);
            let values = at.map(|at| all.swap_remove(at).1);
            values.with_context(|| format!("Kafka says nothing about {}", topic.name))
        };
        topics.iter().map(&mut take).collect()
    }

    /// Names with errors, except these.
    fn results(&mut self, request: &str, except: &[i16]) -> Result<()> {
        self.list(|one| {
            let (name, error) = (one.text()?, one.i16()?);
            if except.contains(&error) { Ok(()) } else { checked(error, request).context(name) }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Connection {
        pub(in super::super) fn create(&mut self, topic: &str, partitions: i32) -> Result<()> {
            let mut request = Fields::default();
            request.list([topic], |fields, topic| {
                // One replica; no assignment, no configuration.
                fields.text(topic).i32(partitions).i16(1).i32(0).i32(0);
            });
            request.i32(CHANGE_LIMIT_MS).i8(0);
            let mut answer = self.ask(19, 2, request)?;
            answer.i32()?;
            answer.list(|topic| {
                topic.text()?;
                let error = topic.i16()?;
                topic.text()?;
                checked(error, "CreateTopics")
            })?;
            Ok(())
        }

        /// For a group without members.
        pub(in super::super) fn commit(&mut self, group: &str, topic: &str, offset: i64) -> Result<()> {
            let topic = Topic { name: topic.to_owned(), partitions: 1 };
            self.committed(group, &topic)?;
            let mut request = Fields::default();
            request.text(group).i32(-1).text("").i64(-1).list([&topic], |fields, topic| {
                fields.text(&topic.name).list([0], |fields, partition| {
                    fields.i32(partition).i64(offset).text("");
                });
            });
            let mut answer = self.ask(8, 2, request)?;
            answer.partitions(&[&topic], |partition| checked(partition.i16()?, "OffsetCommit"))?;
            Ok(())
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut fields = Fields::default();
        fields
            .i8(-1)
            .text("ä")
            .data(b"xyz")
            .list([1_i16, 2], |fields, number| _ = fields.i16(number))
            .i64(-7);
        let mut answer = Answer { bytes: fields.bytes, at: 0 };
        assert_eq!((answer.i8().unwrap(), answer.text().unwrap().as_str()), (-1, "ä"));
        assert_eq!(answer.data().unwrap(), b"xyz");
        assert_eq!(answer.list(Answer::i16).unwrap(), [1, 2]);
        assert_eq!(answer.i64().unwrap(), -7);
        assert!(answer.i8().is_err());
    }

    #[test]
    fn partitions_are_sorted_and_topics_found_by_name() {
        let mut fields = Fields::default();
        fields.list(["b", "a"], |fields, name| {
            fields.text(name).list([1, 0], |fields, partition| {
                fields.i32(partition).i64(i64::from(partition) + if name == "b" { 10 } else { 0 });
            });
        });
        let topic = |name: &str| Topic { name: name.to_owned(), partitions: 2 };
        let mut answer = Answer { bytes: fields.bytes, at: 0 };
        let values = answer.partitions(&[&topic("a"), &topic("b")], Answer::i64).unwrap();
        assert_eq!(values, [[0, 1], [10, 11]]);
    }
}
