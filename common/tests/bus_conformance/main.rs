//! What the bus promises to services, through its public interface, against a real broker: the suite that every transport has
//! to pass. Only [`broker`] and [`own_broker`] know which broker it is.

mod alarm;
mod broker;
mod delivery;
mod failures;
mod outages;
mod own_broker;
mod proxy;
mod traffic;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use common::bus::{Bus, Consumers, Handled, HandlerError, Incoming};
use common::config::NoSettings;
use common::events::{Event, ProductUpdated, UserRegistered};
use common::service::{About, Deps, Service};
use common::testing::{Sandbox, TestApp};
use common::{ApiError, Mode};
use futures_util::future::join_all;
use utoipa_axum::router::OpenApiRouter;

/// No database: only the broker is needed here.
const ABOUT: About = About {
    name: "tinyservice",
    version: "0",
    description: "For tests",
    scenarios: &[],
    migrations: None,
    modes: &[Mode::Async],
};
const QUEUE: &str = "user_registered_queue";

/// Queue, user or version, workflow.
type Sight = (&'static str, i64, String);

/// What handlers saw, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Sight>>>);

impl Seen {
    fn note<E: Event>(&self, event: &Incoming<E>, number: i64) {
        self.0.lock().expect("no panic while it was held").push((
            event.queue,
            number,
            event.context.workflow.clone(),
        ));
    }

    fn numbers(&self) -> Vec<i64> {
        self.0.lock().expect("no panic while it was held").iter().map(|(_, number, _)| *number).collect()
    }

    fn times(&self, number: i64) -> usize {
        self.numbers().iter().filter(|n| **n == number).count()
    }
}

async fn note(seen: Seen, user: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
    seen.note(&user, user.user_id);
    Ok(Handled::Applied)
}

/// A service with these consumers that may publish both events; and its bus. `POST /users` publishes one as well.
async fn start<S: Clone + Send + Sync + 'static>(
    sandbox: &Sandbox,
    consumers: Consumers<S>,
) -> (TestApp, Bus) {
    start_with(sandbox, &[], consumers).await
}

/// [`start`] with settings such as `--amqp-url=...` for another broker than the sandbox's.
async fn start_with<S: Clone + Send + Sync + 'static>(
    sandbox: &Sandbox,
    settings: &[&str],
    consumers: Consumers<S>,
) -> (TestApp, Bus) {
    async fn register(State(bus): State<Bus>) -> Result<&'static str, ApiError> {
        bus.publish(&user(0)).await?;
        Ok("published")
    }
    let mut bus = None;
    let build = |deps: Deps, NoSettings {}| {
        bus = Some(deps.bus.clone());
        let routes = OpenApiRouter::new().route("/users", axum::routing::post(register)).with_state(deps.bus);
        Service::new(routes)
            .publishes::<UserRegistered>()
            .publishes::<ProductUpdated>()
            .needs_broker()
            .consumes(consumers)
    };
    let app = sandbox.start(ABOUT, Mode::Async, settings, build).await;
    (app, bus.expect("the service was built"))
}

fn user(user_id: i64) -> UserRegistered {
    UserRegistered { user_id, email: "a@example.org".into() }
}

async fn publish(bus: &Bus, users: impl IntoIterator<Item = i64>) {
    for published in join_all(users.into_iter().map(|id| async move { bus.publish(&user(id)).await })).await {
        published.expect("the broker confirms");
    }
}

/// [`eventually`](common::testing::eventually) for what takes longer than its deadline.
async fn within(limit: Duration, what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
