//! What the binary `study` is made of. In reading order: `cli` (the commands), `local` (PostgreSQL, RabbitMQ and the
//! ten services as processes of this machine), `test` and `check` (what a developer and CI run), `measure` (one load
//! and what came of it), `compare`, `rate`, `breakeven` and `omission` (what is asked of it), `bench` (how much goes
//! through at most), `report` (for the reader), `faults` (what holds while things break), `dlq` (dead letters) and
//! `trace` (the way of one workflow), for the person on duty.

#[macro_use]
mod stderr;

pub mod bench;
pub mod breakeven;
pub mod check;
pub mod cli;
pub mod compare;
pub mod contract_command;
pub mod dlq;
pub mod faults;
pub mod local;
pub mod measure;
pub mod omission;
pub mod rate;
pub mod report;
pub mod test;
pub mod trace;
