//! A collector: takes what is exported, over real gRPC, and keeps it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
pub(crate) use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

/// A span as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// Its ids as `traceparent` writes them.
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty where the trace begins.
    pub(crate) parent: String,
    pub(crate) failed: bool,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Of the service that it comes from.
    pub(crate) resource: BTreeMap<String, String>,
}

impl Span {
    /// The `traceparent` of its hop.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }

    pub(crate) fn service(&self) -> &str {
        &self.resource["service.name"]
    }
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Span>>>);

pub(crate) struct Collector {
    /// The setting that leads here.
    pub(crate) setting: String,
    received: Received,
    _serving: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let received = Received::default();
        let service = TowerToHyperService::new(TraceServiceServer::new(received.clone()));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let server = http2::Builder::new(TokioExecutor::new());
                let connection = server.serve_connection(TokioIo::new(stream), service.clone());
                connections.spawn(async { connection.await.unwrap_or_default() });
            }
        });
        Collector { setting: setting(&format!("http://{address}")), received, _serving: serving }
    }

    /// What came so far, by the time of its beginning.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut spans = self.received.0.lock().expect("no test panics here").clone();
        spans.sort_by_key(|span| span.start_ns);
        spans
    }
}

/// The setting for a collector at `url`.
pub(crate) fn setting(url: &str) -> String {
    format!("--otel-exporter-otlp-endpoint={url}")
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock().expect("no test panics here");
        for of_resource in request.into_inner().resource_spans {
            let resource = texts(of_resource.resource.unwrap_or_default().attributes);
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let status = span.status.clone().unwrap_or_default();
                received.push(Span {
                    kind: span.kind(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    failed: status.code() == StatusCode::Error,
                    start_ns: span.start_time_unix_nano,
                    end_ns: span.end_time_unix_nano,
                    attributes: texts(span.attributes),
                    resource: resource.clone(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value.and_then(|any| any.value) {
        Some(Value::StringValue(text)) => (attribute.key, text),
        Some(Value::IntValue(number)) => (attribute.key, number.to_string()),
        other => panic!("{}: {other:?} is neither text nor number", attribute.key),
    };
    attributes.into_iter().map(text).collect()
}
