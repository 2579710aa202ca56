//! What the service survives: a broker that dies, connections and channels that are closed, queues that vanish, and a network
//! that swallows everything.

use std::time::Duration;

use common::Context;
use common::bus::{Bus, Consumers, HandlerError, Incoming, Outcome, PublishError, consumer};
use common::config::NoSettings;
use common::events::{
    CACHE_PRODUCT_UPDATES_QUEUE, ProductUpdated, SEARCH_PRODUCT_UPDATES_QUEUE, USER_REGISTERED_QUEUE,
    UserRegistered,
};
use common::service::{Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use utoipa_axum::router::OpenApiRouter;

use super::broker::{MODE, Ways, sandbox};
use super::own_broker::OwnBroker;
use super::proxy::Proxy;
use super::traffic::Traffic;
use super::{ABOUT, QUEUE, Seen, note, publish, start, start_with, user, within};

pub(crate) fn product(version: i64) -> ProductUpdated {
    ProductUpdated { product_id: 1, name: "Laptop".into(), stock: 5, version }
}

async fn note_product(seen: Seen, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
    seen.note(&product, product.version);
    Ok(Outcome::Applied)
}

#[tokio::test]
async fn what_was_confirmed_is_handled_though_the_broker_is_killed_and_killed_again() {
    let (sandbox, traffic, mut broker) = (sandbox().await, Traffic::default(), OwnBroker::start().await);
    let (app, bus) = start_with(&sandbox, &broker.settings(), traffic.consumers()).await;
    let trouble = async {
        for _ in 0..2 {
            traffic.goes_on().await;
            // What it is sent in its last moments it does not read.
            broker.freeze();
            tokio::time::sleep(Duration::from_millis(500)).await;
            broker.kill();
            traffic.fails().await;
            broker.restart().await;
            within(Duration::from_secs(60), "it is connected again", async || bus.is_connected()).await;
        }
        traffic.goes_on().await;
    };
    traffic.run(&bus, trouble).await;
    traffic.settle().await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn connections_that_are_cut_are_built_anew() {
    let (sandbox, traffic) = (sandbox().await, Traffic::default());
    let ways = Ways::to_broker(&sandbox).await;
    let (app, bus) = start_with(&sandbox, &ways.through, traffic.consumers()).await;
    let trouble = async {
        traffic.goes_on().await;
        ways.proxy.cut().await;
        traffic.goes_on().await;
    };
    traffic.run(&bus, trouble).await;
    traffic.settle().await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_under_its_consumer_comes_back() {
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note))).await;
    publish(&bus, [1]).await;
    eventually("it is served", async || seen.times(1) == 1).await;
    sandbox.delete_queue(QUEUE).await;
    eventually("it takes events again", async || bus.publish(&user(2)).await.is_ok()).await;
    eventually("and serves them", async || seen.times(2) == 1).await;
    assert_eq!(app.get("/ready").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

/// The service that publishes does not notice, so the one that consumes has to bind its queue again.
#[tokio::test]
async fn a_queue_of_a_fanout_that_is_deleted_gets_the_events_of_another_service_again() {
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (publisher, bus) = start(&sandbox, Consumers::of(())).await;
    let consumers = Consumers::of(seen.clone())
        .with(consumer(SEARCH_PRODUCT_UPDATES_QUEUE, note_product))
        .with(consumer(CACHE_PRODUCT_UPDATES_QUEUE, note_product));
    let build = |_: Deps, NoSettings {}| Service::new(OpenApiRouter::new()).consumes(consumers);
    let consumer = sandbox.start(ABOUT, MODE, &[], build).await;
    bus.publish(&product(1)).await.unwrap();
    eventually("both get it", async || seen.times(1) == 2).await;
    sandbox.delete_queue(SEARCH_PRODUCT_UPDATES_QUEUE.name).await;
    let both_get_one = async || {
        let version = seen.numbers().len() as i64 + 2;
        if bus.publish(&product(version)).await.is_err() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        seen.times(version) == 2
    };
    eventually("both get one again", both_get_one).await;
    consumer.stop().await;
    publisher.stop().await;
    sandbox.close().await;
}

/// No packet reports the loss of the connection: only the heartbeat detects it.
#[tokio::test]
async fn a_connection_that_leads_into_a_black_hole_is_given_up() {
    #[derive(Clone)]
    struct Work(Seen, Proxy);
    async fn work(Work(seen, proxy): Work, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        // The acknowledgement of the first is swallowed, so it has to come again.
        if user.user_id == 1 && seen.times(1) == 0 {
            proxy.go_dark();
        }
        seen.note(&user, user.user_id);
        Ok(Outcome::Applied)
    }
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let Ways { proxy, through, direct, .. } = &Ways::to_broker(&sandbox).await;
    let consumers =
        Consumers::of(Work(seen.clone(), proxy.clone())).with(consumer(USER_REGISTERED_QUEUE, work));
    let (app, bus) = start_with(&sandbox, through, consumers).await;
    let (other, other_bus) = start_with(&sandbox, direct, Consumers::of(())).await;
    publish(&other_bus, [1]).await;
    eventually("it is handled", async || seen.times(1) == 1).await;
    publish(&other_bus, [2]).await;
    let message = common::bus::Message::of(&user(3), Context::fresh()).unwrap();
    assert_eq!(bus.send(message).await, Err(PublishError::Unconfirmed), "an answer, if no good one");
    assert!(seen.times(1) == 1 && seen.times(2) == 0, "nothing comes through");
    proxy.let_new_ones_through();
    let limit = Duration::from_secs(90);
    within(limit, "what was swallowed comes again", async || seen.times(1) == 2 && seen.times(2) == 1).await;
    within(limit, "events are published", async || bus.publish(&user(4)).await.is_ok()).await;
    eventually("and handled", async || seen.times(4) >= 1).await;
    app.stop().await;
    other.stop().await;
    sandbox.close().await;
}

/// A service behind a proxy, that publishes and consumes and is ready while it consumes; and the bus of another one that is
/// connected directly.
pub(crate) async fn behind_proxy(sandbox: &Sandbox, seen: &Seen) -> (TestApp, Ways, TestApp, Bus) {
    let ways = Ways::to_broker(sandbox).await;
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note).batch(64));
    let build = |_: Deps, NoSettings {}| Service::new(OpenApiRouter::new()).consumes(consumers);
    let through: Vec<&str> = ways.through.iter().map(String::as_str).collect();
    let app = sandbox.start(ABOUT, MODE, &through, build).await;
    let (other, bus) = start_with(sandbox, &ways.direct, Consumers::of(())).await;
    publish(&bus, [1]).await;
    eventually("it is handled", async || seen.times(1) == 1).await;
    (app, ways, other, bus)
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_broker_that_has_fallen_silent() {
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, ways, other, _) = behind_proxy(&sandbox, &seen).await;
    ways.proxy.go_dark();
    stops_soon(app).await;
    other.stop().await;
    sandbox.close().await;
}

/// Before the heartbeat notices anything, and long before running work is cut off.
pub(crate) async fn stops_soon(app: TestApp) {
    let stopped = tokio::time::timeout(Duration::from_secs(12), app.stop()).await;
    assert!(stopped.is_ok(), "the stop waits");
}
