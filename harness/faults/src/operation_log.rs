//! The operation log: every request and every answer as a JSON line, written before the request is sent and after the answer has
//! arrived. The checker knows nothing else of the load: what is accepted here must be in the stores, and what is in the stores
//! must have been requested here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use stack::Mode;

/// The six scenarios, and what else the load needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// S1
    Register,
    /// S2
    Pay,
    /// S3
    Update,
    /// S4
    Report,
    /// S5
    Order,
    /// S6
    Click,
    /// What S3 changes.
    CreateProduct,
    /// A request that must be answered 4xx and change nothing.
    Invalid,
}

/// One request of a client with all of its repetitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub id: u64,
    pub kind: Kind,
    pub service: String,
    /// `PUT` if not `POST`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub put: bool,
    pub path: String,
    /// `Idempotency-Key`: with it the operation is repeated until the answer is definite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub body: Value,
}

impl Operation {
    /// `x-request-id`; orderservice stores it with an order.
    pub fn workflow(&self) -> String {
        format!("faults-{}", self.id)
    }

    /// Whether it can be repeated: it has a key, or it puts the same value again.
    pub fn repeatable(&self) -> bool {
        self.key.is_some() && self.kind != Kind::Invalid || self.kind == Kind::Update
    }
}

/// The outcome of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Status {
        status: u16,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retry_after: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
        #[serde(default)]
        body: Value,
    },
    /// Nothing was sent.
    ConnectionRefused,
    /// The connection ended before the answer.
    Reset,
    Timeout,
    Failed {
        error: String,
    },
}

/// What an outcome means for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The service promises the effect, or reports that the order has ended.
    Accepted,
    /// The service reports that it ended without the effect (sync mode: a payment that a crash interrupted).
    Failed,
    /// 4xx: nothing was changed.
    Rejected,
    /// 409: the first request with the key still runs.
    Wait,
    /// 503 with `Retry-After`, or connection refused: to be repeated later.
    Refused,
    /// The effect may or may not have happened.
    Unknown,
}

impl Outcome {
    pub fn verdict(&self, kind: Kind) -> Verdict {
        let Outcome::Status { status, retry_after, body, .. } = self else {
            return match self {
                Outcome::ConnectionRefused => Verdict::Refused,
                _ => Verdict::Unknown,
            };
        };
        match *status {
            200..300 => Verdict::Accepted,
            400 if kind == Kind::Order && body["detail"]["order_id"].is_i64() => Verdict::Accepted,
            400 if kind == Kind::Pay && body["status"] == "failed" => Verdict::Failed,
            409 if body["detail"].as_str().is_some_and(|text| text.contains("still at work")) => {
                Verdict::Wait
            }
            400..500 => Verdict::Rejected,
            503 if *retry_after => Verdict::Refused,
            _ => Verdict::Unknown,
        }
    }

    /// For counts: `503`, `timeout`.
    pub fn label(&self) -> String {
        match self {
            Outcome::Status { status, .. } => status.to_string(),
            Outcome::ConnectionRefused => "connection refused".into(),
            Outcome::Reset => "connection reset".into(),
            Outcome::Timeout => "timeout".into(),
            Outcome::Failed { error } => error.clone(),
        }
    }
}

/// One line. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    Begin {
        at_ms: u64,
        mode: Mode,
        seed: u64,
        rate: f64,
    },
    /// Before the request is sent. Only the first attempt has the operation.
    Requested {
        at_ms: u64,
        id: u64,
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<Operation>,
    },
    Answered {
        at_ms: u64,
        id: u64,
        attempt: u32,
        #[serde(flatten)]
        outcome: Outcome,
    },
    Fault {
        at_ms: u64,
        text: String,
    },
    /// At the end. Operations that were not offered, because too many of their kind had no answer yet.
    End {
        at_ms: u64,
        not_offered: BTreeMap<Kind, u64>,
    },
}

/// The file. Each line is written with one call before [`OperationLog::write`] returns.
pub struct OperationLog(Mutex<File>);

impl OperationLog {
    pub fn create(path: &Path) -> Result<OperationLog> {
        let file = File::create(path)
            .with_context(|| format!("cannot write the operation log {}", path.display()))?;
        Ok(OperationLog(Mutex::new(file)))
    }

    pub fn write(&self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).context("cannot write the operation log")
    }
}

pub fn now_ms() -> u64 {
    millis(SystemTime::now())
}

pub fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(status: u16, body: Value) -> Outcome {
        Outcome::Status { status, retry_after: false, replayed: false, body }
    }

    #[test]
    fn a_line_reads_as_it_was_written() {
        let lines = [
            Line::Answered { at_ms: 5, id: 7, attempt: 2, outcome: status(202, json!({"id": 3})) },
            Line::Answered { at_ms: 5, id: 7, attempt: 2, outcome: Outcome::ConnectionRefused },
            Line::End { at_ms: 9, not_offered: BTreeMap::from([(Kind::Click, 4)]) },
        ];
        for line in lines {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }

    #[test]
    fn only_a_promise_a_refusal_or_a_4xx_is_definite() {
        let verdict = |code, body| status(code, body).verdict(Kind::Order);
        assert_eq!(verdict(202, json!({})), Verdict::Accepted);
        assert_eq!(verdict(400, json!({"detail": {"order_id": 1}})), Verdict::Accepted);
        assert_eq!(verdict(400, json!({"detail": "malformed JSON"})), Verdict::Rejected);
        assert_eq!(verdict(409, json!({"detail": "the first request ... is still at work"})), Verdict::Wait);
        assert_eq!(verdict(409, json!({"detail": "registered already"})), Verdict::Rejected);
        assert_eq!(verdict(503, json!({})), Verdict::Unknown);
        assert_eq!(verdict(502, json!({})), Verdict::Unknown);
        assert_eq!(Outcome::ConnectionRefused.verdict(Kind::Click), Verdict::Refused);
        assert_eq!(Outcome::Timeout.verdict(Kind::Click), Verdict::Unknown);
        let refused = Outcome::Status { status: 503, retry_after: true, replayed: false, body: Value::Null };
        assert_eq!(refused.verdict(Kind::Click), Verdict::Refused);
        assert_eq!(status(400, json!({"status": "failed"})).verdict(Kind::Pay), Verdict::Failed);
    }
}
