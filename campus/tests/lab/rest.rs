//! The stack `rest`: the order ends before its answer, and stock that is reserved too late comes back.

use std::time::Duration;

use common::Mode;
use common::testing::{Method, Peer, Reply, Sandbox, effects_of, eventually, nobody};
use contract::campus::{Service, Stack};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::{Lab, assert_refuses_orders, schema, start};

fn burgers(quantity: i64) -> Value {
    json!({"item": "burger", "quantity": quantity})
}

fn reserve(order_id: &str, item: &str, quantity: i64) -> Value {
    json!({"order_id": order_id, "item": item, "quantity": quantity})
}

#[tokio::test]
async fn an_order_is_reserved_and_notified_before_it_is_answered() {
    let lab = Lab::start(Stack::Rest).await;
    lab.assert_serves_common_paths().await;
    assert_refused_bodies(&lab).await;
    let headers = [("x-request-id", "rest-order-1")];
    let order = lab.order.request(Method::POST, "/order", &headers, Some(burgers(3).to_string())).await;
    assert_eq!(order.status, 201, "{}", order.text);
    let id = order.body["order_id"].as_str().unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok() && order.body["timestamp"].as_f64().unwrap() > 1.7e9);
    assert_eq!(
        (&order.body["status"], &order.body["item"], &order.body["quantity"]),
        (&json!("notified"), &json!("burger"), &json!(3))
    );
    assert_eq!(lab.order.get(&format!("/order/{id}")).await.body, order.body);
    assert_eq!(lab.stock("burger").await, 97);
    let sent = lab.notification.get("/notifications").await.body;
    assert_eq!(sent.as_array().unwrap().len(), 1);
    assert_eq!((&sent[0]["order_id"], &sent[0]["message"]), (&json!(id), &json!("Notification sent")));
    assert_eq!(effects_of("rest-order-1"), ["notification sent", "order notified"]);
    let second = lab.order.post("/order", burgers(1)).await.body;
    let orders = lab.order.get("/orders").await.body;
    assert_eq!(orders, json!([second, order.body]), "newest first");
    assert_eq!(lab.order.get("/orders?limit=1").await.body, json!([second]));
    lab.assert_resets().await;
    lab.sandbox.close().await;
}

async fn assert_refused_bodies(lab: &Lab) {
    assert_refuses_orders(&lab.order, "quantity").await;
    lab.assert_refuses_bad_faults().await;
    for bad in
        [json!({}), json!([]), reserve("", "burger", 1), reserve("o", "", 1), reserve("o", "burger", 0)]
    {
        lab.inventory.post("/reserve", bad).await.assert_problem(422, None);
    }
    for bad in [json!({}), json!([]), json!({"order_id": 1}), json!({"order_id": "a\u{0}"})] {
        lab.inventory.post("/release", bad.clone()).await.assert_problem(422, None);
        lab.notification.post("/send", bad).await.assert_problem(422, None);
    }
    assert_eq!(lab.stock("burger").await, 100);
    assert_eq!(lab.notification.get("/notifications").await.body, json!([]));
}

#[tokio::test]
async fn inventory_that_refuses_or_fails_is_the_reason_of_a_422() {
    let lab = Lab::start(Stack::Rest).await;
    let refused = async |body: Value, status: u16, reason: &str| {
        let reply = lab.order.post("/order", body).await;
        assert_eq!((reply.status, &reply.body["status"]), (422, &json!(422)), "{}", reply.text);
        let detail = &reply.body["detail"];
        assert_eq!(
            (&detail["order"]["status"], &detail["reason"]["detail"]),
            (&json!("failed"), &json!(reason))
        );
        assert_eq!(detail["reason"]["status"], status);
        assert_eq!(lab.status(detail["order"]["order_id"].as_str().unwrap()).await, "failed");
    };
    refused(json!({"item": "soup", "quantity": 1}), 404, "Unknown item: soup").await;
    refused(burgers(101), 409, "Insufficient stock for burger").await;
    lab.fail(true).await;
    refused(burgers(1), 500, "Injected failure").await;
    lab.fail(false).await;
    assert_eq!(lab.order.post("/order", burgers(100)).await.status, 201);
    assert_eq!(lab.stock("burger").await, 0);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn a_reservation_counts_once_and_not_after_its_release() {
    let lab = Lab::start(Stack::Rest).await;
    for _ in 0..3 {
        let reply = lab.inventory.post("/reserve", reserve("a", "pizza", 2)).await;
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("reserved")));
        let refused = lab.inventory.post("/reserve", reserve("b", "pizza", 99)).await;
        assert_eq!((refused.status, &refused.body["detail"]), (409, &json!("Insufficient stock for pizza")));
    }
    assert_eq!(lab.inventory.post("/reserve", reserve("a", "pizza", 3)).await.status, 409);
    assert_eq!(lab.stock("pizza").await, 98);
    for order_id in ["a", "a", "never"] {
        assert_eq!(lab.inventory.post("/release", json!({"order_id": order_id})).await.status, 200);
    }
    for order_id in ["a", "never"] {
        assert_eq!(lab.inventory.post("/reserve", reserve(order_id, "pizza", 2)).await.status, 409);
    }
    assert_eq!(lab.stock("pizza").await, 100);
    let send = json!({"order_id": "a", "status": "reserved", "item": "pizza"});
    let first = lab.notification.post("/send", send.clone()).await;
    assert_eq!((first.status, &first.body["message"]), (200, &json!("Notification sent")));
    assert_eq!(lab.notification.post("/send", send).await.body, first.body);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn stock_that_is_reserved_after_the_time_limit_comes_back() {
    let lab = Lab::start_with(Stack::Rest, &["--request-timeout=0.3"]).await;
    lab.delay(1.0).await;
    let reply = lab.order.post("/order", burgers(5)).await;
    assert_eq!((reply.status, &reply.body["detail"]["reason"]), (504, &json!("Inventory service timeout")));
    let order = &reply.body["detail"]["order"];
    assert_eq!(order["status"], "timeout");
    let id = order["order_id"].as_str().unwrap().to_owned();
    let pool = lab.sandbox.pool().await;
    let due =
        format!("SELECT count(*) FROM {}.orders WHERE release_due", schema(&lab.sandbox, Service::Order));
    let due = async || -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(due.clone())).fetch_one(&pool).await.unwrap()
    };
    eventually("the stock is released", async || due().await == 0).await;
    // Whichever came first, the release or the reservation: one that comes even later finds the release.
    let late = lab.inventory.post("/reserve", reserve(&id, "burger", 5)).await;
    assert_eq!((late.status, lab.stock("burger").await), (409, 100), "{}", late.text);
    assert_eq!(lab.status(&id).await, "timeout");
    lab.sandbox.close().await;
}

/// The reservation is made, and its answer is lost: the first of the two orders in which late stock can arrive.
#[tokio::test]
async fn stock_that_was_reserved_before_the_time_limit_comes_back() {
    let peer = Peer::start(|path, _| async move {
        if path == "/reserve" {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        (200, json!({}))
    });
    let peer = peer.await;
    let inventory = format!("--inventory-url={}", peer.url);
    let lab = Lab::start_with(Stack::Rest, &["--request-timeout=0.3", &inventory]).await;
    let reply = lab.order.post("/order", burgers(5)).await;
    assert_eq!(reply.status, 504);
    eventually("the release is asked for", async || peer.paths() == ["/reserve", "/release"]).await;
    assert_eq!(peer.calls()[1].body, json!({"order_id": reply.body["detail"]["order"]["order_id"]}));
    assert_eq!(peer.calls()[0].workflow, peer.calls()[1].workflow);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn an_order_without_inventory_is_502_and_one_without_notification_is_reserved() {
    let away = nobody().await;
    let lab = Lab::start_with(Stack::Rest, &[&format!("--inventory-url={away}")]).await;
    let reply = lab.order.post("/order", burgers(1)).await;
    assert_eq!(
        (reply.status, &reply.body["detail"]["reason"]),
        (502, &json!("Inventory service unreachable"))
    );
    assert_eq!(reply.body["detail"]["order"]["status"], "failed");
    lab.sandbox.close().await;
    let lab = Lab::start_with(Stack::Rest, &[&format!("--notification-url={away}")]).await;
    let reply = lab.order.post("/order", burgers(1)).await;
    assert_eq!((reply.status, &reply.body["status"]), (201, &json!("reserved")));
    assert_eq!(lab.stock("burger").await, 99);
    lab.sandbox.close().await;
}

#[tokio::test]
async fn no_more_is_sold_than_there_is() {
    let lab = Lab::start_with(Stack::Rest, &["--request-timeout=20"]).await;
    let orders = stream::iter(0..120).map(|_| lab.order.post("/order", burgers(1))).buffer_unordered(4);
    let replies: Vec<Reply> = orders.collect().await;
    let with = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
    assert_eq!((with(201), with(422), lab.stock("burger").await), (100, 20, 0));
    assert_eq!((lab.count("notified").await, lab.count("failed").await), (100, 20));
    lab.sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_a_crash_cut_off_ends_and_its_stock_comes_back() {
    let sandbox = Sandbox::new().await;
    let inventory = start(&sandbox, Stack::Rest, Service::Inventory, &[]).await;
    let schema = schema(&sandbox, Service::Order);
    let env = [("DB_SCHEMA", schema.as_str()), ("INVENTORY_URL", &inventory.base), ("REQUEST_TIMEOUT", "1")];
    let bin = env!("CARGO_BIN_EXE_campus-order");
    let program = sandbox.spawn(bin, Mode::Sync, &[&env[..], &[("FAILPOINT", "after_call")]].concat()).await;
    assert!(program.try_post("/order", None, burgers(7)).await.is_none());
    program.died().await;
    let stock = async || inventory.get("/stock").await.body["burger"].as_i64();
    assert_eq!(stock().await, Some(93));
    let program = sandbox.spawn(bin, Mode::Sync, &env).await;
    eventually("the stock is released", async || stock().await == Some(100)).await;
    assert_eq!(program.get("/orders").await.body[0]["status"], "timeout");
    sandbox.close().await;
}
