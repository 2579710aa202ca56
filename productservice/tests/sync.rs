//! productservice in sync mode, against a real database; its three receivers are stubs.
#![cfg(feature = "sync")]

mod products;

use std::sync::{Arc, Mutex};

use common::Mode;
use common::testing::{Peer, Sandbox, TestApp, assert_serves_common_paths, closed_port, stub_peer};
use productservice::{ABOUT, sync};
use serde_json::{Value, json};

/// What the receivers were told, in order.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver that records its requests and answers with this status.
async fn receiver(calls: &Calls, status: u16) -> String {
    let calls = Arc::clone(calls);
    stub_peer(move |path, body| {
        calls.lock().expect("no panic while it was held").push((path, body));
        std::future::ready((status, json!({"status": "ok"})))
    })
    .await
}

/// A receiver that takes the call and never answers.
async fn silent() -> String {
    stub_peer(|_, _| std::future::pending()).await
}

async fn start(sandbox: &Sandbox, peers: [&str; 3]) -> TestApp {
    start_with(sandbox, peers, &["--call-timeout-ms=300"]).await
}

async fn start_with(sandbox: &Sandbox, [search, cache, analytics]: [&str; 3], more: &[&str]) -> TestApp {
    let peers = [
        format!("--search-service-url={search}"),
        format!("--cache-service-url={cache}"),
        format!("--analytics-service-url={analytics}"),
    ];
    let settings = [&peers.each_ref().map(String::as_str), more].concat();
    sandbox.start(ABOUT, Mode::Sync, &settings, |deps, own| sync::service(&deps, &own)).await
}

/// A service whose receivers all do what they are told.
async fn start_told(sandbox: &Sandbox) -> (TestApp, Calls) {
    let calls = Calls::default();
    let peer = receiver(&calls, 200).await;
    (start(sandbox, [&peer, &peer, &peer]).await, calls)
}

#[tokio::test]
async fn an_installation_starts_with_three_products() {
    let sandbox = Sandbox::new().await;
    let (app, _) = start_told(&sandbox).await;
    assert_serves_common_paths(&app, &ABOUT, Mode::Sync).await;
    products::assert_seeded(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_change_is_told_to_search_cache_and_analytics_one_after_the_other() {
    let sandbox = Sandbox::new().await;
    let (app, calls) = start_told(&sandbox).await;
    let reply = app.put("/products/1", json!({"name": "Gaming Laptop", "stock": 42})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.body, json!({"id": 1, "name": "Gaming Laptop", "stock": 42, "version": 2}));

    let told = json!({"product_id": 1, "name": "Gaming Laptop", "stock": 42, "version": 2});
    let expected =
        ["/reindex", "/invalidate_cache", "/log_update"].map(|path| (path.to_owned(), told.clone()));
    assert_eq!(*calls.lock().unwrap(), expected);
    assert_eq!(app.get("/products/1").await.body["name"], "Gaming Laptop");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_call_begins_when_the_one_before_has_been_answered() {
    let sandbox = Sandbox::new().await;
    let at_work = Arc::new(Mutex::new((0, 0)));
    let peer = stub_peer(move |_, _| {
        let at_work = Arc::clone(&at_work);
        async move {
            let now = {
                let mut counts = at_work.lock().unwrap();
                counts.0 += 1;
                counts.0
            };
            // Lets calls that were sent together meet here.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            let mut counts = at_work.lock().unwrap();
            counts.0 -= 1;
            counts.1 += 1;
            (if now == 1 { 200 } else { 500 }, json!({"status": "ok"}))
        }
    })
    .await;
    let app = start(&sandbox, [&peer, &peer, &peer]).await;
    let reply = app.put("/products/2", json!({"stock": 1})).await;
    assert!(reply.body["warnings"].is_null(), "two calls were at work at once: {}", reply.text);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn concurrent_calls_are_all_at_work_at_once_and_one_that_fails_is_a_warning() {
    let sandbox = Sandbox::new().await;
    let all_are_here = Arc::new(tokio::sync::Barrier::new(3));
    let peer = stub_peer(move |path, _| {
        let all_are_here = Arc::clone(&all_are_here);
        async move {
            all_are_here.wait().await;
            (if path == "/invalidate_cache" { 500 } else { 200 }, json!({"status": "ok"}))
        }
    })
    .await;
    let app = start_with(&sandbox, [&peer, &peer, &peer], &["--fanout-calls=concurrent"]).await;
    let reply = app.put("/products/2", json!({"stock": 1})).await;
    let warnings = json!(["cacheservice was not notified"]);
    assert_eq!((reply.status, &reply.body["warnings"]), (200, &warnings), "{}", reply.text);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn of_the_receivers_only_as_many_are_told_as_the_settings_say() {
    for calls in ["--fanout-calls=sequential", "--fanout-calls=concurrent"] {
        let sandbox = Sandbox::new().await;
        let peer = Peer::start(|_, _| std::future::ready((200, json!({"status": "ok"})))).await;
        let peers = [peer.url.as_str(); 3];
        let app = start_with(&sandbox, peers, &["--fanout-width=2", calls]).await;
        let reply = app.put("/products/2", json!({"stock": 1})).await;
        assert!(reply.status == 200 && reply.body["warnings"].is_null(), "{}", reply.text);
        let mut paths = peer.paths();
        paths.sort_unstable();
        assert_eq!(paths, ["/invalidate_cache", "/reindex"], "{calls}");
        app.stop().await;
        sandbox.close().await;
    }
}

#[tokio::test]
async fn a_receiver_that_fails_refuses_is_absent_or_slow_is_a_warning_and_no_failure() {
    let failing = receiver(&Calls::default(), 500).await;
    let refusing = receiver(&Calls::default(), 422).await;
    for bad in [failing, refusing, closed_port().await, silent().await] {
        let sandbox = Sandbox::new().await;
        let calls = Calls::default();
        let good = receiver(&calls, 200).await;
        let app = start(&sandbox, [&good, &bad, &good]).await;
        let reply = app.put("/products/2", json!({"stock": 99})).await;
        assert_eq!((reply.status, &reply.body["stock"]), (200, &json!(99)), "{}", reply.text);
        let warnings = reply.body["warnings"].as_array().expect("warnings");
        assert!(
            warnings.len() == 1 && warnings[0].as_str().unwrap().contains("cacheservice"),
            "{warnings:?}"
        );
        let paths: Vec<String> = calls.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(paths, ["/reindex", "/log_update"], "the others are told all the same");
        assert_eq!(app.get("/products/2").await.body["stock"], 99);
        app.stop().await;
        sandbox.close().await;
    }
}

#[tokio::test]
async fn with_no_receiver_at_all_a_change_is_stored_with_three_warnings() {
    let sandbox = Sandbox::new().await;
    let absent = closed_port().await;
    let app = start(&sandbox, [&absent, &absent, &absent]).await;
    let reply = app.put("/products/3", json!({"name": "Split Keyboard"})).await;
    assert_eq!(
        (reply.status, reply.body["warnings"].as_array().map(Vec::len)),
        (200, Some(3)),
        "{}",
        reply.text
    );
    let created = app.post("/products", json!({"name": "Desk", "stock": 1})).await;
    assert_eq!((created.status, created.body["warnings"].as_array().map(Vec::len)), (201, Some(3)));
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_not_said_stays_and_the_version_grows() {
    let sandbox = Sandbox::new().await;
    let (app, _) = start_told(&sandbox).await;
    products::assert_updates_in_parts(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_new_product_is_stored_and_told() {
    let sandbox = Sandbox::new().await;
    let (app, calls) = start_told(&sandbox).await;
    let id = products::assert_creates(&app).await;
    let told = json!({"product_id": id, "name": "Desk", "stock": 5, "version": 1});
    let calls = calls.lock().unwrap().clone();
    assert!(calls.iter().filter(|(_, body)| *body == told).count() == 3);
    assert_eq!(calls[3].1["name"], products::longest_name(), "as it is, however long");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::new().await;
    let (app, calls) = start_told(&sandbox).await;
    products::assert_refuses_bad_input(&app).await;
    assert!(calls.lock().unwrap().is_empty(), "a refused update is sent to no receiver");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn every_one_of_many_changes_at_once_gets_a_version_of_its_own() {
    let sandbox = Sandbox::new().await;
    let (app, _) = start_told(&sandbox).await;
    products::assert_counts_versions(&app).await;
    app.stop().await;
    sandbox.close().await;
}
