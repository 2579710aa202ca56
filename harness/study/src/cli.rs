//! The commands of `./study` and their options; `--help` is written here.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::contract_command::{self, ContractArgs};
use crate::dlq::{self, DlqArgs};
use crate::trace::{self, TraceArgs};
use crate::{check, test};
use campus_lab::{self, CampusArgs};
use experiments::bench::{self, BenchArgs};
use experiments::breakeven::{self, BreakevenArgs};
use experiments::compare::{self, CompareArgs};
use experiments::coordinated_omission::{self, OmissionArgs};
use experiments::rate::{self, RateArgs};
use experiments::report::command::{self, ReportArgs};
use faults::{self, FaultsArgs};
use stack::commands;
use stack::logs::{self, LogsArgs};
use stack::supervise::{self, UpArgs};
use stack::{project_root, signals};

/// Ten services in two architectures, HTTP calls or RabbitMQ events: run them, compare them, test them.
#[derive(Parser)]
#[command(name = "study", bin_name = "./study", version, arg_required_else_help = true)]
pub struct Cli {
    /// Move every port by N, to run beside something that has them.
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    port_offset: u16,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start servers and services, wait until they are ready, stay until Ctrl-C.
    Up(UpArgs),
    /// End everything that `up` (or anything else here) started.
    Down,
    /// What runs: pid, port, readiness, memory, time to ready.
    Status,
    /// Show the logs of one service or of all.
    Logs(LogsArgs),
    /// The way of one workflow through all services, with times and gaps: of an order, a payment, a job or a request.
    Trace(TraceArgs),
    /// Run the same load against both modes and show the difference.
    Compare(CompareArgs),
    /// The highest arrival rate that each mode sustains, and what happens beyond it.
    Rate(RateArgs),
    /// Under which conditions which architecture wins: a fan-out with faster and slower receivers, rates, payloads.
    Breakeven(BreakevenArgs),
    /// How much goes through each path, and what share that is of what broker, database and processor give.
    Bench(BenchArgs),
    /// The same stall seen by a closed and by an open load: why the comparison offers an open one.
    Omission(OmissionArgs),
    /// Make the report of a comparison again, from its raw data; or say what differs between two comparisons.
    Report(ReportArgs),
    /// Break one thing after another under load, and check that nothing was lost and nothing done twice.
    Faults(FaultsArgs),
    /// Run every test of the project against servers started for it.
    Test(test::TestArgs),
    /// The campus lab: food orders over REST, over RabbitMQ and over Kafka.
    Campus(CampusArgs),
    /// What consumers have set aside: list, show, redrive, purge.
    Dlq(DlqArgs),
    /// What the system is: every service, port, call, event, queue and effect.
    Contract(ContractArgs),
    /// Formatting, lints for each set of features, dependencies, documentation.
    Check,
}

pub fn run(cli: Cli) -> Result<ExitCode> {
    let root = project_root()?;
    signals::install()?;
    match cli.command {
        Command::Up(args) => supervise::up(&args, cli.port_offset)?,
        Command::Down => commands::down()?,
        Command::Status => return commands::status(),
        Command::Logs(args) => logs::logs(&args)?,
        Command::Trace(args) => return trace::run(&args),
        Command::Compare(args) => compare::run(args, cli.port_offset)?,
        Command::Rate(args) => rate::run(&args, cli.port_offset)?,
        Command::Breakeven(args) => breakeven::run(&args, cli.port_offset)?,
        Command::Bench(args) => return bench::run(&args, &root, cli.port_offset),
        Command::Omission(args) => coordinated_omission::run(&args, cli.port_offset)?,
        Command::Report(args) => command::run(&args)?,
        Command::Faults(args) => return faults::run(args, &root, cli.port_offset),
        Command::Test(args) => return test::run(&root, &args),
        Command::Campus(args) => return campus_lab::run(args, cli.port_offset),
        Command::Dlq(args) => return dlq::run(&args),
        Command::Contract(args) => contract_command::run(&args)?,
        Command::Check => return check::run(&root),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_entrance_knows_every_command_before_anything_is_built() {
        let command = Cli::command();
        command.clone().debug_assert();
        let entrance = include_str!("../../../study");
        for command in command.get_subcommands() {
            assert!(
                entrance.contains(&format!("\n  {} ", command.get_name())),
                "usage lacks {}",
                command.get_name()
            );
        }
    }
}
