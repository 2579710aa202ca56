//! userservice in async mode, against real servers.
#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use common::Mode;
use common::config::NoSettings;
use common::testing::{
    Sandbox, TestApp, assert_refuses_bad_bodies, assert_refuses_bad_keys, assert_serves_common_paths,
    eventually,
};
use serde_json::json;
use userservice::{ABOUT, messaging};

const QUEUE: &str = "user_registered_queue";

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Async, &[], |deps, NoSettings {}| messaging::service(&deps)).await
}

#[tokio::test]
async fn a_registration_is_answered_202_and_announced_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;

    let reply = app.post("/register", json!({"email": "a.b1@example.org"})).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    assert_eq!(
        (&reply.body["email"], &reply.body["event_published"]),
        (&json!("a.b1@example.org"), &json!(true))
    );
    assert!(reply.body["message"].is_string());
    let id = &reply.body["id"];
    assert_eq!(app.get(&format!("/users/{id}")).await.body["email"], "a.b1@example.org");
    assert_eq!(app.get("/users").await.body[0]["id"], *id);

    eventually("the event is in the queue", async || !sandbox.messages(QUEUE).await.is_empty()).await;
    let message = sandbox.messages(QUEUE).await.remove(0);
    let properties = &message["properties"];
    assert_eq!((&properties["type"], &properties["delivery_mode"]), (&json!("UserRegistered"), &json!(2)));
    assert!(properties["message_id"].is_string() && properties["timestamp"].is_number());
    assert_eq!(properties["correlation_id"], reply.headers["x-request-id"].to_str().unwrap());
    assert!(
        properties["headers"]["traceparent"].is_string()
            && properties["headers"]["x-accepted-at"].is_string()
    );
    let event = sandbox.events(QUEUE).await.remove(0);
    assert_eq!((&event["user_id"], &event["email"]), (id, &json!("a.b1@example.org")));
    assert!(event["timestamp"].is_string());
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_address_registers_once_in_whatever_case_and_a_refusal_changes_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let attempts = (0..50).map(|i| {
        let email = if i % 2 == 0 { "Same@example.org" } else { "sAME@EXAMPLE.org" };
        app.post("/register", json!({"email": email}))
    });
    let mut statuses = Vec::new();
    for reply in futures_util::future::join_all(attempts).await {
        if reply.status != 202 {
            reply.assert_problem(409, None);
        }
        statuses.push(reply.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1, "{statuses:?}");

    assert_refuses_bad_bodies(&app, common::testing::Method::POST, "/register").await;
    for email in [
        "",
        "x",
        "a@",
        "@b.org",
        "a b@example.org",
        "nul\u{0}@example.org",
        &format!("{}@e.org", "x".repeat(300)),
    ] {
        app.post("/register", json!({"email": email})).await.assert_problem(422, Some("email"));
    }
    for body in [json!({}), json!({"email": 1}), json!({"email": null}), json!({"email": ["a@b.org"]})] {
        app.post("/register", body).await.assert_problem(422, Some("email"));
    }
    assert_eq!(app.get("/users").await.body.as_array().unwrap().len(), 1);
    for limit in ["0", "1001", "-1", "x", "99999999999999999999"] {
        app.get(&format!("/users?limit={limit}")).await.assert_problem(422, Some("limit"));
    }
    app.get("/users/0").await.assert_problem(404, None);
    for id in ["x", "99999999999999999999", "%00"] {
        app.get(&format!("/users/{id}")).await.assert_problem(422, Some("id"));
    }
    eventually("one event", async || sandbox.messages(QUEUE).await.len() == 1).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_address_registers_once_in_whatever_spelling() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let register = async |email: &str| app.post("/register", json!({"email": email})).await;
    for [one, same] in [
        ["\u{fc}@example.org", "\u{dc}@EXAMPLE.org"],
        ["jos\u{e9}@x.org", "jose\u{301}@x.org"],
        ["ß@x.org", "ẞ@x.org"],
        ["ΝΊΚΟΣ@x.org", "νίκος@x.org"],
        ["a@bücher.example", "a@xn--bcher-kva.example"],
        ["a.b@x.org", "\"A.b\"@x.org"],
    ] {
        let reply = register(one).await;
        assert_eq!((reply.status, &reply.body["email"]), (202, &json!(one)), "{}", reply.text);
        register(same).await.assert_problem(409, None);
    }
    for email in ["ss@x.org", "jose@x.org", "अजय@डाटा.भारत", "ผู้ใช้@ตัวอย่าง.ไทย"]
    {
        assert_eq!(register(email).await.status, 202, "{email}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn users_from_before_an_upgrade_keep_their_addresses() {
    let sandbox = Sandbox::new().await;
    let pool = sandbox.pool().await;
    // As the first version left it; a composed and a decomposed letter were two addresses then.
    let users = ["a@x.org", "jos\u{e9}@x.org", "jose\u{301}@x.org"];
    let schema = format!("CREATE SCHEMA {}", sandbox.schema);
    sqlx::raw_sql(sqlx::AssertSqlSafe(schema)).execute(&pool).await.unwrap();
    sqlx::raw_sql(include_str!("../migrations/0001_users.sql")).execute(&pool).await.unwrap();
    for email in users {
        sqlx::query("INSERT INTO users (email) VALUES ($1)").bind(email).execute(&pool).await.unwrap();
    }
    sqlx::raw_sql(include_str!("../migrations/0002_same_address.sql")).execute(&pool).await.unwrap();
    let kept: Vec<String> =
        sqlx::query_scalar("SELECT email FROM users ORDER BY id").fetch_all(&pool).await.unwrap();
    assert_eq!(kept, users);
    let again =
        sqlx::query("INSERT INTO users (email, identity) VALUES ('A@x.org', 'a@x.org')").execute(&pool).await;
    assert!(again.is_err(), "one user an address");
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_gives_the_same_answer_again_and_registers_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let body = json!({"email": "key@example.org"});
    let same = (0..10).map(|_| app.post_keyed("/register", "k1", body.clone()));
    let replies = futures_util::future::join_all(same).await;
    assert!(replies.iter().all(|reply| reply.status == 202 && reply.body == replies[0].body));
    let replayed = replies.iter().filter(|reply| reply.headers.contains_key("idempotent-replayed")).count();
    assert_eq!(replayed, 9);
    let other = app.post_keyed("/register", "k1", json!({"email": "other@example.org"})).await;
    other.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&app, "/register", &body).await;
    assert_eq!(app.get("/users").await.body.as_array().unwrap().len(), 1);
    eventually("one event", async || sandbox.messages(QUEUE).await.len() == 1).await;
    app.stop().await;
    sandbox.close().await;
}
