//! What the service survives: a broker that dies, connections and channels that are closed, queues that vanish, and a network
//! that swallows everything.

use std::time::Duration;

use common::bus::{Bus, Consumers, HandlerError, Incoming, Outcome, PublishError, consumer};
use common::config::NoSettings;
use common::events::{
    CACHE_PRODUCT_UPDATES_QUEUE, ProductUpdated, SEARCH_PRODUCT_UPDATES_QUEUE, USER_REGISTERED_QUEUE,
    UserRegistered,
};
use common::service::{Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use common::{Context, Mode};
use utoipa_axum::router::OpenApiRouter;

use super::broker::{close_connections, delete_exchange, delete_queue};
use super::own_broker::OwnBroker;
use super::proxy::Proxy;
use super::traffic::Traffic;
use super::{ABOUT, QUEUE, Seen, note, publish, start, start_with, user, within};

fn product(version: i64) -> ProductUpdated {
    ProductUpdated { product_id: 1, name: "Laptop".into(), stock: 5, version }
}

async fn note_product(seen: Seen, product: Incoming<ProductUpdated>) -> Result<Outcome, HandlerError> {
    seen.note(&product, product.version);
    Ok(Outcome::Applied)
}

#[tokio::test]
async fn what_was_confirmed_is_handled_though_the_broker_is_killed_and_killed_again() {
    let (sandbox, traffic, mut broker) = (Sandbox::new().await, Traffic::default(), OwnBroker::start().await);
    let url = format!("--amqp-url={}", broker.url());
    let (app, bus) = start_with(&sandbox, &[&url], traffic.consumers()).await;
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
async fn connections_that_the_broker_closes_are_built_anew() {
    let (sandbox, traffic) = (Sandbox::new().await, Traffic::default());
    let (app, bus) = start(&sandbox, traffic.consumers()).await;
    let trouble = async {
        traffic.goes_on().await;
        close_connections(&sandbox).await;
        traffic.goes_on().await;
    };
    traffic.run(&bus, trouble).await;
    traffic.settle().await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_publishing_channel_that_the_broker_closes_is_built_anew() {
    let (sandbox, traffic) = (Sandbox::new().await, Traffic::default());
    let consumers = traffic.consumers();
    let (app, bus) = start(&sandbox, consumers).await;
    let trouble = async {
        traffic.goes_on().await;
        delete_exchange(&sandbox, "product_updates").await;
        assert_eq!(bus.publish(&product(1)).await.map_err(|e| e.status().as_u16()), Err(503));
        traffic.goes_on().await;
        eventually("the exchange is back", async || bus.publish(&product(2)).await.is_ok()).await;
    };
    traffic.run(&bus, trouble).await;
    traffic.settle().await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_consuming_channel_that_the_broker_closes_is_built_anew() {
    async fn hang_first(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        if user.user_id == 1 && seen.times(1) == 1 {
            std::future::pending::<()>().await;
        }
        Ok(Outcome::Applied)
    }
    let (sandbox, seen, broker) = (Sandbox::new().await, Seen::default(), OwnBroker::start().await);
    broker.limit_handling(Duration::from_secs(3));
    let url = format!("--amqp-url={}", broker.url());
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, hang_first));
    let (app, bus) = start_with(&sandbox, &[&url], consumers).await;
    publish(&bus, [1, 2]).await;
    eventually("its neighbour is served", async || seen.times(2) == 1).await;
    within(Duration::from_secs(60), "the one that hung comes again", async || seen.times(1) == 2).await;
    publish(&bus, [3]).await;
    eventually("new ones are served", async || seen.times(3) == 1).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_under_its_consumer_comes_back() {
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note))).await;
    publish(&bus, [1]).await;
    eventually("it is served", async || seen.times(1) == 1).await;
    delete_queue(&sandbox, QUEUE).await;
    eventually("it takes events again", async || bus.publish(&user(2)).await.is_ok()).await;
    eventually("and serves them", async || seen.times(2) == 1).await;
    assert_eq!(app.get("/ready").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

/// The service that publishes does not notice, so the one that consumes has to bind its queue again.
#[tokio::test]
async fn a_queue_of_a_fanout_that_is_deleted_gets_the_events_of_another_service_again() {
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (publisher, bus) = start(&sandbox, Consumers::of(())).await;
    let consumers = Consumers::of(seen.clone())
        .with(consumer(SEARCH_PRODUCT_UPDATES_QUEUE, note_product))
        .with(consumer(CACHE_PRODUCT_UPDATES_QUEUE, note_product));
    let build = |_: Deps, NoSettings {}| Service::new(OpenApiRouter::new()).consumes(consumers);
    let consumer = sandbox.start(ABOUT, Mode::Async, &[], build).await;
    bus.publish(&product(1)).await.unwrap();
    eventually("both get it", async || seen.times(1) == 2).await;
    delete_queue(&sandbox, SEARCH_PRODUCT_UPDATES_QUEUE.name).await;
    let both_get_one = async || {
        let version = seen.numbers().len() as i64 + 2;
        bus.publish(&product(version)).await.unwrap();
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
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (proxy, url) = Proxy::to_broker(&sandbox).await;
    let consumers =
        Consumers::of(Work(seen.clone(), proxy.clone())).with(consumer(USER_REGISTERED_QUEUE, work));
    let (app, bus) = start_with(&sandbox, &[&url], consumers).await;
    let (other, other_bus) = start(&sandbox, Consumers::of(())).await;
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
async fn behind_proxy(sandbox: &Sandbox, seen: &Seen) -> (TestApp, Proxy, TestApp, Bus) {
    let (proxy, url) = Proxy::to_broker(sandbox).await;
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note).batch(64));
    let build = |_: Deps, NoSettings {}| Service::new(OpenApiRouter::new()).consumes(consumers);
    let app = sandbox.start(ABOUT, Mode::Async, &[&url], build).await;
    let (other, bus) = start(sandbox, Consumers::of(())).await;
    publish(&bus, [1]).await;
    eventually("it is handled", async || seen.times(1) == 1).await;
    (app, proxy, other, bus)
}

/// The event is acknowledged when no task reads the connection any more.
#[tokio::test]
async fn a_consumer_whose_connection_cannot_be_read_is_not_ready_and_is_built_anew() {
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, proxy, other, bus) = behind_proxy(&sandbox, &seen).await;
    proxy.garble();
    publish(&bus, [2]).await;
    eventually("it is handled", async || seen.times(2) == 1).await;
    eventually("it is not ready", async || app.get("/ready").await.status == 503).await;
    proxy.let_new_ones_through();
    eventually("it is ready", async || app.get("/ready").await.status == 200).await;
    publish(&bus, [3]).await;
    eventually("what was not acknowledged comes again", async || seen.times(2) == 2).await;
    eventually("new ones are handled", async || seen.times(3) == 1).await;
    app.stop().await;
    other.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_connection_that_cannot_be_read() {
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, proxy, other, bus) = behind_proxy(&sandbox, &seen).await;
    proxy.garble();
    publish(&bus, [2]).await;
    eventually("it is handled", async || seen.times(2) == 1).await;
    stops_soon(app).await;
    other.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_broker_that_has_fallen_silent() {
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, proxy, other, _) = behind_proxy(&sandbox, &seen).await;
    proxy.go_dark();
    stops_soon(app).await;
    other.stop().await;
    sandbox.close().await;
}

/// Before the heartbeat notices anything, and long before running work is cut off.
async fn stops_soon(app: TestApp) {
    let stopped = tokio::time::timeout(Duration::from_secs(12), app.stop()).await;
    assert!(stopped.is_ok(), "the stop waits");
}
