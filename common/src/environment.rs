//! Libraries read variables of the environment by themselves: sqlx all that `psql` knows, the OpenTelemetry SDK all of its
//! specification. In a developer's shell these are about other programs and other servers, so they are taken away before a service
//! begins: only documented settings count. They cannot be overruled one by one, as sqlx adds to PGOPTIONS and never replaces it.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Begins the program anew without such variables, in the same process; returns at once where there are none.
///
/// # Errors
/// One line, when that fails.
pub(crate) fn clear() -> Result<(), String> {
    let foreign: Vec<OsString> =
        std::env::vars_os().map(|(name, _)| name).filter(|n| is_foreign(n)).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    for name in &foreign {
        command.env_remove(name);
    }
    let error = command.exec();
    Err(format!("the program cannot begin without {}: {error}", foreign.join(OsStr::new(", ")).display()))
}

/// Whether a library would read it although it is no setting of ours (docs/MONITORING.md lists those of OpenTelemetry).
fn is_foreign(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let ours = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"].contains(&&*name)
        || name.starts_with("OTEL_BSP_");
    name.starts_with("PG") || name.starts_with("OTEL_") && !ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_other_programs_is_told_from_settings() {
        for name in
            ["PGHOST", "PGSSLMODE", "PGOPTIONS", "PGPASSFILE", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"]
        {
            assert!(is_foreign(OsStr::new(name)), "{name}");
        }
        for name in [
            "POSTGRES_HOST",
            "DATABASE_URL",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_BSP_SCHEDULE_DELAY",
            "PATH",
        ] {
            assert!(!is_foreign(OsStr::new(name)), "{name}");
        }
    }
}
