//! The publisher. One task owns the channel, because tasks that share a channel get each other's confirms. It refuses messages
//! at once while the broker is blocked.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::AMQPErrorKind;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ErrorKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Amqp;
use super::topology::{declare, route};
use crate::bus::{CONFIRM_TIMEOUT, Message, Publish, PublishError, PublisherHandle};
use crate::failpoint::{self, Failpoint, Protection, disabled};

/// Messages that may be unconfirmed at the same time.
const IN_FLIGHT: usize = 256;
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// The wait for outstanding confirms after the broker has reported an alarm.
const LAST_CONFIRMS: Duration = Duration::from_secs(1);

impl Amqp {
    pub(super) async fn publish_on(
        &self,
        connection: &Connection,
        publisher: &watch::Sender<PublisherHandle>,
        max_size: &AtomicUsize,
    ) -> anyhow::Result<()> {
        let channel = connection.create_channel().await?;
        declare(&channel, &self.endpoint.publishes, &self.endpoint.subscriptions).await?;
        if !disabled(Protection::Confirms) {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
        }
        ask_for_alarms(connection, &channel).await?;
        let (sender, mut requests) = mpsc::channel(IN_FLIGHT);
        publisher.send_replace(Some(sender));
        tracing::info!("publisher is connected to RabbitMQ");
        let cut = AtomicBool::new(false);
        let work = async {
            if disabled(Protection::OwnChannel) {
                share(&channel, requests).await;
                return Ok(());
            }
            publish_all(connection, &channel, &cut, max_size, &mut requests).await
        };
        tokio::select! {
            ended = work => ended,
            why = lost(connection, &channel, &cut) => bail!(why),
        }
    }
}

/// RabbitMQ sends `connection.blocked` only to connections that have published. Publishes one unroutable message to learn whether
/// an alarm is active. Its body is not empty: during an alarm the broker
/// leaves the body's frame unread, so it does not confirm the message.
async fn ask_for_alarms(connection: &Connection, channel: &Channel) -> anyhow::Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let confirmed =
        async { channel.basic_publish("".into(), "".into(), options, b"?", properties).await?.await };
    let mut patience = Patience::default();
    tokio::select! {
        confirmed = confirmed => drop(confirmed?),
        () = patience.over(connection, Instant::now()) => ensure!(connection.status().blocked(), "the broker confirms nothing"),
    }
    Ok(())
}

/// Returns the reason when the channel can no longer publish. Logs when an alarm begins and ends.
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

/// The time limit of a confirm, shorter once the broker has reported an alarm.
#[derive(Default)]
struct Patience {
    blocked_since: Option<Instant>,
}

impl Patience {
    async fn over(&mut self, connection: &Connection, since: Instant) {
        loop {
            let now = Instant::now();
            let blocked = connection.status().blocked();
            self.blocked_since = blocked.then(|| self.blocked_since.unwrap_or(now));
            let cut_off = self.blocked_since.map(|at| at + LAST_CONFIRMS);
            let until = cut_off.map_or(since + CONFIRM_TIMEOUT, |at| at.min(since + CONFIRM_TIMEOUT));
            if now >= until {
                return;
            }
            tokio::time::sleep((until - now).min(Duration::from_millis(50))).await;
        }
    }
}

/// A message that is not confirmed yet.
struct Unconfirmed {
    id: String,
    size: usize,
    outcome: oneshot::Sender<Result<(), PublishError>>,
    since: Instant,
}

/// Publishes requests, with up to [`IN_FLIGHT`] messages unconfirmed. `cut`: an alarm prevented confirms, so this channel
/// publishes nothing more.
///
/// All confirms that are ready are settled together. The broker returns an unroutable message before it confirms it, but lapin
/// attaches the return to whichever confirm comes next, often another message's. So when all confirms of an
/// acknowledgement are ready, the returns of their messages are among them, and the id in a return tells its message.
async fn publish_all(
    connection: &Connection,
    channel: &Channel,
    cut: &AtomicBool,
    max_size: &AtomicUsize,
    requests: &mut mpsc::Receiver<Publish>,
) -> anyhow::Result<()> {
    let mut confirms = FuturesUnordered::new();
    let mut waiting: BTreeMap<u64, Unconfirmed> = BTreeMap::new();
    let mut returned = HashSet::new();
    let mut taken = Vec::with_capacity(IN_FLIGHT);
    let mut number = 0;
    let mut patience = Patience::default();
    loop {
        let room = IN_FLIGHT - confirms.len();
        let oldest = waiting.first_key_value().map_or_else(Instant::now, |(_, oldest)| oldest.since);
        tokio::select! {
            biased;
            Some(first) = confirms.next() => {
                let there = all_ready(channel, &mut confirms, first);
                let unconfirmed = settle(&mut waiting, &mut returned, max_size, there);
                // The frame may still be in a buffer, and its confirm must not mix with later ones: closing the connection
                // discards both. Not during an alarm, when the broker would not read the close.
                ensure!(!unconfirmed || connection.status().blocked(), "a publish was not confirmed");
                cut.fetch_or(unconfirmed, Ordering::Relaxed);
            }
            several = requests.recv_many(&mut taken, room), if room > 0 => {
                if several == 0 {
                    return Ok(());
                }
                for (place, Publish { message, outcome }) in taken.drain(..).enumerate() {
                    if place == 1 {
                        failpoint::pass_when_sent(Failpoint::MidBatch, confirms.next()).await;
                    }
                    if outcome.is_closed() {
                        continue;
                    }
                    // During an alarm lapin writes nothing.
                    if connection.status().blocked() || cut.load(Ordering::Relaxed) {
                        drop(outcome.send(Err(PublishError::Blocked)));
                        continue;
                    }
                    let size = message.body.len();
                    if size > max_size.load(Ordering::Relaxed) {
                        drop(outcome.send(Err(PublishError::TooLarge)));
                        continue;
                    }
                    number += 1;
                    let (id, since) = (message.id.clone(), Instant::now());
                    waiting.insert(number, Unconfirmed { id, size, outcome, since });
                    let number = number;
                    // Not awaited here, which would cost a cycle of lapin's thread for each message.
                    confirms.push(async move { (number, confirmed(channel, message).await.map_err(failure)) });
                }
                failpoint::pass_when_sent(Failpoint::AfterPublishBeforeConfirm, confirms.next()).await;
            }
            () = patience.over(connection, oldest), if !confirms.is_empty() => {
                confirms.clear();
                let never = waiting.keys().map(|number| (*number, Err(PublishError::Unconfirmed))).collect();
                settle(&mut waiting, &mut returned, max_size, never);
                ensure!(connection.status().blocked(), "a publish was not confirmed");
                cut.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// This confirm and all others that are ready. The broker may acknowledge many messages at once; lapin's thread then makes their
/// confirms ready one after the other, in any order, and holds a lock meanwhile. So the confirms are complete when none
/// became ready while this waited for the lock.
fn all_ready<T: Future>(
    channel: &Channel,
    confirms: &mut FuturesUnordered<T>,
    first: T::Output,
) -> Vec<T::Output> {
    let mut ready = vec![first];
    loop {
        let before = ready.len();
        // Takes the lock at its first poll. Returned messages travel with their confirms, so none is lost here.
        drop(channel.wait_for_confirms().now_or_never());
        while let Some(Some(next)) = confirms.next().now_or_never() {
            ready.push(next);
        }
        if ready.len() == before {
            return ready;
        }
    }
}

/// Sends the outcomes of these confirms; returns whether one is missing. `returned`: ids of returned messages, kept until no
/// message is unconfirmed.
fn settle(
    waiting: &mut BTreeMap<u64, Unconfirmed>,
    returned: &mut HashSet<String>,
    max_size: &AtomicUsize,
    there: Vec<(u64, Result<Confirmation, PublishError>)>,
) -> bool {
    returned.extend(there.iter().filter_map(|(_, confirmation)| returned_id(confirmation.as_ref().ok()?)));
    let mut unconfirmed = false;
    for (number, confirmation) in there {
        let Some(Unconfirmed { id, size, outcome, .. }) = waiting.remove(&number) else { continue };
        unconfirmed |= confirmation.is_err();
        let settled = match confirmation {
            Err(PublishError::Closed(cause)) => Err(closed(cause, size, max_size)),
            Err(error) => Err(error),
            Ok(_) if returned.contains(&id) => Err(PublishError::Unroutable),
            Ok(Confirmation::Ack(_)) => Ok(()),
            Ok(Confirmation::NotRequested) if disabled(Protection::Confirms) => Ok(()),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => Err(PublishError::Refused),
        };
        // The requester may have timed out.
        drop(outcome.send(settled));
    }
    if waiting.is_empty() {
        returned.clear();
    }
    unconfirmed
}

fn failure(error: lapin::Error) -> PublishError {
    match error.kind() {
        // Soft errors concern the channel, and so the messages published on it.
        ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)) => {
            PublishError::Closed(error.to_string())
        }
        _ => PublishError::Unconfirmed,
    }
}

/// The outcome of a message of this size when the broker closed the channel. A message that is too large closes the channel for
/// all unconfirmed ones. The cause ends with the limit, which is remembered so that this happens once.
fn closed(cause: String, size: usize, max_size: &AtomicUsize) -> PublishError {
    let numbers = cause.split(|c: char| !c.is_ascii_digit());
    match numbers.filter_map(|number| number.parse().ok()).next_back() {
        Some(limit) if cause.contains("message size") => {
            max_size.store(limit, Ordering::Relaxed);
            if size > limit { PublishError::TooLarge } else { PublishError::Unconfirmed }
        }
        _ => PublishError::Closed(cause),
    }
}

/// Replaces the publisher when [`Protection::OwnChannel`] is disabled: publishers share a channel, and each takes the next confirm
/// for its own.
async fn share(channel: &Channel, mut requests: mpsc::Receiver<Publish>) {
    let mut publishers = VecDeque::new();
    let mut confirms = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(Publish { message, outcome }) = requests.recv() => {
                publishers.push_back(outcome);
                confirms.push(confirmed(channel, message));
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

/// The id of the returned message that lapin attached to this confirm. It may be another message's confirm.
fn returned_id(confirmation: &Confirmation) -> Option<String> {
    match confirmation {
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            returned.delivery.properties.message_id().as_ref().map(ToString::to_string)
        }
        Confirmation::Ack(None) | Confirmation::Nack(None) | Confirmation::NotRequested => None,
    }
}

/// Publishes on first poll; ready when the broker has confirmed.
async fn confirmed(channel: &Channel, mut message: Message) -> lapin::Result<Confirmation> {
    let mut headers = FieldTable::default();
    for (name, value) in message.take_headers() {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(message.id.into())
        .with_correlation_id(message.context.workflow.into())
        .with_timestamp((message.published_us / 1_000_000).unsigned_abs())
        .with_type(message.event.as_ref().into())
        .with_headers(headers);
    // Mandatory, so that a deleted queue behind the default exchange is an error and no silent loss.
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let (exchange, key) = route(message.address);
    let (exchange, key) = (exchange.as_ref().into(), key.as_ref().into());
    channel.basic_publish(exchange, key, options, &message.body, properties).await?.await
}
