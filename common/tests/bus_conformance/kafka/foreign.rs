//! Records of other publishers: any record is handled or dead-lettered, and its neighbours in the partition are handled once.

use common::bus::{Consumers, consumer};
use common::config::NoSettings;
use common::events::USER_REGISTERED_QUEUE;
use common::testing::{Sandbox, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::broker::{MODE, sandbox};
use super::{QUEUE, Seen, note, set_aside, start, waiting};

/// Kafka's protocol as it stands on the wire, so that tests can publish what no client library publishes.
struct Wire {
    stream: TcpStream,
    topic: String,
}

/// Name and value of a header.
type Header = (Vec<u8>, Option<Vec<u8>>);
/// What is odd, key, headers.
type Odd = (&'static str, Option<&'static [u8]>, Vec<Header>);

impl Wire {
    async fn to(sandbox: &Sandbox, queue: &str) -> Wire {
        let settings = sandbox.settings::<NoSettings>(MODE, &[]).0.broker.kafka;
        let address = settings.kafka_bootstrap.expect("an address");
        let stream = TcpStream::connect(address).await.expect("the broker");
        Wire { stream, topic: format!("{}{queue}", settings.kafka_prefix) }
    }

    /// Publishes a record to the first partition.
    async fn publish(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) {
        let batch = batch(&record(key, value, headers));
        let topic = self.topic.as_bytes();
        let request = [
            // Produce, version 3; correlation 1, no client id; no transaction, all replicas, 5 s; one topic.
            &[0, 0, 0, 3, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0x13, 0x88, 0, 0, 0, 1][..],
            &(topic.len() as u16).to_be_bytes(),
            topic,
            // One partition, number 0.
            &[0, 0, 0, 1, 0, 0, 0, 0],
            &(batch.len() as u32).to_be_bytes(),
            &batch,
        ]
        .concat();
        let size = (request.len() as u32).to_be_bytes();
        self.stream.write_all(&[&size[..], &request].concat()).await.expect("the broker reads");
        let size = self.stream.read_u32().await.expect("the broker answers");
        let mut answer = vec![0; size as usize];
        self.stream.read_exact(&mut answer).await.expect("a whole answer");
        // Correlation, one topic, its name, one partition, number 0.
        let error = 4 + 4 + 2 + topic.len() + 4 + 4;
        assert_eq!(answer[error..error + 2], [0, 0], "the record is stored");
    }
}

fn varint(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7F {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn sized(bytes: Option<&[u8]>) -> Vec<u8> {
    match bytes {
        Some(bytes) => [&varint(bytes.len() as i64)[..], bytes].concat(),
        None => varint(-1),
    }
}

fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> Vec<u8> {
    let headers_encoded =
        headers.iter().flat_map(|(name, value)| [sized(Some(name)), sized(value.as_deref())].concat());
    // No attributes, no delta of time and offset.
    let record = [vec![0, 0, 0], sized(key), sized(value), varint(headers.len() as i64)].concat();
    sized(Some(&record.into_iter().chain(headers_encoded).collect::<Vec<_>>()))
}

/// A batch of one record, in version 2 of the format.
fn batch(record: &[u8]) -> Vec<u8> {
    let now = common::context::now_us() / 1000;
    let checked = [
        &[0, 0, 0, 0, 0, 0][..],
        &now.to_be_bytes(),
        &now.to_be_bytes(),
        // No producer: its id, epoch and sequence.
        &[0xFF; 14],
        &1_u32.to_be_bytes(),
        record,
    ]
    .concat();
    let size = (4 + 1 + 4 + checked.len()) as u32;
    [
        &[0; 8][..],
        &size.to_be_bytes(),
        &[0xFF, 0xFF, 0xFF, 0xFF, 2],
        &crc32c(&checked).to_be_bytes(),
        &checked,
    ]
    .concat()
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

fn header(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Header {
    (name.as_ref().to_vec(), Some(value.as_ref().to_vec()))
}

#[tokio::test]
async fn a_record_is_handled_whatever_headers_it_has_and_so_are_its_neighbours() {
    let odd: [Odd; 14] = [
        ("no key and no headers", None, vec![]),
        ("a key that is not UTF-8", Some(b"\xff"), vec![]),
        (
            "a header whose name is not UTF-8",
            None,
            vec![header(b"schl\xfcssel", "1"), header("message_id", "a")],
        ),
        ("a header without a name", None, vec![header("", "1")]),
        ("a header whose name has a zero", None, vec![header(b"a\0b", "1")]),
        ("a header without a value", None, vec![(b"traceparent".to_vec(), None)]),
        ("an id that is not UTF-8", None, vec![header("message_id", b"\xfc")]),
        ("an empty id", None, vec![header("message_id", "")]),
        ("two ids", None, vec![header("message_id", "b"), header("message_id", "c")]),
        ("a workflow that is not UTF-8", None, vec![header("correlation_id", b"\xff\xfe")]),
        ("headers of 120 KB", None, vec![header("big", "h".repeat(120_000))]),
        ("a thousand headers", None, vec![header("one", "1"); 1000]),
        ("a publication before all time", None, vec![header("x-published-at", i64::MIN.to_string())]),
        ("attempts below zero", None, vec![header("x-attempt", "-1")]),
    ];
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note));
    let (app, _) = start(&sandbox, consumers).await;
    let mut wire = Wire::to(&sandbox, QUEUE).await;
    let body = |number: i64| format!(r#"{{"user_id":{number},"email":"a@example.org"}}"#).into_bytes();
    for (number, (_, key, headers)) in (1..).zip(&odd) {
        wire.publish(*key, Some(&body(number)), headers).await;
        wire.publish(None, Some(&body(1000 + number)), &[]).await;
    }
    wire.publish(Some(b"key"), None, &[header("message_id", "without a value")]).await;
    wire.publish(None, Some(b"\xff\xfe"), &[header("message_id", "not text")]).await;
    eventually("all are seen", async || seen.numbers().len() >= 2 * odd.len()).await;
    eventually("the others are set aside", async || set_aside(&sandbox, QUEUE).await.len() == 2).await;
    let mut aside = set_aside(&sandbox, QUEUE).await;
    aside.sort_by(|one, other| one.message_id.cmp(&other.message_id));
    assert_eq!((&*aside[0].message_id, &*aside[1].message_id), ("not text", "without a value"));
    assert!(aside.iter().all(|aside| aside.reason.contains("does not parse")), "{aside:?}");
    for (number, (what, _, _)) in (1..).zip(&odd) {
        assert_eq!((seen.times(number), seen.times(1000 + number)), (1, 1), "{what}, and its neighbour");
    }
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    assert_eq!(app.get("/ready").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}
