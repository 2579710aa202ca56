//! wrk, on one thread: so many connections, each of which sends its next request when it has the answer to the last.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, iter};

use anyhow::{Context, Result};
use serde::Deserialize;

use stack::process::on_path;
use stack::run_as::Account;

const DONE: &str = include_str!("scripts/done.lua");

/// What each request is.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// Whatever stands in the URL.
    Get,
    Click,
    Order,
    Product,
    Register,
}

pub struct Wrk {
    program: PathBuf,
    /// Where the scripts are written to.
    folder: PathBuf,
}

/// One load.
pub struct LoadSpec<'a> {
    pub url: String,
    pub script: Script,
    /// As the script takes them.
    pub args: &'a [&'a str],
    pub connections: u32,
    pub seconds: u64,
}

/// What came of a load, in wrk's words.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Summary {
    pub requests: u64,
    pub micros: u64,
    /// Answers that are neither 2xx nor 3xx.
    pub refused: u64,
    /// Requests without an answer.
    pub broken: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Wrk {
    pub fn find(folder: &Path) -> Result<Self> {
        let program = on_path("wrk")
            .context("wrk is not installed: run ./study, which gets it, or install the package wrk")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { program, folder: folder.to_owned() })
    }

    pub fn command(&self, spec: &LoadSpec<'_>) -> Result<Command> {
        let file = self.folder.join(format!("{:?}.lua", spec.script).to_lowercase());
        fs::write(&file, spec.script.text()).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Account::CALLER.command(&self.program, "KILL");
        command
            .args(["--threads", "1", "--connections", &spec.connections.to_string()])
            .args(["--duration", &format!("{}s", spec.seconds)])
            .arg("--script")
            .arg(file)
            .arg(&spec.url)
            .args(iter::once("--").chain(spec.args.iter().copied()));
        Ok(command)
    }
}

impl Script {
    fn text(self) -> String {
        let own = match self {
            Self::Get => "",
            Self::Click => include_str!("scripts/click.lua"),
            Self::Order => include_str!("scripts/order.lua"),
            Self::Product => include_str!("scripts/product.lua"),
            Self::Register => include_str!("scripts/register.lua"),
        };
        format!("{own}{DONE}")
    }
}

impl Summary {
    /// From everything that wrk wrote.
    pub fn parse(output: &str) -> Result<Self> {
        let line = output.lines().rfind(|line| line.starts_with('{')).context("wrk printed no figures")?;
        serde_json::from_str(line).with_context(|| format!("wrk's figures cannot be read: {line}"))
    }

    pub fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.micros as f64
    }

    /// What makes the load no sample. `refused`: how many answers must be refusals.
    pub fn problem(&self, refused: u64) -> Option<String> {
        if self.requests == 0 {
            return Some("no request was answered".into());
        }
        let (other, broken) = (self.refused.abs_diff(refused), self.broken);
        (other > 0 || broken > 0).then(|| {
            format!("of {} requests {other} had an unexpected answer, and {broken} none", self.requests)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 3s test @ http://127.0.0.1:1\n  1 threads and 64 connections\n\
        Requests/sec:   4162.27\n\
        {\"requests\":12603,\"micros\":3027915,\"refused\":0,\"broken\":0,\"mean_us\":10850.0,\"p50_us\":10050.0,\"p99_us\":26159.0}\n";

    #[test]
    fn the_last_line_tells_the_figures() {
        let line = Summary::parse(OUTPUT).unwrap();
        assert_eq!((line.requests, line.p99_us), (12_603, 26_159.0));
        assert!((line.per_second() - 4162.27).abs() < 0.01);
        assert!(Summary::parse("unable to connect").is_err());
    }

    #[test]
    fn refusals_and_missing_answers_make_a_load_no_sample() {
        let line = |requests, refused, broken| Summary {
            requests,
            refused,
            broken,
            ..Summary::parse(OUTPUT).unwrap()
        };
        assert_eq!(line(100, 0, 0).problem(0), None);
        assert_eq!(
            line(100, 3, 1).problem(0).unwrap(),
            "of 100 requests 3 had an unexpected answer, and 1 none"
        );
        // Where every answer must be a refusal.
        assert_eq!(line(100, 100, 0).problem(100), None);
        assert!(line(100, 99, 0).problem(100).unwrap().contains(" 1 had "));
        assert!(line(0, 0, 0).problem(0).is_some());
    }

    #[test]
    fn every_script_tells_its_figures_in_the_end() {
        for script in [Script::Get, Script::Click, Script::Order, Script::Product, Script::Register] {
            assert!(script.text().contains("function done("), "{script:?}");
        }
    }
}
