//! The targets of faults, derived from the contract: connections between processes, queues, and the services that pass a failpoint.

use contract::events::{Destination, queues};
use contract::{Failpoint, Mode, Scenario, Service, calls, events};

/// `from` opens connections to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    pub from: &'static str,
    pub to: &'static str,
}

pub const DATABASE: &str = "postgresql";

/// The name of a mode's broker, where it has one.
pub fn broker(mode: Mode) -> Option<&'static str> {
    stack::modes::broker(mode).map(stack::broker::Server::name)
}

/// Every link of a mode.
pub fn links(mode: Mode) -> Vec<Link> {
    let database = with_database().map(|from| Link { from: from.name(), to: DATABASE });
    let calls = calls::ALL.iter().map(|call| Link { from: call.caller.name(), to: call.peer.name() });
    match broker(mode) {
        Some(to) => distinct(database.chain(Service::ALL.map(|from| Link { from: from.name(), to }))),
        None => distinct(database.chain(calls)),
    }
}

pub fn with_database() -> impl Iterator<Item = Service> {
    Service::ALL.into_iter().filter(|service| service.stores().is_some())
}

/// A queue with the service that writes to it and the one that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub name: &'static str,
    pub writer: &'static str,
    pub reader: &'static str,
    /// It has the only reader of its event: the publisher learns that its message found no queue. The publisher of a fanout does not
    /// notice that one of the queues is missing.
    pub direct: bool,
}

/// Every queue of the system.
pub fn all_queues() -> Vec<Queue> {
    let of = |event: &'static events::Event| {
        let direct = matches!(event.destination, Destination::Queue(_));
        event.destination.queues().iter().map(move |queue| Queue {
            name: queue.name,
            writer: event.writer.name(),
            reader: queue.reader.name(),
            direct,
        })
    };
    events::ALL.iter().flat_map(of).collect()
}

/// Queues whose writer can be paused while the reader runs, so that they become empty and can be deleted without loss.
pub fn deletable() -> Vec<Queue> {
    all_queues().into_iter().filter(|queue| queue.writer != queue.reader).collect()
}

/// Queues that can be missing for a while, because their writer learns it.
pub fn can_be_missing() -> Vec<Queue> {
    deletable().into_iter().filter(|queue| queue.direct).collect()
}

/// Queues whose reader has no other work, so that they can fill at full load.
pub fn backlog_targets() -> Vec<Queue> {
    let names = [queues::USER_REGISTERED, queues::SEARCH_PRODUCT_UPDATES, queues::ORDER_CREATED];
    all_queues().into_iter().filter(|queue| names.iter().any(|target| target.name == queue.name)).collect()
}

/// The failpoints of a mode, in the order in which an event passes them.
pub fn failpoints(mode: Mode) -> Vec<Failpoint> {
    Failpoint::ALL.into_iter().filter(|point| point.exists_in(mode)).collect()
}

/// The services that pass a failpoint often under load.
pub fn passing(mode: Mode, point: Failpoint) -> Vec<&'static str> {
    let entrances = Scenario::ALL.map(|scenario| scenario.entrance().0).into_iter();
    let callers = calls::ALL.iter().map(|call| call.caller);
    let consumers = queues::ALL.iter().map(|queue| queue.reader);
    let publishers = events::ALL.iter().map(|event| event.writer);
    let services: Vec<Service> = match (point, mode.has_broker()) {
        (Failpoint::BeforeCall | Failpoint::AfterCall, _) => callers.collect(),
        // Without events, services also answer each other.
        (Failpoint::BeforeReply, true) => entrances.collect(),
        (Failpoint::BeforeReply, false) => Service::ALL.to_vec(),
        // After a pause these services receive several messages at once.
        (Failpoint::MidBatch, _) => vec![Service::Payment, Service::Inventory],
        (Failpoint::AfterPublishBeforeConfirm, _) => publishers.collect(),
        // Clicks are published without an outbox.
        (Failpoint::AfterConfirmBeforeDelete, _) => events::ALL
            .iter()
            .filter(|event| **event != events::CLICK_TRACKED)
            .map(|event| event.writer)
            .collect(),
        (Failpoint::AfterAsideBeforeAck | Failpoint::BeforeAck, _) => consumers.collect(),
        (Failpoint::BeforeCommit | Failpoint::AfterCommit, _) => with_database().collect(),
    };
    distinct(services.into_iter().map(Service::name))
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut distinct, next| {
        if !distinct.contains(&next) {
            distinct.push(next);
        }
        distinct
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failpoint_of_a_mode_is_passed_by_some_service() {
        for mode in Mode::COMPARED {
            for point in failpoints(mode) {
                assert!(!passing(mode, point).is_empty(), "{mode} {point}");
            }
        }
    }

    #[test]
    fn every_service_but_the_cache_reaches_its_database_over_a_link() {
        for mode in Mode::COMPARED {
            let links = links(mode);
            assert_eq!(links.iter().filter(|link| link.to == DATABASE).count(), 9);
            assert_eq!(links.len(), if mode.has_broker() { 19 } else { 15 });
        }
    }

    #[test]
    fn faults_that_need_certain_queues_have_some() {
        assert_eq!((all_queues().len(), can_be_missing().len(), backlog_targets().len()), (17, 4, 3));
    }
}
