//! Spans by OpenTelemetry's conventions for HTTP and messaging. Their ids come from the [`Context`].

use std::sync::Arc;
#[cfg(feature = "messaging")]
use std::time::Instant;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
#[cfg(feature = "http")]
use axum::http::Uri;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{self, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};

use crate::Mode;
use crate::config::{Settings, address};
use crate::context::Context;
use crate::outage::Outage;

/// Longest wait at shutdown for a collector to take the last spans.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Exports the spans of a service; empty without a collector. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Spans {
    /// A bounded queue with an exporting thread. Spans that do not fit are dropped, so no request waits.
    queue: Option<Arc<BatchSpanProcessor>>,
}

/// A span that has begun. The method that ends it exports it. Empty without a collector.
#[must_use]
pub(crate) struct Span {
    span: Option<(Arc<BatchSpanProcessor>, Box<SpanData>)>,
}

impl Spans {
    /// # Errors
    /// One line, when the collector's address cannot be one.
    pub(crate) fn start(
        service: &'static str,
        version: &'static str,
        mode: Mode,
        settings: &Settings,
    ) -> Result<Spans, String> {
        let endpoint = settings.otel.otel_exporter_otlp_endpoint.as_deref();
        // A variable that is empty counts as not set, by the specification.
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(Spans::default());
        };
        let wrong = |error: String| format!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}: {error}");
        address::http(endpoint).map_err(wrong)?;
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter.map_err(|error| wrong(error.to_string()))?;
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", version))
            .with_attribute(KeyValue::new("comm.mode", mode.as_str()))
            .build();
        let mut queue =
            BatchSpanProcessor::builder(Exporter { otlp: exporter, outage: Outage::default() }).build();
        queue.set_resource(&resource);
        Ok(Spans { queue: Some(Arc::new(queue)) })
    }

    /// Sends the spans that are queued.
    pub(crate) async fn close(self) {
        let Some(queue) = self.queue else { return };
        // On another thread: this one may be the only one, and the connection to the collector needs it.
        let closed = tokio::task::spawn_blocking(move || queue.shutdown_with_timeout(LAST_SPANS)).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::warn!("the collector did not take the last spans in time");
        }
    }

    /// A request arrived; `context` is that of its span.
    pub(crate) fn serving(
        &self,
        request: &Request,
        method: &'static str,
        handler: &str,
        context: &Context,
    ) -> Span {
        self.begin(SpanKind::Server, context, || {
            let mut attributes = vec![
                KeyValue::new("http.request.method", if method == "OTHER" { "_OTHER" } else { method }),
                KeyValue::new("url.scheme", "http"),
                KeyValue::new("url.path", request.uri().path().to_owned()),
            ];
            let method = if method == "OTHER" { "HTTP" } else { method };
            if !handler.starts_with('/') {
                return (method.to_owned(), attributes);
            }
            attributes.push(KeyValue::new("http.route", handler.to_owned()));
            (format!("{method} {handler}"), attributes)
        })
    }

    /// A peer is called, in a span of its own: `context` becomes that span's.
    #[cfg(feature = "http")]
    pub(crate) fn calling(&self, url: &str, path: &'static str, context: &mut Context) -> Span {
        self.descend(context);
        self.begin(SpanKind::Client, context, || {
            let mut attributes = vec![
                KeyValue::new("http.request.method", "POST"),
                KeyValue::new("url.full", url.to_owned()),
                KeyValue::new("url.template", path),
            ];
            if let Ok(uri) = url.parse::<Uri>() {
                let host = uri.host().unwrap_or_default().to_owned();
                attributes.push(KeyValue::new("server.address", host));
                attributes.push(KeyValue::new("server.port", i64::from(uri.port_u16().unwrap_or(80))));
            }
            (format!("POST {path}"), attributes)
        })
    }

    /// An event is handed to the broker, in a span of its own: `context` becomes that span's.
    #[cfg(feature = "messaging")]
    pub(crate) fn publishing(
        &self,
        destination: &str,
        event: &str,
        message_id: &str,
        context: &mut Context,
    ) -> Span {
        self.descend(context);
        self.begin(SpanKind::Producer, context, || {
            let mut attributes = messaging("send", "publish", destination.to_owned(), message_id);
            attributes.push(KeyValue::new("workflow.event", event.to_owned()));
            (format!("{destination} publish"), attributes)
        })
    }

    /// An event has been handled since `since`; `context` is that of its span.
    #[cfg(feature = "messaging")]
    pub(crate) fn handling(
        &self,
        queue: &'static str,
        message_id: &str,
        context: &Context,
        since: Instant,
    ) -> Span {
        let mut span = self.begin(SpanKind::Consumer, context, || {
            (format!("{queue} process"), messaging("process", "process", queue, message_id))
        });
        if let Some((_, data)) = &mut span.span {
            data.start_time -= since.elapsed();
        }
        span
    }

    /// Only if the inner span is exported: else the next span would have a parent that no collector knows.
    fn descend(&self, context: &mut Context) {
        if self.queue.is_some() && ids(context).is_some() {
            context.descend();
        }
    }

    fn begin(
        &self,
        span_kind: SpanKind,
        context: &Context,
        describe: impl FnOnce() -> (String, Vec<KeyValue>),
    ) -> Span {
        let Some(queue) = &self.queue else { return Span::none() };
        let Some(span_context) = ids(context) else { return Span::none() };
        let (name, mut attributes) = describe();
        attributes.push(KeyValue::new("workflow.id", context.workflow.clone()));
        let now = SystemTime::now();
        let span = SpanData {
            span_context,
            parent_span_id: SpanId::from_bytes(context.parent.to_be_bytes()),
            parent_span_is_remote: matches!(span_kind, SpanKind::Server | SpanKind::Consumer),
            span_kind,
            name: name.into(),
            start_time: now,
            end_time: now,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("common").build(),
        };
        Span { span: Some((Arc::clone(queue), Box::new(span))) }
    }
}

impl Span {
    /// One that is not exported.
    pub(crate) fn none() -> Span {
        Span { span: None }
    }

    /// The request was answered. A client's mistake is no error of the server.
    pub(crate) fn answered(self, status: u16) {
        self.end(|span| responded(span, status, 500));
    }

    /// The peer answered, or did not.
    #[cfg(feature = "http")]
    pub(crate) fn called(self, answer: Result<u16, &'static str>) {
        self.end(|span| match answer {
            Ok(status) => responded(span, status, 400),
            Err(kind) => failed(span, kind, ""),
        });
    }

    /// The broker has stored the event durably.
    #[cfg(feature = "messaging")]
    pub(crate) fn published(self) {
        self.end(|_| ());
    }

    /// The handler has ended.
    #[cfg(feature = "messaging")]
    pub(crate) fn handled(self, outcome: &'static str, failure: Option<&str>) {
        self.end(|span| {
            span.attributes.push(KeyValue::new("workflow.outcome", outcome));
            if let Some(reason) = failure {
                failed(span, outcome, reason);
            }
        });
    }

    fn end(self, finish: impl FnOnce(&mut SpanData)) {
        let Some((queue, mut span)) = self.span else { return };
        span.end_time = SystemTime::now();
        finish(&mut span);
        queue.on_end(*span);
    }
}

/// The ids in a context; `None` if its trace is not sampled.
fn ids(context: &Context) -> Option<SpanContext> {
    let mut parts = context.traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    flags.is_sampled().then(|| SpanContext::new(trace, span, flags, false, TraceState::default()))
}

#[cfg(feature = "messaging")]
fn messaging(
    operation: &'static str,
    name: &'static str,
    destination: impl Into<Value>,
    message_id: &str,
) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "rabbitmq"),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.operation.name", name),
        KeyValue::new("messaging.destination.name", destination),
        KeyValue::new("messaging.message.id", message_id.to_owned()),
    ]
}

fn responded(span: &mut SpanData, status: u16, errors_from: u16) {
    span.attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
    if status >= errors_from {
        failed(span, status.to_string(), "");
    }
}

fn failed(span: &mut SpanData, kind: impl Into<Value>, reason: &str) {
    span.attributes.push(KeyValue::new("error.type", kind));
    span.status = Status::error(reason.to_owned());
}

/// Logs why the collector is unavailable, and that it is back. The library would log every batch, or none.
#[derive(Debug)]
struct Exporter {
    otlp: SpanExporter,
    outage: Outage,
}

impl trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.otlp.export(batch).await;
        match &exported {
            Err(error) if self.outage.is_new(error) => {
                tracing::warn!(%error, "spans are lost: no collector takes them");
            }
            Ok(()) if self.outage.end() => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}
