//! The options of a stack, and the servers that it can be given.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::broker::{Address, Server};
use super::{Mode, modes, not_ours};

#[derive(Clone, Default)]
pub struct StackOptions {
    /// Moves every port.
    pub port_offset: u16,
    /// More environment for all ten services; overrides everything else.
    pub env: Vec<(String, String)>,
    /// The same for one service: its name, variable, value. Overrides `env`. A service reaches servers and peers through a proxy
    /// by this.
    pub env_of: Vec<(&'static str, String, String)>,
    /// Where the services write their final effects (JOURNAL_DIR).
    pub journal: Option<PathBuf>,
    /// Data, logs and state; `.study/<mode>` by default.
    pub dir: Option<PathBuf>,
    /// Start with empty databases, and delete them at the end.
    pub fresh: bool,
    /// Servers on free ports, no services, no durable data: for tests.
    pub servers_only: bool,
    /// Running servers to use, for tests. Services then get free ports.
    pub given: Option<Given>,
    /// With a Prometheus beside the processes, and Grafana if it is installed.
    pub monitoring: bool,
    /// In containers of the project `NAME-MODE` instead. With `fresh`, only the ones that are needed.
    pub docker: Option<String>,
    /// Where the services' binaries are; beside the running program by default.
    pub programs: Option<PathBuf>,
}

/// Servers to use: a stack gets a database and a broker namespace of its own there and removes them again.
#[derive(Clone)]
pub struct Given {
    /// Of a superuser.
    pub database_url: String,
    pub broker: Address,
}

impl StackOptions {
    /// Longer than a service waits for its running work at shutdown, and than the longest job, a report.
    pub(super) fn service_limit(&self) -> Duration {
        let own = self.env.iter().rfind(|(name, _)| name == "REPORT_SECONDS").map(|(_, value)| value.clone());
        let inherited = || std::env::var_os("REPORT_SECONDS").and_then(|value| value.into_string().ok());
        let seconds = own.or_else(inherited).and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
        Duration::from_secs(65_u64.saturating_add(seconds))
    }
}

pub(super) fn remove_data(dir: &Path) -> Result<()> {
    let brokers = Mode::ALL.into_iter().filter_map(modes::broker).map(Server::name);
    for name in brokers.chain(["postgres"]) {
        let data = dir.join(name);
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
    }
    Ok(())
}

/// Processes append to their logs, so those of an earlier stack are emptied first.
pub(super) fn empty_logs(dir: &Path) -> Result<()> {
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        fs::write(file.path(), "").with_context(|| not_ours(&file.path()))?;
    }
    Ok(())
}
