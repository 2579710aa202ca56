//! searchservice in async mode, against real servers.
#![cfg(feature = "async")]

mod search;

use common::Mode;
use common::events::ProductUpdated;
use common::testing::{Sandbox, TestApp, assert_serves_common_paths, effects_of, eventually};
use search::hit;
use searchservice::{ABOUT, messaging};
use serde_json::json;

const QUEUE: &str = "search_product_updates_queue";

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Async, &[], |deps, own| messaging::service(&deps, &own)).await
}

/// As productservice would, to this queue alone.
async fn announce(sandbox: &Sandbox, product_id: i64, name: &str, version: i64, message_id: &str) {
    let event = ProductUpdated { product_id, name: name.into(), stock: version, version };
    sandbox.publish_to(QUEUE, &event, message_id).await;
}

#[tokio::test]
async fn the_products_of_an_installation_are_found_by_word_and_prefix_in_any_case() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    search::assert_finds_the_seed(&app).await;
    app.post("/reindex", json!({"product_id": 1})).await.assert_problem(404, None);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_product_is_found_after_its_event() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    announce(&sandbox, 10, "Gaming Laptop 17", 1, "m1").await;
    eventually("it is found", async || !hit(&app, "gaming").await.is_null()).await;
    announce(&sandbox, 11, &"éééééé😀 ".repeat(512), 1, "m2").await;
    eventually("the longest name too", async || !hit(&app, "éééééé😀").await.is_null()).await;
    search::assert_finds_words_of_a_name(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn no_query_is_odd_enough_to_fail() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    search::assert_survives_odd_queries(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_older_event_never_overwrites_a_newer_one_in_whatever_order_they_arrive() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let prefix = &sandbox.schema;
    for version in [4, 2, 7, 3, 1, 6, 5] {
        announce(&sandbox, 20, &format!("Versioned {version}"), version, &format!("{prefix}-{version}"))
            .await;
    }
    for version in 1..=7 {
        let workflow = format!("{prefix}-{version}");
        eventually("every event is handled", async || effects_of(&workflow).len() == 1).await;
    }
    let expected = json!({"product_id": 20, "name": "Versioned 7", "stock": 7, "version": 7});
    assert_eq!(hit(&app, "versioned").await, expected);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn the_same_message_twice_is_one_effect() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let (twice, last) = (format!("{}-twice", sandbox.schema), format!("{}-last", sandbox.schema));
    for _ in 0..2 {
        announce(&sandbox, 20, "Versioned", 1, &twice).await;
    }
    eventually("it is indexed", async || effects_of(&twice).len() == 1).await;
    announce(&sandbox, 20, "Versioned", 1, &twice).await;
    // Taken in order: when this one has its effect, those before it are at work at least, and stopping awaits them.
    announce(&sandbox, 20, "Versioned", 2, &last).await;
    eventually("it is known", async || effects_of(&last).len() == 1).await;
    app.stop().await;
    assert_eq!(effects_of(&twice).len(), 1, "and what came again had none");
    assert_eq!(sandbox.messages(QUEUE).await.len(), 0, "all of them were handled");
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_no_event_is_set_aside_and_its_neighbours_are_indexed() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    for (n, poison) in ["nonsense", "{}", "[]", r#"{"product_id":"x"}"#].iter().enumerate() {
        sandbox.publish_raw("", QUEUE, poison, &format!("poison-{n}")).await;
    }
    announce(&sandbox, 20, "Neighbour", 1, "good").await;
    eventually("the neighbour", async || !hit(&app, "neighbour").await.is_null()).await;
    eventually("all four", async || sandbox.messages(&format!("{QUEUE}.dlq")).await.len() == 4).await;
    let reason =
        sandbox.messages(&format!("{QUEUE}.dlq")).await[0]["properties"]["headers"]["x-reason"].clone();
    assert!(reason.as_str().unwrap().contains("does not parse as ProductUpdated"), "{reason}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_version_that_is_indexed_with_other_contents_is_set_aside() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    announce(&sandbox, 20, "Teapot", 2, "a").await;
    eventually("it is indexed", async || !hit(&app, "teapot").await.is_null()).await;
    announce(&sandbox, 20, "Kettle", 2, "b").await;
    announce(&sandbox, 20, "Teapot", 2, "c").await;
    eventually("it is set aside", async || !sandbox.reasons(QUEUE).await.is_empty()).await;
    eventually("all are handled", async || sandbox.messages(QUEUE).await.is_empty()).await;
    app.stop().await;
    assert_eq!(sandbox.reasons(QUEUE).await, ["version 2 of product 20 is stored with other contents"]);
    sandbox.close().await;
}
