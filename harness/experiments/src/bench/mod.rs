//! `./study bench`: the highest throughput of each path, and its share of what broker, database, HTTP server and processor
//! give a program that does nothing else. Benchmarks and baselines take turns, so a slow machine slows both.
//!
//! In reading order: `benchmarks` (what is measured, and its targets), `goal` (their evaluation), `session` (both stacks under
//! observation, with `wrk`, `baseline`, `store`), `sample`, `record` (the stored form), `view` (for the reader).

pub mod baseline;
pub mod benchmarks;
pub mod goal;
pub mod record;
pub mod sample;
pub mod session;
pub mod store;
pub mod view;
pub mod wrk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};

use baseline::Baseline;
use benchmarks::Benchmark;
use goal::Measurement;
use measure::host::Host;
use measure::output_dir::{OutputDir, Scratch};
use measure::progress;
use record::Record;
use session::{Plan, Programs, Session, Tools};
use stack::atomic_file::write_whole;
use stack::output::say;
use stack::{Mode, given_path, state_folder};
use wrk::Wrk;

/// The default.
const FULL: Plan = Plan { rounds: 5, seconds: 3, fill: 50_000, many: 1_000_000 };
const QUICK: Plan = Plan { rounds: 1, seconds: 1, fill: 5_000, many: 20_000 };
/// To start and to stop, seconds.
const AROUND: u64 = 25;

#[derive(Args)]
pub struct BenchArgs {
    /// Only these paths, each with its limits; all if none is named.
    #[arg(value_enum, value_name = "NAME")]
    paths: Vec<Benchmark>,

    /// How often each path is measured; the median is judged.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: Option<u32>,

    /// Each load, and each limit.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,

    /// One round of one second, with fewer clicks in the queue, and without `costs`, which needs a build of its own:
    /// whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,

    /// Where `bench.json` and `PERFORMANCE.md` go; `.study/bench` by default.
    #[arg(long, value_parser = given_path(), value_name = "DIR")]
    out: Option<PathBuf>,

    /// Where the services' binaries are, if not beside this one.
    #[arg(long, value_parser = given_path(), value_name = "DIR", hide = true)]
    programs: Option<PathBuf>,

    /// Binaries that are built already, with the feature `failpoints`.
    #[arg(long, value_parser = given_path(), value_name = "DIR", hide = true)]
    breakable: Option<PathBuf>,
}

impl BenchArgs {
    fn plan(&self) -> Plan {
        let plan = if self.quick { QUICK } else { FULL };
        Plan {
            rounds: self.rounds.unwrap_or(plan.rounds),
            seconds: self.seconds.unwrap_or(plan.seconds),
            ..plan
        }
    }

    /// In the order of all, each once.
    fn chosen(&self) -> Vec<Benchmark> {
        let wanted = |path: &Benchmark| match &self.paths[..] {
            [] => !(self.quick && *path == Benchmark::Costs),
            named => named.contains(path),
        };
        Benchmark::value_variants().iter().copied().filter(wanted).collect()
    }
}

pub fn run(args: &BenchArgs, root: &Path, port_offset: u16) -> Result<ExitCode> {
    let (plan, paths) = (args.plan(), args.chosen());
    let modes: Vec<Mode> = Mode::COMPARED
        .into_iter()
        .filter(|mode| paths.iter().any(|path| path.modes().contains(mode)))
        .collect();
    let out = args.out.clone().map_or_else(|| Ok(state_folder()?.join("bench")), anyhow::Ok)?;
    let output = OutputDir::new("bench-", Some(&out))?;
    // An earlier record is replaced; any other file is an error.
    Record::read(&output.dir)?;
    output.check(&modes, port_offset)?;
    let scratch = Scratch::new(&output, "bench")?;
    let tools = tools(args, root, &paths, &scratch.0)?;
    let host = Host::read("", None);
    eprintln!(
        "{} paths, rounds: {}, about {} min on {}",
        paths.len(),
        plan.rounds,
        (AROUND + planned(&paths, &plan, 0)).div_ceil(60),
        host.line()
    );
    let begun = Instant::now();
    let mut session = Session::start(plan, &modes, tools, &scratch.0, port_offset, &output.stamp)?;
    let mut record = Record::new(&output, host, &plan, &session, args.quick);
    let outcome = measure(&mut session, &paths, &mut record, &output, begun);
    record.seconds = begun.elapsed().as_secs();
    record.write(&output)?;
    outcome?;
    session.stop()?;
    scratch.remove();
    let page = Record::page(&output.dir);
    write_whole(&page, &view::markdown(&record)?)?;
    say(&format!(
        "\n{}\nResults: {}, {}\n",
        view::text(&record),
        Record::path(&output).display(),
        page.display()
    ))?;
    // A goal that is missed is a result; a path that cannot be measured is a failure.
    Ok(if record.unmeasured().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tools(args: &BenchArgs, root: &Path, paths: &[Benchmark], scratch: &Path) -> Result<Tools> {
    let (wrk, baseline) = (Wrk::find(scratch)?, Baseline::find()?);
    let beside = || Ok(std::env::current_exe()?.with_file_name(""));
    let plain = args.programs.clone().map_or_else(beside, anyhow::Ok)?;
    let breakable = match &args.breakable {
        _ if !paths.contains(&Benchmark::Costs) => None,
        Some(dir) => Some(dir.clone()),
        None => Some(stack::build::programs(root)?),
    };
    Ok(Tools { wrk, baseline, programs: Programs { plain, breakable } })
}

/// All rounds of all benchmarks, then those that run once.
fn measure(
    session: &mut Session,
    paths: &[Benchmark],
    record: &mut Record,
    output: &OutputDir,
    begun: Instant,
) -> Result<()> {
    let plan = session.plan;
    let mut readings: BTreeMap<Benchmark, Vec<Vec<Measurement>>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        session.round = round;
        let left = planned(paths, &plan, round - 1);
        let gone = begun.elapsed().as_secs();
        eprintln!("round {round} of {}, after {gone} s: {}", plan.rounds, progress::left(left));
        for path in paths.iter().filter(|path| !path.once()) {
            one(session, *path, record, &mut readings)?;
        }
        // After each round, so an interrupted run keeps its finished rounds.
        record.take(paths, &readings, session);
        record.write(output)?;
    }
    session.repeat_no_more();
    for path in paths.iter().filter(|path| path.once()) {
        eprintln!("{}: about {} s", path.name(), path.seconds(&plan));
        one(session, *path, record, &mut readings)?;
    }
    record.take(paths, &readings, session);
    Ok(())
}

fn one(
    session: &mut Session,
    path: Benchmark,
    record: &mut Record,
    readings: &mut BTreeMap<Benchmark, Vec<Vec<Measurement>>>,
) -> Result<()> {
    session.begin_path();
    let found = path.measure(session)?;
    if session.noisy() {
        *record.noisy.entry(path.name()).or_default() += 1;
    }
    match session.invalid() {
        Some(why) => record.notes.push(format!("{}, round {}: {why}", path.name(), session.round)),
        None => readings.entry(path).or_default().push(found),
    }
    Ok(())
}

/// Seconds for the rest, after `done` rounds.
fn planned(paths: &[Benchmark], plan: &Plan, done: u32) -> u64 {
    let rounds = |path: &Benchmark| if path.once() { 1 } else { u64::from(plan.rounds - done) };
    paths.iter().map(|path| rounds(path) * path.seconds(plan)).sum()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(args: &[&str]) -> Result<BenchArgs, clap::Error> {
        Cli::try_parse_from([&["bench"], args].concat()).map(|cli| cli.bench)
    }

    #[test]
    fn chosen_benchmarks_run_in_the_order_of_all() {
        let chosen = |args: &[&str]| parse(args).unwrap().chosen();
        assert_eq!(chosen(&["s4", "s6-async", "s4"]), [Benchmark::S6Async, Benchmark::S4]);
        assert_eq!(chosen(&[]).len(), Benchmark::value_variants().len());
        assert!(
            !chosen(&["--quick"]).contains(&Benchmark::Costs)
                && chosen(&["--quick", "costs"]).contains(&Benchmark::Costs)
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_names() {
        let error = parse(&["s7"]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("s7") && error.contains("s6-packed") && error.contains("million"), "{error}");
    }

    #[test]
    fn quick_is_one_round_of_a_second_unless_more_is_asked_for() {
        let plan = |args: &[&str]| {
            let plan = parse(args).unwrap().plan();
            (plan.rounds, plan.seconds, plan.many)
        };
        assert_eq!(plan(&[]), (5, 3, 1_000_000));
        assert_eq!(plan(&["--quick"]), (1, 1, 20_000));
        assert_eq!(plan(&["--quick", "--rounds", "2", "--seconds", "4"]), (2, 4, 20_000));
    }

    #[test]
    fn a_benchmark_that_runs_once_counts_once_in_the_rest() {
        let (drain, million) = (Benchmark::Drain.seconds(&FULL), Benchmark::Million.seconds(&FULL));
        assert_eq!(planned(&[Benchmark::Drain, Benchmark::Million], &FULL, 0), 5 * drain + million);
        assert_eq!(planned(&[Benchmark::Drain, Benchmark::Million], &FULL, 5), million);
    }
}
