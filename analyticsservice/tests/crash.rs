//! Wherever the process dies: a click that was answered is stored, once.
#![cfg(all(feature = "sync", feature = "async"))]

use std::collections::HashMap;

use common::Mode;
use common::testing::{Program, Sandbox, eventually};
use futures_util::future::join_all;
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_analyticsservice");
const QUEUE: &str = "click_tracked_queue";

/// Tracks so many clicks at once, each on a page of its own: those pages whose click was answered.
async fn track(program: &Program, clicks: usize) -> Vec<String> {
    let all = (0..clicks).map(|n| async move {
        let page = format!("/page/{n}");
        let reply = program.try_post("/track_click", None, json!({"user_id": 1, "page": page})).await;
        reply.filter(|reply| reply.status == 200).map(|_| page)
    });
    join_all(all).await.into_iter().flatten().collect()
}

async fn stored(sandbox: &Sandbox) -> HashMap<String, i64> {
    let select = sqlx::query_as("SELECT page, count(*) FROM clicks GROUP BY page");
    select.fetch_all(&sandbox.pool().await).await.expect("clicks").into_iter().collect()
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
        let all_there = async || {
            let stored = stored(&sandbox).await;
            answered.iter().all(|page| stored.contains_key(page))
        };
        eventually("what was answered is stored", all_there).await;
        eventually("the queue is empty", async || sandbox.messages(QUEUE).await.is_empty()).await;
        for (page, times) in stored(&sandbox).await {
            assert_eq!(times, 1, "{point}: {page}");
        }
        sandbox.close().await;
    }
}

#[tokio::test]
async fn in_sync_mode_an_answer_means_stored() {
    let sandbox = Sandbox::new().await;
    let program = sandbox.spawn(BIN, Mode::Sync, &[("FAILPOINT", "before_reply:50")]).await;
    let answered = track(&program, 100).await;
    program.died().await;
    let stored = stored(&sandbox).await;
    assert!(answered.iter().all(|page| stored.get(page) == Some(&1)), "{} answered", answered.len());
    sandbox.close().await;
}
