//! AMQP 0-9-1 as it stands on the wire, so that tests can publish what no client library publishes.

use std::collections::BTreeSet;

use common::Mode;
use common::config::NoSettings;
use common::testing::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FRAME_MAX: u32 = 128 * 1024;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;

/// A channel that publishes and waits for confirms.
pub(crate) struct Wire {
    stream: TcpStream,
    unconfirmed: BTreeSet<u64>,
    published: u64,
}

impl Wire {
    pub(crate) async fn to(sandbox: &Sandbox) -> Wire {
        let url = sandbox.settings::<NoSettings>(Mode::Async, &[]).0.broker.amqp.amqp_url.expect("a URL");
        let (login, place) = url.trim_start_matches("amqp://").split_once('@').expect("a login");
        let (user, password) = login.split_once(':').expect("a password");
        let (address, vhost) = place.split_once('/').expect("a virtual host");
        let stream = TcpStream::connect(address).await.expect("the broker");
        let mut wire = Wire { stream, unconfirmed: BTreeSet::new(), published: 0 };
        wire.stream.write_all(b"AMQP\x00\x00\x09\x01").await.expect("the broker reads");
        wire.wait(10, 10).await;
        let login = long(format!("\0{user}\0{password}").as_bytes());
        wire.method(0, 10, 11, &[&long(b"")[..], &short(b"PLAIN"), &login, &short(b"en_US")].concat()).await;
        wire.wait(10, 30).await;
        wire.method(0, 10, 31, &[&1_u16.to_be_bytes()[..], &FRAME_MAX.to_be_bytes(), &[0, 0]].concat()).await;
        wire.method(0, 10, 40, &[&short(vhost.as_bytes())[..], &[0, 0]].concat()).await;
        wire.wait(10, 41).await;
        wire.method(1, 20, 10, &short(b"")).await;
        wire.wait(20, 11).await;
        wire.method(1, 85, 10, &[0]).await;
        wire.wait(85, 11).await;
        wire
    }

    /// Publishes a message; [`Wire::confirmed`] waits for the broker to have it.
    pub(crate) async fn publish(&mut self, exchange: &str, key: &[u8], properties: &Properties, body: &[u8]) {
        let method = [&[0, 0][..], &short(exchange.as_bytes()), &short(key), &[0]].concat();
        self.method(1, 60, 40, &method).await;
        let fixed = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes()].concat();
        self.frame(HEADER, 1, &[fixed, properties.encode()].concat()).await;
        for part in body.chunks(FRAME_MAX as usize - 8) {
            self.frame(BODY, 1, part).await;
        }
        self.published += 1;
        self.unconfirmed.insert(self.published);
    }

    /// Returns when the broker has all messages.
    pub(crate) async fn confirmed(&mut self) {
        while !self.unconfirmed.is_empty() {
            let ack = self.wait(60, 80).await;
            let tag = u64::from_be_bytes(*ack.first_chunk().expect("a delivery tag"));
            let several = ack[8] == 1;
            self.unconfirmed.retain(|other| *other != tag && !(several && *other < tag));
        }
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let size = (payload.len() as u32).to_be_bytes();
        let frame = [&[kind][..], &channel.to_be_bytes(), &size, payload, &[FRAME_END]].concat();
        self.stream.write_all(&frame).await.expect("the broker reads");
    }

    /// The arguments of the method.
    async fn wait(&mut self, class: u8, method: u8) -> Vec<u8> {
        loop {
            let mut head = [0_u8; 7];
            self.stream.read_exact(&mut head).await.expect("the broker answers");
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let mut payload = vec![0; size + 1];
            self.stream.read_exact(&mut payload).await.expect("a whole frame");
            let text = String::from_utf8_lossy(&payload);
            assert!(!payload.starts_with(&[0, 10, 0, 50]) && !payload.starts_with(&[0, 20, 0, 40]), "{text}");
            if head[0] == METHOD && payload.starts_with(&[0, class, 0, method]) {
                return payload.split_off(4);
            }
        }
    }
}

/// The properties of a message by their places in the flags, encoded.
#[derive(Clone, Default)]
pub(crate) struct Properties([Option<Vec<u8>>; 16]);

impl Properties {
    pub(crate) const CONTENT_TYPE: usize = 15;
    pub(crate) const CONTENT_ENCODING: usize = 14;
    pub(crate) const HEADERS: usize = 13;
    pub(crate) const DELIVERY_MODE: usize = 12;
    pub(crate) const PRIORITY: usize = 11;
    pub(crate) const CORRELATION_ID: usize = 10;
    pub(crate) const REPLY_TO: usize = 9;
    pub(crate) const MESSAGE_ID: usize = 7;
    pub(crate) const TIMESTAMP: usize = 6;
    pub(crate) const TYPE: usize = 5;
    pub(crate) const APP_ID: usize = 3;
    pub(crate) const CLUSTER_ID: usize = 2;

    pub(crate) fn text(self, place: usize, text: impl AsRef<[u8]>) -> Properties {
        self.bytes(place, short(text.as_ref()))
    }

    /// `entries`: what a table holds.
    pub(crate) fn headers(self, entries: &[u8]) -> Properties {
        self.bytes(Properties::HEADERS, long(entries))
    }

    pub(crate) fn bytes(mut self, place: usize, encoded: Vec<u8>) -> Properties {
        self.0[place] = Some(encoded);
        self
    }

    fn encode(&self) -> Vec<u8> {
        let flags =
            (0..16).filter(|place| self.0[*place].is_some()).fold(0_u16, |flags, place| flags | 1 << place);
        let values = self.0.iter().rev().flatten().flatten();
        flags.to_be_bytes().into_iter().chain(values.copied()).collect()
    }
}

/// An entry of a table whose value is text.
pub(crate) fn entry(name: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> Vec<u8> {
    [&short(name.as_ref())[..], b"S", &long(text.as_ref())].concat()
}

pub(crate) fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("at most 255 bytes")][..], text].concat()
}

pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}
