//! A broker that takes no messages for lack of memory or disk: what can be answered is refused at once, nothing piles up, and
//! all continues when the alarm is over.

use common::Context;
use std::sync::Arc;
use std::time::Duration;

use common::bus::{Bus, Consumers, HandlerError, Incoming, Message, Outcome, PublishError, consumer};
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::testing::{Sandbox, TestApp, eventually};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::own_broker::OwnBroker;
use super::traffic::Traffic;
use super::{Gated, Seen, note, publish, start_with, user};

/// More than any buffer on the way holds.
const MANY: i64 = 2000;

async fn offer(bus: &Bus, number: i64) -> Result<(), PublishError> {
    bus.send(Message::of(&user(number), Context::fresh()).expect("JSON")).await
}

async fn assert_refuses(app: &TestApp) {
    let refused = app.post("/users", serde_json::Value::Null).await;
    refused.assert_problem(503, None);
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.text.contains("alarm"), "{}", refused.text);
}

#[tokio::test]
async fn under_an_alarm_every_publish_is_refused_at_once_and_afterwards_all_goes_on() {
    let (sandbox, traffic, broker) = (Sandbox::new().await, Traffic::default(), OwnBroker::start().await);
    let (app, bus) = start_with(&sandbox, &broker.settings(), traffic.consumers()).await;
    let trouble = async {
        traffic.goes_on().await;
        broker.raise_alarm();
        // What was on its way when the alarm came may be unknown; then each answer is at once and plain.
        eventually("it refuses", async || offer(&bus, 0).await == Err(PublishError::Blocked)).await;
        let refused = join_all((0..MANY).map(|_| offer(&bus, 0))).await;
        assert!(refused.iter().all(|refused| *refused == Err(PublishError::Blocked)), "{refused:?}");
        assert_refuses(&app).await;
        assert_eq!(app.get("/health").await.status, 200);
        broker.clear_alarm();
        eventually("it accepts", async || app.post("/users", serde_json::Value::Null).await.status == 200)
            .await;
        traffic.goes_on().await;
    };
    traffic.allow(0);
    traffic.run(&bus, trouble).await;
    traffic.settle().await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_service_that_starts_under_an_alarm_refuses_from_the_first_publish_on() {
    let (sandbox, seen, broker) = (Sandbox::new().await, Seen::default(), OwnBroker::start().await);
    broker.raise_alarm();
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note));
    let (app, bus) = start_with(&sandbox, &broker.settings(), consumers).await;
    assert_eq!(offer(&bus, 1).await, Err(PublishError::Blocked));
    assert_refuses(&app).await;
    broker.clear_alarm();
    eventually("it accepts", async || offer(&bus, 2).await.is_ok()).await;
    publish(&bus, 3..=100).await;
    eventually("all of them", async || seen.numbers().len() >= 99).await;
    app.stop().await;
    let mut numbers = seen.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=100).collect::<Vec<_>>(), "what was refused never comes");
    sandbox.close().await;
}

/// It can neither be tried again nor set aside now: both need a copy of it.
#[tokio::test]
async fn what_fails_under_an_alarm_waits_for_its_end_and_is_not_handled_again_and_again() {
    async fn fail_first(
        Gated(seen, gate): Gated,
        user: Incoming<UserRegistered>,
    ) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        if seen.times(user.user_id) > 1 {
            return Ok(Outcome::Applied);
        }
        gate.acquire().await.map_err(HandlerError::retry)?.forget();
        Err(HandlerError::Retry(anyhow::anyhow!("not yet")))
    }
    let (sandbox, seen, broker) = (Sandbox::new().await, Seen::default(), OwnBroker::start().await);
    let gate = Arc::new(Semaphore::new(0));
    let work = Gated(seen.clone(), Arc::clone(&gate));
    let consumers = Consumers::of(work).with(consumer(USER_REGISTERED_QUEUE, fail_first));
    let (app, bus) = start_with(&sandbox, &broker.settings(), consumers).await;
    publish(&bus, [1]).await;
    eventually("it is at work", async || seen.times(1) == 1).await;
    broker.raise_alarm();
    eventually("the alarm is noticed", async || offer(&bus, 2).await == Err(PublishError::Blocked)).await;
    gate.add_permits(1);
    // Longer than a connection takes to be built anew.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((seen.times(1), app.get("/ready").await.status), (1, 200));
    broker.clear_alarm();
    eventually("it is tried again", async || seen.times(1) == 2).await;
    app.stop().await;
    sandbox.close().await;
}
