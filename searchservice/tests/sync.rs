//! searchservice in sync mode, against a real database.
#![cfg(feature = "sync")]

mod search;

use common::Mode;
use common::testing::{
    BAD_PRODUCT_CHANGES, Method, Sandbox, TestApp, assert_refuses_bad_bodies, assert_refuses_fields,
    assert_serves_common_paths, eventually,
};
use futures_util::future::join_all;
use search::{found, hit};
use searchservice::{ABOUT, sync};
use serde_json::{Value, json};

async fn start(sandbox: &Sandbox) -> TestApp {
    sandbox.start(ABOUT, Mode::Sync, &[], |deps, own| sync::service(&deps, &own)).await
}

async fn reindex(app: &TestApp, change: Value) {
    let reply = app.post("/reindex", change).await;
    assert_eq!((reply.status, &reply.body), (200, &json!({"status": "ok"})), "{}", reply.text);
}

#[tokio::test]
async fn the_products_of_an_installation_are_found_by_word_and_prefix_in_any_case() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;
    search::assert_finds_the_seed(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_product_is_found_by_all_the_words_of_a_query_the_last_of_which_may_be_unfinished() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    reindex(&app, json!({"product_id": 10, "name": "Gaming Laptop 17", "stock": 1, "version": 1})).await;
    search::assert_finds_words_of_a_name(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn no_query_is_odd_enough_to_fail() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    search::assert_survives_odd_queries(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_older_change_never_overwrites_a_newer_one_in_whatever_order_they_arrive() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let changes = [4, 2, 7, 3, 7, 1, 6, 5].map(|version| {
        let name = format!("Versioned {version}");
        app.post("/reindex", json!({"product_id": 20, "name": name, "stock": version, "version": version}))
    });
    assert!(join_all(changes).await.iter().all(|reply| reply.status == 200));
    let expected = json!({"product_id": 20, "name": "Versioned 7", "stock": 7, "version": 7});
    assert_eq!(hit(&app, "versioned").await, expected);
    reindex(&app, json!({"product_id": 20, "name": "Late", "stock": 0, "version": 6})).await;
    assert_eq!(hit(&app, "versioned").await, expected);
    assert_eq!(found(&app, "late").await, [0; 0]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_call_that_names_only_the_product_changes_nothing_and_stands_in_no_later_changes_way() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let before = hit(&app, "laptop").await;
    for id in [1, 30] {
        reindex(&app, json!({"product_id": id})).await;
        reindex(&app, json!({"product_id": id, "reason": "fields of a newer caller are passed over"})).await;
    }
    assert_eq!(hit(&app, "laptop").await, before);
    reindex(&app, json!({"product_id": 1, "name": "Ultrabook", "stock": 9, "version": 2})).await;
    reindex(&app, json!({"product_id": 30, "name": "Ultrabook Sleeve", "stock": 9, "version": 1})).await;
    assert_eq!(found(&app, "ultrabook").await, [30, 1]);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_change_without_a_version_is_taken_and_stands_in_no_later_changes_way() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    reindex(&app, json!({"product_id": 1, "name": "Netbook"})).await;
    assert_eq!(hit(&app, "netbook").await["stock"], 50, "what is not said stays");
    reindex(&app, json!({"product_id": 1, "stock": 3})).await;
    assert_eq!(hit(&app, "netbook").await["stock"], 3);
    reindex(&app, json!({"product_id": 1, "name": "Ultrabook", "stock": 9, "version": 2})).await;
    assert_eq!(hit(&app, "ultrabook").await["stock"], 9);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    assert_refuses_bad_bodies(&app, Method::POST, "/reindex").await;
    assert_refuses_fields(&app, Method::POST, "/reindex", &BAD_PRODUCT_CHANGES).await;
    search::assert_finds_the_seed(&app).await;

    // The limits themselves are no bad input, and what follows the greatest version is answered too.
    let longest = "éééééé😀 ".repeat(512);
    let greatest = json!({"product_id": i64::MAX, "name": longest, "stock": i64::MAX, "version": i64::MAX});
    reindex(&app, greatest).await;
    reindex(&app, json!({"product_id": i64::MAX, "stock": 1})).await;
    assert_eq!(found(&app, "éééééé😀").await, [i64::MAX]);
    // A word of this length is stored, but not to be found: it is too long for PostgreSQL's index.
    reindex(&app, json!({"product_id": 40, "name": "é".repeat(4096), "stock": 1, "version": 1})).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_change_that_takes_its_time_holds_no_connection_and_is_not_applied_before() {
    let sandbox = Sandbox::new().await;
    let for_ever = [("PRODUCT_UPDATE_DELAY_MS", "3600000"), ("DB_POOL_SIZE", "1")];
    let program = sandbox.spawn(env!("CARGO_BIN_EXE_searchservice"), Mode::Sync, &for_ever).await;
    let change = |n| program.try_post("/reindex", None, json!({"product_id": n, "name": "Teapot"}));
    let others = async {
        let in_progress =
            async || program.metric("http_requests_in_progress", &["handler=\"/reindex\""]).await;
        eventually("all have begun", async || in_progress().await == 5.0).await;
        program.get("/search?q=teapot").await
    };
    tokio::select! {
        _ = join_all((10..15).map(change)) => panic!("answered before it was applied"),
        found = others => assert_eq!((found.status, &found.body), (200, &json!([])), "{}", found.text),
    }
    drop(program);
    sandbox.close().await;
}

#[tokio::test]
async fn a_version_that_is_indexed_with_other_contents_is_refused() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox).await;
    let stored = json!({"product_id": 20, "name": "Teapot", "stock": 5, "version": 2});
    reindex(&app, stored.clone()).await;
    for (field, value) in [("name", json!("Kettle")), ("stock", json!(6))] {
        let mut other = stored.clone();
        other[field] = value;
        app.post("/reindex", other).await.assert_problem(409, None);
    }
    reindex(&app, stored.clone()).await;
    reindex(&app, json!({"product_id": 20, "name": "Teapot", "version": 2})).await;
    assert_eq!(hit(&app, "teapot").await, stored);
    app.stop().await;
    sandbox.close().await;
}
