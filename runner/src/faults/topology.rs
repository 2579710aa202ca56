//! Who talks to whom, who reads which queue, and which service passes which failpoint: what a fault can aim at.

use crate::local::Mode;
use crate::local::services::SERVICES;

/// One direction of dependence: `from` opens connections to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    pub from: &'static str,
    pub to: &'static str,
}

pub const DATABASE: &str = "postgresql";
pub const BROKER: &str = "rabbitmq";

/// Has no database.
const CACHE: &str = "cacheservice";

const CALLS: [Link; 6] = [
    Link { from: "userservice", to: "emailservice" },
    Link { from: "productservice", to: "searchservice" },
    Link { from: "productservice", to: CACHE },
    Link { from: "productservice", to: "analyticsservice" },
    Link { from: "orderservice", to: "inventoryservice" },
    Link { from: "orderservice", to: "paymentservice" },
];

/// Every link of a mode.
pub fn links(mode: Mode) -> Vec<Link> {
    let names = SERVICES.map(|service| service.name);
    let mut links: Vec<Link> =
        names.iter().filter(|name| **name != CACHE).map(|from| Link { from, to: DATABASE }).collect();
    match mode {
        Mode::Sync => links.extend(CALLS),
        Mode::Async => links.extend(names.map(|from| Link { from, to: BROKER })),
    }
    links
}

/// A queue with the service that writes to it and the one that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub name: &'static str,
    pub writer: &'static str,
    pub reader: &'static str,
    /// Reached by the default exchange: what finds no queue comes back to its publisher. A fanout exchange serves the
    /// queues that are left, and nobody can tell.
    pub direct: bool,
}

const fn queue(name: &'static str, writer: &'static str, reader: &'static str, direct: bool) -> Queue {
    Queue { name, writer, reader, direct }
}

/// Every queue of the system (`common/src/events.rs`).
pub const QUEUES: [Queue; 17] = [
    queue("user_registered_queue", "userservice", "emailservice", true),
    queue("payment_initiated_queue", "paymentservice", "paymentservice", true),
    queue("payment_completed_queue", "paymentservice", "paymentservice", true),
    queue("search_product_updates_queue", "productservice", "searchservice", false),
    queue("cache_product_updates_queue", "productservice", CACHE, false),
    queue("analytics_product_updates_queue", "productservice", "analyticsservice", false),
    queue("report_jobs_queue", "reportservice", "reportservice", true),
    queue("order_created_queue", "orderservice", "inventoryservice", true),
    queue("stock_reserved_queue", "inventoryservice", "paymentservice", true),
    queue("stock_rejected_queue", "inventoryservice", "orderservice", true),
    queue("inventory_payment_failed_queue", "paymentservice", "inventoryservice", false),
    queue("order_payment_failed_queue", "paymentservice", "orderservice", false),
    queue("inventory_payment_succeeded_queue", "paymentservice", "inventoryservice", false),
    queue("order_payment_succeeded_queue", "paymentservice", "orderservice", false),
    queue("inventory_order_cancelled_queue", "orderservice", "inventoryservice", false),
    queue("payment_order_cancelled_queue", "orderservice", "paymentservice", false),
    queue("click_tracked_queue", "analyticsservice", "analyticsservice", true),
];

/// Queues whose writer can be held while their reader lives: a queue can be seen empty, and deleted, without loss.
pub fn deletable() -> Vec<Queue> {
    QUEUES.into_iter().filter(|queue| queue.writer != queue.reader).collect()
}

/// Queues that can be missing for a while: their writer learns that nothing took the message.
pub fn missable() -> Vec<Queue> {
    deletable().into_iter().filter(|queue| queue.direct).collect()
}

/// Queues whose reader does nothing else that is asked of it meanwhile, so that they can pile up at full load.
pub const PILING: [&str; 3] =
    ["user_registered_queue", "search_product_updates_queue", "order_created_queue"];

/// Where a process can die (`common/src/failpoint.rs`).
pub const POINTS: [(&str, &str); 10] = [
    ("before_call", "a peer is about to be called"),
    ("after_call", "a peer has answered"),
    ("before_commit", "a transaction is about to be committed"),
    ("after_commit", "a transaction is committed, and nothing has happened since"),
    ("before_reply", "a request has been worked on and is not answered"),
    ("mid_batch", "half of several messages are published, or half of several are settled"),
    ("after_publish_before_confirm", "messages are with the broker and not confirmed"),
    ("after_confirm_before_delete", "messages are confirmed and still stand in the outbox"),
    ("after_aside_before_ack", "a copy is in the dead-letter queue, the original is not acknowledged"),
    ("before_ack", "an event is applied and not acknowledged"),
];

/// The failpoints of a mode, in the order in which an event passes them.
pub fn points(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Sync => &["before_call", "after_call", "before_commit", "after_commit", "before_reply"],
        Mode::Async => &[
            "before_commit",
            "after_commit",
            "before_reply",
            "mid_batch",
            "after_publish_before_confirm",
            "after_confirm_before_delete",
            "after_aside_before_ack",
            "before_ack",
        ],
    }
}

/// The services that pass a failpoint often under load.
pub fn passers(mode: Mode, point: &str) -> Vec<&'static str> {
    let entrances = [
        "userservice",
        "paymentservice",
        "productservice",
        "reportservice",
        "orderservice",
        "analyticsservice",
    ];
    let consumers = [
        "emailservice",
        "paymentservice",
        "searchservice",
        "analyticsservice",
        "reportservice",
        "orderservice",
        "inventoryservice",
        CACHE,
    ];
    match (mode, point) {
        (Mode::Sync, "before_call" | "after_call") => vec!["userservice", "productservice", "orderservice"],
        (Mode::Async, "before_reply") => entrances.to_vec(),
        // Those with several messages at once when they come back.
        (_, "mid_batch") => vec!["paymentservice", "inventoryservice"],
        (_, "after_publish_before_confirm") => [&entrances[..], &["inventoryservice"]].concat(),
        // Clicks are published without an outbox.
        (_, "after_confirm_before_delete") => [&entrances[..5], &["inventoryservice"]].concat(),
        (_, "after_aside_before_ack" | "before_ack") => consumers.to_vec(),
        (Mode::Sync, "before_reply") => SERVICES.map(|service| service.name).to_vec(),
        _ => SERVICES.map(|service| service.name).into_iter().filter(|name| *name != CACHE).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_are_those_of_the_contract() {
        let contract = include_str!("../../../common/src/events.rs");
        let declared: Vec<&str> = contract
            .lines()
            .filter(|line| line.contains("_QUEUE: "))
            .filter_map(|line| line.split('"').nth(1))
            .collect();
        assert_eq!(QUEUES.map(|queue| queue.name).to_vec(), declared);
    }

    #[test]
    fn the_failpoints_are_those_of_the_services() {
        let source = include_str!("../../../common/src/failpoint.rs");
        for (point, _) in POINTS {
            assert!(source.contains(&format!("(\"{point}\", ")), "{point}");
            let modes = [Mode::Sync, Mode::Async].into_iter().filter(|mode| points(*mode).contains(&point));
            assert!(modes.map(|mode| passers(mode, point)).all(|passers| !passers.is_empty()));
        }
    }

    #[test]
    fn every_service_but_the_cache_reaches_its_database_over_a_link() {
        for mode in [Mode::Sync, Mode::Async] {
            let links = links(mode);
            assert_eq!(links.iter().filter(|link| link.to == DATABASE).count(), 9);
            assert_eq!(links.len(), if mode == Mode::Sync { 15 } else { 19 });
        }
    }
}
