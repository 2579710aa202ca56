//! What reportservice does alike in both modes.

use common::testing::{Method, Reply, Sandbox, TestApp, assert_refuses_bad_bodies};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The last of a chain of so many SHA-256, each the hash of the one before, that begins with the job and its type.
pub(crate) fn chain(job: &Value, iterations: u32) -> String {
    let text = |name: &str| job[name].as_str().expect("text");
    let mut hash = Sha256::digest(format!("{}:{}", text("job_id"), text("report_type")));
    for _ in 1..iterations {
        hash = Sha256::digest(hash);
    }
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn job(app: &TestApp, job_id: &str) -> Value {
    let reply = app.get(&format!("/jobs/{job_id}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.body
}

/// The id in an answer, in the form that is promised.
pub(crate) fn id(reply: &Reply) -> String {
    let id = reply.body["job_id"].as_str().unwrap_or_else(|| panic!("no job_id: {}", reply.text));
    assert!(
        id.strip_prefix("job_")
            .is_some_and(|hex| hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    );
    id.to_owned()
}

/// What a completed job shows, whichever way one looks at it.
pub(crate) fn assert_completed(job: &Value, report_type: &str) {
    assert_eq!((&job["status"], &job["report_type"]), (&json!("completed"), &json!(report_type)), "{job}");
    let hash = job["report_hash"].as_str().expect("a hash");
    assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    assert!(job["iterations"].as_u64().expect("a number") >= 1);
    assert!(job["computation_time_seconds"].as_f64().expect("a number") >= 0.0);
    assert!(job["queued_seconds"].as_f64().expect("a number") >= 0.0);
}

/// With one worker no report begins before the one before it is computed.
pub(crate) async fn assert_one_after_the_other(sandbox: &Sandbox, reports: i64) {
    let (all, overlapping): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE begun < done_before) FROM (
             SELECT started_at AS begun,
                    lag(started_at + make_interval(secs => computation_time_seconds)) OVER (ORDER BY started_at) AS done_before
             FROM report_jobs) jobs",
    )
    .fetch_one(&sandbox.pool().await)
    .await
    .expect("the database answers");
    assert_eq!((all, overlapping), (reports, 0), "reports, and those that did not wait their turn");
}

pub(crate) async fn assert_refuses_bad_input(app: &TestApp) {
    let path = "/generate_report";
    assert_refuses_bad_bodies(app, Method::POST, path).await;
    for field in ["unknown_field", "job_id", "iterations"] {
        let body = json!({field: 1}).to_string();
        app.request(Method::POST, path, &[], Some(body)).await.assert_problem(422, Some(field));
    }
    let no_types = [
        json!(null),
        json!(""),
        json!(1),
        json!(true),
        json!(["x"]),
        json!({}),
        json!("a\u{0}b"),
        json!("x".repeat(101)),
    ];
    for no_type in no_types {
        app.post(path, json!({"report_type": no_type})).await.assert_problem(422, Some("report_type"));
    }
    app.request(Method::POST, path, &[], Some(" ".into())).await.assert_problem(400, None);
    for key in ["", &"k".repeat(256)] {
        app.post_keyed(path, key, json!({})).await.assert_problem(422, Some("Idempotency-Key"));
    }
    app.get(path).await.assert_problem(405, None);
    for id in [
        "job_0",
        "job_",
        "x",
        "%00",
        "job_%00",
        "%ff",
        "1",
        "job_'",
        "job_%F0%9F%98%80",
        "job_000000000000000000000000",
    ] {
        let reply = app.get(&format!("/jobs/{id}")).await;
        assert!([404, 422].contains(&reply.status), "{id}: {}", reply.text);
        reply.assert_problem(reply.status, None);
    }
    app.get("/jobs/job_000000000000").await.assert_problem(404, None);
}
