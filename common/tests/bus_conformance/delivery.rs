//! Who gets an event, when a publish counts, and what a stop leaves.

use std::sync::Arc;
use std::time::Duration;

use common::Context;
use common::bus::{Address, Consumers, HandlerError, Incoming, Message, Outcome, PublishError, consumer};
use common::events::{
    ANALYTICS_PRODUCT_UPDATES_QUEUE, CACHE_PRODUCT_UPDATES_QUEUE, Event, ProductUpdated,
    SEARCH_PRODUCT_UPDATES_QUEUE, USER_REGISTERED_QUEUE, UserRegistered,
};
use common::testing::eventually;
use contract::Service;
use contract::events::{Destination, Queue};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::broker::{SETTLES_EACH, sandbox};
use super::{Gated, QUEUE, Seen, at_gate, note, publish, start, user, waiting};

#[tokio::test]
async fn each_queue_of_a_fanout_sees_each_event_once() {
    async fn note(seen: Seen, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
        seen.note(&product, product.version);
        Ok(Outcome::Applied)
    }
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let consumers = Consumers::of(seen.clone())
        .with(consumer(SEARCH_PRODUCT_UPDATES_QUEUE, note))
        .with(consumer(CACHE_PRODUCT_UPDATES_QUEUE, note))
        .with(consumer(ANALYTICS_PRODUCT_UPDATES_QUEUE, note));
    let (app, bus) = start(&sandbox, consumers).await;
    for version in 1..=50 {
        let product = ProductUpdated { product_id: 1, name: "Laptop".into(), stock: 5, version };
        bus.publish(&product).await.unwrap();
    }
    eventually("all of them", async || seen.numbers().len() >= 150).await;
    app.stop().await;
    let mut all: Vec<_> =
        seen.0.lock().unwrap().iter().map(|(queue, version, _)| (*queue, *version)).collect();
    all.sort_unstable();
    let expected = ["analytics", "cache", "search"].map(|name| (1..=50).map(move |version| (name, version)));
    assert!(
        all.iter()
            .map(|(queue, version)| (queue.split('_').next().unwrap(), *version))
            .eq(expected.into_iter().flatten())
    );
    sandbox.close().await;
}

#[tokio::test]
async fn two_instances_share_a_queue() {
    let (sandbox, one, two) = (sandbox().await, Seen::default(), Seen::default());
    let (first, bus) =
        start(&sandbox, Consumers::of(one.clone()).with(consumer(USER_REGISTERED_QUEUE, note))).await;
    let (second, _) =
        start(&sandbox, Consumers::of(two.clone()).with(consumer(USER_REGISTERED_QUEUE, note))).await;
    publish(&bus, 1..=200).await;
    eventually("all of them", async || one.numbers().len() + two.numbers().len() >= 200).await;
    first.stop().await;
    second.stop().await;
    assert!(!one.numbers().is_empty() && !two.numbers().is_empty(), "both work");
    let mut all = [one.numbers(), two.numbers()].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=200).collect::<Vec<_>>(), "each event once, at one of them");
    sandbox.close().await;
}

#[tokio::test]
async fn no_more_are_worked_on_at_once_than_was_said() {
    let (sandbox, seen, gate) = (sandbox().await, Seen::default(), Arc::new(Semaphore::new(0)));
    let consumers = Consumers::of(Gated(seen.clone(), Arc::clone(&gate)))
        .with(consumer(USER_REGISTERED_QUEUE, at_gate).concurrency(2));
    let (app, bus) = start(&sandbox, consumers).await;
    publish(&bus, 1..=6).await;
    for done in 0..=4 {
        eventually("two run", async || seen.numbers().len() == done + 2).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(seen.numbers().len(), done + 2, "no third one runs");
        gate.add_permits(1);
    }
    gate.add_permits(1);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_confirm_belongs_to_its_message_however_many_publish_at_once() {
    let sandbox = sandbox().await;
    let (app, bus) = start(&sandbox, Consumers::of(())).await;
    let send = async |number: i64| {
        let mut message = Message::of(&user(number), Context::fresh()).unwrap();
        let nowhere = number % 10 == 0;
        if nowhere {
            let queue = Queue { name: "no_such_queue", reader: Service::Email };
            message.address = Address::Event(Destination::Queue(queue));
        }
        let expected = if nowhere { Err(PublishError::Unroutable) } else { Ok(()) };
        assert_eq!(bus.send(message).await, expected, "{number}");
    };
    // Never in step: at any moment some are unroutable and their neighbours are not.
    let publisher = async |first: i64| {
        for number in (first..64 * 100).step_by(64) {
            send(number).await;
        }
    };
    join_all((0..64).map(publisher)).await;
    app.stop().await;

    let seen = Seen::default();
    let (app, _) =
        start(&sandbox, Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note))).await;
    eventually("all are there", async || seen.numbers().len() >= 64 * 90).await;
    app.stop().await;
    let mut all = seen.numbers();
    all.sort_unstable();
    assert!(
        all.into_iter().eq((0..64 * 100).filter(|number| number % 10 != 0)),
        "what was confirmed, and nothing else"
    );
    sandbox.close().await;
}

#[tokio::test]
async fn an_event_that_waits_at_a_stop_interrupts_no_other_of_any_queue() {
    const WAITS: i64 = 1;
    /// Begun, finished.
    type Work = (Seen, Seen);
    async fn work<E: Event>(
        (begun, finished): Work,
        event: Incoming<E>,
        number: i64,
    ) -> Result<Outcome, HandlerError> {
        begun.note(&event, number);
        if number == WAITS {
            return Err(HandlerError::Unavailable(anyhow::anyhow!("away")));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        finished.note(&event, number);
        Ok(Outcome::Applied)
    }
    async fn user_work(to: Work, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        let number = user.user_id;
        work(to, user, number).await
    }
    async fn product_work(to: Work, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
        let number = product.version;
        work(to, product, number).await
    }
    let (sandbox, begun, finished) = (sandbox().await, Seen::default(), Seen::default());
    let consumers = Consumers::of((begun.clone(), finished.clone()))
        .with(consumer(USER_REGISTERED_QUEUE, user_work))
        .with(consumer(CACHE_PRODUCT_UPDATES_QUEUE, product_work));
    let (app, bus) = start(&sandbox, consumers).await;
    publish(&bus, [WAITS]).await;
    eventually("it waits", async || begun.times(WAITS) > 0).await;
    publish(&bus, [2]).await;
    let product = ProductUpdated { product_id: 1, name: "Laptop".into(), stock: 5, version: 3 };
    bus.publish(&product).await.unwrap();
    eventually("the others run", async || begun.times(2) + begun.times(3) == 2).await;
    app.stop().await;
    let mut numbers = finished.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    let left = (waiting(&sandbox, QUEUE).await, waiting(&sandbox, CACHE_PRODUCT_UPDATES_QUEUE.name).await);
    let again = if SETTLES_EACH { 1..=1 } else { 1..=2 };
    assert!(again.contains(&left.0) && left.1 == 0, "only the one that waits is delivered again: {left:?}");
    sandbox.close().await;
}

#[tokio::test]
async fn a_stop_settles_what_runs_and_leaves_the_rest_to_the_next() {
    let (sandbox, seen, gate) = (sandbox().await, Seen::default(), Arc::new(Semaphore::new(0)));
    let consumers = Consumers::of(Gated(seen.clone(), Arc::clone(&gate)))
        .with(consumer(USER_REGISTERED_QUEUE, at_gate).concurrency(3));
    let (app, bus) = start(&sandbox, consumers).await;
    publish(&bus, 1..=10).await;
    eventually("three run", async || seen.numbers().len() == 3).await;
    let base = app.base.clone();
    let release = async {
        let refused = async || tokio::net::TcpStream::connect(base.replace("http://", "")).await.is_err();
        eventually("it is stopping", refused).await;
        gate.add_permits(10);
    };
    tokio::join!(app.stop(), release);
    let (handled, next) = (seen.numbers(), Seen::default());
    assert_eq!(handled.len(), 3, "nothing new was begun");

    let (app, _) =
        start(&sandbox, Consumers::of(next.clone()).with(consumer(USER_REGISTERED_QUEUE, note))).await;
    eventually("the rest", async || next.numbers().len() >= 7).await;
    app.stop().await;
    let mut all = [handled, next.numbers()].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=10).collect::<Vec<_>>(), "each of them once");
    sandbox.close().await;
}
