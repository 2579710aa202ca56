//! k6's raw output, line by line: the answers to the requests that started workflows, the checks that failed, and
//! the iterations that k6 could not start. Everything else is passed over unread: it is nine lines of ten.

use contract::Scenario;
use serde::{Deserialize, Serialize};

/// The answer to one request that started a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub workflow: String,
    pub scenario: Scenario,
    /// 0: no answer at all (connection refused, time-out).
    pub status: u16,
    /// The status is the one that the scenario expects in this mode.
    pub expected: bool,
    pub micros: u64,
    /// No answer within the client's limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    Answer(Answer),
    /// A check of the answer's body or time did not hold.
    FailedCheck {
        workflow: String,
        check: String,
    },
    /// k6 had no free virtual user in time: the load was lower than planned.
    Dropped {
        scenario: Scenario,
        count: u64,
    },
}

#[derive(Deserialize)]
struct Line {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    value: f64,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Tags {
    #[serde(default)]
    scenario: String,
    #[serde(default)]
    step: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    expected_response: String,
    #[serde(default)]
    check: String,
    #[serde(default)]
    error_code: String,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    workflow: String,
}

/// k6's code for a request that took longer than its limit.
const TIMED_OUT: &str = "1050";
const DURATION: &str = r#"{"metric":"http_req_duration","type":"Point""#;
const CHECK: &str = r#"{"metric":"checks","type":"Point""#;
const DROPPED: &str = r#"{"metric":"dropped_iterations","type":"Point""#;

/// `None` for every line that says nothing about a workflow.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "k6 writes no negative values here"
)]
pub fn parse(line: &str) -> Option<Sample> {
    if ![DURATION, CHECK, DROPPED].iter().any(|start| line.starts_with(start)) {
        return None;
    }
    let Data { value, tags, metadata } = serde_json::from_str::<Line>(line).ok()?.data;
    let scenario = Scenario::find(&tags.scenario)?;
    if line.starts_with(DROPPED) {
        return Some(Sample::Dropped { scenario, count: value as u64 });
    }
    if line.starts_with(CHECK) {
        return (value == 0.0)
            .then_some(Sample::FailedCheck { workflow: metadata.workflow, check: tags.check });
    }
    (tags.step == "acknowledge").then(|| {
        Sample::Answer(Answer {
            workflow: metadata.workflow,
            scenario,
            status: tags.status.parse().unwrap_or(0),
            expected: tags.expected_response == "true",
            micros: (value * 1000.0).round() as u64,
            timed_out: tags.error_code == TIMED_OUT,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"metric":"http_req_duration","type":"Point","data":{"time":"2026-11-21T07:54:09.08Z","value":0.599593,"tags":{"expected_response":"true","method":"POST","name":"POST /track_click","scenario":"s6","status":"200","step":"acknowledge"},"metadata":{"workflow":"r1-s6-6"}}}"#;

    #[test]
    fn an_answer_is_read_with_its_workflow_and_time() {
        let answer = Answer {
            workflow: "r1-s6-6".into(),
            scenario: Scenario::S6,
            status: 200,
            expected: true,
            micros: 600,
            timed_out: false,
        };
        assert_eq!(parse(ANSWER), Some(Sample::Answer(answer)));
    }

    #[test]
    fn a_poll_is_no_answer_to_a_workflow() {
        assert_eq!(parse(&ANSWER.replace("acknowledge", "outcome")), None);
    }

    #[test]
    fn a_torn_line_is_passed_over() {
        assert_eq!(parse(&ANSWER[..ANSWER.len() - 20]), None);
    }

    #[test]
    fn a_failed_check_and_a_dropped_iteration_are_read_and_a_good_check_is_not() {
        let check = r#"{"metric":"checks","type":"Point","data":{"time":"t","value":0,"tags":{"check":"S1 answers 202","scenario":"s1"},"metadata":{"workflow":"r1-s1-0"}}}"#;
        let failed = Sample::FailedCheck { workflow: "r1-s1-0".into(), check: "S1 answers 202".into() };
        assert_eq!(parse(check), Some(failed));
        assert_eq!(parse(&check.replace(r#""value":0"#, r#""value":1"#)), None);
        let dropped = r#"{"metric":"dropped_iterations","type":"Point","data":{"time":"t","value":3,"tags":{"scenario":"s4"}}}"#;
        assert_eq!(parse(dropped), Some(Sample::Dropped { scenario: Scenario::S4, count: 3 }));
    }
}
