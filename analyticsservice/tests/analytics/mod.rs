//! What analyticsservice does alike in both modes.

use common::testing::{
    Method, TestApp, assert_needs_field, assert_refuses_bad_bodies, assert_refuses_values, no_ids,
};
use serde_json::{Value, json};

pub(crate) async fn count(app: &TestApp) -> i64 {
    let reply = app.get("/clicks/count").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.body["count"].as_i64().expect("a number")
}

/// What `GET /product_updates` shows: product and version of each.
pub(crate) async fn updates(app: &TestApp, query: &str) -> Vec<(i64, Option<i64>)> {
    let reply = app.get(&format!("/product_updates{query}")).await;
    let updates = reply.body.as_array().unwrap_or_else(|| panic!("no list: {}", reply.text));
    updates
        .iter()
        .map(|update| (update["product_id"].as_i64().expect("a number"), update["version"].as_i64()))
        .collect()
}

pub(crate) async fn track(app: &TestApp, click: Value) {
    let reply = app.post("/track_click", click).await;
    assert_eq!((reply.status, &reply.body), (200, &json!({"status": "tracked"})), "{}", reply.text);
}

/// The clicks at the limits of what is taken: 5.
pub(crate) async fn track_allowed(app: &TestApp) {
    track(app, json!({"user_id": 0, "page": "/"})).await;
    track(app, json!({"user_id": i64::MAX, "page": "é".repeat(2048), "session_id": "s".repeat(255)})).await;
    track(app, json!({"user_id": 1, "page": "'; DROP TABLE clicks; -- \\ \" % 😀", "session_id": null}))
        .await;
    // The same click twice is two clicks.
    for _ in 0..2 {
        track(app, json!({"user_id": 7, "page": "/products/1", "session_id": "s1"})).await;
    }
}

pub(crate) async fn assert_refuses_bad_clicks(app: &TestApp) {
    let path = "/track_click";
    assert_refuses_bad_bodies(app, Method::POST, path).await;
    let valid = json!({"user_id": 1, "page": "/", "session_id": "s"});
    let no_ids: Vec<Value> = no_ids().into_iter().filter(|id| *id != 0).collect();
    assert_needs_field(app, path, &valid, "user_id", &no_ids).await;
    let no_texts = [json!(""), json!("a\u{0}b"), json!(1), json!(true), json!(["/"]), json!({})];
    assert_needs_field(app, path, &valid, "page", &[&no_texts[..], &[json!("x".repeat(2049))]].concat())
        .await;
    assert_refuses_values(
        app,
        path,
        &valid,
        "session_id",
        &[&no_texts[..], &[json!("x".repeat(256))]].concat(),
    )
    .await;
    assert_refuses_values(app, path, &valid, "colour", &[json!("red")]).await;
    assert_refuses_values(app, path, &valid, "event_id", &[json!("0198f1a0-0000-7000-8000-000000000000")])
        .await;
    app.request(Method::POST, path, &[], None).await.assert_problem(400, None);
    app.get(path).await.assert_problem(405, None);
}

pub(crate) async fn assert_refuses_bad_filters(app: &TestApp) {
    for filter in ["x", "", "1.5", "99999999999999999999", "%00", "1%20OR%201=1", "1&product_id=2"] {
        app.get(&format!("/product_updates?product_id={filter}"))
            .await
            .assert_problem(422, Some("product_id"));
    }
    assert_eq!(updates(app, "?product_id=0").await, []);
    assert_eq!(updates(app, "?product_id=-1").await, []);
}
