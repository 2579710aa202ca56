//! userservice in sync mode, with a stub in the place of emailservice.
#![cfg(feature = "sync")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::Mode;
use common::config::NoSettings;
use common::testing::{
    Method, Peer, Sandbox, TestApp, assert_limits_list, assert_needs_field, assert_refuses_bad_bodies,
    assert_refuses_bad_keys, assert_refuses_path_ids, assert_serves_common_paths, closed_port, eventually,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Notify;
use userservice::{ABOUT, sync};

async fn start(sandbox: &Sandbox, emailservice: &str) -> TestApp {
    let settings = [&format!("--email-service-url={emailservice}"), "--call-timeout-ms=300"];
    sandbox.start(ABOUT, Mode::Sync, &settings, |deps, NoSettings {}| sync::service(&deps)).await
}

/// An emailservice that sends at once.
async fn mail() -> Peer {
    Peer::start(async |_, _| (200, json!({"status": "ok"}))).await
}

async fn users(app: &TestApp) -> usize {
    app.get("/users").await.body.as_array().unwrap().len()
}

#[tokio::test]
async fn a_registration_is_answered_201_when_the_mail_is_sent() {
    let sandbox = Sandbox::new().await;
    let sent = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&sent);
    let peer = Peer::start(move |_, _| {
        let note = Arc::clone(&note);
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            note.store(true, Ordering::SeqCst);
            (200, json!({"status": "ok"}))
        }
    })
    .await;
    let app = start(&sandbox, &peer.url).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;

    let reply = app.post("/register", json!({"email": "a.b1@example.org"})).await;
    assert!(sent.load(Ordering::SeqCst), "answered before the mail was sent");
    assert_eq!(reply.status, 201, "{}", reply.text);
    let id = &reply.body["id"];
    let message = "User registered, welcome e-mail sent";
    assert_eq!(reply.body, json!({"id": id, "email": "a.b1@example.org", "message": message}));
    assert!(id.is_i64());

    let call = peer.calls().remove(0);
    assert_eq!((call.path.as_str(), &call.body["user_id"]), ("/send_welcome_email", id));
    assert_eq!(call.body["email"], "a.b1@example.org");
    assert_eq!(call.workflow, reply.headers["x-request-id"].to_str().unwrap());
    assert_eq!(peer.calls().len(), 1);
    let user = app.get(&format!("/users/{id}")).await.body;
    assert_eq!((&user["id"], &user["email"]), (id, &json!("a.b1@example.org")));
    app.stop().await;
    sandbox.close().await;
}

async fn assert_registers_with_a_warning(emailservice: &str) {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, emailservice).await;
    let reply = app.post("/register", json!({"email": "a@example.org"})).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_eq!(reply.body["email"], "a@example.org");
    assert!(reply.body["id"].is_i64() && reply.body["message"].is_string());
    let warnings = reply.body["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].is_string(), "{}", reply.text);
    assert_eq!(users(&app).await, 1);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_user_is_registered_with_a_warning_when_the_mail_fails() {
    let peer = Peer::start(async |_, _| (500, json!({"title": "broken"}))).await;
    assert_registers_with_a_warning(&peer.url).await;
}

#[tokio::test]
async fn a_user_is_registered_with_a_warning_when_the_mail_is_refused() {
    let peer = Peer::start(async |_, _| (422, json!({"title": "no"}))).await;
    assert_registers_with_a_warning(&peer.url).await;
}

#[tokio::test]
async fn a_user_is_registered_with_a_warning_when_nobody_sends_mail() {
    assert_registers_with_a_warning(&closed_port().await).await;
}

#[tokio::test]
async fn a_user_is_registered_with_a_warning_when_the_mail_does_not_end() {
    let peer = Peer::start(async |_, _| std::future::pending::<(u16, Value)>().await).await;
    assert_registers_with_a_warning(&peer.url).await;
}

#[tokio::test]
async fn an_address_registers_once_in_whatever_case_and_gets_one_mail() {
    let sandbox = Sandbox::new().await;
    let peer = mail().await;
    let app = start(&sandbox, &peer.url).await;
    let attempts = (0..50).map(|i| {
        let email = if i % 2 == 0 { "Same@example.org" } else { "sAME@EXAMPLE.org" };
        app.post("/register", json!({"email": email}))
    });
    let replies = join_all(attempts).await;
    let (taken, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
    assert_eq!((taken.len(), refused.len()), (1, 49));
    for reply in refused {
        reply.assert_problem(409, None);
    }
    assert_eq!((users(&app).await, peer.calls().len()), (1, 1));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_gives_the_same_answer_again_and_only_for_the_same_body() {
    let sandbox = Sandbox::new().await;
    let peer = mail().await;
    let app = start(&sandbox, &peer.url).await;
    let body = json!({"email": "key@example.org"});
    let first = app.post_keyed("/register", "k1", body.clone()).await;
    assert_eq!(first.status, 201);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = app.post_keyed("/register", "k1", body.clone()).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");

    let other = app.post_keyed("/register", "k1", json!({"email": "other@example.org"})).await;
    other.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&app, "/register", &body).await;
    let longest = app.post_keyed("/register", &"k".repeat(255), json!({"email": "long@example.org"})).await;
    assert_eq!(longest.status, 201);
    assert_eq!((users(&app).await, peer.calls().len()), (2, 2));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_whose_first_request_is_at_work_is_refused_until_it_is_answered() {
    let sandbox = Sandbox::new().await;
    let go_on = Arc::new(Notify::new());
    let gate = Arc::clone(&go_on);
    let peer = Peer::start(move |_, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            (200, json!({"status": "ok"}))
        }
    })
    .await;
    let settings = [&format!("--email-service-url={}", peer.url)[..]];
    let app = sandbox.start(ABOUT, Mode::Sync, &settings, |deps, NoSettings {}| sync::service(&deps)).await;
    let body = json!({"email": "key@example.org"});
    let second = async {
        eventually("the first is at work", async || !peer.calls().is_empty()).await;
        app.post_keyed("/register", "k1", body.clone()).await.assert_problem(409, None);
        go_on.notify_one();
    };
    let (first, ()) = tokio::join!(app.post_keyed("/register", "k1", body.clone()), second);
    assert_eq!(first.status, 201);
    let again = app.post_keyed("/register", "k1", body).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!((users(&app).await, peer.calls().len()), (1, 1));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_taken_up_where_it_stood() {
    let sandbox = Sandbox::new().await;
    let peer = mail().await;
    let app = start(&sandbox, &peer.url).await;
    let body = json!({"email": "key@example.org"});
    let first = app.post_keyed("/register", "k1", body.clone()).await;
    // As a crash between the mail and the answer leaves it, once the lease has run out.
    let pool = sandbox.pool().await;
    sqlx::query("UPDATE idempotency_keys SET answer = NULL, leased_until = now()")
        .execute(&pool)
        .await
        .unwrap();
    let second = app.post_keyed("/register", "k1", body).await;
    assert_eq!((second.status, &second.body), (201, &first.body));
    assert!(!second.headers.contains_key("idempotent-replayed"), "it was worked on, not repeated");
    assert_eq!(users(&app).await, 1);
    let asked: Vec<Value> = peer.calls().into_iter().map(|call| call.body).collect();
    assert_eq!(asked.len(), 2, "emailservice decides whether the mail was sent");
    assert_eq!(asked[0], asked[1]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::new().await;
    let peer = mail().await;
    let app = start(&sandbox, &peer.url).await;
    assert_refuses_bad_bodies(&app, Method::POST, "/register").await;
    let valid = json!({"email": "a@example.org"});
    let long = format!("{}@example.org", "x".repeat(300));
    let bad =
        ["", "x", "a@", "@b.org", "a b@example.org", "nul\u{0}@example.org", &long].map(|text| json!(text));
    let wrong = [json!(1), json!(true), json!(["a@b.org"]), json!({})];
    assert_needs_field(&app, "/register", &valid, "email", &[bad.as_slice(), &wrong].concat()).await;
    app.post("/register", json!({"email": "a@example.org", "id": 1})).await.assert_problem(422, Some("id"));
    assert_refuses_path_ids(&app, "/users", "id").await;
    assert_eq!((users(&app).await, peer.calls().len()), (0, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn users_are_listed_newest_first_up_to_a_limit() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &mail().await.url).await;
    assert_eq!(app.get("/users").await.body, json!([]));
    for email in ["a@example.org", "b@example.org", "c@example.org"] {
        app.post("/register", json!({"email": email})).await;
    }
    let list = app.get("/users?limit=2").await.body;
    let emails: Vec<&str> =
        list.as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap()).collect();
    assert_eq!(emails, ["c@example.org", "b@example.org"]);
    assert_limits_list(&app, "/users").await;
    app.stop().await;
    sandbox.close().await;
}
