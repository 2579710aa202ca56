//! What becomes of an event whose handler fails: tried again, set aside, or left waiting.

use std::panic::panic_any;

use common::Context;
use common::bus::{Consumers, HandlerError, Incoming, Message, Outcome, consumer};
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::testing::eventually;

use super::broker::sandbox;
use super::{QUEUE, Seen, delayed, note, publish, put, set_aside, start, user, waiting};

async fn note_all(seen: Seen, users: Vec<Incoming<UserRegistered>>) -> Result<Vec<Outcome>, HandlerError> {
    users.iter().for_each(|user| seen.note(user, user.user_id));
    Ok(vec![Outcome::Applied; users.len()])
}

#[tokio::test]
async fn what_fails_once_is_tried_again_in_the_same_workflow() {
    async fn fail_first(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        if seen.times(user.user_id) == 1 {
            Err(HandlerError::Retry(anyhow::anyhow!("not yet")))
        } else {
            Ok(Outcome::Applied)
        }
    }
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, fail_first))).await;
    publish(&bus, [1]).await;
    eventually("it is tried again", async || seen.numbers().len() == 2).await;
    app.stop().await;
    let seen = seen.0.lock().unwrap().clone();
    assert_eq!(seen[0], seen[1]);
    assert_eq!((waiting(&sandbox, QUEUE).await, set_aside(&sandbox, QUEUE).await.len()), (0, 0));
    sandbox.close().await;
}

#[tokio::test]
async fn what_does_not_parse_is_set_aside_at_once_and_its_neighbours_are_served() {
    const POISON: [&str; 4] = ["not JSON", "{}", r#"{"user_id":"private"}"#, ""];
    for batch in [1, 50] {
        let (sandbox, seen) = (sandbox().await, Seen::default());
        let (app, bus) = start(&sandbox, Consumers::of(())).await;
        for (number, poison) in POISON.iter().enumerate() {
            bus.publish(&user(number as i64 + 1)).await.unwrap();
            put(&sandbox, QUEUE, poison, &format!("by hand {number}")).await;
        }
        app.stop().await;
        let consumers = Consumers::of(seen.clone());
        let consumers = match batch {
            1 => consumers.with(consumer(USER_REGISTERED_QUEUE, note)),
            _ => consumers.with(consumer(USER_REGISTERED_QUEUE, note_all).batch(batch)),
        };
        let (app, _) = start(&sandbox, consumers).await;
        eventually("they are set aside", async || set_aside(&sandbox, QUEUE).await.len() == POISON.len())
            .await;
        eventually("the others are handled", async || seen.numbers().len() == POISON.len()).await;
        let mut asides = set_aside(&sandbox, QUEUE).await;
        asides.sort_by(|one, other| one.message_id.cmp(&other.message_id));
        for (number, aside) in asides.iter().enumerate() {
            assert_eq!((&*aside.message_id, &*aside.body), (&*format!("by hand {number}"), POISON[number]));
            assert!(
                aside.reason.contains("does not parse") && !aside.reason.contains("private"),
                "{aside:?}"
            );
            assert_eq!(aside.attempt, 1);
        }
        app.stop().await;
        assert_eq!(
            (waiting(&sandbox, QUEUE).await, delayed(&sandbox).await),
            (0, 0),
            "they are nowhere else"
        );
        let mut numbers = seen.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4], "each once");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn what_breaks_a_rule_is_set_aside_at_once_with_the_field_and_its_neighbours_are_served() {
    const BAD: [(&str, &str); 3] = [
        ("user_id", r#"{"user_id":-5,"email":"ada@example.org"}"#),
        ("email", r#"{"user_id":7,"email":"no address"}"#),
        ("email", r#"{"user_id":7,"email":"ada@example.org\r\nBcc: eve@example.org"}"#),
    ];
    for batch in [1, 50] {
        let (sandbox, seen) = (sandbox().await, Seen::default());
        let (app, bus) = start(&sandbox, Consumers::of(())).await;
        for (number, (_, bad)) in BAD.iter().enumerate() {
            bus.publish(&user(number as i64 + 1)).await.unwrap();
            put(&sandbox, QUEUE, bad, &format!("by hand {number}")).await;
        }
        app.stop().await;
        let consumers = Consumers::of(seen.clone());
        let consumers = match batch {
            1 => consumers.with(consumer(USER_REGISTERED_QUEUE, note)),
            _ => consumers.with(consumer(USER_REGISTERED_QUEUE, note_all).batch(batch)),
        };
        let (app, _) = start(&sandbox, consumers).await;
        eventually("they are set aside", async || set_aside(&sandbox, QUEUE).await.len() == BAD.len()).await;
        eventually("the others are handled", async || seen.numbers().len() == BAD.len()).await;
        for aside in set_aside(&sandbox, QUEUE).await {
            let (field, body) = BAD.iter().find(|(_, body)| *body == aside.body).expect("one of them");
            assert!(aside.reason.contains(&format!("UserRegistered: {field}")), "{body}: {}", aside.reason);
            assert!(!aside.reason.contains("ada"), "{}", aside.reason);
            assert_eq!(aside.attempt, 1);
        }
        app.stop().await;
        let mut numbers = seen.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3], "each once");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn what_is_rejected_is_set_aside_at_once_with_its_reason() {
    async fn reject(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        if user.user_id == 1 {
            Err(HandlerError::Reject(anyhow::anyhow!("never")))
        } else {
            Ok(Outcome::Applied)
        }
    }
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, reject))).await;
    let message = Message::of(&user(1), Context::fresh()).unwrap();
    let (id, workflow, body) = (message.id.clone(), message.context.workflow.clone(), message.body.clone());
    bus.send(message).await.unwrap();
    publish(&bus, [2]).await;
    eventually("it is set aside", async || !set_aside(&sandbox, QUEUE).await.is_empty()).await;
    eventually("the next is handled", async || seen.times(2) == 1).await;
    let aside = set_aside(&sandbox, QUEUE).await.remove(0);
    assert_eq!((aside.attempt, &*aside.reason), (1, "never"));
    // Otherwise as it came.
    assert_eq!((aside.message_id, aside.workflow), (id, workflow));
    assert_eq!((&*aside.event, aside.body.as_bytes()), ("UserRegistered", &body[..]));
    app.stop().await;
    assert_eq!(seen.times(1), 1, "tried once");
    sandbox.close().await;
}

#[tokio::test]
async fn a_panic_in_a_handler_takes_nothing_else_down() {
    async fn panic_first(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        if user.user_id == 1 && seen.times(1) == 1 {
            panic_any("on purpose");
        }
        Ok(Outcome::Applied)
    }
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, panic_first))).await;
    publish(&bus, [1, 2, 3]).await;
    eventually("the others are handled", async || seen.times(2) == 1 && seen.times(3) == 1).await;
    assert_eq!(app.get("/ready").await.status, 200);
    eventually("and it is tried again", async || seen.times(1) == 2).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn while_something_is_away_an_event_waits_at_its_place_and_no_attempt_is_counted() {
    async fn away_thrice(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        if seen.times(1) <= 3 {
            Err(HandlerError::Unavailable(anyhow::anyhow!("away")))
        } else {
            Ok(Outcome::Applied)
        }
    }
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, bus) = start(
        &sandbox,
        Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, away_thrice).concurrency(1)),
    )
    .await;
    bus.publish(&user(1)).await.unwrap();
    eventually("the first is handled", async || seen.times(1) > 0).await;
    bus.publish(&user(2)).await.unwrap();
    eventually("the second", async || seen.times(2) == 1).await;
    app.stop().await;
    assert_eq!(seen.numbers(), [1, 1, 1, 1, 2], "a retry would have let the second one pass");
    sandbox.close().await;
}
