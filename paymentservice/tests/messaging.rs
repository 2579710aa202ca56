//! paymentservice in async mode: payments are taken from a queue, and orders are paid when their stock is reserved.
#![cfg(feature = "async")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod orders;

use common::Mode;
use common::events::{PaymentCompleted, PaymentInitiated};
use common::testing::{
    Method, Sandbox, TestApp, assert_refuses_bad_bodies, assert_refuses_bad_keys, assert_refuses_values,
    assert_serves_common_paths, effects_of, eventually, no_ids,
};
use futures_util::future::join_all;
use paymentservice::{ABOUT, messaging, payments::Settings};
use serde_json::{Value, json};
use sqlx::PgPool;

const PATH: &str = "/process_payment";

async fn start(sandbox: &Sandbox, settings: &[&str]) -> TestApp {
    let build = |deps, settings: Settings| messaging::service(&deps, &settings);
    sandbox.start(ABOUT, Mode::Async, &[&["--payment-delay-ms=50"], settings].concat(), build).await
}

/// From now on keeps a copy of what is announced: the service itself reads two of its queues before a test could.
async fn keep_announced(pool: &PgPool) {
    let sql = "CREATE TABLE announced (event text, body bytea);
               CREATE RULE announced AS ON INSERT TO outbox DO ALSO INSERT INTO announced VALUES (NEW.event, NEW.body)";
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

async fn announced(pool: &PgPool, event: &str) -> Vec<Value> {
    let bodies: Vec<Vec<u8>> = sqlx::query_scalar("SELECT body FROM announced WHERE event = $1")
        .bind(event)
        .fetch_all(pool)
        .await
        .unwrap();
    bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn consumed(app: &TestApp, queue: &str, outcome: &str) -> f64 {
    let labels = [format!("queue=\"{queue}\""), format!("outcome=\"{outcome}\"")];
    app.metric("events_consumed_total", &[&labels[0], &labels[1]]).await
}

/// Accepts a payment and waits until it was taken: what `GET` answers.
async fn pay(app: &TestApp, workflow: &str) -> Value {
    let reply = app.request(Method::POST, PATH, &[("x-request-id", workflow)], Some("{}".into())).await;
    let path = reply.headers["location"].to_str().unwrap();
    eventually("it is taken", async || app.get(path).await.body["status"] == "success").await;
    app.get(path).await.body
}

fn without_timestamp(mut event: Value) -> Value {
    let timestamp = event.as_object_mut().unwrap().remove("timestamp");
    assert!(timestamp.is_some_and(|t| t.is_string()), "no timestamp: {event}");
    event
}

#[tokio::test]
async fn two_keys_of_one_request_are_refused_and_neither_is_used_up() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let pool = sandbox.pool().await;
    let keys = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let both = app.request(Method::POST, PATH, &keys, Some("{}".into())).await;
    both.assert_problem(422, Some("Idempotency-Key"));
    assert_eq!(count(&pool, "payments").await, 0);
    for (_, key) in keys {
        let first = app.post_keyed(PATH, key, json!({})).await;
        assert_eq!(first.status, 202, "{}", first.text);
        assert!(!first.headers.contains_key("idempotent-replayed"), "{key}");
    }
    assert_eq!(count(&pool, "payments").await, 2);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_is_accepted_at_once_and_taken_in_the_background() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Async).await;
    let pool = sandbox.pool().await;
    keep_announced(&pool).await;

    let (workflow, body) =
        (sandbox.schema.as_str(), json!({"amount": 12.5, "currency": "EUR", "order_id": 7}));
    let reply = app.request(Method::POST, PATH, &[("x-request-id", workflow)], Some(body.to_string())).await;
    let id = &reply.body["payment_id"];
    let message = &reply.body["message"];
    assert_eq!(
        (reply.status, &reply.body),
        (202, &json!({"payment_id": id, "status": "processing", "message": message}))
    );
    assert!(message.is_string() && id.as_str().unwrap().strip_prefix("pay_").unwrap().len() >= 12);
    let path = reply.headers["location"].to_str().unwrap();
    assert_eq!(path, format!("/payments/{}", id.as_str().unwrap()));

    eventually("it is taken", async || app.get(path).await.body["status"] == "success").await;
    let payment = app.get(path).await.body;
    assert_eq!(
        (&payment["payment_id"], &payment["amount"], &payment["currency"]),
        (id, &json!(12.5), &json!("EUR"))
    );
    let transaction_id = &payment["transaction_id"];
    assert!(transaction_id.is_string() && payment["order_id"] == 7);
    eventually("it is audited", async || count(&pool, "payment_audit").await == 1).await;
    eventually("the effect is noted", async || effects_of(workflow) == ["payment success"]).await;

    let initiated = announced(&pool, "PaymentInitiated").await.remove(0);
    assert_eq!(without_timestamp(initiated), json!({"payment_id": id, "amount": 12.5, "currency": "EUR"}));
    let completed = announced(&pool, "PaymentCompleted").await.remove(0);
    let expected = json!({"payment_id": id, "transaction_id": transaction_id, "status": "success"});
    assert_eq!(without_timestamp(completed), expected);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_is_processing_until_it_was_taken() {
    let sandbox = Sandbox::new().await;
    let build = |deps, settings: Settings| messaging::service(&deps, &settings);
    let app = sandbox.start(ABOUT, Mode::Async, &["--payment-delay-ms=1000"], build).await;
    let reply = app.request(Method::POST, PATH, &[], None).await;
    let path = reply.headers["location"].to_str().unwrap();
    let payment = app.get(path).await.body;
    assert_eq!((&payment["status"], payment.get("transaction_id")), (&json!("processing"), None));
    assert_eq!((&payment["amount"], &payment["currency"]), (&json!(100.0), &json!("USD")));
    // It is taken before the process ends, however soon SIGTERM comes.
    app.stop().await;
    let app = sandbox.start(ABOUT, Mode::Async, &[], build).await;
    eventually("it is taken", async || app.get(path).await.body["status"] == "success").await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_payment_is_taken_once_whatever_is_delivered_again() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let pool = sandbox.pool().await;
    keep_announced(&pool).await;
    let workflow = sandbox.schema.as_str();
    let payment = pay(&app, workflow).await;
    let payment_id = payment["payment_id"].as_str().unwrap().to_owned();
    let transaction_id = payment["transaction_id"].as_str().unwrap().to_owned();
    eventually("it is audited", async || count(&pool, "payment_audit").await == 1).await;

    let [initiated, completed] = ["payment_initiated_queue", "payment_completed_queue"];
    let before = (consumed(&app, initiated, "duplicate").await, consumed(&app, completed, "duplicate").await);
    let again = PaymentInitiated { payment_id: payment_id.clone(), amount: 100.0, currency: "USD".into() };
    let ids = ["again-1", "again-1", "again-2"].map(|id| format!("{workflow}-{id}"));
    for id in &ids {
        sandbox.publish(&again, id).await;
    }
    // No other test of this program delivers these twice.
    let dropped = async || consumed(&app, initiated, "duplicate").await == before.0 + 3.0;
    eventually("repetitions are dropped", dropped).await;
    let again = PaymentCompleted { payment_id, transaction_id, status: "success".into() };
    for id in &ids {
        sandbox.publish(&again, id).await;
    }
    let dropped = async || consumed(&app, completed, "duplicate").await == before.1 + 3.0;
    eventually("repetitions are dropped", dropped).await;

    assert_eq!(
        app.get(&format!("/payments/{}", payment["payment_id"].as_str().unwrap())).await.body,
        payment
    );
    assert_eq!(count(&pool, "payment_audit").await, 1);
    assert_eq!(announced(&pool, "PaymentCompleted").await.len(), 1);
    assert_eq!(effects_of(workflow), ["payment success"]);
    assert!(ids.iter().all(|id| effects_of(id).is_empty()));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_cannot_be_paid_is_set_aside_and_its_neighbours_are_served() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let queue = "payment_initiated_queue";
    sandbox.publish_raw("", queue, "no JSON", "poison-1").await;
    sandbox.publish_raw("", queue, r#"{"payment_id":1}"#, "poison-2").await;
    let unknown = PaymentInitiated { payment_id: "pay_unknown".into(), amount: 1.0, currency: "USD".into() };
    sandbox.publish(&unknown, "poison-3").await;
    pay(&app, &sandbox.schema).await;
    let dead = format!("{queue}.dlq");
    eventually("three are set aside", async || sandbox.messages(&dead).await.len() == 3).await;
    for message in sandbox.messages(&dead).await {
        let reason = message["properties"]["headers"]["x-reason"].as_str().unwrap();
        let expected = if message["payload"].as_str().unwrap().contains("pay_unknown") {
            "payment pay_unknown does not exist"
        } else {
            "does not parse as PaymentInitiated"
        };
        assert!(reason.starts_with(expected), "{message}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_key_pays_once() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let pool = sandbox.pool().await;
    let replies = join_all((0..10).map(|_| app.post_keyed(PATH, "k1", json!({})))).await;
    assert!(replies.iter().all(|reply| reply.status == 202 && reply.body == replies[0].body));
    assert!(replies.iter().all(|reply| reply.headers["location"] == replies[0].headers["location"]));
    let replayed = replies.iter().filter(|reply| reply.headers.contains_key("idempotent-replayed")).count();
    assert_eq!(replayed, 9);
    app.post_keyed(PATH, "k1", json!({"amount": 5})).await.assert_problem(422, Some("Idempotency-Key"));
    assert_refuses_bad_keys(&app, PATH, &json!({})).await;
    eventually("it is taken and audited", async || count(&pool, "payment_audit").await == 1).await;
    assert_eq!(count(&pool, "payments").await, 1);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_takes_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let pool = sandbox.pool().await;
    keep_announced(&pool).await;
    let refusal = json!({"status": "failed", "reason": "Insufficient funds"});
    let reply = app.post("/process_payment_fail", json!({})).await;
    let body = json!({"status": "failed", "reason": "Insufficient funds", "detail": refusal});
    assert_eq!((reply.status, &reply.body), (400, &body));
    for path in [PATH, "/process_payment_fail"] {
        assert_refuses_bad_bodies(&app, Method::POST, path).await;
        app.post(path, json!({"colour": 1})).await.assert_problem(422, Some("colour"));
        assert_refuses_values(
            &app,
            path,
            &json!({}),
            "amount",
            &[json!(0), json!(-1), json!(1e300), json!("5")],
        )
        .await;
        let currencies = [json!(""), json!("usd"), json!("U\u{0}D"), json!(1)];
        assert_refuses_values(&app, path, &json!({}), "currency", &currencies).await;
        assert_refuses_values(&app, path, &json!({}), "order_id", &no_ids()).await;
    }
    for path in ["/pay_order", "/cancel_payment"] {
        app.post(path, json!({"order_id": 1, "reason": "x"})).await.assert_problem(404, None);
    }
    app.get("/payments/pay_000000000000").await.assert_problem(404, None);
    app.get("/payments/%00").await.assert_problem(404, None);
    assert_eq!((count(&pool, "payments").await, count(&pool, "announced").await), (0, 0));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_event_that_does_not_fit_its_payment_is_set_aside() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, &[]).await;
    let pool = sandbox.pool().await;
    keep_announced(&pool).await;
    let insert = "INSERT INTO payments (payment_id, status, amount, currency) VALUES ('pay_1', 'processing', 0.1, 'EUR')";
    sqlx::query(insert).execute(&pool).await.unwrap();
    let initiated = |amount: f64, currency: &str| PaymentInitiated {
        payment_id: "pay_1".into(),
        amount,
        currency: currency.into(),
    };
    let [initiated_queue, completed_queue] = ["payment_initiated_queue", "payment_completed_queue"];
    sandbox.publish(&initiated(0.2, "EUR"), "a").await;
    sandbox.publish(&initiated(0.1, "USD"), "b").await;
    eventually("both are set aside", async || sandbox.reasons(initiated_queue).await.len() == 2).await;
    assert_eq!(app.get("/payments/pay_1").await.body["status"], "processing");
    sandbox.publish(&initiated(0.1, "EUR"), "c").await;
    eventually("it is taken", async || app.get("/payments/pay_1").await.body["status"] == "success").await;
    eventually("it is audited", async || count(&pool, "payment_audit").await == 1).await;
    let payment = app.get("/payments/pay_1").await.body;

    sandbox.publish(&initiated(0.2, "EUR"), "d").await;
    eventually("so is a late one", async || sandbox.reasons(initiated_queue).await.len() == 3).await;
    for reason in sandbox.reasons(initiated_queue).await {
        assert_eq!(reason, "payment pay_1 has another amount or currency");
    }
    let transaction_id = payment["transaction_id"].as_str().unwrap().to_owned();
    for (transaction_id, status, id) in
        [("txn_other".to_owned(), "success", "e"), (transaction_id, "failed", "f")]
    {
        let status = status.to_owned();
        let completed = PaymentCompleted { payment_id: "pay_1".into(), transaction_id, status };
        sandbox.publish(&completed, id).await;
    }
    eventually("and what the audit has otherwise", async || {
        sandbox.reasons(completed_queue).await.len() == 2
    })
    .await;
    for reason in sandbox.reasons(completed_queue).await {
        assert_eq!(reason, "payment pay_1 is noted with another transaction or status");
    }
    assert_eq!(app.get("/payments/pay_1").await.body, payment);
    assert_eq!(
        (count(&pool, "payment_audit").await, announced(&pool, "PaymentCompleted").await.len()),
        (1, 1)
    );
    app.stop().await;
    sandbox.close().await;
}
