//! analyticsservice in sync mode, against a real database.
#![cfg(feature = "sync")]

mod analytics;

use analytics::{count, track, updates};
use analyticsservice::{ABOUT, sync};
use common::Mode;
use common::testing::{
    BAD_PRODUCT_CHANGES, Method, Sandbox, TestApp, assert_limits_list, assert_refuses_bad_bodies,
    assert_refuses_fields, assert_serves_common_paths,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Sync, &[], |deps, own| sync::service(&deps, &own)).await
}

async fn log(app: &TestApp, change: Value) {
    let reply = app.post("/log_update", change).await;
    assert_eq!((reply.status, &reply.body), (200, &json!({"status": "ok"})), "{}", reply.text);
}

#[tokio::test]
async fn a_click_is_stored_when_it_is_answered() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;
    assert_eq!(count(&app).await, 0);
    track(&app, json!({"user_id": 1, "page": "/"})).await;
    assert_eq!(count(&app).await, 1);
    analytics::track_allowed(&app).await;
    assert_eq!(count(&app).await, 6);
    let clicks = (0..50).map(|user| track(&app, json!({"user_id": user + 1, "page": "/"})));
    join_all(clicks).await;
    assert_eq!(count(&app).await, 56);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_bad_click_is_refused_and_not_stored() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    analytics::assert_refuses_bad_clicks(&app).await;
    assert_eq!(count(&app).await, 0);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn updates_are_listed_newest_first_and_by_product() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    for (id, version) in [(1, 2), (2, 2), (1, 3)] {
        log(&app, json!({"product_id": id, "name": "Laptop", "stock": 5, "version": version})).await;
    }
    assert_eq!(updates(&app, "").await, [(1, Some(3)), (2, Some(2)), (1, Some(2))]);
    assert_eq!(updates(&app, "?product_id=1").await, [(1, Some(3)), (1, Some(2))]);
    assert_eq!(updates(&app, "?product_id=2").await, [(2, Some(2))]);
    assert_eq!(updates(&app, "?product_id=3").await, []);
    let newest = app.get("/product_updates?limit=1&product_id=1").await.body[0].clone();
    assert_eq!((&newest["name"], &newest["stock"]), (&json!("Laptop"), &json!(5)));
    assert!(newest["recorded_at"].is_string());
    for path in ["/product_updates", "/product_updates?product_id=1"] {
        assert_limits_list(&app, path).await;
    }
    analytics::assert_refuses_bad_filters(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn each_version_is_recorded_once_in_whatever_order_they_arrive() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let changes = [4, 2, 3, 4, 2, 5].map(|version| {
        app.post("/log_update", json!({"product_id": 1, "name": "Laptop", "stock": 5, "version": version}))
    });
    assert!(join_all(changes).await.iter().all(|reply| reply.status == 200));
    let mut versions = updates(&app, "").await;
    versions.sort_unstable();
    assert_eq!(versions, [(1, Some(2)), (1, Some(3)), (1, Some(4)), (1, Some(5))]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn calls_that_name_only_the_product_are_all_recorded_and_take_no_versions_place() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    log(&app, json!({"product_id": 1, "action": "fields of a newer caller are passed over"})).await;
    let calls = (0..20).map(|_| log(&app, json!({"product_id": 1})));
    join_all(calls).await;
    assert_eq!(updates(&app, "?product_id=1").await.len(), 21);
    log(&app, json!({"product_id": 1, "name": "Laptop", "stock": 5, "version": 1})).await;
    assert_eq!(updates(&app, "?limit=1").await, [(1, Some(1))]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_bad_update_is_refused_and_not_recorded() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_refuses_bad_bodies(&app, Method::POST, "/log_update").await;
    assert_refuses_fields(&app, Method::POST, "/log_update", &BAD_PRODUCT_CHANGES).await;
    assert_eq!(updates(&app, "").await, []);
    let greatest =
        json!({"product_id": i64::MAX, "name": "😀".repeat(4096), "stock": i64::MAX, "version": i64::MAX});
    log(&app, greatest).await;
    log(&app, json!({"product_id": i64::MAX})).await;
    assert_eq!(updates(&app, "").await.len(), 2);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_version_that_is_recorded_with_other_contents_is_refused() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let stored = json!({"product_id": 20, "name": "Teapot", "stock": 5, "version": 2});
    log(&app, stored.clone()).await;
    let recorded = app.get("/product_updates").await.body;
    for (field, value) in [("name", json!("Kettle")), ("stock", json!(6)), ("stock", json!(null))] {
        let mut other = stored.clone();
        other[field] = value;
        app.post("/log_update", other).await.assert_problem(409, None);
    }
    log(&app, stored).await;
    assert_eq!(app.get("/product_updates").await.body, recorded);
    app.stop().await;
    sandbox.close().await;
}
