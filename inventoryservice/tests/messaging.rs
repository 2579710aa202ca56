//! inventoryservice in async mode: the stock reacts to what happened to the order.
#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use common::Mode;
use common::config::NoSettings;
use common::events::{OrderCancelled, OrderCreated, PaymentFailed, PaymentSucceeded};
use common::testing::{
    Sandbox, TestApp, assert_limits_list, assert_serves_common_paths, effects_of, eventually,
    without_timestamp,
};
use inventoryservice::{ABOUT, messaging};
use serde_json::{Value, json};

const CREATED: &str = "order_created_queue";
const FAILED: &str = "inventory_payment_failed_queue";
const SUCCEEDED: &str = "inventory_payment_succeeded_queue";
const CANCELLED: &str = "inventory_order_cancelled_queue";
const RESERVED: &str = "stock_reserved_queue";
const REJECTED: &str = "stock_rejected_queue";
/// What every product starts with.
const SEED: i64 = 10_000;

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Async, &[], |deps, NoSettings {}| messaging::service(&deps)).await
}

fn created(order_id: i64, quantity: i64) -> OrderCreated {
    OrderCreated { order_id, product_id: 1, quantity }
}

fn failed(order_id: i64) -> PaymentFailed {
    PaymentFailed { order_id, payment_id: None, reason: "Insufficient funds".into() }
}

fn succeeded(order_id: i64) -> PaymentSucceeded {
    PaymentSucceeded { order_id, payment_id: "pay_1".into(), transaction_id: "txn_1".into() }
}

fn cancelled(order_id: i64) -> OrderCancelled {
    OrderCancelled { order_id, reason: "late".into() }
}

/// Stock and reserved of product 1.
async fn units(app: &TestApp) -> (i64, i64) {
    let body = app.get("/inventory/1").await.body;
    (body["stock"].as_i64().unwrap(), body["reserved"].as_i64().unwrap())
}

/// How often a message of this schema's queues was applied or found to be a repetition.
async fn seen(sandbox: &Sandbox, queue: &str) -> i64 {
    let select = sqlx::query_scalar("SELECT count(*) FROM inbox WHERE queue = $1").bind(queue);
    select.fetch_one(&sandbox.pool().await).await.unwrap()
}

#[tokio::test]
async fn an_order_gets_its_stock_and_a_failed_payment_gives_it_back_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    assert_limits_list(&app, "/inventory").await;
    let body = json!({"order_id": 1, "product_id": 1, "quantity": 1});
    app.post("/reserve_stock", body.clone()).await.assert_problem(404, None);
    app.post("/compensate_stock", body).await.assert_problem(404, None);

    let workflow = sandbox.schema.as_str();
    sandbox.publish(&created(7, 3), workflow).await;
    eventually("it is reserved", async || units(&app).await == (SEED, 3)).await;
    eventually("it is announced", async || !sandbox.messages(RESERVED).await.is_empty()).await;
    let message = sandbox.messages(RESERVED).await.remove(0);
    assert_eq!(message["properties"]["type"], "StockReserved");
    assert_eq!(message["properties"]["correlation_id"], workflow);
    let event = without_timestamp(sandbox.events(RESERVED).await.remove(0));
    assert_eq!(event, json!({"order_id": 7, "product_id": 1, "quantity": 3}));
    assert!(effects_of(workflow).is_empty(), "it has not ended");

    let before = app.consumed(FAILED, "duplicate").await;
    let other = format!("{workflow}-other");
    for id in [workflow, workflow, &other] {
        sandbox.publish_to(FAILED, &failed(7), id).await;
    }
    eventually("it is released", async || units(&app).await == (SEED, 0)).await;
    // No other test of this program delivers these twice.
    eventually("repetitions are dropped", async || app.consumed(FAILED, "duplicate").await == before + 2.0)
        .await;
    assert_eq!(units(&app).await, (SEED, 0));
    assert_eq!([effects_of(workflow), effects_of(&other)].concat(), ["stock released"]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_is_announced_again_is_reserved_once_and_answered_again() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let before = app.consumed(CREATED, "duplicate").await;
    for id in ["a", "a", "b"] {
        sandbox.publish(&created(7, 3), id).await;
    }
    eventually("the same message is dropped", async || {
        app.consumed(CREATED, "duplicate").await == before + 1.0
    })
    .await;
    eventually("the other is answered", async || sandbox.messages(RESERVED).await.len() == 2).await;
    let events = sandbox.events(RESERVED).await;
    assert_eq!(without_timestamp(events[0].clone()), without_timestamp(events[1].clone()));
    assert_eq!(units(&app).await, (SEED, 3));

    sandbox.publish_to(FAILED, &failed(7), "c").await;
    eventually("it is released", async || units(&app).await == (SEED, 0)).await;
    sandbox.publish(&created(7, 3), "d").await;
    eventually("it is seen", async || seen(&sandbox, CREATED).await == 3).await;
    assert_eq!(units(&app).await, (SEED, 0), "what has ended does not begin again");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_unknown_product_and_more_than_the_stock_are_rejected() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let workflow = sandbox.schema.as_str();
    for (order_id, product_id, quantity, reason) in [
        (1, 999, 1, "Unknown product"),
        (2, 1, SEED + 1, "Insufficient stock"),
        (3, 1, i64::from(i32::MAX), "Insufficient stock"),
    ] {
        let id = format!("{workflow}-{order_id}");
        sandbox.publish(&OrderCreated { order_id, product_id, quantity }, &id).await;
        let ours = async || -> Option<Value> {
            sandbox.events(REJECTED).await.into_iter().find(|event| event["order_id"] == order_id)
        };
        eventually("it is rejected", async || ours().await.is_some()).await;
        let event = without_timestamp(ours().await.unwrap());
        assert_eq!(event, json!({"order_id": order_id, "reason": reason}));
        eventually("the effect is noted", async || effects_of(&id) == ["stock refused"]).await;
    }
    assert_eq!(units(&app).await, (SEED, 0));
    assert!(sandbox.messages(RESERVED).await.is_empty());
    // Asked again, it answers the same; the effect was there before.
    let again = format!("{workflow}-again");
    sandbox.publish(&created(2, SEED + 1), &again).await;
    eventually("it is rejected again", async || sandbox.messages(REJECTED).await.len() == 4).await;
    assert!(effects_of(&again).is_empty());
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_was_paid_leaves_the_stock_once_and_comes_back_when_the_order_is_given_up() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let workflow = sandbox.schema.as_str();
    sandbox.publish(&created(7, 3), "a").await;
    eventually("it is reserved", async || units(&app).await == (SEED, 3)).await;
    sandbox.publish_to(SUCCEEDED, &succeeded(7), workflow).await;
    sandbox.publish_to(SUCCEEDED, &succeeded(7), &format!("{workflow}-b")).await;
    eventually("it is sold", async || units(&app).await == (SEED - 3, 0)).await;
    eventually("both are seen", async || seen(&sandbox, SUCCEEDED).await == 2).await;
    sandbox.publish_to(FAILED, &failed(7), "c").await;
    eventually("a late failure is seen", async || seen(&sandbox, FAILED).await == 1).await;
    assert_eq!(units(&app).await, (SEED - 3, 0), "what was sold is not released");
    let effects = [effects_of(workflow), effects_of(&format!("{workflow}-b"))].concat();
    assert_eq!(effects, ["stock sold"]);

    sandbox.publish_to(CANCELLED, &cancelled(7), "d").await;
    eventually("it is back", async || units(&app).await == (SEED, 0)).await;
    sandbox.publish_to(CANCELLED, &cancelled(7), "e").await;
    eventually("the repetition is seen", async || seen(&sandbox, CANCELLED).await == 2).await;
    assert_eq!(units(&app).await, (SEED, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_was_given_up_gets_no_stock() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    sandbox.publish_to(CANCELLED, &cancelled(7), "a").await;
    eventually("the cancellation is seen", async || seen(&sandbox, CANCELLED).await == 1).await;
    sandbox.publish(&created(7, 3), "b").await;
    eventually("the order is seen", async || seen(&sandbox, CREATED).await == 1).await;
    sandbox.publish(&created(8, 2), "c").await;
    eventually("the next one is announced", async || !sandbox.messages(RESERVED).await.is_empty()).await;
    let orders: Vec<Value> =
        sandbox.events(RESERVED).await.iter().map(|event| event["order_id"].clone()).collect();
    assert_eq!(orders, [json!(8)], "nothing is announced of the one that was given up");
    assert_eq!(units(&app).await, (SEED, 2));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn fifty_orders_do_not_oversell_the_last_of_the_stock() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let pool = sandbox.pool().await;
    sqlx::query("UPDATE inventory SET stock = 10 WHERE product_id = 1").execute(&pool).await.unwrap();
    for order_id in 1..=50 {
        sandbox.publish(&created(order_id, 1), &format!("o{order_id}")).await;
    }
    eventually("all are answered", async || {
        sandbox.messages(RESERVED).await.len() + sandbox.messages(REJECTED).await.len() == 50
    })
    .await;
    assert_eq!(sandbox.messages(RESERVED).await.len(), 10);
    assert_eq!(units(&app).await, (10, 10));
    for order_id in 1..=50 {
        sandbox.publish_to(FAILED, &failed(order_id), &format!("f{order_id}")).await;
    }
    eventually("all have ended", async || seen(&sandbox, FAILED).await == 50).await;
    assert_eq!(units(&app).await, (10, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_no_order_is_set_aside_and_its_neighbours_are_served() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let poison = ["no JSON", "null", r#"{"order_id":"1","product_id":1,"quantity":1}"#, r#"{"order_id":1}"#];
    for (n, text) in (1..).zip(poison) {
        sandbox.publish_raw("", CREATED, text, &format!("poison-{n}")).await;
        sandbox.publish(&created(n, 1), &format!("neighbour-{n}")).await;
    }
    eventually("the neighbours are served", async || units(&app).await == (SEED, 4)).await;
    let dead = format!("{CREATED}.dlq");
    eventually("all poison is set aside", async || sandbox.messages(&dead).await.len() == poison.len()).await;
    for message in sandbox.messages(&dead).await {
        let reason = message["properties"]["headers"]["x-reason"].as_str().unwrap();
        assert!(reason.starts_with("does not parse as OrderCreated"), "{reason}");
    }
    app.stop().await;
    sandbox.close().await;
}

/// A quantity that no order has, from a publisher that does not check: nothing moves, nothing is held for ever.
#[tokio::test]
async fn a_quantity_below_one_moves_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    for (order_id, quantity) in [(1, 0), (2, -5), (3, i64::MIN)] {
        sandbox.publish(&created(order_id, quantity), &format!("o{order_id}")).await;
    }
    sandbox.publish(&created(4, 1), "o4").await;
    eventually("the neighbour is served", async || units(&app).await == (SEED, 1)).await;
    let dead = format!("{CREATED}.dlq");
    eventually("they are set aside", async || sandbox.messages(&dead).await.len() == 3).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_is_announced_with_other_contents_is_set_aside() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    sandbox.publish(&created(7, 3), "a").await;
    sandbox.publish(&OrderCreated { order_id: 8, product_id: 999, quantity: 3 }, "b").await;
    eventually("one is reserved", async || sandbox.messages(RESERVED).await.len() == 1).await;
    eventually("one is rejected", async || sandbox.messages(REJECTED).await.len() == 1).await;
    sandbox.publish(&OrderCreated { order_id: 7, product_id: 2, quantity: 3 }, "c").await;
    sandbox.publish(&created(7, 4), "d").await;
    sandbox.publish(&created(8, 3), "e").await;
    sandbox.publish(&created(9, 1), "neighbour").await;
    eventually("three are set aside", async || sandbox.reasons(CREATED).await.len() == 3).await;
    for reason in sandbox.reasons(CREATED).await {
        assert_eq!(reason, "The reservation of this order is for another product or quantity");
    }
    eventually("the neighbour is served", async || sandbox.messages(RESERVED).await.len() == 2).await;
    assert_eq!(units(&app).await, (SEED, 4));
    assert_eq!(app.get("/inventory/2").await.body["reserved"], 0);
    assert_eq!(sandbox.messages(REJECTED).await.len(), 1, "nothing is announced of what is set aside");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_for_an_order_without_a_reservation_is_set_aside() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    sandbox.publish_to(SUCCEEDED, &succeeded(7), "a").await;
    eventually("it is set aside", async || !sandbox.reasons(SUCCEEDED).await.is_empty()).await;
    assert_eq!(sandbox.reasons(SUCCEEDED).await, ["reservation of order 7 does not exist"]);
    sandbox.publish(&created(7, 3), "b").await;
    eventually("the order gets its stock", async || units(&app).await == (SEED, 3)).await;
    app.stop().await;
    sandbox.close().await;
}
