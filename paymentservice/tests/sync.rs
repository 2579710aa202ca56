//! paymentservice in sync mode: the answer waits for the payment; in S5 orderservice calls.
#![cfg(feature = "sync")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use std::time::{Duration, Instant};

use common::Mode;
use common::testing::{
    Method, Reply, Sandbox, TestApp, assert_needs_field, assert_reads_few_rows, assert_refuses_bad_bodies,
    assert_refuses_bad_keys, assert_refuses_values, assert_serves_common_paths, effects_of, eventually,
    keep_statistics, no_ids,
};
use futures_util::future::join_all;
use paymentservice::payments::{self, Settings};
use paymentservice::{ABOUT, sync};
use serde_json::{Value, json};
use sqlx::PgPool;

const PATH: &str = "/process_payment";

async fn start(sandbox: &Sandbox, delay: &str) -> TestApp {
    sandbox
        .start(ABOUT, Mode::Sync, &[delay], |deps, settings: Settings| sync::service(&deps, &settings))
        .await
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn payment(app: &TestApp, reply: &Reply) -> Value {
    app.get(&format!("/payments/{}", reply.body["payment_id"].as_str().unwrap())).await.body
}

#[tokio::test]
async fn a_payment_is_answered_when_it_was_taken() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=200").await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;

    let (begun, workflow) = (Instant::now(), sandbox.schema.as_str());
    let reply = app.request(Method::POST, PATH, &[("x-request-id", workflow)], Some("{}".into())).await;
    assert!(begun.elapsed() >= Duration::from_millis(200), "answered before the payment was taken");
    let (payment_id, transaction_id) = (&reply.body["payment_id"], &reply.body["transaction_id"]);
    let expected = json!({"status": "success", "transaction_id": transaction_id, "payment_id": payment_id,
                          "amount": 100.0, "currency": "USD"});
    assert_eq!((reply.status, &reply.body), (200, &expected));
    assert!(payment_id.as_str().unwrap().strip_prefix("pay_").unwrap().len() >= 12);
    assert!(transaction_id.as_str().is_some_and(|id| !id.is_empty()));

    let stored = payment(&app, &reply).await;
    assert_eq!((&stored["payment_id"], &stored["status"]), (payment_id, &json!("success")));
    assert_eq!(&stored["transaction_id"], transaction_id);
    let audited: (String, String, String) =
        sqlx::query_as("SELECT payment_id, transaction_id, status FROM payment_audit")
            .fetch_one(&sandbox.pool().await)
            .await
            .unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(audited, (text(payment_id), text(transaction_id), "success".into()));
    assert_eq!(effects_of(workflow), ["payment success"]);
    let labels = ["scenario=\"s2\"", "effect=\"payment\"", "outcome=\"success\""];
    assert!(app.metric("workflow_completion_seconds_count", &labels).await >= 1.0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn every_field_is_optional_and_so_is_the_body() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=0").await;
    let nothing = app.request(Method::POST, PATH, &[], None).await;
    assert_eq!(
        (nothing.status, &nothing.body["amount"], &nothing.body["currency"]),
        (200, &json!(100.0), &json!("USD"))
    );
    let all = app.post(PATH, json!({"amount": 12.34, "currency": "EUR", "order_id": 7})).await;
    assert_eq!((all.status, &all.body["amount"], &all.body["currency"]), (200, &json!(12.34), &json!("EUR")));
    assert_eq!(payment(&app, &all).await["order_id"], 7);
    let whole = app.post(PATH, json!({"amount": 5, "order_id": null})).await;
    assert_eq!((whole.status, &whole.body["amount"]), (200, &json!(5.0)));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_is_seen_as_processing_until_it_was_taken() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=700").await;
    let pool = sandbox.pool().await;
    let look = async {
        eventually("it is stored", async || count(&pool, "payments").await == 1).await;
        let id: String =
            sqlx::query_scalar("SELECT payment_id FROM payments").fetch_one(&pool).await.unwrap();
        let body = app.get(&format!("/payments/{id}")).await.body;
        assert_eq!((&body["payment_id"], &body["status"]), (&json!(id), &json!("processing")));
        assert!(body.get("transaction_id").is_none());
    };
    let (reply, ()) = tokio::join!(app.post(PATH, json!({})), look);
    assert_eq!(payment(&app, &reply).await["status"], "success");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_that_fails_is_refused_at_once_and_not_stored() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=60000").await;
    let refusal = json!({"status": "failed", "reason": "Insufficient funds"});
    let mut expected = refusal.clone();
    expected["detail"] = refusal;
    for body in [None, Some("{}"), Some(r#"{"amount":5,"currency":"EUR","order_id":3}"#)] {
        let reply = app.request(Method::POST, "/process_payment_fail", &[], body.map(str::to_owned)).await;
        assert_eq!((reply.status, &reply.body), (400, &expected));
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
    assert_eq!(count(&sandbox.pool().await, "payments").await, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_pays_once_and_is_refused_while_the_first_is_at_work() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=700").await;
    let pool = sandbox.pool().await;
    let second = async {
        eventually("the first is at work", async || count(&pool, "payments").await == 1).await;
        app.post_keyed(PATH, "k1", json!({})).await.assert_problem(409, None);
        app.post_keyed(PATH, "k1", json!({"amount": 5})).await.assert_problem(422, Some("Idempotency-Key"));
    };
    let (first, ()) = tokio::join!(app.post_keyed(PATH, "k1", json!({})), second);
    assert_eq!(first.status, 200);
    // The same request, written differently.
    let again = app.post_keyed(PATH, "k1", json!({"currency": "USD", "amount": 100})).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    app.post_keyed(PATH, "k1", json!({"amount": 5})).await.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&app, PATH, &json!({})).await;
    assert_eq!((count(&pool, "payments").await, count(&pool, "payment_audit").await), (1, 1));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_that_was_cut_off_is_taken_by_the_next_try_with_its_key() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=0").await;
    let pool = sandbox.pool().await;
    let first = app.post_keyed(PATH, "k1", json!({})).await;
    // As a crash while the payment was taken leaves it, once the lease has run out.
    for sql in [
        "UPDATE idempotency_keys SET answer = NULL, leased_until = now()",
        "UPDATE payments SET status = 'processing', transaction_id = NULL",
        "DELETE FROM payment_audit",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    let tries = join_all((0..5).map(|_| app.post_keyed(PATH, "k1", json!({})))).await;
    let worked: Vec<_> =
        tries.iter().filter(|r| r.status == 200 && !r.headers.contains_key("idempotent-replayed")).collect();
    assert_eq!(worked.len(), 1, "one of them goes on, the others wait or repeat");
    assert!(tries.iter().all(|reply| [200, 409].contains(&reply.status)));
    assert_eq!(worked[0].body["payment_id"], first.body["payment_id"]);
    assert_eq!((count(&pool, "payments").await, count(&pool, "payment_audit").await), (1, 1));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_that_was_interrupted_ends_as_failed() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=0").await;
    let pool = sandbox.pool().await;
    let insert = "INSERT INTO payments (payment_id, status, amount, currency, created_at)
                  VALUES ($1, 'processing', 1, 'USD', now() - make_interval(secs => $2))";
    for (id, age) in [("pay_old", 61.0), ("pay_young", 10.0)] {
        sqlx::query(insert).bind(id).bind(age).execute(&pool).await.unwrap();
    }
    // As after a crash: looked for at the start, and every 10 s.
    app.stop().await;
    let app = start(&sandbox, "--payment-delay-ms=0").await;
    eventually("the old one has failed", async || {
        app.get("/payments/pay_old").await.body["status"] == "failed"
    })
    .await;
    assert_eq!(app.get("/payments/pay_old").await.body["reason"], "Interrupted");
    assert_eq!(app.get("/payments/pay_young").await.body["status"], "processing");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_is_paid_once_and_given_back_when_it_is_given_up() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=0").await;
    let replies = join_all((0..5).map(|_| app.post("/pay_order", json!({"order_id": 1})))).await;
    for reply in &replies {
        assert_eq!((reply.status, &reply.body), (200, &replies[0].body));
    }
    let paid = payment(&app, &replies[0]).await;
    assert_eq!(
        (&paid["status"], &paid["transaction_id"]),
        (&json!("success"), &replies[0].body["transaction_id"])
    );
    assert_eq!(paid["order_id"], 1);

    // The cancellation keeps its first reason, and a repetition with another reason is answered with it.
    for reason in ["Order given up", "Order given up", "another"] {
        let cancelled = app.post("/cancel_payment", json!({"order_id": 1, "reason": reason})).await;
        let expected = json!({"status": "ok", "reason": "Order given up"});
        assert_eq!((cancelled.status, &cancelled.body), (200, &expected));
    }
    let refunded = payment(&app, &replies[0]).await;
    assert_eq!((&refunded["status"], &refunded["reason"]), (&json!("refunded"), &json!("Order given up")));
    app.post("/pay_order", json!({"order_id": 1})).await.assert_problem(409, None);
    assert_eq!(count(&sandbox.pool().await, "payments").await, 1);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_order_that_was_given_up_is_never_paid() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=0").await;
    for reason in ["late", "another"] {
        let cancelled = app.post("/cancel_payment", json!({"order_id": 2, "reason": reason})).await;
        assert_eq!((cancelled.status, &cancelled.body), (200, &json!({"status": "ok", "reason": "late"})));
    }
    app.post("/pay_order", json!({"order_id": 2})).await.assert_problem(409, None);
    let taken: i64 = sqlx::query_scalar("SELECT count(*) FROM payments WHERE transaction_id IS NOT NULL")
        .fetch_one(&sandbox.pool().await)
        .await
        .unwrap();
    assert_eq!(taken, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_takes_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, "--payment-delay-ms=0").await;
    for path in [PATH, "/process_payment_fail"] {
        assert_refuses_bad_bodies(&app, Method::POST, path).await;
        app.post(path, json!({"colour": 1})).await.assert_problem(422, Some("colour"));
        let amounts = [json!(0), json!(-1), json!(0.001), json!(1e300), json!("5"), json!(null), json!([1])];
        assert_refuses_values(&app, path, &json!({}), "amount", &amounts).await;
        for number in ["1e999", "-1e999"] {
            let body = format!("{{\"amount\":{number}}}");
            app.request(Method::POST, path, &[], Some(body)).await.assert_problem(422, Some("amount"));
        }
        let currencies = ["", "US", "usd", "USDX", "U\u{0}D", "USD\n", "ÄÖÜ"].map(|text| json!(text));
        assert_refuses_values(&app, path, &json!({}), "currency", &currencies).await;
        assert_refuses_values(&app, path, &json!({}), "currency", &[json!(1), json!(null), json!(["USD"])])
            .await;
        assert_refuses_values(&app, path, &json!({}), "order_id", &no_ids()).await;
    }
    for path in ["/pay_order", "/cancel_payment"] {
        assert_refuses_bad_bodies(&app, Method::POST, path).await;
        assert_needs_field(&app, path, &json!({"order_id": 1, "reason": "x"}), "order_id", &no_ids()).await;
    }
    let reasons = [json!(""), json!("nul\u{0}"), json!("x".repeat(201)), json!(1)];
    let valid = json!({"order_id": 1, "reason": "x"});
    assert_needs_field(&app, "/cancel_payment", &valid, "reason", &reasons).await;
    for id in ["pay_000000000000", "x", "%00", "pay_%00", "pay_%27", &"p".repeat(5000)] {
        app.get(&format!("/payments/{id}")).await.assert_problem(404, None);
    }
    app.get("/payments/%ff").await.assert_problem(422, Some("id"));
    assert_eq!(count(&sandbox.pool().await, "payments").await, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_step_of_a_payment_reads_only_its_row_whatever_the_statistics_say() {
    for analyzed in [0, 10, 20_000] {
        let (sandbox, mut db) = (Sandbox::new().await, None);
        let build = |deps: common::Deps, settings: Settings| {
            db = Some(deps.db());
            sync::service(&deps, &settings)
        };
        let app = sandbox.start(ABOUT, Mode::Sync, &[], build).await;
        let (db, pool) = (db.unwrap(), sandbox.pool().await);
        // As many are being processed as `analyzed` when the statistics are taken; 2000 more since.
        let insert = "INSERT INTO payments (payment_id, status, amount, currency, order_id, saga)
                      SELECT 'pay_' || n, CASE WHEN n > $1 THEN 'success' ELSE 'processing' END, 100, 'USD', n, n % 2 = 0
                      FROM generate_series($2, $3) AS n";
        for (processing, from, to) in [(analyzed, 1, 20_000), (22_000, 20_001, 22_000)] {
            let insert = sqlx::query(insert).bind(processing).bind(from).bind(to);
            insert.execute(&pool).await.unwrap();
            if from == 1 {
                keep_statistics(&pool, "payments").await;
            }
        }
        let taken = async |tx: &mut common::Tx| {
            assert!(payments::complete(tx, "pay_21001", Some((100.0, "USD")), "txn_1").await.unwrap());
        };
        assert_reads_few_rows(&db, "the end of a payment", taken).await;
        let look = async |tx: &mut common::Tx| drop(payments::find(tx, "pay_21001").await.unwrap());
        assert_reads_few_rows(&db, "a look at a payment", look).await;
        let pay = async |tx: &mut common::Tx| drop(payments::pay_order(tx, 20_000).await.unwrap());
        assert_reads_few_rows(&db, "the payment of an order", pay).await;
        let cancel =
            async |tx: &mut common::Tx| drop(payments::cancel_order(tx, 20_000, "late").await.unwrap());
        assert_reads_few_rows(&db, "the cancellation of an order", cancel).await;
        let sweep = async |tx: &mut common::Tx| payments::end_interrupted(tx).await.unwrap();
        assert_reads_few_rows(&db, "the look for interrupted payments", sweep).await;
        app.stop().await;
        sandbox.close().await;
    }
}
