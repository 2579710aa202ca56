//! What the binary `study` is made of. In reading order: `cli` (the commands), `local` (PostgreSQL, RabbitMQ and the
//! ten services as processes of this machine), `test` and `check` (what a developer and CI run), `compare` (load
//! against both modes and what came of it), `faults` (what holds while things break),
//! `dlq` (dead letters) and `trace` (the way of one workflow), for the person on duty.

pub mod check;
pub mod cli;
pub mod compare;
pub mod dlq;
pub mod faults;
pub mod local;
pub mod test;
pub mod trace;
