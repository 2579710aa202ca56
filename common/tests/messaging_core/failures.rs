//! What becomes of an event whose handler fails: tried again, set aside, or left waiting.

use std::panic::panic_any;

use common::Context;
use common::bus::{Consumers, Handled, HandlerError, Incoming, Message};
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::testing::{Sandbox, eventually};

use super::{QUEUE, Seen, publish, start, user};

#[tokio::test]
async fn what_fails_once_is_tried_again_in_the_same_workflow() {
    async fn fail_first(seen: Seen, user: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
        seen.note(&user, user.user_id);
        if seen.times(user.user_id) == 1 {
            Err(HandlerError::Retry(anyhow::anyhow!("not yet")))
        } else {
            Ok(Handled::Applied)
        }
    }
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, bus) = start(&sandbox, Consumers::of(seen.clone()).on(USER_REGISTERED_QUEUE, fail_first)).await;
    publish(&bus, [1]).await;
    eventually("it is tried again", async || seen.numbers().len() == 2).await;
    app.stop().await;
    let seen = seen.0.lock().unwrap().clone();
    assert_eq!(seen[0], seen[1]);
    for queue in [QUEUE.to_owned(), format!("{QUEUE}.dlq")] {
        assert_eq!(sandbox.messages(&queue).await.len(), 0, "{queue}");
    }
    sandbox.close().await;
}

#[tokio::test]
async fn what_fails_again_waits_longer_and_carries_its_attempts_and_reason() {
    async fn fail(seen: Seen, user: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
        seen.note(&user, user.user_id);
        Err(HandlerError::Retry(anyhow::anyhow!("reason {}", seen.times(user.user_id))))
    }
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, bus) = start(&sandbox, Consumers::of(seen.clone()).on(USER_REGISTERED_QUEUE, fail)).await;
    publish(&bus, [1]).await;
    eventually("it waits 10 s", async || !sandbox.messages("retry_10s_queue").await.is_empty()).await;
    let message = sandbox.messages("retry_10s_queue").await.remove(0);
    let headers = &message["properties"]["headers"];
    assert_eq!(
        (headers["x-attempt"].as_str(), headers["x-reason"].as_str()),
        (Some("2"), Some("reason 2")),
        "{headers}"
    );
    assert!(headers["x-first-failed-at"].as_str().unwrap().parse::<i64>().is_ok(), "{headers}");
    assert_eq!(seen.times(1), 2);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_rejected_is_set_aside_at_once_with_its_reason() {
    async fn reject(seen: Seen, user: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
        seen.note(&user, user.user_id);
        if user.user_id == 1 {
            Err(HandlerError::Reject(anyhow::anyhow!("never")))
        } else {
            Ok(Handled::Applied)
        }
    }
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, bus) = start(&sandbox, Consumers::of(seen.clone()).on(USER_REGISTERED_QUEUE, reject)).await;
    let message = Message::of(&user(1), Context::fresh()).unwrap();
    let (id, workflow, body) =
        (message.id.to_string(), message.context.workflow.clone(), message.body.clone());
    bus.send(message).await.unwrap();
    publish(&bus, [2]).await;
    let dead = format!("{QUEUE}.dlq");
    eventually("it is set aside", async || !sandbox.messages(&dead).await.is_empty()).await;
    eventually("the next is handled", async || seen.times(2) == 1).await;
    let aside = sandbox.messages(&dead).await.remove(0);
    let properties = &aside["properties"];
    let headers = &properties["headers"];
    assert_eq!(
        (headers["x-attempt"].as_str(), headers["x-reason"].as_str()),
        (Some("1"), Some("never")),
        "{headers}"
    );
    assert!(headers["x-first-failed-at"].as_str().unwrap().parse::<i64>().is_ok(), "{headers}");
    // Otherwise as it came.
    assert_eq!(
        (properties["message_id"].as_str(), properties["correlation_id"].as_str()),
        (Some(&*id), Some(&*workflow))
    );
    assert_eq!(
        (properties["type"].as_str(), &aside["payload"].as_str().unwrap().as_bytes()),
        (Some("UserRegistered"), &&body[..])
    );
    app.stop().await;
    assert_eq!(seen.times(1), 1, "tried once");
    sandbox.close().await;
}

#[tokio::test]
async fn a_panic_in_a_handler_takes_nothing_else_down() {
    async fn panic_first(seen: Seen, user: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
        seen.note(&user, user.user_id);
        if user.user_id == 1 && seen.times(1) == 1 {
            panic_any("on purpose");
        }
        Ok(Handled::Applied)
    }
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).on(USER_REGISTERED_QUEUE, panic_first)).await;
    publish(&bus, [1, 2, 3]).await;
    eventually("the others are handled", async || seen.times(2) == 1 && seen.times(3) == 1).await;
    assert_eq!(app.get("/ready").await.status, 200);
    eventually("and it is tried again", async || seen.times(1) == 2).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn while_something_is_away_an_event_waits_at_its_place_and_no_attempt_is_counted() {
    async fn away_thrice(seen: Seen, user: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
        seen.note(&user, user.user_id);
        if seen.times(1) <= 3 {
            Err(HandlerError::Away(anyhow::anyhow!("away")))
        } else {
            Ok(Handled::Applied)
        }
    }
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).on_with(1, USER_REGISTERED_QUEUE, away_thrice)).await;
    bus.publish(&user(1)).await.unwrap();
    bus.publish(&user(2)).await.unwrap();
    eventually("the second", async || seen.times(2) == 1).await;
    app.stop().await;
    assert_eq!(seen.numbers(), [1, 1, 1, 1, 2], "a retry would have let the second one pass");
    sandbox.close().await;
}
