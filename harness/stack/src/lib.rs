//! A local stack: its PostgreSQL, its RabbitMQ and the services of its [`Layout`], as child processes on loopback or in
//! containers (`compose`); callers need not know which. It also owns what every command shares: messages on standard error,
//! signals, paths of the project, builds of the services. It does not know loads, measurements or faults.
//!
//! [`Stack::start`] starts a stack and waits until it is ready; [`Stack::stop`], or dropping it, ends everything.
//! Keep the thread that started it alive: the kernel ends the children when that thread ends (see `run_as`).

#[macro_use]
mod stderr;

pub mod atomic_file;
pub mod build;
pub mod commands;
pub mod compose;
pub mod database;
pub mod environment;
pub mod http;
pub mod layout;
pub mod log_format;
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
pub mod request;
pub mod restart;
pub mod run_as;
pub mod services;
pub mod signals;
pub mod stack;
pub mod state;
pub mod supervise;
pub mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::builder::{PathBufValueParser, TypedValueParser};
pub use contract::Mode;
pub use database::Database;
pub use layout::Layout;
pub use options::{Given, StackOptions};
pub use stack::{Stack, start_all};

/// The checkout: what the entrance says, else the nearest folder above the current one that holds the entrance. The current
/// folder is the caller's, wherever that is, so that relative paths are, too.
pub fn project_root() -> Result<PathBuf> {
    if let Some(root) = std::env::var_os("STUDY_ROOT") {
        return Ok(root.into());
    }
    let here = std::env::current_dir().context("the current folder is gone")?;
    let root = here.ancestors().find(|dir| dir.join("study").is_file() && dir.join("harness").is_dir());
    root.map(ToOwned::to_owned).context("not inside the project: call ./study in its folder")
}

/// For clap: a path as the caller means it, from the folder that he is in, whatever folder is the current one when it is used.
pub fn given_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// Where everything lies that a run leaves behind; ignored by git.
pub fn state_folder() -> Result<PathBuf> {
    Ok(project_root()?.join(".study"))
}

/// The usual reason for a file of ours that cannot be written.
pub(crate) fn not_ours(path: &Path) -> String {
    format!("cannot write {} (if an earlier run was root's, remove .study as root)", path.display())
}
