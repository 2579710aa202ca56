//! A crash at any failpoint of an update: a stored change reaches all three receivers.
#![cfg(feature = "async")]

use common::Mode;
use common::testing::{Method, Sandbox};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_productservice");

#[tokio::test]
async fn a_stored_change_reaches_all_three_queues() {
    for point in
        ["after_commit", "before_reply", "after_publish_before_confirm", "after_confirm_before_delete"]
    {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", point)]).await;
        let change = json!({"stock": 7}).to_string();
        program.try_request(Method::PUT, "/products/1", &[], Some(change)).await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
        assert_eq!(program.get("/products/1").await.body["stock"], 7, "{point}");
        sandbox.relayed().await;
        for reader in ["search", "cache", "analytics"] {
            let queue = format!("{reader}_product_updates_queue");
            assert_eq!(sandbox.message_ids(&queue).await.len(), 1, "{point}: {queue}");
        }
        sandbox.close().await;
    }
}
