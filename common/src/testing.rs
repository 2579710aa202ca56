//! For tests: a service started as its `main` starts it, on a free port, with a schema and a virtual host of its own, against
//! the real PostgreSQL and RabbitMQ of `DATABASE_URL`, `AMQP_URL` and `RABBITMQ_MANAGEMENT_URL` (`./study test` starts them). In
//! mode `stream` the Kafka of `KAFKA_BOOTSTRAP` takes RabbitMQ's place, and a prefix that of the virtual host.
//! A test fails with a message if one is missing. Waiting is for a condition with a deadline.

mod logs;
mod plans;
mod program;

use std::future::Future;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use clap::Args;
pub use logs::Logs;
pub use plans::{assert_reads_few_rows, keep_statistics};
pub use program::Program;
pub use reqwest::Method;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::config::{Cli, Settings};
use crate::context::REQUEST_ID;
use crate::service::{self, About, Deps, Service};
use crate::{Mode, journal};

/// Longest wait for a condition. Generous: it is only ever waited for in full when a test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The servers that tests run against, with a schema and a virtual host of this test's own.
pub struct Sandbox {
    pub schema: String,
    /// The virtual host, or the prefix of topics and groups.
    pub vhost: String,
    database_url: String,
    client: reqwest::Client,
    /// Instead of RabbitMQ.
    #[cfg(feature = "kafka")]
    kafka: Option<crate::bus::kafka::testing::Probe>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub text: String,
}

/// Asks a service. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    /// `http://HOST:PORT`
    pub base: String,
    http: reqwest::Client,
}

/// A service that runs in this process.
pub struct TestApp {
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

#[expect(clippy::disallowed_methods, reason = "the one place where tests learn of the servers")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `./study test`, which starts all servers, or set it to a running one")
    })
}

impl Sandbox {
    /// A fresh schema name (the service makes the schema) and a fresh virtual host.
    pub async fn new() -> Sandbox {
        let sandbox = Sandbox::without_broker();
        sandbox.manage(Method::PUT, &format!("vhosts/{}", sandbox.vhost), Value::Null).await;
        sandbox
    }

    /// A fresh schema name, and a fresh prefix on Kafka.
    #[cfg(feature = "kafka")]
    pub fn on_kafka() -> Sandbox {
        let mut sandbox = Sandbox::without_broker();
        let (bootstrap, prefix) = (variable("KAFKA_BOOTSTRAP"), format!("{}.", sandbox.vhost));
        sandbox.kafka = Some(crate::bus::kafka::testing::Probe { bootstrap, prefix });
        sandbox
    }

    fn without_broker() -> Sandbox {
        let name = format!("t{}", Uuid::now_v7().simple());
        Sandbox {
            schema: name.clone(),
            vhost: name,
            database_url: variable("DATABASE_URL"),
            client: client(),
            #[cfg(feature = "kafka")]
            kafka: None,
        }
    }

    /// The settings that name the broker.
    fn broker(&self) -> Vec<(&'static str, String)> {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            return vec![
                ("KAFKA_BOOTSTRAP", kafka.bootstrap.clone()),
                ("KAFKA_PREFIX", kafka.prefix.clone()),
            ];
        }
        let url = variable("AMQP_URL");
        let (base, _) = url.rsplit_once('/').expect("AMQP_URL ends with /VHOST");
        vec![("AMQP_URL", format!("{base}/{}", self.vhost))]
    }

    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Settings as a service gets them, plus `more` command-line arguments such as `--email-delay-ms=0`, which win.
    pub fn settings<Own: Args>(&self, mode: Mode, more: &[&str]) -> (Settings, Own) {
        let own = [
            "test".to_owned(),
            format!("--comm-mode={mode}"),
            "--listen-addr=127.0.0.1:0".to_owned(),
            format!("--database-url={}", self.database_url),
            format!("--db-schema={}", self.schema),
            // What is refused and set aside on purpose would bury the results; give `--rust-log=info` to look closer.
            "--rust-log=off".to_owned(),
            "--log-format=pretty".to_owned(),
            format!("--journal-dir={}", journal_dir().display()),
            // Tests export no spans, whatever the environment sets.
            #[cfg(feature = "otel")]
            "--otel-exporter-otlp-endpoint=".to_owned(),
        ];
        let name = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
        let broker = self.broker().into_iter();
        let broker =
            broker.map(|(name, value)| format!("--{}={value}", name.to_lowercase().replace('_', "-")));
        let own =
            own.into_iter().chain(broker).filter(|own| !more.iter().any(|more| name(more) == name(own)));
        let arguments = own.chain(more.iter().map(|m| (*m).to_owned()));
        let cli: Cli<Own> = clap::Parser::try_parse_from(arguments).expect("settings of the test");
        (cli.base, cli.own)
    }

    /// Starts a service and waits until it is ready.
    pub async fn start<Own: Args>(
        &self,
        about: About,
        mode: Mode,
        more: &[&str],
        build: impl FnOnce(Deps, Own) -> Service,
    ) -> TestApp {
        let app = self.start_unready(about, mode, more, build).await;
        eventually("the service is ready", async || app.get("/ready").await.status == 200).await;
        app
    }

    /// Starts a service that may lack what it needs.
    pub async fn start_unready<Own: Args>(
        &self,
        about: About,
        mode: Mode,
        more: &[&str],
        build: impl FnOnce(Deps, Own) -> Service,
    ) -> TestApp {
        let (settings, own) = self.settings::<Own>(mode, more);
        let running =
            service::start(about, &settings, |_, deps| build(deps, own)).await.expect("the service starts");
        let base = format!("http://{}", running.addr);
        let (stop, stopped) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "TestApp::stop awaits it")]
        let ended = tokio::spawn(running.until(async move {
            stopped.await.ok();
        }));
        TestApp { client: Client { base, http: client() }, stop: Some(stop), ended }
    }

    /// A pool in this test's schema, to look at what a service stored.
    pub async fn pool(&self) -> sqlx::PgPool {
        let options: sqlx::postgres::PgConnectOptions = self.database_url.parse().expect("DATABASE_URL");
        let options = options.options([("search_path", self.schema.as_str())]);
        sqlx::PgPool::connect_with(options).await.expect("the database answers")
    }

    /// Publishes an event as another service would, with the given message id, which is the workflow's id as well.
    #[cfg(feature = "amqp")]
    pub async fn publish<E: crate::events::Event>(&self, event: &E, message_id: &str) {
        let message = crate::bus::Message::of(event, crate::Context::fresh()).expect("event is JSON");
        let text = String::from_utf8(message.body).expect("JSON is text");
        let (exchange, routing_key) = crate::bus::amqp::route(message.address);
        self.publish_raw(&exchange, &routing_key, &text, message_id).await;
    }

    /// [`Sandbox::publish`] to one queue alone, where the event's exchange may not be there.
    #[cfg(feature = "amqp")]
    pub async fn publish_to<E: crate::events::Event>(&self, queue: &str, event: &E, message_id: &str) {
        let message = crate::bus::Message::of(event, crate::Context::fresh()).expect("event is JSON");
        let text = String::from_utf8(message.body).expect("JSON is text");
        self.publish_raw("", queue, &text, message_id).await;
    }

    /// Publishes any text through the management API; fails if no queue takes it.
    pub async fn publish_raw(&self, exchange: &str, routing_key: &str, payload: &str, message_id: &str) {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            let queue = if exchange.is_empty() { routing_key } else { exchange }.to_owned();
            let (payload, message_id) = (payload.to_owned(), message_id.to_owned());
            return kafka.run(move |kafka| kafka.publish(&queue, &payload, &message_id)).await;
        }
        let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
        let body = json!({
            "properties": {"delivery_mode": 2, "message_id": message_id, "correlation_id": message_id},
            "routing_key": routing_key, "payload": payload, "payload_encoding": "string",
        });
        let reply =
            self.manage(Method::POST, &format!("exchanges/{}/{exchange}/publish", self.vhost), body).await;
        assert_eq!(reply["routed"], true, "no queue takes {exchange}/{routing_key}");
    }

    /// The messages of a queue, which stay there. Queues that do not exist are empty. On Kafka also those that a consumer has.
    pub async fn messages(&self, queue: &str) -> Vec<Value> {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            let queue = queue.to_owned();
            return kafka.run(move |kafka| kafka.messages(&queue)).await;
        }
        let body = json!({"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"});
        match self.manage(Method::POST, &format!("queues/{}/{queue}/get", self.vhost), body).await {
            Value::Array(messages) => messages,
            _ => Vec::new(),
        }
    }

    /// The number of records of a topic that a group has not settled.
    #[cfg(feature = "kafka")]
    pub async fn lag(&self, group: &str, topic: &str) -> usize {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let kafka = self.kafka.as_ref().expect("a sandbox on Kafka");
        kafka.run(move |kafka| kafka.lag(&group, &topic)).await
    }

    /// The event bodies of a queue.
    pub async fn events(&self, queue: &str) -> Vec<Value> {
        let messages = self.messages(queue).await;
        let payload = |m: &Value| {
            serde_json::from_str(m["payload"].as_str().unwrap_or_default()).unwrap_or(Value::Null)
        };
        messages.iter().map(payload).collect()
    }

    /// Why messages of `queue` are in its dead-letter queue.
    pub async fn reasons(&self, queue: &str) -> Vec<String> {
        let messages = self.messages(&format!("{queue}.dlq")).await;
        let reason =
            |m: &Value| m["properties"]["headers"]["x-reason"].as_str().unwrap_or_default().to_owned();
        messages.iter().map(reason).collect()
    }

    /// Asks the broker's management API.
    pub async fn manage(&self, method: Method, path: &str, body: Value) -> Value {
        let management = variable("RABBITMQ_MANAGEMENT_URL");
        let mut request = self.client.request(method, format!("{management}/api/{path}"));
        if !body.is_null() {
            request = request.json(&body);
        }
        let reply = request.send().await.expect("the management API answers");
        reply.json().await.unwrap_or(Value::Null)
    }

    /// Deletes a queue with its messages. On Kafka the topic, and so the queues of all its readers.
    pub async fn delete_queue(&self, queue: &str) {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            let queue = queue.to_owned();
            return kafka.run(move |kafka| kafka.delete(&queue)).await;
        }
        self.manage(Method::DELETE, &format!("queues/{}/{queue}", self.vhost), Value::Null).await;
    }

    /// Removes what the test made on the broker.
    pub async fn close(self) {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            return kafka.run(|kafka| kafka.delete_all()).await;
        }
        self.manage(Method::DELETE, &format!("vhosts/{}", self.vhost), Value::Null).await;
    }
}

impl Deref for TestApp {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Client {
    pub async fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.request(Method::POST, path, &[], Some(body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.request(Method::PUT, path, &[], Some(body.to_string())).await
    }

    /// `POST` with an `Idempotency-Key`.
    pub async fn post_keyed(&self, path: &str, key: &str, body: Value) -> Reply {
        self.request(Method::POST, path, &[("idempotency-key", key)], Some(body.to_string())).await
    }

    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Reply {
        self.try_request(method, path, headers, body).await.expect("the service answers")
    }

    /// `None` if there is no answer: the service has died, or is not there.
    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Option<Reply> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body.unwrap_or_default()).send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some(Reply { status, headers, body, text })
    }

    /// The sum of the samples of a metric that have all of these labels, such as `queue="x"`. Every service of the test's
    /// process counts into the same registry.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").await.text;
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let ours = samples.filter(|(sample, _)| {
            sample.split('{').next() == Some(name) && labels.iter().all(|label| sample.contains(label))
        });
        ours.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }

    /// Messages of a queue that came to this outcome.
    pub async fn consumed(&self, queue: &str, outcome: &str) -> f64 {
        let labels = [format!("queue=\"{queue}\""), format!("outcome=\"{outcome}\"")];
        self.metric("events_consumed_total", &[&labels[0], &labels[1]]).await
    }
}

impl TestApp {
    /// Ends the service as SIGTERM does, and waits until it has.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        self.ended.await.expect("the service does not panic").expect("the service ends in order");
    }
}

impl Reply {
    /// Fails unless this is a problem (RFC 9457) with this status; its `errors` name `field`, if one is given.
    pub fn assert_problem(&self, status: u16, field: Option<&str>) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        assert_eq!(self.body["status"], status, "{}", self.text);
        for member in ["type", "title", "detail"] {
            assert!(self.body[member].is_string(), "{member} is missing: {}", self.text);
        }
        if let Some(field) = field {
            let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {}", self.text));
            assert!(errors.iter().any(|e| e["field"] == field), "{field} is not named: {}", self.text);
        }
    }
}

/// The bad input that every JSON path must refuse: malformed, too large, not an object. `path` takes `POST` (or `method`).
pub async fn assert_refuses_bad_bodies(app: &Client, method: Method, path: &str) {
    let send = async |body: String| app.request(method.clone(), path, &[], Some(body)).await;
    for malformed in ["{", "{\"a\":1,}", "nonsense", "\u{0}", "{\"a\":\"\u{1}\"}"] {
        send(malformed.into()).await.assert_problem(400, None);
    }
    for no_object in ["[]", "1", "\"text\"", "null", "true"] {
        send(no_object.into()).await.assert_problem(422, None);
    }
    send(format!("{{\"pad\":\"{}\"}}", "x".repeat(65 * 1024))).await.assert_problem(413, None);
    send(format!("{{\"deep\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000)))
        .await
        .assert_problem(422, None);
    send("[".repeat(20_000)).await.assert_problem(400, None);
    send("{\"unknown_field\":1}".into()).await.assert_problem(422, None);
}

/// Each of these bodies must be refused, and the field that is wrong be named.
pub async fn assert_refuses_fields(app: &Client, method: Method, path: &str, cases: &[(&str, &str)]) {
    for (field, body) in cases {
        app.request(method.clone(), path, &[], Some((*body).to_owned()))
            .await
            .assert_problem(422, Some(field));
    }
}

/// What the three receivers of S3 refuse, and the field that is wrong.
pub const BAD_PRODUCT_CHANGES: [(&str, &str); 19] = [
    ("product_id", "{}"),
    ("product_id", r#"{"name":"x","stock":1,"version":2}"#),
    ("product_id", r#"{"product_id":null}"#),
    ("product_id", r#"{"product_id":"1"}"#),
    ("product_id", r#"{"product_id":1.5}"#),
    ("product_id", r#"{"product_id":0}"#),
    ("product_id", r#"{"product_id":-1}"#),
    ("product_id", r#"{"product_id":9223372036854775808}"#),
    ("product_id", r#"{"product_id":1e999}"#),
    ("name", r#"{"product_id":1,"name":""}"#),
    ("name", r#"{"product_id":1,"name":7}"#),
    ("name", r#"{"product_id":1,"name":"a\u0000b"}"#),
    ("stock", r#"{"product_id":1,"stock":-1}"#),
    ("stock", r#"{"product_id":1,"stock":"1"}"#),
    ("stock", r#"{"product_id":1,"stock":99999999999999999999}"#),
    ("version", r#"{"product_id":1,"version":0}"#),
    ("version", r#"{"product_id":1,"version":-1}"#),
    ("version", r#"{"product_id":1,"version":"2"}"#),
    ("version", r#"{"product_id":1,"version":99999999999999999999}"#),
];

/// What is no positive integer that PostgreSQL could hold: wrong types, 0, negative, a fraction, too large, NUL.
pub fn no_ids() -> Vec<Value> {
    let texts = [json!("1"), json!(""), json!("\u{0}"), json!(true), json!([1]), json!({}), json!(1.5)];
    let numbers =
        [json!(0), json!(-1), json!(i64::MIN), json!(i64::MAX as u64 + 1), json!(u64::MAX), json!(1e300)];
    [texts.as_slice(), &numbers].concat()
}

/// `POST` of `valid` with each of `bad` in the place of `field` is refused: 422, which names the field.
pub async fn assert_refuses_values(app: &Client, path: &str, valid: &Value, field: &str, bad: &[Value]) {
    for value in bad {
        let mut body = valid.clone();
        body[field] = value.clone();
        app.post(path, body).await.assert_problem(422, Some(field));
    }
}

/// [`assert_refuses_values`] for a field that must be there.
pub async fn assert_needs_field(app: &Client, path: &str, valid: &Value, field: &str, bad: &[Value]) {
    let mut without = valid.clone();
    without.as_object_mut().expect("an object").remove(field);
    app.post(path, without).await.assert_problem(422, Some(field));
    assert_refuses_values(app, path, valid, field, &[&[Value::Null], bad].concat()).await;
}

/// What is no `Idempotency-Key` is refused: empty, too long, given twice, or two of them that a proxy joined.
pub async fn assert_refuses_bad_keys(app: &Client, path: &str, body: &Value) {
    let long = "k".repeat(256);
    for keys in
        [&[""][..], &[&long], &["k1", "k9"], &["k9", "k1"], &["k1", "k1"], &["k1, k9"], &["k1,k1"], &["k\t1"]]
    {
        let headers: Vec<(&str, &str)> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
        let reply = app.request(Method::POST, path, &headers, Some(body.to_string())).await;
        reply.assert_problem(422, Some("Idempotency-Key"));
    }
}

/// A path that ends with the number of something, called `name`, refuses what is none, and does not find one that is not there.
pub async fn assert_refuses_path_ids(app: &Client, path: &str, name: &str) {
    for id in ["x", "1.5", "99999999999999999999", "%00", "%ff"] {
        app.get(&format!("{path}/{id}")).await.assert_problem(422, Some(name));
    }
    for id in [0, -1, i64::MAX] {
        app.get(&format!("{path}/{id}")).await.assert_problem(404, None);
    }
}

/// What every list does with `?limit=`; `path` may have a query.
pub async fn assert_limits_list(app: &Client, path: &str) {
    let limited = |limit: &str| format!("{path}{}limit={limit}", if path.contains('?') { '&' } else { '?' });
    for limit in ["0", "1001", "-1", "x", "", "1.5", "99999999999999999999", "%00"] {
        app.get(&limited(limit)).await.assert_problem(422, Some("limit"));
    }
    app.get(&format!("{}&limit=2", limited("1"))).await.assert_problem(422, Some("limit"));
    let (all, one) = (app.get(&limited("1000")).await, app.get(&limited("1")).await);
    let (all, one) = (all.body.as_array().expect("a list"), one.body.as_array().expect("a list"));
    assert!(all.len() > 1, "two entries are needed to see a limit");
    assert_eq!(one.as_slice(), &all[..1], "the newest one");
}

/// The paths that every service serves.
pub async fn assert_serves_common_paths(app: &Client, about: &About, mode: Mode) {
    let health = app.get("/health").await;
    assert_eq!((health.status, &health.body["status"]), (200, &json!("ok")));
    assert_eq!((&health.body["service"], &health.body["mode"]), (&json!(about.name), &json!(mode.as_str())));
    let root = app.get("/").await;
    for member in ["service", "version", "mode", "scenarios", "description"] {
        assert!(!root.body[member].is_null(), "{member} is missing: {}", root.text);
    }
    let document = app.get("/openapi.json").await;
    assert!(document.body["openapi"].is_string() && document.body["paths"].is_object(), "{}", document.text);
    let docs = app.get("/docs").await;
    assert_eq!(docs.status, 200);
    assert!(docs.text.contains("swagger") && !docs.text.contains("https://"), "{}", docs.text);
    let metrics = app.get("/metrics").await;
    for name in [
        "http_requests_total{",
        "http_request_duration_seconds_bucket{",
        "http_requests_in_progress{",
        "build_info{",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "outbox_pending",
    ] {
        assert!(metrics.text.contains(name), "{name} is missing");
    }
    assert!(metrics.text.contains(r#"http_requests_total{handler="/health",method="GET",status="200"}"#));
    app.get("/no/such/path").await.assert_problem(404, None);
    app.request(Method::DELETE, "/health", &[], None).await.assert_problem(405, None);
    assert_eq!(app.get("/ready").await.status, 200);
}

/// An event's body without the time at which it was made, which it must have.
pub fn without_timestamp(mut event: Value) -> Value {
    let timestamp = event.as_object_mut().and_then(|event| event.remove("timestamp"));
    assert!(timestamp.is_some_and(|t| t.is_string()), "no timestamp: {event}");
    event
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`DEADLINE`].
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        let mut pause = Duration::from_millis(5);
        while !condition().await {
            // Slower and slower: looking at a queue counts as a delivery there, and its limit is 100.
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_millis(250));
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "not within {DEADLINE:?}: {what}");
}

/// A peer that answers every `POST` with what `answer` makes of path and body; its address.
pub async fn stub_peer<F, Fut>(answer: F) -> String
where
    F: Fn(String, Value) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = (u16, Value)> + Send + 'static,
{
    Peer::start(answer).await.url
}

/// A stub that records its requests.
pub struct Peer {
    pub url: String,
    calls: Arc<Mutex<Vec<Asked>>>,
}

/// A call that a [`Peer`] got.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub body: Value,
    /// Its `x-request-id`.
    pub workflow: String,
}

impl Peer {
    /// Starts a peer that answers every `POST` with what `answer` makes of path and body.
    pub async fn start<F, Fut>(answer: F) -> Peer
    where
        F: Fn(String, Value) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = (u16, Value)> + Send + 'static,
    {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&calls);
        let handler = move |uri: axum::http::Uri, headers: axum::http::HeaderMap, body: axum::body::Bytes| {
            let answer = answer.clone();
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let workflow =
                headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
            let asked = Asked { path: uri.path().to_owned(), body: body.clone(), workflow };
            noted.lock().expect("no test panics here").push(asked);
            async move {
                let (status, body) = answer(uri.path().to_owned(), body).await;
                let status = StatusCode::from_u16(status).expect("a status");
                (status, axum::Json(body))
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
        Peer { url: format!("http://{address}"), calls }
    }

    /// The requests so far, in order.
    pub fn calls(&self) -> Vec<Asked> {
        self.calls.lock().expect("no test panics here").clone()
    }

    /// The paths of [`Peer::calls`].
    pub fn paths(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.path).collect()
    }
}

/// The URL of a port without a listener.
pub async fn closed_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// The final effects that services of this process reported for a workflow, as `effect outcome`, in order.
pub fn effects_of(workflow: &str) -> Vec<String> {
    journal::flush();
    let mut effects = Vec::new();
    for file in std::fs::read_dir(journal_dir()).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(file.path()).expect("the journal is text");
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let ours = entries.filter(|entry| entry["workflow"] == workflow);
        effects.extend(ours.map(|entry| format!("{} {}", text(&entry, "effect"), text(&entry, "outcome"))));
    }
    effects
}

/// Beside the test's program; emptied when it starts.
fn journal_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = std::env::current_exe().expect("the test is a program").with_extension("journal");
        std::fs::remove_dir_all(&dir).ok();
        dir
    })
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(40)).build().expect("a client")
}
