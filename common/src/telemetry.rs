//! Logs: one line per event on standard error, JSON or readable, with the workflow's id in every line of a request.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

/// Starts logging. A second call in one process (tests) changes nothing.
///
/// # Errors
/// One line, when `RUST_LOG` cannot be parsed.
pub fn init(settings: &LogSettings) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(&settings.rust_log).map_err(|e| format!("RUST_LOG={}: {e}", settings.rust_log))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
        LogFormat::Pretty => lines.try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
