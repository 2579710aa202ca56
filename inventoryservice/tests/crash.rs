//! Wherever the process dies on the way of a reservation: it is held once, released once, and announced.
#![cfg(all(feature = "sync", feature = "async"))]

use common::Mode;
use common::events::{OrderCreated, PaymentFailed};
use common::testing::{Program, Sandbox};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_inventoryservice");
const ORDERS: &str = "order_created_queue";
const REFUSALS: &str = "inventory_payment_failed_queue";

async fn reserved(program: &Program) -> i64 {
    program.get("/inventory/1").await.body["reserved"].as_i64().expect("a number")
}

#[tokio::test]
async fn stock_is_held_once_and_announced_wherever_the_process_dies() {
    for point in ["before_commit", "after_commit", "before_ack", "after_confirm_before_delete"] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", point)]).await;
        sandbox
            .publish_to(ORDERS, &OrderCreated { order_id: 7, product_id: 1, quantity: 3 }, "the-event")
            .await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
        if point != "after_confirm_before_delete" {
            program.settled(ORDERS, 1).await;
        }
        sandbox.relayed().await;
        assert_eq!(reserved(&program).await, 3, "{point}");
        assert_eq!(sandbox.witnessed("effect:reserve").await, [("7".to_owned(), 1)], "{point}");
        assert_eq!(sandbox.message_ids("stock_reserved_queue").await.len(), 1, "{point}: one announcement");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn stock_is_released_once_wherever_the_process_dies() {
    for point in ["before_commit:2", "after_commit:2", "before_ack:2"] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", point)]).await;
        sandbox
            .publish_to(ORDERS, &OrderCreated { order_id: 7, product_id: 1, quantity: 3 }, "the-order")
            .await;
        program.settled(ORDERS, 1).await;
        let failed = PaymentFailed { order_id: 7, payment_id: None, reason: "Insufficient funds".into() };
        sandbox.publish_to(REFUSALS, &failed, "the-refusal").await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
        program.settled(REFUSALS, 1).await;
        assert_eq!(reserved(&program).await, 0, "{point}");
        assert_eq!(sandbox.witnessed("effect:release").await, [("7".to_owned(), 1)], "{point}");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn in_sync_mode_a_repeated_call_changes_nothing_more() {
    for point in ["before_commit", "after_commit", "before_reply"] {
        let sandbox = Sandbox::new().await;
        let call = json!({"order_id": 7, "product_id": 1, "quantity": 3});
        for (path, left) in [("/reserve_stock", 3), ("/compensate_stock", 0)] {
            let program = sandbox.spawn(BIN, Mode::Sync, &[("FAILPOINT", point)]).await;
            assert!(program.try_post(path, None, call.clone()).await.is_none(), "{point}: {path}");
            program.died().await;
            let program = sandbox.spawn(BIN, Mode::Sync, &[]).await;
            assert_eq!(program.post(path, call.clone()).await.status, 200, "{point}: {path}");
            assert_eq!(reserved(&program).await, left, "{point}: {path}");
        }
        sandbox.close().await;
    }
}
