//! Connections and channels that RabbitMQ closes, or that lapin cannot read.

use std::time::Duration;

use common::bus::{Consumers, HandlerError, Incoming, Outcome, consumer};
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::testing::{Sandbox, eventually};

use super::broker::{close_connections, delete_exchange};
use super::outages::{behind_proxy, product, stops_soon};
use super::own_broker::OwnBroker;
use super::traffic::Traffic;
use super::{Seen, publish, start, start_with, within};

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
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, hang_first));
    let (app, bus) = start_with(&sandbox, &broker.settings(), consumers).await;
    publish(&bus, [1, 2]).await;
    eventually("its neighbour is served", async || seen.times(2) == 1).await;
    within(Duration::from_secs(60), "the one that hung comes again", async || seen.times(1) == 2).await;
    publish(&bus, [3]).await;
    eventually("new ones are served", async || seen.times(3) == 1).await;
    app.stop().await;
    sandbox.close().await;
}

/// The event is acknowledged when no task reads the connection any more.
#[tokio::test]
async fn a_consumer_whose_connection_cannot_be_read_is_not_ready_and_is_built_anew() {
    let (sandbox, seen) = (Sandbox::new().await, Seen::default());
    let (app, ways, other, bus) = behind_proxy(&sandbox, &seen).await;
    ways.proxy.garble();
    publish(&bus, [2]).await;
    eventually("it is handled", async || seen.times(2) == 1).await;
    eventually("it is not ready", async || app.get("/ready").await.status == 503).await;
    ways.proxy.let_new_ones_through();
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
    let (app, ways, other, bus) = behind_proxy(&sandbox, &seen).await;
    ways.proxy.garble();
    publish(&bus, [2]).await;
    eventually("it is handled", async || seen.times(2) == 1).await;
    stops_soon(app).await;
    other.stop().await;
    sandbox.close().await;
}
