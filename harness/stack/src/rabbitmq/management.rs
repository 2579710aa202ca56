//! RabbitMQ's management API, for one vhost.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;

use super::message::Message;
use crate::broker::Address;
use crate::http;

/// A hundred messages of the largest size that a service takes are a few megabytes.
const ANSWER_LIMIT: u64 = 1 << 30;
/// For an answer that holds messages.
const MESSAGES_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Management {
    agent: Agent,
    url: String,
    vhost: String,
}

impl Management {
    pub(super) fn new(address: &Address) -> Self {
        Self {
            agent: http::agent(Duration::from_secs(20)),
            url: address.admin_url.clone(),
            vhost: address.namespace.clone(),
        }
    }

    /// `{}` stands for the vhost.
    fn url(&self, path: &str) -> String {
        format!("{}/api/{}", self.url, path.replacen("{}", &self.vhost, 1))
    }

    /// The body, if the answer is 200.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let (status, body) = http::get(&self.agent, &self.url(path)).context("cannot ask RabbitMQ")?;
        ensure!(status == 200, "RabbitMQ answered {status} to {path}: {body}");
        serde_json::from_str(&body).with_context(|| format!("RabbitMQ's answer to {path} cannot be read"))
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = self.agent.post(self.url(path)).config().timeout_global(Some(MESSAGES_LIMIT)).build();
        let mut response = request.send_json(body)?;
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

    pub(super) fn delete(&self, path: &str) -> Result<()> {
        http::delete(&self.agent, &self.url(path))
    }

    /// The first `count`, left where they are.
    pub(super) fn look(&self, queue: &str, count: usize) -> Result<Vec<Message>> {
        self.messages(queue, count, "reject_requeue_true")
    }

    /// The first `count`, taken out for good.
    pub(super) fn pop(&self, queue: &str, count: usize) -> Result<Vec<Message>> {
        self.messages(queue, count, "ack_requeue_false")
    }

    fn messages(&self, queue: &str, count: usize, ackmode: &str) -> Result<Vec<Message>> {
        let ask = json!({"count": count, "ackmode": ackmode, "encoding": "base64"});
        self.post(&format!("queues/{{}}/{queue}/get"), &ask)
    }

    /// Returns when the broker has stored the message: it answers after its own confirm, and says whether a queue took it.
    pub(super) fn send(&self, exchange: &str, message: &Value) -> Result<()> {
        let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
        let answer: Value = self.post(&format!("exchanges/{{}}/{exchange}/publish"), message)?;
        ensure!(
            answer["routed"] == true,
            "no queue takes {}: is the service that reads it running?",
            message["routing_key"]
        );
        Ok(())
    }
}

/// A vhost in which the user of `given` may do everything.
pub(super) fn create_vhost(given: &Address, name: &str) -> Result<Address> {
    let server = http::without_path(&given.client_url);
    let user = server.split(['/', ':', '@']).nth(3).context("AMQP_URL names no user")?;
    let (agent, base) = (http::agent(Duration::from_secs(10)), &given.admin_url);
    http::put(&agent, &format!("{base}/api/vhosts/{name}"), "")?;
    let all = r#"{"configure":".*","write":".*","read":".*"}"#;
    http::put(&agent, &format!("{base}/api/permissions/{name}/{user}"), all)?;
    let client_url = format!("{server}/{name}");
    Ok(Address { client_url, admin_url: base.clone(), namespace: name.to_owned() })
}

pub(super) fn delete_vhost(address: &Address) -> Result<()> {
    let url = format!("{}/api/vhosts/{}", address.admin_url, address.namespace);
    http::delete(&http::agent(Duration::from_secs(30)), &url)
}
