//! A crash at any failpoint of a payment: the payment is taken once, published, and in the audit.
#![cfg(all(feature = "sync", feature = "async"))]

use common::Mode;
use common::events::StockReserved;
use common::testing::{Sandbox, eventually};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_paymentservice");
const AT_ONCE: (&str, &str) = ("PAYMENT_DELAY_MS", "0");
const ALL_PAID: (&str, &str) = ("SAGA_PAYMENT_FAILURE_RATE", "0");

async fn count(sandbox: &Sandbox, table: &str) -> i64 {
    let select = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(select).fetch_one(&sandbox.pool().await).await.expect("a count")
}

/// The request commits first, then the consumer that takes the payment, then the audit.
#[tokio::test]
async fn a_payment_is_taken_once_wherever_its_consumers_die() {
    for point in [
        "before_commit:2",
        "after_commit:2",
        "before_ack",
        "before_commit:3",
        "after_commit:3",
        "before_ack:2",
    ] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[AT_ONCE, ("FAILPOINT", point)]).await;
        let accepted = program.try_post("/process_payment", Some("key"), json!({})).await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[AT_ONCE]).await;
        let again = program.try_post("/process_payment", Some("key"), json!({})).await.expect("an answer");
        assert!(accepted.is_none_or(|accepted| accepted.body == again.body), "{point}: {}", again.text);
        let path = format!("/payments/{}", again.body["payment_id"].as_str().unwrap());
        eventually("the payment is taken", async || program.get(&path).await.body["status"] == "success")
            .await;
        eventually("and audited", async || count(&sandbox, "payment_audit").await > 0).await;
        sandbox.relayed().await;
        assert_eq!(
            (count(&sandbox, "payments").await, count(&sandbox, "payment_audit").await),
            (1, 1),
            "{point}"
        );
        for (subject, times) in sandbox.witnessed("effect:payment").await {
            assert_eq!(times, 1, "{point}: {subject}");
        }
        sandbox.close().await;
    }
}

#[tokio::test]
async fn an_order_is_paid_once_wherever_the_consumer_dies() {
    for point in ["before_commit", "after_commit", "before_ack", "after_confirm_before_delete"] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[ALL_PAID, ("FAILPOINT", point)]).await;
        let event = StockReserved { order_id: 7, product_id: 1, quantity: 1 };
        sandbox.publish(&event, "the-event").await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[ALL_PAID]).await;
        if point != "after_confirm_before_delete" {
            program.settled("stock_reserved_queue", 1).await;
        }
        sandbox.relayed().await;
        assert_eq!(sandbox.witnessed("effect:saga_payment").await, [("7".to_owned(), 1)], "{point}");
        for queue in ["order_payment_succeeded_queue", "inventory_payment_succeeded_queue"] {
            assert_eq!(sandbox.message_ids(queue).await.len(), 1, "{point}: {queue}");
        }
        sandbox.close().await;
    }
}

#[tokio::test]
async fn in_sync_mode_a_repeated_request_goes_on_with_the_payment_that_was_begun() {
    for point in ["before_commit", "after_commit", "before_commit:2", "after_commit:2", "before_reply"] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Sync, &[AT_ONCE, ("FAILPOINT", point)]).await;
        assert!(program.try_post("/process_payment", Some("key"), json!({})).await.is_none(), "{point}");
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Sync, &[AT_ONCE]).await;
        sandbox.lease_ends().await;
        let again = program.try_post("/process_payment", Some("key"), json!({})).await.expect("an answer");
        assert_eq!(again.status, 200, "{point}: {}", again.text);
        assert_eq!(
            (count(&sandbox, "payments").await, count(&sandbox, "payment_audit").await),
            (1, 1),
            "{point}"
        );
        sandbox.close().await;
    }
}
