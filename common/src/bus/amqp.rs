//! RabbitMQ, the only file that names lapin. One task owns the publishing channel, because tasks that share one get each
//! other's confirms. Two connections, each under a supervisor of its own that builds everything anew after any failure:
//! lapin's recovery heals neither closed channels nor cancelled consumers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::future::join_all;
use futures_util::stream::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, message::Delivery,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::consume::{MAX_ATTEMPTS, Raw, Subscription, Verdict};
use super::{Bus, CONFIRM_TIMEOUT, Handled, Line, Message, Publish, PublishError};
use crate::context::{ACCEPTED_AT, Context, REQUEST_ID, TRACEPARENT, now_us};
use crate::events::Route;
use crate::failpoint::{self, Sabotage, sabotaged};
use crate::{Db, metrics};

/// Messages that are published together and then confirmed: 35 times the throughput of one at a time.
const IN_FLIGHT: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// A handler's failure is tried again after these many seconds, the last one again and again.
const DELAYS: [u32; 3] = [1, 10, 60];
/// Deliveries that the broker itself allows: reached only where processes die before they can count.
const DELIVERY_LIMIT: i32 = 100;
/// Takes what a fanout exchange has no queue for.
const UNROUTED: &str = "unrouted";

const PUBLISHED_AT: &str = "x-published-at";
const ATTEMPT: &str = "x-attempt";
const REASON: &str = "x-reason";
const FIRST_FAILED_AT: &str = "x-first-failed-at";
/// All headers of a message have to fit into one frame of 16 KB.
const REASON_LIMIT: usize = 500;

/// What one process needs of the broker.
#[derive(Clone)]
pub(crate) struct Amqp {
    pub url: String,
    pub service: &'static str,
    pub publishes: Arc<[Route]>,
    pub subscriptions: Arc<[Subscription]>,
    pub prefetch: u16,
}

// ---------------------------------------------------------------------------------------------- supervisors

impl Amqp {
    /// Keeps a publisher connected until `stop`; `line` leads to it while it is.
    pub(crate) async fn publisher(self, line: watch::Sender<Line>, stop: CancellationToken) {
        while let Some(connection) = self.connect("publisher", &stop).await {
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = self.publish_on(&connection, &line) => ended,
            };
            line.send_replace(None);
            self.close(connection, ended, "publisher").await;
        }
    }

    /// Keeps the subscriptions connected until `stop`, while the database is there; `connected` says so.
    pub(crate) async fn consumer(
        self,
        bus: Bus,
        db: Option<Db>,
        connected: watch::Sender<bool>,
        stop: CancellationToken,
    ) {
        loop {
            if let Some(db) = &db {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = db.wait_ready() => {}
                }
            }
            let Some(connection) = self.connect("consumer", &stop).await else { return };
            let ended = self.consume_on(&connection, &bus, &connected, &stop).await;
            connected.send_replace(false);
            self.close(connection, ended, "consumer").await;
        }
    }

    /// A connection, however long it takes; `None` when told to stop.
    async fn connect(&self, role: &str, stop: &CancellationToken) -> Option<Connection> {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let name = format!("{} {role}", self.service);
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            // lapin sets aside 64 frames a connection: the default of 128 KB each is 8 MB.
            let separator = if self.url.contains('?') { '&' } else { '?' };
            let url = format!("{}{separator}frame_max=16384&heartbeat=10", self.url);
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect(&url, properties));
            let cause = tokio::select! {
                () = stop.cancelled() => return None,
                connected = connecting => match connected {
                    Ok(Ok(connection)) => return Some(connection),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer within 5 s".into(),
                },
            };
            if failures == 0 {
                tracing::warn!(cause, role, "waiting for RabbitMQ");
            }
            failures += 1;
            pause(failures, stop).await;
        }
        None
    }

    async fn close(&self, connection: Connection, ended: anyhow::Result<()>, role: &str) {
        if let Err(cause) = ended {
            tracing::warn!(cause = format!("{cause:#}"), role, "connection to RabbitMQ is built anew");
            // A broker that refuses at once must not be asked in a tight loop.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let closing = connection.close(200, "bye".into());
        if !matches!(tokio::time::timeout(Duration::from_secs(1), closing).await, Ok(Ok(()))) {
            tracing::debug!(role, "connection was gone before it was closed");
        }
    }
}

/// Backoff up to 1 s, with jitter so that ten services do not come back in step.
async fn pause(failures: u32, stop: &CancellationToken) {
    let longest = 50_u64 << failures.min(5);
    let jitter = u64::from(Uuid::new_v4().as_bytes()[0]) * longest / 512;
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(longest.min(1000) / 2 + jitter)) => {}
    }
}

// ---------------------------------------------------------------------------------------------- publishing

impl Amqp {
    async fn publish_on(&self, connection: &Connection, line: &watch::Sender<Line>) -> anyhow::Result<()> {
        let channel = connection.create_channel().await?;
        declare(&channel, &self.publishes, &self.subscriptions).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (sender, mut requests) = mpsc::channel(IN_FLIGHT);
        line.send_replace(Some(sender));
        tracing::info!("publisher is connected to RabbitMQ");
        let mut round = Vec::with_capacity(IN_FLIGHT);
        let rounds = async {
            while requests.recv_many(&mut round, IN_FLIGHT).await > 0 {
                publish_round(connection, &channel, round.drain(..)).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = rounds => ended,
            () = lost(connection, &channel) => bail!("connection lost"),
        }
    }
}

/// Returns when nothing can be published here any more.
async fn lost(connection: &Connection, channel: &Channel) {
    let mut check = tokio::time::interval(CHECK_EVERY);
    while connection.status().connected() && channel.status().connected() {
        check.tick().await;
    }
}

/// Publishes what waits, together, and settles it when all of it is confirmed. Not one by one: the broker returns what no
/// queue takes before it confirms it, but lapin hands a return to whichever confirm comes next, often another message's.
/// Only when every confirm of a round is in, all its returns are, and the ids in them say whose they are.
async fn publish_round(
    connection: &Connection,
    channel: &Channel,
    round: impl ExactSizeIterator<Item = Publish>,
) -> anyhow::Result<()> {
    let mut confirms = Vec::new();
    let mut senders = Vec::new();
    let several = round.len() > 1;
    if sabotaged(Sabotage::SharedChannel) {
        join_all(round.map(|publish| publish_on_shared(channel, publish))).await;
        return Ok(());
    }
    for Publish { message, outcome } in round {
        if several && senders.len() == 1 {
            failpoint::pass_when_sent("mid_batch").await;
        }
        if outcome.is_closed() {
            continue;
        }
        if connection.status().blocked() {
            drop(outcome.send(Err(PublishError::Blocked)));
            continue;
        }
        senders.push((message.id.to_string(), outcome));
        confirms.push(publish(channel, message).await?);
    }
    failpoint::pass_when_sent("after_publish_before_confirm").await;
    if sabotaged(Sabotage::NoConfirms) {
        senders.into_iter().for_each(|(_, outcome)| drop(outcome.send(Ok(()))));
        return Ok(());
    }
    let deadline = Instant::now() + CONFIRM_TIMEOUT;
    let confirmed = join_all(confirms.into_iter().map(|confirm| timeout_at(deadline, confirm))).await;
    let confirmed: Vec<Option<Confirmation>> = confirmed.into_iter().map(|c| c.ok()?.ok()).collect();
    let returned: HashSet<&str> = confirmed.iter().flatten().filter_map(returned_id).collect();
    let mut unconfirmed = false;
    for ((id, outcome), confirmed) in senders.into_iter().zip(&confirmed) {
        let settled = match confirmed {
            None => Err(PublishError::Unconfirmed),
            Some(_) if returned.contains(id.as_str()) => Err(PublishError::Unroutable),
            Some(Confirmation::Ack(_)) => Ok(()),
            Some(Confirmation::Nack(_) | Confirmation::NotRequested) => Err(PublishError::Refused),
        };
        unconfirmed |= settled == Err(PublishError::Unconfirmed);
        // Whoever asked may have given up; the connection's fate is decided all the same.
        drop(outcome.send(settled));
    }
    // After a time-out the frame may still lie in a buffer: closing the connection discards it.
    ensure!(!unconfirmed, "a publish was not confirmed");
    Ok(())
}

/// What [`Sabotage::SharedChannel`] does instead: each publisher believes the confirm that lapin hands to it.
async fn publish_on_shared(channel: &Channel, Publish { message, outcome }: Publish) {
    let confirmed = async { publish(channel, message).await?.await };
    let settled = match confirmed.await {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(Confirmation::Ack(Some(_))) => Err(PublishError::Unroutable),
        _ => Err(PublishError::Unconfirmed),
    };
    drop(outcome.send(settled));
}

/// The id of the message that came back with this confirm, be it this one's or another's.
fn returned_id(confirmation: &Confirmation) -> Option<&str> {
    match confirmation {
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            returned.delivery.properties.message_id().as_ref().map(ShortString::as_str)
        }
        Confirmation::Ack(None) | Confirmation::Nack(None) | Confirmation::NotRequested => None,
    }
}

async fn publish(channel: &Channel, message: Message) -> lapin::Result<lapin::PublisherConfirm> {
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: String| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    put(REQUEST_ID, message.context.workflow.clone());
    put(TRACEPARENT, message.context.traceparent);
    put(ACCEPTED_AT, message.context.accepted_us.to_string());
    put(PUBLISHED_AT, message.published_us.to_string());
    for (name, value) in message.notes {
        put(name, value);
    }
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(message.id.to_string().into())
        .with_correlation_id(message.context.workflow.into())
        .with_timestamp((message.published_us / 1_000_000).unsigned_abs())
        .with_type(message.event.as_ref().into())
        .with_headers(headers);
    // Mandatory: on the default exchange a queue that was deleted is an error, not a loss.
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let (exchange, key) = (message.exchange.as_ref().into(), message.routing_key.as_ref().into());
    channel.basic_publish(exchange, key, options, &message.body, properties).await
}

// ---------------------------------------------------------------------------------------------- consuming

impl Amqp {
    async fn consume_on(
        &self,
        connection: &Connection,
        bus: &Bus,
        connected: &watch::Sender<bool>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        declare(&connection.create_channel().await?, &self.publishes, &self.subscriptions).await?;
        let mut pumps = JoinSet::new();
        for subscription in self.subscriptions.iter() {
            let channel = connection.create_channel().await?;
            let prefetch = match subscription {
                Subscription { concurrency: Some(concurrency), .. } => *concurrency,
                Subscription { batch, .. } => self.prefetch.max(u16::try_from(2 * batch).unwrap_or(u16::MAX)),
            };
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let pump =
                Pump { channel, subscription: subscription.clone(), bus: bus.clone(), stop: stop.clone() };
            pumps.spawn(pump.run(self.service));
        }
        connected.send_replace(true);
        tracing::info!(queues = self.subscriptions.len(), "consumers are connected to RabbitMQ");
        // The first that fails takes the connection with it: half a service must not look alive.
        while let Some(ended) = pumps.join_next().await {
            ended.context("a consumer panicked")??;
        }
        Ok(())
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
    async fn run(self, service: &'static str) -> anyhow::Result<()> {
        let queue = self.subscription.queue;
        let options = BasicConsumeOptions::default();
        let consuming =
            self.channel.basic_consume(queue.into(), service.into(), options, FieldTable::default());
        let consumer = consuming.await.with_context(|| format!("cannot consume {queue}"))?;
        let tag = consumer.tag();
        let this = Arc::new(self);
        let mut batches = consumer.ready_chunks(this.subscription.batch);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = this.stop.cancelled() => break,
                batch = batches.next() => {
                    let batch: Vec<Delivery> =
                        batch.with_context(|| format!("{queue}: the broker cancelled the consumer"))?
                            .into_iter().collect::<Result<_, _>>()?;
                    if this.subscription.batch > 1 {
                        Arc::clone(&this).settle(batch).await?;
                    } else {
                        running.spawn(Arc::clone(&this).settle(batch));
                    }
                }
                Some(settled) = running.join_next(), if !running.is_empty() => settled??,
            }
        }
        this.channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
        while let Some(settled) = running.join_next().await {
            settled??;
        }
        Ok(())
    }

    /// Has a batch judged, does what the verdicts say, and acknowledges it. What is not acknowledged comes again.
    async fn settle(self: Arc<Self>, batch: Vec<Delivery>) -> anyhow::Result<()> {
        let raw: Arc<[Raw]> = batch.iter().map(raw).collect();
        let Some(last) = batch.last().map(|delivery| delivery.acker.clone()) else { return Ok(()) };
        let several = batch.len() > 1;
        if sabotaged(Sabotage::AckBeforeCommit) {
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
                failpoint::pass("mid_batch");
            }
            let outcome = match verdict {
                Verdict::Done(Handled::Applied) => "ok",
                Verdict::Done(Handled::Duplicate) => "duplicate",
                Verdict::Retry(reason) => self.set_aside(delivery, reason, true).await?,
                Verdict::Dead(reason) => self.set_aside(delivery, reason, false).await?,
                Verdict::Away(_) => unreachable!("judge waits while something is away"),
            };
            consumed.with_label_values(&[self.subscription.queue, outcome]).inc();
        }
        // Batches are settled one after the other on a channel of their own: everything up to the last one is done.
        failpoint::pass("before_ack");
        if sabotaged(Sabotage::AckBeforeCommit) {
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
            let verdicts = self.subscription.judge(Arc::clone(raw)).await;
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

    /// A copy to a delay queue, or to the dead-letter queue when it cannot succeed or has been tried enough.
    async fn set_aside(
        &self,
        delivery: Delivery,
        mut reason: String,
        may_retry: bool,
    ) -> anyhow::Result<&'static str> {
        reason.truncate(reason.floor_char_boundary(REASON_LIMIT));
        let queue = self.subscription.queue;
        let attempt = header(&delivery, ATTEMPT).and_then(|a| a.parse().ok()).unwrap_or(0_u32) + 1;
        let retry = may_retry && attempt < MAX_ATTEMPTS;
        let (exchange, routing_key) = if retry {
            let delay = DELAYS[(attempt as usize - 1).min(DELAYS.len() - 1)];
            (delay_exchange(delay), queue.to_owned())
        } else {
            (String::new(), dead_letters(queue))
        };
        let first_failed =
            header(&delivery, FIRST_FAILED_AT).map_or_else(|| now_us().to_string(), str::to_owned);
        let raw = raw(&delivery);
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
            id: raw.message_id.parse().unwrap_or_else(|_| Uuid::now_v7()),
            event: delivery.properties.kind().as_ref().map_or("", ShortString::as_str).to_owned().into(),
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            context: raw.context,
            published_us: raw.published_us.unwrap_or_else(now_us),
            body: delivery.data,
            notes: vec![(ATTEMPT, attempt.to_string()), (REASON, reason), (FIRST_FAILED_AT, first_failed)],
        };
        self.bus.send(message).await.with_context(|| format!("{queue}: an event could not be set aside"))?;
        failpoint::pass("after_aside_before_ack");
        Ok(if retry { "retry" } else { "dead" })
    }
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a str> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn raw(delivery: &Delivery) -> Raw {
    let message_id = delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
    Raw {
        // Published by hand, without an id: a natural key still keeps it from being applied twice.
        message_id: message_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
        context: Context::received(|name| header(delivery, name)),
        published_us: header(delivery, PUBLISHED_AT).and_then(|us| us.parse().ok()),
        body: delivery.data.clone(),
    }
}

// ---------------------------------------------------------------------------------------------- topology

fn dead_letters(queue: &str) -> String {
    format!("{queue}.dlq")
}

fn delay_exchange(seconds: u32) -> String {
    format!("retry.{seconds}s")
}

/// Declares what this process publishes to and reads from; the same arguments wherever a name occurs, or the broker refuses.
/// Valid on RabbitMQ 3.10 and 4.x.
async fn declare(
    channel: &Channel,
    publishes: &[Route],
    subscriptions: &[Subscription],
) -> anyhow::Result<()> {
    exchange(channel, UNROUTED, None).await?;
    queue(channel, "unrouted_queue", None, &[]).await?;
    bind(channel, "unrouted_queue", UNROUTED).await?;
    if !subscriptions.is_empty() {
        for seconds in DELAYS {
            // Back to the queue whose name is the routing key, when the time is over.
            let name = format!("retry_{seconds}s_queue");
            exchange(channel, &delay_exchange(seconds), None).await?;
            let ttl = ("x-message-ttl", AMQPValue::LongInt((seconds * 1000).cast_signed()));
            queue(channel, &name, Some(None), &[ttl]).await?;
            bind(channel, &name, &delay_exchange(seconds)).await?;
        }
    }
    for route in publishes {
        match route {
            Route::Queue(name) => working_queue(channel, name).await?,
            Route::Fanout { exchange: name, queues } => {
                exchange(channel, name, Some(UNROUTED)).await?;
                for queue in *queues {
                    working_queue(channel, queue).await?;
                    bind(channel, queue, name).await?;
                }
            }
        }
    }
    for subscription in subscriptions {
        working_queue(channel, subscription.queue).await?;
    }
    Ok(())
}

async fn working_queue(channel: &Channel, name: &str) -> anyhow::Result<()> {
    let dead = dead_letters(name);
    queue(channel, &dead, None, &[]).await?;
    queue(channel, name, Some(Some(&dead)), &[("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT))]).await
}

/// A durable quorum queue. `dead_to`: where the broker itself moves what expires or is delivered too often: through the
/// default exchange under a given routing key, or under the message's own. At least once, which asks for `reject-publish`.
async fn queue(
    channel: &Channel,
    name: &str,
    dead_to: Option<Option<&str>>,
    more: &[(&str, AMQPValue)],
) -> anyhow::Result<()> {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
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
