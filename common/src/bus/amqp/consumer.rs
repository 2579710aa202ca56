//! The consuming end: a channel for each subscription, and deliveries in the terms of the bus.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::stream::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Acker, Channel, Connection, message};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Amqp;
use super::topology::declare;
use crate::bus::Bus;
use crate::bus::consumer::{ConsumerTask, Received, Source, run_all};
use crate::bus::subscription::Delivery;
use crate::context::REQUEST_ID;

/// Until everything is declared and every consumer has its queue.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the broker's answer to a cancel. A later delivery is delivered again.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

impl Amqp {
    pub(super) async fn consume_on(
        &self,
        connection: &Connection,
        bus: &Bus,
        connected: &watch::Sender<bool>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let subscribing = tokio::time::timeout(SUBSCRIBE_TIMEOUT, self.subscribe(connection, bus, stop));
        let subscribed = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            subscribed = subscribing => subscribed.context("the consumers are not subscribed in time")??,
        };
        connected.send_replace(true);
        tracing::info!(queues = subscribed.len(), "consumers are connected to RabbitMQ");
        let deliveries = |deliveries: lapin::Consumer| deliveries.map(|delivery| Ok(received(delivery?)));
        let consumers = subscribed.into_iter().map(|(consumer, consumed)| consumer.run(deliveries(consumed)));
        run_all(consumers, stop).await
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        bus: &Bus,
        stop: &CancellationToken,
    ) -> anyhow::Result<Vec<(ConsumerTask<Subscribed>, lapin::Consumer)>> {
        let endpoint = &self.endpoint;
        declare(&connection.create_channel().await?, &endpoint.publishes, &endpoint.subscriptions).await?;
        let mut subscribed = Vec::with_capacity(endpoint.subscriptions.len());
        for subscription in endpoint.subscriptions.iter() {
            let channel = connection.create_channel().await?;
            channel.basic_qos(subscription.prefetch(endpoint.prefetch), BasicQosOptions::default()).await?;
            let (queue, tag) = (subscription.queue, endpoint.service);
            let options = BasicConsumeOptions::default();
            let consuming = channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default());
            let deliveries = consuming.await.with_context(|| format!("cannot consume {queue}"))?;
            let source = Subscribed { channel, tag: deliveries.tag() };
            let consumer = ConsumerTask::new(subscription.clone(), source, bus.clone(), stop.clone());
            subscribed.push((consumer, deliveries));
        }
        Ok(subscribed)
    }
}

/// A consumer on a channel of its own.
struct Subscribed {
    channel: Channel,
    tag: ShortString,
}

impl Source for Subscribed {
    type Receipt = Acker;

    async fn acknowledge(&self, batch: &[Received<Self>], cumulative: bool) -> anyhow::Result<()> {
        let each = if cumulative { &batch[batch.len().saturating_sub(1)..] } else { batch };
        for (_, receipt) in each {
            let acknowledged = receipt.ack(BasicAckOptions { multiple: cumulative }).await?;
            ensure!(acknowledged, "the connection is closed");
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    async fn cancel(&self) -> anyhow::Result<()> {
        let cancelling = self.channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default());
        let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancelling).await;
        Ok(cancelled.with_context(|| format!("{}: the consumer is not cancelled in time", self.tag))??)
    }
}

fn header<'a>(delivery: &'a message::Delivery, name: &str) -> Option<&'a str> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn received(mut delivery: message::Delivery) -> Received<Subscribed> {
    let body = std::mem::take(&mut delivery.data);
    let message_id = delivery.properties.message_id().as_ref().map(ShortString::as_str);
    // The id of the request travels as the correlation id: a header would cost the broker more.
    let workflow = delivery.properties.correlation_id().as_ref().map(ShortString::as_str);
    let received = Delivery::with_headers(message_id, body, |name| {
        workflow.filter(|_| name == REQUEST_ID).or_else(|| header(&delivery, name))
    });
    (received, delivery.acker)
}
