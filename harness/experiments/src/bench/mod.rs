//! `./study bench`: how much goes through each path at most, and what share that is of what broker, database, server and
//! processor give a program that does nothing else. Paths and limits take turns, so that what slows the machine slows
//! both.
//!
//! In reading order: `paths` (what is measured, and what it shall reach), `goal` (whether it did), `lab` (both stacks, and
//! what measures them: `wrk`, `baseline`, `processor`, `store`, `histogram`, `child`), `sample`, `record` (what is
//! written down), `rows`, `table` and `page` (for the reader).

pub mod baseline;
pub mod child;
pub mod goal;
pub mod histogram;
pub mod lab;
pub mod page;
pub mod paths;
pub mod processor;
pub mod record;
pub mod rows;
pub mod sample;
pub mod store;
pub mod table;
pub mod wrk;

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};

use baseline::Baseline;
use goal::Reading;
use lab::{Lab, Plan, Programs, Tools};
use measure::host::Host;
use measure::output_dir::{Place, Scratch};
use measure::progress;
use paths::Path;
use record::Record;
use stack::atomic_file::write_whole;
use stack::output::say;
use stack::{Mode, given_path, state_folder};
use wrk::Wrk;

/// What is done when nothing else is said.
const FULL: Plan = Plan { rounds: 5, seconds: 3, fill: 50_000, many: 1_000_000 };
const QUICK: Plan = Plan { rounds: 1, seconds: 1, fill: 5_000, many: 20_000 };
/// To start and to stop, seconds.
const AROUND: u64 = 25;

#[derive(Args)]
pub struct BenchArgs {
    /// Only these paths, each with its limits; all if none is named.
    #[arg(value_enum, value_name = "NAME")]
    paths: Vec<Path>,

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

    /// Where `bench.json` and `PERFORMANCE.md` go; `.study/bench` if not said.
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
    fn chosen(&self) -> Vec<Path> {
        let wanted = |path: &Path| match &self.paths[..] {
            [] => !(self.quick && *path == Path::Costs),
            named => named.contains(path),
        };
        Path::value_variants().iter().copied().filter(wanted).collect()
    }
}

pub fn run(args: &BenchArgs, root: &FilePath, port_offset: u16) -> Result<ExitCode> {
    let (plan, paths) = (args.plan(), args.chosen());
    let modes: Vec<Mode> = [Mode::Sync, Mode::Async]
        .into_iter()
        .filter(|mode| paths.iter().any(|path| path.modes().contains(mode)))
        .collect();
    let out = args.out.clone().map_or_else(|| Ok(state_folder()?.join("bench")), anyhow::Ok)?;
    let place = Place::new("bench-", Some(&out))?;
    // An earlier one is replaced, something else is not.
    Record::read(&place.dir)?;
    place.check(&modes, port_offset)?;
    let scratch = Scratch::new(&place, "bench")?;
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
    let mut lab = Lab::start(plan, &modes, tools, &scratch.0, port_offset, &place.stamp)?;
    let mut record = Record::new(&place, host, &plan, &lab, args.quick);
    let outcome = measure(&mut lab, &paths, &mut record, &place, begun);
    record.seconds = begun.elapsed().as_secs();
    record.write(&place)?;
    outcome?;
    lab.stop()?;
    scratch.remove();
    let (page, markdown) = page::page(&record, &place.dir)?;
    write_whole(&page, &markdown)?;
    say(&format!(
        "\n{}\nResults: {}, {}\n",
        table::text(&record),
        Record::path(&place).display(),
        page.display()
    ))?;
    // A goal that is missed is a result; a path that cannot be measured is a failure.
    Ok(if record.unmeasured().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tools(args: &BenchArgs, root: &FilePath, paths: &[Path], scratch: &FilePath) -> Result<Tools> {
    let (wrk, baseline) = (Wrk::find(scratch)?, Baseline::find()?);
    let beside = || Ok(std::env::current_exe()?.with_file_name(""));
    let plain = args.programs.clone().map_or_else(beside, anyhow::Ok)?;
    let breakable = match &args.breakable {
        _ if !paths.contains(&Path::Costs) => None,
        Some(dir) => Some(dir.clone()),
        None => Some(stack::build::programs(root)?),
    };
    Ok(Tools { wrk, baseline, programs: Programs { plain, breakable } })
}

/// All rounds of all paths, and then what is done once.
fn measure(lab: &mut Lab, paths: &[Path], record: &mut Record, place: &Place, begun: Instant) -> Result<()> {
    let plan = lab.plan;
    let mut readings: BTreeMap<Path, Vec<Vec<Reading>>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        lab.round = round;
        let left = planned(paths, &plan, round - 1);
        let gone = begun.elapsed().as_secs();
        eprintln!("round {round} of {}, after {gone} s: {}", plan.rounds, progress::left(left));
        for path in paths.iter().filter(|path| !path.once()) {
            one(lab, *path, record, &mut readings)?;
        }
        // After each: a run that is cut off later loses nothing.
        record.take(paths, &readings, lab);
        record.write(place)?;
    }
    lab.repeat_no_more();
    for path in paths.iter().filter(|path| path.once()) {
        eprintln!("{}: about {} s", path.name(), path.seconds(&plan));
        one(lab, *path, record, &mut readings)?;
    }
    record.take(paths, &readings, lab);
    Ok(())
}

fn one(
    lab: &mut Lab,
    path: Path,
    record: &mut Record,
    readings: &mut BTreeMap<Path, Vec<Vec<Reading>>>,
) -> Result<()> {
    lab.begin_path();
    let found = path.measure(lab)?;
    if lab.noisy() {
        *record.noisy.entry(path.name()).or_default() += 1;
    }
    match lab.invalid() {
        Some(why) => record.notes.push(format!("{}, round {}: {why}", path.name(), lab.round)),
        None => readings.entry(path).or_default().push(found),
    }
    Ok(())
}

/// Seconds for what is left after so many rounds.
fn planned(paths: &[Path], plan: &Plan, done: u32) -> u64 {
    let rounds = |path: &Path| if path.once() { 1 } else { u64::from(plan.rounds - done) };
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
    fn what_is_named_is_measured_in_the_order_of_all() {
        let chosen = |args: &[&str]| parse(args).unwrap().chosen();
        assert_eq!(chosen(&["s4", "s6-async", "s4"]), [Path::S6Async, Path::S4]);
        assert_eq!(chosen(&[]).len(), Path::value_variants().len());
        assert!(
            !chosen(&["--quick"]).contains(&Path::Costs)
                && chosen(&["--quick", "costs"]).contains(&Path::Costs)
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_there_are() {
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
    fn what_is_done_once_counts_once_in_what_is_left() {
        let (drain, million) = (Path::Drain.seconds(&FULL), Path::Million.seconds(&FULL));
        assert_eq!(planned(&[Path::Drain, Path::Million], &FULL, 0), 5 * drain + million);
        assert_eq!(planned(&[Path::Drain, Path::Million], &FULL, 5), million);
    }
}
