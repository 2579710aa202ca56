//! A queue full of clicks, each as analyticsservice publishes it: what its consumer can then be watched to store.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::in_flight::{self, Message, confirming, connect};

/// Parts whose rates are printed: the first is compared with the last.
const FIFTHS: usize = 5;
/// As many users and pages as the load has.
const USERS: usize = 100_000;
const PAGES: usize = 1000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// amqp://USER:PASSWORD@HOST:PORT/VHOST
    #[arg(long)]
    url: String,
    /// It must be there: declared by the service that reads it.
    #[arg(long, default_value = "click_tracked_queue")]
    queue: String,
    #[arg(long, value_name = "N")]
    count: usize,
    /// Messages that are unconfirmed at any time.
    #[arg(long, value_name = "N", default_value_t = 256)]
    in_flight: usize,
}

pub(crate) async fn fill(args: Args) -> anyhow::Result<Value> {
    ensure!(args.count >= FIFTHS, "--count must be at least {FIFTHS}");
    let connection = connect(&args.url).await?;
    let channel = confirming(&connection).await?;
    let begun = Instant::now();
    let (mut published, mut confirmed) = (0, 0);
    let mut marks = Vec::new();
    let next = || {
        published += 1;
        if published > args.count { Ok(None) } else { click(published).map(Some) }
    };
    let note = |_: Duration| {
        confirmed += 1;
        if confirmed * FIFTHS >= args.count * (marks.len() + 1) {
            marks.push((confirmed, begun.elapsed()));
        }
    };
    in_flight::publish(&channel, &args.queue, args.in_flight, next, note).await?;
    let seconds = begun.elapsed().as_secs_f64();
    connection.close(200, "bye".into()).await?;
    Ok(json!({
        "count": args.count,
        "seconds": seconds,
        "per_second": args.count as f64 / seconds,
        "fifths": rates(&marks),
    }))
}

/// Confirms per second between one mark (how many, after how long) and the next, the first from the beginning.
fn rates(marks: &[(usize, Duration)]) -> Vec<f64> {
    let from = [(0, Duration::ZERO)].into_iter().chain(marks.iter().copied());
    let rate = |((before, begun), (count, end)): ((usize, Duration), &(usize, Duration))| {
        (count - before) as f64 / (*end - begun).as_secs_f64()
    };
    from.zip(marks).map(rate).collect()
}

fn click(number: usize) -> anyhow::Result<Message> {
    let (now, now_us) =
        (OffsetDateTime::now_utc(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros());
    let body = json!({
        "event_id": Uuid::now_v7(),
        "user_id": number % USERS + 1,
        "page": format!("/products/{}", number % PAGES),
        "timestamp": now.format(&Rfc3339)?,
    });
    let workflow = Uuid::now_v7().to_string();
    let trace =
        format!("00-{:032x}-{:016x}-01", Uuid::new_v4().as_u128(), Uuid::new_v4().as_u64_pair().0 | 1);
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("traceparent", trace),
        ("x-accepted-at", now_us.to_string()),
        ("x-published-at", now_us.to_string()),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_correlation_id(workflow.into())
        .with_timestamp(now.unix_timestamp().unsigned_abs())
        .with_type("ClickTracked".into())
        .with_headers(headers);
    Ok(Message { properties, body: serde_json::to_vec(&body)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fifth_has_the_rate_of_its_own_time() {
        let marks =
            [(20, Duration::from_secs(1)), (40, Duration::from_secs(2)), (60, Duration::from_secs(6))];
        assert_eq!(rates(&marks), [20.0, 20.0, 5.0]);
    }

    #[test]
    fn no_two_clicks_have_the_same_id() {
        let id = |number| {
            let body: Value = serde_json::from_slice(&click(number).unwrap().body).unwrap();
            body["event_id"].as_str().unwrap().to_owned()
        };
        assert_ne!(id(1), id(1));
    }
}
