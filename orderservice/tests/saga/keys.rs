//! An order under an `Idempotency-Key`: made once, and taken up where an earlier try was cut off.

use common::testing::{assert_refuses_bad_keys, eventually};
use serde_json::json;

use super::{HANGS, INTERRUPTED, PATH, PAYMENT, Test, assert_failed};

#[tokio::test]
async fn a_key_orders_once() {
    let test = Test::start(&[]).await;
    let body = json!({"product_id": 1, "quantity": 2});
    let first = test.app.post_keyed(PATH, "k1", body.clone()).await;
    assert_failed(&first, 1, PAYMENT, "Insufficient funds", true);
    let again = test.app.post_keyed(PATH, "k1", body.clone()).await;
    assert_failed(&again, 1, PAYMENT, "Insufficient funds", true);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = test.app.post_keyed(PATH, "k1", json!({"product_id": 1, "quantity": 3})).await;
    other.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&test.app, PATH, &body).await;
    assert_eq!(test.peer.calls().len(), 3);
    assert_eq!(test.app.get("/orders").await.body.as_array().unwrap().len(), 1);
    test.end().await;
}

#[tokio::test]
async fn a_key_whose_first_order_is_at_work_is_refused() {
    let test = Test::start(&["--call-timeout-ms=1000"]).await;
    test.answers.set("/reserve_stock", HANGS, json!({}));
    let body = json!({"product_id": 1, "quantity": 2});
    let second = async {
        eventually("the first is at work", async || !test.peer.calls().is_empty()).await;
        test.app.post_keyed(PATH, "k1", body.clone()).await.assert_problem(409, None);
    };
    let (first, ()) = tokio::join!(test.app.post_keyed(PATH, "k1", body.clone()), second);
    assert_failed(&first, 1, INTERRUPTED, "Interrupted", true);
    assert_eq!(test.app.get("/orders").await.body.as_array().unwrap().len(), 1);
    test.end().await;
}

#[tokio::test]
async fn a_try_with_the_key_goes_on_where_the_last_one_failed() {
    let test = Test::start(&[]).await;
    let body = json!({"product_id": 1, "quantity": 2});
    test.answers.set("/compensate_stock", 500, json!({}));
    let first = test.app.post_keyed(PATH, "k1", body.clone()).await;
    assert_failed(&first, 1, PAYMENT, "Insufficient funds", false);
    test.answers.go_well_again();
    let second = test.app.post_keyed(PATH, "k1", body.clone()).await;
    assert_failed(&second, 1, PAYMENT, "Insufficient funds", true);
    assert!(!second.headers.contains_key("idempotent-replayed"));
    let third = test.app.post_keyed(PATH, "k1", body).await;
    assert_eq!(
        (&third.body, &third.headers["idempotent-replayed"].to_str().unwrap()),
        (&second.body, &"true")
    );
    assert_eq!(test.peer.calls().len(), 6);
    assert_eq!(test.app.get("/orders").await.body.as_array().unwrap().len(), 1);
    test.end().await;
}

#[tokio::test]
async fn an_order_that_was_cut_off_is_taken_up_by_the_next_try_with_its_key() {
    let test = Test::start(&[]).await;
    let body = json!({"product_id": 1, "quantity": 2});
    test.app.post_keyed(PATH, "k1", body.clone()).await;
    // As a crash after the reservation leaves it, once the lease has run out.
    let pool = test.sandbox.pool().await;
    for sql in [
        "UPDATE idempotency_keys SET answer = NULL, leased_until = now()",
        "UPDATE orders SET status = 'pending', reason = NULL, compensated = false",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    let second = test.app.post_keyed(PATH, "k1", body).await;
    assert_failed(&second, 1, PAYMENT, "Insufficient funds", true);
    assert!(test.peer.calls().iter().all(|call| call.body["order_id"] == 1), "the same order at every step");
    assert_eq!(test.app.get("/orders").await.body.as_array().unwrap().len(), 1);
    test.end().await;
}
