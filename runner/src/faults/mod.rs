//! `./study faults`: load against ten real processes while one thing after another is broken, and afterwards a checker
//! that reads what the clients noted, the databases and the queues, and says what did not hold.
//!
//! In reading order: `catalogue` (what can be broken), `schedule` (what is broken when, from a seed), `nemesis` (breaks
//! it), `proxy` (the network between the processes), `probe` (health and memory meanwhile).

pub mod checker;
pub mod generator;
pub mod ledger;
pub mod nemesis;
pub mod probe;
pub mod report;
