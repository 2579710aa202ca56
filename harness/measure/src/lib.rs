//! One load against one stack, and the outcome of every request: what the experiments have in common. It knows the stack and
//! k6; it does not know which question an experiment asks, nor how results are presented.
//!
//! In reading order: `load_profile` (how much load), `load` (k6), `child` (its process), `samples` and `journal` (the records of k6 and of the
//! services), `drain`, `outcomes` (both records joined), `times` and `backlog`, `resource_usage`, `crosscheck`; `session` starts a stack
//! and does all of it, `record` is the stored form, `stored` reads it back, `output_dir` is where an experiment writes,
//! `analysis` compares runs.

#[macro_use]
extern crate stack;

pub mod analysis;
pub mod backlog;
pub mod child;
pub mod crosscheck;
pub mod drain;
pub mod gauges;
pub mod host;
pub mod journal;
pub mod load;
pub mod load_profile;
pub mod outcomes;
pub mod output_dir;
pub mod progress;
pub mod record;
pub mod resource_usage;
pub mod samples;
pub mod session;
pub mod stored;
pub mod times;
