//! What a stack is told, and how it lives on servers that are there already.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Mode, http, not_ours, postgres};

#[derive(Clone, Default)]
pub struct StackOptions {
    /// Moves every port.
    pub port_offset: u16,
    /// More environment for all ten services; wins over everything else.
    pub env: Vec<(String, String)>,
    /// The same for one service: its name, variable, value. Wins over `env`: how a service reaches its servers and its
    /// peers through a proxy.
    pub env_of: Vec<(&'static str, String, String)>,
    /// Where the services write their final effects (JOURNAL_DIR).
    pub journal: Option<PathBuf>,
    /// Data, logs and state; `.study/<mode>` by default.
    pub dir: Option<PathBuf>,
    /// Begin with empty databases, and do not keep them.
    pub fresh: bool,
    /// Servers on free ports, no services, nothing safe on disk: for tests.
    pub servers_only: bool,
    /// Servers that run already, instead of own ones: for tests. Ports are then free ones.
    pub given: Option<Given>,
    /// With a Prometheus beside the processes, and Grafana if it is installed.
    pub monitoring: bool,
    /// In containers instead, of the project `NAME-MODE`. With `fresh` it has only what is needed.
    pub docker: Option<String>,
    /// Where the services' binaries are; beside the running program by default.
    pub programs: Option<PathBuf>,
}

/// Servers to use: a stack gets a database and a vhost of its own there and removes them again.
#[derive(Clone)]
pub struct Given {
    /// Superuser's.
    pub database_url: String,
    pub amqp_url: String,
    /// With the login in it.
    pub management_url: String,
}

impl StackOptions {
    /// Longer than a service gives its own work, and than the longest job, a report.
    pub(super) fn service_limit(&self) -> Duration {
        let own = self.env.iter().rfind(|(name, _)| name == "REPORT_SECONDS").map(|(_, value)| value.clone());
        let inherited = || std::env::var_os("REPORT_SECONDS").and_then(|value| value.into_string().ok());
        let seconds = own.or_else(inherited).and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
        Duration::from_secs(65_u64.saturating_add(seconds))
    }
}

impl Given {
    pub(super) fn create_vhost(&self, mode: Mode, name: &str) -> Result<()> {
        if mode == Mode::Sync {
            return Ok(());
        }
        let agent = http::agent(Duration::from_secs(10));
        let user = self.amqp_url.split(['/', ':', '@']).nth(3).context("AMQP_URL names no user")?;
        http::put(&agent, &format!("{}/api/vhosts/{name}", self.management_url), "")?;
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        http::put(&agent, &format!("{}/api/permissions/{name}/{user}", self.management_url), all)
    }

    pub(super) fn clean(&self, mode: Mode, name: &str) -> Result<()> {
        postgres::drop_database(without_path(&self.database_url), name)?;
        if mode == Mode::Sync {
            return Ok(());
        }
        http::delete(
            &http::agent(Duration::from_secs(30)),
            &format!("{}/api/vhosts/{name}", self.management_url),
        )
    }
}

/// `scheme://user:password@host:port` of a URL.
pub(super) fn without_path(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    url[authority..].find('/').map_or(url, |at| &url[..authority + at])
}

pub(super) fn remove_data(dir: &Path) -> Result<()> {
    for name in ["postgres", "rabbitmq"] {
        let data = dir.join(name);
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
    }
    Ok(())
}

/// Logs are added to while a stack lives, so an earlier one's must go first.
pub(super) fn empty_logs(dir: &Path) -> Result<()> {
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        fs::write(file.path(), "").with_context(|| not_ours(&file.path()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_url_is_cut_off() {
        assert_eq!(without_path("postgres://a:b@h:1/db?x=/y"), "postgres://a:b@h:1");
        assert_eq!(without_path("amqp://a:b@h:1"), "amqp://a:b@h:1");
    }
}
