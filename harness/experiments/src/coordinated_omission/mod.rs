//! `./study omission`: the same stall seen by a closed and by an open load. Users that wait for their answers send
//! nothing while the system stands still, so the closed load leaves out just the requests that would have waited:
//! coordinated omission.

pub mod stall;
pub mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use contract::{Scenario, Service};
use serde::{Deserialize, Serialize};

use measure::load::{K6, Kind};
use measure::load_profile::Load;
use measure::outcomes::Outcome;
use measure::output_dir::{Environment, OutputDir, Scratch};
use measure::record::Variant;
use measure::session::Session;
use measure::stored::{LONGEST_SECONDS, Stored, first_version, read, within, write};
use measure::times::Times;
use stack::output::say;
use stack::{Mode, compared_mode, given_path};
use stall::Stall;

/// It takes the clicks of S6 in both modes.
const STALLED: &str = Service::Analytics.name();
const STALL: Duration = Duration::from_secs(1);
/// Users that pause: without it they would go as fast as the machine, and no open load could be as fast.
const USERS: u32 = 10;
const PAUSE_MS: u32 = 50;
/// To see how fast the closed load is when nothing stalls.
const PROBE_SECONDS: u64 = 5;

#[derive(Args)]
pub struct OmissionArgs {
    /// Which mode.
    #[arg(long, value_parser = compared_mode(), default_value_t = Mode::Sync)]
    mode: Mode,

    /// Load of each kind; the stall is in the middle.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(6..=600))]
    seconds: u64,

    /// Where `omission.json` goes, such as the folder of a comparison, whose report then shows it;
    /// `results/omission-<UTC time>` by default.
    #[arg(long, value_parser = given_path(), value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What both loads measured while one service was stopped for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Omission {
    #[serde(default = "first_version")]
    pub version: u32,
    pub mode: Mode,
    /// Load of each kind.
    pub seconds: u64,
    /// How long analyticsservice was stopped in the middle of it.
    pub stall_ms: u64,
    /// Arrivals per second of the open load; the closed one, with `users`, is as fast when nothing stalls.
    pub rate: u32,
    pub users: u32,
    pub closed: Times,
    pub open: Times,
}

impl Omission {
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("omission.json")
    }
}

impl Stored for Omission {
    fn check(&self) -> Result<()> {
        within("the seconds of each load", self.seconds, 1, LONGEST_SECONDS)?;
        within("the stall in ms", self.stall_ms, 1, LONGEST_SECONDS * 1000)?;
        for (what, times) in [("closed", &self.closed), ("open", &self.open)] {
            ensure!(times.count() > 0, "the {what} load has no answer");
        }
        Ok(())
    }
}

pub fn run(args: &OmissionArgs, port_offset: u16) -> Result<()> {
    let output = OutputDir::new("omission-", args.out.as_deref())?;
    let path = Omission::path(&output.dir);
    // An earlier one is replaced, something else is not.
    read::<Omission>(&path)?;
    let k6 = K6::find()?;
    output.check(&[args.mode], port_offset)?;
    let scratch = Scratch::new(&output, "omission")?;
    let environment = output.environment(k6, port_offset, 1);
    let omission = measure(&environment, &scratch, args)?;
    scratch.remove();
    write(&path, &omission)?;
    let text = format!("\n{}\nResults: {}\n", table::text(&omission), path.display());
    say(&text)
}

fn measure(environment: &Environment, scratch: &Scratch, args: &OmissionArgs) -> Result<Omission> {
    let variant = Variant::of(args.mode);
    let mut session = Session::start(environment, &variant, &scratch.0)?;
    let closed = Kind { closed: Some(USERS), pause_ms: PAUSE_MS, ..Kind::default() };
    offer(&mut session, "warm-up", 2, 1, closed)?;
    let probe = offer(&mut session, "without-stall", PROBE_SECONDS, 1, closed)?;
    let rate = u32::try_from(probe.expected / PROBE_SECONDS)?.max(1);
    let stalled = |session: &mut Session<'_>, name: &str, kind: Kind| -> Result<Times> {
        // k6 begins a moment after it is started: the middle need not be exact.
        let stall = Stall::plan(session.stack.pid(STALLED)?, Duration::from_secs(args.seconds) / 2, STALL);
        let outcome = offer(session, name, args.seconds, rate, kind)?;
        stall.end()?;
        seen(&outcome.acknowledge)?;
        Ok(outcome.acknowledge)
    };
    let closed = stalled(&mut session, "closed", closed)?;
    // Users for all that the stall keeps waiting, and again as long until that is answered.
    let hiccup_ms = u32::try_from(2 * STALL.as_millis())?;
    let open = stalled(&mut session, "open", Kind { hiccup_ms: Some(hiccup_ms), ..Kind::default() })?;
    session.stack.stop()?;
    Ok(Omission {
        version: Omission::VERSION,
        mode: args.mode,
        seconds: args.seconds,
        stall_ms: u64::try_from(STALL.as_millis())?,
        rate,
        users: USERS,
        closed,
        open,
    })
}

/// What came of clicks alone; an error unless all were offered and answered.
fn offer(session: &mut Session<'_>, name: &str, seconds: u64, rate: u32, kind: Kind) -> Result<Outcome> {
    let load = Load::alone(Scenario::S6, rate.to_string(), seconds);
    let mut measured = session.offer(&load, name, kind)?;
    let outcome = measured.outcomes.remove(&Scenario::S6).context("k6 sent no click")?;
    if outcome.unexpected_total() > 0 {
        bail!("{name}: {} unexpected answers: {:?}", outcome.unexpected_total(), outcome.unexpected);
    }
    if outcome.dropped > 0 {
        bail!("{name}: {} clicks were not offered in time: the machine is too busy", outcome.dropped);
    }
    Ok(outcome)
}

/// The longest request lasts nearly as long as the stall.
fn seen(times: &Times) -> Result<()> {
    let longest = times.figures().max.unwrap_or(0.0);
    if longest < STALL.as_secs_f64() * 900.0 {
        bail!("no request saw the stall: the longest took {longest:.0} ms");
    }
    Ok(())
}
