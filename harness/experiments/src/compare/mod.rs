//! `./study compare`: the same open load against both modes, several runs of each in balanced order, and what the
//! runs say together.
//!
//! In reading order: `options` (the command line), `plan` (which run comes when). `measure::analysis` computes the figures,
//! `report` presents them.

pub mod options;
pub mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use contract::Scenario;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::report::{self, model::Model};
use crate::results::Results;
use measure::analysis::format::counted;
use measure::host::Host;
use measure::load::{K6, Kind};
use measure::load_profile::Load;
use measure::output_dir::{Environment, OutputDir, check_disk, check_room};
use measure::progress;
use measure::record::{Cost, Plan, PlannedRun, Run};
use measure::session::{Measured, Session};
use measure::stored::write;
pub use options::CompareArgs;
use stack::compose;
use stack::output::say;

/// Idle time that costs are corrected for: two of the periods in which a broker looks after itself.
const IDLE_SECONDS: u64 = 10;

pub fn run(args: CompareArgs, port_offset: u16) -> Result<()> {
    let resumed =
        args.resume.as_deref().map(|dir| anyhow::Ok((plan::resume(dir)?, std::path::absolute(dir)?)));
    let resumed = resumed.transpose()?;
    let k6 = K6::find()?;
    let (plan, dir) = match resumed {
        Some((plan, dir)) => (plan, dir),
        None => {
            let engine = args.docker.then(compose::engine).transpose()?;
            let output = OutputDir::new("", args.out.as_deref())?;
            let plan = args.plan(Host::read(&k6.version, engine), &output)?;
            plan::begin(&plan, &output.dir)?;
            (plan, output.dir)
        }
    };
    check_room(&dir)?;
    eprintln!("comparing on {}", plan.host.line());
    let environment = Environment {
        k6,
        delays: plan.settings.clone(),
        port_offset,
        seed: plan.seed,
        docker: plan.docker,
        stamp: plan.stamp.clone(),
    };
    let todo = plan::left(&plan, &dir);
    for (done, planned) in todo.iter().enumerate() {
        let left = todo[done..].iter().map(|planned| plan::seconds(&plan.load, *planned)).sum::<u64>();
        let (runs, variant) = (plan.order.len(), &planned.variant.name);
        eprintln!("run {} of {runs}, {variant}: {}", planned.index + 1, progress::left(left));
        // What a full disk did not take is missing: such a run is not finished.
        let run = check_disk(measure(&environment, &plan, *planned, &dir), &dir)
            .inspect_err(|_| plan::remove_if_empty(*planned, &dir))?;
        write(&planned.file(&dir), &run)?;
    }
    show(&dir)
}

/// Files first, then the terminal; an error if any figure must not be used.
fn show(dir: &Path) -> Result<()> {
    let results = Results::read(dir)?;
    let model = Model::of(&results);
    let (page, files) = report::forms(&model, dir)?;
    report::write_all(&files)?;
    let text = report::table::text(&model);
    let here = std::env::current_dir()?;
    let text = format!("\n{text}\nResults: {}\n", page.strip_prefix(here).unwrap_or(&page).display());
    say(&text)?;
    let problems = model.problems.len() as u64;
    ensure!(
        problems == 0,
        "{}: the figures above must not be used as they are",
        counted(problems, "problem")
    );
    Ok(())
}

/// One run, from an empty stack to its end, with its raw samples in its folder.
fn measure(environment: &Environment, plan: &Plan, planned: PlannedRun<'_>, dir: &Path) -> Result<Run> {
    let (variant, folder) = (planned.variant, planned.folder(dir));
    if folder.exists() {
        // Of a run that was cut off.
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let started = OffsetDateTime::now_utc()
        .format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC"))?;
    let mut session = Session::start(environment, variant, &folder)?;
    let load = &plan.load;
    let warm_up = load.warm_up();
    if warm_up.seconds > 0 && !warm_up.rates.is_empty() {
        session.offer(&warm_up, "warm-up", Kind::default())?;
    }
    // Before the load, which leaves a broker with work of its own.
    let costs = if load.cost_seconds > 0 { costs(&mut session, load)? } else { BTreeMap::new() };
    let mut measured = session.offer(load, "load", Kind::default())?;
    session.empty_queues(&mut measured.drain)?;
    let (cross_checks, servers) = (session.check()?, session.servers.clone());
    let (mut scenarios, unreadable_journal_lines) = session.stop(&measured)?;
    plan.complete(&mut scenarios);
    keep_answers(&measured, &folder)?;
    let Measured { watched, drain, in_progress, .. } = measured;
    Ok(Run {
        index: planned.index,
        variant: variant.name.clone(),
        mode: variant.mode,
        started,
        servers,
        scenarios,
        drain,
        cross_checks,
        unreadable_journal_lines,
        watched,
        costs,
        in_progress,
    })
}

/// Each scenario alone: what 1000 of its workflows take, beyond what the stack takes anyway.
fn costs(session: &mut Session<'_>, load: &Load) -> Result<BTreeMap<Scenario, Cost>> {
    let idle = session.idle(IDLE_SECONDS)?;
    let mut costs = BTreeMap::new();
    for scenario in load.rates.keys() {
        let (rate, seconds) = match scenario {
            // One report.
            Scenario::S4 => ("1", 1),
            Scenario::S6 => ("400", load.cost_seconds),
            _ => ("40", load.cost_seconds),
        };
        let alone = Load::alone(*scenario, rate, seconds);
        let measured = session.offer(&alone, &format!("cost-{}", scenario.key()), Kind::default())?;
        let completed = measured.outcomes.get(scenario).map_or(0, |outcome| outcome.complete.count());
        costs.extend(Cost::of(&measured.watched, &idle, completed).map(|cost| (*scenario, cost)));
    }
    Ok(costs)
}

/// The raw samples, from which (with the journals) the outcomes can be made again.
fn keep_answers(measured: &Measured, folder: &Path) -> Result<()> {
    let path = folder.join("answers.jsonl");
    let keep = || -> Result<()> {
        let mut file = BufWriter::new(fs::File::create(&path)?);
        for answer in &measured.samples.answers {
            serde_json::to_writer(&mut file, answer)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    };
    keep().with_context(|| format!("cannot write {}", path.display()))?;
    write(&folder.join("failed-checks.json"), &measured.samples.failed_checks)
}
