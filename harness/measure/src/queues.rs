//! The broker's queues, as its management API counts them every few seconds.

use anyhow::{Context, Result};
use contract::events::of_dead_letters;
use serde::Deserialize;
use ureq::Agent;

use stack::{Stack, http};

/// A queue and what it holds.
#[derive(Deserialize)]
pub struct Queue {
    pub name: String,
    #[serde(default)]
    pub messages: u64,
}

/// `None` without a broker.
pub fn queues_url(stack: &Stack) -> Option<String> {
    Some(format!("{}/api/queues/{}?columns=name,messages", stack.management_url()?, stack.vhost()))
}

/// Messages in all queues of the stack: waiting or unacknowledged, and dead.
pub fn queues(url: &str, agent: &Agent) -> Result<(u64, u64)> {
    let (_, body) = http::get(agent, url).context("cannot ask RabbitMQ for its queues")?;
    let queues: Vec<Queue> =
        serde_json::from_str(&body).context("RabbitMQ's list of queues cannot be read")?;
    let sum = |dead: bool| {
        queues.iter().filter(|queue| of_dead_letters(&queue.name).is_some() == dead).map(|q| q.messages).sum()
    };
    Ok((sum(false), sum(true)))
}
