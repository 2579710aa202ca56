//! `./study campus`: the stacks of the campus lab as processes, and the experiments of the course on them. `control` starts and
//! ends stacks and services; `experiments` asks the questions with `client`, `check` counts what is lost or applied twice,
//! `record` is what is stored of it, `table` shows it. This crate knows the outside of the services only, and takes every name
//! and port from `contract::campus`.

#[macro_use]
extern crate stack;

mod check;
mod client;
mod control;
mod experiments;
pub mod record;
pub mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use contract::campus::Stack;
use measure::output_dir::{OutputDir, Scratch, check_disk};
use measure::stored::{Stored as _, read, write};
use stack::output::say;
use stack::request::Action;
use stack::{Layout, given_path};

use record::Lab;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CampusArgs {
    #[command(subcommand)]
    command: Option<Command>,

    /// Only this stack; may be given several times.
    #[arg(long, value_enum)]
    stack: Vec<Stack>,

    /// Where `campus.json` goes, such as the folder of a comparison, whose report then shows it; `results/campus-<UTC time>` by
    /// default.
    #[arg(long, value_parser = given_path(), value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Start servers and services of one stack, wait until they are ready, stay until Ctrl-C.
    Up(UpArgs),
    /// End a service or server: it finishes what it has begun.
    Stop(ServiceArgs),
    /// Start a service or server again, and wait until it is ready.
    Start(ServiceArgs),
    /// End a service or server at once, as a crash does.
    Kill(ServiceArgs),
    /// End every stack of the lab.
    Down,
}

#[derive(Args)]
struct UpArgs {
    /// Which stack.
    #[arg(value_enum)]
    which: Stack,

    /// On the ports of the public labs, whose own tests then run unchanged.
    #[arg(long)]
    lab_ports: bool,

    /// Return as soon as everything is ready; `./study campus down` ends it.
    #[arg(long)]
    detach: bool,

    /// With a Prometheus beside the processes, which scrapes all stacks of the lab, and Grafana with their board if it is installed.
    #[arg(long)]
    monitoring: bool,

    /// Be the process that `--detach` leaves behind.
    #[arg(long, hide = true)]
    supervisor: bool,
}

#[derive(Args)]
struct ServiceArgs {
    /// As its compose file calls it: `inventory`, or `inventory_service`; also `rabbitmq` and `postgresql`.
    service: String,

    /// Of this stack; the only one that runs by default.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
}

/// Exit code 1 if the experiments found anything lost or applied twice.
pub fn run(args: CampusArgs, port_offset: u16) -> Result<ExitCode> {
    let Some(command) = args.command else { return measure(&args, port_offset) };
    let of = |action: Action, args: &ServiceArgs| control::service(action, args.stack, &args.service);
    match command {
        Command::Up(args) => control::up(&args, port_offset),
        Command::Stop(args) => of(Action::Stop, &args),
        Command::Start(args) => of(Action::Start, &args),
        Command::Kill(args) => of(Action::Kill, &args),
        Command::Down => control::down(),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// All experiments on one stack after the other.
fn measure(args: &CampusArgs, port_offset: u16) -> Result<ExitCode> {
    let stacks = if args.stack.is_empty() { &Stack::MEASURED[..] } else { &args.stack };
    let measured = |stack: &Stack| Stack::MEASURED.contains(stack);
    ensure!(
        stacks.iter().all(measured),
        "no experiment measures the stack `kafka`; `./study campus up kafka` starts it"
    );
    let output = OutputDir::new("campus-", args.out.as_deref())?;
    let path = Lab::path(&output.dir);
    // An earlier one is replaced, something else is not.
    read::<Lab>(&path)?;
    let layouts: Vec<Layout> = stacks.iter().map(|stack| Layout::campus(*stack, false)).collect();
    output.check_layouts(&layouts, port_offset)?;
    let scratch = Scratch::new(&output, "campus")?;
    let mut lab = Lab { version: Lab::VERSION, stacks: Vec::new() };
    for (done, stack) in stacks.iter().enumerate() {
        eprintln!("{stack} (stack {} of {})", done + 1, stacks.len());
        let journal = scratch.0.join(stack.name());
        std::fs::create_dir_all(&journal)?;
        let measured = experiments::measure(*stack, &journal, port_offset);
        lab.stacks.push(check_disk(measured, &output.dir)?);
        write(&path, &lab)?;
    }
    scratch.remove();
    say(&format!("\n{}\n\nResults: {}\n", table::text(&lab), path.display()))?;
    Ok(if lab.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
