//! What a person on duty could do through RabbitMQ's management API, and should not.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::Agent;

use crate::topology::Queue;
use stack::{Stack, http};

pub(super) struct Management {
    agent: Agent,
    /// With the login in it.
    url: String,
    vhost: String,
}

impl Management {
    pub(super) fn of(stack: &Stack) -> Option<Self> {
        let (url, vhost) = (stack.management_url()?, stack.vhost().to_owned());
        Some(Self { agent: http::agent(Duration::from_secs(10)), url, vhost })
    }

    fn queue(&self, name: &str) -> String {
        format!("{}/api/queues/{}/{name}", self.url, self.vhost)
    }

    fn get(&self, url: &str) -> Result<(u16, Value)> {
        let (status, body) = http::get(&self.agent, url)?;
        let value =
            serde_json::from_str(&body).with_context(|| format!("{url} answered {status}: {body}"))?;
        Ok((status, value))
    }

    /// Waiting and not acknowledged, as counted some seconds ago; `None` without such a queue.
    pub(super) fn messages(&self, queue: &str) -> Result<Option<u64>> {
        match self.get(&self.queue(queue))? {
            (200, value) => Ok(Some(value["messages"].as_u64().unwrap_or(0))),
            (404, _) => Ok(None),
            (status, value) => bail!("the broker does not count {queue}: {status} {value}"),
        }
    }

    /// Whether it is there, and events can reach it.
    pub(super) fn is_bound(&self, queue: Queue) -> Result<bool> {
        let (status, bindings) = self.get(&format!("{}/bindings", self.queue(queue.name)))?;
        // The default exchange is one of them.
        let wanted = if queue.direct { 1 } else { 2 };
        Ok(status == 200 && bindings.as_array().is_some_and(|bindings| bindings.len() >= wanted))
    }

    pub(super) fn delete(&self, queue: &str) -> Result<()> {
        http::delete(&self.agent, &self.queue(queue))
    }

    pub(super) fn publish(&self, queue: &str, id: &str, payload: &str) -> Result<()> {
        let message = json!({
            "properties": {"message_id": id, "delivery_mode": 2, "type": "Poison"},
            "routing_key": queue, "payload": payload, "payload_encoding": "string",
        });
        let url = format!("{}/api/exchanges/{}/amq.default/publish", self.url, self.vhost);
        let answer = http::post(&self.agent, &url, &message.to_string())?;
        if !answer.contains("true") {
            bail!("{queue} took no message: {answer}");
        }
        Ok(())
    }
}
