//! What a collector gets to see of a workflow: one trace through HTTP, outbox and broker, with the ids of logs and headers.
//! Services, database, broker and gRPC are real ones.

mod collector;

use std::cell::OnceCell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use common::api::{Call, Done, SendWelcomeEmail};
use common::bus::{Bus, Consumers, HandlerError, Incoming, Outcome, consumer};
use common::config::NoSettings;
use common::events::{OrderCreated, USER_REGISTERED_QUEUE, UserRegistered};
use common::service::{About, Deps, Service};
use common::testing::{Method, Reply, Sandbox, TestApp, closed_port, eventually};
use common::{ApiError, Context, Mode};
use serde_json::Value;
use sqlx::migrate::Migrator;
use utoipa_axum::router::OpenApiRouter;

use collector::{Collector, Span, SpanKind, setting};

static NO_MIGRATIONS: Migrator = Migrator::DEFAULT;
const QUEUE: &str = "user_registered_queue";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The span of whoever asks.
const CLIENT: &str = "00f067aa0ba902b7";

/// With a database where there is something to announce from it.
const fn about(name: &'static str, migrations: Option<&'static Migrator>) -> About {
    const MODES: &[Mode] = &[Mode::Sync, Mode::Async];
    About {
        name,
        version: "7",
        description: "For tests",
        scenarios: &[],
        effects: &[],
        migrations,
        modes: MODES,
    }
}

/// Announces through its outbox that a user registered, and answers with the traceparent of its hop.
async fn start_registry(sandbox: &Sandbox, more: &[&str]) -> TestApp {
    async fn register(State(deps): State<Deps>) -> Result<(StatusCode, String), ApiError> {
        let mut tx = deps.db().begin().await?;
        let user = UserRegistered { user_id: 1, email: "a@example.org".into() };
        deps.outbox().add(&mut tx, &user)?;
        tx.commit().await?;
        Ok((StatusCode::ACCEPTED, Context::current().traceparent))
    }
    let build = |deps: Deps, NoSettings {}| {
        let routes = OpenApiRouter::new().route("/register", post(register)).with_state(deps);
        Service::new(routes).publishes::<UserRegistered>().publishes::<OrderCreated>()
    };
    sandbox.start(about("registry", Some(&NO_MIGRATIONS)), Mode::Async, more, build).await
}

/// Traceparents of the hops in which a handler ran.
type Hops = Arc<Mutex<Vec<String>>>;

/// Hears of users and announces an order itself, without an outbox. Fails as the list says, the last one first.
async fn start_mailer(sandbox: &Sandbox, more: &[&str], fail: Vec<HandlerError>) -> (TestApp, Hops) {
    type Failures = Arc<Mutex<Vec<HandlerError>>>;
    async fn handle(
        (bus, hops, fail): (Bus, Hops, Failures),
        user: Incoming<UserRegistered>,
    ) -> Result<Outcome, HandlerError> {
        hops.lock().expect("no panic while it was held").push(Context::current().traceparent);
        if let Some(error) = fail.lock().expect("no panic while it was held").pop() {
            return Err(error);
        }
        bus.publish(&OrderCreated { order_id: user.user_id, product_id: 1, quantity: 1 }).await?;
        Ok(Outcome::Applied)
    }
    let hops = Hops::default();
    let build = |deps: Deps, NoSettings {}| {
        let state = (deps.bus, Arc::clone(&hops), Failures::new(Mutex::new(fail)));
        Service::new(OpenApiRouter::new())
            .publishes::<OrderCreated>()
            .consumes(Consumers::of(state).with(consumer(USER_REGISTERED_QUEUE, handle)))
    };
    (sandbox.start(about("mailer", None), Mode::Async, more, build).await, hops)
}

/// `POST` as somebody does who is traced, and whose trace is recorded or not.
async fn post_traced(app: &TestApp, path: &str, flags: &str) -> Reply {
    let traceparent = format!("00-{TRACE}-{CLIENT}-{flags}");
    app.request(Method::POST, path, &[("traceparent", &traceparent), ("x-request-id", "w")], None).await
}

/// Each once: a handler that could not publish yet, because its service has just started, was asked again in the same hop.
fn hops_in_order(hops: &Hops) -> Vec<String> {
    let mut hops = hops.lock().expect("no panic while it was held").clone();
    hops.dedup();
    hops
}

/// The one span of this kind and name.
fn only(spans: &[Span], kind: SpanKind, name: &str) -> Span {
    let mut found = spans.iter().filter(|span| span.kind == kind && span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no {kind:?} {name}: {spans:#?}"));
    assert!(found.next().is_none(), "several {name}: {spans:#?}");
    span.clone()
}

/// The header of a message that waits in the queue.
async fn sent_traceparent(sandbox: &Sandbox, queue: &str) -> String {
    let found = OnceCell::new();
    eventually("the event waits", async || {
        let messages = sandbox.messages(queue).await;
        let header = |message: &Value| message["properties"]["headers"]["traceparent"].clone();
        messages.first().is_some_and(|message| found.set(header(message)).is_ok())
    })
    .await;
    found.into_inner().as_ref().and_then(Value::as_str).expect("a header").to_owned()
}

fn assert_has(span: &Span, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        assert_eq!(span.attributes.get(*name).map(String::as_str), Some(*value), "{name} of {span:#?}");
    }
}

#[tokio::test]
async fn a_workflow_is_one_trace_through_http_outbox_and_broker() {
    let (sandbox, collector) = (Sandbox::new().await, Collector::start().await);
    let registry = start_registry(&sandbox, &[&collector.setting]).await;
    let hop = post_traced(&registry, "/register", "01").await.text;
    let header = sent_traceparent(&sandbox, QUEUE).await;
    let (mailer, handled) = start_mailer(&sandbox, &[&collector.setting], Vec::new()).await;
    let last_header = sent_traceparent(&sandbox, "order_created_queue").await;
    registry.stop().await;
    mailer.stop().await;

    let spans = collector.spans();
    let server = only(&spans, SpanKind::Server, "POST /register");
    let producer = only(&spans, SpanKind::Producer, "user_registered_queue publish");
    let consumer = only(&spans, SpanKind::Consumer, "user_registered_queue process");
    let last = only(&spans, SpanKind::Producer, "order_created_queue publish");
    assert_eq!(spans.len(), 4, "what machines ask is no hop: {spans:#?}");
    for (span, parent) in
        [(&server, CLIENT), (&producer, &server.id), (&consumer, &producer.id), (&last, &consumer.id)]
    {
        assert_eq!((&*span.trace, &*span.parent), (TRACE, parent), "{span:#?}");
        assert!(span.start_ns <= span.end_ns && !span.failed, "{span:#?}");
        assert_has(span, &[("workflow.id", "w")]);
    }
    // In logs, in headers and in what is exported: the same.
    assert_eq!(server.traceparent(), hop);
    assert_eq!(producer.traceparent(), header);
    assert_eq!(hops_in_order(&handled), [consumer.traceparent()]);
    assert_eq!(last.traceparent(), last_header);

    let services = [&server, &producer, &consumer, &last].map(Span::service);
    assert_eq!(services, ["registry", "registry", "mailer", "mailer"]);
    assert_eq!((&*server.resource["service.version"], &*server.resource["comm.mode"]), ("7", "async"));
    assert_has(
        &server,
        &[
            ("http.request.method", "POST"),
            ("http.route", "/register"),
            ("url.path", "/register"),
            ("url.scheme", "http"),
            ("http.response.status_code", "202"),
        ],
    );
    let messaging = [("messaging.system", "rabbitmq"), ("messaging.destination.name", QUEUE)];
    assert_has(&producer, &messaging);
    assert_has(&producer, &[("messaging.operation.type", "send"), ("workflow.event", "UserRegistered")]);
    assert_has(&consumer, &messaging);
    assert_has(&consumer, &[("messaging.operation.type", "process"), ("workflow.outcome", "ok")]);
    assert_eq!(producer.attributes["messaging.message.id"], consumer.attributes["messaging.message.id"]);
    sandbox.close().await;
}

#[tokio::test]
async fn each_attempt_is_a_span_and_waiting_for_what_is_away_is_none() {
    let (sandbox, collector) = (Sandbox::new().await, Collector::start().await);
    let registry = start_registry(&sandbox, &[]).await;
    // First the database is away, then it fails, then it works: a second later.
    let fail = vec![
        HandlerError::Retry(anyhow::anyhow!("on purpose")),
        HandlerError::Unavailable(anyhow::anyhow!("on purpose")),
    ];
    let (mailer, handled) = start_mailer(&sandbox, &[&collector.setting], fail).await;
    post_traced(&registry, "/register", "01").await;
    eventually("three times", async || handled.lock().unwrap().len() >= 3).await;
    eventually("it is announced", async || !sandbox.messages("order_created_queue").await.is_empty()).await;
    mailer.stop().await;
    registry.stop().await;
    let spans = collector.spans();
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.kind == SpanKind::Consumer).collect();
    let [first, second] = attempts[..] else { panic!("not two attempts: {spans:#?}") };
    assert_eq!((first.failed, second.failed), (true, false));
    assert_has(first, &[("error.type", "failed"), ("workflow.outcome", "failed")]);
    assert_eq!((&first.trace, &second.parent), (&second.trace, &first.id));
    assert_eq!(hops_in_order(&handled), [first.traceparent(), second.traceparent()]);
    sandbox.close().await;
}

/// Two services in sync mode: what the first is asked it asks the second, whose way to answer depends on the path.
async fn start_pair(sandbox: &Sandbox, more: &[&str], status: StatusCode) -> (TestApp, TestApp, Hops) {
    async fn register(State(deps): State<Deps>) -> Result<String, ApiError> {
        let request = SendWelcomeEmail { user_id: 1, email: "a@example.org".into() };
        deps.http.call(&request).await?;
        Ok(Context::current().traceparent)
    }
    let hops = Hops::default();
    let noted = Arc::clone(&hops);
    let email = async move |headers: HeaderMap| {
        let header = headers["traceparent"].to_str().expect("text").to_owned();
        noted.lock().expect("no panic while it was held").extend([header, Context::current().traceparent]);
        (status, axum::Json(Done::ok()))
    };
    let build = |_: Deps, NoSettings {}| {
        Service::new(OpenApiRouter::new().route(SendWelcomeEmail::PATH, post(email)))
    };
    let peer = sandbox.start(about("mailer", None), Mode::Sync, more, build).await;
    let url = format!("--email-service-url={}", peer.base);
    let more = [more, &[url.as_str()]].concat();
    let build = |deps: Deps, NoSettings {}| {
        Service::new(OpenApiRouter::new().route("/register", post(register)).with_state(deps))
    };
    let app = sandbox.start(about("registry", None), Mode::Sync, &more, build).await;
    (app, peer, hops)
}

#[tokio::test]
async fn a_call_is_a_span_between_those_of_the_two_services() {
    let (sandbox, collector) = (Sandbox::new().await, Collector::start().await);
    let (app, peer, hops) = start_pair(&sandbox, &[&collector.setting], StatusCode::OK).await;
    let reply = post_traced(&app, "/register", "01").await;
    let address = peer.base.trim_start_matches("http://").to_owned();
    app.stop().await;
    peer.stop().await;
    let spans = collector.spans();
    let first = only(&spans, SpanKind::Server, "POST /register");
    let path = SendWelcomeEmail::PATH;
    let call = only(&spans, SpanKind::Client, &format!("POST {path}"));
    let second = only(&spans, SpanKind::Server, &format!("POST {path}"));
    assert_eq!(spans.len(), 3, "{spans:#?}");
    for (span, parent, service) in
        [(&first, CLIENT, "registry"), (&call, &first.id, "registry"), (&second, &call.id, "mailer")]
    {
        assert_eq!((&*span.trace, &*span.parent, span.service()), (TRACE, parent, service), "{span:#?}");
        assert_eq!((span.failed, &*span.resource["comm.mode"]), (false, "sync"));
    }
    assert!(first.start_ns <= call.start_ns && call.end_ns <= first.end_ns, "{spans:#?}");
    assert_eq!(first.traceparent(), reply.text);
    assert_eq!(*hops.lock().unwrap(), [call.traceparent(), second.traceparent()]);
    let (host, port) = address.split_once(':').unwrap();
    assert_has(
        &call,
        &[
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("server.address", host),
            ("server.port", port),
            ("url.full", &format!("http://{address}{path}")),
        ],
    );
    sandbox.close().await;
}

#[tokio::test]
async fn who_failed_is_seen_on_each_side() {
    let (sandbox, collector) = (Sandbox::new().await, Collector::start().await);
    let (app, peer, _) = start_pair(&sandbox, &[&collector.setting], StatusCode::NOT_FOUND).await;
    assert_eq!(post_traced(&app, "/register", "01").await.status, 502);
    peer.stop().await;
    assert_eq!(post_traced(&app, "/register", "01").await.status, 502);
    app.stop().await;
    let spans = collector.spans();
    let of = |kind: SpanKind, service: &str| -> Vec<(bool, Option<String>)> {
        let spans = spans.iter().filter(|span| span.kind == kind && span.service() == service);
        spans.map(|span| (span.failed, span.attributes.get("error.type").cloned())).collect()
    };
    let error = |kind: &str| (true, Some(kind.to_owned()));
    assert_eq!(of(SpanKind::Server, "mailer"), [(false, None)], "what the client did wrong is no error here");
    assert_eq!(of(SpanKind::Client, "registry"), [error("404"), error("connection")]);
    assert_eq!(of(SpanKind::Server, "registry"), [error("502"), error("502")]);
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_collector_or_for_a_trace_that_nobody_records_headers_are_the_hops_own() {
    let (sandbox, collector) = (Sandbox::new().await, Collector::start().await);
    for (settings, flags) in [(vec![], "01"), (vec![collector.setting.as_str()], "00")] {
        let (app, peer, hops) = start_pair(&sandbox, &settings, StatusCode::OK).await;
        let hop = post_traced(&app, "/register", flags).await.text;
        assert_eq!(hops.lock().unwrap()[0], hop);
        app.stop().await;
        peer.stop().await;
    }
    let registry = start_registry(&sandbox, &[]).await;
    let hop = post_traced(&registry, "/register", "01").await.text;
    assert_eq!(sent_traceparent(&sandbox, QUEUE).await, hop);
    registry.stop().await;
    assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
    sandbox.close().await;
}

/// One that is not there, and one that takes connections and says nothing.
#[tokio::test]
async fn a_collector_that_is_away_costs_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent_url = format!("http://{}", silent.local_addr().expect("an address"));
    for url in [closed_port().await, silent_url] {
        let sandbox = Sandbox::new().await;
        let registry = start_registry(&sandbox, &[&setting(&url)]).await;
        let (mailer, handled) = start_mailer(&sandbox, &[&setting(&url)], Vec::new()).await;
        // Two spans each: more than fit into the queue of spans.
        for _ in 0..1500 {
            assert_eq!(registry.post("/register", Value::Null).await.status, 202);
        }
        eventually("all are handled", async || handled.lock().unwrap().len() >= 1500).await;
        let stopping = Instant::now();
        registry.stop().await;
        mailer.stop().await;
        assert!(stopping.elapsed() < Duration::from_secs(10), "{:?} to stop", stopping.elapsed());
        sandbox.close().await;
    }
}

#[tokio::test]
async fn spans_are_sent_while_the_service_runs_too() {
    let (sandbox, collector) = (Sandbox::new().await, Collector::start().await);
    let (app, peer, _) = start_pair(&sandbox, &[&collector.setting], StatusCode::OK).await;
    post_traced(&app, "/register", "01").await;
    eventually("spans come while the services run", async || collector.spans().len() == 3).await;
    app.stop().await;
    peer.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let sandbox = Sandbox::new().await;
    for wrong in ["https://localhost:4317", "localhost:4317", "not an address"] {
        let (settings, NoSettings {}) = sandbox.settings(Mode::Sync, &[&setting(wrong)]);
        let build = |_, _| Service::new(OpenApiRouter::new());
        let started = common::service::start(about("registry", None), &settings, build).await;
        let error = started.err().expect("it does not start").to_string();
        assert!(error.starts_with(&format!("OTEL_EXPORTER_OTLP_ENDPOINT={wrong}: ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    sandbox.close().await;
}
