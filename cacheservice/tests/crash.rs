//! A cache dies with its process; what was not acknowledged comes again.
#![cfg(feature = "async")]

use common::Mode;
use common::events::ProductUpdated;
use common::testing::Sandbox;

const BIN: &str = env!("CARGO_BIN_EXE_cacheservice");
const QUEUE: &str = "cache_product_updates_queue";

#[tokio::test]
async fn an_event_that_was_cut_off_comes_again() {
    let sandbox = Sandbox::new().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", "before_ack")]).await;
    let event = ProductUpdated { product_id: 9, name: "Teapot".into(), stock: 1, version: 2 };
    sandbox.publish_to(QUEUE, &event, "the-event").await;
    program.died().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
    assert_eq!(program.settled(QUEUE, 1).await, ["ok"]);
    assert_eq!(program.get("/cache/products/9").await.body["version"], 2);
    sandbox.close().await;
}
