//! reportservice in async mode, against real servers.
#![cfg(feature = "async")]

mod reports;

use common::Mode;
use common::events::GenerateReportJob;
use common::testing::{
    Method, Sandbox, TestApp, assert_refuses_bad_keys, assert_serves_common_paths, effects_of, eventually,
};
use futures_util::future::join_all;
use reports::{assert_completed, assert_one_after_the_other, chain, id, job};
use reportservice::hashing::Settings;
use reportservice::{ABOUT, messaging};
use serde_json::{Value, json};

const QUEUE: &str = "report_jobs_queue";
/// Reports of 1000 hashes: of no length worth mentioning.
const SHORT: &[&str] = &["--report-iterations=1000", "--report-workers=1"];

async fn start(sandbox: &Sandbox, settings: &[&str]) -> TestApp {
    sandbox.start(ABOUT, Mode::Async, settings, |deps, own: Settings| messaging::service(&deps, &own)).await
}

async fn stored(sandbox: &Sandbox) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM report_jobs")
        .fetch_one(&sandbox.pool().await)
        .await
        .expect("a count")
}

/// A job that is accepted: its id.
async fn accepted(app: &TestApp) -> String {
    let reply = app.post("/generate_report", json!({})).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    id(&reply)
}

/// Waits until a job is in this state: as it is then.
async fn in_state(app: &TestApp, job_id: &str, state: &str) -> Value {
    eventually(state, async || job(app, job_id).await["status"] == state).await;
    job(app, job_id).await
}

#[tokio::test]
async fn a_job_is_accepted_at_once_then_runs_then_is_completed() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-seconds=1"]).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    let reply = app.post("/generate_report", json!({"report_type": "sales"})).await;
    assert_eq!((reply.status, &reply.body["status"]), (202, &json!("queued")), "{}", reply.text);
    assert!(reply.body["message"].is_string());
    let job_id = id(&reply);
    assert_eq!(reply.headers["location"], format!("/jobs/{job_id}"));

    let running = in_state(&app, &job_id, "running").await;
    assert!(running["report_hash"].is_null() && running["computation_time_seconds"].is_null(), "{running}");
    let completed = in_state(&app, &job_id, "completed").await;
    assert_completed(&completed, "sales");
    assert!(completed["computation_time_seconds"].as_f64().unwrap() >= 1.0, "{completed}");
    let workflow = reply.headers["x-request-id"].to_str().unwrap();
    eventually("the effect is noted", async || effects_of(workflow) == ["report completed"]).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_report_by_iterations_is_the_chain_of_as_many_hashes() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-iterations=5000"]).await;
    let completed = in_state(&app, &accepted(&app).await, "completed").await;
    assert_eq!(
        (&completed["iterations"], &completed["report_hash"]),
        (&json!(5000), &json!(chain(&completed, 5000)))
    );
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn the_body_may_be_missing_or_empty() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, SHORT).await;
    for body in [None, Some("{}".to_owned())] {
        let reply = app.request(Method::POST, "/generate_report", &[], body).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        assert_completed(&in_state(&app, &id(&reply), "completed").await, "standard");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_makes_no_job() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, SHORT).await;
    reports::assert_refuses_bad_input(&app).await;
    assert_eq!(stored(&sandbox).await, 0);
    app.stop().await;
    assert_eq!(sandbox.messages(QUEUE).await.len(), 0);
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_gives_the_same_answer_again_and_makes_one_job() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, SHORT).await;
    let body = json!({"report_type": "sales"});
    let replies = join_all((0..5).map(|_| app.post_keyed("/generate_report", "k1", body.clone()))).await;
    assert!(replies.iter().all(|reply| reply.status == 202 && reply.body == replies[0].body));
    assert!(replies.iter().all(|reply| reply.headers["location"] == replies[0].headers["location"]));
    assert_eq!(replies.iter().filter(|reply| reply.headers.contains_key("idempotent-replayed")).count(), 4);
    let other = app.post_keyed("/generate_report", "k1", json!({"report_type": "other"})).await;
    other.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&app, "/generate_report", &json!({"report_type": "sales"})).await;
    assert_eq!(stored(&sandbox).await, 1);
    // No body and an empty one are the same request.
    let none = app.request(Method::POST, "/generate_report", &[("idempotency-key", "k2")], None).await;
    assert_eq!(app.post_keyed("/generate_report", "k2", json!({})).await.body, none.body);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn other_paths_answer_while_reports_run() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-seconds=2", "--report-workers=2"]).await;
    let jobs = [accepted(&app).await, accepted(&app).await];
    for job_id in &jobs {
        in_state(&app, job_id, "running").await;
    }
    assert_eq!(app.get("/health").await.status, 200);
    assert_eq!(app.post("/generate_report", json!({})).await.status, 202);
    for job_id in &jobs {
        assert_eq!(job(&app, job_id).await["status"], "running", "all were answered before a report ended");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn more_jobs_than_workers_wait_in_the_queue_and_a_restart_goes_on_with_them() {
    let sandbox = Sandbox::new().await;
    let one = &["--report-seconds=0.5", "--report-workers=1"];
    let app = start(&sandbox, one).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(accepted(&app).await);
    }
    in_state(&app, &jobs[0], "running").await;
    assert_eq!(job(&app, &jobs[3]).await["status"], "queued");
    app.stop().await;
    assert!(!sandbox.messages(QUEUE).await.is_empty(), "what had not begun waits in the queue");

    let app = start(&sandbox, one).await;
    for job_id in &jobs {
        let completed = in_state(&app, job_id, "completed").await;
        assert_completed(&completed, "standard");
    }
    assert_one_after_the_other(&sandbox, 4).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_job_that_is_delivered_again_is_computed_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-seconds=0.1", "--report-workers=1"]).await;
    let reply = app.post("/generate_report", json!({})).await;
    let first = in_state(&app, &id(&reply), "completed").await;
    let again = GenerateReportJob { job_id: id(&reply), report_type: "standard".into() };
    let workflow = format!("{}-again", sandbox.schema);
    for _ in 0..2 {
        sandbox.publish(&again, &workflow).await;
    }
    // One worker takes them in turn: when this one is completed, those were handled.
    in_state(&app, &accepted(&app).await, "completed").await;
    assert_eq!(job(&app, &id(&reply)).await, first, "not even its times have changed");
    app.stop().await;
    assert_eq!(effects_of(&workflow), [""; 0]);
    assert_eq!(effects_of(reply.headers["x-request-id"].to_str().unwrap()), ["report completed"]);
    sandbox.close().await;
}

#[tokio::test]
async fn a_job_that_nobody_accepted_is_set_aside() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, SHORT).await;
    sandbox.publish(&GenerateReportJob { job_id: "job_unknown".into(), report_type: "x".into() }, "m1").await;
    sandbox.publish_raw("", QUEUE, "nonsense", "m2").await;
    eventually("both", async || sandbox.messages(&format!("{QUEUE}.dlq")).await.len() == 2).await;
    assert_completed(&in_state(&app, &accepted(&app).await, "completed").await, "standard");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_broker_a_job_is_accepted_and_the_next_start_computes_it() {
    let sandbox = Sandbox::new().await;
    let alone = format!("--amqp-url={}/%2f", common::testing::closed_port().await.replace("http", "amqp"));
    let build = |deps, own: Settings| messaging::service(&deps, &own);
    let app = sandbox.start_unready(ABOUT, Mode::Async, &[&alone, SHORT[0]], build).await;
    eventually("the database is there", async || app.get("/jobs/job_0").await.status == 404).await;
    app.get("/ready").await.assert_problem(503, None);
    let job_id = accepted(&app).await;
    assert_eq!(job(&app, &job_id).await["status"], "queued");
    app.stop().await;
    let app = start(&sandbox, SHORT).await;
    in_state(&app, &job_id, "completed").await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_job_of_another_type_than_was_accepted_is_set_aside_and_not_begun() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, SHORT).await;
    let insert = "INSERT INTO report_jobs (job_id, report_type, status) VALUES ('job_1', 'sales', 'queued')";
    sqlx::query(insert).execute(&sandbox.pool().await).await.unwrap();
    let of_type =
        |report_type: &str| GenerateReportJob { job_id: "job_1".into(), report_type: report_type.into() };
    sandbox.publish(&of_type("other"), "m1").await;
    eventually("it is set aside", async || sandbox.reasons(QUEUE).await.len() == 1).await;
    assert_eq!(job(&app, "job_1").await["status"], "queued");
    sandbox.publish(&of_type("sales"), "m2").await;
    let completed = in_state(&app, "job_1", "completed").await;
    sandbox.publish(&of_type("other"), "m3").await;
    eventually("so is a late one", async || sandbox.reasons(QUEUE).await.len() == 2).await;
    assert_eq!(sandbox.reasons(QUEUE).await, ["job job_1 is of another type"; 2]);
    assert_eq!(job(&app, "job_1").await, completed);
    app.stop().await;
    sandbox.close().await;
}
