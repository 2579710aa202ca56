//! `./study compare`: the same load against both modes, one after the other, and what came of every request.
//!
//! In reading order: `profile` (how much load), `load` (k6), `samples` and `journal` (what k6 and the services noted),
//! `drain`, `join` (both together), `crosscheck`, `result`, then `table` and `page` for the reader.

pub mod chart;
pub mod crosscheck;
pub mod drain;
pub mod figures;
pub mod host;
pub mod join;
pub mod journal;
pub mod load;
pub mod page;
pub mod profile;
pub mod progress;
pub mod result;
pub mod samples;
pub mod scenario;
pub mod table;

#[cfg(test)]
mod example;

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::local::{Mode, Stack, StackOptions, compose, project_root, state_folder};
use crosscheck::Stores;
use host::{Host, Servers};
use journal::Journal;
use load::{K6, Run, Samples};
use profile::{Delays, Load, Profile};
use progress::Phase;
use result::{Comparison, ModeResult};

#[derive(Args)]
pub struct CompareArgs {
    /// How long and how hard: `smoke` takes 2 minutes at most, `quick` 6.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,

    /// Which modes, in which order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mode::Sync, Mode::Async])]
    modes: Vec<Mode>,

    /// In containers of the project's compose files, made for this run (their images, too, which takes its own time)
    /// and removed after it.
    #[arg(long)]
    docker: bool,

    /// Where the results go; `results/<UTC time>` if not said.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: CompareArgs, port_offset: u16) -> Result<()> {
    let k6 = K6::find()?;
    let engine = args.docker.then(compose::engine).transpose()?;
    let now = OffsetDateTime::now_utc();
    let stamp = now.format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
    let out = match args.out {
        Some(out) => std::path::absolute(out)?,
        None => project_root()?.join("results").join(&stamp),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;

    let study = Study {
        load: args.profile.load(),
        delays: Delays::from_environment(),
        host: Host::read(&k6.version, engine),
        k6,
        port_offset,
        stamp,
        out,
    };
    eprintln!("comparing on {}", study.host.line());
    let modes = args.modes.into_iter().map(|mode| study.measure(mode)).collect::<Result<Vec<_>>>();
    let modes = modes.inspect_err(|_| study.remove_empty_folders())?;
    let comparison = Comparison {
        started: now.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))?,
        profile: args.profile,
        problems: modes.iter().flat_map(ModeResult::problems).collect(),
        modes,
        load: study.load,
        settings: study.delays,
        host: study.host,
    };
    report(&comparison, &study.out)
}

struct Study {
    k6: K6,
    load: Load,
    delays: Delays,
    host: Host,
    port_offset: u16,
    /// Names the run and begins the ids of its workflows.
    stamp: String,
    out: PathBuf,
}

impl Study {
    fn measure(&self, mode: Mode) -> Result<ModeResult> {
        let folder = self.out.join(mode.to_string());
        let journals = folder.join("journal");
        if journals.exists() {
            bail!("{} holds an earlier run: take another --out", folder.display());
        }
        fs::create_dir_all(&journals).with_context(|| format!("cannot create {}", journals.display()))?;
        let mut stack = Stack::start(
            mode,
            &StackOptions {
                port_offset: self.port_offset,
                env: self.delays.environment(),
                journal: Some(journals.clone()),
                dir: Some(state_folder()?.join("compare").join(mode.to_string())),
                fresh: true,
                docker: self.host.engine.as_ref().map(|_| "microservices-compare".to_owned()),
                ..StackOptions::default()
            },
        )?;
        let mut journal = Journal::new(&journals);
        let before = Stores::new(&stack).before()?;
        let servers = Servers::of(&stack)?;

        let id = format!("{}-{mode}", self.stamp);
        let warm_up =
            self.offer(&self.load.warm_up(), "warm-up", &format!("warm-{id}"), &mut stack, &folder)?;
        self.drain(mode, &mut stack, &mut journal, &warm_up)?;
        let samples = self.offer(&self.load, "load", &id, &mut stack, &folder)?;
        let drain = self.drain(mode, &mut stack, &mut journal, &samples)?;
        let asked = [warm_up.answers, samples.answers.clone()].concat();
        let cross_checks = Stores::new(&stack).check(&before, &asked)?;

        let phase = Phase::start(format!("{mode}: stopping"), None);
        stack.stop()?;
        phase.done("ended");
        // Again: what was applied late, or twice, is in it too.
        journal.poll()?;
        Ok(ModeResult {
            mode,
            servers,
            scenarios: join::join(
                &format!("{id}-"),
                &samples.answers,
                &samples.failed_checks,
                &samples.dropped,
                &journal.entries,
            )?,
            drain,
            cross_checks,
            unreadable_journal_lines: journal.unreadable,
        })
    }

    /// What failed before the first figure (a busy port) leaves nothing to look at.
    fn remove_empty_folders(&self) {
        for mode in [Mode::Sync, Mode::Async].map(|mode| mode.to_string()) {
            fs::remove_dir(self.out.join(&mode).join("journal")).ok();
            fs::remove_dir(self.out.join(&mode)).ok();
        }
        fs::remove_dir(&self.out).ok();
    }

    fn offer(&self, load: &Load, name: &str, id: &str, stack: &mut Stack, folder: &Path) -> Result<Samples> {
        let mode = stack.mode();
        let mut phase = Phase::start(format!("{mode}: {name}"), Some(load.seconds));
        let run = Run { mode, load, delays: &self.delays, port_offset: self.port_offset, id, folder, name };
        let samples = self.k6.run(&run, stack, &mut phase)?;
        phase.done(&samples.progress());
        Ok(samples)
    }

    fn drain(
        &self,
        mode: Mode,
        stack: &mut Stack,
        journal: &mut Journal,
        samples: &Samples,
    ) -> Result<drain::Drain> {
        let mut phase = Phase::start(format!("{mode}: until all that was accepted has ended"), None);
        let limit = Duration::from_secs(self.load.drain_limit_seconds);
        let drain = drain::wait(stack, journal, &samples.answers, limit, &mut phase)?;
        phase.done(&format!("{} workflows open, {} messages queued", drain.open, drain.queued));
        Ok(drain)
    }
}

/// Files first, then the terminal; an error if any figure must not be used.
fn report(comparison: &Comparison, out: &Path) -> Result<()> {
    let (page, html) = (out.join("report.html"), page::render(comparison)?);
    fs::write(out.join("results.json"), serde_json::to_string_pretty(comparison)?)
        .and_then(|()| fs::write(&page, html))
        .with_context(|| format!("cannot write to {}", out.display()))?;

    let mut text = format!("\n{}", table::text(comparison));
    if comparison.problems.is_empty() {
        text +=
            "\nNothing accepted was lost, nothing was applied twice, every answer was the expected one.\n";
    } else {
        text += &format!("\nPROBLEMS\n{}\n", comparison.problems.join("\n"));
    }
    text += &format!("\nResults: {}\n", page.display());
    stdout().write_all(text.as_bytes())?;
    match comparison.problems.len() {
        0 => Ok(()),
        1 => bail!("1 problem: the figures above must not be used as they are"),
        count => bail!("{count} problems: the figures above must not be used as they are"),
    }
}
