//! A local stack: its PostgreSQL, its broker and the services of its [`Layout`], as child processes on loopback or in
//! containers (`compose`); callers need not know which. `broker` is what the tools ask of any broker; only `rabbitmq` knows
//! RabbitMQ, and only `kafka` knows Kafka. The crate also owns what every command shares: messages on standard error, signals, paths of the project,
//! builds of the services. It does not know loads, measurements or faults.
//!
//! [`Stack::start`] starts a stack and waits until it is ready; [`Stack::stop`], or dropping it, ends everything.
//! Keep the thread that started it alive: the kernel ends the children when that thread ends (see `run_as`).

#[macro_use]
mod stderr;

pub mod atomic_file;
pub mod broker;
pub mod build;
pub mod commands;
pub mod compose;
pub mod database;
pub mod environment;
pub mod http;
pub mod kafka;
pub mod layout;
pub mod log_format;
pub mod logs;
pub mod metrics;
pub mod modes;
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
use clap::ValueEnum;
use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
pub use contract::Mode;
pub use database::Database;
pub use layout::Layout;
pub use options::{Given, StackOptions};
pub use stack::{Stack, start_all};

/// The checkout: STUDY_ROOT, which `./study` sets, else the nearest folder above the current one that holds `study`. The
/// current folder stays the caller's, so relative paths mean what the caller means.
pub fn project_root() -> Result<PathBuf> {
    if let Some(root) = std::env::var_os("STUDY_ROOT") {
        return Ok(root.into());
    }
    let here = std::env::current_dir().context("the current folder is gone")?;
    let root = here.ancestors().find(|dir| dir.join("study").is_file() && dir.join("harness").is_dir());
    root.map(ToOwned::to_owned).context("not inside the project: call ./study in its folder")
}

/// For clap: a path made absolute from the current folder, so that it stays valid when the current folder changes.
pub fn given_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// For clap: one of [`Mode::COMPARED`].
pub fn compared_mode() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(Mode::COMPARED.map(Mode::as_str)).try_map(|name| Mode::from_str(&name, false))
}

/// Holds everything that a run leaves behind; ignored by git.
pub fn state_folder() -> Result<PathBuf> {
    Ok(project_root()?.join(".study"))
}

/// The message for a file of the project that cannot be written.
pub(crate) fn not_ours(path: &Path) -> String {
    format!("cannot write {} (if an earlier run was root's, remove .study as root)", path.display())
}
