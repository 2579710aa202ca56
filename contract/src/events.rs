//! Events of async mode, and the queues from which services read them.

use std::borrow::Cow;

use serde::Serialize;

use crate::campus::{LOGS, Log, Topic, topics};
use crate::{Scenario, Service};

/// A durable queue with one reading service. Its dead-letter queue is called [`Queue::dead_letters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Queue {
    pub name: &'static str,
    pub reader: Service,
}

impl Queue {
    /// The queue for messages that the reader cannot apply.
    pub fn dead_letters(self) -> String {
        dead_letters(self.name)
    }
}

/// The dead-letter queue of the queue with this name.
pub fn dead_letters(queue: &str) -> String {
    format!("{queue}{DEAD_LETTER_SUFFIX}")
}

const DEAD_LETTER_SUFFIX: &str = ".dlq";

/// The queue whose dead-letter queue has this name.
pub fn of_dead_letters(name: &str) -> Option<&str> {
    name.strip_suffix(DEAD_LETTER_SUFFIX)
}

/// Seconds after which a failed message is tried again; the last one repeats.
pub const RETRY_DELAYS: [u32; 3] = [1, 10, 60];

/// Where failed messages wait for this many seconds.
pub fn retry_queue(seconds: u32) -> String {
    format!("retry_{seconds}s_queue")
}

/// Where a message that finds no queue of its fanout exchange is kept.
pub const UNROUTED_QUEUE: &str = "unrouted_queue";

/// Whether the messages of this queue have no consumer: it is a dead-letter queue or [`UNROUTED_QUEUE`].
pub fn holds_dead_letters(queue: &str) -> bool {
    of_dead_letters(queue).is_some() || queue == UNROUTED_QUEUE
}

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// To one reader.
    Queue(Queue),
    /// To all of its readers: each queue gets a copy.
    Fanout { exchange: &'static str, queues: &'static [Queue] },
    /// To the readers of a routing key of the campus lab.
    Topic(&'static Topic),
    /// To the groups that read a log of the campus lab.
    Log(&'static Log),
}

impl Destination {
    /// The destination with this name.
    pub fn named(name: &str) -> Option<Destination> {
        let topics = topics::ALL.into_iter().map(Destination::Topic);
        let logs = LOGS.into_iter().map(Destination::Log);
        let mut all = ALL.iter().map(|event| event.destination).chain(topics).chain(logs);
        all.find(|destination| destination.name() == name)
    }

    /// What the publisher names: the queue, the exchange, or the exchange and the routing key.
    pub const fn name(&self) -> &'static str {
        match self {
            Destination::Queue(queue) => queue.name,
            Destination::Fanout { exchange, .. } => exchange,
            Destination::Topic(topic) => topic.name,
            Destination::Log(log) => log.name,
        }
    }

    /// The queues of the ten services that get a copy.
    pub const fn queues(&self) -> &[Queue] {
        match self {
            Destination::Queue(queue) => std::slice::from_ref(queue),
            Destination::Fanout { queues, .. } => queues,
            Destination::Topic(_) | Destination::Log(_) => &[],
        }
    }

    /// The dead-letter queue of a queue with events of this destination.
    pub fn dead_letters(&self, queue: &str) -> Cow<'static, str> {
        match self {
            Destination::Queue(_) | Destination::Fanout { .. } => dead_letters(queue).into(),
            Destination::Topic(topic) => topic.topology.dead_letter_queue.into(),
            Destination::Log(log) => log.dead_letter_topic.into(),
        }
    }
}

/// One kind of event. Its body is a type of `common::events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The word in the property `type` of a message, and the label in metrics.
    pub name: &'static str,
    pub scenario: Scenario,
    pub writer: Service,
    pub destination: Destination,
}

macro_rules! queues {
    ($($name:ident: $reader:ident $queue:literal;)*) => {
        /// Every queue of the system.
        pub mod queues {
            use super::{Queue, Service};
            $(pub const $name: Queue = Queue { name: $queue, reader: Service::$reader };)*
            pub const ALL: &[Queue] = &[$($name),*];
        }
    };
}

queues! {
    USER_REGISTERED: Email "user_registered_queue";
    PAYMENT_INITIATED: Payment "payment_initiated_queue";
    PAYMENT_COMPLETED: Payment "payment_completed_queue";
    SEARCH_PRODUCT_UPDATES: Search "search_product_updates_queue";
    CACHE_PRODUCT_UPDATES: Cache "cache_product_updates_queue";
    ANALYTICS_PRODUCT_UPDATES: Analytics "analytics_product_updates_queue";
    REPORT_JOBS: Report "report_jobs_queue";
    ORDER_CREATED: Inventory "order_created_queue";
    STOCK_RESERVED: Payment "stock_reserved_queue";
    STOCK_REJECTED: Order "stock_rejected_queue";
    INVENTORY_PAYMENT_FAILED: Inventory "inventory_payment_failed_queue";
    ORDER_PAYMENT_FAILED: Order "order_payment_failed_queue";
    INVENTORY_PAYMENT_SUCCEEDED: Inventory "inventory_payment_succeeded_queue";
    ORDER_PAYMENT_SUCCEEDED: Order "order_payment_succeeded_queue";
    INVENTORY_ORDER_CANCELLED: Inventory "inventory_order_cancelled_queue";
    PAYMENT_ORDER_CANCELLED: Payment "payment_order_cancelled_queue";
    CLICK_TRACKED: Analytics "click_tracked_queue";
}

macro_rules! events {
    ($($(#[$doc:meta])* $constant:ident: $scenario:ident $writer:ident $name:literal => $destination:expr;)*) => {
        $($(#[$doc])*
        pub const $constant: Event = Event {
            name: $name,
            scenario: Scenario::$scenario,
            writer: Service::$writer,
            destination: $destination,
        };)*
        /// Every event of the system.
        pub const ALL: &[Event] = &[$($constant),*];
    };
}

use Destination::{Fanout, Queue as To};

events! {
    /// A user exists.
    USER_REGISTERED: S1 User "UserRegistered" => To(queues::USER_REGISTERED);
    /// A payment was accepted and is to be taken.
    PAYMENT_INITIATED: S2 Payment "PaymentInitiated" => To(queues::PAYMENT_INITIATED);
    /// A payment was taken: for the audit.
    PAYMENT_COMPLETED: S2 Payment "PaymentCompleted" => To(queues::PAYMENT_COMPLETED);
    /// A product has this content since this version.
    PRODUCT_UPDATED: S3 Product "ProductUpdated" => Fanout {
        exchange: "product_updates",
        queues: &[queues::SEARCH_PRODUCT_UPDATES, queues::CACHE_PRODUCT_UPDATES, queues::ANALYTICS_PRODUCT_UPDATES],
    };
    /// A report is to be computed.
    GENERATE_REPORT_JOB: S4 Report "GenerateReportJob" => To(queues::REPORT_JOBS);
    /// An order is pending.
    ORDER_CREATED: S5 Order "OrderCreated" => To(queues::ORDER_CREATED);
    /// Stock is held for an order.
    STOCK_RESERVED: S5 Inventory "StockReserved" => To(queues::STOCK_RESERVED);
    /// No stock could be held for an order.
    STOCK_REJECTED: S5 Inventory "StockRejected" => To(queues::STOCK_REJECTED);
    /// The payment of an order was refused.
    PAYMENT_FAILED: S5 Payment "PaymentFailed" => Fanout {
        exchange: "payment_failed",
        queues: &[queues::INVENTORY_PAYMENT_FAILED, queues::ORDER_PAYMENT_FAILED],
    };
    /// The payment of an order was taken.
    PAYMENT_SUCCEEDED: S5 Payment "PaymentSucceeded" => Fanout {
        exchange: "payment_succeeded",
        queues: &[queues::INVENTORY_PAYMENT_SUCCEEDED, queues::ORDER_PAYMENT_SUCCEEDED],
    };
    /// An order was given up after waiting too long.
    ORDER_CANCELLED: S5 Order "OrderCancelled" => Fanout {
        exchange: "order_cancelled",
        queues: &[queues::INVENTORY_ORDER_CANCELLED, queues::PAYMENT_ORDER_CANCELLED],
    };
    /// A user looked at a page.
    CLICK_TRACKED: S6 Analytics "ClickTracked" => To(queues::CLICK_TRACKED);
}

/// How many services a change of a product (S3) reaches.
pub const PRODUCT_RECEIVERS: usize = PRODUCT_UPDATED.destination.queues().len();

impl Event {
    /// The event that arrives in the queue of this name, with that queue.
    pub fn of_queue(name: &str) -> Option<(Event, Queue)> {
        ALL.iter().find_map(|event| {
            let queue = event.destination.queues().iter().find(|queue| queue.name == name)?;
            Some((*event, *queue))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_carries_one_event() {
        let reached: Vec<Queue> = ALL.iter().flat_map(|event| event.destination.queues()).copied().collect();
        assert_eq!(reached, queues::ALL);
    }
}
