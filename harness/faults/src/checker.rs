//! Checks the invariants after a run: compares the operation log with databases and queues. `read` collects the stores; `effects`,
//! `events`, `saga` and `system` are pure functions of them.

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

use super::nemesis::FaultRecord;
use super::operation_log;
use super::probe::Probes;
pub use finding::Finding;
use history::History;
pub use settle::{Settled, settle};
use stack::Mode;
use stack::broker::Broker;
use stores::Stores;

/// What a run leaves for the checker.
pub struct RunArtifacts {
    pub mode: Mode,
    pub operation_log: PathBuf,
    /// By the service's full name.
    pub urls: HashMap<&'static str, String>,
    /// Of the superuser.
    pub database_url: String,
    pub broker: Option<Box<dyn Broker>>,
    /// Queue and message id of each poison message.
    pub poison: Vec<(String, String)>,
    pub probes: Probes,
    pub last_fault_ended: SystemTime,
    pub faults: Vec<FaultRecord>,
    pub disabled: Option<Protection>,
}

/// The input of all invariants.
pub struct CheckInput<'a> {
    pub mode: Mode,
    pub history: &'a History,
    pub stores: &'a Stores,
    pub poison: &'a [(String, String)],
    pub probes: &'a Probes,
    pub settled: &'a Settled,
    pub last_fault_ms: u64,
}

/// Reads everything and checks all invariants.
pub fn check(artifacts: &RunArtifacts, settled: &Settled) -> Result<Vec<Finding>> {
    let history = History::read(&artifacts.operation_log)?;
    let stores = read::stores(artifacts)?;
    Ok(judge(&CheckInput {
        mode: artifacts.mode,
        history: &history,
        stores: &stores,
        poison: &artifacts.poison,
        probes: &artifacts.probes,
        settled,
        last_fault_ms: operation_log::millis(artifacts.last_fault_ended),
    }))
}

/// Answers by status or kind of failure.
pub fn answers(artifacts: &RunArtifacts) -> Result<BTreeMap<String, u64>> {
    Ok(History::read(&artifacts.operation_log)?.answers)
}

/// In the order of the table.
pub fn judge(input: &CheckInput<'_>) -> Vec<Finding> {
    let there = effects::Effects::of(input);
    let mut findings = effects::lost(input, &there);
    findings.push(effects::rows_twice(&there));
    let witnessed = events::twice(input);
    if input.mode.has_broker() {
        findings.extend(witnessed);
        findings.push(events::all_applied(input));
        findings.push(events::dead_letters(input));
    } else {
        // Without events, witnesses record only effects.
        findings
            .extend(witnessed.into_iter().filter(|finding| finding.invariant == invariants::EFFECTS_TWICE));
    }
    findings.extend(effects::unknown(input, &there));
    findings.extend(effects::refused(input));
    findings.push(effects::unasked(input));
    findings.extend(saga::orders(input));
    findings.extend(saga::stock(input));
    findings.extend(saga::agreement(input));
    findings.push(system::last_versions(input));
    findings.push(system::audit(input));
    findings.push(system::at_rest(input));
    if input.mode.has_broker() {
        findings.push(events::empty(input));
    }
    findings.extend(system::observed(input));
    if !input.mode.has_broker() {
        findings.extend(effects::disclosed(input, &there));
    }
    findings
}
