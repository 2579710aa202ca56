//! Messages of other publishers: any delivery is handled or dead-lettered, and its neighbours are handled once.

use std::collections::BTreeSet;
use std::time::Duration;

use common::Mode;
use common::bus::{Consumers, HandlerError, Incoming, Outcome, consumer, transaction};
use common::config::NoSettings;
use common::db::Tx;
use common::events::{
    CACHE_PRODUCT_UPDATES_QUEUE, ProductUpdated, SEARCH_PRODUCT_UPDATES_QUEUE, USER_REGISTERED_QUEUE,
    UserRegistered,
};
use common::service::{About, Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use fastrand::Rng;
use serde_json::json;
use sqlx::migrate::Migrator;
use utoipa_axum::router::OpenApiRouter;

use super::wire::{Properties, Wire, entry, long, short};
use super::{ABOUT, QUEUE, Seen, note, set_aside, start, waiting, within};

static NO_MIGRATIONS: Migrator = Migrator::DEFAULT;
const WITH_DATABASE: About = About { migrations: Some(&NO_MIGRATIONS), ..ABOUT };

async fn note_all(seen: Seen, users: Vec<Incoming<UserRegistered>>) -> Result<Vec<Outcome>, HandlerError> {
    users.iter().for_each(|user| seen.note(user, user.user_id));
    Ok(vec![Outcome::Applied; users.len()])
}

async fn note_in(seen: Seen, _: &mut Tx, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
    seen.note(&user, user.user_id);
    Ok(Outcome::Applied)
}

/// The ways to read a queue.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Single,
    InTurn,
    Batch,
    Together,
}

impl Reader {
    const ALL: [Reader; 4] = [Reader::Single, Reader::InTurn, Reader::Batch, Reader::Together];

    async fn start(self, sandbox: &Sandbox, seen: Seen) -> TestApp {
        let build = |deps: Deps, NoSettings {}| {
            let consumers = Consumers::of(seen);
            Service::new(OpenApiRouter::new()).consumes(match self {
                Reader::Single => consumers.with(consumer(USER_REGISTERED_QUEUE, note)),
                Reader::InTurn => consumers.with(consumer(USER_REGISTERED_QUEUE, note).batch(64)),
                Reader::Batch => consumers.with(consumer(USER_REGISTERED_QUEUE, note_all).batch(50)),
                Reader::Together => consumers.with(transaction(&deps.db(), USER_REGISTERED_QUEUE, note_in)),
            })
        };
        sandbox.start(WITH_DATABASE, Mode::Async, &[], build).await
    }
}

/// A sandbox whose queues exist and have no consumers.
async fn sandbox_with_queues() -> Sandbox {
    let sandbox = Sandbox::new().await;
    let (app, _) = start(&sandbox, Consumers::of(())).await;
    app.stop().await;
    sandbox
}

fn registered(number: i64) -> Vec<u8> {
    json!({"user_id": number, "email": "a@example.org", "timestamp": "2026-01-01T00:00:00Z"})
        .to_string()
        .into_bytes()
}

/// A header of arrays within arrays.
fn nested(levels: usize) -> Vec<u8> {
    let arrays =
        (0..levels).rev().flat_map(|within| [&b"A"[..], &(5 * within as u32 + 1).to_be_bytes()].concat());
    short(b"deep").into_iter().chain(arrays).chain(*b"V").collect()
}

#[tokio::test]
async fn an_event_is_handled_whatever_properties_it_has_and_so_are_its_neighbours() {
    let none = Properties::default;
    let huge = "h".repeat(20_000);
    let odd = [
        ("no properties", none()),
        ("an application that is not UTF-8", none().text(Properties::APP_ID, b"B\xfcro")),
        ("an id that is not UTF-8", none().text(Properties::MESSAGE_ID, b"\xfc")),
        ("another id that is not UTF-8", none().text(Properties::MESSAGE_ID, b"\xfd")),
        ("an id with a zero", none().text(Properties::MESSAGE_ID, b"a\0b")),
        ("an empty id", none().text(Properties::MESSAGE_ID, b"")),
        ("another empty id", none().text(Properties::MESSAGE_ID, b"")),
        ("a long id", none().text(Properties::MESSAGE_ID, [b'm'; 255])),
        ("a workflow that is not UTF-8", none().text(Properties::CORRELATION_ID, b"\xff\xfe")),
        ("a type that is not UTF-8", none().text(Properties::TYPE, b"\xff\xfe")),
        ("an unknown encoding", none().text(Properties::CONTENT_ENCODING, b"x-none")),
        ("a time that cannot be", none().bytes(Properties::TIMESTAMP, vec![255; 8])),
        ("a priority of 255", none().bytes(Properties::PRIORITY, vec![255])),
        ("a header whose name is not UTF-8", none().headers(&entry(b"schl\xfcssel", "1"))),
        (
            "a name within a header that is not UTF-8",
            none().headers(&[&short(b"t")[..], b"F", &long(&entry(b"schl\xfcssel", "1"))].concat()),
        ),
        ("a header that is not UTF-8", none().headers(&entry("traceparent", b"\xff\xfe"))),
        ("headers of 20 KB", none().headers(&entry("big", &huge))),
        ("headers of 120 KB", none().headers(&entry("big", huge.repeat(6)))),
        ("headers of 3000 levels", none().headers(&nested(3000))),
        ("headers of 20000 levels", none().headers(&nested(20_000))),
        ("a publication before all time", none().headers(&entry("x-published-at", i64::MIN.to_string()))),
        ("a publication after all time", none().headers(&entry("x-published-at", i64::MAX.to_string()))),
        ("an acceptance before all time", none().headers(&entry("x-accepted-at", i64::MIN.to_string()))),
    ];
    for reader in Reader::ALL {
        let (sandbox, seen) = (sandbox_with_queues().await, Seen::default());
        let mut wire = Wire::to(&sandbox).await;
        let neighbour = |number: i64| none().text(Properties::MESSAGE_ID, format!("neighbour {number}"));
        for (number, (_, properties)) in (0_i64..).zip(&odd) {
            wire.publish("", QUEUE.as_bytes(), &neighbour(number), &registered(1000 + number)).await;
            wire.publish("", QUEUE.as_bytes(), properties, &registered(1 + number)).await;
        }
        wire.confirmed().await;
        let app = reader.start(&sandbox, seen.clone()).await;
        eventually("all are seen", async || seen.numbers().len() >= 2 * odd.len()).await;
        app.stop().await;
        for (number, (what, _)) in (0_i64..).zip(&odd) {
            assert_eq!(seen.times(1 + number), 1, "{reader:?}: {what}");
            assert_eq!(seen.times(1000 + number), 1, "{reader:?}: the neighbour of {what}");
        }
        assert_eq!(waiting(&sandbox, QUEUE).await, 0, "{reader:?}");
        assert!(set_aside(&sandbox, QUEUE).await.is_empty(), "{reader:?}");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn an_event_reaches_each_queue_of_a_fanout_whatever_its_routing_key() {
    async fn note(seen: Seen, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
        seen.note(&product, product.version);
        Ok(Outcome::Applied)
    }
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let consumers = Consumers::of(seen.clone())
        .with(consumer(SEARCH_PRODUCT_UPDATES_QUEUE, note).batch(64))
        .with(consumer(CACHE_PRODUCT_UPDATES_QUEUE, note).batch(64));
    let (app, _) = start(&sandbox, consumers).await;
    let mut wire = Wire::to(&sandbox).await;
    for version in 1..=10 {
        let product = json!({"product_id": 1, "name": "Laptop", "stock": 5, "version": version, "timestamp": "2026-01-01T00:00:00Z"});
        let key: &[u8] = if version % 2 == 0 { b"g\xfcnstig" } else { b"" };
        wire.publish("product_updates", key, &Properties::default(), product.to_string().as_bytes()).await;
    }
    wire.confirmed().await;
    eventually("both see all", async || seen.numbers().len() >= 20).await;
    app.stop().await;
    assert!((1..=10).all(|version| seen.times(version) == 2), "{:?}", seen.numbers());
    sandbox.close().await;
}

/// What a consumer notes of its attempts can come from others as well.
#[tokio::test]
async fn an_event_that_fails_is_tried_again_or_set_aside_whatever_is_noted_of_its_attempts() {
    async fn fail_odd(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        match user.user_id % 2 == 1 && seen.times(user.user_id) == 1 {
            true => Err(HandlerError::Retry(anyhow::anyhow!("not yet"))),
            false => Ok(Outcome::Applied),
        }
    }
    let notes = [
        (entry("x-attempt", "-1"), false),
        (entry("x-attempt", "4294967295"), true),
        (entry("x-attempt", "4294967296"), false),
        (entry("x-attempt", "1"), false),
        (entry("x-attempt", "4"), true),
        ([&short(b"x-attempt")[..], b"I", &i32::MIN.to_be_bytes()].concat(), false),
        (entry("x-first-failed-at", "9".repeat(15_000)), false),
        (entry("x-first-failed-at", "-5"), false),
        (entry("x-reason", "r".repeat(15_000)), false),
        (entry("x-published-at", i64::MIN.to_string()), false),
    ];
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, fail_odd));
    let (app, _) = start(&sandbox, consumers).await;
    let mut wire = Wire::to(&sandbox).await;
    for (number, (headers, _)) in (0_i64..).zip(&notes) {
        let properties = Properties::default().headers(headers).text(Properties::TYPE, [b't'; 255]);
        wire.publish("", QUEUE.as_bytes(), &properties, &registered(2 * number + 1)).await;
        wire.publish("", QUEUE.as_bytes(), &Properties::default(), &registered(2 * number + 2)).await;
    }
    wire.confirmed().await;
    let attempts = async |number: usize| seen.times(2 * number as i64 + 1);
    for (number, (headers, last)) in notes.iter().enumerate() {
        let text = String::from_utf8_lossy(&headers[..headers.len().min(40)]);
        // A delay that comes with the attempt is not waited for.
        let (expected, patience) = if *last { (1, 20) } else { (2, 40) };
        let tried = async || attempts(number).await == expected;
        within(Duration::from_secs(patience), &format!("{expected} attempts of {text}"), tried).await;
    }
    eventually("the last ones are set aside", async || set_aside(&sandbox, QUEUE).await.len() == 2).await;
    for aside in set_aside(&sandbox, QUEUE).await {
        assert_eq!((&*aside.reason, &*aside.event), ("not yet", "UserRegistered"), "{aside:?}");
    }
    app.stop().await;
    assert!((1..=notes.len()).all(|number| seen.times(2 * number as i64) == 1), "neighbours are seen once");
    sandbox.close().await;
}

const MESSAGES: i64 = 1000;

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a failure can be repeated")]
async fn of_a_thousand_random_messages_the_good_are_handled_once_and_the_bad_are_set_aside() {
    for reader in Reader::ALL {
        let seed = 20_260_101 + reader as u64;
        println!("{reader:?}: seed {seed}");
        let mut rng = Rng::with_seed(seed);
        let (sandbox, seen) = (sandbox_with_queues().await, Seen::default());
        let mut wire = Wire::to(&sandbox).await;
        let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
        for number in 1..=MESSAGES {
            let body = if rng.u8(..4) > 0 {
                good.insert(number);
                registered(number)
            } else {
                bad.insert(number);
                unreadable(&mut rng, number)
            };
            // Any id of a message belongs to it alone.
            let properties = properties(&mut rng, number);
            wire.publish("", QUEUE.as_bytes(), &properties, &body).await;
        }
        wire.confirmed().await;
        let app = reader.start(&sandbox, seen.clone()).await;
        let limit = Duration::from_secs(60);
        within(limit, "the good are handled", async || seen.numbers().len() >= good.len()).await;
        let aside = async || set_aside(&sandbox, QUEUE).await;
        within(limit, "the bad are set aside", async || aside().await.len() >= bad.len()).await;
        assert_eq!(app.get("/ready").await.status, 200, "{reader:?}, seed {seed}");
        app.stop().await;
        let mut numbers = seen.numbers();
        numbers.sort_unstable();
        assert!(numbers.iter().eq(&good), "each good one once: {reader:?}, seed {seed}: {numbers:?}");
        let aside = aside().await;
        assert!(aside.iter().all(|aside| aside.reason.contains("does not parse") && aside.attempt >= 1));
        let number = |body: &str| body.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        let numbers: Vec<i64> = aside.iter().filter_map(|aside| number(&aside.body)).collect();
        assert_eq!(aside.len(), bad.len(), "{reader:?}, seed {seed}");
        assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), bad, "{reader:?}, seed {seed}");
        assert_eq!(waiting(&sandbox, QUEUE).await, 0, "{reader:?}, seed {seed}");
        sandbox.close().await;
    }
}

/// A body that is no event, and begins with its number.
fn unreadable(rng: &mut Rng, number: i64) -> Vec<u8> {
    let rest = match rng.u8(..4) {
        0 => String::new(),
        1 => "{}".into(),
        2 => r#"{"user_id": "text"}"#.into(),
        _ => (0..rng.usize(..200)).map(|_| rng.char(..)).collect(),
    };
    format!("{number} {rest}").into_bytes()
}

/// Each property as likely as not, with any value that the broker takes.
fn properties(rng: &mut Rng, number: i64) -> Properties {
    let mut properties = Properties::default();
    for place in [
        Properties::CONTENT_TYPE,
        Properties::CONTENT_ENCODING,
        Properties::CORRELATION_ID,
        Properties::REPLY_TO,
        Properties::TYPE,
        Properties::APP_ID,
        Properties::CLUSTER_ID,
    ] {
        if rng.bool() {
            properties = properties.text(place, text(rng, 255));
        }
    }
    if rng.bool() {
        // The broker takes no other.
        properties = properties.bytes(Properties::DELIVERY_MODE, vec![rng.u8(1..=2)]);
    }
    for (place, size) in [(Properties::PRIORITY, 1), (Properties::TIMESTAMP, 8)] {
        if rng.bool() {
            properties = properties.bytes(place, bytes(rng, size));
        }
    }
    if rng.bool() {
        let id = [number.to_string().as_bytes(), b" ", &text(rng, 200)].concat();
        properties = properties.text(Properties::MESSAGE_ID, id);
    }
    match rng.u8(..20) {
        0..10 => {}
        10 => properties = properties.headers(&nested(rng.usize(..4000))),
        11 => properties = properties.headers(&entry("big", bytes(rng, 100_000))),
        _ => {
            let depth = rng.usize(..5);
            properties = properties.headers(&table(rng, depth));
        }
    }
    properties
}

const OWN: [&str; 7] = [
    "traceparent",
    "x-accepted-at",
    "x-published-at",
    "x-attempt",
    "x-first-failed-at",
    "x-reason",
    "x-request-id",
];
const NUMBERS: [&str; 6] =
    ["-1", "0", "4294967295", "18446744073709551616", "-9223372036854775808", "9223372036854775807"];

fn table(rng: &mut Rng, depth: usize) -> Vec<u8> {
    let mut entries = Vec::new();
    for _ in 0..rng.usize(..8) {
        let name = match rng.bool() {
            true => OWN[rng.usize(..OWN.len())].as_bytes().to_vec(),
            // Longer than the two names that the broker reads itself, `CC` and `BCC`.
            false => [b"name", &text(rng, 200)[..]].concat(),
        };
        entries.extend([short(&name), value(rng, depth)].concat());
    }
    entries
}

fn value(rng: &mut Rng, depth: usize) -> Vec<u8> {
    let kinds: &[u8] = if depth == 0 { b"tbBsuIildfDTVSSSx" } else { b"tbBsuIildfDTVSSSxAF" };
    let kind = kinds[rng.usize(..kinds.len())];
    let value = match kind {
        b'V' => Vec::new(),
        b't' => vec![rng.u8(..2)],
        b'b' | b'B' => bytes(rng, 1),
        b's' | b'u' => bytes(rng, 2),
        b'I' | b'i' => bytes(rng, 4),
        b'f' => rng.f32().to_be_bytes().to_vec(),
        b'd' => rng.f64().to_be_bytes().to_vec(),
        b'D' => bytes(rng, 5),
        b'l' | b'T' => bytes(rng, 8),
        b'S' if rng.bool() => long(NUMBERS[rng.usize(..NUMBERS.len())].as_bytes()),
        b'S' | b'x' => long(&text(rng, 2000)),
        b'F' => long(&table(rng, depth - 1)),
        _ => long(&(0..rng.usize(..5)).flat_map(|_| value(rng, depth - 1)).collect::<Vec<_>>()),
    };
    [&[kind][..], &value].concat()
}

/// Text, or what somebody took for it.
fn text(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(..=most);
    match rng.u8(..4) {
        0 => bytes(rng, length),
        1 => vec![b'a'; length],
        2 => (0..length / 4).map(|_| rng.char(..)).collect::<String>().into_bytes(),
        _ => (0..length).map(|_| rng.u8(0xC0..)).collect(),
    }
}

fn bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| rng.u8(..)).collect()
}
