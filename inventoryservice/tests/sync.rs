//! inventoryservice in sync mode: orderservice calls for each step of the saga.
#![cfg(feature = "sync")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use common::Mode;
use common::config::NoSettings;
use common::testing::{
    Method, Reply, Sandbox, TestApp, assert_limits_list, assert_needs_field, assert_reads_few_rows,
    assert_refuses_bad_bodies, assert_refuses_path_ids, assert_refuses_values, assert_serves_common_paths,
    effects_of, eventually, keep_statistics, no_ids,
};
use futures_util::future::join_all;
use inventoryservice::stock::{self, End, Ending, Reservation};
use inventoryservice::{ABOUT, sync};
use serde_json::{Value, json};

const RESERVE: &str = "/reserve_stock";
const COMPENSATE: &str = "/compensate_stock";
const COMMIT: &str = "/commit_stock";
/// What every product starts with.
const SEED: i64 = 10_000;

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Sync, &[], |deps, NoSettings {}| sync::service(&deps)).await
}

/// `POST` for an order, as part of the workflow `<schema>-<order>`.
async fn ask(sandbox: &Sandbox, app: &TestApp, path: &str, order_id: i64, quantity: i64) -> Reply {
    let body = json!({"order_id": order_id, "product_id": 1, "quantity": quantity});
    let workflow = workflow(sandbox, order_id);
    app.request(Method::POST, path, &[("x-request-id", &workflow)], Some(body.to_string())).await
}

fn workflow(sandbox: &Sandbox, order_id: i64) -> String {
    format!("{}-{order_id}", sandbox.schema)
}

fn assert_ok(reply: &Reply, quantity: i64, total_reserved: i64) {
    let body =
        json!({"status": "ok", "product_id": 1, "quantity": quantity, "total_reserved": total_reserved});
    assert_eq!((reply.status, &reply.body), (200, &body));
}

/// Stock and reserved of product 1.
async fn units(app: &TestApp) -> (i64, i64) {
    let body = app.get("/inventory/1").await.body;
    assert_eq!(body["product_id"], 1);
    (body["stock"].as_i64().unwrap(), body["reserved"].as_i64().unwrap())
}

async fn set_stock(sandbox: &Sandbox, stock: i64) {
    let update = sqlx::query("UPDATE inventory SET stock = $1 WHERE product_id = 1").bind(stock);
    update.execute(&sandbox.pool().await).await.unwrap();
}

#[tokio::test]
async fn the_products_are_there_from_the_start() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;
    let product = |id: i64| json!({"product_id": id, "stock": SEED, "reserved": 0});
    assert_eq!(app.get("/inventory").await.body, json!([product(3), product(2), product(1)]));
    assert_eq!(app.get("/inventory/2").await.body, product(2));
    assert_limits_list(&app, "/inventory").await;
    assert_refuses_path_ids(&app, "/inventory", "product_id").await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_reserved_for_an_order_is_given_back_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_ok(&ask(&sandbox, &app, RESERVE, 7, 3).await, 3, 3);
    assert_ok(&ask(&sandbox, &app, RESERVE, 8, 4).await, 4, 7);
    // The same order again: held since before.
    assert_ok(&ask(&sandbox, &app, RESERVE, 7, 3).await, 3, 7);
    assert_eq!(units(&app).await, (SEED, 7));
    assert!(effects_of(&workflow(&sandbox, 7)).is_empty(), "it has not ended");

    assert_ok(&ask(&sandbox, &app, COMPENSATE, 7, 3).await, 3, 4);
    assert_ok(&ask(&sandbox, &app, COMPENSATE, 7, 3).await, 3, 4);
    assert_eq!(effects_of(&workflow(&sandbox, 7)), ["stock released"]);
    // It has ended, and does not begin again.
    ask(&sandbox, &app, RESERVE, 7, 3).await.assert_problem(409, None);
    ask(&sandbox, &app, COMMIT, 7, 3).await.assert_problem(409, None);
    assert_eq!(units(&app).await, (SEED, 4));
    let labels = ["scenario=\"s5\"", "effect=\"stock\"", "outcome=\"released\""];
    assert!(app.metric("workflow_completion_seconds_count", &labels).await >= 1.0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_was_sold_leaves_the_stock_once_and_comes_back_when_the_order_is_given_up() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    ask(&sandbox, &app, RESERVE, 7, 3).await;
    for _ in 0..2 {
        assert_ok(&ask(&sandbox, &app, COMMIT, 7, 3).await, 3, 0);
        assert_eq!(units(&app).await, (SEED - 3, 0));
    }
    assert_eq!(effects_of(&workflow(&sandbox, 7)), ["stock sold"]);
    for _ in 0..2 {
        assert_ok(&ask(&sandbox, &app, COMPENSATE, 7, 3).await, 3, 0);
        assert_eq!(units(&app).await, (SEED, 0));
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_reservation_that_comes_after_its_cancellation_is_not_made() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_ok(&ask(&sandbox, &app, COMPENSATE, 7, 3).await, 3, 0);
    for path in [RESERVE, COMMIT] {
        ask(&sandbox, &app, path, 7, 3).await.assert_problem(409, None);
    }
    // The cancellation of something else is not what was cancelled.
    ask(&sandbox, &app, COMPENSATE, 7, 4).await.assert_problem(409, None);
    assert_ok(&ask(&sandbox, &app, COMPENSATE, 7, 3).await, 3, 0);
    assert_eq!(units(&app).await, (SEED, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_cancellation_releases_a_reservation_that_is_being_made() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let pool = sandbox.pool().await;
    // The product's row is locked: the reservation stands half-way in its transaction when the cancellation comes.
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM inventory WHERE product_id = 1 FOR UPDATE").execute(&mut *lock).await.unwrap();
    let waiting = async || -> i64 {
        sqlx::query_scalar(
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN (
                 SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1)",
        )
        .bind(&sandbox.schema)
        .fetch_one(&pool)
        .await
        .unwrap()
    };
    let cancelling = async {
        eventually("the reservation waits", async || waiting().await == 1).await;
        let release = async {
            eventually("so does the cancellation", async || waiting().await == 2).await;
            lock.commit().await.unwrap();
        };
        tokio::join!(ask(&sandbox, &app, COMPENSATE, 7, 3), release).0
    };
    let (reserved, cancelled) = tokio::join!(ask(&sandbox, &app, RESERVE, 7, 3), cancelling);
    assert_eq!((reserved.status, cancelled.status), (200, 200));
    assert_eq!(units(&app).await, (SEED, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_an_order_each_call_counts() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let ask = async |path: &str| app.post(path, json!({"product_id": 1, "quantity": 2})).await;
    assert_ok(&ask(RESERVE).await, 2, 2);
    assert_ok(&ask(RESERVE).await, 2, 4);
    assert_ok(&ask(COMPENSATE).await, 2, 2);
    assert_ok(&ask(COMPENSATE).await, 2, 0);
    ask(COMPENSATE).await.assert_problem(409, None);
    ask(COMMIT).await.assert_problem(422, Some("order_id"));
    assert_eq!(units(&app).await, (SEED, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_unknown_product_and_more_than_the_stock_are_refused_the_same_way_each_time() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let unknown = json!({"order_id": 1, "product_id": 999, "quantity": 1});
    for _ in 0..2 {
        let reply = app.post(RESERVE, unknown.clone()).await;
        reply.assert_problem(404, None);
        assert_eq!(reply.body["detail"], "Unknown product");
        let reply = ask(&sandbox, &app, RESERVE, 2, SEED + 1).await;
        reply.assert_problem(409, None);
        assert_eq!(reply.body["detail"], "Insufficient stock");
    }
    assert_eq!(effects_of(&workflow(&sandbox, 2)), ["stock refused"; 2]);
    app.post(RESERVE, json!({"product_id": 999, "quantity": 1})).await.assert_problem(404, None);
    app.post(RESERVE, json!({"product_id": 1, "quantity": SEED + 1})).await.assert_problem(409, None);
    app.post(RESERVE, json!({"product_id": 1, "quantity": i32::MAX})).await.assert_problem(409, None);
    assert_eq!(units(&app).await, (SEED, 0));
    // Giving up an order that got nothing gives nothing.
    assert_ok(&ask(&sandbox, &app, COMPENSATE, 2, SEED + 1).await, SEED + 1, 0);
    assert_eq!(units(&app).await, (SEED, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn fifty_at_once_do_not_oversell_the_last_of_the_stock() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    set_stock(&sandbox, 10).await;
    let replies = join_all((1..=50).map(|order_id| ask(&sandbox, &app, RESERVE, order_id, 1))).await;
    let mut totals = Vec::new();
    for reply in &replies {
        match reply.status {
            200 => totals.push(reply.body["total_reserved"].as_i64().unwrap()),
            _ => reply.assert_problem(409, None),
        }
    }
    totals.sort_unstable();
    assert_eq!(totals, (1..=10).collect::<Vec<_>>(), "each sees its own reservation as the last one");
    assert_eq!(units(&app).await, (10, 10));

    join_all((1..=50).map(|order_id| ask(&sandbox, &app, COMPENSATE, order_id, 1))).await;
    assert_eq!(units(&app).await, (10, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn one_order_at_once_from_all_sides_counts_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let replies = join_all((0..20).map(|_| ask(&sandbox, &app, RESERVE, 7, 3))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(units(&app).await, (SEED, 3));
    let paths = [RESERVE, COMPENSATE, COMMIT];
    let replies = join_all((0..30).map(|i| ask(&sandbox, &app, paths[i % 3], 7, 3))).await;
    assert!(replies.iter().all(|reply| [200, 409].contains(&reply.status)));
    // Given up in the end, whichever step came first.
    assert_ok(&ask(&sandbox, &app, COMPENSATE, 7, 3).await, 3, 0);
    assert_eq!(units(&app).await, (SEED, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn the_stock_can_be_reset_and_reservations_stay() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    ask(&sandbox, &app, RESERVE, 1, 5).await;
    ask(&sandbox, &app, COMMIT, 1, 5).await;
    ask(&sandbox, &app, RESERVE, 2, 4).await;
    assert_eq!(units(&app).await, (SEED - 5, 4));
    let reply = app.request(Method::POST, "/reset_stock", &[], None).await;
    let products: Vec<&Value> = reply.body.as_array().unwrap().iter().collect();
    assert_eq!((reply.status, products.len()), (200, 3));
    assert!(products.iter().all(|product| product["stock"] == SEED), "{}", reply.text);
    assert_eq!(units(&app).await, (SEED, 4));
    assert_ok(&ask(&sandbox, &app, COMPENSATE, 2, 4).await, 4, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_moves_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let valid = json!({"order_id": 1, "product_id": 1, "quantity": 1});
    for path in [RESERVE, COMPENSATE, COMMIT] {
        assert_refuses_bad_bodies(&app, Method::POST, path).await;
        assert_refuses_values(&app, path, &valid, "order_id", &no_ids()).await;
        assert_needs_field(&app, path, &valid, "product_id", &no_ids()).await;
        let quantities = [no_ids(), vec![json!(i64::from(i32::MAX) + 1)]].concat();
        assert_needs_field(&app, path, &valid, "quantity", &quantities).await;
    }
    assert_eq!(units(&app).await, (SEED, 0));
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM reservations")
        .fetch_one(&sandbox.pool().await)
        .await
        .unwrap();
    assert_eq!(made, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_step_of_a_reservation_reads_only_its_row_whatever_the_statistics_say() {
    for analyzed in [0, 10, 20_000] {
        let (sandbox, mut db) = (Sandbox::new().await, None);
        let build = |deps: common::Deps, NoSettings {}| {
            db = Some(deps.db());
            sync::service(&deps)
        };
        let app = sandbox.start(ABOUT, Mode::Sync, &[], build).await;
        let (db, pool) = (db.unwrap(), sandbox.pool().await);
        // As many are held as `analyzed` when the statistics are taken. Now these have ended, and 2000 others are held. Every
        // second one has an order.
        let insert = "INSERT INTO reservations (order_id, product_id, quantity, state)
                      SELECT CASE WHEN n % 2 = 0 THEN n END, 1, 1, CASE WHEN n > $1 THEN 'reserved' ELSE 'released' END
                      FROM generate_series(1, $2) AS n";
        let insert = async |ended: i64, rows: i64| {
            sqlx::query(insert).bind(ended).bind(rows).execute(&pool).await.unwrap();
        };
        insert(20_000 - analyzed, 20_000).await;
        keep_statistics(&pool, "reservations").await;
        sqlx::query("TRUNCATE reservations").execute(&pool).await.unwrap();
        insert(20_000, 22_000).await;
        sqlx::query("UPDATE inventory SET stock = 22000, reserved = 2000 WHERE product_id = 1")
            .execute(&pool)
            .await
            .unwrap();
        let reserve = async |tx: &mut common::Tx| {
            assert_eq!(stock::reserve(tx, Some(50_000), 1, 1).await.unwrap(), Reservation::Held);
        };
        assert_reads_few_rows(&db, "a reservation", reserve).await;
        for end in [End::Released, End::Committed, End::Cancelled] {
            let step = async |tx: &mut common::Tx| {
                assert_eq!(stock::end(tx, 21_000, Some((1, 1)), end).await.unwrap(), Ending::Now);
            };
            assert_reads_few_rows(&db, "the end of a reservation", step).await;
        }
        let release = async |tx: &mut common::Tx| assert!(stock::release_anonymous(tx, 1, 1).await.unwrap());
        assert_reads_few_rows(&db, "the release of a reservation without an order", release).await;
        app.stop().await;
        sandbox.close().await;
    }
}

#[tokio::test]
async fn what_does_not_fit_an_orders_reservation_is_refused_and_moves_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let assert_refused = async |state: &str| {
        let before = app.get("/inventory").await.body;
        for path in [RESERVE, COMPENSATE, COMMIT] {
            for (product_id, quantity) in [(2, 7), (2, 3), (1, 9), (1, 1), (999, 3)] {
                let body = json!({"order_id": 7, "product_id": product_id, "quantity": quantity});
                let reply = app.post(path, body).await;
                assert_eq!(
                    reply.status, 409,
                    "{state}, {path} of {quantity} of {product_id}: {}",
                    reply.text
                );
                reply.assert_problem(409, None);
            }
        }
        assert_eq!(app.get("/inventory").await.body, before, "{state}");
    };
    ask(&sandbox, &app, RESERVE, 7, 3).await;
    assert_refused("reserved").await;
    assert_ok(&ask(&sandbox, &app, COMMIT, 7, 3).await, 3, 0);
    assert_refused("sold").await;
    assert_ok(&ask(&sandbox, &app, COMPENSATE, 7, 3).await, 3, 0);
    assert_refused("released").await;
    assert_eq!(units(&app).await, (SEED, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_refused_step_does_not_change_the_answer_to_the_next_one_for_the_order() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let unknown = json!({"order_id": 7, "product_id": 999, "quantity": 3});
    app.post(RESERVE, unknown.clone()).await.assert_problem(404, None);
    ask(&sandbox, &app, RESERVE, 7, SEED + 1).await.assert_problem(409, None);
    ask(&sandbox, &app, COMMIT, 7, 3).await.assert_problem(404, None);
    app.post(COMMIT, unknown).await.assert_problem(404, None);
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM reservations")
        .fetch_one(&sandbox.pool().await)
        .await
        .unwrap();
    assert_eq!(made, 0, "a refused step is not stored");
    assert_ok(&ask(&sandbox, &app, RESERVE, 7, 3).await, 3, 3);
    assert_ok(&ask(&sandbox, &app, COMMIT, 7, 3).await, 3, 0);
    assert_eq!(units(&app).await, (SEED - 3, 0));
    app.stop().await;
    sandbox.close().await;
}
