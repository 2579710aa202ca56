//! Subscriptions, each on a channel of its own: fetch, have judged, set aside what failed, acknowledge. What is not
//! acknowledged comes again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contract::events::{RETRY_DELAYS, dead_letters};
use contract::headers::{ATTEMPT, FIRST_FAILED_AT, PUBLISHED_AT, REASON};
use futures_util::stream::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, message::Delivery};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::topology::{declare, delay_exchange};
use super::{Amqp, pause};
use crate::bus::consume::{MAX_ATTEMPTS, Raw, Subscription, Verdict};
use crate::bus::{Bus, Message, PublishError};
use crate::context::{ACCEPTED_AT, Context, REQUEST_ID, TRACEPARENT, now_us};
use crate::failpoint::{self, Failpoint, Protection, disabled};
use crate::metrics;
use crate::pace::Pace;

/// All headers that are read here.
pub(super) const HEADERS: [&str; 6] =
    [TRACEPARENT, REQUEST_ID, ACCEPTED_AT, PUBLISHED_AT, ATTEMPT, FIRST_FAILED_AT];
/// All headers of a message have to fit into one frame of 16 KB.
const REASON_LIMIT: usize = 500;
/// A message that claims to be older than this, the inbox's memory, has a wrong clock.
const OLDEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Until everything is declared and every consumer has its queue.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the broker to answer that it delivers no more. What is delivered anyway comes again.
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
        let mut pumps = JoinSet::new();
        for (pump, consumer) in subscribed {
            pumps.spawn(pump.run(consumer));
        }
        // The first that fails takes the connection with it: half a service must not look alive.
        while let Some(ended) = pumps.join_next().await {
            ended.context("a consumer panicked")??;
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        bus: &Bus,
        stop: &CancellationToken,
    ) -> anyhow::Result<Vec<(Pump, Consumer)>> {
        declare(&connection.create_channel().await?, &self.publishes, &self.subscriptions).await?;
        let mut subscribed = Vec::with_capacity(self.subscriptions.len());
        for subscription in self.subscriptions.iter() {
            let channel = connection.create_channel().await?;
            let prefetch = match subscription {
                Subscription { concurrency: Some(concurrency), .. } => *concurrency,
                Subscription { batch, .. } => self.prefetch.max(u16::try_from(2 * batch).unwrap_or(u16::MAX)),
            };
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (queue, tag) = (subscription.queue, self.service);
            let options = BasicConsumeOptions::default();
            let consuming = channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default());
            let consumer = consuming.await.with_context(|| format!("cannot consume {queue}"))?;
            let pump =
                Pump { channel, subscription: subscription.clone(), bus: bus.clone(), stop: stop.clone() };
            subscribed.push((pump, consumer));
        }
        Ok(subscribed)
    }
}

/// One subscription on its own channel.
struct Pump {
    channel: Channel,
    subscription: Subscription,
    bus: Bus,
    stop: CancellationToken,
}

impl Pump {
    async fn run(self, consumer: Consumer) -> anyhow::Result<()> {
        let queue = self.subscription.queue;
        let tag = consumer.tag();
        let this = Arc::new(self);
        let mut batches = consumer.ready_chunks(this.subscription.batch);
        let mut running = JoinSet::new();
        let mut pace = Pace::new();
        loop {
            tokio::select! {
                () = this.stop.cancelled() => break,
                batch = batches.next() => {
                    let batch: Vec<Delivery> =
                        batch.with_context(|| format!("{queue}: the broker cancelled the consumer"))?
                            .into_iter().collect::<Result<_, _>>()?;
                    if this.subscription.batch > 1 {
                        let full = batch.len() == this.subscription.batch;
                        Arc::clone(&this).settle(batch).await?;
                        if !full {
                            pace.turn().await;
                        }
                    } else {
                        running.spawn(Arc::clone(&this).settle(batch));
                    }
                }
                Some(settled) = running.join_next(), if !running.is_empty() => settled??,
            }
        }
        let cancelling = this.channel.basic_cancel(tag, BasicCancelOptions::default());
        let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancelling).await;
        cancelled.with_context(|| format!("{queue}: the consumer is not cancelled in time"))??;
        while let Some(settled) = running.join_next().await {
            settled??;
        }
        Ok(())
    }

    /// Has a batch judged, does what the verdicts say, and acknowledges it. What is not acknowledged comes again.
    async fn settle(self: Arc<Self>, mut batch: Vec<Delivery>) -> anyhow::Result<()> {
        let raw: Arc<[Raw]> = batch.iter_mut().map(raw).collect();
        let Some(last) = batch.last().map(|delivery| delivery.acker.clone()) else { return Ok(()) };
        let several = batch.len() > 1;
        if disabled(Protection::AckAfterCommit) {
            last.ack(BasicAckOptions { multiple: several }).await?;
        }
        let mut verdicts = self.judge(&raw).await?;
        if batch.len() > 1 && verdicts.iter().any(|v| matches!(v, Verdict::Retry(_))) {
            // Which one of them was it? Each on its own, so that its neighbours are served.
            for (verdict, raw) in verdicts.iter_mut().zip(raw.iter()) {
                if let Verdict::Retry(_) = verdict {
                    *verdict = self.judge(&Arc::from([raw.clone()])).await?.remove(0);
                }
            }
        }
        let consumed = &metrics::get().events_consumed;
        let half = batch.len() / 2;
        for (place, (delivery, verdict)) in batch.into_iter().zip(verdicts).enumerate() {
            if several && place == half {
                failpoint::pass(Failpoint::MidBatch);
            }
            let outcome = match verdict {
                Verdict::Done(handled) => handled.as_str(),
                Verdict::Retry(reason) => self.set_aside(delivery, &raw[place], reason, true).await?,
                Verdict::Dead(reason) => self.set_aside(delivery, &raw[place], reason, false).await?,
                Verdict::Away(_) => unreachable!("judge waits while something is away"),
            };
            if metrics::counting() {
                consumed.with_label_values(&[self.subscription.queue, outcome]).inc();
            }
        }
        // Batches are settled one after the other on a channel of their own: everything up to the last one is done.
        failpoint::pass(Failpoint::BeforeAck);
        if disabled(Protection::AckAfterCommit) {
            return Ok(());
        }
        let acknowledged = last.ack(BasicAckOptions { multiple: several }).await?;
        ensure!(acknowledged, "{}: an acknowledgement could not be sent", self.subscription.queue);
        Ok(())
    }

    /// The verdicts; while the database or the like is away the messages wait here, and no more are fetched.
    async fn judge(&self, raw: &Arc<[Raw]>) -> anyhow::Result<Vec<Verdict>> {
        let mut waits = 0;
        loop {
            let verdicts = self.subscription.judge(Arc::clone(raw), &self.bus.spans).await;
            let Some(reason) =
                verdicts.iter().find_map(|v| if let Verdict::Away(r) = v { Some(r) } else { None })
            else {
                return Ok(verdicts);
            };
            if waits == 0 {
                tracing::warn!(queue = self.subscription.queue, reason, "consumer waits");
            }
            waits += 1;
            pause(waits, &self.stop).await;
            ensure!(!self.stop.is_cancelled(), "stopped while waiting: {reason}");
        }
    }

    /// A copy to a delay queue, or to the dead-letter queue when it cannot succeed or has been tried enough. Its trace goes on
    /// from the attempt that failed.
    async fn set_aside(
        &self,
        delivery: Delivery,
        raw: &Raw,
        mut reason: String,
        may_retry: bool,
    ) -> anyhow::Result<&'static str> {
        reason.truncate(reason.floor_char_boundary(REASON_LIMIT));
        let queue = self.subscription.queue;
        let attempts = header(&delivery, ATTEMPT).and_then(|attempts| attempts.parse().ok()).unwrap_or(0_u32);
        let attempt = attempts.saturating_add(1);
        let retry = may_retry && attempt < MAX_ATTEMPTS;
        let (exchange, routing_key) = if retry {
            let delay = RETRY_DELAYS[(attempt as usize - 1).min(RETRY_DELAYS.len() - 1)];
            (delay_exchange(delay), queue.to_owned())
        } else {
            (String::new(), dead_letters(queue))
        };
        let first_failed = time(&delivery, FIRST_FAILED_AT).unwrap_or_else(now_us).to_string();
        if retry {
            tracing::warn!(
                queue,
                reason,
                attempt,
                request_id = raw.context.workflow,
                "event will be tried again"
            );
        } else {
            tracing::error!(queue, reason, attempt, request_id = raw.context.workflow, "event is set aside");
        }
        let message = Message {
            id: raw.message_id.clone(),
            // Not what the message says: a label in metrics is not for others to choose.
            event: self.subscription.event.into(),
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            context: raw.context.clone(),
            published_us: raw.published_us.unwrap_or_else(now_us),
            body: raw.body.clone(),
            notes: vec![(ATTEMPT, attempt.to_string()), (REASON, reason), (FIRST_FAILED_AT, first_failed)],
        };
        self.publish(message).await.with_context(|| format!("{queue}: an event could not be set aside"))?;
        failpoint::pass(Failpoint::AfterAsideBeforeAck);
        Ok(if retry { "retry" } else { "dead" })
    }

    /// Publishes as soon as that is possible. The publisher has a connection of its own: what troubles only that one must not
    /// have events delivered and handled again here, where deliveries are limited.
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let mut waits = 0;
        loop {
            let sent = self.bus.send(message.clone()).await;
            let in_vain = self.stop.is_cancelled() || !self.channel.status().connected();
            // No queue: it was deleted, and is declared with the next connection.
            if in_vain || matches!(sent, Ok(()) | Err(PublishError::Unroutable)) {
                return sent;
            }
            waits += 1;
            pause(waits, &self.stop).await;
        }
    }
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a str> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// A time in microseconds; `None` if it is missing or cannot be.
fn time(delivery: &Delivery, name: &str) -> Option<i64> {
    let (now, oldest) = (now_us(), OLDEST.as_micros() as i64);
    header(delivery, name)?.parse().ok().filter(|us| (now - oldest..=now + 1_000_000).contains(us))
}

/// Takes the body; what else it needs stays with the delivery.
fn raw(delivery: &mut Delivery) -> Raw {
    let message_id = delivery.properties.message_id().as_ref().map(ShortString::as_str);
    Raw {
        // Published by hand, without an id: a natural key still keeps it from being applied twice.
        message_id: message_id
            .filter(|id| !id.is_empty())
            .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
        context: Context::received(|name| match name {
            // A header for it as well would cost the broker more than anything else in a message.
            REQUEST_ID => delivery
                .properties
                .correlation_id()
                .as_ref()
                .map(ShortString::as_str)
                .or_else(|| header(delivery, name)),
            name => header(delivery, name),
        }),
        published_us: time(delivery, PUBLISHED_AT),
        body: std::mem::take(&mut delivery.data),
    }
}
