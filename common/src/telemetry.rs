//! Logs: one line per event on standard error, JSON or readable, with the workflow's id in every line of a request.

use std::str::FromStr;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::{LogFormat, LogSettings};

/// Starts logging. A second call in one process (tests) changes nothing.
///
/// # Errors
/// One line, when `RUST_LOG` cannot be parsed.
pub fn init(settings: &LogSettings) -> Result<(), String> {
    // Levels by target: the larger filter language would bring a regular expression engine into every service.
    let levels =
        Targets::from_str(&settings.rust_log).map_err(|e| format!("RUST_LOG={}: {e}", settings.rust_log))?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_filter(levels)
            .boxed(),
        LogFormat::Pretty => lines.with_filter(levels).boxed(),
    };
    if registry().with(lines).try_init().is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
