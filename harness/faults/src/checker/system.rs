//! The receivers of S3 and the audit of S2; and what was felt meanwhile: health, memory, answers 500.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Case;
use super::effects;
use super::finding::Finding;
use super::history::Record;
use super::invariants::*;
use super::stores::Version;
use crate::ledger::Kind;

const MOST_KIB: u64 = 64 * 1024;

pub fn last_versions(case: &Case<'_>) -> Finding {
    let mut finding = Finding::of(LAST_VERSION);
    // A product that was changed by operations, and whose last answer did not warn.
    let mut last: BTreeMap<i64, &Record> = BTreeMap::new();
    for record in case.history.of(Kind::Update).filter(|record| record.accepted().is_some()) {
        last.insert(effects::product(record), record);
    }
    let mut recorded: HashMap<i64, Version> = HashMap::new();
    for (id, version, stock) in &case.stores.product_updates {
        let newest = recorded.entry(*id).or_insert(Version { version: 0, stock: 0 });
        if *version > newest.version {
            *newest = Version { version: *version, stock: *stock };
        }
    }
    let receivers = [("search", &case.stores.index), ("cache", &case.stores.cache), ("analytics", &recorded)];
    for product in &case.stores.products {
        let Some(record) = last.get(&product.id).filter(|record| !record.warned()) else { continue };
        for (receiver, knows) in receivers {
            let known = knows.get(&product.id);
            finding.look(known == Some(&product.last), || {
                format!("product {}: {receiver} knows {known:?}, last is {:?}", product.id, product.last)
            });
        }
        let stock = record.operation.body["stock"].as_i64();
        let promised = record.accepted().and_then(|answer| answer["version"].as_i64()).unwrap_or(0);
        // A repeated attempt may have made a later version, of the same stock.
        finding.look(product.last.version >= promised && Some(product.last.stock) == stock, || {
            format!("product {}: last is {:?}, last answer {stock:?}", product.id, product.last)
        });
    }
    finding
}

pub fn audit(case: &Case<'_>) -> Finding {
    let mut finding = Finding::of(AUDIT);
    let mut noted: HashSet<&str> = case.stores.audit.iter().map(String::as_str).collect();
    for payment in case.stores.payments.iter().filter(|payment| !payment.saga) {
        let there = noted.remove(payment.payment_id.as_str());
        finding.look(there == (payment.status == "success"), || {
            format!("{} is {}, in the audit: {there}", payment.payment_id, payment.status)
        });
    }
    noted.into_iter().for_each(|payment| finding.broke(format!("{payment} is in the audit alone")));
    finding
}

/// What did not come to rest is not judged by any other line if nobody was promised it.
pub fn at_rest(case: &Case<'_>) -> Finding {
    let mut finding = Finding::of(AT_REST);
    finding.n = 1;
    case.settled.left.iter().for_each(|left| finding.broke(left));
    finding
}

pub fn felt(case: &Case<'_>) -> Vec<Finding> {
    let mut health = Finding::of(HEALTH);
    health.n = case.probes.health_checks;
    case.probes.missed.iter().for_each(|missed| health.broke(missed));

    let mut errors = Finding::of(NO_500);
    errors.n = case.history.answers.values().sum();
    case.history.answers_500.iter().for_each(|answer| errors.broke(answer));

    let mut memory = Finding::of(MEMORY);
    for (service, kib) in &case.probes.max_rss {
        memory.look(*kib < MOST_KIB, || format!("{service}: {} MiB", kib / 1024));
    }
    vec![health, errors, memory]
}
