//! `./study faults`: load against the ten processes of one stack while faults are injected, then a checker that reads the
//! clients' records, the databases and the queues, and names each invariant that does not hold. It knows the stack; it does
//! not know how performance is measured.
//!
//! In reading order: `catalogue` (the faults), `topology` (their targets), `schedule` (which fault when, from a seed), `nemesis`
//! (injects them), `proxy` (the network between the processes), `probe` (health and memory meanwhile); `generator` (the
//! clients) and `operation_log` (their records); `checker`, `report`.

#[macro_use]
extern crate stack;

pub mod catalogue;
pub mod checker;
pub mod generator;
pub mod nemesis;
pub mod operation_log;
pub mod probe;
pub mod progress;
pub mod proxy;
pub mod report;
pub mod schedule;
pub mod topology;

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use contract::{DISABLED_PROTECTION, Protection, Service};

use catalogue::Choice;
use checker::{Finding, RunArtifacts, invariants};
use generator::{Load, Targets};
use nemesis::{FaultLog, Nemesis};
use probe::Prober;
use progress::Progress;
use proxy::Proxy;
use report::RunResult;
use schedule::{Length, Schedule};
use stack::broker::BrokerPorts;
use stack::build;
use stack::output::say;
use stack::ports::Ports;
use stack::{Mode, Stack, StackOptions, compared_mode, given_path, postgres, services, state_folder};
use topology::{DATABASE, Link};

/// Short delays for a higher rate; half of the payments of orders fail.
const SETTINGS: [(&str, &str); 6] = [
    ("PAYMENT_DELAY_MS", "200"),
    ("EMAIL_DELAY_MS", "100"),
    ("REPORT_SECONDS", "0.2"),
    ("SAGA_PAYMENT_FAILURE_RATE", "0.5"),
    ("SAGA_PAYMENT_DELAY_MS", "50"),
    ("SAGA_RETRY_SECONDS", "15"),
];
const MINUTES: f64 = 10.0;
/// Injections of each fault that exposes the absence of a protection.
const RUNS_WITHOUT_PROTECTION: u32 = 3;

const NO_CRASH: &str = "no service ended by itself";
const ORDERLY: &str = "a service that is asked to end does so in order";

#[derive(Args)]
pub struct FaultsArgs {
    /// Which architecture.
    #[arg(long, value_parser = compared_mode(), default_value_t = Mode::Async)]
    mode: Mode,

    /// Only this fault (as in --list; failpoint:PLACE for one place); can be given several times.
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<Choice>,

    /// Each chosen fault N times (each place of failpoint), instead of a time.
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    runs: Option<u32>,

    /// Repeat the schedule and the requests of an earlier run.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// For how many minutes faults are injected; 10 by default.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,

    /// Run the services without one of their protections: an invariant must break.
    #[arg(long, value_enum, value_name = "NAME")]
    disable: Option<Protection>,

    /// Explain every fault, and end.
    #[arg(long)]
    list: bool,

    /// Operations that the clients begin per second.
    #[arg(long, value_name = "R", default_value_t = 60.0)]
    rate: f64,

    /// Where the result goes; `results` by default.
    #[arg(long, value_parser = given_path(), value_name = "DIR")]
    out: Option<PathBuf>,

    /// Binaries that are built already, with the feature `failpoints`.
    #[arg(long, value_parser = given_path(), value_name = "DIR", hide = true)]
    programs: Option<PathBuf>,
}

/// The decided parameters of a run.
struct Plan {
    mode: Mode,
    choices: Vec<Choice>,
    length: Length,
    seed: u64,
    rate: f64,
    disabled: Option<Protection>,
    port_offset: u16,
}

pub fn run(args: FaultsArgs, root: &Path, port_offset: u16) -> Result<ExitCode> {
    if args.list {
        say(&catalogue::list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan::of(&args, port_offset)?;
    let programs = match args.programs {
        Some(folder) => folder,
        None => build::programs(root)?,
    };
    eprintln!("{}", plan.text());
    let result = plan.carry_out(programs)?;
    report::print(&result)?;
    let path = report::write(&result, &args.out.unwrap_or_else(|| root.join("results")))?;
    say(&format!("\nResult: {}\n", path.display()))?;
    plan.verdict(&result)
}

impl Plan {
    fn of(args: &FaultsArgs, port_offset: u16) -> Result<Self> {
        let mode = args.mode;
        let choices = match (&args.faults[..], args.disable) {
            ([], Some(protection)) => catalogue::faults_without(protection),
            ([], None) => Choice::all(mode),
            (chosen, _) => chosen.to_vec(),
        };
        if let Some(choice) = choices.iter().find(|choice| !choice.exists_in(mode)) {
            bail!("there is no {choice} in {mode} mode: see --list");
        }
        let length = match (args.runs, args.minutes, args.disable) {
            (Some(runs), ..) => Length::Runs(runs),
            (None, None, Some(_)) if args.faults.is_empty() => Length::Runs(RUNS_WITHOUT_PROTECTION),
            (None, minutes, _) => Length::Minutes(minutes.unwrap_or(MINUTES)),
        };
        let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(Instant::now()) % 1_000_000);
        let (rate, disabled) = (args.rate, args.disable);
        Ok(Self { mode, choices, length, seed, rate, disabled, port_offset })
    }

    fn settings(&self) -> Vec<(String, String)> {
        let own = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let disabled =
            self.disabled.map(|protection| (DISABLED_PROTECTION.to_owned(), protection.name().to_owned()));
        own.into_iter().chain(disabled).collect()
    }

    /// What is printed before anything starts.
    fn text(&self) -> String {
        let Self { mode, seed, rate, .. } = self;
        let faults: Vec<String> = self.choices.iter().map(Choice::to_string).collect();
        let length = match self.length {
            Length::Runs(runs) => format!("each {runs} times"),
            Length::Minutes(minutes) => format!("for {minutes} minutes"),
        };
        let settings: Vec<String> =
            self.settings().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut text = format!(
            "{mode} mode, seed {seed} (--seed {seed} repeats the schedule), {rate} operations per second\n  \
             faults, {length}: {}\n  settings: {}",
            faults.join(", "),
            settings.join(" ")
        );
        if let Some(protection) = self.disabled {
            let expected = invariants::broken_without(protection).join("\" or \"");
            text += &format!("\n  without a protection ({protection}): \"{expected}\" must not hold");
        }
        text
    }

    fn carry_out(&self, programs: PathBuf) -> Result<RunResult> {
        let dir = state_folder()?.join(format!("faults-{}", self.mode));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let operation_log = dir.join("operations.jsonl");
        no_core_files();
        let ports = Ports::contract(self.mode, self.port_offset)?;
        let proxy = proxy_for(self.mode, &ports)?;
        let options = StackOptions {
            port_offset: self.port_offset,
            env: self.settings(),
            env_of: through(&proxy, self.mode, &ports),
            dir: Some(dir),
            fresh: true,
            programs: Some(programs),
            ..StackOptions::default()
        };
        let mut stack = Stack::start(self.mode, &options)?;
        let urls: HashMap<&'static str, String> =
            Service::ALL.iter().map(|service| (service.name(), stack.url(service.name()))).collect();

        let began = Instant::now();
        let show = Progress::start();
        let prober = Prober::start(urls.iter().map(|(name, url)| (*name, url.clone())), began);
        let load = Load::start(
            Targets { mode: self.mode, urls: urls.clone() },
            self.seed,
            self.rate,
            &operation_log,
        )?;
        let mut nemesis = Nemesis::new(&mut stack, &load, &proxy, (&prober, &show), (self.seed, began))?;
        for planned in Schedule::new(self.seed, self.mode, &self.choices, self.length) {
            if matches!(self.length, Length::Minutes(minutes) if began.elapsed().as_secs_f64() > minutes * 60.0)
            {
                break;
            }
            nemesis.inject(&planned)?;
        }
        let fault_log = nemesis.fault_log();
        let seconds = began.elapsed().as_secs_f64();
        show.line("the load ends; what is not known is asked for again");
        let progress = load.finish()?;
        let probes = prober.finish()?;

        let artifacts = RunArtifacts {
            mode: self.mode,
            operation_log,
            urls,
            database_url: stack.database_url(),
            broker: stack.broker(),
            poison: fault_log.poison.clone(),
            probes: probes.clone(),
            last_fault_ended: fault_log.last_ended.unwrap_or_else(SystemTime::now),
            faults: fault_log.records.clone(),
            disabled: self.disabled,
        };
        show.line("until everything is at rest");
        let settled = checker::settle(&artifacts, &|text| show.now(text))?;
        let mut findings = checker::check(&artifacts, &settled)?;
        findings.extend(own_findings(&fault_log));
        let answers = checker::answers(&artifacts)?;
        drop(show);
        stack.stop()?;
        Ok(RunResult {
            mode: self.mode,
            seed: self.seed,
            revision: build::revision().unwrap_or_else(|| "unknown".to_owned()),
            disabled: artifacts.disabled,
            settings: self.settings(),
            seconds,
            progress,
            answers,
            kills: fault_log.records.iter().map(|record| record.kills).sum(),
            faults: fault_log.records,
            settled,
            findings,
        })
    }

    /// Exit code 1 if an invariant broke, also where a disabled protection must break one.
    fn verdict(&self, result: &RunResult) -> Result<ExitCode> {
        let broken = result.broken();
        let code = if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        let Some(protection) = self.disabled else {
            say(match broken.len() {
                0 => "All invariants hold.\n",
                _ => "Not all invariants hold.\n",
            })?;
            return Ok(code);
        };
        let expected = invariants::broken_without(protection);
        let caught: Vec<&str> = expected.iter().copied().filter(|wanted| broken.contains(wanted)).collect();
        say(&match (&caught[..], &broken[..]) {
            ([], []) => format!("NOT caught: without {protection} the checker saw nothing broken\n"),
            ([], other) => {
                format!("caught: {protection}, though by another invariant: {}\n", other.join("; "))
            }
            (caught, _) => format!("caught: without {protection} this broke: {}\n", caught.join("; ")),
        })?;
        Ok(code)
    }
}

/// Failpoints abort on purpose: no core dumps.
fn no_core_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    setrlimit(Resource::Core, limit).ok();
}

/// A proxy for every link of this mode.
fn proxy_for(mode: Mode, ports: &Ports) -> Result<Proxy> {
    let port_of = |name: &str| {
        let broker = ports.broker.as_ref().map(|ports| (ports.server.name(), ports.client));
        let services = Service::ALL.map(Service::name).into_iter().zip(ports.services.iter().copied());
        let mut all = services.chain([(DATABASE, ports.postgres)]).chain(broker);
        all.find(|(known, _)| *known == name).map(|(_, port)| port)
    };
    let links = topology::links(mode).into_iter();
    let targets: Option<Vec<(Link, u16)>> = links.map(|link| Some((link, port_of(link.to)?))).collect();
    Proxy::start(&targets.context("a link leads to nothing that this mode has")?)
}

/// The settings by which services connect through the proxy: service, variable, value.
fn through(proxy: &Proxy, mode: Mode, ports: &Ports) -> Vec<(&'static str, String, String)> {
    let settings = |link: Link| {
        let (client, from) = (proxy.port(link)?, link.from);
        if link.to == DATABASE {
            let url = postgres::url(from, from, client, postgres::DATABASE);
            return Some(vec![(from, "DATABASE_URL".to_owned(), url)]);
        }
        if let Ok(peer) = services::find(link.to) {
            return Some(vec![(from, peer.url_variable(), format!("http://127.0.0.1:{client}"))]);
        }
        let ports = BrokerPorts { client, ..ports.broker.clone()? };
        let address = ports.server.address(ports.server.local_login(), &ports);
        let all = ports.server.settings(&address).into_iter();
        Some(all.map(|(name, value)| (from, name.to_owned(), value)).collect())
    };
    topology::links(mode).into_iter().filter_map(settings).flatten().collect()
}

/// Findings about the processes.
fn own_findings(fault_log: &FaultLog) -> [Finding; 2] {
    let mut crashes = Finding::of(NO_CRASH);
    crashes.n = Service::ALL.len() as u64;
    fault_log.crashes.iter().for_each(|crash| crashes.broke(crash));
    let mut orderly = Finding::of(ORDERLY);
    orderly.n = fault_log.stops;
    fault_log.disorderly.iter().for_each(|stop| orderly.broke(stop));
    [crashes, orderly]
}
