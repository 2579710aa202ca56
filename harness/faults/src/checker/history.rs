//! The operation log, read back: each operation with its answers and its final outcome.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::operation_log::{Kind, Line, Operation, Outcome, Verdict};

/// The outcome of an operation, as far as the client knows it.
#[derive(Clone, Debug, PartialEq)]
pub enum FinalOutcome {
    /// With the body of the answer.
    Accepted(Value),
    Failed,
    Rejected(u16),
    /// Connection refused, or 503, and not repeated.
    Refused,
    Unknown,
}

/// One operation from the first attempt to the last.
#[derive(Clone, Debug)]
pub struct Record {
    pub operation: Operation,
    pub attempts: u32,
    pub outcome: FinalOutcome,
    /// At least one attempt had an unknown outcome.
    pub unknown: bool,
    /// The connection was refused in every attempt so far.
    pub not_sent: bool,
}

impl Record {
    pub fn new(operation: Operation) -> Record {
        Record { operation, attempts: 0, outcome: FinalOutcome::Unknown, unknown: false, not_sent: true }
    }

    fn answered(&mut self, outcome: &Outcome) {
        let verdict = outcome.verdict(self.operation.kind);
        self.not_sent &= *outcome == Outcome::ConnectionRefused;
        self.unknown |= verdict == Verdict::Unknown;
        self.outcome = match (verdict, outcome) {
            (Verdict::Accepted, Outcome::Status { body, .. }) => FinalOutcome::Accepted(body.clone()),
            (Verdict::Failed, _) => FinalOutcome::Failed,
            (Verdict::Rejected, Outcome::Status { status, .. }) => FinalOutcome::Rejected(*status),
            (Verdict::Refused, _) => FinalOutcome::Refused,
            _ => FinalOutcome::Unknown,
        };
    }

    /// The answer, if the operation was accepted.
    pub fn accepted(&self) -> Option<&Value> {
        if let FinalOutcome::Accepted(body) = &self.outcome { Some(body) } else { None }
    }

    /// The answer warns that a call to a peer failed.
    pub fn warned(&self) -> bool {
        self.accepted().is_some_and(|body| body.get("warnings").is_some())
    }

    /// The id of the order that was answered.
    pub fn order(&self) -> Option<i64> {
        let body = self.accepted()?;
        body["id"].as_i64().or_else(|| body["detail"]["order_id"].as_i64())
    }

    /// Text to search the operation log and the services' logs for.
    pub fn name(&self) -> String {
        format!("{} ({})", self.operation.workflow(), self.operation.body)
    }
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub records: BTreeMap<u64, Record>,
    /// Answers by status or kind of failure.
    pub answers: BTreeMap<String, u64>,
    /// The first answers with status 500.
    pub answers_500: Vec<String>,
}

impl History {
    pub fn read(path: &Path) -> Result<History> {
        let file =
            File::open(path).with_context(|| format!("cannot read the operation log {}", path.display()))?;
        let mut history = History::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = serde_json::from_str(&line?).with_context(|| {
                format!("line {} of the operation log {} is damaged", number + 1, path.display())
            })?;
            history.add(line);
        }
        Ok(history)
    }

    pub fn add(&mut self, line: Line) {
        match line {
            Line::Requested { id, attempt, operation, .. } => {
                if let Some(operation) = operation {
                    self.records.insert(id, Record::new(operation));
                }
                if let Some(record) = self.records.get_mut(&id) {
                    record.attempts = attempt;
                }
            }
            Line::Answered { at_ms, id, outcome, .. } => {
                *self.answers.entry(outcome.label()).or_default() += 1;
                let Some(record) = self.records.get_mut(&id) else { return };
                record.answered(&outcome);
                if matches!(outcome, Outcome::Status { status: 500, .. }) {
                    self.answers_500.push(format!("{} at {at_ms} ms", record.name()));
                }
            }
            Line::Begin { .. } | Line::Fault { .. } | Line::End { .. } => {}
        }
    }

    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.records.values().filter(move |record| record.operation.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(status: u16) -> Outcome {
        Outcome::Status { status, retry_after: false, replayed: false, body: json!({"id": 8}) }
    }

    fn record(outcomes: &[Outcome]) -> Record {
        let operation = Operation {
            id: 5,
            kind: Kind::Order,
            service: "orderservice".into(),
            put: false,
            path: "/create_order".into(),
            key: Some("k".into()),
            body: json!({}),
        };
        let mut history = History::default();
        for (n, outcome) in (1..).zip(outcomes) {
            let operation = (n == 1).then(|| operation.clone());
            history.add(Line::Requested { at_ms: 0, id: 5, attempt: n, operation });
            history.add(Line::Answered { at_ms: 0, id: 5, attempt: n, outcome: outcome.clone() });
        }
        history.records.remove(&5).unwrap()
    }

    #[test]
    fn a_lost_answer_and_a_repetition_make_one_accepted_operation_that_was_unknown() {
        let record = record(&[Outcome::Reset, status(202)]);
        assert!(record.unknown && !record.not_sent);
        assert_eq!((record.attempts, record.order()), (2, Some(8)));
    }

    #[test]
    fn what_nobody_listened_to_is_refused_and_was_not_sent() {
        let record = record(&[Outcome::ConnectionRefused]);
        assert_eq!((record.outcome, record.unknown, record.not_sent), (FinalOutcome::Refused, false, true));
    }
}
