//! A small run in which every invariant holds, for tests to break: one operation of each kind, and its stored effects.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::history::History;
use super::stores::*;
use super::{CheckInput, Settled, judge};
use crate::operation_log::{Kind, Line, Operation, Outcome};
use crate::probe::Probes;
use stack::Mode;

/// The input of the checker, owned.
pub(super) struct Example {
    pub(super) mode: Mode,
    pub(super) history: History,
    pub(super) stores: Stores,
    pub(super) poison: Vec<(String, String)>,
    pub(super) probes: Probes,
    pub(super) settled: Settled,
}

impl Example {
    /// The names of the invariants that do not hold.
    pub(super) fn broken(&self) -> Vec<&'static str> {
        let findings = judge(&self.case());
        findings.into_iter().filter(|finding| !finding.held).map(|finding| finding.invariant).collect()
    }

    pub(super) fn case(&self) -> CheckInput<'_> {
        CheckInput {
            mode: self.mode,
            history: &self.history,
            stores: &self.stores,
            poison: &self.poison,
            probes: &self.probes,
            settled: &self.settled,
            last_fault_ms: 100_000,
        }
    }

    /// One more attempt of an operation.
    pub(super) fn answer(&mut self, id: u64, attempt: u32, outcome: Outcome) {
        self.history.add(Line::Requested { at_ms: 0, id, attempt, operation: None });
        self.history.add(Line::Answered { at_ms: 1, id, attempt, outcome });
    }

    pub(super) fn witness(&mut self, kind: &str, subject: &str) -> &mut Witness {
        let found = self.stores.witnesses.iter_mut().find(|w| w.kind == kind && w.subject == subject);
        found.expect("the example has this witness")
    }
}

pub(super) fn answered(status: u16, body: Value) -> Outcome {
    Outcome::Status { status, retry_after: false, replayed: false, body }
}

pub(super) fn operation(id: u64, kind: Kind, path: &str, body: Value) -> Operation {
    let keyed = ["/register", "/process_payment", "/generate_report", "/create_order"].contains(&path);
    let (key, service) = (keyed.then(|| format!("key-{id}")), String::new());
    Operation { id, kind, service, put: kind == Kind::Update, path: path.into(), key, body }
}

/// User 1 with a mail, a payment, version 2 of product 4, a report, order 1 completed, order 2 failed, a click, and an
/// address that was refused.
pub(super) fn run() -> Example {
    let mut history = History::default();
    let operations = [
        (1, Kind::Register, "/register", json!({"email": "ada@x.org"}), 202, json!({"id": 1})),
        (2, Kind::Pay, "/process_payment", json!({"order_id": 77}), 202, json!({"payment_id": "pay_2"})),
        (3, Kind::Update, "/products/4", json!({"stock": 3}), 200, json!({"id": 4, "version": 2})),
        (4, Kind::Report, "/generate_report", json!({"report_type": "r4"}), 202, json!({"job_id": "job_4"})),
        (5, Kind::Order, "/create_order", json!({"product_id": 1, "quantity": 2}), 202, json!({"id": 1})),
        (6, Kind::Order, "/create_order", json!({"product_id": 1, "quantity": 3}), 202, json!({"id": 2})),
        (7, Kind::Click, "/track_click", json!({"page": "/p7"}), 200, json!({"status": "tracked"})),
        (8, Kind::Invalid, "/register", json!({"email": "none"}), 422, json!({})),
    ];
    for (id, kind, path, body, status, answer) in operations {
        let operation = Some(operation(id, kind, path, body));
        history.add(Line::Requested { at_ms: 0, id, attempt: 1, operation });
        history.add(Line::Answered { at_ms: 1, id, attempt: 1, outcome: answered(status, answer) });
    }
    let last = Version { version: 2, stock: 3 };
    let payment = |id: &str, order_id, saga| Payment {
        payment_id: id.into(),
        status: "success".into(),
        order_id: Some(order_id),
        saga,
    };
    let order = |id, quantity, status: &str, workflow: &str| Order {
        id,
        product_id: 1,
        quantity,
        status: status.into(),
        reason: None,
        workflow: workflow.into(),
        created_ms: 50_000,
    };
    let reservation = |order, quantity, state: &str| Reservation {
        order_id: Some(order),
        product_id: Some(1),
        quantity,
        state: state.into(),
    };
    let witness = |kind: &str, subject: &str, route: &[&str]| Witness {
        kind: kind.into(),
        subject: subject.into(),
        route: route.iter().map(ToString::to_string).collect(),
        times: 1,
        last_ms: 120_000,
    };
    let stores = Stores {
        users: vec![User { id: 1, email: "ada@x.org".into() }],
        emails: vec![1],
        payments: vec![payment("pay_2", 77, false), payment("pay_s", 1, true)],
        audit: HashSet::from(["pay_2".into()]),
        products: vec![Product { id: 4, last }],
        index: HashMap::from([(4, last)]),
        cache: HashMap::from([(4, last)]),
        product_updates: vec![(4, 1, 9), (4, 2, 3)],
        jobs: vec![Job { report_type: "r4".into(), status: "completed".into(), hashed: true }],
        orders: vec![order(1, 2, "completed", "faults-5"), order(2, 3, "failed", "faults-6")],
        reservations: vec![reservation(1, 2, "committed"), reservation(2, 3, "released")],
        inventory: vec![Inventory { product_id: 1, seed_stock: 10, stock: 8, reserved: 0 }],
        clicks: vec!["/p7".into()],
        idempotency_keys: HashSet::from(["key-1".into()]),
        witnesses: vec![
            witness("written", "m1", &["user_registered_queue"]),
            witness("applied:user_registered_queue", "m1", &[]),
            witness("written", "m2", &["search_product_updates_queue", "cache_product_updates_queue"]),
            witness("applied:search_product_updates_queue", "m2", &[]),
            witness("effect:email", "1", &[]),
            witness("effect:order", "1", &[]),
            witness("effect:order", "2", &[]),
        ],
        outboxes: vec![("userservice".into(), 0)],
        queues: vec![("user_registered_queue".into(), 0), ("user_registered_queue.dlq".into(), 1)],
        dead_letters: vec![("user_registered_queue".into(), "poison".into())],
    };
    let poison = vec![("user_registered_queue".into(), "poison".into())];
    let probes =
        Probes { health_checks: 10, missed: Vec::new(), max_rss: [("userservice".into(), 9_000)].into() };
    let settled = Settled { seconds: 9.0, orders_ended_ms: Some(130_000), left: Vec::new() };
    Example { mode: Mode::Async, history, stores, poison, probes, settled }
}
