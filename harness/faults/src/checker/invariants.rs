//! The invariants by name, in the order of the table, and which of them a build without a protection must break.

use contract::Protection;

pub const LOST: [&str; 6] = [
    "S1 accepted and lost: user and e-mail",
    "S2 accepted and lost: payment taken",
    "S3 accepted and lost: version recorded",
    "S4 accepted and lost: report computed",
    "S5 accepted and lost: order ended",
    CLICK_LOST,
];
const CLICK_LOST: &str = "S6 accepted and lost: click stored";
pub const ROWS_TWICE: &str = "applied twice: rows with the same natural key";
pub const EVENTS_TWICE: &str = "applied twice: events by their id and queue";
pub const EFFECTS_TWICE: &str = "applied twice: effects noted by witnesses";
pub const EVENTS_APPLIED: &str = "every event written is applied by each reader, or dead";
pub const DEAD_LETTERS: &str = "dead letters: every poisoned message, and nothing else";
pub const CONSERVED: &str = "accepted = done + dead-lettered + admitted as missing";
pub const UNKNOWN_ONCE: &str = "unknown outcome, asked again with its key: one effect";
pub const DEFINITE: &str = "every request with a key came to a definite answer";
pub const VALID_TAKEN: &str = "no valid request was answered 4xx";
pub const NO_TRACE: &str = "a 4xx left no trace";
pub const UNASKED: &str = "every stored row belongs to a request";
pub const ORDERS_END: &str = "every order ended";
pub const ORDERS_IN_TIME: &str = "orders ended within 60 s of the last fault";
pub const RESERVED: &str = "reserved stock = open reservations = 0";
pub const STOCK: &str = "stock = what there was - what was sold";
pub const ONE_PAYMENT: &str = "at most one payment an order";
pub const PAYMENTS_AGREE: &str = "completed orders are paid, failed ones are not";
pub const RESERVATIONS_AGREE: &str = "completed orders have their stock, failed ones none";
pub const LAST_VERSION: &str = "last version of a product in search, cache, analytics";
pub const AUDIT: &str = "each payment taken is in the audit, and no other";
pub const AT_REST: &str = "everything came to rest";
pub const EMPTY: &str = "outboxes and queues are empty";
pub const HEALTH: &str = "health answered within 2 s";
pub const NO_500: &str = "no answer 500";
pub const MEMORY: &str = "resident memory of each service below 64 MiB";
pub const WARNED: &str = "answered with a warning: a peer did not get the change";
pub const STILL_MISSING: &str = "of those: its effect is missing for good";
pub const PAYMENT_CUT_OFF: &str = "answered as failed: a payment that was cut off";

/// Without this protection, at least one of these invariants must break.
pub fn broken_without(protection: Protection) -> &'static [&'static str] {
    match protection {
        Protection::Inbox => &[EVENTS_TWICE, EFFECTS_TWICE],
        Protection::Compensation => &[RESERVED],
        Protection::Outbox => &[EVENTS_APPLIED],
        // Clicks are published without an outbox, and leave no witness.
        Protection::Confirms | Protection::AckAfterCommit | Protection::OwnChannel => {
            &[EVENTS_APPLIED, CLICK_LOST]
        }
        Protection::Metrics => &[],
    }
}
