//! The metrics of CONTRACT section 6 under their exact names, one registry per process.

use std::sync::LazyLock;

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::Counter;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::Mode;
use crate::failpoint::{Protection, disabled};

/// Upper bounds in seconds: fine below 10 ms, and close above the waits that the scenarios contain (0.5, 2, 10 s).
const HTTP_BUCKETS: &[f64] = &[
    0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15,
    0.2, 0.3, 0.4, 0.5, 0.51, 0.53, 0.56, 0.6, 0.75, 1.0, 1.5, 2.0, 2.05, 2.1, 2.25, 2.5, 3.0, 4.0, 5.0, 7.5,
    10.0, 10.25, 11.0, 12.5, 15.0, 20.0, 25.0, 30.0,
];

/// Upper bounds in seconds: a connection at hand takes microseconds, one that is waited for up to 2 s.
const DB_BUCKETS: &[f64] = &[
    0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02,
    0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 2.5, 5.0,
];

/// Gauges of one name.
pub type Gauges = IntGaugeVec;

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of this process.
pub fn get() -> &'static Metrics {
    &METRICS
}

/// Whether what happens is counted and timed.
pub(crate) fn counting() -> bool {
    !disabled(Protection::Metrics)
}

/// Handles to every metric; labels in the order of the contract.
pub struct Metrics {
    registry: Registry,
    /// `method, handler, status`
    pub http_requests: IntCounterVec,
    /// `method, handler`
    pub http_duration: HistogramVec,
    /// `method, handler`
    pub http_in_progress: IntGaugeVec,
    /// `scenario, effect, outcome`
    pub workflow_completion: HistogramVec,
    /// `event, outcome`
    pub events_published: IntCounterVec,
    /// `queue, outcome`
    pub events_consumed: IntCounterVec,
    /// `queue`
    pub event_handling: HistogramVec,
    /// `queue`
    pub event_age: HistogramVec,
    pub outbox_pending: IntGauge,
    pub outbox_oldest: Gauge,
    /// `destination`
    pub outbox_waiting: IntGaugeVec,
    /// Until a connection is available, with its transaction begun if the caller needs one
    pub db_acquire: Histogram,
    /// From the beginning to the end of a commit
    pub db_transaction: Histogram,
    /// `pool, state`
    pub db_connections: IntGaugeVec,
    /// `pool`
    pub db_connections_max: IntGaugeVec,
    build_info: GaugeVec,
}

impl Metrics {
    fn new() -> Metrics {
        let registry = Registry::new();
        let wide = wide_buckets();
        let metrics = Metrics {
            http_requests: counter(
                &registry,
                "http_requests_total",
                "HTTP requests answered",
                &["method", "handler", "status"],
            ),
            http_duration: histogram(
                &registry,
                "http_request_duration_seconds",
                "From the request's head to the answer",
                &["method", "handler"],
                HTTP_BUCKETS,
            ),
            http_in_progress: gauges(
                &registry,
                "http_requests_in_progress",
                "HTTP requests at work",
                &["method", "handler"],
            ),
            workflow_completion: histogram(
                &registry,
                "workflow_completion_seconds",
                "From accepting the request to the end of a final effect",
                &["scenario", "effect", "outcome"],
                &wide,
            ),
            events_published: counter(
                &registry,
                "events_published_total",
                "Events handed to the broker",
                &["event", "outcome"],
            ),
            events_consumed: counter(
                &registry,
                "events_consumed_total",
                "Events settled",
                &["queue", "outcome"],
            ),
            event_handling: histogram(
                &registry,
                "event_handling_seconds",
                "Time in the handler",
                &["queue"],
                HTTP_BUCKETS,
            ),
            event_age: histogram(
                &registry,
                "event_age_seconds",
                "From publish to handled",
                &["queue"],
                &wide,
            ),
            outbox_pending: register(&registry, IntGauge::new("outbox_pending", "Events not yet confirmed")),
            outbox_oldest: register(
                &registry,
                Gauge::new("outbox_oldest_seconds", "Age of the oldest such event"),
            ),
            outbox_waiting: gauges(
                &registry,
                "outbox_waiting",
                "Events that their destination does not take",
                &["destination"],
            ),
            db_acquire: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("db_acquire_seconds", "Until a connection of the pool is there")
                        .const_label("pool", "requests")
                        .buckets(DB_BUCKETS.to_vec()),
                ),
            ),
            db_transaction: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("db_transaction_seconds", "From the beginning to the end of a commit")
                        .buckets(DB_BUCKETS.to_vec()),
                ),
            ),
            db_connections: gauges(&registry, "db_connections", "Open connections", &["pool", "state"]),
            db_connections_max: gauges(&registry, "db_connections_max", "Most connections", &["pool"]),
            build_info: register(
                &registry,
                GaugeVec::new(Opts::new("build_info", "Version and mode that run"), &["version", "mode"]),
            ),
            registry,
        };
        if let Err(error) = metrics.registry.register(Box::new(ProcessCollector::for_self())) {
            tracing::error!(%error, "process metrics are not available");
        }
        metrics
    }

    /// A gauge of one service alone. Call it once per process.
    pub fn own_gauge(&self, name: &str, help: &str, labels: &[&str]) -> Gauges {
        gauges(&self.registry, name, help, labels)
    }

    /// Shows an event before the first one is published: what appears with a count of one has no rise.
    #[cfg(feature = "messaging")]
    pub(crate) fn announce_published(&self, event: &str) {
        for outcome in ["confirmed", "failed"] {
            self.events_published.with_label_values(&[event, outcome]);
        }
    }

    /// The same for a queue that is read.
    #[cfg(feature = "messaging")]
    pub(crate) fn announce_consumed(&self, queue: &str) {
        for outcome in ["ok", "duplicate", "retry", "dead"] {
            self.events_consumed.with_label_values(&[queue, outcome]);
        }
        self.event_handling.with_label_values(&[queue]);
        self.event_age.with_label_values(&[queue]);
    }

    /// Reports the version and the mode of this process.
    pub fn set_build(&self, version: &str, mode: Mode) {
        self.build_info.with_label_values(&[version, mode.as_str()]).set(1.0);
    }

    /// Everything in the Prometheus text format.
    ///
    /// # Errors
    /// When a collector fails to encode.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(16 * 1024);
        let mut families = self.registry.gather();
        // The collector counts whole seconds, in which a service that idles at 1 % shows as steps.
        let cpu = families.iter_mut().find(|family| family.name() == "process_cpu_seconds_total");
        for metric in cpu.into_iter().flat_map(|family| family.mut_metric()) {
            let mut counter = Counter::default();
            counter.set_value(cpu_seconds());
            metric.set_counter(counter);
        }
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// That the process has used, in user and system mode.
#[expect(clippy::cast_precision_loss, reason = "in seconds: exact for longer than a process lives")]
fn cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// 1 ms to 10 min with 20 bounds per factor of ten, so that an interpolated quantile is off by 6 % at most; and closer ones
/// above the waits that the scenarios contain.
fn wide_buckets() -> Vec<f64> {
    let mut bounds: Vec<f64> = (0..=115).map(|i| 0.001 * 10f64.powf(f64::from(i) / 20.0)).collect();
    bounds.iter_mut().for_each(|b| *b = (*b * 1e6).round() / 1e6);
    bounds.extend([0.5, 0.51, 0.53, 2.0, 2.02, 2.05, 2.1, 10.05, 10.1, 10.25, 10.5, 600.0]);
    bounds.sort_by(f64::total_cmp);
    bounds
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    register(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}

/// Names and labels are constants of this file: a collision is a defect that every start would show.
fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("metric is well-formed");
    registry.register(Box::new(metric.clone())).expect("metric is registered once");
    metric
}
