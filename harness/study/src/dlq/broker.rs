//! The few questions and commands for RabbitMQ's management API. Looking at a message is a delivery for the broker, and
//! counts against its delivery limit; dead-letter queues are declared with one that is never reached.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use contract::events::{UNROUTED_QUEUE, of_dead_letters};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;

use super::letter::Letter;
use stack::http;

/// Generous: a hundred messages of the largest size that a service takes are a few megabytes.
const ANSWER_LIMIT: u64 = 1 << 30;

pub struct Broker {
    agent: Agent,
    /// Of the management API, with the login in it.
    url: String,
    /// As it stands in a path.
    vhost: String,
}

#[derive(Deserialize)]
struct Queue {
    name: String,
}

impl Broker {
    pub fn new(url: impl Into<String>, vhost: &str) -> Self {
        Self { agent: http::agent(Duration::from_secs(60)), url: url.into(), vhost: vhost.to_owned() }
    }

    /// Their names, also of empty ones.
    pub fn dead_letter_queues(&self) -> Result<Vec<String>> {
        let (status, body) =
            http::get(&self.agent, &format!("{}/api/queues/{}?columns=name", self.url, self.vhost))?;
        ensure!(status == 200, "RabbitMQ answered {status}: {body}");
        let queues: Vec<Queue> = serde_json::from_str(&body)?;
        let names = queues.into_iter().map(|queue| queue.name);
        let mut dead: Vec<String> =
            names.filter(|name| of_dead_letters(name).is_some() || name == UNROUTED_QUEUE).collect();
        dead.sort();
        Ok(dead)
    }

    /// How many messages are in a queue now: what the broker's statistics say is up to five seconds old.
    pub fn depth(&self, queue: &str) -> Result<usize> {
        Ok(self.peek(queue, 1)?.first().map_or(0, |letter| 1 + letter.behind))
    }

    /// The first `count`, left where they are.
    pub fn peek(&self, queue: &str, count: usize) -> Result<Vec<Letter>> {
        self.get(queue, count, "reject_requeue_true")
    }

    /// The first `count`, taken out for good.
    pub(super) fn pop(&self, queue: &str, count: usize) -> Result<Vec<Letter>> {
        self.get(queue, count, "ack_requeue_false")
    }

    fn get(&self, queue: &str, count: usize, ackmode: &str) -> Result<Vec<Letter>> {
        let ask = json!({"count": count, "ackmode": ackmode, "encoding": "base64"});
        let letters = self.post(&format!("queues/{{}}/{queue}/get"), &ask)?;
        serde_json::from_value(letters).context("RabbitMQ answered something else than messages")
    }

    /// `Ok` when the broker has it durably: it answers after its own confirm, and says whether a queue took it.
    pub(super) fn publish(&self, exchange: &str, message: &Value) -> Result<()> {
        let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
        let answer = self.post(&format!("exchanges/{{}}/{exchange}/publish"), message)?;
        ensure!(
            answer["routed"] == true,
            "no queue takes {}: is the service that reads it running?",
            message["routing_key"]
        );
        Ok(())
    }

    pub fn purge(&self, queue: &str) -> Result<()> {
        http::delete(&self.agent, &self.path(&format!("queues/{{}}/{queue}/contents")))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut response = self.agent.post(self.path(path)).send_json(body)?;
        let status = response.status();
        if status == 404 {
            bail!("RabbitMQ knows no {path}: `./study dlq list` names the queues that hold something");
        }
        let answer = response.body_mut().with_config().limit(ANSWER_LIMIT);
        if status.is_success() {
            return Ok(answer.read_json()?);
        }
        bail!("RabbitMQ answered {status} to {path}: {}", answer.read_to_string()?)
    }

    fn path(&self, path: &str) -> String {
        format!("{}/api/{}", self.url, path.replacen("{}", &self.vhost, 1))
    }
}
