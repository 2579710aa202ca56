//! emailservice in sync mode: userservice calls, and waits for the mail.
#![cfg(feature = "sync")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use std::time::{Duration, Instant};

use common::Mode;
use common::testing::{
    Method, Sandbox, TestApp, assert_limits_list, assert_needs_field, assert_reads_few_rows,
    assert_refuses_bad_bodies, assert_serves_common_paths, effects_of, keep_statistics, no_ids,
};
use emailservice::emails::{self, Settings};
use emailservice::{ABOUT, sync};
use futures_util::future::join_all;
use serde_json::json;

const PATH: &str = "/send_welcome_email";

async fn start(sandbox: &Sandbox, delay: &str) -> TestApp {
    sandbox
        .start(ABOUT, Mode::Sync, &[delay], |deps, settings: Settings| sync::service(&deps, &settings))
        .await
}

#[tokio::test]
async fn a_mail_is_answered_when_it_is_sent_and_belongs_to_the_callers_workflow() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--email-delay-ms=200").await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;

    let (begun, workflow) = (Instant::now(), sandbox.schema.as_str());
    let body = json!({"email": "a.b1@example.org", "user_id": 7}).to_string();
    let reply = app.request(Method::POST, PATH, &[("x-request-id", workflow)], Some(body)).await;
    assert_eq!((reply.status, &reply.body), (200, &json!({"status": "ok"})));
    assert!(begun.elapsed() >= Duration::from_millis(200), "answered before the mail was sent");
    assert_eq!(reply.headers["x-request-id"], workflow);

    let mails = app.get("/emails?user_id=7").await.body;
    assert_eq!((&mails[0]["user_id"], &mails[0]["email"]), (&json!(7), &json!("a.b1@example.org")));
    assert!(mails[0]["id"].is_i64() && mails[0]["sent_at"].as_str().unwrap().ends_with('Z'), "{mails}");
    assert_eq!(effects_of(workflow), ["email sent"]);
    let labels = ["scenario=\"s1\"", "effect=\"email\"", "outcome=\"sent\""];
    assert!(app.metric("workflow_completion_seconds_count", &labels).await >= 1.0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_user_gets_one_mail_however_often_and_at_once_it_is_asked_for() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--email-delay-ms=50").await;
    let ask = async |n: usize| {
        let body = json!({"email": "a@example.org", "user_id": 1}).to_string();
        let workflow = format!("{}-{n}", sandbox.schema);
        app.request(Method::POST, PATH, &[("x-request-id", &workflow)], Some(body)).await
    };
    for reply in join_all((0..5).map(ask)).await {
        assert_eq!((reply.status, &reply.body), (200, &json!({"status": "ok"})));
    }
    assert_eq!(ask(5).await.status, 200);
    assert_eq!(app.get("/emails").await.body.as_array().unwrap().len(), 1);
    let effects: Vec<String> = (0..6).flat_map(|n| effects_of(&format!("{}-{n}", sandbox.schema))).collect();
    assert_eq!(effects, ["email sent"], "one effect over all six calls");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn mails_are_listed_newest_first_by_user_and_up_to_a_limit() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--email-delay-ms=0").await;
    assert_eq!(app.get("/emails").await.body, json!([]));
    for user_id in [3, 1, 2] {
        app.post(PATH, json!({"email": "a@example.org", "user_id": user_id})).await;
    }
    let users = async |query: &str| -> Vec<i64> {
        let mails = app.get(&format!("/emails{query}")).await.body;
        mails.as_array().unwrap().iter().map(|mail| mail["user_id"].as_i64().unwrap()).collect()
    };
    assert_eq!(users("").await, [2, 1, 3]);
    assert_eq!(users("?limit=2").await, [2, 1]);
    assert_eq!(users("?user_id=3").await, [3]);
    assert_eq!(users("?user_id=4").await, [] as [i64; 0]);
    assert_limits_list(&app, "/emails").await;
    for user_id in ["x", "", "1.5", "99999999999999999999", "%00"] {
        app.get(&format!("/emails?user_id={user_id}")).await.assert_problem(422, Some("user_id"));
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_no_mail_is_sent() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--email-delay-ms=0").await;
    assert_refuses_bad_bodies(&app, Method::POST, PATH).await;
    let valid = json!({"email": "a@example.org", "user_id": 1});
    assert_needs_field(&app, PATH, &valid, "user_id", &no_ids()).await;
    let bad =
        [json!(""), json!("x"), json!("a@"), json!("nul\u{0}@example.org"), json!(1), json!(["a@b.org"])];
    assert_needs_field(&app, PATH, &valid, "email", &bad).await;
    assert_eq!(app.get("/emails").await.body, json!([]));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_its_database_it_refuses_at_once_and_ends_when_told() {
    let sandbox = Sandbox::new().await;
    let away = ["--database-url=postgres://nobody@127.0.0.1:1/x"];
    let build = |deps, settings: Settings| sync::service(&deps, &settings);
    let app = sandbox.start_unready(ABOUT, Mode::Sync, &away, build).await;
    assert_eq!(app.get("/health").await.status, 200);
    let ready = app.get("/ready").await;
    ready.assert_problem(503, None);
    assert_eq!(ready.body["detail"], "waiting for: database");
    for reply in
        [app.get("/emails").await, app.post(PATH, json!({"email": "a@example.org", "user_id": 1})).await]
    {
        reply.assert_problem(503, None);
        assert!(reply.headers.contains_key("retry-after"));
    }
    let stopping = tokio::time::timeout(Duration::from_secs(5), app.stop());
    assert!(stopping.await.is_ok(), "it did not end while it waited for the database");
    sandbox.close().await;
}

#[tokio::test]
async fn a_mail_to_another_address_of_a_user_who_got_one_is_refused() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--email-delay-ms=50").await;
    let ask = async |email: &str| app.post(PATH, json!({"email": email, "user_id": 1})).await;
    // At once, so that neither finds the other's mail before it is sent.
    let replies = join_all(["ada@example.org", "eve@example.org"].map(ask)).await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let mails = app.get("/emails").await.body;
    let sent_to = mails[0]["email"].as_str().unwrap();
    assert_eq!(mails.as_array().unwrap().len(), 1);
    assert_eq!(ask(sent_to).await.status, 200);
    ask("bob@example.org").await.assert_problem(409, None);
    assert_eq!(app.get("/emails").await.body, mails);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn the_mail_of_a_user_is_found_by_its_key_whatever_the_statistics_say() {
    let (sandbox, mut db) = (Sandbox::new().await, None);
    let build = |deps: common::Deps, settings: Settings| {
        db = Some(deps.db());
        sync::service(&deps, &settings)
    };
    let app = sandbox.start(ABOUT, Mode::Sync, &[], build).await;
    let pool = sandbox.pool().await;
    let fill =
        "INSERT INTO emails (user_id, email) SELECT n, 'ada@example.org' FROM generate_series(1, 20000) AS n";
    sqlx::query(fill).execute(&pool).await.unwrap();
    keep_statistics(&pool, "emails").await;
    let look = async |tx: &mut common::Tx| {
        assert_eq!(emails::newest(tx, Some(7), 100).await.unwrap().len(), 1);
    };
    assert_reads_few_rows(&db.unwrap(), "the list of a user's e-mails", look).await;
    app.stop().await;
    sandbox.close().await;
}
