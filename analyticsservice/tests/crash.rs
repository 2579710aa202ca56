//! Wherever the process dies: a click that was answered is stored, once.
#![cfg(all(feature = "sync", feature = "async"))]

use std::collections::HashMap;

use common::testing::{Program, Sandbox, eventually};
use common::{Context, Mode};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

const BIN: &str = env!("CARGO_BIN_EXE_analyticsservice");
const QUEUE: &str = "click_tracked_queue";

/// Tracks so many clicks at once, each on a page of its own: those pages whose click was answered.
async fn track(program: &Program, clicks: usize) -> Vec<String> {
    track_on(program, clicks, "page").await
}

async fn track_on(program: &Program, clicks: usize, kind: &str) -> Vec<String> {
    let all = (0..clicks).map(|n| async move {
        let page = format!("/{kind}/{n}");
        let reply = program.try_post("/track_click", None, json!({"user_id": 1, "page": page})).await;
        reply.filter(|reply| reply.status == 200).map(|_| page)
    });
    join_all(all).await.into_iter().flatten().collect()
}

async fn stored(sandbox: &Sandbox) -> HashMap<String, i64> {
    let select = sqlx::query_as("SELECT page, count(*) FROM clicks GROUP BY page");
    select.fetch_all(&sandbox.pool().await).await.expect("clicks").into_iter().collect()
}

/// Waits until every acknowledged click is stored and no more follow; each click is stored once.
async fn each_is_stored_once(sandbox: &Sandbox, answered: &[String], point: &str) {
    let all_there = async || {
        let stored = stored(sandbox).await;
        answered.iter().all(|page| stored.contains_key(page))
    };
    eventually("what was answered is stored", all_there).await;
    eventually("the queue is empty", async || sandbox.messages(QUEUE).await.is_empty()).await;
    for (page, times) in stored(sandbox).await {
        assert_eq!(times, 1, "{point}: {page}");
    }
}

#[tokio::test]
async fn every_click_that_was_answered_is_stored_once_wherever_the_process_dies() {
    for point in ["after_publish_before_confirm:2", "mid_batch", "mid_batch:2", "before_ack", "before_ack:2"]
    {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", point)]).await;
        let answered = track(&program, 200).await;
        program.died().await;
        let _again = sandbox.spawn(BIN, Mode::Async, &[]).await;
        each_is_stored_once(&sandbox, &answered, point).await;
        sandbox.close().await;
    }
}

#[tokio::test]
async fn every_packed_click_that_was_answered_is_stored_once_wherever_the_process_dies() {
    for point in
        ["after_publish_before_confirm", "after_publish_before_confirm:2", "before_ack", "before_ack:2"]
    {
        let sandbox = Sandbox::new().await;
        let env = [("CLICK_PACKING", "on"), ("FAILPOINT", point)];
        let program = sandbox.spawn(BIN, Mode::Async, &env).await;
        let mut answered = Vec::new();
        for round in ["a", "b"] {
            answered.extend(track_on(&program, 200, round).await);
        }
        program.died().await;
        let _again = sandbox.spawn(BIN, Mode::Async, &env[..1]).await;
        each_is_stored_once(&sandbox, &answered, point).await;
        sandbox.close().await;
    }
}

/// One message with more clicks than a statement stores.
#[tokio::test]
async fn a_pack_of_which_a_part_was_stored_when_the_process_died_is_stored_once() {
    let sandbox = Sandbox::new().await;
    drop(sandbox.spawn(BIN, Mode::Async, &[]).await);
    let click = |n: usize| {
        let page = format!("/page/{n}");
        json!({"context": Context::fresh(), "click": {"event_id": Uuid::now_v7(), "user_id": 1, "page": page}})
    };
    let pack: Vec<Value> = (0..2500).map(click).collect();
    sandbox.publish_raw("", QUEUE, &json!(pack).to_string(), "pack").await;
    sandbox.spawn_unready(BIN, Mode::Async, &[("FAILPOINT", "mid_batch")]).await.died().await;
    assert_eq!(stored(&sandbox).await.len(), 1000, "a part");
    let _again = sandbox.spawn(BIN, Mode::Async, &[]).await;
    eventually("the rest is stored", async || stored(&sandbox).await.len() == pack.len()).await;
    eventually("the queue is empty", async || sandbox.messages(QUEUE).await.is_empty()).await;
    assert!(stored(&sandbox).await.values().all(|times| *times == 1));
    sandbox.close().await;
}

#[tokio::test]
async fn in_sync_mode_an_answer_means_stored() {
    let sandbox = Sandbox::new().await;
    for packing in ["off", "on"] {
        let env = [("CLICK_PACKING", packing), ("FAILPOINT", "before_reply:50")];
        let program = sandbox.spawn(BIN, Mode::Sync, &env).await;
        let answered = track_on(&program, 100, packing).await;
        program.died().await;
        let stored = stored(&sandbox).await;
        assert!(answered.iter().all(|page| stored.get(page) == Some(&1)), "{} answered", answered.len());
    }
    sandbox.close().await;
}
