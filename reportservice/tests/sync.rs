//! reportservice in sync mode, against a real database.
#![cfg(feature = "sync")]

mod reports;

use common::Mode;
use common::testing::{
    Method, Sandbox, TestApp, assert_reads_few_rows, assert_refuses_bad_keys, assert_serves_common_paths,
    effects_of, eventually, keep_statistics,
};
use futures_util::future::{join, join_all};
use reports::{assert_completed, assert_one_after_the_other, chain, id, job};
use reportservice::hashing::Settings;
use reportservice::{ABOUT, reports as jobs, sync};
use serde_json::json;

/// Reports of 1000 hashes: of no length worth mentioning.
const SHORT: &[&str] = &["--report-iterations=1000"];

async fn start(sandbox: &Sandbox, settings: &[&str]) -> TestApp {
    sandbox.start(ABOUT, Mode::Sync, settings, |deps, own: Settings| sync::service(&deps, &own)).await
}

async fn stored(sandbox: &Sandbox) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM report_jobs")
        .fetch_one(&sandbox.pool().await)
        .await
        .expect("a count")
}

#[tokio::test]
async fn a_report_is_answered_when_it_is_computed_for_as_long_as_was_set() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-seconds=0.2"]).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;
    let reply = app.post("/generate_report", json!({"report_type": "sales"})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_completed(&reply.body, "sales");
    assert!(reply.body["computation_time_seconds"].as_f64().unwrap() >= 0.2, "{}", reply.text);
    assert_eq!(job(&app, &id(&reply)).await, reply.body);
    let workflow = reply.headers["x-request-id"].to_str().unwrap();
    assert_eq!(effects_of(workflow), ["report completed"]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_report_by_iterations_is_the_chain_of_as_many_hashes() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-iterations=5000"]).await;
    let reply = app.post("/generate_report", json!({"report_type": "é 😀 '"})).await;
    assert_completed(&reply.body, "é 😀 '");
    assert_eq!(
        (&reply.body["iterations"], &reply.body["report_hash"]),
        (&json!(5000), &json!(chain(&reply.body, 5000)))
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
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_completed(&reply.body, "standard");
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
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_gives_the_same_report_again_and_is_refused_while_the_first_is_at_work() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-seconds=0.5"]).await;
    let body = json!({"report_type": "sales"});
    let first = app.post_keyed("/generate_report", "k1", body.clone());
    let meanwhile = async {
        eventually("the first is at work", async || stored(&sandbox).await == 1).await;
        app.post_keyed("/generate_report", "k1", body.clone()).await.assert_problem(409, None);
    };
    let (first, ()) = join(first, meanwhile).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert!(!first.headers.contains_key("idempotent-replayed"));

    let again = app.post_keyed("/generate_report", "k1", body).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = app.post_keyed("/generate_report", "k1", json!({"report_type": "other"})).await;
    other.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&app, "/generate_report", &json!({"report_type": "sales"})).await;
    assert_eq!(stored(&sandbox).await, 1);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn other_paths_answer_while_reports_run() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-seconds=2", "--report-workers=2"]).await;
    let reports = join_all((0..2).map(|_| app.post("/generate_report", json!({}))));
    let meanwhile = async {
        eventually("both run", async || running(&sandbox).await.len() == 2).await;
        for job_id in running(&sandbox).await {
            assert_eq!(job(&app, &job_id).await["status"], "running", "answered before the report has ended");
        }
        assert_eq!(app.get("/health").await.status, 200);
        assert_eq!(running(&sandbox).await.len(), 2, "and still both run");
    };
    let (replies, ()) = join(reports, meanwhile).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    app.stop().await;
    sandbox.close().await;
}

async fn running(sandbox: &Sandbox) -> Vec<String> {
    let select = sqlx::query_scalar("SELECT job_id FROM report_jobs WHERE status = 'running'");
    select.fetch_all(&sandbox.pool().await).await.expect("the database answers")
}

#[tokio::test]
async fn more_requests_than_workers_wait_their_turn() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--report-seconds=0.1", "--report-workers=1"]).await;
    let replies = join_all((0..5).map(|_| app.post("/generate_report", json!({})))).await;
    for reply in &replies {
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    assert_one_after_the_other(&sandbox, 5).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_job_survives_a_restart() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, SHORT).await;
    let reply = app.post("/generate_report", json!({})).await;
    app.stop().await;
    let app = start(&sandbox, SHORT).await;
    assert_eq!(job(&app, &id(&reply)).await, reply.body);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_step_of_a_job_reads_only_its_row_whatever_the_statistics_say() {
    for analyzed in [0, 10, 20_000] {
        let (sandbox, mut db) = (Sandbox::new().await, None);
        let build = |deps: common::Deps, settings: Settings| {
            db = Some(deps.db());
            sync::service(&deps, &settings)
        };
        let app = sandbox.start(ABOUT, Mode::Sync, &[], build).await;
        let (db, pool) = (db.unwrap(), sandbox.pool().await);
        // As many are queued as `analyzed` when the statistics are taken; 2000 more since.
        let insert = "INSERT INTO report_jobs (job_id, report_type, status)
                      SELECT 'job_' || n, 'standard', CASE WHEN n > $1 THEN 'completed' ELSE 'queued' END
                      FROM generate_series($2, $3) AS n";
        for (queued, from, to) in [(analyzed, 1, 20_000), (22_000, 20_001, 22_000)] {
            sqlx::query(insert).bind(queued).bind(from).bind(to).execute(&pool).await.unwrap();
            if from == 1 {
                keep_statistics(&pool, "report_jobs").await;
            }
        }
        let begin =
            async |tx: &mut common::Tx| assert!(jobs::begin(tx, "job_21000", "standard").await.unwrap());
        assert_reads_few_rows(&db, "the start of a report", begin).await;
        let refuse = async |tx: &mut common::Tx| jobs::refuse(tx, "job_21000").await.unwrap();
        assert_reads_few_rows(&db, "the refusal of a report", refuse).await;
        let look = async |tx: &mut common::Tx| drop(jobs::find(tx, "job_21000").await.unwrap());
        assert_reads_few_rows(&db, "a look at a job", look).await;
        let sweep = async |tx: &mut common::Tx| jobs::end_interrupted(tx).await.unwrap();
        assert_reads_few_rows(&db, "the look for interrupted reports", sweep).await;
        app.stop().await;
        sandbox.close().await;
    }
}
