//! An open load, of k6: arrivals at a fixed rate, whatever the answers do, and the time until each workflow has ended.

use std::time::Duration;

use anyhow::{Context, Result};

use super::lab::{Lab, journals};
use crate::local::Mode;
use crate::measure::bench::Kind;
use crate::measure::drain::{self, Accepted};
use crate::measure::join::{self, Outcome};
use crate::measure::journal::Journal;
use crate::measure::load::Offer;
use crate::measure::profile::Load;
use crate::measure::progress::Phase;
use crate::measure::scenario::{RECEIVERS, Scenario};
use crate::measure::watch::Watch;

impl Lab {
    /// Offers a load of one scenario to the async stack, and waits until all that was accepted has ended.
    pub fn open_load(&mut self, scenario: Scenario, load: &Load) -> Result<Outcome> {
        let (mode, prefix, folder) = (Mode::Async, self.load_id(), self.scratch.clone());
        let mut journal = Journal::new(&journals(&folder, mode));
        journal.poll()?;
        let from = journal.entries.len();
        let offer = Offer {
            mode,
            load,
            delays: &self.delays,
            port_offset: self.port_offset,
            seed: u64::from(self.round),
            kind: Kind::default(),
            id: &prefix,
            folder: &folder,
            name: scenario.key(),
        };
        let mut phase = Phase::start(format!("{scenario}, open"), None);
        let k6 = self.tools.k6.as_ref().context("k6 was not looked for")?;
        let stack = &mut self.sides.get_mut(&mode).context("no async stack runs")?.stack;
        let mut watch = Watch::start(stack, None);
        let samples = k6.run(&offer, stack, &mut watch, &mut phase)?;
        let accepted = Accepted { answers: &samples.answers, from, width: RECEIVERS.len() };
        let limit = Duration::from_secs(load.drain_limit_seconds());
        drain::wait(stack, &mut journal, &accepted, limit, &mut watch, &mut phase)?;
        let prefix = format!("{prefix}-");
        join::join(&prefix, &samples, &journal.entries[from..], RECEIVERS.len())
            .remove(&scenario)
            .context("k6 sent no request")
    }
}
