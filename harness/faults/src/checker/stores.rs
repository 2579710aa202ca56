//! What the ten services have stored, and what the broker still holds, as plain collections: the input of the invariants.

use std::collections::{HashMap, HashSet};

#[derive(Clone, Debug, Default)]
pub struct Stores {
    pub users: Vec<User>,
    /// By user.
    pub emails: Vec<i64>,
    pub payments: Vec<Payment>,
    /// Payments in the audit.
    pub audit: HashSet<String>,
    pub products: Vec<Product>,
    pub index: HashMap<i64, Version>,
    pub cache: HashMap<i64, Version>,
    /// Product, version, stock.
    pub product_updates: Vec<(i64, i64, i64)>,
    pub jobs: Vec<Job>,
    pub orders: Vec<Order>,
    pub reservations: Vec<Reservation>,
    pub inventory: Vec<Inventory>,
    /// By page.
    pub clicks: Vec<String>,
    pub idempotency_keys: HashSet<String>,
    pub witnesses: Vec<Witness>,
    /// Rows that wait for the broker, by service.
    pub outboxes: Vec<(String, i64)>,
    /// Messages by queue, dead-letter queues included.
    pub queues: Vec<(String, u64)>,
    /// Queue and message id.
    pub dead_letters: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: i64,
    pub email: String,
}

#[derive(Clone, Debug)]
pub struct Payment {
    pub payment_id: String,
    pub status: String,
    pub order_id: Option<i64>,
    /// Of an order's saga, not of S2.
    pub saga: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub version: i64,
    pub stock: i64,
}

#[derive(Clone, Debug)]
pub struct Product {
    pub id: i64,
    pub last: Version,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub report_type: String,
    pub status: String,
    pub hashed: bool,
}

#[derive(Clone, Debug)]
pub struct Order {
    pub id: i64,
    pub product_id: i64,
    pub quantity: i64,
    pub status: String,
    pub reason: Option<String>,
    /// `x-request-id` of the request that made it.
    pub workflow: String,
    pub created_ms: u64,
}

#[derive(Clone, Debug)]
pub struct Reservation {
    pub order_id: Option<i64>,
    pub product_id: Option<i64>,
    pub quantity: i64,
    pub state: String,
}

#[derive(Clone, Debug)]
pub struct Inventory {
    pub product_id: i64,
    pub seed_stock: i64,
    pub stock: i64,
    pub reserved: i64,
}

/// Equal rows of a witness table.
#[derive(Clone, Debug)]
pub struct Witness {
    pub kind: String,
    pub subject: String,
    /// Queues that an event was written for.
    pub route: Vec<String>,
    pub times: i64,
    pub last_ms: u64,
}

impl Stores {
    /// Witnesses of one kind, by subject.
    pub fn witnessed(&self, kind: &str) -> HashMap<&str, &Witness> {
        let of_kind = self.witnesses.iter().filter(|witness| witness.kind == kind);
        of_kind.map(|witness| (witness.subject.as_str(), witness)).collect()
    }
}

/// The number of occurrences of each element.
pub fn counted<K: std::hash::Hash + Eq>(all: impl IntoIterator<Item = K>) -> HashMap<K, u64> {
    let mut counts = HashMap::new();
    for key in all {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}
