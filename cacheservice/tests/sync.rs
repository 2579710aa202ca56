//! cacheservice in sync mode: it has no database and needs none.
#![cfg(feature = "sync")]

use cacheservice::{ABOUT, sync};
use common::Mode;
use common::testing::{
    BAD_PRODUCT_CHANGES, Method, Sandbox, TestApp, assert_refuses_bad_bodies, assert_refuses_fields,
    assert_refuses_path_ids, assert_serves_common_paths,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Sync, &[], |deps, own| sync::service(&deps, &own)).await
}

async fn invalidate(app: &TestApp, change: Value) {
    let reply = app.post("/invalidate_cache", change).await;
    assert_eq!((reply.status, &reply.body), (200, &json!({"status": "ok"})), "{}", reply.text);
}

#[tokio::test]
async fn a_product_is_in_the_cache_after_its_first_change() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;
    app.get("/cache/products/1").await.assert_problem(404, None);
    invalidate(&app, json!({"product_id": 1, "name": "Laptop", "stock": 50, "version": 2})).await;
    let cached = app.get("/cache/products/1").await;
    assert_eq!(
        (cached.status, &cached.body),
        (200, &json!({"id": 1, "name": "Laptop", "stock": 50, "version": 2}))
    );
    app.get("/cache/products/2").await.assert_problem(404, None);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_older_change_never_overwrites_a_newer_one_in_whatever_order_they_arrive() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let changes = [4, 2, 7, 3, 7, 1, 6, 5].map(|version| {
        let name = format!("Versioned {version}");
        app.post(
            "/invalidate_cache",
            json!({"product_id": 1, "name": name, "stock": version, "version": version}),
        )
    });
    assert!(join_all(changes).await.iter().all(|reply| reply.status == 200));
    let expected = json!({"id": 1, "name": "Versioned 7", "stock": 7, "version": 7});
    assert_eq!(app.get("/cache/products/1").await.body, expected);
    invalidate(&app, json!({"product_id": 1, "name": "Late", "stock": 0, "version": 6})).await;
    assert_eq!(app.get("/cache/products/1").await.body, expected);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_call_that_names_only_the_product_removes_it_and_no_older_change_brings_it_back() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    invalidate(&app, json!({"product_id": 1})).await;
    invalidate(&app, json!({"product_id": 1, "name": "Laptop", "stock": 50, "version": 5})).await;
    invalidate(&app, json!({"product_id": 1, "reason": "fields of a newer caller are passed over"})).await;
    app.get("/cache/products/1").await.assert_problem(404, None);
    invalidate(&app, json!({"product_id": 1, "name": "Late", "stock": 0, "version": 4})).await;
    app.get("/cache/products/1").await.assert_problem(404, None);
    invalidate(&app, json!({"product_id": 1, "name": "Newer", "stock": 1, "version": 6})).await;
    assert_eq!(app.get("/cache/products/1").await.body["name"], "Newer");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_change_without_a_version_is_taken_and_stands_in_no_later_changes_way() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    for (version, later) in [(0, 1), (1, 2)] {
        invalidate(&app, json!({"product_id": 1, "name": "Unversioned", "stock": 1})).await;
        let expected = json!({"id": 1, "name": "Unversioned", "stock": 1, "version": version});
        assert_eq!(app.get("/cache/products/1").await.body, expected);
        invalidate(&app, json!({"product_id": 1, "name": "Later", "stock": 2, "version": later})).await;
        assert_eq!(app.get("/cache/products/1").await.body["name"], "Later");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    invalidate(&app, json!({"product_id": 1, "name": "Laptop", "stock": 50, "version": 1})).await;
    assert_refuses_bad_bodies(&app, Method::POST, "/invalidate_cache").await;
    assert_refuses_fields(&app, Method::POST, "/invalidate_cache", &BAD_PRODUCT_CHANGES).await;
    assert_refuses_path_ids(&app, "/cache/products", "id").await;
    assert_eq!(app.get("/cache/products/1").await.body["name"], "Laptop");

    let greatest =
        json!({"product_id": i64::MAX, "name": "😀".repeat(4096), "stock": i64::MAX, "version": i64::MAX});
    invalidate(&app, greatest).await;
    invalidate(&app, json!({"product_id": i64::MAX, "name": "after the greatest", "stock": 1})).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn it_serves_without_a_database() {
    let sandbox = Sandbox::new().await;
    let none = ["--database-url=postgres://nobody@127.0.0.1:1/none"];
    let app = sandbox.start(ABOUT, Mode::Sync, &none, |deps, own| sync::service(&deps, &own)).await;
    invalidate(&app, json!({"product_id": 1, "name": "Laptop", "stock": 50, "version": 1})).await;
    assert_eq!(app.get("/cache/products/1").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_version_that_is_cached_with_other_contents_is_refused() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let stored = json!({"product_id": 20, "name": "Teapot", "stock": 5, "version": 2});
    invalidate(&app, stored.clone()).await;
    for (field, value) in [("name", json!("Kettle")), ("stock", json!(6))] {
        let mut other = stored.clone();
        other[field] = value;
        app.post("/invalidate_cache", other).await.assert_problem(409, None);
    }
    invalidate(&app, stored).await;
    invalidate(&app, json!({"product_id": 20, "name": "Teapot", "version": 2})).await;
    let cached = json!({"id": 20, "name": "Teapot", "stock": 5, "version": 2});
    assert_eq!(app.get("/cache/products/20").await.body, cached);
    app.stop().await;
    sandbox.close().await;
}
