//! Exchanges and queues: declared in one place, with the same arguments wherever a name occurs, or the broker refuses. Valid on
//! RabbitMQ 3.10 and 4.x.

use anyhow::Context as _;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::bus::consume::Subscription;
use contract::events::{Destination, Queue, RETRY_DELAYS, UNROUTED_QUEUE, dead_letters, retry_queue};

/// Deliveries that the broker itself allows: reached only where processes die before they can count.
const DELIVERY_LIMIT: i32 = 100;
/// Where nobody works a delivery is somebody who looks, and RabbitMQ 4 drops after 20 of them what has no limit of its own.
const NO_LIMIT: i32 = i32::MAX;
/// Takes what a fanout exchange has no queue for.
const UNROUTED: &str = "unrouted";

pub(super) fn delay_exchange(seconds: u32) -> String {
    format!("retry.{seconds}s")
}

/// Declares what this process publishes to and reads from, and the whole way of an event to each: a queue that was deleted is
/// bound again by whoever reads it, because who publishes to an exchange does not notice.
pub(super) async fn declare(
    channel: &Channel,
    publishes: &[Destination],
    subscriptions: &[Subscription],
) -> anyhow::Result<()> {
    exchange(channel, UNROUTED, None).await?;
    queue(channel, UNROUTED_QUEUE, NO_LIMIT, None, &[]).await?;
    bind(channel, UNROUTED_QUEUE, UNROUTED).await?;
    if !subscriptions.is_empty() {
        for seconds in RETRY_DELAYS {
            // Back to the queue whose name is the routing key, when the time is over.
            let name = retry_queue(seconds);
            exchange(channel, &delay_exchange(seconds), None).await?;
            let ttl = ("x-message-ttl", AMQPValue::LongInt((seconds * 1000).cast_signed()));
            queue(channel, &name, NO_LIMIT, Some(None), &[ttl]).await?;
            bind(channel, &name, &delay_exchange(seconds)).await?;
        }
    }
    for destination in
        publishes.iter().chain(subscriptions.iter().map(|subscription| &subscription.destination))
    {
        match destination {
            Destination::Queue(queue) => working_queue(channel, queue.name).await?,
            Destination::Fanout { exchange: name, queues } => {
                exchange(channel, name, Some(UNROUTED)).await?;
                for Queue { name: queue, .. } in *queues {
                    working_queue(channel, queue).await?;
                    bind(channel, queue, name).await?;
                }
            }
        }
    }
    Ok(())
}

async fn working_queue(channel: &Channel, name: &str) -> anyhow::Result<()> {
    let dead = dead_letters(name);
    queue(channel, &dead, NO_LIMIT, None, &[]).await?;
    queue(channel, name, DELIVERY_LIMIT, Some(Some(&dead)), &[]).await
}

/// A durable quorum queue. `dead_to`: where the broker itself moves what expires or is delivered too often: through the
/// default exchange under a given routing key, or under the message's own. At least once, which asks for `reject-publish`.
async fn queue(
    channel: &Channel,
    name: &str,
    delivery_limit: i32,
    dead_to: Option<Option<&str>>,
    more: &[(&str, AMQPValue)],
) -> anyhow::Result<()> {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(delivery_limit));
    if let Some(routing_key) = dead_to {
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        if let Some(key) = routing_key {
            arguments.insert("x-dead-letter-routing-key".into(), text(key));
        }
    }
    for (name, value) in more {
        arguments.insert((*name).into(), value.clone());
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel
        .queue_declare(name.into(), options, arguments)
        .await
        .with_context(|| format!("cannot declare {name}"))?;
    Ok(())
}

/// A durable fanout exchange.
async fn exchange(channel: &Channel, name: &str, alternate: Option<&str>) -> anyhow::Result<()> {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = alternate {
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
    }
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, arguments).await;
    declared.with_context(|| format!("cannot declare {name}"))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str) -> anyhow::Result<()> {
    let bound = channel.queue_bind(
        queue.into(),
        exchange.into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.with_context(|| format!("cannot bind {queue} to {exchange}"))
}
