//! analyticsservice in async mode, against real servers.
#![cfg(feature = "async")]

mod analytics;

use analytics::{count, track, updates};
use analyticsservice::{ABOUT, messaging};
use common::Mode;
use common::events::{ClickTracked, ProductUpdated};
use common::testing::{
    Sandbox, TestApp, assert_limits_list, assert_serves_common_paths, closed_port, effects_of, eventually,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

const CLICKS: &str = "click_tracked_queue";
const UPDATES: &str = "analytics_product_updates_queue";

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Async, &[], |deps, own| messaging::service(&deps, &own)).await
}

async fn start_without_broker(sandbox: &Sandbox) -> TestApp {
    let alone = format!("--amqp-url={}/%2f", closed_port().await.replace("http", "amqp"));
    sandbox.start_unready(ABOUT, Mode::Async, &[&alone], |deps, own| messaging::service(&deps, &own)).await
}

/// A service that tracks clicks and stores none: there is a broker, but no database.
async fn start_without_database(sandbox: &Sandbox) -> TestApp {
    let alone = format!("--database-url={}/none", closed_port().await.replace("http", "postgres"));
    let app = sandbox
        .start_unready(ABOUT, Mode::Async, &[&alone], |deps, own| messaging::service(&deps, &own))
        .await;
    let connected =
        async || app.get("/ready").await.body["detail"].as_str().is_some_and(|d| !d.contains("broker"));
    eventually("the broker is connected", connected).await;
    app
}

fn click(event_id: &str, page: &str) -> ClickTracked {
    let event = json!({"event_id": event_id, "user_id": 1, "page": page});
    serde_json::from_value(event).expect("a click")
}

async fn announce(sandbox: &Sandbox, product_id: i64, version: i64, message_id: &str) {
    let event = ProductUpdated { product_id, name: "Laptop".into(), stock: 5, version };
    sandbox.publish_to(UPDATES, &event, message_id).await;
}

#[tokio::test]
async fn clicks_are_tracked_and_every_one_is_stored_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    analytics::track_allowed(&app).await;
    let clicks = (0..500).map(|user| track(&app, json!({"user_id": user + 1, "page": "/"})));
    join_all(clicks).await;
    eventually("all are stored", async || count(&app).await == 505).await;
    app.stop().await;
    assert_eq!(sandbox.messages(CLICKS).await.len(), 0);
    sandbox.close().await;
}

#[tokio::test]
async fn a_click_is_answered_when_the_broker_has_it_with_no_database_in_the_way() {
    let sandbox = Sandbox::new().await;
    let app = start_without_database(&sandbox).await;
    track(&app, json!({"user_id": 7, "page": "/products/1", "session_id": "s1"})).await;
    // Answered means confirmed: it is there without waiting.
    let message = sandbox.messages(CLICKS).await.remove(0);
    let properties = &message["properties"];
    assert_eq!((&properties["type"], &properties["delivery_mode"]), (&json!("ClickTracked"), &json!(2)));
    assert!(properties["message_id"].is_string() && properties["timestamp"].is_number());
    assert!(properties["correlation_id"].is_string() && properties["headers"]["traceparent"].is_string());
    let event = sandbox.events(CLICKS).await.remove(0);
    assert_eq!(
        (&event["user_id"], &event["page"], &event["session_id"]),
        (&json!(7), &json!("/products/1"), &json!("s1"))
    );
    assert!(event["event_id"].is_string() && event["timestamp"].is_string());
    app.get("/clicks/count").await.assert_problem(503, None);
    app.stop().await;

    let app = start(&sandbox).await;
    eventually("the next start stores it", async || count(&app).await == 1).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_broker_a_click_is_refused_at_once_and_the_rest_is_served() {
    let sandbox = Sandbox::new().await;
    let app = start_without_broker(&sandbox).await;
    eventually("the database is there", async || app.get("/clicks/count").await.status == 200).await;
    let refused = app.post("/track_click", json!({"user_id": 1, "page": "/"})).await;
    refused.assert_problem(503, None);
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().is_ok());
    assert_eq!(app.get("/health").await.status, 200);
    let ready = app.get("/ready").await;
    ready.assert_problem(503, None);
    let detail = ready.body["detail"].as_str().unwrap();
    assert!(detail.contains("broker") && detail.contains("consumers"), "{detail}");
    assert_eq!(count(&app).await, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_click_that_is_delivered_twice_is_stored_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let twice = format!("{}-twice", sandbox.schema);
    let id = "0198f1a0-0000-7000-8000-000000000001";
    for message_id in [&twice, &twice, "other"] {
        sandbox.publish(&click(id, "/"), message_id).await;
    }
    sandbox.publish(&click("0198f1a0-0000-7000-8000-000000000002", "/"), "last").await;
    eventually("both are stored", async || count(&app).await == 2).await;
    app.stop().await;
    assert_eq!(sandbox.messages(CLICKS).await.len(), 0, "all four were handled");
    assert_eq!(effects_of(&twice), ["click stored"]);
    sandbox.close().await;
}

#[tokio::test]
async fn of_a_batch_with_poison_the_poison_is_set_aside_and_its_neighbours_are_stored() {
    let sandbox = Sandbox::new().await;
    // Nothing is consumed yet, so that all of them are one batch.
    start_without_database(&sandbox).await.stop().await;
    sandbox.publish(&click("0198f1a0-0000-7000-8000-000000000001", "/before"), "before").await;
    // A dead-lettered message has the reason in a header, which fits into a frame however long the wrong value is.
    let long = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(60_000));
    let poison = ["nonsense", "{}", r#"{"event_id":"x","user_id":1,"page":"/"}"#, &long];
    for (n, poison) in poison.iter().enumerate() {
        sandbox.publish_raw("", CLICKS, poison, &format!("poison-{n}")).await;
    }
    sandbox.publish(&click("0198f1a0-0000-7000-8000-000000000002", "/after"), "after").await;

    let app = start(&sandbox).await;
    eventually("the neighbours are stored", async || count(&app).await == 2).await;
    eventually("the poison is set aside", async || {
        sandbox.messages("click_tracked_queue.dlq").await.len() == poison.len()
    })
    .await;
    for message in sandbox.messages("click_tracked_queue.dlq").await {
        let headers = &message["properties"]["headers"];
        assert!(
            headers["x-reason"].as_str().unwrap().contains("does not parse as ClickTracked"),
            "{headers}"
        );
        assert!(!headers["x-reason"].as_str().unwrap().contains("xxx"), "{headers}");
        assert!(poison.contains(&message["payload"].as_str().unwrap()), "as it came: {message}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_click_that_the_database_refuses_does_not_keep_its_neighbours() {
    let sandbox = Sandbox::new().await;
    start_without_database(&sandbox).await.stop().await;
    sandbox.publish(&click("0198f1a0-0000-7000-8000-000000000001", "/before"), "before").await;
    // Such a page is refused at the door, but somebody else may publish it: PostgreSQL's text holds no NUL.
    sandbox.publish(&click("0198f1a0-0000-7000-8000-000000000002", "a\0b"), "nul").await;
    sandbox.publish(&click("0198f1a0-0000-7000-8000-000000000003", "/after"), "after").await;
    let app = start(&sandbox).await;
    eventually("the neighbours are stored", async || count(&app).await == 2).await;
    // No attempt can heal it.
    eventually("it is set aside", async || sandbox.messages("click_tracked_queue.dlq").await.len() == 1)
        .await;
    app.stop().await;
    assert_eq!(sandbox.messages(CLICKS).await.len(), 0);
    sandbox.close().await;
}

#[tokio::test]
async fn a_bad_click_is_refused_and_not_published() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    analytics::assert_refuses_bad_clicks(&app).await;
    track(&app, json!({"user_id": 1, "page": "/"})).await;
    eventually("the good one is stored", async || count(&app).await > 0).await;
    app.stop().await;
    let app = start(&sandbox).await;
    assert_eq!(count(&app).await, 1);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn updates_are_recorded_once_each_and_listed_newest_first_and_by_product() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let prefix = &sandbox.schema;
    let deliveries = [(1, 3, "a"), (1, 3, "a"), (1, 3, "b"), (1, 2, "c"), (2, 2, "d"), (2, 5, "e")];
    for (id, version, message) in deliveries {
        announce(&sandbox, id, version, &format!("{prefix}-{message}")).await;
    }
    eventually("four are recorded", async || updates(&app, "").await.len() == 4).await;
    announce(&sandbox, 3, 1, &format!("{prefix}-last")).await;
    eventually("the last one is", async || updates(&app, "?product_id=3").await.len() == 1).await;
    let mut all = updates(&app, "").await;
    assert_eq!(all[0], (3, Some(1)), "newest first");
    all.sort_unstable();
    assert_eq!(all, [(1, Some(2)), (1, Some(3)), (2, Some(2)), (2, Some(5)), (3, Some(1))]);
    let of_one: Vec<Value> = app.get("/product_updates?product_id=1").await.body.as_array().unwrap().clone();
    assert!(of_one.iter().all(|u| u["name"] == "Laptop" && u["stock"] == 5 && u["recorded_at"].is_string()));
    assert_limits_list(&app, "/product_updates").await;
    analytics::assert_refuses_bad_filters(&app).await;
    app.post("/log_update", json!({"product_id": 1})).await.assert_problem(404, None);
    app.stop().await;
    assert_eq!(effects_of(&format!("{prefix}-a")).len() + effects_of(&format!("{prefix}-b")).len(), 1);
    sandbox.close().await;
}

#[tokio::test]
async fn a_version_that_is_recorded_with_other_contents_is_set_aside() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    announce(&sandbox, 20, 2, "a").await;
    eventually("it is recorded", async || updates(&app, "").await.len() == 1).await;
    let other = ProductUpdated { product_id: 20, name: "Kettle".into(), stock: 5, version: 2 };
    sandbox.publish_to(UPDATES, &other, "b").await;
    eventually("it is set aside", async || !sandbox.reasons(UPDATES).await.is_empty()).await;
    assert_eq!(sandbox.reasons(UPDATES).await, ["version 2 of product 20 is stored with other contents"]);
    assert_eq!(app.get("/product_updates").await.body[0]["name"], "Laptop");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_click_whose_id_is_stored_with_other_contents_is_set_aside_and_its_neighbours_are_stored() {
    let sandbox = Sandbox::new().await;
    start(&sandbox).await.stop().await;
    let [first, second] = ["0198f1a0-0000-7000-8000-000000000001", "0198f1a0-0000-7000-8000-000000000002"];
    // All of them wait, so that they come in one batch.
    for (id, page, message) in
        [(first, "/", "a"), (first, "/", "b"), (first, "/other", "c"), (second, "/", "neighbour")]
    {
        sandbox.publish(&click(id, page), message).await;
    }
    let app = start(&sandbox).await;
    eventually("it is set aside", async || !sandbox.reasons(CLICKS).await.is_empty()).await;
    eventually("the others are handled", async || sandbox.messages(CLICKS).await.is_empty()).await;
    assert_eq!(count(&app).await, 2);
    app.stop().await;
    assert_eq!(sandbox.reasons(CLICKS).await, ["a click with this id is stored with other contents"]);
    sandbox.close().await;
}
