//! Logs: one line per event on standard error, JSON or readable, with the workflow's id in every line of a request.
//!
//! Each hop of a workflow writes one line at level `info` with the target `workflow` when it ends; together they are its
//! timeline, which `./study trace` draws. `RUST_LOG=info,workflow=off` does without.
//!
//! With the feature `otel` and a collector, each hop is a span as well, with the ids of its line; so is each call to a peer.
//!
//! | message | fields | in the span |
//! |---|---|---|
//! | `answered` | `status`, `seconds` | `request_id`, `traceparent`, `method`, `handler`, `subject` |
//! | `published` | `request_id`, `event`, `seconds` since it was written to the outbox | - |
//! | `handled` | `request_id`, `traceparent`, `queue`, `outcome`, `seconds` in the handler, `age` since it was published | - |
//! | `effect` | `request_id`, `scenario`, `effect`, `outcome`, `age` since the workflow was accepted | as the hop |

use std::fmt::Display;
use std::str::FromStr;

use tracing::Span;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::{LogFormat, LogSettings};
use crate::context::Context;
use crate::otel;

mod json;
mod lines;
pub(crate) use lines::keep;

/// Target of the lines of workflows.
const WORKFLOW: &str = "workflow";

/// Names the subject of the running request, such as `order 17`, so that its workflow can be found by it.
pub fn subject(kind: &str, id: impl Display) {
    Span::current().record("subject", format!("{kind} {id}"));
}

/// A final effect happened in a workflow.
pub(crate) fn happened(context: &Context, scenario: &str, effect: &str, outcome: &str, age: f64) {
    tracing::info!(target: WORKFLOW, request_id = context.workflow, scenario, effect, outcome, age, "effect");
}

/// The running request was answered.
pub(crate) fn answered(span: otel::Span, status: u16, seconds: f64) {
    tracing::info!(target: WORKFLOW, status, seconds, "answered");
    span.answered(status);
}

/// The broker has stored an event of this workflow, which was written to the outbox `seconds` ago.
#[cfg(feature = "messaging")]
pub(crate) fn published(span: otel::Span, workflow: &str, event: &str, seconds: f64) {
    tracing::info!(target: WORKFLOW, request_id = workflow, event, seconds, "published");
    span.published();
}

/// A handler has ended; `failure` is the reason if the event was not applied.
#[cfg(feature = "messaging")]
pub(crate) fn handled(span: otel::Span, context: &Context, handling: Handling<'_>) {
    let Handling { queue, outcome, failure, seconds, age } = handling;
    tracing::info!(
        target: WORKFLOW,
        request_id = context.workflow,
        traceparent = context.traceparent,
        queue,
        outcome,
        seconds,
        age,
        "handled"
    );
    span.handled(outcome, failure);
}

/// The fields of [`handled`].
#[cfg(feature = "messaging")]
pub(crate) struct Handling<'a> {
    pub queue: &'static str,
    pub outcome: &'static str,
    pub failure: Option<&'a str>,
    pub seconds: f64,
    pub age: Option<f64>,
}

/// Starts logging. A second call in one process (tests) changes nothing.
///
/// # Errors
/// One line, when `RUST_LOG` cannot be parsed.
pub fn init(settings: &LogSettings) -> Result<(), String> {
    // Levels by target: the larger filter language would bring a regular expression engine into every service.
    let levels =
        Targets::from_str(&settings.rust_log).map_err(|e| format!("RUST_LOG={}: {e}", settings.rust_log))?;
    let lines = fmt::layer().with_writer(lines::Lines);
    let lines = match settings.log_format {
        LogFormat::Json => lines.json().event_format(json::Json).with_filter(levels).boxed(),
        LogFormat::Pretty => lines.with_filter(levels).boxed(),
    };
    if registry().with(lines).try_init().is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
