//! What the bus promises to services, through its public interface, against a real broker: the suite that every transport has
//! to pass. Only [`broker`], [`own_broker`] and [`wire`] know which broker it is.

mod alarm;
mod broker;
mod delivery;
mod failures;
mod foreign;
mod outages;
mod own_broker;
mod proxy;
mod traffic;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use common::bus::{Bus, Consumers, HandlerError, Incoming, Message, Outcome, consumer};
use common::config::NoSettings;
use common::events::{Event, ProductUpdated, USER_REGISTERED_QUEUE, UserRegistered};
use common::service::{About, Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use common::{ApiError, Context, Mode};
use futures_util::future::join_all;
use utoipa_axum::router::OpenApiRouter;

use broker::{delayed, set_aside, waiting};

/// No database: only the broker is needed here.
const ABOUT: About = About {
    name: "tinyservice",
    version: "0",
    description: "For tests",
    scenarios: &[],
    effects: &[],
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

async fn note(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
    seen.note(&user, user.user_id);
    Ok(Outcome::Applied)
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

/// [`eventually`] for what takes longer than its deadline.
async fn within(limit: Duration, what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lasts over two minutes. Here, because tests are begun in the order of their names: the others run meanwhile.
#[tokio::test]
async fn a_handler_that_always_fails_is_asked_five_times_with_longer_and_longer_delays() {
    #[derive(Clone, Default)]
    struct Attempts(Arc<Mutex<Vec<Instant>>>);
    async fn fail(Attempts(at): Attempts, _: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        let mut at = at.lock().expect("no panic while it was held");
        at.push(Instant::now());
        Err(HandlerError::Retry(anyhow::anyhow!("reason {}", at.len())))
    }
    let (sandbox, attempts) = (Sandbox::new().await, Attempts::default());
    let (app, bus) =
        start(&sandbox, Consumers::of(attempts.clone()).with(consumer(USER_REGISTERED_QUEUE, fail))).await;
    let message = Message::of(&user(1), Context::fresh()).unwrap();
    let (id, begun_us) = (message.id.clone(), message.published_us);
    bus.send(message).await.unwrap();
    for (attempt, slack) in [(1, 20), (2, 20), (3, 40), (4, 90), (5, 90)] {
        let made = async || attempts.0.lock().unwrap().len() >= attempt;
        within(Duration::from_secs(slack), &format!("attempt {attempt}"), made).await;
    }
    eventually("it is set aside", async || !set_aside(&sandbox, QUEUE).await.is_empty()).await;
    let aside = set_aside(&sandbox, QUEUE).await.remove(0);
    assert_eq!((aside.attempt, &*aside.reason, aside.message_id), (5, "reason 5", id));
    let first_failed_after = Duration::from_micros((aside.first_failed_us - begun_us).unsigned_abs());
    assert!(first_failed_after < Duration::from_secs(60), "{first_failed_after:?} is no first failure");
    assert_eq!((waiting(&sandbox, QUEUE).await, delayed(&sandbox).await), (0, 0), "it is nowhere else");
    app.stop().await;
    let attempts = attempts.0.lock().unwrap().clone();
    let delays: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (delay, promised) in delays.iter().zip([1, 10, 60, 60]) {
        assert!(*delay >= Duration::from_secs(promised), "too early: {delays:?}");
    }
    assert_eq!(attempts.len(), 5);
    sandbox.close().await;
}
