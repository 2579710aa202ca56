//! The benchmarks, each with its targets and its measurement.

pub mod clicks;
pub mod costs;
pub mod drain;
pub mod products;
pub mod reports;
pub mod resources;
pub mod saga;
pub mod users;

/// What every benchmark uses.
mod prelude {
    pub(super) use anyhow::Result;
    pub(super) use contract::Service;

    pub(super) use crate::bench::goal::Threshold::{AtLeast, AtMost, Exactly};
    pub(super) use crate::bench::goal::Unit::{Count, Mb, MiB, Ms, PerSecond, Us};
    pub(super) use crate::bench::goal::{Goal, Measurement};
    pub(super) use crate::bench::sample::Sample;
    pub(super) use crate::bench::session::{Session, Setup};
    pub(super) use crate::bench::store::SETTLED_WITHIN;
    pub(super) use crate::bench::wrk::{LoadSpec, Script};
    pub(super) use stack::Mode;
}

use anyhow::Result;
use clap::ValueEnum;

use super::goal::{Goal, Measurement, Verdict};
use super::session::{Plan, Session};
use stack::Mode;

/// In the order in which they are measured and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Benchmark {
    /// Clicks, each confirmed by the broker, its consumer storing meanwhile
    S6Async,
    /// The same over 16, 64 and 256 connections
    Connections,
    /// The same with bodies of 100 bytes and of 1 KiB
    Body,
    /// Clicks that wait in the queue until they are stored
    Drain,
    /// Several clicks in a message
    S6Packed,
    /// Clicks, each committed
    S6Sync,
    /// Several clicks in a commit
    S6Grouped,
    /// Registrations, each with an event and an e-mail
    S1Async,
    /// Product updates to three receivers
    S3Async,
    /// Hashes of a report, and who asks meanwhile
    S4,
    /// Order sagas: as many as end, and 400 a second
    S5Async,
    /// Order sagas of 100 who wait
    S5Sync,
    /// What confirms, outbox, inbox and metrics cost
    Costs,
    /// As many clicks in the queue as an outage of minutes leaves
    Million,
    /// Memory, time to ready, size of the programs
    Resources,
}

impl Benchmark {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn modes(self) -> &'static [Mode] {
        match self {
            Self::S6Sync | Self::S6Grouped | Self::S5Sync => &[Mode::Sync],
            Self::Resources => &[Mode::Sync, Mode::Async],
            _ => &[Mode::Async],
        }
    }

    /// Runs after all rounds instead of in each.
    pub fn once(self) -> bool {
        matches!(self, Self::Million | Self::Resources)
    }

    pub fn goals(self) -> &'static [Goal] {
        match self {
            Self::S6Async => &clicks::ASYNC,
            Self::Connections => &clicks::CONNECTIONS,
            Self::Body => &clicks::BODY,
            Self::Drain => &drain::DRAIN,
            Self::S6Packed => &clicks::PACKED,
            Self::S6Sync => &clicks::SYNC,
            Self::S6Grouped => &clicks::GROUPED,
            Self::S1Async => &users::GOALS,
            Self::S3Async => &products::GOALS,
            Self::S4 => &reports::GOALS,
            Self::S5Async => &saga::ASYNC,
            Self::S5Sync => &saga::SYNC,
            Self::Costs => &costs::GOALS,
            Self::Million => &drain::MILLION,
            Self::Resources => &resources::GOALS,
        }
    }

    /// The source of a bound in a record: none where the record has another bound than today's goal.
    pub fn source(verdict: &Verdict) -> &'static str {
        let path = Self::from_str(&verdict.path, false).ok();
        let same = |goal: &&Goal| {
            goal.what == verdict.what && goal.of == verdict.limit.as_deref() && goal.bound == verdict.bound
        };
        path.and_then(|path| path.goals().iter().find(same)).map_or("", |goal| goal.source)
    }

    /// One round: a measurement for each goal, in their order.
    pub fn measure(self, session: &mut Session) -> Result<Vec<Measurement>> {
        match self {
            Self::S6Async => clicks::measure_async(session),
            Self::Connections => clicks::connections(session),
            Self::Body => clicks::body(session),
            Self::Drain => drain::drain(session),
            Self::S6Packed => clicks::packed(session),
            Self::S6Sync => clicks::measure_sync(session),
            Self::S6Grouped => clicks::grouped(session),
            Self::S1Async => users::measure(session),
            Self::S3Async => products::measure(session),
            Self::S4 => reports::measure(session),
            Self::S5Async => saga::measure_async(session),
            Self::S5Sync => saga::measure_sync(session),
            Self::Costs => costs::measure(session),
            Self::Million => drain::million(session),
            Self::Resources => resources::measure(session),
        }
    }

    /// About how long a round takes, with the baselines that no other benchmark has measured in it.
    pub fn seconds(self, plan: &Plan) -> u64 {
        let (s, filled) = (plan.seconds, |count: u64| 2 + count / 8_000);
        match self {
            Self::S6Async | Self::S6Sync | Self::S1Async | Self::Connections | Self::Body => 2 * s + 2,
            Self::Drain => filled(plan.fill) + s,
            Self::S6Packed => 2 * s + 3,
            Self::S6Grouped => s + 3,
            Self::S3Async => s + 2,
            Self::S4 => 4 * s,
            Self::S5Async => 2 * s + 9,
            Self::S5Sync => s + 1,
            Self::Costs => 7 * (s + 1),
            Self::Million => filled(plan.many),
            Self::Resources => 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_goals_and_a_stack() {
        for path in Benchmark::value_variants() {
            assert!(!path.goals().is_empty() && !path.modes().is_empty(), "{}", path.name());
        }
    }

    #[test]
    fn all_of_it_ends_within_a_quarter_of_an_hour() {
        let plan = super::super::FULL;
        let each = |once: bool| -> u64 {
            let paths = Benchmark::value_variants().iter().filter(|path| path.once() == once);
            paths.map(|path| path.seconds(&plan)).sum()
        };
        let all = u64::from(plan.rounds) * each(false) + each(true);
        assert!(all <= 15 * 60 - 60, "{all} s, and a minute to start, to repeat and to stop");
    }
}
