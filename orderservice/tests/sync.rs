//! orderservice in sync mode, with one stub in the place of inventoryservice and paymentservice: what it asks of them, in
//! which order, and what becomes of the order.
#![cfg(feature = "sync")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod saga;

use std::sync::Arc;

use common::testing::{
    Method, Peer, Sandbox, assert_limits_list, assert_needs_field, assert_reads_few_rows,
    assert_refuses_bad_bodies, assert_refuses_path_ids, assert_refuses_values, assert_serves_common_paths,
    closed_port, eventually, keep_statistics, no_ids,
};
use common::{Context, Mode};
use orderservice::orders::{self, Cause, End, OVERDUE, Settings};
use orderservice::{ABOUT, sync};
use saga::{Answers, HANGS, INTERRUPTED, PATH, PAYMENT, STOCK, Test, assert_failed, start};
use serde_json::{Value, json};
use tokio::sync::Notify;

#[tokio::test]
async fn an_order_whose_payment_fails_is_compensated_and_answered_400() {
    let test = Test::start(&[]).await;
    assert_serves_common_paths(&test.app, &ABOUT, Mode::Sync).await;
    assert_failed(&test.order().await, 1, PAYMENT, "Insufficient funds", true);

    let calls = test.peer.calls();
    assert_eq!(test.peer.paths(), ["/reserve_stock", "/process_payment_fail", "/compensate_stock"]);
    let stock = json!({"order_id": 1, "product_id": 1, "quantity": 2});
    let bodies: Vec<&Value> = calls.iter().map(|call| &call.body).collect();
    assert_eq!(bodies, [&stock, &json!({"order_id": 1}), &stock]);
    assert!(calls.iter().all(|call| call.workflow == test.sandbox.schema));

    let order = test.stored(1).await;
    assert_eq!((&order["id"], &order["product_id"], &order["quantity"]), (&json!(1), &json!(1), &json!(2)));
    assert_eq!((&order["status"], &order["reason"]), (&json!("failed"), &json!("Insufficient funds")));
    assert_eq!(test.effects(), ["order failed"]);
    let labels = ["scenario=\"s5\"", "effect=\"order\"", "outcome=\"failed\""];
    assert!(test.app.metric("workflow_completion_seconds_count", &labels).await >= 1.0);
    test.end().await;
}

#[tokio::test]
async fn an_order_is_seen_as_pending_while_its_saga_runs() {
    let (go_on, sandbox) = (Arc::new(Notify::new()), Sandbox::new().await);
    let gate = Arc::clone(&go_on);
    let peer = Peer::start(move |path, body| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Answers::default().to(&path, &body)
        }
    })
    .await;
    let app = start(&sandbox, &peer.url, &[]).await;
    let look = async {
        for step in 1..=3 {
            eventually("the step has begun", async || peer.calls().len() == step).await;
            assert_eq!(app.get("/orders/1").await.body["status"], "pending");
            go_on.notify_one();
        }
    };
    let (reply, ()) = tokio::join!(app.post(PATH, json!({"product_id": 1, "quantity": 2})), look);
    assert_failed(&reply, 1, PAYMENT, "Insufficient funds", true);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_whose_payment_succeeds_is_completed_and_answered_201() {
    let test = Test::start(&["--saga-payment-failure-rate=0"]).await;
    let reply = test.order().await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let created_at = &reply.body["created_at"];
    let expected =
        json!({"id": 1, "product_id": 1, "quantity": 2, "status": "completed", "created_at": created_at});
    assert_eq!(reply.body, expected);
    assert_eq!(reply.headers["location"], "/orders/1");
    assert_eq!(test.peer.paths(), ["/reserve_stock", "/pay_order", "/commit_stock"]);
    assert_eq!(test.stored(1).await, expected);
    assert_eq!(test.effects(), ["order completed"]);
    test.end().await;
}

#[tokio::test]
async fn an_order_that_gets_no_stock_fails_without_a_payment() {
    let test = Test::start(&[]).await;
    for (id, status, reason) in [(1, 404, "Unknown product"), (2, 409, "Insufficient stock")] {
        test.answers.set("/reserve_stock", status, json!({"status": status, "detail": reason}));
        assert_failed(&test.order().await, id, STOCK, reason, false);
        assert_eq!(test.stored(id).await["status"], "failed");
        assert_eq!(test.stored(id).await["reason"], reason);
    }
    assert_eq!(test.peer.paths(), ["/reserve_stock", "/reserve_stock"]);
    assert_eq!(test.effects(), ["order failed", "order failed"]);
    test.end().await;
}

#[tokio::test]
async fn compensation_that_fails_is_not_said_to_be_executed_and_made_up_for() {
    let test = Test::start(&[]).await;
    test.answers.set("/compensate_stock", 500, json!({}));
    assert_failed(&test.order().await, 1, PAYMENT, "Insufficient funds", false);
    assert_eq!(test.stored(1).await["status"], "pending");
    assert!(test.effects().is_empty(), "it has not ended");

    test.let_a_minute_pass().await;
    eventually("the sweeper has tried", async || test.peer.calls().len() == 5).await;
    assert_eq!(test.stored(1).await["status"], "pending");
    test.answers.go_well_again();
    test.let_a_minute_pass().await;
    eventually("the order has ended", async || test.stored(1).await["status"] == "failed").await;
    let sweep = ["/cancel_payment", "/compensate_stock"];
    assert_eq!(test.peer.paths()[3..], [sweep, sweep].concat());
    assert!(test.peer.calls().iter().all(|call| call.workflow == test.sandbox.schema));
    assert_eq!(test.effects(), ["order failed"]);
    test.end().await;
}

/// A step that fails leaves the order pending, and the answer is of the 5xx that say whose fault it was.
async fn assert_interrupted(settings: &[&str], path: &str, answer: u16, expected: u16) {
    let test = Test::start(settings).await;
    test.answers.set(path, answer, json!({}));
    // Nothing can be undone at once, either.
    test.answers.set("/cancel_payment", 503, json!({}));
    test.order().await.assert_problem(expected, None);
    assert_eq!(test.stored(1).await["status"], "pending");
    test.answers.go_well_again();
    test.let_a_minute_pass().await;
    eventually("the sweeper ends it", async || test.stored(1).await["status"] == "failed").await;
    let paths = test.peer.paths();
    assert_eq!(paths[paths.len() - 2..], ["/cancel_payment", "/compensate_stock"]);
    assert_eq!(test.stored(1).await["reason"], OVERDUE);
    assert_eq!(test.effects(), ["order failed"]);
    test.end().await;
}

#[tokio::test]
async fn an_order_whose_reservation_breaks_is_ended_later() {
    assert_interrupted(&[], "/reserve_stock", 500, 502).await;
}

#[tokio::test]
async fn an_order_whose_reservation_hangs_is_ended_later() {
    assert_interrupted(&["--call-timeout-ms=200"], "/reserve_stock", HANGS, 504).await;
}

#[tokio::test]
async fn an_order_whose_payment_breaks_is_ended_later() {
    assert_interrupted(&[], "/process_payment_fail", 500, 502).await;
}

#[tokio::test]
async fn an_order_whose_payment_hangs_is_ended_later() {
    let settings = ["--call-timeout-ms=200", "--saga-payment-failure-rate=0"];
    assert_interrupted(&settings, "/pay_order", HANGS, 504).await;
}

#[tokio::test]
async fn an_order_that_was_paid_but_could_not_be_sold_is_ended_later() {
    assert_interrupted(&["--saga-payment-failure-rate=0"], "/commit_stock", 500, 502).await;
}

#[tokio::test]
async fn an_order_that_can_be_undone_at_once_is() {
    let test = Test::start(&[]).await;
    test.answers.set("/reserve_stock", 500, json!({}));
    assert_failed(&test.order().await, 1, INTERRUPTED, "Interrupted", true);
    assert_eq!(test.peer.paths(), ["/reserve_stock", "/cancel_payment", "/compensate_stock"]);
    assert_eq!(test.stored(1).await["status"], "failed");
    test.end().await;
}

#[tokio::test]
async fn an_order_is_no_internal_error_when_nobody_listens() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &closed_port().await, &[]).await;
    app.post(PATH, json!({"product_id": 1})).await.assert_problem(502, None);
    assert_eq!(app.get("/orders/1").await.body["status"], "pending");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_refusal_of_stock_for_an_unknown_reason_is_not_called_a_lack_of_stock() {
    let test = Test::start(&[]).await;
    test.answers.set("/reserve_stock", 429, json!({"status": 429, "detail": "too many requests"}));
    assert_failed(&test.order().await, 1, INTERRUPTED, "Interrupted", true);
    assert_eq!(test.peer.paths(), ["/reserve_stock", "/cancel_payment", "/compensate_stock"]);
    test.end().await;
}

/// The stock was released or sold, and the process died before it noted the order's end: nothing may stay sold or paid.
#[tokio::test]
async fn an_order_whose_reservation_has_ended_is_undone_and_not_called_out_of_stock() {
    let test = Test::start(&[]).await;
    let ended = json!({"status": 409, "detail": "The reservation of this order has ended"});
    test.answers.set("/reserve_stock", 409, ended);
    assert_failed(&test.order().await, 1, INTERRUPTED, "Interrupted", true);
    assert_eq!(test.peer.paths(), ["/reserve_stock", "/cancel_payment", "/compensate_stock"]);
    test.end().await;
}

#[tokio::test]
async fn orders_are_listed_newest_first_up_to_a_limit() {
    let test = Test::start(&[]).await;
    assert_eq!(test.app.get("/orders").await.body, json!([]));
    for _ in 0..3 {
        test.order().await;
    }
    let list = test.app.get("/orders?limit=2").await.body;
    let ids: Vec<&Value> = list.as_array().unwrap().iter().map(|order| &order["id"]).collect();
    assert_eq!(ids, [&json!(3), &json!(2)]);
    assert_limits_list(&test.app, "/orders").await;
    test.end().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_nobody_is_asked() {
    let test = Test::start(&[]).await;
    assert_refuses_bad_bodies(&test.app, Method::POST, PATH).await;
    let valid = json!({"product_id": 1, "quantity": 1});
    assert_needs_field(&test.app, PATH, &valid, "product_id", &no_ids()).await;
    let quantities = [no_ids(), vec![json!(null), json!(i64::from(i32::MAX) + 1)]].concat();
    assert_refuses_values(&test.app, PATH, &valid, "quantity", &quantities).await;
    assert_refuses_values(&test.app, PATH, &valid, "colour", &[json!(1)]).await;
    assert_refuses_path_ids(&test.app, "/orders", "id").await;
    assert!(test.peer.calls().is_empty());
    assert_eq!(test.app.get("/orders").await.body, json!([]));
    // The quantity alone may be missing.
    test.app.post(PATH, json!({"product_id": 1})).await;
    assert_eq!(test.peer.calls()[0].body["quantity"], 1);
    test.end().await;
}

/// Of 20 000 orders, as many pending as `analyzed` when the statistics were taken; 2000 more since.
async fn fill(pool: &sqlx::PgPool, analyzed: i64) {
    let insert = "INSERT INTO orders (product_id, quantity, status, context)
                  SELECT 1, 1, CASE WHEN n > $1 THEN 'failed' ELSE 'pending' END, $2 FROM generate_series(1, $3) AS n";
    for (pending, rows) in [(analyzed, 20_000_i64), (2000, 2000)] {
        let context = sqlx::types::Json(Context::fresh());
        sqlx::query(insert).bind(pending).bind(context).bind(rows).execute(pool).await.unwrap();
        if rows == 20_000 {
            keep_statistics(pool, "orders").await;
        }
    }
}

#[tokio::test]
async fn a_step_of_an_order_reads_only_its_row_whatever_the_statistics_say() {
    for analyzed in [0, 10, 20_000] {
        let (sandbox, mut db) = (Sandbox::new().await, None);
        let build = |deps: common::Deps, settings: Settings| {
            db = Some(deps.db());
            sync::service(&deps, &settings)
        };
        let app = sandbox.start(ABOUT, Mode::Sync, &[], build).await;
        let db = db.unwrap();
        fill(&sandbox.pool().await, analyzed).await;
        for (what, end) in [
            (
                "the end of a failed order",
                End::Failed { cause: Cause::Payment, reason: "Insufficient funds", compensated: true },
            ),
            ("the end of a completed order", End::Completed),
        ] {
            let step = async |tx: &mut common::Tx| assert!(orders::end(tx, 21_000, end).await.unwrap());
            assert_reads_few_rows(&db, what, step).await;
        }
        assert_reads_few_rows(&db, "a look at an order", async |tx| {
            drop(orders::find(tx, 21_000).await.unwrap());
        })
        .await;
        app.stop().await;
        sandbox.close().await;
    }
}

#[tokio::test]
async fn the_sweeper_reads_only_what_is_overdue() {
    for analyzed in [0, 10, 20_000] {
        let (sandbox, mut found) = (Sandbox::new().await, None);
        let build = |deps: common::Deps, settings: Settings| {
            found = Some((deps.db(), settings.clone()));
            sync::service(&deps, &settings)
        };
        let app = sandbox.start(ABOUT, Mode::Sync, &["--saga-retry-seconds=3600"], build).await;
        let (db, settings) = found.unwrap();
        let pool = sandbox.pool().await;
        fill(&pool, analyzed).await;
        let overdue = "UPDATE orders SET tried_at = now() - interval '2 hours' WHERE id = 21000";
        sqlx::query(overdue).execute(&pool).await.unwrap();
        let step = async |tx: &mut common::Tx| {
            let taken = orders::take_overdue(tx, &settings).await.unwrap();
            assert_eq!(taken.iter().map(|order| order.id).collect::<Vec<_>>(), [21_000]);
        };
        assert_reads_few_rows(&db, "the sweeper", step).await;
        app.stop().await;
        sandbox.close().await;
    }
}

const OTHER: &str = "The reservation of this order is for another product or quantity";

#[tokio::test]
async fn an_order_whose_reservation_is_for_something_else_fails_with_that_reason() {
    let test = Test::start(&[]).await;
    test.answers.set("/reserve_stock", 409, json!({"status": 409, "detail": OTHER}));
    assert_failed(&test.order().await, 1, STOCK, OTHER, false);
    assert_eq!(test.peer.paths(), ["/reserve_stock"]);
    assert_eq!(test.stored(1).await["status"], "failed");
    test.end().await;
}

#[tokio::test]
async fn an_order_that_is_given_up_ends_though_the_reservation_is_for_something_else() {
    let test = Test::start(&[]).await;
    test.answers.set("/reserve_stock", 500, json!({}));
    test.answers.set("/compensate_stock", 409, json!({"status": 409, "detail": OTHER}));
    assert_failed(&test.order().await, 1, INTERRUPTED, "Interrupted", false);
    assert_eq!(test.stored(1).await["status"], "failed");
    test.end().await;
}

/// The sweeper released the stock of a slow order: it must not be called completed.
#[tokio::test]
async fn an_order_whose_stock_is_not_sold_is_undone_at_once() {
    let test = Test::start(&["--saga-payment-failure-rate=0"]).await;
    let ended = json!({"status": 409, "detail": "The reservation of this order has ended"});
    test.answers.set("/commit_stock", 409, ended);
    assert_failed(&test.order().await, 1, INTERRUPTED, "Interrupted", true);
    let paths = ["/reserve_stock", "/pay_order", "/commit_stock", "/cancel_payment", "/compensate_stock"];
    assert_eq!(test.peer.paths(), paths);
    test.end().await;
}
