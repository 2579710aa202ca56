//! Wherever the process dies on the way of a registration: the user is there once, announced, and the client's repetition
//! with the same key is answered.
#![cfg(all(feature = "sync", feature = "async"))]

use common::Mode;
use common::testing::{Method, Peer, Program, Reply, Sandbox};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_userservice");
const QUEUE: &str = "user_registered_queue";

async fn register(program: &Program) -> Option<Reply> {
    program.try_post("/register", Some("key"), json!({"email": "ada@example.org"})).await
}

async fn users(program: &Program) -> usize {
    let reply = program.try_request(Method::GET, "/users", &[], None).await.expect("an answer");
    reply.body.as_array().expect("a list").len()
}

#[tokio::test]
async fn a_registration_survives_a_crash_anywhere_between_the_transaction_and_the_outbox() {
    for point in [
        "before_commit",
        "after_commit",
        "before_reply",
        "after_publish_before_confirm",
        "after_confirm_before_delete",
    ] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", point)]).await;
        let answer = register(&program).await;
        program.died().await;

        let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
        let again = register(&program).await.expect("an answer");
        assert_eq!(again.status, 202, "{point}: {}", again.text);
        assert!(answer.is_none_or(|answer| answer.body == again.body), "{point}: another answer than before");
        assert_eq!(users(&program).await, 1, "{point}");
        sandbox.relayed().await;
        assert_eq!(sandbox.message_ids(QUEUE).await.len(), 1, "{point}: one event");
        // What the broker has confirmed and the outbox still remembers is sent again, under the same id.
        if point == "after_confirm_before_delete" {
            assert_eq!(sandbox.messages(QUEUE).await.len(), 2);
        }
        sandbox.close().await;
    }
}

#[tokio::test]
async fn events_that_are_published_together_all_arrive_when_half_of_them_were_sent() {
    let sandbox = Sandbox::new().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", "mid_batch")]).await;
    let all = (0..20)
        .map(|n| program.try_post("/register", None, json!({"email": format!("user{n}@example.org")})));
    futures_util::future::join_all(all).await;
    program.died().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
    sandbox.relayed().await;
    let stored = users(&program).await;
    assert!(stored >= 2, "several were accepted: {stored}");
    assert_eq!(sandbox.message_ids(QUEUE).await.len(), stored);
    sandbox.close().await;
}

#[tokio::test]
async fn in_sync_mode_the_repetition_goes_on_where_the_crash_was() {
    for point in ["before_commit", "after_commit", "before_call", "after_call", "before_reply"] {
        let sandbox = Sandbox::new().await;
        let peer = Peer::start(|_, _| async { (200, json!({"status": "ok", "email_id": 1})) }).await;
        let address = ("EMAIL_SERVICE_URL", peer.url.as_str());
        let program = sandbox.spawn(BIN, Mode::Sync, &[address, ("FAILPOINT", point)]).await;
        assert!(register(&program).await.is_none(), "{point}: it died before it could answer");
        program.died().await;

        let program = sandbox.spawn(BIN, Mode::Sync, &[address]).await;
        sandbox.lease_ends().await;
        let again = register(&program).await.expect("an answer");
        assert_eq!(again.status, 201, "{point}: {}", again.text);
        assert_eq!(again.body["warnings"], json!(null), "{point}: {}", again.text);
        assert_eq!(users(&program).await, 1, "{point}");
        assert!(!peer.calls().is_empty(), "{point}: the e-mail was asked for");
        sandbox.close().await;
    }
}
