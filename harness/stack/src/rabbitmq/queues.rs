//! [`Broker`] for RabbitMQ. Each peek at a message counts as a delivery, and a message has a delivery limit; dead-letter queues are
//! declared with one that is never reached.

use std::time::Duration;

use anyhow::{Context, Result};
use contract::events::{Destination, Event};
use serde::Deserialize;
use serde_json::{Value, json};

use super::management::Management;
use super::redrive::redrive;
use crate::broker::{Broker, DeadLetter, Peeked, QueueCount, Redriven};

impl Broker for Management {
    fn version(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Overview {
            rabbitmq_version: String,
        }
        Ok(self.get::<Overview>("overview")?.rabbitmq_version)
    }

    fn queues(&self) -> Result<Vec<QueueCount>> {
        self.get("queues/{}?columns=name,messages")
    }

    /// RabbitMQ counts every five seconds.
    fn count_lag(&self) -> Duration {
        Duration::from_millis(5500)
    }

    fn peek(&self, queue: &str, count: usize) -> Result<Peeked> {
        let seen = self.look(queue, count)?;
        let total = seen.len() + seen.last().map_or(0, |last| last.behind);
        Ok(Peeked { messages: seen.iter().map(DeadLetter::from).collect(), total })
    }

    fn redrive(&self, queue: &str, id: Option<&str>) -> Result<Redriven> {
        redrive(self, queue, id)
    }

    fn purge(&self, queue: &str) -> Result<()> {
        self.delete(&format!("queues/{{}}/{queue}/contents"))
    }

    fn delete_queue(&self, queue: &str) -> Result<()> {
        self.delete(&format!("queues/{{}}/{queue}"))
    }

    fn is_reachable(&self, queue: &str) -> Result<bool> {
        // A queue that does not exist has no bindings.
        let bindings: Vec<Value> = self.get(&format!("queues/{{}}/{queue}/bindings")).unwrap_or_default();
        // The default exchange is always one of them.
        let fanout = |(event, _): (Event, _)| matches!(event.destination, Destination::Fanout { .. });
        let wanted = if Event::of_queue(queue).is_some_and(fanout) { 2 } else { 1 };
        Ok(bindings.len() >= wanted)
    }

    fn publish(&self, queue: &str, id: &str, event: &str, body: &str) -> Result<()> {
        let message = json!({
            "properties": {"message_id": id, "delivery_mode": 2, "type": event},
            "routing_key": queue, "payload": body, "payload_encoding": "string",
        });
        self.send("", &message)
    }

    fn unsubscribe(&self, destination: &str, queue: &str) -> Result<()> {
        let binding = format!("bindings/{{}}/e/{destination}/q/{queue}/~");
        // Deleting what does not exist would succeed.
        self.get::<Value>(&binding).with_context(|| format!("{destination} has no binding to {queue}"))?;
        self.delete(&binding)
    }
}
