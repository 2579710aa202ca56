//! The receivers of S3 and the audit of S2; health, memory and answers 500 during the run.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::CheckInput;
use super::effects;
use super::finding::Finding;
use super::history::Record;
use super::invariants::*;
use super::stores::Version;
use crate::operation_log::Kind;

const MOST_KIB: u64 = 64 * 1024;

pub fn last_versions(input: &CheckInput<'_>) -> Finding {
    let mut finding = Finding::of(LAST_VERSION);
    // The last accepted update of each product.
    let mut last: BTreeMap<i64, &Record> = BTreeMap::new();
    for record in input.history.of(Kind::Update).filter(|record| record.accepted().is_some()) {
        last.insert(effects::product(record), record);
    }
    let mut recorded: HashMap<i64, Version> = HashMap::new();
    for (id, version, stock) in &input.stores.product_updates {
        let newest = recorded.entry(*id).or_insert(Version { version: 0, stock: 0 });
        if *version > newest.version {
            *newest = Version { version: *version, stock: *stock };
        }
    }
    let receivers =
        [("search", &input.stores.index), ("cache", &input.stores.cache), ("analytics", &recorded)];
    for product in &input.stores.products {
        let Some(record) = last.get(&product.id).filter(|record| !record.warned()) else { continue };
        for (receiver, knows) in receivers {
            let known = knows.get(&product.id);
            finding.look(known == Some(&product.last), || {
                format!("product {}: {receiver} knows {known:?}, last is {:?}", product.id, product.last)
            });
        }
        let stock = record.operation.body["stock"].as_i64();
        let promised = record.accepted().and_then(|answer| answer["version"].as_i64()).unwrap_or(0);
        // A repeated attempt may have made a later version with the same stock.
        finding.look(product.last.version >= promised && Some(product.last.stock) == stock, || {
            format!("product {}: last is {:?}, last answer {stock:?}", product.id, product.last)
        });
    }
    finding
}

pub fn audit(input: &CheckInput<'_>) -> Finding {
    let mut finding = Finding::of(AUDIT);
    let mut noted: HashSet<&str> = input.stores.audit.iter().map(String::as_str).collect();
    for payment in input.stores.payments.iter().filter(|payment| !payment.saga) {
        let there = noted.remove(payment.payment_id.as_str());
        finding.look(there == (payment.status == "success"), || {
            format!("{} is {}, in the audit: {there}", payment.payment_id, payment.status)
        });
    }
    noted.into_iter().for_each(|payment| finding.broke(format!("{payment} is in the audit alone")));
    finding
}

/// Work without a client's promise is checked by no other invariant.
pub fn at_rest(input: &CheckInput<'_>) -> Finding {
    let mut finding = Finding::of(AT_REST);
    finding.n = 1;
    input.settled.left.iter().for_each(|left| finding.broke(left));
    finding
}

pub fn observed(input: &CheckInput<'_>) -> Vec<Finding> {
    let mut health = Finding::of(HEALTH);
    health.n = input.probes.health_checks;
    input.probes.missed.iter().for_each(|missed| health.broke(missed));

    let mut errors = Finding::of(NO_500);
    errors.n = input.history.answers.values().sum();
    input.history.answers_500.iter().for_each(|answer| errors.broke(answer));

    let mut memory = Finding::of(MEMORY);
    for (service, kib) in &input.probes.max_rss {
        memory.look(*kib < MOST_KIB, || format!("{service}: {} MiB", kib / 1024));
    }
    vec![health, errors, memory]
}
