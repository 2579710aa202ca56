//! What the suites of both transports share: a tiny service, and what its handlers saw.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use common::bus::{Bus, Consumers, HandlerError, Incoming, Message, Outcome, consumer};
use common::config::NoSettings;
use common::events::{Event, ProductUpdated, USER_REGISTERED_QUEUE, UserRegistered};
use common::service::{About, Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use common::{ApiError, Context};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use crate::broker::{MODE, sandbox};

/// No database: only the broker is needed here.
pub(crate) const ABOUT: About = About {
    name: "tinyservice",
    version: "0",
    description: "For tests",
    scenarios: &[],
    effects: &[],
    migrations: None,
    modes: &[MODE],
};
pub(crate) const QUEUE: &str = "user_registered_queue";

/// Queue, user or version, workflow.
pub(crate) type Sight = (&'static str, i64, String);

/// What handlers saw, in order.
#[derive(Clone, Default)]
pub(crate) struct Seen(pub(crate) Arc<Mutex<Vec<Sight>>>);

impl Seen {
    pub(crate) fn note<E: Event>(&self, event: &Incoming<E>, number: i64) {
        self.0.lock().expect("no panic while it was held").push((
            event.queue,
            number,
            event.context.workflow.clone(),
        ));
    }

    pub(crate) fn numbers(&self) -> Vec<i64> {
        self.0.lock().expect("no panic while it was held").iter().map(|(_, number, _)| *number).collect()
    }

    pub(crate) fn times(&self, number: i64) -> usize {
        self.numbers().iter().filter(|n| **n == number).count()
    }
}

/// What handlers saw, and a gate at which they wait for a permit.
#[derive(Clone)]
pub(crate) struct Gated(pub(crate) Seen, pub(crate) Arc<Semaphore>);

pub(crate) async fn at_gate(
    Gated(seen, gate): Gated,
    user: Incoming<UserRegistered>,
) -> Result<Outcome, HandlerError> {
    seen.note(&user, user.user_id);
    gate.acquire().await.map_err(HandlerError::retry)?.forget();
    Ok(Outcome::Applied)
}

pub(crate) async fn note(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
    seen.note(&user, user.user_id);
    Ok(Outcome::Applied)
}

/// A service with these consumers that may publish both events; and its bus. `POST /users` publishes one as well.
pub(crate) async fn start<S: Clone + Send + Sync + 'static>(
    sandbox: &Sandbox,
    consumers: Consumers<S>,
) -> (TestApp, Bus) {
    start_with(sandbox, &[], consumers).await
}

/// [`start`] with settings that name another broker than the sandbox's.
pub(crate) async fn start_with<S: Clone + Send + Sync + 'static>(
    sandbox: &Sandbox,
    settings: &[String],
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
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let app = sandbox.start(ABOUT, MODE, &settings, build).await;
    (app, bus.expect("the service was built"))
}

pub(crate) fn user(user_id: i64) -> UserRegistered {
    UserRegistered { user_id, email: "a@example.org".into() }
}

pub(crate) async fn publish(bus: &Bus, users: impl IntoIterator<Item = i64>) {
    for published in join_all(users.into_iter().map(|id| async move { bus.publish(&user(id)).await })).await {
        published.expect("the broker confirms");
    }
}

/// [`eventually`] for what takes longer than its deadline.
pub(crate) async fn within(limit: Duration, what: &str, condition: impl AsyncFn() -> bool) {
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
    let (sandbox, attempts) = (sandbox().await, Attempts::default());
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
    let nowhere = async || (waiting(&sandbox, QUEUE).await, delayed(&sandbox).await) == (0, 0);
    eventually("it is nowhere else", nowhere).await;
    app.stop().await;
    let attempts = attempts.0.lock().unwrap().clone();
    let delays: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (delay, promised) in delays.iter().zip([1, 10, 60, 60]) {
        assert!(*delay >= Duration::from_secs(promised), "too early: {delays:?}");
    }
    assert_eq!(attempts.len(), 5);
    sandbox.close().await;
}

/// An event that was set aside.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) message_id: String,
    pub(crate) workflow: String,
    pub(crate) event: String,
    pub(crate) body: String,
    pub(crate) attempt: u32,
    pub(crate) reason: String,
    pub(crate) first_failed_us: i64,
}

/// What was set aside from `queue` so far.
pub(crate) async fn set_aside(sandbox: &Sandbox, queue: &str) -> Vec<Aside> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let aside = |message: Value| {
        let properties = &message["properties"];
        let header = |name: &str| text(&properties["headers"][name]);
        Aside {
            message_id: text(&properties["message_id"]),
            workflow: text(&properties["correlation_id"]),
            event: text(&properties["type"]),
            body: text(&message["payload"]),
            attempt: header("x-attempt").parse().expect("a number of attempts"),
            reason: header("x-reason"),
            first_failed_us: header("x-first-failed-at").parse().expect("a time"),
        }
    };
    sandbox.messages(&format!("{queue}.dlq")).await.into_iter().map(aside).collect()
}

/// Events in `queue`, without those that a consumer of RabbitMQ holds.
pub(crate) async fn waiting(sandbox: &Sandbox, queue: &str) -> usize {
    sandbox.messages(queue).await.len()
}

/// Events that wait for their next attempt.
pub(crate) async fn delayed(sandbox: &Sandbox) -> usize {
    let mut delayed = 0;
    for delay in ["1s", "10s", "60s"] {
        delayed += waiting(sandbox, &format!("retry_{delay}_queue")).await;
    }
    delayed
}

/// Any text, published by hand with any id.
pub(crate) async fn put(sandbox: &Sandbox, queue: &str, text: &str, message_id: &str) {
    sandbox.publish_raw("", queue, text, message_id).await;
}
