//! The operations of the load, as a function of the seed and the operation's number, so that a seed repeats a run. Each operation
//! has a unique value by which its effect is found in the stores.

use contract::Service;
use serde_json::{Value, json};

use crate::operation_log::{Kind, Operation};

/// Products that S3 changes.
pub const PRODUCTS: u64 = 6;
/// Addresses that are registered before the load, for requests that repeat them.
pub const KNOWN_ADDRESSES: u64 = 5;
/// The first operation of the load; smaller numbers prepare it.
pub const FIRST: u64 = 1000;
/// Offset of ids of orders and products that do not exist.
const NUMBERS: u64 = 1_000_000_000;
/// The key of a payment made before the load; invalid requests use it with other bodies.
pub const KNOWN_KEY: &str = "faults-known-payment";

/// Shares of 100.
const WEIGHTS: [(Kind, u64); 7] = [
    (Kind::Click, 42),
    (Kind::Register, 13),
    (Kind::Pay, 12),
    (Kind::Update, 10),
    (Kind::Order, 14),
    (Kind::Report, 3),
    (Kind::Invalid, 6),
];

/// SplitMix64: reproducible, and good enough to spread choices.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, id: u64) -> Random {
        Random(seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// The operation with this number. `products`: the ids of those that S3 changes.
pub fn operation(seed: u64, id: u64, products: &[i64]) -> Operation {
    let random = &mut Random::new(seed, id);
    let mut left = random.below(100);
    let mut drawn = Kind::Click;
    for (kind, weight) in WEIGHTS {
        if left < weight {
            drawn = kind;
            break;
        }
        left -= weight;
    }
    match drawn {
        Kind::Register => register(id, &format!("user-{id}@faults.example.org")),
        Kind::Pay => pay(id, 1 + random.below(100_000)),
        Kind::Update => update(id, products[random.below(products.len() as u64) as usize]),
        Kind::Report => report(id),
        Kind::Order => order(id, random),
        Kind::Invalid => invalid(id, random),
        Kind::Click | Kind::CreateProduct => click(id, 1 + random.below(1000)),
    }
}

/// Before the load.
pub fn preparation() -> Vec<Operation> {
    let products = (1..=PRODUCTS).map(|n| {
        let body = json!({"name": format!("Faults product {n}"), "stock": n});
        make(n, Kind::CreateProduct, Service::Product.name(), "/products", body)
    });
    let users = (1..=KNOWN_ADDRESSES).map(|n| register(100 + n, &known_address(n)));
    let mut payment = pay(200, 100);
    payment.key = Some(KNOWN_KEY.into());
    products.chain(users).chain([payment]).collect()
}

/// The stock is the operation's number, so every update differs.
pub fn update(id: u64, product: i64) -> Operation {
    let path = format!("/products/{product}");
    Operation { put: true, ..make(id, Kind::Update, Service::Product.name(), &path, json!({"stock": id})) }
}

fn make(id: u64, kind: Kind, service: &str, path: &str, body: Value) -> Operation {
    Operation { id, kind, service: service.into(), put: false, path: path.into(), key: None, body }
}

fn keyed(id: u64, kind: Kind, service: &str, path: &str, body: Value) -> Operation {
    Operation { key: Some(format!("faults-key-{id}")), ..make(id, kind, service, path, body) }
}

fn known_address(n: u64) -> String {
    format!("known-{n}@faults.example.org")
}

fn register(id: u64, address: &str) -> Operation {
    keyed(id, Kind::Register, Service::User.name(), "/register", json!({"email": address}))
}

fn pay(id: u64, cents: u64) -> Operation {
    let body = json!({"amount": cents as f64 / 100.0, "order_id": NUMBERS + id});
    keyed(id, Kind::Pay, Service::Payment.name(), "/process_payment", body)
}

fn report(id: u64) -> Operation {
    keyed(
        id,
        Kind::Report,
        Service::Report.name(),
        "/generate_report",
        json!({"report_type": format!("faults-{id}")}),
    )
}

/// One in five orders is for a product that does not exist.
fn order(id: u64, random: &mut Random) -> Operation {
    let known = random.below(5) > 0;
    let product = if known { 1 + random.below(3) } else { NUMBERS + id };
    let body = json!({"product_id": product, "quantity": 1 + random.below(3)});
    keyed(id, Kind::Order, Service::Order.name(), "/create_order", body)
}

fn click(id: u64, user: u64) -> Operation {
    let body = json!({"user_id": user, "page": format!("/faults/{id}")});
    make(id, Kind::Click, Service::Analytics.name(), "/track_click", body)
}

/// Each kind of request that must be answered 4xx.
fn invalid(id: u64, random: &mut Random) -> Operation {
    let number = NUMBERS + id;
    let (service, path, body) = match random.below(9) {
        0 => (Service::User.name(), "/register", json!({"email": format!("no address {id}")})),
        // A registered address in a different case.
        1 => {
            let mut address = known_address(1 + random.below(KNOWN_ADDRESSES)).to_uppercase();
            let letter = (id % 5) as usize;
            address.replace_range(letter..=letter, &address[letter..=letter].to_lowercase());
            (Service::User.name(), "/register", json!({"email": address}))
        }
        2 => (Service::Payment.name(), "/process_payment", json!({"amount": -5, "order_id": number})),
        3 => (Service::Payment.name(), "/process_payment_fail", json!({"order_id": number})),
        4 => (
            Service::Report.name(),
            "/generate_report",
            json!({"report_type": format!("{id}-{}", "x".repeat(100))}),
        ),
        5 => (
            Service::Analytics.name(),
            "/track_click",
            json!({"user_id": -1, "page": format!("/faults/{id}")}),
        ),
        6 => (Service::Order.name(), "/create_order", json!({"product_id": number, "quantity": 0})),
        7 => {
            let path = format!("/products/{number}");
            let put = make(id, Kind::Invalid, Service::Product.name(), &path, json!({"stock": id}));
            return Operation { put: true, ..put };
        }
        _ => {
            let body = json!({"amount": 1.0, "order_id": number});
            let reused = make(id, Kind::Invalid, Service::Payment.name(), "/process_payment", body);
            return Operation { key: Some(KNOWN_KEY.into()), ..reused };
        }
    };
    // Only for paths that accept a key. A stored key counts as a trace.
    let takes_key = ["/register", "/process_payment", "/generate_report", "/create_order"].contains(&path);
    let made = make(id, Kind::Invalid, service, path, body);
    Operation { key: takes_key.then(|| format!("faults-key-{id}")), ..made }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn a_seed_repeats_the_operations_and_another_one_does_not() {
        let all = |seed| (FIRST..FIRST + 500).map(|id| operation(seed, id, &[4, 5])).collect::<Vec<_>>();
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }

    #[test]
    fn clicks_are_most_and_every_kind_comes() {
        let mut counts = BTreeMap::new();
        let mut paths = HashSet::new();
        for id in FIRST..FIRST + 10_000 {
            let operation = operation(7, id, &[4, 5, 6]);
            *counts.entry(operation.kind).or_insert(0) += 1;
            paths.insert((operation.kind, operation.path));
        }
        assert_eq!(WEIGHTS.iter().map(|(_, weight)| weight).sum::<u64>(), 100);
        assert!((4000..4400).contains(&counts[&Kind::Click]), "{counts:?}");
        assert!(counts.len() == 7 && counts.values().all(|count| *count > 200), "{counts:?}");
        assert!(paths.contains(&(Kind::Invalid, "/process_payment_fail".into())));
    }

    #[test]
    fn an_address_in_other_letters_is_a_duplicate_and_never_the_address_itself() {
        let duplicates: Vec<String> = (FIRST..FIRST + 20_000)
            .map(|id| operation(3, id, &[4]))
            .filter(|operation| operation.kind == Kind::Invalid && operation.path == "/register")
            .filter_map(|operation| operation.body["email"].as_str().map(str::to_owned))
            .filter(|email| !email.starts_with("no address"))
            .collect();
        let known: Vec<String> = (1..=KNOWN_ADDRESSES).map(known_address).collect();
        assert!(duplicates.len() > 50);
        assert!(
            duplicates.iter().all(|email| known.contains(&email.to_lowercase()) && !known.contains(email))
        );
    }
}
