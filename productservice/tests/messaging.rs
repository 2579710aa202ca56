//! productservice in async mode, against real servers.
#![cfg(feature = "async")]

mod products;

use common::Mode;
use common::testing::{Sandbox, TestApp, assert_serves_common_paths, eventually};
use productservice::{ABOUT, messaging};
use serde_json::json;

const QUEUES: [&str; 3] =
    ["search_product_updates_queue", "cache_product_updates_queue", "analytics_product_updates_queue"];

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Async, &[], |deps, own| messaging::service(&deps, &own)).await
}

#[tokio::test]
async fn an_installation_starts_with_three_products() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    products::assert_seeded(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_change_is_answered_at_once_and_one_event_reaches_all_three_queues() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let reply = app.put("/products/1", json!({"name": "Gaming Laptop", "stock": 42})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = json!({"id": 1, "name": "Gaming Laptop", "stock": 42, "version": 2, "event_published": true});
    assert_eq!(reply.body, body);

    let mut ids = Vec::new();
    for queue in QUEUES {
        eventually("the event is in every queue", async || !sandbox.messages(queue).await.is_empty()).await;
        let (messages, events) = (sandbox.messages(queue).await, sandbox.events(queue).await);
        assert_eq!((messages.len(), events.len()), (1, 1));
        let properties = &messages[0]["properties"];
        assert_eq!(
            (&properties["type"], &properties["delivery_mode"]),
            (&json!("ProductUpdated"), &json!(2))
        );
        assert_eq!(properties["correlation_id"], reply.headers["x-request-id"].to_str().unwrap());
        assert!(properties["timestamp"].is_number() && properties["headers"]["traceparent"].is_string());
        assert_eq!(messages[0]["exchange"], "product_updates");
        let (id, name, stock, version) =
            (&events[0]["product_id"], &events[0]["name"], &events[0]["stock"], &events[0]["version"]);
        assert_eq!((id, name, stock, version), (&json!(1), &json!("Gaming Laptop"), &json!(42), &json!(2)));
        assert!(events[0]["timestamp"].is_string());
        ids.push(properties["message_id"].clone());
    }
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "one event, copied: {ids:?}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_not_said_stays_and_the_version_grows() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    products::assert_updates_in_parts(&app).await;
    eventually("an event each", async || sandbox.messages(QUEUES[0]).await.len() == 4).await;
    let versions: Vec<_> =
        sandbox.events(QUEUES[0]).await.iter().map(|event| event["version"].clone()).collect();
    assert_eq!(versions, [2, 3, 4, 5]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_new_product_is_stored_and_announced() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let id = products::assert_creates(&app).await;
    eventually("three events", async || sandbox.messages(QUEUES[2]).await.len() == 3).await;
    let events = sandbox.events(QUEUES[2]).await;
    assert_eq!(
        (&events[0]["product_id"], &events[0]["name"], &events[0]["version"]),
        (&json!(id), &json!("Desk"), &json!(1))
    );
    assert_eq!(events[1]["name"], products::longest_name(), "as it is, however long");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_neither_changes_nor_announces_anything() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    products::assert_refuses_bad_input(&app).await;
    // The relay sends in order: were anything before it, it would be there first.
    app.put("/products/3", json!({"stock": 1})).await;
    eventually("the last event", async || !sandbox.messages(QUEUES[0]).await.is_empty()).await;
    let events = sandbox.events(QUEUES[0]).await;
    assert_eq!((events.len(), &events[0]["product_id"]), (1, &json!(3)));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn every_one_of_many_changes_at_once_gets_a_version_and_an_event_of_its_own() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    products::assert_counts_versions(&app).await;
    eventually("twenty events", async || sandbox.messages(QUEUES[1]).await.len() == 20).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_broker_a_change_is_accepted_and_announced_by_the_next_start() {
    let sandbox = Sandbox::new().await;
    let closed = common::testing::closed_port().await.replace("http", "amqp");
    let alone = format!("--amqp-url={closed}/%2f");
    let app = sandbox.start(ABOUT, Mode::Async, &[&alone], |deps, own| messaging::service(&deps, &own)).await;
    let reply = app.put("/products/1", json!({"stock": 3})).await;
    assert_eq!((reply.status, &reply.body["event_published"]), (200, &json!(true)), "{}", reply.text);
    app.stop().await;

    let app = start(&sandbox).await;
    for queue in QUEUES {
        eventually("the event", async || sandbox.messages(queue).await.len() == 1).await;
    }
    app.stop().await;
    sandbox.close().await;
}
