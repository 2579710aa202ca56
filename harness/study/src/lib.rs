//! The binary `study`: its commands (`cli`), and the commands that need no measurement: `dlq` (dead letters), `trace` (one
//! workflow through all services), `contract_command`, `test` and `check` (for developers and CI). Everything else is a crate
//! beside this one.

#[macro_use]
extern crate stack;

pub mod check;
pub mod cli;
pub mod contract_command;
pub mod dlq;
pub mod test;
pub mod trace;
