//! The paths, each with what it shall reach, and how it is measured.

pub mod clicks;
pub mod costs;
pub mod drain;
pub mod products;
pub mod reports;
pub mod resources;
pub mod saga;
pub mod users;

use anyhow::Result;
use clap::ValueEnum;

use super::goal::{Goal, Reading};
use super::lab::{Lab, Plan};
use stack::Mode;

/// In the order in which they are measured and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Path {
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

impl Path {
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

    /// After all rounds instead of in each.
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

    /// Of the one with this name: where its time goes, and what would be needed for more, as far as profiles have told.
    pub fn in_the_way(name: &str) -> Option<&'static str> {
        Some(match Self::from_str(name, false).ok()? {
            Self::S6Async => {
                "each click is a message of its own: the broker receives, writes and confirms it (*broker*), delivers it and \
                 takes its acknowledgement (*drain* has the least that takes); the service serves a request (*http*). Less \
                 takes several clicks a message (*s6-packed*), or a broker that does less for each."
            }
            Self::Body => "the broker writes ten times the bytes and hands them over again.",
            Self::S6Packed | Self::S6Grouped => {
                "one thread serves all requests, and is full. Beside the work of the server library (*http*) it checks the \
                 click, gives it an id and a context, counts and times it, and writes two log lines. More takes a second \
                 thread, or fewer lines (`RUST_LOG=info,workflow=off`)."
            }
            Self::S6Sync => {
                "the same processors also serve the request, and hand each click to a connection and its answer back. More \
                 takes a database on a machine of its own."
            }
            Self::S1Async => {
                "the limit is one statement that commits itself. A registration is a transaction of four, a turn of the \
                 relay, a message, and in the other service a look whether the e-mail was sent and a share of a transaction. \
                 More takes statements that are sent together: sqlx waits for the answer to each."
            }
            Self::S3Async => {
                "as *s1-async*, with three receivers, two of which store; more updates come in than can be passed on at \
                 once, so events queue."
            }
            Self::S4 => {
                "the thread sleeps every millisecond, so that nobody waits for its time slice to end; for a while after each \
                 sleep it hashes slower. A bare thread that sleeps as often is as slow."
            }
            Self::S5Async => {
                "four commits and three confirms follow one another, each a sync of the one disk; at 400/s little waits at \
                 the same time, so little is shared: a saga costs more than twice as much as at the highest rate, and the \
                 processors are nearly full."
            }
            Self::Resources => {
                "one program holds both modes and the page that shows the API document. Those in the containers hold one."
            }
            _ => return None,
        })
    }

    /// One round: a reading for each goal, in their order.
    pub fn measure(self, lab: &mut Lab) -> Result<Vec<Reading>> {
        match self {
            Self::S6Async => clicks::measure_async(lab),
            Self::Connections => clicks::connections(lab),
            Self::Body => clicks::body(lab),
            Self::Drain => drain::drain(lab),
            Self::S6Packed => clicks::packed(lab),
            Self::S6Sync => clicks::measure_sync(lab),
            Self::S6Grouped => clicks::grouped(lab),
            Self::S1Async => users::measure(lab),
            Self::S3Async => products::measure(lab),
            Self::S4 => reports::measure(lab),
            Self::S5Async => saga::measure_async(lab),
            Self::S5Sync => saga::measure_sync(lab),
            Self::Costs => costs::measure(lab),
            Self::Million => drain::million(lab),
            Self::Resources => resources::measure(lab),
        }
    }

    /// About how long that takes, with its limits, where no other path has measured them.
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
        for path in Path::value_variants() {
            assert!(!path.goals().is_empty() && !path.modes().is_empty(), "{}", path.name());
        }
    }

    #[test]
    fn all_of_it_ends_within_a_quarter_of_an_hour() {
        let plan = super::super::FULL;
        let each = |once: bool| -> u64 {
            let paths = Path::value_variants().iter().filter(|path| path.once() == once);
            paths.map(|path| path.seconds(&plan)).sum()
        };
        let all = u64::from(plan.rounds) * each(false) + each(true);
        assert!(all <= 15 * 60 - 60, "{all} s, and a minute to start, to repeat and to stop");
    }
}
