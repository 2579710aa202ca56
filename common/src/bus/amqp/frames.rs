//! The socket of a connection, with frames that lapin can read.
//!
//! AMQP 0-9-1 has bytes where lapin expects UTF-8: short strings and the names of headers. RabbitMQ delivers any bytes that
//! a publisher sends. It also delivers headers that are larger than the frame size of the connection, and headers of any
//! depth, which lapin parses recursively. lapin gives up the connection at such a frame, and the message comes again on the
//! next connection. Therefore [`Socket`] replaces such a frame by one that holds what this project reads of it: the ids
//! of message and workflow, and our own headers. A frame that lapin can read passes unchanged.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::bus::headers::READ as HEADERS;

/// What one `read` takes from the socket at most.
const READ: usize = 64 * 1024;
/// The frame size that every broker and client accept.
const SMALLEST_FRAME_MAX: usize = 4096;
/// Tables within tables that lapin is given.
const DEPTH: usize = 8;
/// The longest value that one of [`HEADERS`] has: an id of a workflow.
const LONGEST_HEADER: usize = 128;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// Type, channel and size stand before the payload of a frame, one byte after it.
const BEFORE: usize = 7;
const AFTER: usize = 1;

/// Tokio with a socket of our own.
pub(super) type Kit = RuntimeParts<Tokio, Sockets>;

/// What lapin runs on, for one connection; and whether it has its socket open. lapin's thread owns the socket, so this
/// is true no longer than the thread runs, whatever state lapin reports.
pub(super) fn runtime() -> (Runtime<Kit>, watch::Receiver<bool>) {
    let (open, is_open) = watch::channel(false);
    let tokio = Tokio::current();
    (Runtime::new(Kit::new(tokio.clone(), Sockets { tokio, open })), is_open)
}

/// Opens sockets.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    tokio: Tokio,
    open: watch::Sender<bool>,
}

impl Reactor for Sockets {
    type TcpStream = Socket<<Tokio as Reactor>::TcpStream>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// lapin opens its sockets by their address.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Self::TcpStream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let (connecting, open) = (self.tokio.tcp_connect_addr(address), self.open.clone());
        async move {
            let stream = connecting.await?;
            open.send_replace(true);
            Ok(Socket { stream, frames: Frames::default(), open })
        }
    }
}

pub(super) struct Socket<S> {
    stream: S,
    frames: Frames,
    open: watch::Sender<bool>,
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        self.open.send_replace(false);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.frames.ready == 0 {
            let most = buffer.len().min(READ);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer[..most]))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            self.frames.push(&buffer[..read]);
        }
        Poll::Ready(Ok(self.frames.take(buffer)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

/// What was received and not handed on yet: whole frames that are ready, then the beginning of another one.
#[derive(Default)]
struct Frames {
    held: Vec<u8>,
    ready: usize,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        while let Some(&[kind, _, _, a, b, c, d]) = self.held[self.ready..].first_chunk::<BEFORE>() {
            if ![METHOD, HEADER, BODY, HEARTBEAT].contains(&kind) {
                // No frame: lapin reports the error.
                self.ready = self.held.len();
                return;
            }
            let payload = self.ready + BEFORE;
            let mut end = payload + u32::from_be_bytes([a, b, c, d]) as usize;
            if self.held.len() < end + AFTER {
                return;
            }
            if kind == METHOD {
                make_names_readable(&mut self.held[payload..end]);
            } else if kind == HEADER
                && let Some(instead) = instead_of(&self.held[payload..end])
            {
                tracing::debug!(bytes = end - payload, "properties that cannot be read are left out");
                let size = instead.len();
                self.held[payload - 4..payload].copy_from_slice(&(size as u32).to_be_bytes());
                self.held.splice(payload..end, instead);
                end = payload + size;
            }
            self.ready = end + AFTER;
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let taken = self.ready.min(buffer.len());
        buffer[..taken].copy_from_slice(&self.held[..taken]);
        self.held.drain(..taken);
        self.ready -= taken;
        if self.held.is_empty() {
            self.held.shrink_to(2 * READ);
        }
        taken
    }
}

/// Replaces each byte of a name that is not UTF-8 by a question mark. Only methods that quote what others have named: exchange
/// and routing key of a message, the reason of a close. Nothing here reads these names.
fn make_names_readable(method: &mut [u8]) {
    // How many bytes stand before each name.
    let gaps: &[usize] = match method.first_chunk() {
        // basic.deliver: consumer tag, delivery tag and a flag, exchange, routing key.
        Some([0, 60, 0, 60]) => &[4, 9, 0],
        // basic.return: code, text, exchange, routing key.
        Some([0, 60, 0, 50]) => &[6, 0, 0],
        // connection.close, channel.close: code, text.
        Some([0, 10, 0, 50] | [0, 20, 0, 40]) => &[6],
        _ => return,
    };
    let mut rest = method;
    for gap in gaps {
        let Some((length, after)) = rest.get_mut(*gap..).and_then(<[u8]>::split_first_mut) else { return };
        let Some((name, after)) = after.split_at_mut_checked(usize::from(*length)) else { return };
        if std::str::from_utf8(name).is_err() {
            name.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        }
        rest = after;
    }
}

/// A content header with the same size of the body and the properties that are read here, if lapin cannot read this one.
fn instead_of(payload: &[u8]) -> Option<Vec<u8>> {
    // Class, weight and the size of the body; then the properties.
    let (fixed, properties) = payload.split_at_checked(12)?;
    let given = Properties::parse(properties);
    if let Some(given) = &given
        && given.readable
        && BEFORE + payload.len() + AFTER <= SMALLEST_FRAME_MAX
        && readable(Bytes(given.headers), true, DEPTH)
    {
        return None;
    }
    let given = given.unwrap_or_default();
    let headers: Vec<u8> = Entries(Bytes(given.headers))
        .filter(|(name, kind, value)| {
            *kind == b'S'
                && value.len() <= LONGEST_HEADER
                && HEADERS.iter().any(|own| own.as_bytes() == *name)
        })
        .flat_map(|(name, kind, value)| [&short(name)[..], &[kind], &long(value)].concat())
        .collect();
    let mut flags = 0_u16;
    let mut out = Vec::new();
    let mut put = |place: u16, value: &[u8], encode: fn(&[u8]) -> Vec<u8>| {
        if !value.is_empty() {
            flags |= 1 << place;
            out.extend(encode(value));
        }
    };
    put(Properties::HEADERS, &headers, long);
    put(
        Properties::CORRELATION_ID,
        if is_text(given.correlation_id) { given.correlation_id } else { b"" },
        short,
    );
    // As good as the id itself: the same for each delivery of the message, and no other message has it.
    let stand_in = stand_in(given.message_id);
    let message_id = if is_text(given.message_id) { given.message_id } else { stand_in.as_bytes() };
    put(Properties::MESSAGE_ID, message_id, short);
    Some([fixed, &flags.to_be_bytes(), &out].concat())
}

/// What is read of the properties of a message; empty where they have none.
#[derive(Default)]
struct Properties<'a> {
    /// Each of its short strings is text.
    readable: bool,
    headers: &'a [u8],
    correlation_id: &'a [u8],
    message_id: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Places in the flags, which say from 15 downwards which properties follow.
    const HEADERS: u16 = 13;
    const DELIVERY_MODE: u16 = 12;
    const PRIORITY: u16 = 11;
    const CORRELATION_ID: u16 = 10;
    const MESSAGE_ID: u16 = 7;
    const TIMESTAMP: u16 = 6;
    const LAST: u16 = 2;

    /// `None` if these are no properties.
    fn parse(bytes: &'a [u8]) -> Option<Properties<'a>> {
        let mut rest = Bytes(bytes);
        let flags = u16::from_be_bytes(rest.take(2)?.try_into().ok()?);
        let mut given = Properties { readable: true, ..Properties::default() };
        for place in (Properties::LAST..16).rev().filter(|place| flags & 1 << place != 0) {
            match place {
                Properties::HEADERS => given.headers = rest.long()?,
                Properties::DELIVERY_MODE | Properties::PRIORITY => drop(rest.take(1)?),
                Properties::TIMESTAMP => drop(rest.take(8)?),
                _ => {
                    let text = rest.short()?;
                    given.readable &= is_text(text);
                    match place {
                        Properties::CORRELATION_ID => given.correlation_id = text,
                        Properties::MESSAGE_ID => given.message_id = text,
                        _ => {}
                    }
                }
            }
        }
        (rest.0.is_empty() && flags & 0b11 == 0).then_some(given)
    }
}

/// Whether lapin can read these entries of a table, or values of an array, without going deeper than `depth`.
fn readable(mut entries: Bytes<'_>, named: bool, depth: usize) -> bool {
    while !entries.0.is_empty() {
        if named && !entries.short().is_some_and(is_text) {
            return false;
        }
        let readable = match entries.value() {
            Some((kind @ (b'F' | b'A'), inner)) => {
                depth > 0 && readable(Bytes(inner), kind == b'F', depth - 1)
            }
            other => other.is_some(),
        };
        if !readable {
            return false;
        }
    }
    true
}

/// UTF-8, and without the one character that PostgreSQL does not store.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0)
}

fn stand_in(id: &[u8]) -> String {
    Sha256::digest(id).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8][..], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        self.take(length as usize)
    }

    /// The type of a value and what is in it, with the types that RabbitMQ and lapin agree on.
    fn value(&mut self) -> Option<(u8, &'a [u8])> {
        let kind = self.take(1)?[0];
        let value = match kind {
            b'V' => self.take(0),
            b't' | b'b' | b'B' => self.take(1),
            b's' | b'U' | b'u' => self.take(2),
            b'I' | b'i' | b'f' => self.take(4),
            b'D' => self.take(5),
            b'L' | b'l' | b'd' | b'T' => self.take(8),
            b'S' | b'x' | b'A' | b'F' => self.long(),
            _ => None,
        };
        Some((kind, value?))
    }
}

/// Name, type and value of each entry of a table, up to the first that cannot be read.
struct Entries<'a>(Bytes<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], u8, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.short()?;
        let (kind, value) = self.0.value()?;
        Some((name, kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind, 0, 1][..], &long(payload), &[0xCE]].concat()
    }

    fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
        frame(
            HEADER,
            &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &flags.to_be_bytes(), properties].concat(),
        )
    }

    fn entry(name: &[u8], text: &[u8]) -> Vec<u8> {
        [&short(name)[..], b"S", &long(text)].concat()
    }

    /// What lapin reads when the socket gives it `bytes` in pieces.
    fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut frames, mut out, mut buffer) = (Frames::default(), Vec::new(), [0; 50]);
        for piece in bytes.chunks(piece) {
            frames.push(piece);
            while frames.ready > 0 {
                let taken = frames.take(&mut buffer);
                out.extend_from_slice(&buffer[..taken]);
            }
        }
        out
    }

    /// `message_id` at 7, `app_id` at 3, `headers` at 13, `delivery_mode` at 12.
    #[test]
    fn what_lapin_can_read_passes_unchanged_in_pieces_of_any_size() {
        let own = entry(b"traceparent", b"00-1");
        let nested = [&short(b"t")[..], b"F", &long(&entry("schlüssel".as_bytes(), b"\xff"))].concat();
        let bytes = [
            frame(
                METHOD,
                &[&[0, 60, 0, 60][..], &short(b"tag"), &[0; 9], &short(b""), &short(b"queue")].concat(),
            ),
            header(
                1 << 13 | 1 << 12 | 1 << 7,
                &[&long(&[own, nested].concat())[..], &[2], &short(b"id")].concat(),
            ),
            frame(BODY, b"\xff\xfe{}"),
            frame(HEARTBEAT, b""),
            header(0, b""),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            assert_eq!(through(&bytes, piece), bytes, "pieces of {piece}");
        }
        assert_eq!(through(b"AMQP\0\0\x09\x01", 8), b"AMQP\0\0\x09\x01", "another version of the protocol");
    }

    #[test]
    fn of_properties_that_lapin_cannot_read_the_ids_and_our_own_headers_are_left() {
        let own = entry(b"traceparent", b"00-1");
        let kept = header(1 << 13 | 1 << 7, &[&long(&own)[..], &short(b"id")].concat());
        let with = |odd: Vec<u8>| {
            let headers = [own.clone(), odd].concat();
            header(1 << 13 | 1 << 7, &[&long(&headers)[..], &short(b"id")].concat())
        };
        let app = [&long(&own)[..], &short(b"id"), &short(b"\xfc")].concat();
        let deep =
            (0..100).rev().flat_map(|within| [&b"A"[..], &(5 * within + 1_u32).to_be_bytes()].concat());
        for odd in [
            header(1 << 13 | 1 << 7 | 1 << 3, &app),
            with(entry(b"\xfc", b"")),
            with([&short(b"t")[..], b"F", &long(&entry(b"\xfc", b""))].concat()),
            with(entry(b"big", &[b'b'; 20_000])),
            with(entry(b"traceparent", &[b'b'; 200])[..10].to_vec()),
            with([&short(b"unknown")[..], b"?"].concat()),
            with(short(b"deep").into_iter().chain(deep).chain(*b"V").collect()),
        ] {
            let bytes = [&odd[..], &frame(BODY, b"{}")].concat();
            for piece in [1, 7, bytes.len()] {
                assert_eq!(through(&bytes, piece), [&kept[..], &frame(BODY, b"{}")].concat());
            }
        }
    }

    #[test]
    fn an_id_that_is_no_text_is_replaced_by_one_that_no_other_message_has() {
        let replaced = |id: &[u8]| through(&header(1 << 7, &short(id)), 1000);
        let ids = [replaced(b"\xfc"), replaced(b"\xfd"), replaced(b"a\0b"), replaced(&[0xff; 255])];
        for (place, id) in ids.iter().enumerate() {
            assert!(std::str::from_utf8(&id[22..id.len() - 1]).is_ok_and(|id| id.len() == 64), "{id:?}");
            assert!(!ids[..place].contains(id));
        }
        assert_eq!(replaced(b"\xfc"), replaced(b"\xfc"));
        assert_eq!(replaced(b""), header(1 << 7, &short(b"")), "left as it is");
    }

    #[test]
    fn properties_that_are_none_are_left_out() {
        for (flags, bytes) in
            [(1 << 7, &b"\x05id"[..]), (1, b""), (0, b"more"), (1 << 13, b"\xff\xff\xff\xff")]
        {
            assert_eq!(through(&header(flags, bytes), 1000), header(0, b""));
        }
        // Too short for a header: lapin reports the error.
        assert_eq!(through(&frame(HEADER, b"\0"), 1000), frame(HEADER, b"\0"));
    }

    #[test]
    fn in_names_of_others_a_question_mark_stands_for_each_byte_that_is_not_utf_8() {
        let deliver = |key: &[u8]| {
            frame(
                METHOD,
                &[&[0, 60, 0, 60][..], &short(b"tag"), &[0xff; 9], &short(b"e"), &short(key)].concat(),
            )
        };
        assert_eq!(through(&deliver(b"g\xfcnstig"), 1000), deliver(b"g?nstig"));
        let close =
            |text: &[u8]| frame(METHOD, &[&[0, 10, 0, 50, 1, 64][..], &short(text), &[0; 4]].concat());
        assert_eq!(through(&close(b"\xfc"), 1000), close(b"?"));
        let returned = |key: &[u8]| {
            frame(
                METHOD,
                &[&[0, 60, 0, 50, 1, 56][..], &short(b"NO_ROUTE"), &short(b""), &short(key)].concat(),
            )
        };
        assert_eq!(through(&returned(b"\xfc"), 1000), returned(b"?"));
    }
}
