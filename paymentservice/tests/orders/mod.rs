//! S5 in async mode: an order is paid, or not, when its stock is reserved.

use common::events::{OrderCancelled, StockReserved};
use common::testing::{Sandbox, eventually};
use serde_json::json;

use super::{consumed, count, start, without_timestamp};

const FAILED: [&str; 2] = ["inventory_payment_failed_queue", "order_payment_failed_queue"];
const CANCELLED: &str = "payment_order_cancelled_queue";
const SUCCEEDED: [&str; 2] = ["inventory_payment_succeeded_queue", "order_payment_succeeded_queue"];

fn reserved(order_id: i64) -> StockReserved {
    StockReserved { order_id, product_id: 1, quantity: 2 }
}

#[tokio::test]
async fn the_payment_of_an_order_fails_and_both_readers_hear_of_it() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let workflow = sandbox.schema.as_str();
    sandbox.publish(&reserved(5), workflow).await;
    for queue in FAILED {
        eventually("it is announced", async || !sandbox.messages(queue).await.is_empty()).await;
        let message = sandbox.messages(queue).await.remove(0);
        assert_eq!(message["properties"]["type"], "PaymentFailed");
        assert_eq!(message["properties"]["correlation_id"], workflow);
        let event = without_timestamp(sandbox.events(queue).await.remove(0));
        assert_eq!(event, json!({"order_id": 5, "reason": "Insufficient funds"}));
    }
    // The same message is not answered twice; what the sweeper asks anew is answered as before.
    let queue = "stock_reserved_queue";
    let before = consumed(&app, queue, "duplicate").await;
    sandbox.publish(&reserved(5), workflow).await;
    eventually("the repetition is dropped", async || {
        consumed(&app, queue, "duplicate").await == before + 1.0
    })
    .await;
    assert_eq!(sandbox.messages(FAILED[0]).await.len(), 1);
    sandbox.publish(&reserved(5), &format!("{workflow}-anew")).await;
    eventually("it is answered anew", async || sandbox.messages(FAILED[0]).await.len() == 2).await;
    let events = sandbox.events(FAILED[0]).await;
    assert_eq!(without_timestamp(events[0].clone()), without_timestamp(events[1].clone()));
    for queue in SUCCEEDED {
        assert!(sandbox.messages(queue).await.is_empty());
    }
    assert_eq!(count(&sandbox.pool().await, "payments").await, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_is_paid_once_and_given_back_when_it_is_given_up() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--saga-payment-failure-rate=0"]).await;
    let pool = sandbox.pool().await;
    for id in ["a", "b"] {
        sandbox.publish(&reserved(5), id).await;
    }
    for queue in SUCCEEDED {
        eventually("it is announced", async || sandbox.messages(queue).await.len() == 2).await;
        let events = sandbox.events(queue).await;
        assert_eq!(
            without_timestamp(events[0].clone()),
            without_timestamp(events[1].clone()),
            "the same payment"
        );
    }
    let event = sandbox.events(SUCCEEDED[0]).await.remove(0);
    let path = format!("/payments/{}", event["payment_id"].as_str().unwrap());
    let payment = app.get(&path).await.body;
    assert_eq!((&event["order_id"], &event["transaction_id"]), (&json!(5), &payment["transaction_id"]));
    assert_eq!((&payment["status"], &payment["order_id"]), (&json!("success"), &json!(5)));
    assert_eq!(count(&pool, "payments").await, 1);

    sandbox.publish_to(CANCELLED, &OrderCancelled { order_id: 5, reason: "late".into() }, "c").await;
    eventually("it is given back", async || app.get(&path).await.body["status"] == "refunded").await;
    sandbox.publish(&reserved(5), "d").await;
    eventually("a late reservation gets no payment", async || !sandbox.messages(FAILED[1]).await.is_empty())
        .await;
    let event = without_timestamp(sandbox.events(FAILED[1]).await.remove(0));
    assert_eq!(event, json!({"order_id": 5, "payment_id": payment["payment_id"], "reason": "late"}));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_was_given_up_is_never_paid() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--saga-payment-failure-rate=0"]).await;
    let pool = sandbox.pool().await;
    sandbox.publish_to(CANCELLED, &OrderCancelled { order_id: 6, reason: "late".into() }, "c").await;
    eventually("the cancellation is known", async || count(&pool, "payments").await == 1).await;
    sandbox.publish(&reserved(6), "r").await;
    eventually("the payment fails", async || !sandbox.messages(FAILED[0]).await.is_empty()).await;
    assert!(sandbox.messages(SUCCEEDED[0]).await.is_empty());
    let (status, transaction): (String, Option<String>) =
        sqlx::query_as("SELECT status, transaction_id FROM payments").fetch_one(&pool).await.unwrap();
    assert_eq!((status.as_str(), transaction), ("failed", None));
    app.stop().await;
    sandbox.close().await;
}
