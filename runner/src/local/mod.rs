//! A whole mode on this machine: its PostgreSQL, its RabbitMQ, its ten services, as child processes on loopback, or
//! in containers (`compose`), which is not to be seen from outside.
//!
//! [`Stack::start`] brings one up and waits until all is ready; [`Stack::stop`], or dropping it, ends everything.
//! Keep the thread that started it alive: the kernel ends the children when it goes (see `account`).

pub mod account;
pub mod commands;
pub mod compose;
pub mod file;
pub mod http;
pub mod line;
pub mod logs;
pub mod metrics;
pub mod monitoring;
pub mod options;
pub mod output;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod progress;
pub mod rabbitmq;
pub mod restart;
pub mod services;
pub mod signals;
pub mod stack;
pub mod state;
pub mod supervise;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
pub use contract::Mode;
pub use options::{Given, StackOptions};
pub use stack::{Stack, start_all};

/// The checkout: the nearest folder above the current one that holds the entrance.
pub fn project_root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder is gone")?;
    let root = here.ancestors().find(|dir| dir.join("study").is_file() && dir.join("runner").is_dir());
    root.map(ToOwned::to_owned).context("not inside the project: call ./study in its folder")
}

/// Where everything lies that a run leaves behind; ignored by git.
pub fn state_folder() -> Result<PathBuf> {
    Ok(project_root()?.join(".study"))
}

/// The usual reason for a file of ours that cannot be written.
fn not_ours(path: &Path) -> String {
    format!("cannot write {} (if an earlier run was root's, remove .study as root)", path.display())
}
