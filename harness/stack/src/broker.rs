//! What the tools ask of a broker, whichever it is. [`Broker`] is a running broker: its queues and dead letters. [`Server`] is
//! how a stack runs one. Each broker implements both in a module of its own (`rabbitmq`, `kafka`), and `modes` says which mode has which.
//! Callers know queues by their names in the contract, and nothing of APIs, exchanges or vhosts.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use contract::events::holds_dead_letters;
use contract::headers::{ATTEMPT, FIRST_FAILED_AT, REASON, REQUEST_ID, TRACEPARENT};
use serde::{Deserialize, Serialize};

use super::process::Process;

/// Where a broker answers, and the part of it that belongs to the services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// For clients, with the login in it (Kafka: `host:port`, without a login).
    pub client_url: String,
    /// For administration, with the login in it and without a path (Kafka: the address for clients).
    pub admin_url: String,
    /// What separates the services of one stack from other users of the broker (RabbitMQ: the vhost, as it stands in a URL; Kafka:
    /// the prefix of all topics and groups).
    pub namespace: String,
}

/// A running broker. All methods block.
pub trait Broker: Send + Sync {
    fn version(&self) -> Result<String>;

    /// Every queue of the services. The counts are up to [`count_lag`](Self::count_lag) old.
    fn queues(&self) -> Result<Vec<QueueCount>>;

    /// How old the counts of [`queues`](Self::queues) can be.
    fn count_lag(&self) -> Duration;

    /// The first `count` messages of a queue, which stay there, and the exact number of all.
    fn peek(&self, queue: &str, count: usize) -> Result<Peeked>;

    /// Moves the messages that are in a dead-letter queue now, or only those with this message id, to the queue that they failed
    /// in, without the headers that their failure added. A crash leaves messages twice, never none.
    fn redrive(&self, queue: &str, id: Option<&str>) -> Result<Redriven>;

    /// Deletes all messages of a queue.
    fn purge(&self, queue: &str) -> Result<()>;

    fn delete_queue(&self, queue: &str) -> Result<()>;

    /// Whether the queue exists and receives the events that are meant for it.
    fn is_reachable(&self, queue: &str) -> Result<bool>;

    /// Publishes a body to one queue; returns when the broker has stored it.
    fn publish(&self, queue: &str, id: &str, event: &str, body: &str) -> Result<()>;

    /// From now on a queue gets no copy of what is published to this destination.
    fn unsubscribe(&self, destination: &str, queue: &str) -> Result<()>;

    /// Messages in working queues, and dead letters.
    fn totals(&self) -> Result<(u64, u64)> {
        let queues = self.queues()?;
        let sum =
            |dead| queues.iter().filter(|queue| queue.is_dead() == dead).map(|queue| queue.messages).sum();
        Ok((sum(false), sum(true)))
    }

    /// Names of the queues that hold dead letters, also of empty ones, sorted.
    fn dead_letter_queues(&self) -> Result<Vec<String>> {
        let queues = self.queues()?.into_iter().filter(QueueCount::is_dead);
        let mut names: Vec<String> = queues.map(|queue| queue.name).collect();
        names.sort();
        Ok(names)
    }

    /// The exact number of messages in a queue.
    fn depth(&self, queue: &str) -> Result<usize> {
        Ok(self.peek(queue, 1)?.total)
    }
}

/// A queue and its messages, waiting or not acknowledged.
#[derive(Clone, Debug, Deserialize)]
pub struct QueueCount {
    pub name: String,
    #[serde(default)]
    pub messages: u64,
}

impl QueueCount {
    /// Whether its messages have no consumer.
    pub fn is_dead(&self) -> bool {
        holds_dead_letters(&self.name)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Peeked {
    pub messages: Vec<DeadLetter>,
    /// Of the whole queue.
    pub total: usize,
}

/// How a redrive ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Redriven {
    pub moved: usize,
    /// Messages that arrived meanwhile, were taken out with the others, and are in the queue again.
    pub put_back: usize,
}

/// A dead-lettered message.
#[derive(Clone, Debug, Default)]
pub struct DeadLetter {
    /// The message id.
    pub id: Option<String>,
    /// The event's name.
    pub event: Option<String>,
    pub attempts: Option<String>,
    /// Microseconds since the Unix epoch.
    pub first_failed_us: Option<i64>,
    /// Why the consumer, or else the broker, gave it up.
    pub reason: Option<String>,
    /// Of the W3C trace that the event belongs to.
    pub trace_id: Option<String>,
    pub request_id: Option<String>,
    pub body: Vec<u8>,
}

impl DeadLetter {
    /// What its headers say; the other fields are empty.
    pub(crate) fn from_headers(header: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            attempts: header(ATTEMPT),
            first_failed_us: header(FIRST_FAILED_AT).and_then(|us| us.parse().ok()),
            reason: header(REASON),
            trace_id: header(TRACEPARENT).and_then(|parent| Some(parent.split('-').nth(1)?.to_owned())),
            request_id: header(REQUEST_ID),
            ..Self::default()
        }
    }
}

#[derive(Clone, Debug)]
pub struct BrokerPorts {
    pub server: &'static dyn Server,
    pub client: u16,
    /// Only of RabbitMQ.
    pub management: Option<u16>,
    /// Only of RabbitMQ.
    pub metrics: Option<u16>,
    /// For its own processes alone (RabbitMQ: Erlang's port mapper and node; Kafka: the controller). None in a container.
    pub internal: Vec<u16>,
}

impl BrokerPorts {
    pub fn of(server: &'static dyn Server, ports: contract::BrokerPorts, internal: &[u16]) -> Self {
        let (client, management, metrics) = match ports {
            contract::BrokerPorts::RabbitMq { amqp, management, metrics } => {
                (amqp, Some(management), Some(metrics))
            }
            contract::BrokerPorts::Kafka { kafka } => (kafka, None, None),
        };
        Self { server, client, management, metrics, internal: internal.into() }
    }

    pub fn all(&self) -> Vec<u16> {
        let published = [Some(self.client), self.management, self.metrics];
        published.into_iter().flatten().chain(self.internal.iter().copied()).collect()
    }
}

/// How a stack runs a broker: as processes of its own, in a container, or as a part of a server that is given.
pub trait Server: Debug + Sync {
    /// Of its process, log, data folder and container.
    fn name(&self) -> &'static str;

    /// For people.
    fn title(&self) -> &'static str;

    /// Other processes that it needs, in the order of their start. They end after it.
    fn helpers(&self) -> &'static [&'static str];

    /// The services' settings that hold the address.
    fn settings(&self, address: &Address) -> Vec<(&'static str, String)>;

    /// What each of its ports is for, in the order of [`BrokerPorts::all`].
    fn port_names(&self) -> &'static [&'static str];

    /// [`BrokerPorts::internal`] without an offset.
    fn internal_ports(&self) -> &'static [u16];

    /// Its published ports inside the container, each with the variable of the compose file for the host's port: for clients,
    /// administration, metrics, as far as it has them.
    fn container_ports(&self) -> &'static [(u16, &'static str)];

    /// Variables for user and password: of the container, and of the compose file. `None` for a broker without logins.
    fn container_login(&self) -> Option<[(&'static str, &'static str); 2]>;

    /// User and password of a broker that the stack started as a process; empty for a broker without logins.
    fn local_login(&self) -> &'static str;

    /// Of a broker of its own on loopback. `login`: `user:password`, as in a URL.
    fn address(&self, login: &str, ports: &BrokerPorts) -> Address;

    /// Its helpers, then the broker. Data are in `dir`.
    fn start(&self, dir: &Path, ports: &BrokerPorts, logs: &Path) -> Result<Vec<Process>>;

    /// The broker alone, after it was killed.
    fn restart(&self, dir: &Path, ports: &BrokerPorts, logs: &Path) -> Result<Process>;

    /// Waits until it takes connections.
    fn wait(&self, process: &mut Process, ports: &BrokerPorts, limit: Duration) -> Result<()>;

    /// Raises or clears the alarm that makes it refuse messages.
    fn set_alarm(&self, dir: &Path, ports: &BrokerPorts, alarm: Alarm, on: bool) -> Result<()>;

    /// Closes the connections of all clients.
    fn close_connections(&self, dir: &Path, ports: &BrokerPorts) -> Result<()>;

    /// An empty namespace on a broker that is given.
    fn create_namespace(&self, given: &Address, name: &str) -> Result<Address>;

    fn remove_namespace(&self, address: &Address) -> Result<()>;

    fn connect(&self, address: &Address) -> Box<dyn Broker>;
}

/// A resource that a broker can run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    Memory,
    Disk,
}
