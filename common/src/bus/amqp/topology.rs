//! Exchanges and queues, and how an address is routed to them. The broker refuses a declaration with other arguments than the
//! first one, so each is declared here only. Valid on RabbitMQ 3.10 and 4.x.

use std::borrow::Cow;

use anyhow::Context as _;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::bus::{Address, Subscription};
use contract::campus::Topology;
use contract::events::{Destination, Queue, RETRY_DELAYS, UNROUTED_QUEUE, dead_letters, retry_queue};

/// The broker's own limit on deliveries of a message. Only a message that kills processes before they count reaches it.
const DELIVERY_LIMIT: i32 = 100;
/// For queues without a consumer, where each peek through the management UI counts as a delivery. RabbitMQ 4 drops a message
/// after 20 deliveries by default.
const NO_LIMIT: i32 = i32::MAX;
/// The exchange for messages that a fanout exchange has no queue for.
const UNROUTED: &str = "unrouted";

fn delay_exchange(seconds: u32) -> String {
    format!("retry.{seconds}s")
}

/// The exchange and the routing key of an address.
pub(crate) fn route(address: Address) -> (Cow<'static, str>, Cow<'static, str>) {
    match address {
        Address::Event(Destination::Queue(queue)) => ("".into(), queue.name.into()),
        Address::Event(Destination::Fanout { exchange, .. }) => (exchange.into(), "".into()),
        // No stack with RabbitMQ has logs.
        Address::Event(Destination::Log(log)) => ("".into(), log.name.into()),
        Address::Event(Destination::Topic(topic)) => (topic.topology.exchange.into(), topic.key.into()),
        Address::Retry { queue, after_seconds } => (delay_exchange(after_seconds).into(), queue.into()),
        Address::DeadLetter { queue, destination } => ("".into(), destination.dead_letters(queue)),
    }
}

/// Declares everything that this process publishes to and reads from, including the exchange of each queue that it reads: the
/// reader binds a queue again that was deleted, because a publisher to an exchange does not notice.
pub(super) async fn declare(
    channel: &Channel,
    publishes: &[Destination],
    subscriptions: &[Subscription],
) -> anyhow::Result<()> {
    exchange(channel, UNROUTED, ExchangeKind::Fanout, None).await?;
    queue(channel, UNROUTED_QUEUE, NO_LIMIT, None, &[]).await?;
    bind(channel, UNROUTED_QUEUE, UNROUTED, "").await?;
    if !subscriptions.is_empty() {
        for seconds in RETRY_DELAYS {
            // An expired message returns to the queue whose name is its routing key.
            let name = retry_queue(seconds);
            exchange(channel, &delay_exchange(seconds), ExchangeKind::Fanout, None).await?;
            let ttl = ("x-message-ttl", AMQPValue::LongInt((seconds * 1000).cast_signed()));
            queue(channel, &name, NO_LIMIT, Some(None), &[ttl]).await?;
            bind(channel, &name, &delay_exchange(seconds), "").await?;
        }
    }
    for destination in
        publishes.iter().chain(subscriptions.iter().map(|subscription| &subscription.destination))
    {
        match destination {
            Destination::Queue(queue) => working_queue(channel, queue.name).await?,
            Destination::Fanout { exchange: name, queues } => {
                exchange(channel, name, ExchangeKind::Fanout, Some(UNROUTED)).await?;
                for Queue { name: queue, .. } in *queues {
                    working_queue(channel, queue).await?;
                    bind(channel, queue, name, "").await?;
                }
            }
            Destination::Topic(topic) => topics(channel, topic.topology).await?,
            Destination::Log(log) => working_queue(channel, log.name).await?,
        }
    }
    Ok(())
}

/// A topic exchange with its queues. Their arguments are given, because other clients of the lab declare the same.
async fn topics(channel: &Channel, topology: &Topology) -> anyhow::Result<()> {
    exchange(channel, topology.exchange, ExchangeKind::Topic, None).await?;
    classic_queue(channel, topology.dead_letter_queue, None).await?;
    if let Some(dead) = topology.dead_letter_exchange {
        exchange(channel, dead, ExchangeKind::Fanout, None).await?;
        bind(channel, topology.dead_letter_queue, dead, "").await?;
    }
    for queue in topology.queues {
        classic_queue(channel, queue.name, queue.dead_letter_exchange).await?;
        for key in queue.keys {
            bind(channel, queue.name, topology.exchange, key).await?;
        }
    }
    Ok(())
}

async fn working_queue(channel: &Channel, name: &str) -> anyhow::Result<()> {
    let dead = dead_letters(name);
    queue(channel, &dead, NO_LIMIT, None, &[]).await?;
    queue(channel, name, DELIVERY_LIMIT, Some(Some(&dead)), &[]).await
}

/// A durable quorum queue. The broker moves expired messages, and messages over the delivery limit, through the default exchange
/// with the routing key `dead_to`, or with the message's own. At-least-once dead-lettering requires `reject-publish`.
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
    declare_queue(channel, name, arguments).await
}

/// A durable classic queue without any other argument than its dead-letter exchange.
async fn classic_queue(channel: &Channel, name: &str, dead_to: Option<&str>) -> anyhow::Result<()> {
    let mut arguments = FieldTable::default();
    if let Some(exchange) = dead_to {
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(exchange.into()));
    }
    declare_queue(channel, name, arguments).await
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> anyhow::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.queue_declare(name.into(), options, arguments).await;
    declared.with_context(|| format!("cannot declare {name}"))?;
    Ok(())
}

/// A durable exchange.
async fn exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    alternate: Option<&str>,
) -> anyhow::Result<()> {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = alternate {
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
    }
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.exchange_declare(name.into(), kind, options, arguments).await;
    declared.with_context(|| format!("cannot declare {name}"))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
    let bound = channel.queue_bind(
        queue.into(),
        exchange.into(),
        key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.with_context(|| format!("cannot bind {queue} to {exchange}"))
}
