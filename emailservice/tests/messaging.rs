//! emailservice in async mode: the mail is sent when the event comes.
#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use common::Mode;
use common::events::UserRegistered;
use common::testing::{
    Sandbox, TestApp, assert_limits_list, assert_serves_common_paths, effects_of, eventually,
};
use emailservice::{ABOUT, emails::Settings, messaging};
use serde_json::json;

const QUEUE: &str = "user_registered_queue";

async fn start(sandbox: &Sandbox) -> TestApp {
    let delay = ["--email-delay-ms=50"];
    sandbox
        .start(ABOUT, Mode::Async, &delay, |deps, settings: Settings| messaging::service(&deps, &settings))
        .await
}

fn registered(user_id: i64) -> UserRegistered {
    UserRegistered { user_id, email: format!("u{user_id}@example.org") }
}

async fn mails(app: &TestApp, query: &str) -> usize {
    app.get(&format!("/emails{query}")).await.body.as_array().unwrap().len()
}

async fn consumed(app: &TestApp, outcome: &str) -> f64 {
    let labels = [format!("queue=\"{QUEUE}\""), format!("outcome=\"{outcome}\"")];
    app.metric("events_consumed_total", &[&labels[0], &labels[1]]).await
}

#[tokio::test]
async fn a_registered_user_gets_a_mail_in_the_background() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    app.post("/send_welcome_email", json!({"email": "a@example.org", "user_id": 1}))
        .await
        .assert_problem(404, None);

    let ids = [format!("{}-7", sandbox.schema), format!("{}-8", sandbox.schema)];
    sandbox.publish(&registered(7), &ids[0]).await;
    sandbox.publish(&registered(8), &ids[1]).await;
    eventually("both mails are sent", async || mails(&app, "").await == 2).await;
    let mail = app.get("/emails?user_id=7").await.body.get(0).cloned().unwrap();
    assert_eq!((&mail["user_id"], &mail["email"]), (&json!(7), &json!("u7@example.org")));
    assert!(mail["sent_at"].as_str().unwrap().ends_with('Z'));
    for id in &ids {
        eventually("the effect is noted", async || effects_of(id) == ["email sent"]).await;
    }
    assert_limits_list(&app, "/emails").await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_user_gets_one_mail_whatever_is_delivered_again() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let (ok, duplicates) = (consumed(&app, "ok").await, consumed(&app, "duplicate").await);
    let [first, other] = ["first", "other"].map(|n| format!("{}-{n}", sandbox.schema));
    // At once, so that both are at work together; the same message, and another one about the same user.
    for id in [&first, &first, &other] {
        sandbox.publish(&registered(1), id).await;
    }
    // No other test of this program delivers anything twice.
    eventually("two are duplicates", async || consumed(&app, "duplicate").await == duplicates + 2.0).await;
    sandbox.publish(&registered(1), &first).await;
    eventually("so is a late one", async || consumed(&app, "duplicate").await == duplicates + 3.0).await;
    assert!(consumed(&app, "ok").await > ok);
    assert_eq!(mails(&app, "").await, 1);
    assert_eq!([effects_of(&first), effects_of(&other)].concat(), ["email sent"]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_no_registration_is_set_aside_and_its_neighbours_are_served() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let poison = ["no JSON", "[1]", r#"{"user_id":"x","email":"a@example.org"}"#, r#"{"user_id":1}"#];
    // What the call refuses in sync mode.
    let invalid = [
        r#"{"user_id":-5,"email":"a@example.org"}"#,
        r#"{"user_id":5,"email":"no address"}"#,
        r#"{"user_id":6,"email":"a@example.org\r\nBcc: b@example.org"}"#,
    ];
    let poison = [&poison[..], &invalid].concat();
    for (n, text) in (0..).zip(&poison) {
        sandbox.publish(&registered(10 + n), &format!("neighbour-{n}")).await;
        sandbox.publish_raw("", QUEUE, text, &format!("poison-{n}")).await;
    }
    eventually("the neighbours are served", async || mails(&app, "").await == poison.len()).await;
    let dead = format!("{QUEUE}.dlq");
    eventually("all poison is set aside", async || sandbox.messages(&dead).await.len() == poison.len()).await;
    for message in sandbox.messages(&dead).await {
        assert!(poison.contains(&message["payload"].as_str().unwrap()), "{message}");
        let reason = message["properties"]["headers"]["x-reason"].as_str().unwrap();
        let rule = invalid.contains(&message["payload"].as_str().unwrap());
        let begin = if rule { "is no valid UserRegistered: " } else { "does not parse as UserRegistered" };
        assert!(reason.starts_with(begin) && !reason.contains("example.org"), "{reason}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_waits_in_the_queue_is_served_after_a_restart() {
    let sandbox = Sandbox::new().await;
    start(&sandbox).await.stop().await;
    for user_id in 1..=20 {
        sandbox.publish(&registered(user_id), &format!("waiting-{user_id}")).await;
    }
    let app = start(&sandbox).await;
    eventually("all are served", async || mails(&app, "").await == 20).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_registration_with_another_address_of_a_user_who_got_a_mail_is_set_aside() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let other = UserRegistered { user_id: 1, email: "eve@example.org".into() };
    // At once, so that neither finds the other's mail before it is sent; and one that does.
    sandbox.publish(&registered(1), "a").await;
    sandbox.publish(&other, "b").await;
    eventually("one is set aside", async || sandbox.reasons(QUEUE).await.len() == 1).await;
    let sent = app.get("/emails").await.body;
    let third = UserRegistered { user_id: 1, email: "bob@example.org".into() };
    sandbox.publish(&third, "c").await;
    eventually("so is a late one", async || sandbox.reasons(QUEUE).await.len() == 2).await;
    for reason in sandbox.reasons(QUEUE).await {
        assert_eq!(reason, "the welcome e-mail of user 1 went to another address");
    }
    assert_eq!(app.get("/emails").await.body, sent);
    assert_eq!(mails(&app, "").await, 1);
    app.stop().await;
    sandbox.close().await;
}
