//! cacheservice in async mode, against a real broker.
#![cfg(feature = "async")]

use cacheservice::{ABOUT, messaging};
use common::Mode;
use common::events::ProductUpdated;
use common::testing::{
    Sandbox, TestApp, assert_refuses_path_ids, assert_serves_common_paths, effects_of, eventually,
};
use serde_json::json;

const QUEUE: &str = "cache_product_updates_queue";

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Async, &[], |deps, own| messaging::service(&deps, &own)).await
}

/// As productservice would, to this queue alone.
async fn announce(sandbox: &Sandbox, name: &str, version: i64, message_id: &str) {
    let event = ProductUpdated { product_id: 1, name: name.into(), stock: version, version };
    sandbox.publish_to(QUEUE, &event, message_id).await;
}

#[tokio::test]
async fn a_product_is_in_the_cache_after_its_first_event() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    app.get("/cache/products/1").await.assert_problem(404, None);
    announce(&sandbox, "Laptop", 2, "m1").await;
    eventually("it is cached", async || app.get("/cache/products/1").await.status == 200).await;
    let expected = json!({"id": 1, "name": "Laptop", "stock": 2, "version": 2});
    assert_eq!(app.get("/cache/products/1").await.body, expected);
    assert_refuses_path_ids(&app, "/cache/products", "id").await;
    app.post("/invalidate_cache", json!({"product_id": 1})).await.assert_problem(404, None);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_older_event_never_overwrites_a_newer_one_in_whatever_order_they_arrive() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let prefix = &sandbox.schema;
    for version in [4, 2, 7, 3, 1, 6, 5] {
        announce(&sandbox, &format!("Versioned {version}"), version, &format!("{prefix}-{version}")).await;
    }
    for version in 1..=7 {
        let workflow = format!("{prefix}-{version}");
        eventually("every event is handled", async || effects_of(&workflow).len() == 1).await;
    }
    let expected = json!({"id": 1, "name": "Versioned 7", "stock": 7, "version": 7});
    assert_eq!(app.get("/cache/products/1").await.body, expected);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn the_same_message_twice_is_one_effect() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let (twice, last) = (format!("{}-twice", sandbox.schema), format!("{}-last", sandbox.schema));
    for _ in 0..3 {
        announce(&sandbox, "Laptop", 1, &twice).await;
    }
    announce(&sandbox, "Laptop", 2, &last).await;
    eventually("the last one is known", async || effects_of(&last).len() == 1).await;
    // When a newer one is there it is still no second effect.
    announce(&sandbox, "Laptop", 1, &twice).await;
    eventually("all are handled", async || sandbox.messages(QUEUE).await.is_empty()).await;
    app.stop().await;
    assert_eq!(effects_of(&twice), ["cache cached"]);
    assert_eq!(sandbox.messages(QUEUE).await.len(), 0, "all of them were handled");
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_no_event_is_set_aside_and_its_neighbours_are_cached() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    for (n, poison) in ["nonsense", "{}", "[]", r#"{"product_id":"x"}"#].iter().enumerate() {
        sandbox.publish_raw("", QUEUE, poison, &format!("poison-{n}")).await;
    }
    announce(&sandbox, "Neighbour", 1, "good").await;
    eventually("the neighbour", async || app.get("/cache/products/1").await.status == 200).await;
    eventually("all four", async || sandbox.messages(&format!("{QUEUE}.dlq")).await.len() == 4).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_broker_it_serves_what_it_has_and_is_not_ready() {
    let sandbox = Sandbox::new().await;
    let closed = common::testing::closed_port().await.replace("http", "amqp");
    let alone = format!("--amqp-url={closed}/%2f");
    let app = sandbox
        .start_unready(ABOUT, Mode::Async, &[&alone], |deps, own| messaging::service(&deps, &own))
        .await;
    assert_eq!(app.get("/health").await.status, 200);
    app.get("/cache/products/1").await.assert_problem(404, None);
    let ready = app.get("/ready").await;
    ready.assert_problem(503, None);
    assert!(ready.body["detail"].as_str().unwrap().contains("consumers"), "{}", ready.text);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_version_that_is_cached_with_other_contents_is_set_aside_each_time() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    announce(&sandbox, "Teapot", 2, "a").await;
    eventually("it is cached", async || app.get("/cache/products/1").await.status == 200).await;
    // The second time as after `./study dlq redrive`.
    for times in 1..=2 {
        announce(&sandbox, "Kettle", 2, "b").await;
        eventually("it is set aside", async || sandbox.reasons(QUEUE).await.len() == times).await;
    }
    assert_eq!(sandbox.reasons(QUEUE).await, ["version 2 of product 1 is stored with other contents"; 2]);
    assert_eq!(app.get("/cache/products/1").await.body["name"], "Teapot");
    app.stop().await;
    sandbox.close().await;
}
