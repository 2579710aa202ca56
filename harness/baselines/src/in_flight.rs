//! A publisher of which so many messages are unconfirmed at any time: as one is confirmed, the next is published.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

pub(crate) struct Message {
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default().with_connection_name("baseline".into()))
        .await
        .context("RabbitMQ cannot be reached")
}

pub(crate) async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes what `next` gives until it gives nothing more, and calls `confirmed` with the time that each took.
///
/// # Errors
/// When the broker refuses a message or is gone.
pub(crate) async fn publish(
    channel: &Channel,
    queue: &str,
    in_flight: usize,
    mut next: impl FnMut() -> anyhow::Result<Option<Message>>,
    mut confirmed: impl FnMut(Duration),
) -> anyhow::Result<()> {
    let send = async |message: Message| {
        let (begun, options) =
            (Instant::now(), BasicPublishOptions { mandatory: true, ..Default::default() });
        let sent =
            channel.basic_publish("".into(), queue.into(), options, &message.body, message.properties).await;
        let confirmation = sent?.await?;
        ensure!(matches!(confirmation, Confirmation::Ack(None)), "a message was refused or returned");
        Ok(begun.elapsed())
    };
    let mut unconfirmed = FuturesUnordered::new();
    loop {
        while unconfirmed.len() < in_flight {
            let Some(message) = next()? else { break };
            unconfirmed.push(send(message));
        }
        match unconfirmed.next().await {
            Some(took) => confirmed(took?),
            None => return Ok(()),
        }
    }
}
