//! Spans for an OpenTelemetry collector: with the feature `otel`, and where `OTEL_EXPORTER_OTLP_ENDPOINT` names one. They have
//! the ids that stand in the logs and in the headers. Without the feature nothing of this is left in the binary.

#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod on;

#[cfg(not(feature = "otel"))]
pub(crate) use off::{Span, Spans};
#[cfg(feature = "otel")]
pub(crate) use on::{Span, Spans};
