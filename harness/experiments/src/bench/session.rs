//! Both stacks under observation: what a benchmark works with.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contract::{DISABLED_PROTECTION, Protection, Service};

use super::baseline::{Baseline, Limit};
use super::sample::Sample;
use super::store::Store;
use super::wrk::{LoadSpec, Script, Summary, Wrk};
use measure::child;
use measure::host::Servers;
use measure::journal::Journal;
use measure::load_profile::Delays;
use measure::progress::Phase;
use measure::resource_usage::{Meter, Part, part};
use measure::session::Observed;
use stack::{Mode, Stack, StackOptions, http, signals, state, state_folder};

/// Samples that are measured again because other programs took the processors, in all.
const REPEATS: u32 = 10;
const STOPS_WITHIN: Duration = Duration::from_secs(30);
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Services that keep a journal: S5 ends there.
const JOURNALED: [&str; 2] = [Service::Order.name(), Service::Inventory.name()];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: u32,
    /// Of one load.
    pub seconds: u64,
    /// Clicks that wait in the queue, in each round.
    pub fill: u64,
    /// And once.
    pub many: u64,
}

/// Where the services are.
pub struct Programs {
    /// The binaries that are measured.
    pub plain: PathBuf,
    /// Binaries with failpoints, in which a protection can be disabled.
    pub breakable: Option<PathBuf>,
}

/// How a service is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub env: Vec<(String, String)>,
    pub breakable: bool,
}

/// One mode, running.
pub struct Running {
    pub stack: Stack,
    pub servers: Servers,
    pub journal: Journal,
    pub store: Store,
    /// Of its services together, MiB.
    pub memory_after_start: f64,
}

/// What exists before a stack runs.
pub struct Tools {
    pub wrk: Wrk,
    pub baseline: Baseline,
    pub programs: Programs,
}

pub struct Session {
    pub plan: Plan,
    pub round: u32,
    pub port_offset: u16,
    /// Begins the ids of workflows, and addresses.
    pub stamp: String,
    pub tools: Tools,
    /// Logs and journals.
    pub scratch: PathBuf,
    pub samples: Vec<Sample>,
    /// Names of the samples that the running benchmark has used.
    used: BTreeSet<String>,
    pub(super) sides: HashMap<Mode, Running>,
    setups: HashMap<(Mode, &'static str), Setup>,
    repeats_left: u32,
    loads: u32,
}

impl Plan {
    /// A report, which is computed while `/health` is asked.
    pub fn report_seconds(&self) -> u64 {
        self.seconds.max(2)
    }
}

impl Setup {
    pub fn with(name: &str, value: &str) -> Self {
        Self { env: vec![(name.to_owned(), value.to_owned())], breakable: false }
    }

    /// Of the build with failpoints, with this protection disabled.
    pub fn without(disabled: Option<Protection>) -> Self {
        let env = disabled.map(|protection| (DISABLED_PROTECTION.to_owned(), protection.name().to_owned()));
        Self { env: env.into_iter().collect(), breakable: true }
    }
}

/// No delay but that of the saga's payment, which limits the sync mode.
fn delays(plan: &Plan) -> Delays {
    let own = [
        ("EMAIL_DELAY_MS", "0".to_owned()),
        ("PAYMENT_DELAY_MS", "0".to_owned()),
        ("SAGA_PAYMENT_DELAY_MS", SAGA_MS.to_string()),
        ("SAGA_PAYMENT_FAILURE_RATE", "1.0".to_owned()),
        ("PRODUCT_UPDATE_DELAY_MS", "0".to_owned()),
        ("REPORT_SECONDS", plan.report_seconds().to_string()),
        ("REPORT_ITERATIONS", "0".to_owned()),
        ("REPORT_WORKERS", cores().to_string()),
    ];
    Delays(own.map(|(name, value)| (name.to_owned(), value)).into())
}

/// What the payment of an order takes.
pub const SAGA_MS: u32 = 500;

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

impl Session {
    /// Starts empty stacks of these modes.
    pub fn start(
        plan: Plan,
        modes: &[Mode],
        tools: Tools,
        scratch: &Path,
        port_offset: u16,
        stamp: &str,
    ) -> Result<Self> {
        let delays = delays(&plan);
        let mut sides = HashMap::new();
        for mode in modes {
            let journals = scratch.join(format!("journal-{mode}"));
            let journal = journals.to_string_lossy().into_owned();
            let options = StackOptions {
                port_offset,
                env: delays.environment(),
                env_of: JOURNALED.map(|service| (service, "JOURNAL_DIR".to_owned(), journal.clone())).into(),
                dir: Some(state_folder()?.join("bench").join(mode.to_string())),
                programs: Some(tools.programs.plain.clone()),
                ..StackOptions::default()
            };
            // One after the other: starts at the same time would slow each other.
            let Observed { stack, servers, journal } = Observed::start(*mode, &journals, options)?;
            let (store, memory_after_start) = (Store::of(&stack)?, memory(&stack));
            sides.insert(*mode, Running { stack, servers, journal, store, memory_after_start });
        }
        Ok(Self {
            plan,
            round: 1,
            port_offset,
            stamp: stamp.to_owned(),
            tools,
            scratch: scratch.to_owned(),
            samples: Vec::new(),
            used: BTreeSet::new(),
            sides,
            setups: HashMap::new(),
            repeats_left: REPEATS,
            loads: 0,
        })
    }

    pub fn stop(self) -> Result<()> {
        self.sides.into_values().try_for_each(|side| side.stack.stop())
    }

    pub fn side(&mut self, mode: Mode) -> Result<&mut Running> {
        self.sides.get_mut(&mode).with_context(|| format!("no {mode} stack runs"))
    }

    pub fn store(&mut self, mode: Mode) -> Result<&mut Store> {
        self.side(mode).map(|side| &mut side.store)
    }

    pub fn servers(&self, mode: Mode) -> Option<&Servers> {
        self.sides.get(&mode).map(|side| &side.servers)
    }

    pub fn url(&self, mode: Mode, service: &str, path: &str) -> String {
        self.sides.get(&mode).map_or(String::new(), |side| format!("{}{path}", side.stack.url(service)))
    }

    pub fn amqp_url(&mut self) -> Result<String> {
        self.side(Mode::Async)?.stack.amqp_url().context("the async stack has no broker")
    }

    /// MiB that the services of a mode hold now.
    pub fn memory(&mut self, mode: Mode) -> Result<f64> {
        self.side(mode).map(|side| memory(&side.stack))
    }

    /// An error if anything has ended by itself.
    fn check(&mut self) -> Result<()> {
        self.sides.values_mut().try_for_each(|side| side.stack.check())
    }

    // --- services -----------------------------------------------------------------------------------------------

    /// Makes services run with `setup`; those that do already are left alone.
    pub fn setup(&mut self, mode: Mode, services: &[&'static str], setup: &Setup) -> Result<()> {
        for service in services {
            if self.setups.get(&(mode, *service)).unwrap_or(&Setup::default()) != setup {
                self.stop_service(mode, service)?;
                self.start_service(mode, service, setup)?;
            }
        }
        Ok(())
    }

    pub fn stop_service(&mut self, mode: Mode, service: &'static str) -> Result<()> {
        let status = self.side(mode)?.stack.stop_service(service, STOPS_WITHIN)?;
        match status {
            Some(status) if status.success() => Ok(()),
            status => bail!("{service} did not end in order: {status:?}"),
        }
    }

    /// Returns the time until it is ready.
    pub fn start_service(&mut self, mode: Mode, service: &'static str, setup: &Setup) -> Result<Duration> {
        let Programs { plain, breakable } = &self.tools.programs;
        let programs = match (setup.breakable, breakable) {
            (true, Some(breakable)) => breakable.clone(),
            (true, None) => bail!("the services with failpoints were not built"),
            (false, _) => plain.clone(),
        };
        let (url, agent) = (self.url(mode, service, "/ready"), http::agent(Duration::from_secs(2)));
        let side = self.side(mode)?;
        side.stack.use_programs(programs);
        let begun = Instant::now();
        side.stack.start_again(service, &setup.env)?;
        let ready = signals::poll(Duration::from_millis(1), READY_WITHIN, || {
            side.stack.check()?;
            Ok(matches!(http::get_once(&agent, &url), Ok((200, _))).then(|| begun.elapsed()))
        })?;
        let took = ready.with_context(|| format!("{service} is not ready after {READY_WITHIN:?}"))?;
        self.setups.insert((mode, service), setup.clone());
        Ok(took)
    }

    // --- samples ------------------------------------------------------------------------------------------------

    /// Measures once a round, however many benchmarks use it; once more if other programs took the processors.
    pub fn sample(
        &mut self,
        name: &str,
        mut measure: impl FnMut(&mut Self) -> Result<Sample>,
    ) -> Result<Sample> {
        if let Some(known) = self.known(name).cloned() {
            self.used.insert(known.name.clone());
            return Ok(known);
        }
        let sample = self.measure(name, &mut measure)?;
        if !sample.noisy() || self.repeats_left == 0 {
            return Ok(sample);
        }
        self.repeats_left -= 1;
        self.measure(name, &mut measure)
    }

    fn measure(
        &mut self,
        name: &str,
        measure: &mut impl FnMut(&mut Self) -> Result<Sample>,
    ) -> Result<Sample> {
        let phase = Phase::start(format!("{}/{} {name}", self.round, self.plan.rounds), None);
        let sample = measure(self).with_context(|| name.to_owned())?;
        phase.done(&sample.line());
        Ok(self.keep(name, sample))
    }

    /// Stores a sample of this round; one of the same name is replaced.
    pub fn keep(&mut self, name: &str, sample: Sample) -> Sample {
        let sample = Sample { name: name.to_owned(), round: self.round, ..sample };
        self.samples.retain(|known| (known.round, known.name.as_str()) != (self.round, name));
        self.samples.push(sample.clone());
        self.used.insert(name.to_owned());
        sample
    }

    fn known(&self, name: &str) -> Option<&Sample> {
        self.samples.iter().find(|known| known.round == self.round && known.name == name)
    }

    /// The samples used from here on belong to another benchmark.
    pub fn begin_path(&mut self) {
        self.used.clear();
    }

    /// The benchmarks that run once take minutes.
    pub fn repeat_no_more(&mut self) {
        self.repeats_left = 0;
    }

    /// Why the benchmark's samples of this round must not be used.
    pub fn invalid(&self) -> Option<String> {
        let used = self.used.iter().filter_map(|name| self.known(name));
        let reasons =
            used.filter_map(|sample| Some(format!("{}: {}", sample.name, sample.invalid.as_ref()?)));
        let reasons: Vec<String> = reasons.collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Whether other programs took the processors in one of the benchmark's samples of this round.
    pub fn noisy(&self) -> bool {
        self.used.iter().filter_map(|name| self.known(name)).any(Sample::noisy)
    }

    /// Starts counting processor time. `services`: those of `mode` that are measured; all others are idle.
    pub fn meter(&self, mode: Mode, services: &[&str]) -> Meter {
        Meter::start(self.processes(mode, services))
    }

    fn processes(&self, mode: Mode, services: &[&str]) -> Vec<(Part, u32)> {
        let of = |side: &Running| {
            let group = |name: &str| match name {
                _ if side.stack.mode() != mode => Part::Rest,
                service if service.ends_with("service") && !services.contains(&service) => Part::Rest,
                name => part(name),
            };
            side.stack.pids().into_iter().map(|(name, pid)| (group(&name), pid)).collect::<Vec<_>>()
        };
        self.sides.values().flat_map(of).collect()
    }

    // --- load ---------------------------------------------------------------------------------------------------

    pub fn wrk(&mut self, spec: &LoadSpec<'_>) -> Result<Summary> {
        let mut command = self.tools.wrk.command(spec)?;
        Summary::parse(&child::output(&mut command, "wrk", || self.check())?)
    }

    /// Makes this load's e-mail addresses and workflow ids unique.
    pub fn load_id(&mut self) -> String {
        self.loads += 1;
        format!("{}-{}", self.stamp.to_lowercase(), self.loads)
    }

    /// Runs a baseline, with `look` now and then.
    pub fn baseline(&mut self, args: &[String], mut look: impl FnMut()) -> Result<Limit> {
        let mut command = self.tools.baseline.command(args);
        let output = child::output(&mut command, "baseline", || {
            look();
            self.check()
        })?;
        Limit::parse(&output)
    }

    // --- baselines ----------------------------------------------------------------------------------------------

    /// Persistent messages that a bare publisher has confirmed, 64 at a time.
    pub fn broker(&mut self) -> Result<Sample> {
        let url = self.amqp_url()?;
        self.limit("broker", Mode::Async, &["broker", "--in-flight", "64"], &url)
    }

    /// Rows that bare connections commit, one by one.
    pub fn commit(&mut self, mode: Mode) -> Result<Sample> {
        let url = self.side(mode)?.stack.database_url();
        self.limit(&format!("commit ({mode})"), mode, &["commit", "--connections", "16"], &url)
    }

    /// Rows that two bare connections store 200 at a time.
    pub fn bulk(&mut self) -> Result<Sample> {
        let url = self.side(Mode::Async)?.stack.database_url();
        self.limit("bulk", Mode::Async, &["bulk", "--connections", "2", "--rows", "200"], &url)
    }

    fn limit(&mut self, name: &str, mode: Mode, program: &[&str], url: &str) -> Result<Sample> {
        let seconds = self.plan.seconds.to_string();
        let args = [program, &["--url", url, "--seconds", &seconds]].concat();
        let args: Vec<String> = args.into_iter().map(ToOwned::to_owned).collect();
        self.sample(name, |session| {
            let meter = session.meter(mode, &[]);
            let limit = session.baseline(&args, || {})?;
            Ok(limit.sample(meter.end()))
        })
    }

    /// Clicks that a bare server answers over so many connections.
    pub fn http(&mut self, connections: u32) -> Result<Sample> {
        self.sample(&format!("http, c={connections}"), |session| {
            let server = session.tools.baseline.serve(&session.scratch)?;
            let mut processes = session.processes(Mode::Async, &[]);
            processes.push((Part::Services, server.pid()));
            let meter = Meter::start(processes);
            let line = session.wrk(&LoadSpec {
                url: format!("http://{}/track_click", server.address),
                script: Script::Click,
                args: &["0"],
                connections,
                seconds: session.plan.seconds,
            })?;
            Ok(Sample::of(&line, meter.end()))
        })
    }
}

/// MiB that the services of a stack hold.
fn memory(stack: &Stack) -> f64 {
    let services = stack.pids().into_iter().filter(|(name, _)| name.ends_with("service"));
    services.filter_map(|(_, pid)| state::resident(pid)).sum()
}
