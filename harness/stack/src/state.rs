//! The state of a running stack as a file beside its data (`state.json`), so that `down`, `status` and `logs` find it from another
//! terminal. A process is identified by pid and start time: a pid that now belongs to another process is never signalled.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use contract::Service;
use serde::{Deserialize, Serialize};

use super::atomic_file::write_whole;
use super::broker::Address;
use super::compose::Compose;
use super::{Mode, signals};

/// Locked while a stack runs in its folder.
pub(super) const LOCK: &str = "lock";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Of the stack.
    pub name: String,
    pub mode: Mode,
    /// The process that started the stack and ends it when it is signalled.
    pub supervisor: Identity,
    /// All services are ready.
    pub ready: bool,
    /// In the order of their start: servers first.
    pub processes: Vec<Entry>,
    /// Containers instead of processes.
    pub compose: Option<Compose>,
    /// Of the superuser.
    pub database_url: String,
    pub broker: Option<Address>,
    /// Of the broker's metrics.
    pub broker_metrics_port: Option<u16>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub service: bool,
    #[serde(flatten)]
    pub identity: Identity,
    pub port: u16,
    pub log: PathBuf,
    pub ready_after_ms: Option<u64>,
    /// Number of the signal that asks it to end.
    pub stop_signal: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub pid: u32,
    /// In clock ticks since boot.
    pub start: u64,
}

impl Identity {
    /// Of a process that runs now.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start: start_time(&stat)? })
    }

    pub fn alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// The process that holds the lock of a stack's folder: its supervisor, even if the state file is damaged.
pub fn holder(dir: &Path) -> Option<Identity> {
    let path = dir.join(LOCK).canonicalize().ok()?;
    let inode = format!(":{}", fs::metadata(&path).ok()?.ino());
    let has_it_open = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == path))
    };
    // `1: FLOCK  ADVISORY  WRITE 42 08:01:1234 0 EOF`; another disk may have a file of the same number.
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let locks = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut pids = locks
        .filter(|fields| {
            fields.get(1) == Some(&"FLOCK") && fields.get(5).is_some_and(|f| f.ends_with(&inode))
        })
        .filter_map(|fields| fields.get(4)?.parse().ok());
    Identity::of(pids.find(|pid| has_it_open(*pid))?)
}

/// Waits until all have ended, or returns the first that still runs after `limit`.
pub fn outlives(processes: impl IntoIterator<Item = Identity>, limit: Duration) -> Result<Option<Identity>> {
    let deadline = Instant::now() + limit;
    for process in processes {
        while process.alive() {
            if Instant::now() > deadline {
                return Ok(Some(process));
            }
            signals::pause(Duration::from_millis(30))?;
        }
    }
    Ok(None)
}

/// /proc/PID/stat from field 3 on. The name before may contain spaces and brackets.
pub fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.to_owned())
}

/// Field 22 of /proc/PID/stat; `None` for a zombie, which has ended. The second field, the program's name, may contain spaces and
/// brackets.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// MiB in memory now.
pub fn resident(pid: u32) -> Option<f64> {
    memory(pid, "status", "VmRSS:")
}

/// The same, with shared pages divided among the processes that share them, so that a sum is meaningful.
pub fn proportional(pid: u32) -> Option<f64> {
    memory(pid, "smaps_rollup", "Pss:")
}

fn memory(pid: u32, file: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

impl State {
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("state.json")
    }

    /// `None` if nothing was left there.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = Self::path(dir);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let state = serde_json::from_str(&text);
        state.map(Some).with_context(|| {
            format!("{} is damaged: `./study down` ends what runs, and removes it", path.display())
        })
    }

    pub fn write(&self, dir: &Path) -> Result<()> {
        write_whole(&Self::path(dir), &serde_json::to_string_pretty(self)?)
    }

    pub fn remove(dir: &Path) {
        fs::remove_file(Self::path(dir)).ok();
    }

    /// Whether a process of it runs, or a container exists.
    pub fn alive(&self) -> bool {
        let containers = |compose: &Compose| compose.containers().is_ok_and(|found| !found.is_empty());
        self.supervisor.alive()
            || self.processes.iter().any(|process| process.identity.alive())
            || self.compose.as_ref().is_some_and(containers)
    }

    /// Whether its processes end within `limit`.
    pub fn ends_within(&self, limit: Duration) -> Result<bool> {
        let processes = self.processes.iter().map(|process| process.identity);
        Ok(outlives(processes.chain([self.supervisor]), limit)?.is_none())
    }

    /// Each service with its port.
    pub fn services(&self) -> Vec<(&str, u16)> {
        let processes = self.processes.iter().filter(|entry| entry.service);
        let mut services: Vec<_> = processes.map(|entry| (entry.name.as_str(), entry.port)).collect();
        let ports = self.compose.iter().flat_map(|compose| &compose.ports);
        services.extend(
            ports
                .filter(|(name, _)| Service::ALL.iter().any(|service| service.name() == name))
                .map(|(name, port)| (name.as_str(), *port)),
        );
        services
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        assert_eq!(start_time(&format!("7 (a) b) (c) S {}", fields.join(" "))), Some(22));
        assert_eq!(start_time(&format!("7 (a) Z {}", fields.join(" "))), None);
        assert_eq!(start_time("rubbish"), None);
    }

    #[test]
    fn a_stack_whose_state_is_damaged_is_still_known_by_its_lock() {
        let dir = std::env::temp_dir().join(format!("study-state-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let lock = fs::File::create(dir.join(LOCK)).unwrap();
        assert_eq!(holder(&dir), None);
        lock.try_lock().unwrap();
        fs::write(State::path(&dir), "garbage").unwrap();
        let error = State::read(&dir).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("./study down"), "{error}");
        assert_eq!(holder(&dir).map(|holder| holder.pid), Some(std::process::id()));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_pid_with_another_start_time_is_a_stranger() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.alive());
        assert!(!Identity { start: me.start + 1, ..me }.alive());
        let (resident, proportional) = (resident(me.pid).unwrap(), proportional(me.pid).unwrap());
        assert!(0.5 < proportional && proportional <= resident, "{proportional} of {resident}");
    }
}
