//! What held: after everything has come to rest, the ledger is laid beside databases and queues. Reading is apart from
//! judging: `read` gathers plain collections, the judges (`effects`, `events`, `saga`, `system`) say what they mean.

pub mod effects;
pub mod events;
#[cfg(test)]
mod example;
pub mod finding;
pub mod history;
pub mod invariants;
pub mod read;
pub mod saga;
pub mod settle;
pub mod stores;
pub mod system;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use contract::Protection;

use super::ledger;
use super::nemesis::FaultRecord;
use super::probe::Probes;
pub use finding::Finding;
use history::History;
pub use settle::{Settled, settle};
use stack::Mode;
use stack::broker::Broker;
use stores::Stores;

/// All that the checker may look at.
pub struct Evidence {
    pub mode: Mode,
    pub ledger: PathBuf,
    /// By the service's full name.
    pub urls: HashMap<&'static str, String>,
    /// The superuser's.
    pub database_url: String,
    pub broker: Option<Box<dyn Broker>>,
    /// Queue and message id of what was poisoned.
    pub poison: Vec<(String, String)>,
    pub probes: Probes,
    pub last_fault_ended: SystemTime,
    pub faults: Vec<FaultRecord>,
    pub disabled: Option<Protection>,
}

/// What is judged.
pub struct Case<'a> {
    pub mode: Mode,
    pub history: &'a History,
    pub stores: &'a Stores,
    pub poison: &'a [(String, String)],
    pub probes: &'a Probes,
    pub settled: &'a Settled,
    pub last_fault_ms: u64,
}

/// Reads everything and judges it.
pub fn check(evidence: &Evidence, settled: &Settled) -> Result<Vec<Finding>> {
    let history = History::read(&evidence.ledger)?;
    let stores = read::stores(evidence)?;
    Ok(judge(&Case {
        mode: evidence.mode,
        history: &history,
        stores: &stores,
        poison: &evidence.poison,
        probes: &evidence.probes,
        settled,
        last_fault_ms: ledger::millis(evidence.last_fault_ended),
    }))
}

/// Answers by status or kind of failure.
pub fn answers(evidence: &Evidence) -> Result<BTreeMap<String, u64>> {
    Ok(History::read(&evidence.ledger)?.answers)
}

/// In the order of the table.
pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let there = effects::Effects::of(case);
    let mut findings = effects::lost(case, &there);
    findings.push(effects::rows_twice(&there));
    let witnessed = events::twice(case);
    if case.mode.has_broker() {
        findings.extend(witnessed);
        findings.push(events::all_applied(case));
        findings.push(events::dead_letters(case));
    } else {
        // Nothing is delivered; effects are noted all the same.
        findings
            .extend(witnessed.into_iter().filter(|finding| finding.invariant == invariants::EFFECTS_TWICE));
    }
    findings.extend(effects::unknown(case, &there));
    findings.extend(effects::refused(case));
    findings.push(effects::unasked(case));
    findings.extend(saga::orders(case));
    findings.extend(saga::stock(case));
    findings.extend(saga::agreement(case));
    findings.push(system::last_versions(case));
    findings.push(system::audit(case));
    findings.push(system::at_rest(case));
    if case.mode.has_broker() {
        findings.push(events::empty(case));
    }
    findings.extend(system::felt(case));
    if !case.mode.has_broker() {
        findings.extend(effects::disclosed(case, &there));
    }
    findings
}
