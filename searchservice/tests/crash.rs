//! Wherever the process dies on the way of an event: the index has the change, once.
#![cfg(feature = "async")]

use common::Mode;
use common::events::ProductUpdated;
use common::testing::{Sandbox, eventually};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_searchservice");
const QUEUE: &str = "search_product_updates_queue";

#[tokio::test]
async fn an_event_that_was_cut_off_comes_again_and_is_applied_once() {
    for (point, what_comes_again) in
        [("before_commit", "ok"), ("after_commit", "duplicate"), ("before_ack", "duplicate")]
    {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", point)]).await;
        let event = ProductUpdated { product_id: 9, name: "Teapot".into(), stock: 1, version: 2 };
        sandbox.publish_to(QUEUE, &event, "the-event").await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
        assert_eq!(program.settled(QUEUE, 1).await, [what_comes_again], "{point}");
        assert_eq!(program.get("/search?q=teapot").await.body[0]["version"], 2, "{point}");
        assert_eq!(sandbox.witnessed("effect:search").await, [("9:2".to_owned(), 1)], "{point}");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn an_event_that_takes_its_time_holds_no_connection_and_comes_again_when_it_is_cut_off() {
    let sandbox = Sandbox::new().await;
    let for_ever = [("PRODUCT_UPDATE_DELAY_MS", "3600000"), ("DB_POOL_SIZE", "1")];
    let program = sandbox.spawn(BIN, Mode::Async, &for_ever).await;
    for product_id in 10..15 {
        let event = ProductUpdated { product_id, name: "Teapot".into(), stock: 1, version: 1 };
        sandbox.publish_to(QUEUE, &event, &format!("event-{product_id}")).await;
    }
    eventually("all are taken", async || sandbox.messages(QUEUE).await.is_empty()).await;
    let found = program.get("/search?q=teapot").await;
    assert_eq!((found.status, &found.body), (200, &json!([])), "{}", found.text);
    drop(program);
    let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
    assert_eq!(program.settled(QUEUE, 5).await, ["ok"; 5]);
    sandbox.close().await;
}
