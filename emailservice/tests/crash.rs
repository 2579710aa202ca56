//! Wherever the process dies on the way of a welcome e-mail: it is recorded once.
#![cfg(all(feature = "sync", feature = "async"))]

use common::Mode;
use common::events::UserRegistered;
use common::testing::Sandbox;
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_emailservice");
const QUEUE: &str = "user_registered_queue";
const AT_ONCE: (&str, &str) = ("EMAIL_DELAY_MS", "0");

#[tokio::test]
async fn an_event_that_was_cut_off_comes_again_and_is_applied_once() {
    for (point, what_comes_again) in
        [("before_commit", "ok"), ("after_commit", "duplicate"), ("before_ack", "duplicate")]
    {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[AT_ONCE, ("FAILPOINT", point)]).await;
        let event = UserRegistered { user_id: 1, email: "ada@example.org".into() };
        sandbox.publish(&event, "the-event").await;
        program.died().await;

        let program = sandbox.spawn(BIN, Mode::Async, &[AT_ONCE]).await;
        assert_eq!(program.settled(QUEUE, 1).await, [what_comes_again], "{point}");
        assert_eq!(program.get("/emails?user_id=1").await.body.as_array().unwrap().len(), 1, "{point}");
        let once = |subject: &str| vec![(subject.to_owned(), 1)];
        assert_eq!(sandbox.witnessed("effect:email").await, once("1"), "{point}");
        assert_eq!(sandbox.witnessed(&format!("applied:{QUEUE}")).await, once("the-event"), "{point}");
        sandbox.close().await;
    }
}

/// A poison message is in the dead-letter queue before it leaves the queue it was read from.
#[tokio::test]
async fn a_message_that_is_being_set_aside_is_never_lost() {
    let sandbox = Sandbox::new().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", "after_aside_before_ack")]).await;
    sandbox.publish_raw("", QUEUE, "{", "poison").await;
    program.died().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
    assert_eq!(program.settled(QUEUE, 1).await, ["dead"]);
    assert_eq!(
        sandbox.messages(&format!("{QUEUE}.dlq")).await.len(),
        2,
        "the copy, and one more after the crash"
    );
    assert_eq!(sandbox.messages(QUEUE).await.len(), 0);
    sandbox.close().await;
}

#[tokio::test]
async fn in_sync_mode_a_repeated_call_finds_what_the_first_one_left() {
    for point in ["before_commit", "after_commit", "before_reply"] {
        let sandbox = Sandbox::new().await;
        let call = json!({"user_id": 1, "email": "ada@example.org"});
        let program = sandbox.spawn(BIN, Mode::Sync, &[AT_ONCE, ("FAILPOINT", point)]).await;
        assert!(program.try_post("/send_welcome_email", None, call.clone()).await.is_none(), "{point}");
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Sync, &[AT_ONCE]).await;
        assert_eq!(program.post("/send_welcome_email", call).await.status, 200, "{point}");
        assert_eq!(sandbox.witnessed("effect:email").await, [("1".to_owned(), 1)], "{point}");
        sandbox.close().await;
    }
}
