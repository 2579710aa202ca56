//! The stack `orders003`: the names and fields of the older lab.

use common::testing::eventually;
use contract::campus::{ORDERS003, Stack};
use serde_json::{Value, json};

use crate::rabbitmq::{assert_declared, tap, tapped};
use crate::{Lab, assert_refuses_orders};

const EXCHANGE: &str = ORDERS003.exchange;

#[tokio::test]
async fn an_order_is_placed_and_then_confirmed_or_failed() {
    let lab = Lab::start(Stack::Orders003).await;
    lab.assert_serves_common_paths().await;
    assert_refuses_orders(&lab.order, "qty").await;
    lab.assert_refuses_bad_faults().await;
    assert_declared(&lab.sandbox, &ORDERS003).await;
    tap(&lab.sandbox, EXCHANGE).await;
    let placed = lab.order.post("/order", json!({"item": "sushi", "qty": 5, "student_id": "s-1"})).await;
    let id = placed.body["order_id"].as_str().unwrap();
    assert_eq!((placed.status, &placed.body), (201, &json!({"order_id": id, "status": "PLACED"})));
    lab.reaches(id, "CONFIRMED").await;
    let order = lab.order.get(&format!("/order/{id}")).await.body;
    let confirmed =
        json!({"order_id": id, "item": "sushi", "qty": 5, "student_id": "s-1", "status": "CONFIRMED"});
    assert_eq!(order, confirmed);
    let failed = lab.order.post("/order", json!({"item": "sushi", "qty": 26})).await.body;
    let failed_id = failed["order_id"].as_str().unwrap();
    lab.reaches(failed_id, "FAILED").await;
    let orders = lab.order.get("/orders").await.body;
    assert_eq!((&orders[0]["student_id"], &orders[1]), (&json!("unknown"), &confirmed));
    assert_eq!(lab.stock("sushi").await, 25);
    let (event, _) = tapped(&lab.sandbox, "order.placed").await.remove(0);
    assert_eq!(
        (&event["order_id"], &event["item"], &event["qty"], &event["student_id"]),
        (&json!(id), &json!("sushi"), &json!(5), &json!("s-1"))
    );
    for (key, id, status) in
        [("inventory.reserved", id, "RESERVED"), ("inventory.failed", failed_id, "FAILED")]
    {
        let (event, _) = tapped(&lab.sandbox, key).await.remove(0);
        assert_eq!((&event["order_id"], &event["status"]), (&json!(id), &json!(status)));
    }
    let sent = async || lab.notification.get("/notifications").await.body;
    eventually("the notification is sent", async || sent().await[0]["order_id"] == id).await;
    lab.assert_resets().await;
    lab.sandbox.close().await;
}

#[tokio::test]
async fn an_order_counts_once_and_malformed_ones_are_kept_with_the_error() {
    let lab = Lab::start(Stack::Orders003).await;
    let publish = async |body: &str| lab.sandbox.publish_raw(EXCHANGE, "order.placed", body, "").await;
    let order = json!({"order_id": "o-1", "item": "burger", "qty": 5}).to_string();
    for _ in 0..3 {
        publish(&order).await;
    }
    let missing = "Missing required field(s): ";
    let malformed = [
        (json!({"order_id": "o-2", "item": "burger"}), format!("{missing}qty")),
        (json!({"qty": 1, "item": ""}), format!("{missing}order_id, item")),
        (
            json!({"order_id": "o-3", "item": "burger", "qty": -1}),
            "Invalid qty: -1 (must be a positive integer)".into(),
        ),
        (
            json!({"order_id": "o-4", "item": "burger", "qty": "5"}),
            "Invalid qty: \"5\" (must be a positive integer)".into(),
        ),
    ];
    for (body, _) in &malformed {
        publish(&body.to_string()).await;
    }
    for body in ["no JSON", "[]", "7"] {
        publish(body).await;
    }
    let dead = async || lab.sandbox.messages("dlq_queue").await;
    eventually("all are set aside", async || dead().await.len() == malformed.len() + 3).await;
    let dead: Vec<String> = dead().await.iter().map(|m| m["payload"].as_str().unwrap().to_owned()).collect();
    for (mut body, error) in malformed {
        body["error"] = error.into();
        let kept = |payload: &String| serde_json::from_str::<Value>(payload).is_ok_and(|kept| kept == body);
        assert!(dead.iter().any(kept), "{body} is not in {dead:?}");
    }
    for body in ["no JSON", "[]", "7"] {
        assert!(dead.iter().any(|payload| payload == body), "{body} is not in {dead:?}");
    }
    eventually("the order is reserved", async || lab.stock("burger").await == 95).await;
    lab.sandbox.close().await;
}
