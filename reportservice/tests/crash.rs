//! Wherever the process dies on the way of a report: it is computed, and stored once.
#![cfg(all(feature = "sync", feature = "async"))]

use common::Mode;
use common::testing::{Sandbox, eventually};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_reportservice");
const SHORT: (&str, &str) = ("REPORT_SECONDS", "0.05");

#[tokio::test]
async fn a_report_that_was_cut_off_is_computed_anew_and_stored_once() {
    for point in ["before_commit:2", "after_commit:2", "before_ack"] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[SHORT, ("FAILPOINT", point)]).await;
        let accepted = program.try_post("/generate_report", Some("key"), json!({})).await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[SHORT]).await;
        let again = program.try_post("/generate_report", Some("key"), json!({})).await.expect("an answer");
        assert!(accepted.is_none_or(|accepted| accepted.body == again.body), "{point}: {}", again.text);
        let job_id = again.body["job_id"].as_str().unwrap();
        let path = format!("/jobs/{job_id}");
        eventually("it is computed", async || program.get(&path).await.body["status"] == "completed").await;
        program.settled("report_jobs_queue", 1).await;
        assert_eq!(sandbox.witnessed("effect:report").await, [(job_id.to_owned(), 1)], "{point}");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn in_sync_mode_a_repeated_request_goes_on_with_the_report_that_was_begun() {
    for point in ["after_commit", "before_commit:2", "after_commit:2", "before_reply"] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Sync, &[SHORT, ("FAILPOINT", point)]).await;
        assert!(program.try_post("/generate_report", Some("key"), json!({})).await.is_none(), "{point}");
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Sync, &[SHORT]).await;
        sandbox.lease_ends().await;
        let again = program.try_post("/generate_report", Some("key"), json!({})).await.expect("an answer");
        assert_eq!(
            (again.status, &again.body["status"]),
            (200, &json!("completed")),
            "{point}: {}",
            again.text
        );
        assert_eq!(sandbox.witnessed("effect:report").await.len(), 1, "{point}: one job");
        sandbox.close().await;
    }
}
