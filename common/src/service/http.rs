//! The server: one way of every request, its limits, and the paths that every service has.

mod write_limit;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{self, AsHeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use contract::Failpoint;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::{License, OpenApi, RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;

use self::write_limit::WriteLimited;
use super::About;
use crate::context::{Context, REQUEST_ID};
use crate::otel::{self, Spans};
use crate::tasks::panic_text;
use crate::web::BODY_LIMIT;
use crate::{ApiError, Db, Mode, failpoint, metrics, telemetry};

/// A client that sends its head slower than this is cut off; so is a connection that rests as long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Unless the service says otherwise.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// At shutdown: for requests of clients that are connected already.
const LAST_REQUESTS: Duration = Duration::from_millis(100);
/// A head may be this large; the default is 400 KB, held for every connection that sends one.
const HEAD_LIMIT: usize = 32 * 1024;

/// A client that takes less than [`TAKEN`] of its answers in this time, while more of them waits to be sent, is cut off. With
/// [`SEND_BUFFER`], so is one that reads a byte now and then: the kernel takes more only when a third of the buffer is free.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const TAKEN: usize = 64 * 1024;
/// The same at shutdown.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// What the kernel holds of the answers on a connection; else it grows to 4 MB for a client that reads nothing. Linux
/// doubles it.
const SEND_BUFFER: u32 = 128 * 1024;

/// Part of the API document of every service.
const ERRORS: &str = "Errors are `application/problem+json` (RFC 9457). The exceptions have no body, and the connection is closed: \
    400 for what is no HTTP/1.1, 431 or 414 for a head of more than 32 KB. A client that does not send its request or take its \
    answer in time is cut off.";

/// Counted for a request whose client went away before the answer; nginx's number for it.
const CLIENT_LEFT: u16 = 499;
/// Paths that probes and Prometheus request every few seconds.
const LOOKED_AT_BY_MACHINES: [&str; 3] = ["/health", "/ready", "/metrics"];

/// What `/ready` looks at; `None` is not needed.
#[derive(Clone, Default)]
pub(super) struct Health {
    pub db: Option<Db>,
    #[cfg(feature = "messaging")]
    pub broker: super::broker::Connected,
}

impl Health {
    fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.db.as_ref().is_some_and(|db| !db.is_ready()) {
            missing.push("database");
        }
        #[cfg(feature = "messaging")]
        if self.broker.consuming.as_ref().is_some_and(|consuming| !*consuming.borrow()) {
            missing.push("consumers");
        }
        #[cfg(feature = "messaging")]
        if self.broker.publisher.as_ref().is_some_and(|bus| !bus.is_connected()) {
            missing.push("broker");
        }
        missing
    }
}

/// The requests at work, and how long each may take.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) tasks: TaskTracker,
    pub(super) limit: Duration,
}

/// The service's routes with everything around them.
pub(super) fn app(
    about: About,
    mode: Mode,
    routes: OpenApiRouter,
    figures: Option<Figures>,
    health: Health,
    spans: Spans,
    requests: Requests,
) -> Router {
    let (routes, mut api) = routes.split_for_parts();
    api.info.title = format!("{} ({mode})", about.name);
    api.info.version = about.version.into();
    api.info.description = Some(format!("{}\n\n{ERRORS}", about.description));
    // Else those of the library that gathers the routes.
    api.info.contact = None;
    api.info.license = Some(License::builder().name("MIT").identifier(Some("MIT")).build());
    let posts = api.paths.paths.values_mut().filter_map(|path| path.post.as_mut());
    posts.filter_map(|post| post.request_body.as_mut()).for_each(missing_is_not_null);
    announce(&api);
    let root = json!({
        "service": about.name, "version": about.version, "mode": mode.as_str(),
        "scenarios": about.scenarios, "description": about.description,
    });
    let alive =
        json!({"status": "ok", "service": about.name, "mode": mode.as_str(), "version": about.version});
    let docs = utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", api);
    routes
        .route("/", get(move || async { Json(root) }))
        .route("/health", get(move || async { Json(alive) }))
        .route("/ready", get(ready).with_state((about.name, health.clone())))
        .route("/metrics", get(move |headers| metrics_by_accept(figures, health.db, headers)))
        .merge(docs)
        .fallback(|| async { ApiError::NotFound("no such path".into()) })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state((spans, requests), way_of_a_request))
}

/// Shows the answers that the document names in the metrics before they are given: what appears with a count of one has
/// no rise, and a class of errors that never happened is a zero, not a gap.
fn announce(api: &OpenApi) {
    let metrics = metrics::get();
    for (path, item) in &api.paths.paths {
        for (method, operation) in [("GET", &item.get), ("POST", &item.post), ("PUT", &item.put)] {
            let Some(operation) = operation else { continue };
            metrics.http_duration.with_label_values(&[method, path]);
            for status in operation.responses.responses.keys() {
                metrics.http_requests.with_label_values(&[method, path, status]);
            }
        }
    }
}

/// The attributes say `Option` of a body that may be missing, and the library makes `null` of it.
fn missing_is_not_null(body: &mut RefOr<RequestBody>) {
    let RefOr::T(body) = body else { return };
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        if let Some(RefOr::T(Schema::OneOf(either))) = &content.schema {
            content.schema = either.items.iter().find(|schema| matches!(schema, RefOr::Ref(_))).cloned();
        }
    }
}

async fn ready(State((service, health)): State<(&'static str, Health)>) -> Response {
    let missing = health.missing();
    if missing.is_empty() {
        return Json(json!({"status": "ready", "service": service})).into_response();
    }
    ApiError::Unavailable(format!("waiting for: {}", missing.join(", ")).into()).into_response()
}

/// What a service answers to `GET /metrics` instead of the Prometheus text format.
pub(super) type Figures = Arc<dyn Fn() -> BoxFuture<'static, Result<Response, ApiError>> + Send + Sync>;

pub(super) fn figures<F, T>(figures: impl Fn() -> F + Send + Sync + 'static) -> Figures
where
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
    T: serde::Serialize + 'static,
{
    Arc::new(move || {
        let figures = figures();
        Box::pin(async move { Ok(Json(figures.await?).into_response()) })
    })
}

async fn metrics_by_accept(
    figures: Option<Figures>,
    db: Option<Db>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let names_text = |accept: &str| {
        let accept = accept.to_ascii_lowercase();
        ["text/plain", "application/openmetrics-text"].iter().any(|text| accept.contains(text))
    };
    match figures {
        Some(figures) if !accepted.into_iter().any(names_text) => figures().await,
        _ => scrape(db).await,
    }
}

async fn scrape(db: Option<Db>) -> Result<Response, ApiError> {
    if let Some(db) = db {
        db.measure();
    }
    let text = metrics::get().render().map_err(|error| ApiError::Internal(error.into()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Counts, times and names a request, and runs it in a task of its own: work that was begun is finished even if the client
/// goes away, and a panic is an answer, not a dropped connection.
async fn way_of_a_request(
    State((spans, Requests { tasks, limit })): State<(Spans, Requests)>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let handler: Arc<str> =
        request.extensions().get::<MatchedPath>().map_or("unmatched".into(), |p| p.as_str().into());
    let in_progress = InProgress::begin(method, &handler);
    let context = Context::received(|name| only(request.headers(), name)?.to_str().ok());
    let id = HeaderValue::try_from(&context.workflow);
    let span = tracing::info_span!(
        "request",
        request_id = context.workflow,
        traceparent = context.traceparent,
        method,
        handler = &*handler,
        subject = tracing::field::Empty,
    );

    let hop = spans.serving(&request, method, &handler, &context);
    let mut counted =
        Counted { method, handler, started, hop: Some(hop), span: span.clone(), status: CLIENT_LEFT };
    let work = async {
        match has_valid_host(&request) {
            true => next.run(request).await,
            false => ApiError::BadRequest("a request has one Host").into_response(),
        }
    };
    let work = context.scope(work).instrument(span.clone());
    let task = tasks.spawn(async move {
        let _in_progress = in_progress;
        work.await
    });
    let finished = tokio::time::timeout(limit, task).await;
    let mut response = span.in_scope(|| match finished {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let text = error.try_into_panic().map(|panic| panic_text(&*panic).to_owned());
            ApiError::Internal(anyhow::anyhow!("a handler panicked: {}", text.unwrap_or_default()))
                .into_response()
        }
        Err(_) => ApiError::Unavailable(format!("the request took longer than {} s", limit.as_secs()).into())
            .into_response(),
    });
    if ["POST", "PUT"].contains(&method) {
        failpoint::pass(Failpoint::BeforeReply);
    }

    counted.status = response.status().as_u16();
    if let Ok(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The value of a header that is given once: of two, none is right.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// RFC 9112, 3.2. The library that reads the head does not look at it.
fn has_valid_host(request: &Request) -> bool {
    let headers = request.headers();
    match only(headers, header::HOST) {
        // RFC 3986, 3.2: a name or an address, and a port.
        Some(host) => {
            host.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-._:[]~!$&'()*+,;=%".contains(b))
        }
        None => request.version() < Version::HTTP_11 && !headers.contains_key(header::HOST),
    }
}

/// While a request is at work, also after its client has left.
struct InProgress(prometheus::IntGauge);

impl InProgress {
    fn begin(method: &str, handler: &str) -> Option<InProgress> {
        if !metrics::counting() {
            return None;
        }
        let gauge = metrics::get().http_in_progress.with_label_values(&[method, handler]);
        gauge.inc();
        Some(InProgress(gauge))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a request once, when it is answered or its client has gone.
struct Counted {
    method: &'static str,
    handler: Arc<str>,
    started: Instant,
    hop: Option<otel::Span>,
    span: Span,
    status: u16,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (metrics, seconds) = (metrics::get(), self.started.elapsed().as_secs_f64());
        if metrics::counting() {
            let mut digits = [0; 3];
            let status = three_digits(self.status, &mut digits);
            metrics.http_requests.with_label_values(&[self.method, &self.handler, status]).inc();
            metrics.http_duration.with_label_values(&[self.method, &self.handler]).observe(seconds);
        }
        if LOOKED_AT_BY_MACHINES.contains(&&*self.handler) {
            return;
        }
        if let Some(hop) = self.hop.take() {
            self.span.in_scope(|| telemetry::answered(hop, self.status, seconds));
        }
    }
}

/// A method that a client made up must not make a label of its own.
fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

fn three_digits(status: u16, digits: &mut [u8; 3]) -> &str {
    for (place, divisor) in digits.iter_mut().zip([100, 10, 1]) {
        *place = b'0' + (status / divisor % 10) as u8;
    }
    std::str::from_utf8(digits).unwrap_or("000")
}

/// # Errors
/// When the address is taken or is not this machine's.
pub(super) fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(addr)?;
    socket.listen(1024)
}

/// Accepts until `stop`, then lets what runs end: whoever was connected by then is answered, and `requests` whose clients have
/// left are finished.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    requests: TaskTracker,
    stop: CancellationToken,
) {
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEAD_LIMIT);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let serve = |stream: tokio::net::TcpStream, connections: &mut JoinSet<()>| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let service = TowerToHyperService::new(app.clone());
        let stream = TokioIo::new(WriteLimited::new(stream, stop.clone()));
        let connection = graceful.watch(server.serve_connection(stream, service));
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
        });
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream, &mut connections),
                Err(error) => {
                    // Out of file descriptors, most likely: those that are served give theirs back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    // A closed listener resets those whom the kernel has connected and we have not met yet: the turn of the runtime says
    // whether there are any.
    tokio::task::yield_now().await;
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        serve(stream, &mut connections);
    }
    drop(listener);
    // A connection that has not been read from yet would be closed unanswered.
    tokio::time::sleep(LAST_REQUESTS).await;
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
    requests.close();
    requests.wait().await;
}

/// Asks `/ready` of the service at `addr`, without a client library: the image has no shell and the async one no client.
#[expect(clippy::print_stderr, reason = "the container runtime shows it")]
pub(super) fn healthcheck(addr: SocketAddr) -> ExitCode {
    let host =
        if addr.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], addr.port())) } else { addr };
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&host, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.starts_with(&format!("HTTP/1.1 {}", StatusCode::OK.as_u16())) => {
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            eprintln!("not ready: {}", answer.lines().last().unwrap_or_default());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{host}: {error}");
            ExitCode::FAILURE
        }
    }
}
