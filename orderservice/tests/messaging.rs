//! orderservice in async mode: it announces orders, and ends them with what stock and payment announce.
#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use common::Mode;
use common::events::{PaymentFailed, PaymentSucceeded, StockRejected};
use common::testing::{
    Method, Sandbox, TestApp, assert_limits_list, assert_needs_field, assert_refuses_bad_bodies,
    assert_refuses_bad_keys, assert_refuses_path_ids, assert_refuses_values, assert_serves_common_paths,
    effects_of, eventually, no_ids, without_timestamp,
};
use futures_util::future::join_all;
use orderservice::{ABOUT, messaging, orders::Settings};
use serde_json::{Value, json};

const PATH: &str = "/create_order";
const CREATED: &str = "order_created_queue";
const REJECTED: &str = "stock_rejected_queue";
const FAILED: &str = "order_payment_failed_queue";
const SUCCEEDED: &str = "order_payment_succeeded_queue";
const CANCELLED: [&str; 2] = ["inventory_order_cancelled_queue", "payment_order_cancelled_queue"];

async fn start(sandbox: &Sandbox, settings: &[&str]) -> TestApp {
    let build = |deps, settings: Settings| messaging::service(&deps, &settings);
    sandbox.start(ABOUT, Mode::Async, settings, build).await
}

/// Orders product 1 as the workflow `workflow`: the order's id.
async fn order(app: &TestApp, workflow: &str) -> i64 {
    let body = json!({"product_id": 1, "quantity": 2}).to_string();
    let reply = app.request(Method::POST, PATH, &[("x-request-id", workflow)], Some(body)).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.body["id"].as_i64().unwrap()
}

async fn stored(app: &TestApp, id: i64) -> Value {
    app.get(&format!("/orders/{id}")).await.body
}

fn failed(order_id: i64) -> PaymentFailed {
    PaymentFailed { order_id, payment_id: None, reason: "Insufficient funds".into() }
}

fn succeeded(order_id: i64) -> PaymentSucceeded {
    PaymentSucceeded { order_id, payment_id: "pay_1".into(), transaction_id: "txn_1".into() }
}

/// How many messages of a queue were applied or found to be repetitions.
async fn seen(sandbox: &Sandbox, queue: &str) -> i64 {
    let select = sqlx::query_scalar("SELECT count(*) FROM inbox WHERE queue = $1").bind(queue);
    select.fetch_one(&sandbox.pool().await).await.unwrap()
}

/// What made the order fail, and whether this service knows that its stock was released.
async fn cause(sandbox: &Sandbox, id: i64) -> (String, bool) {
    let select = sqlx::query_as("SELECT cause, compensated FROM orders WHERE id = $1");
    select.bind(id).fetch_one(&sandbox.pool().await).await.unwrap()
}

#[tokio::test]
async fn an_order_is_accepted_as_pending_and_announced() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    let reply = app.post(PATH, json!({"product_id": 1, "quantity": 2})).await;
    let created_at = &reply.body["created_at"];
    let expected =
        json!({"id": 1, "product_id": 1, "quantity": 2, "status": "pending", "created_at": created_at});
    assert_eq!((reply.status, &reply.body), (202, &expected));
    assert_eq!(reply.headers["location"], "/orders/1");
    assert_eq!(stored(&app, 1).await, expected);

    eventually("it is announced", async || !sandbox.messages(CREATED).await.is_empty()).await;
    let properties = sandbox.messages(CREATED).await.remove(0)["properties"].take();
    assert_eq!((&properties["type"], &properties["delivery_mode"]), (&json!("OrderCreated"), &json!(2)));
    assert_eq!(properties["correlation_id"], reply.headers["x-request-id"].to_str().unwrap());
    assert!(properties["message_id"].is_string() && properties["timestamp"].is_number());
    assert!(properties["headers"]["traceparent"].is_string());
    let event = without_timestamp(sandbox.events(CREATED).await.remove(0));
    assert_eq!(event, json!({"order_id": 1, "product_id": 1, "quantity": 2}));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_fails_once_when_its_payment_does() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let workflow = sandbox.schema.as_str();
    let id = order(&app, workflow).await;
    let before = app.consumed(FAILED, "duplicate").await;
    // The same message twice, and another one about the same order.
    let other = format!("{workflow}-other");
    for message in [workflow, workflow, &other] {
        sandbox.publish_to(FAILED, &failed(id), message).await;
    }
    eventually("it has failed", async || stored(&app, id).await["status"] == "failed").await;
    // No other test of this program delivers these twice.
    eventually("repetitions are dropped", async || app.consumed(FAILED, "duplicate").await == before + 2.0)
        .await;
    sandbox.publish_to(SUCCEEDED, &succeeded(id), &format!("{workflow}-late")).await;
    eventually("a late success is seen", async || seen(&sandbox, SUCCEEDED).await == 1).await;
    let order = stored(&app, id).await;
    assert_eq!((&order["status"], &order["reason"]), (&json!("failed"), &json!("Insufficient funds")));
    // inventoryservice releases the stock, and does not report it.
    assert_eq!(cause(&sandbox, id).await, ("payment".to_owned(), false));
    assert_eq!([effects_of(workflow), effects_of(&other)].concat(), ["order failed"]);
    assert!(effects_of(&format!("{workflow}-late")).is_empty());
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_fails_when_it_gets_no_stock() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let workflow = sandbox.schema.as_str();
    let id = order(&app, workflow).await;
    let rejected = StockRejected { order_id: id, reason: "Unknown product".into() };
    sandbox.publish(&rejected, workflow).await;
    eventually("it has failed", async || stored(&app, id).await["status"] == "failed").await;
    assert_eq!(stored(&app, id).await["reason"], "Unknown product");
    assert_eq!(cause(&sandbox, id).await, ("stock".to_owned(), false));
    eventually("the effect is noted", async || effects_of(workflow) == ["order failed"]).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_is_completed_once_when_it_is_paid() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let workflow = sandbox.schema.as_str();
    let id = order(&app, workflow).await;
    for message in [workflow, &format!("{workflow}-other")] {
        sandbox.publish_to(SUCCEEDED, &succeeded(id), message).await;
    }
    eventually("it is completed", async || stored(&app, id).await["status"] == "completed").await;
    eventually("both are seen", async || seen(&sandbox, SUCCEEDED).await == 2).await;
    sandbox.publish_to(FAILED, &failed(id), &format!("{workflow}-late")).await;
    eventually("a late failure is seen", async || seen(&sandbox, FAILED).await == 1).await;
    let order = stored(&app, id).await;
    assert_eq!((&order["status"], order.get("reason")), (&json!("completed"), None));
    let effects: Vec<String> =
        ["", "-other", "-late"].iter().flat_map(|end| effects_of(&format!("{workflow}{end}"))).collect();
    assert_eq!(effects, ["order completed"]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_about_no_order_is_set_aside_and_its_neighbours_are_served() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let id = order(&app, &sandbox.schema).await;
    sandbox.publish_raw("", FAILED, "no JSON", "poison-1").await;
    sandbox.publish_raw("", FAILED, r#"{"order_id":"1","reason":"x"}"#, "poison-2").await;
    sandbox.publish_to(FAILED, &failed(id + 1), "poison-3").await;
    sandbox.publish_to(FAILED, &failed(id), "neighbour").await;
    eventually("the neighbour is served", async || stored(&app, id).await["status"] == "failed").await;
    let dead = format!("{FAILED}.dlq");
    eventually("three are set aside", async || sandbox.messages(&dead).await.len() == 3).await;
    for message in sandbox.messages(&dead).await {
        let reason = message["properties"]["headers"]["x-reason"].as_str().unwrap();
        let unknown = message["payload"].as_str().unwrap().contains("Insufficient funds");
        let expected = if unknown { "order 2 does not exist" } else { "does not parse as PaymentFailed" };
        assert!(reason.starts_with(expected), "{message}");
    }
    assert!(sandbox.messages(REJECTED).await.is_empty());
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_is_pending_for_long_is_announced_again() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--saga-retry-seconds=0"]).await;
    let workflow = sandbox.schema.as_str();
    let id = order(&app, workflow).await;
    eventually("it is announced again", async || sandbox.messages(CREATED).await.len() >= 2).await;
    let messages = sandbox.messages(CREATED).await;
    let [first, again] = [&messages[0]["properties"], &messages[1]["properties"]];
    assert_eq!((&first["correlation_id"], &again["correlation_id"]), (&json!(workflow), &json!(workflow)));
    assert_ne!(first["message_id"], again["message_id"], "a new message, or it would be taken for the first");
    assert_eq!(first["headers"]["x-accepted-at"], again["headers"]["x-accepted-at"]);
    let events = sandbox.events(CREATED).await;
    assert_eq!(without_timestamp(events[0].clone()), without_timestamp(events[1].clone()));
    assert_eq!(stored(&app, id).await["status"], "pending");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_is_pending_for_too_long_is_given_up_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &["--saga-retry-seconds=0", "--saga-give-up-seconds=0"]).await;
    let workflow = sandbox.schema.as_str();
    let id = order(&app, workflow).await;
    eventually("it is given up", async || stored(&app, id).await["status"] == "failed").await;
    let reason = stored(&app, id).await["reason"].take();
    assert!(reason.as_str().unwrap().contains("pending for too long"), "{reason}");
    assert_eq!(cause(&sandbox, id).await, ("overdue".to_owned(), false));
    for queue in CANCELLED {
        eventually("it is announced", async || !sandbox.messages(queue).await.is_empty()).await;
        let message = sandbox.messages(queue).await.remove(0);
        assert_eq!(message["properties"]["type"], "OrderCancelled");
        assert_eq!(message["properties"]["correlation_id"], workflow);
        let event = without_timestamp(sandbox.events(queue).await.remove(0));
        assert_eq!(event, json!({"order_id": id, "reason": reason}));
    }
    sandbox.publish_to(SUCCEEDED, &succeeded(id), "late").await;
    eventually("a late success is seen", async || seen(&sandbox, SUCCEEDED).await == 1).await;
    assert_eq!(stored(&app, id).await["status"], "failed");
    eventually("the effect is noted", async || effects_of(workflow) == ["order cancelled"]).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_is_accepted_without_a_broker_and_announced_when_it_is_back() {
    let sandbox = Sandbox::new().await;
    let build = |deps, settings: Settings| messaging::service(&deps, &settings);
    let away = ["--amqp-url=amqp://guest:guest@127.0.0.1:1/x"];
    let app = sandbox.start_unready(ABOUT, Mode::Async, &away, build).await;
    eventually("only the consumers are missing", async || {
        let ready = app.get("/ready").await;
        ready.status == 503 && ready.body["detail"] == "waiting for: consumers"
    })
    .await;
    let id = order(&app, &sandbox.schema).await;
    assert_eq!(stored(&app, id).await["status"], "pending");
    app.stop().await;
    let app = start(&sandbox, &[]).await;
    eventually("it is announced", async || sandbox.messages(CREATED).await.len() == 1).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_orders_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let body = json!({"product_id": 1, "quantity": 2});
    let replies = join_all((0..10).map(|_| app.post_keyed(PATH, "k1", body.clone()))).await;
    for reply in &replies {
        assert_eq!((reply.status, &reply.body), (202, &replies[0].body));
        assert_eq!(reply.headers["location"], replies[0].headers["location"]);
    }
    let replayed = replies.iter().filter(|reply| reply.headers.contains_key("idempotent-replayed")).count();
    assert_eq!(replayed, 9);
    let other = app.post_keyed(PATH, "k1", json!({"product_id": 2})).await;
    other.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&app, PATH, &body).await;
    eventually("it is announced", async || !sandbox.messages(CREATED).await.is_empty()).await;
    assert_eq!(app.get("/orders").await.body.as_array().unwrap().len(), 1);
    app.stop().await;
    // Everything that was to be announced has been.
    assert_eq!(sandbox.messages(CREATED).await.len(), 1);
    sandbox.close().await;
}

#[tokio::test]
async fn orders_are_listed_newest_first_up_to_a_limit() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    assert_eq!(app.get("/orders").await.body, json!([]));
    for _ in 0..3 {
        order(&app, &sandbox.schema).await;
    }
    let list = app.get("/orders?limit=2").await.body;
    let ids: Vec<&Value> = list.as_array().unwrap().iter().map(|order| &order["id"]).collect();
    assert_eq!(ids, [&json!(3), &json!(2)]);
    assert_limits_list(&app, "/orders").await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_nothing_is_announced() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    assert_refuses_bad_bodies(&app, Method::POST, PATH).await;
    let valid = json!({"product_id": 1, "quantity": 1});
    assert_needs_field(&app, PATH, &valid, "product_id", &no_ids()).await;
    let quantities = [no_ids(), vec![json!(null), json!(i64::from(i32::MAX) + 1)]].concat();
    assert_refuses_values(&app, PATH, &valid, "quantity", &quantities).await;
    assert_refuses_values(&app, PATH, &valid, "colour", &[json!(1)]).await;
    assert_refuses_path_ids(&app, "/orders", "id").await;
    assert_eq!(app.get("/orders").await.body, json!([]));
    // The quantity alone may be missing.
    assert_eq!(app.post(PATH, json!({"product_id": 1})).await.body["quantity"], 1);
    app.stop().await;
    assert_eq!(sandbox.messages(CREATED).await.len(), 1, "of the valid one");
    sandbox.close().await;
}
