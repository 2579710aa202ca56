//! The limits: what the crate `baselines` reaches with the same libraries, in the same round, beside the same stacks.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::Deserialize;

use super::sample::Sample;
use measure::resource_usage::Cpu;
use stack::process::Process;
use stack::run_as::Account;
use stack::signals;

/// It has nothing to wait for.
const SERVES_WITHIN: Duration = Duration::from_secs(5);

pub struct Baseline {
    program: PathBuf,
}

/// What a limit comes to, in the program's words.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Limit {
    pub count: u64,
    pub per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Of hashes.
    pub per_cpu_second: Option<f64>,
    /// Of a queue that is filled: the rate of each fifth.
    #[serde(default)]
    pub fifths: Vec<f64>,
}

/// A server that answers and does nothing else.
pub struct Server {
    process: Process,
    pub address: SocketAddr,
}

impl Baseline {
    /// Beside the running program.
    pub fn find() -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("baseline");
        if !program.is_file() {
            bail!("{} is not built: run `cargo build --release --workspace`", program.display());
        }
        Ok(Self { program })
    }

    pub fn command(&self, args: &[String]) -> Command {
        let mut command = Account::CALLER.command(&self.program, "KILL");
        command.args(args);
        command
    }

    /// A server on a free port, which takes connections.
    pub fn serve(&self, logs: &Path) -> Result<Server> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = self.command(&["http".into(), "--listen".into(), address.to_string()]);
        let log = logs.join("baseline.log");
        let mut process = Process::spawn("baseline", address.port(), log, Signal::TERM, &mut command)?;
        let serves = signals::poll(Duration::from_millis(5), SERVES_WITHIN, || {
            process.check()?;
            Ok(TcpStream::connect(address).ok())
        })?;
        serves.with_context(|| format!("the bare server does not answer at {address}"))?;
        Ok(Server { process, address })
    }
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Limit {
    pub fn parse(output: &str) -> Result<Self> {
        serde_json::from_str(output).with_context(|| format!("a limit cannot be read: {}", output.trim()))
    }

    pub fn sample(&self, cpu: Cpu) -> Sample {
        Sample {
            count: self.count,
            per_second: self.per_second,
            p50_ms: self.p50_ms,
            p99_ms: self.p99_ms,
            cpu,
            ..Sample::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_limit_is_read() {
        let broker = r#"{"count":9,"p50_ms":2.5,"p99_ms":17.4,"per_second":3.0,"seconds":3.0}"#;
        let fill = r#"{"count":5,"fifths":[1.0,2.0,3.0,4.0,5.0],"per_second":3.0,"seconds":1.6}"#;
        assert_eq!(Limit::parse(broker).unwrap().p99_ms, Some(17.4));
        assert_eq!(Limit::parse(fill).unwrap().fifths[4], 5.0);
        assert!(Limit::parse("").is_err());
    }
}
