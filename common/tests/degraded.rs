//! What every service does while something is missing or somebody misbehaves, shown on a tiny service of its own. Database and
//! broker are real ones behind a gate.

mod gate;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use common::bus::{Consumers, Handled, HandlerError, Incoming};
use common::config::NoSettings;
use common::error::ApiError;
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::outbox::Outbox;
use common::service::{About, Deps, Service};
use common::testing::{Method, Sandbox, TestApp, eventually};
use common::web::Json;
use common::{Db, Mode};
use gate::Gate;
use serde_json::Value;
use sqlx::migrate::Migrator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

static NO_MIGRATIONS: Migrator = Migrator::DEFAULT;
const ABOUT: About = About {
    name: "tinyservice",
    version: "0",
    description: "For tests",
    scenarios: &[],
    migrations: Some(&NO_MIGRATIONS),
    modes: &[Mode::Sync, Mode::Async],
};
/// Published by the tiny service, consumed by nobody.
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
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(app.db.pool()?).await?;
    Ok(one.to_string())
}

async fn register(State(app): State<App>) -> Result<StatusCode, ApiError> {
    let mut tx = app.db.begin().await?;
    let outbox = app.outbox.expect("only asked in async mode");
    outbox.add(&mut tx, &UserRegistered { user_id: 1, email: "a@example.org".into() }).await?;
    outbox.commit(tx).await?;
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
    let (gate, url) = Gate::to(&settings.broker.url().expect("a URL"));
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
    async fn ignore(_: (), _: Incoming<UserRegistered>) -> Result<Handled, HandlerError> {
        Ok(Handled::Applied)
    }
    let sandbox = Sandbox::new().await;
    let ((mut database, to_database), (mut broker, to_broker)) =
        (gate_to_database(&sandbox), gate_to_broker(&sandbox));
    let build = |deps: Deps, NoSettings {}| {
        Service::new(routes(&deps, None, Arc::new(Semaphore::new(0))))
            .needs_broker()
            .consumes(Consumers::of(()).on(USER_REGISTERED_QUEUE, ignore))
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

#[tokio::test]
async fn a_handler_that_panics_is_a_500_and_the_service_lives() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    ready(&app).await;
    for _ in 0..3 {
        let reply = app.get("/panic").await;
        reply.assert_problem(500, None);
        assert!(!reply.text.contains("on purpose"), "causes are not shown: {}", reply.text);
    }
    assert_eq!(app.get("/select").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_large_bodies_are_problems() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    for path in ["/nothing", "/select/", "/%00", "/%ff", "//", "/../etc/passwd", "/select%2f"] {
        app.get(path).await.assert_problem(404, None);
    }
    for method in [Method::POST, Method::DELETE, Method::PATCH, Method::from_bytes(b"BREW").unwrap()] {
        app.request(method, "/select", &[], None).await.assert_problem(405, None);
    }
    let body = |size: usize| Some(format!("{{\"_text\":\"{}\"}}", "x".repeat(size - 12)));
    assert_eq!(app.request(Method::POST, "/take", &[], body(64 * 1024)).await.status, 200);
    app.request(Method::POST, "/take", &[], body(64 * 1024 + 1)).await.assert_problem(413, None);
    app.request(Method::POST, "/take", &[], body(5_000_000)).await.assert_problem(413, None);

    // One that does not say beforehand how long it is.
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let head = "POST /take HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let answer = raw(&app, &format!("{head}{chunk}{chunk}{chunk}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let answer = raw(&app, "GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(app.get("/health").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_can_be_and_made_if_not() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let id_for = async |sent: &str| {
        let reply = app.request(Method::GET, "/nothing", &[("x-request-id", sent)], None).await;
        reply.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    for kept in ["a", "k6-1_2:3/4", &"x".repeat(128)] {
        assert_eq!(id_for(kept).await, kept);
    }
    for replaced in ["", "has blank", &"x".repeat(129)] {
        let made = id_for(replaced).await;
        assert!(made != replaced && made.len() == 36, "{made}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_stop_answers_what_runs_and_takes_nothing_new() {
    let sandbox = Sandbox::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let build = |deps: Deps, NoSettings {}| Service::new(routes(&deps, None, Arc::clone(&gate)));
    let app = sandbox.start(ABOUT, Mode::Sync, &[], build).await;
    let address = app.base.replace("http://", "");
    let in_progress = async || app.metric("http_requests_in_progress", &[r#"handler="/wait""#]).await == 1.0;
    let mut running = TcpStream::connect(&address).await.unwrap();
    running.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    eventually("it runs", in_progress).await;

    let stopping = app.stop();
    let meanwhile = async {
        eventually("nobody is let in", async || TcpStream::connect(&address).await.is_err()).await;
        gate.add_permits(1);
        let mut answer = String::new();
        running.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("waited"), "{answer}");
    };
    tokio::join!(stopping, meanwhile);
    sandbox.close().await;
}

/// Sends this and reads until the service closes the connection, however it does.
async fn raw(app: &TestApp, text: &str) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(app.base.replace("http://", "")).await.expect("it listens");
        stream.write_all(text.as_bytes()).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(common::testing::DEADLINE, talk).await.expect("the service closes the connection")
}
