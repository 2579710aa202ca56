//! Where the figures come from: the machine, the versions, the revision. A figure without these cannot be compared.

use std::fs;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::stored::within;
use stack::{Database, Stack, build};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub cores: usize,
    pub cpu: String,
    pub memory_gib: f64,
    pub kernel: String,
    /// Short hash; `+` if files differ from it.
    pub revision: String,
    /// The services that were measured.
    pub build: String,
    /// Version of the Docker engine, if services and servers were in containers.
    pub engine: Option<String>,
    /// Empty where it was not used.
    pub k6: String,
}

impl Host {
    pub fn read(k6: &str, engine: Option<String>) -> Self {
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).map(ToOwned::to_owned);
            line.and_then(|line| line.split_once(':').map(|(_, value)| value.trim().to_owned()))
        };
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kib: f64 = after(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap_or(0.0);
        Self {
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            cpu: after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into()),
            memory_gib: (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            revision: build::revision().unwrap_or_else(|| "unknown".into()),
            // The Dockerfile makes no other.
            build: if cfg!(debug_assertions) && engine.is_none() { "debug" } else { "release" }.to_owned(),
            engine,
            k6: k6.to_owned(),
        }
    }

    /// # Errors
    /// When there is no such machine.
    pub fn check(&self) -> Result<()> {
        within("the number of processors", self.cores, 0, 1_000_000)?;
        within("the memory in GiB", self.memory_gib, 0.0, 1e9)
    }

    /// One line for a terminal.
    pub fn line(&self) -> String {
        let Self { cores, cpu, memory_gib, revision, build, k6, .. } = self;
        let place = self.place();
        let k6 = if k6.is_empty() { String::new() } else { format!(", k6 {k6}") };
        format!("{cores} cores ({cpu}), {memory_gib} GiB, {build} build of {revision}{place}{k6}")
    }

    fn place(&self) -> String {
        let engine = self.engine.as_ref();
        engine.map_or(String::new(), |version| format!(" in containers of Docker {version}"))
    }
}

/// The servers of one stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Servers {
    pub postgresql: String,
    pub rabbitmq: Option<String>,
}

impl Servers {
    pub fn of(stack: &Stack) -> Result<Self> {
        let mut database = Database::connect(&stack.database_url())?;
        let (version,): (String,) = database.row("SHOW server_version")?;
        database.close()?;
        let postgresql = version.split_whitespace().next().unwrap_or_default().to_owned();
        let rabbitmq = stack.broker().map(|broker| broker.version()).transpose()?;
        Ok(Self { postgresql, rabbitmq })
    }
}
