//! The binary behind `./study`: reads the command, runs it, says in one line what went wrong.

use std::process::ExitCode;

use clap::Parser;
use runner::{cli, local::signals};

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) if error.is::<signals::Interrupted>() => {
            eprintln!("study: interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("study: {error:#}");
            ExitCode::FAILURE
        }
    }
}
