//! The broker alone: persistent messages as large as a click's to a quorum queue without a consumer, each confirmed.

use std::time::Instant;

use lapin::BasicProperties;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::in_flight::{self, Message, confirming, connect};
use crate::times::{end_of, positive, summary};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// amqp://USER:PASSWORD@HOST:PORT/VHOST
    #[arg(long)]
    url: String,
    /// Messages that are unconfirmed at any time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    seconds: f64,
}

pub(crate) async fn publish(args: Args) -> anyhow::Result<Value> {
    let connection = connect(&args.url).await?;
    let channel = confirming(&connection).await?;
    let queue = format!("baseline_{}_queue", std::process::id());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), options, arguments).await?;

    let body = json!({
        "event_id": "01900000-0000-7000-8000-000000000000",
        "user_id": 12345,
        "page": "/products/123",
        "timestamp": "2026-01-01T00:00:00.123456789Z",
    });
    let body = serde_json::to_vec(&body)?;
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
    let (begun, end) = (Instant::now(), end_of(args.seconds));
    let next = || {
        let message = || Message { properties: properties.clone(), body: body.clone() };
        Ok((Instant::now() < end).then(message))
    };
    let mut took = Vec::new();
    let published = in_flight::publish(&channel, &queue, args.in_flight, next, |time| took.push(time)).await;
    let seconds = begun.elapsed().as_secs_f64();
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    published?;
    connection.close(200, "bye".into()).await?;

    Ok(summary(&took, 1, seconds))
}
