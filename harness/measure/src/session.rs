//! One stack, and everything that measures it: start it, offer it one load after the other, end it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use contract::Scenario;
use contract::events::PRODUCT_UPDATED;

use super::crosscheck::{Before, CrossCheck, Stores};
use super::drain::{self, Drain};
use super::gauges::Gauges;
use super::host::Servers;
use super::journal::Journal;
use super::load::{Kind, Offer, Samples};
use super::load_profile::Load;
use super::outcomes::{self, Outcome};
use super::output_dir::Environment;
use super::progress::Phase;
use super::record::Variant;
use super::resource_usage::{Watch, Watched};
use super::samples::Answer;
use stack::{Mode, Stack, StackOptions, state_folder};

/// What came of one load.
pub struct Measured {
    pub samples: Samples,
    pub outcomes: BTreeMap<Scenario, Outcome>,
    /// From the first request until the last effect.
    pub watched: Watched,
    pub drain: Drain,
    /// Workflows in progress on average, as gauges and queues showed it.
    pub in_progress: BTreeMap<Scenario, f64>,
    /// How the ids of its workflows begin.
    pub prefix: String,
}

/// A stack that is measured: empty when it starts, its services keep journals.
pub struct Observed {
    pub stack: Stack,
    pub servers: Servers,
    pub journal: Journal,
}

impl Observed {
    /// Ready. The options say to which services `journals`, a folder that is made, is given.
    pub fn start(mode: Mode, journals: &Path, options: StackOptions) -> Result<Self> {
        fs::create_dir_all(journals).with_context(|| format!("cannot create {}", journals.display()))?;
        let stack = Stack::start(mode, &StackOptions { fresh: true, ..options })?;
        Ok(Self { servers: Servers::of(&stack)?, journal: Journal::new(journals), stack })
    }
}

pub struct Session<'a> {
    environment: &'a Environment,
    variant: &'a Variant,
    pub stack: Stack,
    journal: Journal,
    /// Where the logs and summaries of k6 and the journals go.
    folder: PathBuf,
    /// Receivers of S3.
    width: usize,
    pub servers: Servers,
    before: Before,
    /// Of every load since the start.
    asked: Vec<Answer>,
}

impl<'a> Session<'a> {
    /// An empty stack of `variant`, ready, and its files in `folder`.
    pub fn start(environment: &'a Environment, variant: &'a Variant, folder: &Path) -> Result<Self> {
        let journals = folder.join("journal");
        let observed = Observed::start(
            variant.mode,
            &journals,
            StackOptions {
                port_offset: environment.port_offset,
                env: environment.delays.with(&variant.env).environment(),
                journal: Some(journals.clone()),
                dir: Some(state_folder()?.join("compare").join(variant.mode.to_string())),
                docker: environment.docker.then(|| "microservices-compare".to_owned()),
                ..StackOptions::default()
            },
        )?;
        let Observed { stack, servers, journal } = observed;
        let width = environment.delays.with(&variant.env).width();
        narrow(&stack, width)?;
        let before = Stores::new(&stack).before()?;
        Ok(Self {
            environment,
            variant,
            stack,
            journal,
            folder: folder.to_owned(),
            width,
            servers,
            before,
            asked: Vec::new(),
        })
    }

    /// Offers a load and waits until everything that was accepted has ended. `name` is part of the ids of its workflows
    /// and of the names of its files.
    pub fn offer(&mut self, load: &Load, name: &str, kind: Kind) -> Result<Measured> {
        let mut phase = Phase::start(format!("{}: {name}", self.variant.name), Some(load.seconds));
        let prefix = format!("{}-{}-{name}", self.environment.stamp, self.variant.name);
        let delays = self.environment.delays.with(&self.variant.env);
        let offer = Offer {
            mode: self.variant.mode,
            load,
            delays: &delays,
            port_offset: self.environment.port_offset,
            seed: self.environment.seed,
            kind,
            id: &prefix,
            folder: &self.folder,
            name,
        };
        let from = self.journal.poll()?;
        let mut watch =
            Watch::start(&self.stack, Some(Gauges::of(&self.stack, Duration::from_secs(load.seconds))));
        let samples = self.environment.k6.run(&offer, &mut self.stack, &mut watch, &mut phase)?;
        phase.done(&samples.progress());
        let drain =
            self.drain(&samples, from, Duration::from_secs(load.drain_limit_seconds()), &mut watch)?;
        let (watched, gauges) = watch.end();
        self.asked.extend(samples.answers.iter().cloned());
        let prefix = format!("{prefix}-");
        Ok(Measured {
            outcomes: outcomes::join(&prefix, &samples, &self.journal.entries[from..], self.width),
            samples,
            watched,
            drain,
            in_progress: gauges.map(|gauges| gauges.means()).unwrap_or_default(),
            prefix,
        })
    }

    /// Observes the stack without load.
    pub fn idle(&mut self, seconds: u64) -> Result<Watched> {
        let phase = Phase::start(format!("{}: idle", self.variant.name), None);
        let watch = Watch::start(&self.stack, None);
        stack::signals::pause(Duration::from_secs(seconds))?;
        let (watched, _) = watch.end();
        phase.done("seen");
        Ok(watched)
    }

    fn drain(&mut self, samples: &Samples, from: usize, limit: Duration, watch: &mut Watch) -> Result<Drain> {
        let mut phase =
            Phase::start(format!("{}: until all that was accepted has ended", self.variant.name), None);
        let accepted = drain::Accepted { answers: &samples.answers, from, width: self.width };
        let drain = drain::wait(&mut self.stack, &mut self.journal, &accepted, limit, watch, &mut phase)?;
        phase.done(&format!("{} workflows open", drain.open));
        Ok(drain)
    }

    /// Waits until the broker, if there is one, holds nothing more, and notes it.
    pub fn empty_queues(&mut self, drain: &mut Drain) -> Result<()> {
        if !self.stack.mode().has_broker() {
            return Ok(());
        }
        let mut phase = Phase::start(format!("{}: until the queues are empty", self.variant.name), None);
        drain::wait_for_queues(&mut self.stack, drain, &mut phase)?;
        phase.done(&format!("{} messages queued", drain.queued));
        Ok(())
    }

    /// What the services say they stored, against all that was asked.
    pub fn check(&mut self) -> Result<Vec<CrossCheck>> {
        let stores = Stores::new(&self.stack);
        let mut checks = stores.check(&self.before, &self.asked)?;
        self.journal.poll()?;
        checks.extend(stores.metrics_against(&self.journal.entries)?);
        Ok(checks)
    }

    /// Ends the stack. Once more: what was applied late, or twice, is in the outcomes too. Also the number of lines
    /// in the journals that are no entries.
    pub fn stop(mut self, measured: &Measured) -> Result<(BTreeMap<Scenario, Outcome>, u64)> {
        let phase = Phase::start(format!("{}: stopping", self.variant.name), None);
        self.stack.stop()?;
        phase.done("ended");
        self.journal.poll()?;
        let outcomes = outcomes::join(&measured.prefix, &measured.samples, &self.journal.entries, self.width);
        Ok((outcomes, self.journal.unreadable))
    }
}

/// With a broker the publisher does not know its receivers: a narrower fan-out is fewer subscribed queues.
fn narrow(stack: &Stack, width: usize) -> Result<()> {
    let (Some(broker), destination) = (stack.broker(), PRODUCT_UPDATED.destination) else { return Ok(()) };
    let unused = destination.queues().iter().skip(width);
    unused.into_iter().try_for_each(|queue| broker.unsubscribe(destination.name(), queue.name))
}
