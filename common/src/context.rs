//! What travels with a workflow through every call and event: its id, its trace, and when it was accepted.
//! It is task-local, so that handlers need not carry it: the server sets it, clients and the outbox read it.

use std::future::Future;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

pub use contract::headers::{ACCEPTED_AT, REQUEST_ID, TRACEPARENT};

tokio::task_local! {
    static CURRENT: Context;
}

/// Identity and start of one workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// `x-request-id`: one id from the first HTTP request to the last effect.
    pub workflow: String,
    /// `traceparent` of the hop that is running.
    pub traceparent: String,
    /// The span that this hop's is a child of; 0 where the trace begins. Not kept with what is stored: a hop ends before.
    #[serde(skip)]
    pub parent: u64,
    /// Acceptance of the first request, microseconds since the Unix epoch.
    pub accepted_us: i64,
}

impl Context {
    /// A new workflow that starts now.
    pub fn fresh() -> Context {
        let workflow = Uuid::now_v7().to_string();
        Context { workflow, traceparent: new_trace(), parent: 0, accepted_us: now_us() }
    }

    /// From what a peer or a client sent; what is missing or malformed is made here.
    pub fn received<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Context {
        let workflow = header(REQUEST_ID).filter(|id| is_request_id(id)).map(str::to_owned);
        let child = header(TRACEPARENT).and_then(child_of);
        let (traceparent, parent) = child.unwrap_or_else(|| (new_trace(), 0));
        let accepted_us = header(ACCEPTED_AT).and_then(|v| v.parse().ok());
        Context {
            workflow: workflow.unwrap_or_else(|| Uuid::now_v7().to_string()),
            traceparent,
            parent,
            accepted_us: plausible(accepted_us),
        }
    }

    /// As it came in the body of a message, where one message holds several workflows.
    pub(crate) fn batched<'de, D: Deserializer<'de>>(body: D) -> Result<Context, D::Error> {
        let context = Context::deserialize(body)?;
        Ok(Context { accepted_us: plausible(Some(context.accepted_us)), ..context })
    }

    /// The context of the running task; a fresh one where none was set (background work).
    pub fn current() -> Context {
        CURRENT.try_with(Clone::clone).unwrap_or_else(|_| Context::fresh())
    }

    /// Runs `work` with this context as the current one.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Becomes the context of a hop within this one.
    #[cfg(feature = "otel")]
    pub(crate) fn descend(&mut self) {
        if let Some((traceparent, parent)) = child_of(&self.traceparent) {
            (self.traceparent, self.parent) = (traceparent, parent);
        }
    }

    /// Seconds since the workflow was accepted.
    pub fn age_seconds(&self) -> f64 {
        (now_us() - self.accepted_us).max(0) as f64 / 1e6
    }
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// A clock that is ahead, or a value from long ago, would spoil every histogram.
fn plausible(accepted_us: Option<i64>) -> i64 {
    let now = now_us();
    let plausible = now - 3_600_000_000..=now + 1_000;
    accepted_us.filter(|us| plausible.contains(us)).unwrap_or(now)
}

fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

fn new_trace() -> String {
    format!("00-{:032x}-{:016x}-01", fastrand::u128(1..), span_id())
}

fn span_id() -> u64 {
    fastrand::u64(1..)
}

/// The same trace, a new span: what a hop passes on; and the span before it. `None` if it is not version 00 of the W3C format.
fn child_of(traceparent: &str) -> Option<(String, u64)> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |s: &str, n: usize| {
        s.len() == n && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let not_zero = |s: &str| s.bytes().any(|b| b != b'0');
    let valid = version == "00"
        && hex(trace, 32)
        && hex(span, 16)
        && hex(flags, 2)
        && not_zero(trace)
        && not_zero(span);
    let parent = u64::from_str_radix(span, 16).ok().filter(|_| valid)?;
    Some((format!("00-{trace}-{:016x}-{flags}", span_id()), parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(pairs: &[(&'static str, &'static str)]) -> Context {
        Context::received(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v))
    }

    #[test]
    fn a_hop_keeps_the_trace_and_makes_its_own_span() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let child = received(&[(TRACEPARENT, parent)]);
        assert_eq!(child.traceparent[..36], parent[..36]);
        assert_ne!(child.traceparent, parent);
        assert_eq!(child.parent, 0x00f0_67aa_0ba9_02b7);
    }

    #[test]
    fn what_was_stored_is_read_whatever_it_knew_of_its_parent() {
        let stored = r#"{"workflow":"w","traceparent":"00-a-b-01","accepted_us":1}"#;
        let mut context: Context = serde_json::from_str(stored).unwrap();
        context.parent = 7;
        assert_eq!(serde_json::to_string(&context).unwrap(), stored);
    }

    #[test]
    fn what_is_malformed_is_replaced() {
        let id = received(&[(REQUEST_ID, "has blank"), (TRACEPARENT, "00-0-0-0"), (ACCEPTED_AT, "99")]);
        assert!(Uuid::parse_str(&id.workflow).is_ok());
        assert!(child_of(&id.traceparent).is_some());
        assert!(id.age_seconds() < 60.0);
    }

    #[test]
    fn the_start_of_the_workflow_travels() {
        let accepted = (now_us() - 5_000_000).to_string().leak();
        assert!(received(&[(ACCEPTED_AT, accepted)]).age_seconds() >= 5.0);
    }
}
