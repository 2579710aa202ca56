//! `baseline`: what HTTP server, broker, database and processor give a program that does nothing else, with the same
//! libraries as the services and one thread as they have. `./study bench` holds the services against it.
//!
//! Each command prints one line of JSON.

mod broker;
mod database;
mod fill;
mod hashing;
mod http;
mod in_flight;
mod times;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What HTTP server, broker, database and processor give a program that does nothing else.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    baseline: Baseline,
}

#[derive(Subcommand)]
enum Baseline {
    /// Answer clicks without doing anything with them, until killed.
    Http(http::Args),
    /// Publish to a queue of its own, so many messages unconfirmed at any time.
    Broker(broker::Args),
    /// Fill a queue with clicks.
    Fill(fill::Args),
    /// Store clicks one by one, each in a transaction of its own.
    Commit(database::Args),
    /// Store clicks many at a time.
    Bulk(database::BulkArgs),
    /// Chain hashes.
    Sha256(hashing::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().baseline) {
        Ok(found) => match writeln!(std::io::stdout(), "{found}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("baseline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(baseline: Baseline) -> anyhow::Result<serde_json::Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match baseline {
        Baseline::Http(args) => runtime.block_on(http::serve(args)),
        Baseline::Broker(args) => runtime.block_on(broker::publish(args)),
        Baseline::Fill(args) => runtime.block_on(fill::fill(args)),
        Baseline::Commit(args) => runtime.block_on(database::commit(args)),
        Baseline::Bulk(args) => runtime.block_on(database::bulk(args)),
        Baseline::Sha256(args) => Ok(hashing::chain(&args)),
    }
}
