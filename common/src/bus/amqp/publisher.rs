//! One task owns the publishing channel, because tasks that share one get each other's confirms. It works in rounds, and answers
//! at once while the broker takes nothing.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::topology::declare;
use super::{Amqp, PUBLISHED_AT};
use crate::bus::{CONFIRM_TIMEOUT, Line, Message, Publish, PublishError};
use crate::context::{ACCEPTED_AT, REQUEST_ID, TRACEPARENT};
use crate::failpoint::{self, Sabotage, sabotaged};

/// Messages that are published together and then confirmed: 35 times the throughput of one at a time.
const IN_FLIGHT: usize = 256;
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// From the broker's word that it takes nothing more to the confirms of what it had taken before.
const LAST_CONFIRMS: Duration = Duration::from_secs(1);

impl Amqp {
    pub(super) async fn publish_on(
        &self,
        connection: &Connection,
        line: &watch::Sender<Line>,
    ) -> anyhow::Result<()> {
        let channel = connection.create_channel().await?;
        declare(&channel, &self.publishes, &self.subscriptions).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        ask_for_alarms(connection, &channel).await?;
        let (sender, mut requests) = mpsc::channel(IN_FLIGHT);
        line.send_replace(Some(sender));
        tracing::info!("publisher is connected to RabbitMQ");
        let mut round = Vec::with_capacity(IN_FLIGHT);
        let cut = AtomicBool::new(false);
        let rounds = async {
            if sabotaged(Sabotage::SharedChannel) {
                share(&channel, requests).await;
                return Ok(());
            }
            while requests.recv_many(&mut round, IN_FLIGHT).await > 0 {
                publish_round(connection, &channel, &cut, round.drain(..)).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = rounds => ended,
            why = lost(connection, &channel, &cut) => bail!(why),
        }
    }
}

/// The broker tells of an alarm only those that publish: so this publishes something that goes nowhere, and waits for the
/// confirm or the bad news. Not empty: with its last frame unread it waits for the alarm's end as everything else does.
async fn ask_for_alarms(connection: &Connection, channel: &Channel) -> anyhow::Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let confirmed =
        async { channel.basic_publish("".into(), "".into(), options, b"?", properties).await?.await };
    let mut patience = Patience::new();
    tokio::select! {
        confirmed = confirmed => drop(confirmed?),
        () = patience.over(connection) => ensure!(connection.status().blocked(), "the broker confirms nothing"),
    }
    Ok(())
}

/// Returns when nothing can be published here any more, with the reason; logs when the broker takes nothing for a while.
async fn lost(connection: &Connection, channel: &Channel, cut: &AtomicBool) -> &'static str {
    let mut check = tokio::time::interval(CHECK_EVERY);
    let mut blocked = false;
    while connection.status().connected() && channel.status().connected() {
        if connection.status().blocked() != blocked {
            blocked = !blocked;
            if blocked {
                tracing::warn!("RabbitMQ takes no messages (memory or disk alarm)");
            } else {
                tracing::info!("RabbitMQ takes messages again");
            }
        }
        if !blocked && cut.load(Ordering::Relaxed) {
            return "messages from before the alarm are not confirmed";
        }
        check.tick().await;
    }
    "connection lost"
}

/// How long a round may take: as long as a confirm may, and not much longer once the broker says that it takes nothing.
struct Patience {
    until: Instant,
    blocked: bool,
}

impl Patience {
    fn new() -> Patience {
        Patience { until: Instant::now() + CONFIRM_TIMEOUT, blocked: false }
    }

    async fn over(&mut self, connection: &Connection) {
        loop {
            let now = Instant::now();
            if !self.blocked && connection.status().blocked() {
                self.blocked = true;
                self.until = self.until.min(now + LAST_CONFIRMS);
            }
            if now >= self.until {
                return;
            }
            tokio::time::sleep((self.until - now).min(Duration::from_millis(50))).await;
        }
    }
}

/// Publishes what waits, together, and settles it when all of it is confirmed. Not one by one: the broker returns what no
/// queue takes before it confirms it, but lapin hands a return to whichever confirm comes next, often another message's.
/// Only when every confirm of a round is in, all its returns are, and the ids in them say whose they are. `cut` says that an
/// alarm ended a round before that: nothing is published here any more.
async fn publish_round(
    connection: &Connection,
    channel: &Channel,
    cut: &AtomicBool,
    round: impl ExactSizeIterator<Item = Publish>,
) -> anyhow::Result<()> {
    let several = round.len() > 1;
    let mut patience = Patience::new();
    let mut confirms = FuturesUnordered::new();
    let mut senders = Vec::new();
    for Publish { message, outcome } in round {
        if several && senders.len() == 1 {
            failpoint::pass_when_sent("mid_batch").await;
        }
        if outcome.is_closed() {
            continue;
        }
        if connection.status().blocked() || cut.load(Ordering::Relaxed) {
            drop(outcome.send(Err(PublishError::Blocked)));
            continue;
        }
        let place = senders.len();
        senders.push((message.id.clone(), outcome));
        // While the broker takes nothing lapin writes nothing, and this would wait for the alarm's end.
        tokio::select! {
            biased;
            confirm = publish(channel, message) => {
                let confirm = confirm?;
                confirms.push(async move { (place, confirm.await) });
            }
            () = patience.over(connection) => {}
        }
    }
    failpoint::pass_when_sent("after_publish_before_confirm").await;
    if sabotaged(Sabotage::NoConfirms) {
        senders.into_iter().for_each(|(_, outcome)| drop(outcome.send(Ok(()))));
        return Ok(());
    }
    let mut confirmed: Vec<Option<Confirmation>> = senders.iter().map(|_| None).collect();
    while !confirms.is_empty() {
        tokio::select! {
            biased;
            Some((place, confirmation)) = confirms.next() => confirmed[place] = confirmation.ok(),
            () = patience.over(connection) => break,
        }
    }
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
    // The frame may still lie in a buffer, and its confirm must not get among those of another round: closing the connection
    // discards both. Not while the broker takes nothing: it would not read the end of the connection either.
    ensure!(!unconfirmed || connection.status().blocked(), "a publish was not confirmed");
    cut.fetch_or(unconfirmed, Ordering::Relaxed);
    Ok(())
}

/// What [`Sabotage::SharedChannel`] does instead of rounds: publishers on one channel, each of which takes the confirm that
/// comes next for its own.
async fn share(channel: &Channel, mut requests: mpsc::Receiver<Publish>) {
    let mut publishers = VecDeque::new();
    let mut confirms = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(Publish { message, outcome }) = requests.recv() => {
                publishers.push_back(outcome);
                confirms.push(async { publish(channel, message).await?.await });
            }
            Some(confirmed) = confirms.next() => {
                let settled = match confirmed {
                    Ok(Confirmation::Ack(None)) => Ok(()),
                    Ok(Confirmation::Ack(Some(_))) => Err(PublishError::Unroutable),
                    _ => Err(PublishError::Unconfirmed),
                };
                if let Some(outcome) = publishers.pop_front() {
                    drop(outcome.send(settled));
                }
            }
            else => return,
        }
    }
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
        .with_message_id(message.id.into())
        .with_correlation_id(message.context.workflow.into())
        .with_timestamp((message.published_us / 1_000_000).unsigned_abs())
        .with_type(message.event.as_ref().into())
        .with_headers(headers);
    // Mandatory: on the default exchange a queue that was deleted is an error, not a loss.
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let (exchange, key) = (message.exchange.as_ref().into(), message.routing_key.as_ref().into());
    channel.basic_publish(exchange, key, options, &message.body, properties).await
}
