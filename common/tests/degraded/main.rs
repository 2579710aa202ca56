//! What every service does while something is missing or somebody misbehaves, shown on a tiny service of its own. Database and
//! broker are real ones behind a gate.

mod clients;
mod connections;
mod gate;
mod hostile;
mod neighbours;
mod peers;
mod readers;
mod requests;
mod schema;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use common::bus::{Consumers, HandlerError, Incoming, Outcome, consumer};
use common::config::NoSettings;
use common::error::ApiError;
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::outbox::Outbox;
use common::service::{About, Deps, Service};
use common::testing::{Sandbox, TestApp, eventually};
use common::web::Json;
use common::{Db, Mode};
use gate::Gate;
use serde_json::Value;
use sqlx::migrate::Migrator;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

static NO_MIGRATIONS: Migrator = Migrator::DEFAULT;
const ABOUT: About = About {
    name: "tinyservice",
    version: "0",
    description: "For tests",
    scenarios: &[],
    effects: &[],
    migrations: Some(&NO_MIGRATIONS),
    modes: &[Mode::Sync, Mode::Async],
};
/// Published by the tiny service; without a consumer.
const QUEUE: &str = "user_registered_queue";

#[derive(Clone)]
struct App {
    db: Db,
    outbox: Option<Outbox>,
    /// `/wait` waits for a permit.
    gate: Arc<Semaphore>,
}

#[derive(serde::Deserialize, garde::Validate)]
struct Anything {
    #[garde(skip)]
    _text: Option<String>,
}

fn routes(deps: &Deps, outbox: Option<Outbox>, gate: Arc<Semaphore>) -> OpenApiRouter {
    OpenApiRouter::new()
        .route("/select", get(select))
        .route("/register", post(register))
        .route("/take", post(|Json(Anything { .. }): Json<Anything>| async { "taken" }))
        .route("/panic", get(panic))
        .route("/wait", get(wait))
        .with_state(App { db: deps.db(), outbox, gate })
}

async fn select(State(app): State<App>) -> Result<String, ApiError> {
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&mut *app.db.acquire().await?).await?;
    Ok(one.to_string())
}

async fn register(State(app): State<App>) -> Result<StatusCode, ApiError> {
    let mut tx = app.db.begin().await?;
    let outbox = app.outbox.expect("only asked in async mode");
    outbox.add(&mut tx, &UserRegistered { user_id: 1, email: "a@example.org".into() })?;
    tx.commit().await?;
    Ok(StatusCode::ACCEPTED)
}

async fn panic() -> String {
    panic!("on purpose")
}

async fn wait(State(app): State<App>) -> &'static str {
    app.gate.acquire().await.expect("never closed").forget();
    "waited"
}

async fn start_sync(sandbox: &Sandbox, more: &[&str]) -> TestApp {
    let build = |deps: Deps, NoSettings {}| Service::new(routes(&deps, None, Arc::new(Semaphore::new(0))));
    sandbox.start_unready(ABOUT, Mode::Sync, more, build).await
}

/// Publishes through its outbox; ready when there is a database.
async fn start_async(sandbox: &Sandbox, more: &[&str]) -> TestApp {
    let build = |deps: Deps, NoSettings {}| {
        let outbox = Some(deps.outbox());
        Service::new(routes(&deps, outbox, Arc::new(Semaphore::new(0)))).publishes::<UserRegistered>()
    };
    sandbox.start_unready(ABOUT, Mode::Async, more, build).await
}

async fn ready(app: &TestApp) {
    eventually("it is ready", async || app.get("/ready").await.status == 200).await;
}

/// A shut gate to the sandbox's database, and the setting that leads through it.
fn gate_to_database(sandbox: &Sandbox) -> (Gate, String) {
    let (gate, url) = Gate::to(sandbox.database_url());
    (gate, format!("--database-url={url}"))
}

fn gate_to_broker(sandbox: &Sandbox) -> (Gate, String) {
    let (settings, NoSettings {}) = sandbox.settings(Mode::Async, &[]);
    let (gate, url) = Gate::to(settings.broker.amqp.amqp_url.as_deref().expect("a URL"));
    (gate, format!("--amqp-url={url}"))
}

#[tokio::test]
async fn without_a_database_it_starts_says_so_and_recovers_each_time_the_database_comes() {
    let sandbox = Sandbox::new().await;
    let (mut gate, setting) = gate_to_database(&sandbox);
    let app = start_sync(&sandbox, &[&setting]).await;
    for _ in 0..2 {
        eventually("it has noticed", async || app.get("/ready").await.status == 503).await;
        assert_eq!(app.get("/health").await.status, 200);
        let missing = app.get("/ready").await;
        missing.assert_problem(503, None);
        assert!(missing.body["detail"].as_str().unwrap().contains("database"), "{}", missing.text);
        let refused = app.get("/select").await;
        refused.assert_problem(503, None);
        assert!(refused.headers.contains_key("retry-after"));
        gate.open();
        ready(&app).await;
        // A connection that rested under a second is taken untested, and may be one that was cut.
        eventually("it works", async || app.get("/select").await.text == "1").await;
        gate.shut().await;
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_more() {
    async fn ignore(_: (), _: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Applied)
    }
    let sandbox = Sandbox::new().await;
    let ((mut database, to_database), (mut broker, to_broker)) =
        (gate_to_database(&sandbox), gate_to_broker(&sandbox));
    let build = |deps: Deps, NoSettings {}| {
        Service::new(routes(&deps, None, Arc::new(Semaphore::new(0))))
            .needs_broker()
            .consumes(Consumers::of(()).with(consumer(USER_REGISTERED_QUEUE, ignore)))
    };
    let app = sandbox.start_unready(ABOUT, Mode::Async, &[&to_database, &to_broker], build).await;
    let missing = async || app.get("/ready").await.body["detail"].as_str().unwrap_or_default().to_owned();
    assert_eq!(missing().await, "waiting for: database, consumers, broker");
    broker.open();
    eventually("the broker is there", async || missing().await == "waiting for: database, consumers").await;
    database.open();
    ready(&app).await;
    broker.shut().await;
    eventually("the broker is gone", async || missing().await == "waiting for: consumers, broker").await;
    broker.open();
    ready(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_broker_work_is_accepted_and_announced_when_the_broker_comes() {
    let sandbox = Sandbox::new().await;
    let (mut gate, setting) = gate_to_broker(&sandbox);
    let app = start_async(&sandbox, &[&setting]).await;
    ready(&app).await;
    for round in 1..=2 {
        for _ in 0..5 {
            let reply = app.post("/register", Value::Null).await;
            assert_eq!(reply.status, 202, "{}", reply.text);
        }
        gate.open();
        eventually("all arrive", async || sandbox.messages(QUEUE).await.len() == 5 * round).await;
        gate.shut().await;
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn when_too_much_waits_for_the_broker_new_work_is_refused_until_it_comes() {
    let sandbox = Sandbox::new().await;
    let (mut gate, setting) = gate_to_broker(&sandbox);
    let app = start_async(&sandbox, &[&setting, "--outbox-max-rows=3"]).await;
    ready(&app).await;
    let accepted = std::cell::Cell::new(0);
    let refused = async || {
        let reply = app.post("/register", Value::Null).await;
        if reply.status == 202 {
            accepted.set(accepted.get() + 1);
            return false;
        }
        reply.assert_problem(503, None);
        reply.headers.contains_key("retry-after")
    };
    eventually("the bound is noticed", refused).await;
    assert!(accepted.get() >= 3, "{}", accepted.get());
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&sandbox.pool().await).await.unwrap();
    assert_eq!(waiting, accepted.get(), "what is refused leaves nothing");

    gate.open();
    eventually("it is open again", async || !refused().await).await;
    eventually("what was accepted arrives", async || {
        sandbox.messages(QUEUE).await.len() as i64 == accepted.get()
    })
    .await;
    app.stop().await;
    sandbox.close().await;
}
