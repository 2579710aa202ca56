//! One load against one stack, and what came of every request: what `compare`, `rate`, `breakeven` and `omission`
//! have in common.
//!
//! In reading order: `profile` (how much load), `load` (k6), `samples` and `journal` (what k6 and the services noted),
//! `drain`, `join` (both together), `times` and `backlog`, `watch` (what it took), `crosscheck`; `bench` does all of it
//! for one stack, `record` is what is written down, `stored` how it is read back, `place` is where the three smaller
//! commands write it.

pub mod backlog;
pub mod bench;
pub mod crosscheck;
pub mod drain;
pub mod gauges;
pub mod host;
pub mod join;
pub mod journal;
pub mod load;
pub mod place;
pub mod profile;
pub mod progress;
pub mod queues;
pub mod record;
pub mod samples;
pub mod stored;
pub mod times;
pub mod watch;
